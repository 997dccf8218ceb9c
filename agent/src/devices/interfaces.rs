//! The network interfaces: what they are, how fast, and which carries the default route.
//!
//! Must not choose one; a launch does, knowing all hosts.

use std::collections::BTreeSet;
use std::path::Path;

use nix::net::if_::if_nameindex;

use super::host::Roots;
use super::net::addresses;
use super::report::{Interface, InterfaceKind};
use super::{pci, read};

/// `IFF_UP` of `/sys/class/net/*/flags`.
const UP: u32 = 1;

/// `RTF_UP`, and `RTF_REJECT` of a route that leads nowhere.
const ROUTE_UP: u32 = 1;
const ROUTE_REJECT: u32 = 0x200;

/// Interfaces that are told.
const MAX_INTERFACES: usize = 64;

/// The interfaces of this network namespace, or those of a recorded tree.
pub(super) fn interfaces(roots: &Roots) -> Vec<Interface> {
    let class = roots.sys.join("class/net");
    let mut names = read::names(&class);
    let mut own = Vec::new();
    if roots.are_own() {
        // A /sys that was mounted in another network namespace shows that one's.
        let here = if_nameindex().map(|list| {
            list.iter().map(|entry| entry.name().to_string_lossy().into_owned()).collect()
        });
        names = here.unwrap_or(names);
        own = addresses().unwrap_or_default();
    }
    let by_default = default_route(roots);
    let interface = |name: String| {
        let directory = class.join(&name);
        let place = pci::place(&directory.join("device"));
        Interface {
            kind: kind(&name, &directory, place != pci::Place::default()),
            up: read::number::<u32>(&directory.join("flags")).map(|flags| flags & UP != 0),
            mtu: read::number(&directory.join("mtu")),
            // -1, or an error, where nothing is known: software, or no cable.
            speed: read::number(&directory.join("speed")),
            addresses: own
                .iter()
                .filter(|address| address.interface == name)
                .map(ToString::to_string)
                .collect(),
            default_route: by_default.as_ref() == Some(&name),
            driver: place.driver,
            pci: place.address,
            numa: place.numa,
            name,
        }
    };
    // The kernel lists bonding_masters and its like as files.
    let is_one = |name: &String| roots.are_own() || class.join(name).is_dir();
    let mut all: Vec<Interface> = names.into_iter().filter(is_one).map(interface).collect();
    if all.len() > MAX_INTERFACES {
        // A node has one for each of its pods.
        all.retain(|it| it.kind != InterfaceKind::Virtual || !it.addresses.is_empty());
        all.truncate(MAX_INTERFACES);
    }
    all
}

/// The names of the interfaces, where they are known.
pub(super) fn names(interfaces: &[Interface]) -> Option<BTreeSet<&str>> {
    let names: BTreeSet<&str> = interfaces.iter().map(|found| found.name.as_str()).collect();
    Some(names).filter(|names| !names.is_empty())
}

fn kind(name: &str, directory: &Path, on_bus: bool) -> InterfaceKind {
    // ARPHRD_LOOPBACK of if_arp.h; a tunnel has one of several numbers, tun and tap have a file.
    let kind: Option<u32> = read::number(&directory.join("type"));
    if name == "lo" || kind == Some(772) {
        InterfaceKind::Loopback
    } else if directory.join("bridge").is_dir() {
        InterfaceKind::Bridge
    } else if directory.join("bonding").is_dir() {
        InterfaceKind::Bond
    } else if directory.join("tun_flags").exists() || matches!(kind, Some(768..=769 | 776 | 778)) {
        InterfaceKind::Tunnel
    } else if on_bus {
        InterfaceKind::Physical
    } else {
        InterfaceKind::Virtual
    }
}

/// The interface of the default route with the lowest metric, by IPv4 if there is one.
fn default_route(roots: &Roots) -> Option<String> {
    // `net` is a link to `self/net`, which a recorded tree may have lost.
    let table = |name: &str| {
        let here = read::text(&roots.proc.join("net").join(name));
        here.or_else(|| read::text(&roots.proc.join("self/net").join(name)))
    };
    let four = table("route").unwrap_or_default();
    let six = table("ipv6_route").unwrap_or_default();
    let four = four.lines().filter_map(default_route_4).min_by_key(|(metric, _)| *metric);
    let six = || six.lines().filter_map(default_route_6).min_by_key(|(metric, _)| *metric);
    four.or_else(six).and_then(|(_, name)| read::tidy(name))
}

/// Metric and interface of a line of `/proc/net/route` that is a default route.
fn default_route_4(line: &str) -> Option<(u32, &str)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, destination, _, flags, _, _, metric, mask, ..] = words[..] else { return None };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let is_default = [destination, mask] == ["00000000"; 2];
    (is_default && flags & (ROUTE_UP | ROUTE_REJECT) == ROUTE_UP)
        .then_some((metric.parse().ok()?, name))
}

/// The same of `/proc/net/ipv6_route`.
fn default_route_6(line: &str) -> Option<(u32, &str)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [destination, length, _, _, _, metric, _, _, flags, name] = words[..] else { return None };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let is_default = length == "00" && destination.bytes().all(|byte| byte == b'0');
    (is_default && flags & (ROUTE_UP | ROUTE_REJECT) == ROUTE_UP && name != "lo")
        .then_some((u32::from_str_radix(metric, 16).ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes() {
        for (line, route) in [
            ("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU", None),
            ("eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0", Some((100, "eth0"))),
            ("eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0", None),
            ("tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0", None),
            ("*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0", None),
            ("", None),
        ] {
            assert_eq!(default_route_4(line), route, "{line}");
        }
        let zero = "0".repeat(32);
        let line = |length: &str, flags: &str, name: &str| {
            format!("{zero} {length} {zero} 00 {zero} 00000400 00000001 00000000 {flags} {name}")
        };
        for (line, route) in [
            (line("00", "00000003", "eth0"), Some((1024, "eth0"))),
            (line("00", "00200200", "lo"), None),
            (line("40", "00000001", "eth0"), None),
        ] {
            assert_eq!(default_route_6(&line), route, "{line}");
        }
    }

    #[test]
    fn here_is_loopback() {
        let all = interfaces(&Roots::default());
        let loopback = all.iter().find(|found| found.name == "lo").unwrap();
        assert_eq!(loopback.kind, InterfaceKind::Loopback);
        assert!(loopback.addresses.contains(&"127.0.0.1/8".to_owned()), "{loopback:?}");
    }
}

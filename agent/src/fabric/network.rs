//! The interface over which the peers are reachable, on each host.
//!
//! Must not go by names or by kinds: docker0 is left out because nobody was reached through it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::Member;
use crate::devices::report::{Interface, InterfaceKind};

/// Interfaces or subnets that one variable may list.
const MAX_LISTED: usize = 16;

/// How the hosts reach each other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Network {
    /// The names of the interfaces of all hosts.
    interfaces: BTreeSet<String>,
    /// The IPv4 networks that they are in, `10.0.0.0/24`; none where one of them is not IPv4.
    subnets: Option<BTreeSet<String>>,
    /// The slowest of them, where known, in Megabits a second.
    speed: Option<u32>,
    /// Hosts that are reached at an address that is none of theirs.
    translated: usize,
    /// Whether a host is in one of the subnets, but does not say by which interface.
    nameless: bool,
}

impl Network {
    /// The name that the interface has on every host.
    pub(super) fn one(&self) -> Option<&str> {
        let first = self.interfaces.first()?;
        (self.interfaces.len() == 1 && !self.nameless).then_some(first)
    }

    /// Whether hosts are known to have different names for it.
    pub(super) fn names_differ(&self) -> bool {
        self.interfaces.len() > 1
    }

    /// All names, separated by commas, where a variable can hold them.
    pub(super) fn names(&self) -> Option<String> {
        let names: Vec<&str> = self.interfaces.iter().map(String::as_str).collect();
        (names.len() <= MAX_LISTED && !self.nameless).then(|| names.join(","))
    }

    /// For those who take subnets too: the name, or the subnets where names differ.
    pub(super) fn include(&self) -> Option<String> {
        if let Some(name) = self.one() {
            return Some(name.to_owned());
        }
        let subnets = self.subnets.as_ref().filter(|subnets| subnets.len() <= MAX_LISTED)?;
        Some(subnets.iter().map(String::as_str).collect::<Vec<_>>().join(","))
    }

    /// Whether the address is in one of the subnets.
    fn has(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address else { return false };
        let within = |known: &String| {
            let length = known.split_once('/').map(|(_, length)| length).unwrap_or_default();
            subnet(&format!("{address}/{length}")).as_ref() == Some(known)
        };
        self.subnets.iter().flatten().any(within)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.interfaces.iter().map(String::as_str).collect();
        f.write_str(&crate::text::listed(&names, 4))?;
        let mut details = Vec::new();
        match self.subnets.as_ref().map(|subnets| (subnets.len(), subnets.first())) {
            Some((1, Some(subnet))) => details.push(subnet.clone()),
            Some((many, _)) => details.push(format!("{many} subnets")),
            None => {}
        }
        if let Some(speed) = self.speed {
            details.push(match speed % 1000 {
                0 => format!("{} Gb/s", speed / 1000),
                _ => format!("{speed} Mb/s"),
            });
        }
        if self.translated > 0 {
            details.push("by the default route, as addresses are translated".into());
        }
        if details.is_empty() { Ok(()) } else { write!(f, " ({})", details.join(", ")) }
    }
}

/// How these reach each other.
///
/// # Errors
/// The names of those of whom it is not known.
pub(super) fn of<'a>(members: &[Member<'a>]) -> Result<Network, Vec<&'a str>> {
    let mut network = Network { subnets: Some(BTreeSet::new()), ..Network::default() };
    let mut unknown = Vec::new();
    for member in members {
        let Some((interface, translated)) = interface(member) else {
            unknown.push(member);
            continue;
        };
        network.translated += usize::from(translated);
        network.interfaces.insert(interface.name.clone());
        let subnet = member.address.filter(|_| !translated).map_or_else(
            || interface.addresses.iter().find_map(|address| subnet(address)),
            |own| {
                let of = |address: &&String| address_of(address) == Some(own);
                interface.addresses.iter().find(of).and_then(|address| subnet(address))
            },
        );
        match (subnet, &mut network.subnets) {
            (Some(subnet), Some(subnets)) => drop(subnets.insert(subnet)),
            (None, subnets) => *subnets = None,
            (Some(_), None) => {}
        }
        if let Some(speed) = interface.speed.filter(|speed| *speed > 0 && member.works) {
            network.speed = Some(network.speed.map_or(speed, |slowest| slowest.min(speed)));
        }
    }
    unknown.retain(|member| {
        let inside = member.report.is_none() && network.has(member.address);
        network.nameless |= inside;
        !inside
    });
    let names: Vec<&str> = unknown.iter().map(|member| member.name.short()).collect();
    if names.is_empty() { Ok(network) } else { Err(names) }
}

/// The interface with the address at which the host was reached; where no interface has it, because
/// it is translated on the way, that of the default route. True: that is the case.
fn interface<'a>(member: &Member<'a>) -> Option<(&'a Interface, bool)> {
    let interfaces = &member.report?.interfaces;
    if let Some(reached) = member.address {
        let at = |found: &&Interface| {
            found.addresses.iter().any(|address| address_of(address) == Some(reached))
        };
        if let Some(found) = interfaces.iter().find(at) {
            return Some((found, false));
        }
    }
    let leaves = |found: &&Interface| {
        found.default_route
            && !matches!(found.kind, InterfaceKind::Loopback | InterfaceKind::Bridge)
    };
    interfaces.iter().find(leaves).map(|found| (found, member.address.is_some()))
}

/// The address in `10.0.0.5/24`.
fn address_of(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

/// The IPv4 network of `10.0.0.5/24`.
fn subnet(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let length: u32 = length.parse().ok().filter(|length| *length <= 32)?;
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    Some(format!("{}/{length}", Ipv4Addr::from_bits(address.to_bits() & mask)))
}

#[cfg(test)]
mod tests {
    use super::subnet;

    #[test]
    fn subnets() {
        for (address, expected) in [
            ("10.77.1.2/16", Some("10.77.0.0/16")),
            ("10.244.3.9/32", Some("10.244.3.9/32")),
            ("10.1.2.3/0", Some("0.0.0.0/0")),
            ("10.1.2.3/33", None),
            ("10.1.2.3", None),
            ("fd77::3/64", None),
        ] {
            assert_eq!(subnet(address).as_deref(), expected, "{address}");
        }
    }
}

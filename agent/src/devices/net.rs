//! The addresses of this host and the interfaces that carry them.
//!
//! Must not resolve names or dial anything.

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface, e.g. `eth0`.
    pub interface: String,
    /// The address; never an IPv4 one in IPv6 form.
    pub ip: IpAddr,
    /// Whether the interface is up.
    pub up: bool,
    /// Whether it only reaches this host.
    pub loopback: bool,
}

/// All addresses of this network namespace, in the kernel's order.
///
/// # Errors
/// Where the kernel does not list them.
pub fn addresses() -> io::Result<Vec<Address>> {
    let listed = getifaddrs()?.filter_map(|entry| {
        let storage = entry.address?;
        let ip = storage
            .as_sockaddr_in()
            .map(|address| IpAddr::V4(address.ip()))
            .or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))?;
        Some(Address {
            interface: entry.interface_name,
            ip: ip.to_canonical(),
            up: entry.flags.contains(InterfaceFlags::IFF_UP),
            loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        })
    });
    Ok(listed.collect())
}

/// The interface that has this address: with a connected socket's local address, the one that
/// reaches the peer. Interfaces that are up win.
#[must_use]
pub fn interface_of(ip: IpAddr, addresses: &[Address]) -> Option<&str> {
    let ip = ip.to_canonical();
    let having = || addresses.iter().filter(move |address| address.ip == ip);
    having().find(|address| address.up).or_else(|| having().next()).map(|a| a.interface.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_interface() {
        let address = |interface: &str, ip: &str, up| Address {
            interface: interface.to_owned(),
            ip: ip.parse().unwrap(),
            up,
            loopback: interface == "lo",
        };
        let addresses = [
            address("lo", "127.0.0.1", true),
            address("eth0", "10.0.0.5", false),
            address("ib0", "10.0.0.5", true),
            address("eth1", "fd77::3", true),
        ];
        for (ip, interface) in [
            ("127.0.0.1", Some("lo")),
            ("10.0.0.5", Some("ib0")),
            ("::ffff:10.0.0.5", Some("ib0")),
            ("fd77::3", Some("eth1")),
            ("10.0.0.6", None),
        ] {
            assert_eq!(interface_of(ip.parse().unwrap(), &addresses), interface, "{ip}");
        }
    }

    #[test]
    fn loopback_is_listed() {
        let all = addresses().unwrap();
        let name = interface_of("127.0.0.1".parse().unwrap(), &all).unwrap();
        assert!(all.iter().any(|address| address.interface == name && address.loopback));
    }
}

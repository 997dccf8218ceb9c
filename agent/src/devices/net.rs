//! The addresses of this host and the interfaces that carry them.
//!
//! Must not resolve names or send anything.

use std::fmt;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface, e.g. `eth0`.
    pub interface: String,
    /// The address; never an IPv4 one in IPv6 form.
    pub ip: IpAddr,
    /// Bits of it that are the network's.
    pub prefix: Option<u32>,
    /// Whether the interface is up.
    pub up: bool,
    /// Whether it only reaches this host.
    pub loopback: bool,
}

impl fmt::Display for Address {
    /// `10.0.0.5/16`, or without the prefix where it is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.ip),
            None => write!(f, "{}", self.ip),
        }
    }
}

/// All addresses of this network namespace, in the kernel's order.
///
/// # Errors
/// Where the kernel does not list them.
pub fn addresses() -> io::Result<Vec<Address>> {
    let listed = getifaddrs()?.filter_map(|entry| {
        let ip = ip_of(entry.address.as_ref()?)?;
        let prefix = entry.netmask.as_ref().and_then(ip_of).map(|mask| match mask {
            IpAddr::V4(mask) => mask.to_bits().count_ones(),
            IpAddr::V6(mask) => mask.to_bits().count_ones(),
        });
        Some(Address {
            interface: entry.interface_name,
            ip: ip.to_canonical(),
            prefix,
            up: entry.flags.contains(InterfaceFlags::IFF_UP),
            loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        })
    });
    Ok(listed.collect())
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let four = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    four.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
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
            prefix: None,
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
        let loopback = |address: &Address| address.interface == name && address.loopback;
        assert!(all.iter().any(|address| loopback(address) && address.prefix == Some(8)));
    }
}

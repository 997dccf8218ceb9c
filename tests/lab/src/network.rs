//! The lab's network: a bridge in a namespace of its own, and one veth pair a host; a second one for hosts that ask.
//!
//! Must not touch the machine's own network namespace: nothing here can leave the machine, and nothing stays behind.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::error::Result;
use crate::spec::{HostSpec, MoreInterface};
use crate::{namespace, tool};

/// The bridge's own address, where the DNS server listens.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Length of the network's prefix: 10.77.0.0/16.
pub const PREFIX: u8 = 16;

/// The switch: a bridge, and a pair of dead-end devices that swallow the traffic of hosts that are cut off.
#[derive(Debug)]
pub(crate) struct Switch {
    net: OwnedFd,
    ipv6: bool,
}

/// One host's end of the network.
#[derive(Debug)]
pub(crate) struct Port {
    /// The host's network namespace; it outlives a PID 1, as a pod's does.
    pub(crate) net: OwnedFd,
    pub(crate) address: Ipv4Addr,
    device: String,
}

impl Switch {
    pub(crate) fn new(ipv6: bool) -> Result<Self> {
        let net = namespace::new_net()?;
        namespace::in_net(&net, || {
            let mut lines = format!(
                "link set lo up\n\
                 link add br0 type bridge forward_delay 0 mcast_snooping 0\n\
                 link set br0 address {}\n\
                 addr add {GATEWAY}/{PREFIX} dev br0\n\
                 link set br0 up\n\
                 link add sink type veth peer name drain\n\
                 link set sink up\n\
                 link set drain up\n\
                 link add br1 type bridge forward_delay 0 mcast_snooping 0\n\
                 link set br1 up\n",
                mac(GATEWAY)
            );
            if ipv6 {
                let _ = writeln!(lines, "addr add {}/64 dev br0 nodad", ipv6_of(GATEWAY));
            }
            tool::ip(&lines)
        })?;
        Ok(Self { net, ipv6 })
    }

    /// The namespace of the bridge and the DNS server.
    pub(crate) fn net(&self) -> &OwnedFd {
        &self.net
    }

    /// Plugs new hosts in, all with one `ip` run on the switch's side and one on each host's.
    pub(crate) fn plug(&self, wanted: &[(usize, Ipv4Addr)]) -> Result<Vec<Port>> {
        let mut ports = Vec::with_capacity(wanted.len());
        for &(index, address) in wanted {
            ports.push(Port { net: namespace::new_net()?, address, device: device(index) });
        }
        let mut lines = String::new();
        for Port { net, address, device } in &ports {
            let _ = writeln!(
                lines,
                "link add name {device} type veth peer name eth0 address {} netns /proc/{}/fd/{}\n\
                 link set {device} master br0 up\n\
                 {}",
                mac(*address),
                std::process::id(),
                net.as_raw_fd(),
                known("br0", *address),
            );
        }
        namespace::in_net(&self.net, || tool::ip(&lines))?;
        for port in &ports {
            namespace::in_net(&port.net, || tool::ip(&self.host_side(port.address)))?;
        }
        Ok(ports)
    }

    /// Gives a plugged host what its spec has beyond eth0.
    pub(crate) fn add_interfaces(&self, port: &Port, spec: &HostSpec) -> Result<()> {
        spec.more_interfaces.iter().enumerate().try_for_each(|(index, more)| match more {
            MoreInterface::SecondNetwork => self.plug_second(port),
            MoreInterface::Decoy(name, address) => decoy(port, index, name, *address),
        })
    }

    fn plug_second(&self, port: &Port) -> Result<()> {
        let address = second_of(port.address);
        let device = format!("{}b", port.device);
        let lines = format!(
            "link add name {device} type veth peer name eth1 address {} netns /proc/{}/fd/{}\n\
             link set {device} master br1 up\n",
            mac(address),
            std::process::id(),
            port.net.as_raw_fd(),
        );
        namespace::in_net(&self.net, || tool::ip(&lines))?;
        let lines = format!("addr add {address}/{PREFIX} brd + dev eth1\nlink set eth1 up\n");
        namespace::in_net(&port.net, || tool::ip(&lines))
    }

    fn host_side(&self, address: Ipv4Addr) -> String {
        let mut lines = format!(
            "link set lo up\n\
             addr add {address}/{PREFIX} brd + dev eth0\n\
             link set eth0 up\n\
             route add default via {GATEWAY}\n\
             {}\n",
            known("eth0", GATEWAY),
        );
        if self.ipv6 {
            let _ = writeln!(lines, "addr add {}/64 dev eth0 nodad", ipv6_of(address));
        }
        lines
    }

    /// Takes a host's cable away for good.
    pub(crate) fn unplug(&self, port: &Port) -> Result<()> {
        namespace::in_net(&self.net, || tool::ip(&format!("link del {}\n", port.device)))
    }

    /// The same for a host that was never made, whose device may be gone already.
    pub(crate) fn forget(&self, index: usize) {
        let _ = namespace::in_net(&self.net, || tool::ip(&format!("link del {}\n", device(index))));
    }

    /// Swallows all IP traffic of a host, both ways. The carrier stays and ARP is still answered, so that neither side
    /// is told anything: connections just fall silent, as they do when a node vanishes behind a router.
    pub(crate) fn cut(&self, port: &Port) -> Result<()> {
        let device = &port.device;
        let mut lines = format!("qdisc add dev {device} clsact\n");
        for way in ["ingress", "egress"] {
            let filter = format!("filter add dev {device} {way}");
            let swallow = "action mirred egress redirect dev sink";
            // For IPv6 only TCP and UDP: neighbour discovery has to stay alive there as ARP does here.
            let _ = writeln!(
                lines,
                "{filter} protocol ip prio 1 u32 match u32 0 0 {swallow}\n\
                 {filter} protocol ipv6 prio 2 u32 match u8 6 0xff at 6 {swallow}\n\
                 {filter} protocol ipv6 prio 3 u32 match u8 17 0xff at 6 {swallow}"
            );
        }
        namespace::in_net(&self.net, || tool::tc(&lines))
    }

    /// Swallows what would open a TCP connection from `address` to a host.
    pub(crate) fn bar(&self, port: &Port, address: Ipv4Addr) -> Result<()> {
        let device = &port.device;
        // SYN without ACK, in the byte of TCP's flags behind an IP header without options.
        let opening = "match ip protocol 6 0xff match u8 0x02 0x12 at 33";
        let lines = format!(
            "qdisc add dev {device} clsact\n\
             filter add dev {device} egress protocol ip prio 1 u32 match ip src {address}/32 {opening} \
             action mirred egress redirect dev sink\n"
        );
        namespace::in_net(&self.net, || tool::tc(&lines))
    }

    /// Undoes [`Switch::cut`].
    pub(crate) fn heal(&self, port: &Port) -> Result<()> {
        namespace::in_net(&self.net, || {
            tool::tc(&format!("qdisc del dev {} clsact\n", port.device))
        })
    }
}

/// A bridge inside a host. It has a carrier only with a port that has one.
fn decoy(port: &Port, index: usize, name: &str, address: Ipv4Addr) -> Result<()> {
    let lines = format!(
        "link add {name} type bridge forward_delay 0\n\
         link add inside{index} type veth peer name outside{index}\n\
         link set inside{index} up\n\
         link set outside{index} master {name} up\n\
         addr add {address}/{PREFIX} brd + dev {name}\n\
         link set {name} up\n"
    );
    namespace::in_net(&port.net, || tool::ip(&lines))
}

/// The name of a host's device at the switch.
fn device(index: usize) -> String {
    format!("port{index}")
}

/// A locally administered MAC that follows from the address: whoever gets an address again gets its MAC,
/// so that no neighbour's ARP entry is ever wrong.
fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:4d:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Tells a device who has the address. All hosts share the kernel's table of a thousand neighbours, in which what is
/// told does not count: 256 hosts, each with its own of the DNS server and of the launcher, would overflow it.
fn known(device: &str, address: Ipv4Addr) -> String {
    format!("neigh replace {address} lladdr {} dev {device} nud permanent", mac(address))
}

/// The host's IPv6 address in fd77::/64, from its IPv4 address.
pub(crate) fn ipv6_of(address: Ipv4Addr) -> Ipv6Addr {
    let [_, _, c, d] = address.octets();
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from_be_bytes([c, d]))
}

/// The host's address in the second network, from its first.
fn second_of(address: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b + 1, c, d)
}

/// The address of the host with this index: 10.77.1.1 onwards, never a network or broadcast address.
pub(crate) fn address_of(index: usize) -> Ipv4Addr {
    let third = 1 + (index / 250) % 250;
    let fourth = 1 + index % 250;
    Ipv4Addr::new(10, 77, third as u8, fourth as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_distinct_and_never_the_gateway() {
        let all: std::collections::HashSet<_> = (0..1000).map(address_of).collect();
        assert_eq!(all.len(), 1000);
        assert!(!all.contains(&GATEWAY));
        assert_eq!(address_of(0), Ipv4Addr::new(10, 77, 1, 1));
        assert_eq!(address_of(250), Ipv4Addr::new(10, 77, 2, 1));
    }

    #[test]
    fn mac_follows_from_the_address() {
        assert_eq!(mac(Ipv4Addr::new(10, 77, 1, 255)), "02:4d:0a:4d:01:ff");
    }
}

//! Whether a job can use an RDMA device, and if not, why and what mends it.
//!
//! Pure. What is unknown is no reason: a device is unusable only by what was read.

use std::collections::BTreeSet;

use crate::devices::report::{Access, Bound, Port, RdmaDevice};

/// Bytes of locked memory below which transports fail when they register their buffers. 8 MiB is what
/// systemd and containerd give, and UCX, libfabric and NCCL fail with it.
pub const ENOUGH_MEMLOCK: u64 = 64 << 20;

/// What a device needs of the process and the network.
pub(super) struct Needs<'a> {
    pub(super) memlock: Option<Bound>,
    pub(super) ipc_lock: Option<bool>,
    /// The names of this network namespace's interfaces, where they are known.
    pub(super) interfaces: Option<&'a BTreeSet<&'a str>>,
}

/// Why the device cannot be used; the first thing to mend.
pub(super) fn why_not(device: &RdmaDevice, needs: &Needs<'_>) -> Option<String> {
    no_port(&device.ports)
        .or_else(|| no_node(device))
        .or_else(|| no_interface(&device.ports, needs.interfaces?))
        .or_else(|| no_memory(needs))
}

fn no_port(ports: &[Port]) -> Option<String> {
    if ports.is_empty() {
        return Some("it has no port".into());
    }
    // A port that does not tell its state may be active.
    let down = |port: &Port| port.state.as_ref().is_some_and(|state| state != "ACTIVE");
    if !ports.iter().all(down) {
        return None;
    }
    let told = ports.iter().map(|port| {
        let state = port.state.as_deref().unwrap_or_default();
        let physical = port.physical.as_ref().map(|state| format!(" ({state})"));
        format!("port {} is {state}{}", port.number, physical.unwrap_or_default())
    });
    let told = told.collect::<Vec<_>>().join(", ");
    let linked = ports.iter().any(|port| port.physical.as_deref() == Some("LinkUp"));
    // InfiniBand and Omni-Path need somebody to give a port its address.
    let remedy = if linked {
        "the subnet or fabric manager has not configured it"
    } else {
        "look at its cable and at the port of the switch"
    };
    Some(format!("{told}; {remedy}"))
}

fn no_node(device: &RdmaDevice) -> Option<String> {
    let node = device.verbs.as_deref().unwrap_or("uverbs*");
    match device.access {
        Access::Open | Access::Unknown => None,
        Access::Absent => Some(format!(
            "/dev/infiniband/{node} is not in this container; request the RDMA resource of the \
             device plugin"
        )),
        Access::Refused => Some(format!(
            "/dev/infiniband/{node} does not open for this user; its mode or the container's device \
             rules forbid it"
        )),
    }
}

/// RoCE and iWARP send from the addresses of a network interface, which must be ours.
fn no_interface(ports: &[Port], interfaces: &BTreeSet<&str>) -> Option<String> {
    let mut elsewhere = BTreeSet::new();
    for port in ports.iter().filter(|port| port.link.as_deref() == Some("Ethernet")) {
        for gid in &port.gids {
            let netdev = gid.netdev.as_deref()?;
            if interfaces.contains(netdev) {
                return None;
            }
            elsewhere.insert(netdev);
        }
    }
    let names = elsewhere.into_iter().collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| {
        format!(
            "its interface {names} is not in this network namespace; use hostNetwork or attach it \
             to the pod"
        )
    })
}

fn no_memory(needs: &Needs<'_>) -> Option<String> {
    match needs.memlock {
        Some(Bound::At(limit)) if limit < ENOUGH_MEMLOCK && needs.ipc_lock != Some(true) => {
            Some(format!(
                "only {} KiB of memory may be locked and IPC_LOCK is not effective; raise memlock \
                 in the container runtime, or run as root with the capability",
                limit / 1024
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::report::Gid;

    #[test]
    fn reasons() {
        let here = BTreeSet::from(["eth0"]);
        let needs = |memlock, ipc_lock| Needs { memlock, ipc_lock, interfaces: Some(&here) };
        let enough = || needs(Some(Bound::Unlimited), Some(false));
        let port = |state: &str, link: &str, netdev: Option<&str>| Port {
            number: 1,
            state: Some(state.to_owned()).filter(|state| !state.is_empty()),
            link: Some(link.to_owned()),
            gids: vec![Gid { netdev: netdev.map(str::to_owned), ..Gid::default() }],
            ..Port::default()
        };
        let device = |ports: &[Port], access| RdmaDevice {
            verbs: Some("uverbs0".into()),
            ports: ports.to_vec(),
            access,
            ..RdmaDevice::default()
        };
        let ib = || port("ACTIVE", "InfiniBand", None);
        for (device, needs, reason) in [
            (device(&[ib()], Access::Open), enough(), None),
            (device(&[ib()], Access::Unknown), needs(None, None), None),
            (device(&[port("", "InfiniBand", None)], Access::Open), enough(), None),
            (device(&[], Access::Open), enough(), Some("no port")),
            (
                device(&[port("DOWN", "InfiniBand", None)], Access::Open),
                enough(),
                Some("port 1 is DOWN"),
            ),
            (device(&[port("DOWN", "InfiniBand", None), ib()], Access::Open), enough(), None),
            (device(&[ib()], Access::Absent), enough(), Some("device plugin")),
            (device(&[ib()], Access::Refused), enough(), Some("does not open")),
            (device(&[port("ACTIVE", "Ethernet", Some("eth0"))], Access::Open), enough(), None),
            (device(&[port("ACTIVE", "Ethernet", None)], Access::Open), enough(), None),
            (
                device(&[port("ACTIVE", "Ethernet", Some("ens1"))], Access::Open),
                enough(),
                Some("interface ens1"),
            ),
            (
                device(&[ib()], Access::Open),
                needs(Some(Bound::At(8 << 20)), Some(false)),
                Some("8192 KiB"),
            ),
            (
                device(&[ib()], Access::Open),
                needs(Some(Bound::At(8 << 20)), None),
                Some("8192 KiB"),
            ),
            (device(&[ib()], Access::Open), needs(Some(Bound::At(8 << 20)), Some(true)), None),
            (device(&[ib()], Access::Open), needs(Some(Bound::At(1 << 30)), Some(false)), None),
        ] {
            let why_not = why_not(&device, &needs);
            match reason {
                Some(part) => assert!(why_not.as_ref().unwrap().contains(part), "{why_not:?}"),
                None => assert_eq!(why_not, None, "{device:?}"),
            }
        }
    }
}

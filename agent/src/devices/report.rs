//! What this host has, as one value: printed by `muster devices`, sent in a worker's hello.
//!
//! Must not read anything; the readers beside it fill it in. What is unknown is absent, never a guess.

use std::collections::BTreeMap;
use std::net::IpAddr;

use muster_nvml::Gpu;
use serde::{Deserialize, Serialize};

use super::clock::ClockOffset;
use super::host::Memory;
use crate::plan::Family;

mod fit;

/// The form of [`Report`] in JSON; fields are added to it, never changed. `agent/docs/devices.schema.json`
/// tells them.
pub const SCHEMA: &str = "muster-devices/1";

/// Bytes of JSON that a report may have: it travels with every hello.
pub const MAX_BYTES: usize = 64 * 1024;

/// What one host has and what of it can be used. Sizes are in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The kernel's host name.
    pub hostname: Option<String>,
    /// What that name resolves to here, where it was asked.
    pub own_name: Option<OwnName>,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// How far its clock is from the launcher's; only the launcher can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockOffset>,
    /// What may be computed on.
    pub cpus: Option<Cpus>,
    /// The machine's NUMA nodes.
    pub numa: Vec<NumaNode>,
    /// Memory, and its limit.
    pub memory: Memory,
    /// The version of the control groups that hold this process: 1, 2, or none found.
    pub cgroup: Option<u8>,
    /// `/dev/shm`, through which the ranks of a host exchange data.
    pub shm: Option<Shm>,
    /// What a process may have.
    pub limits: Limits,
    /// Pools of huge pages, those that are not empty.
    pub huge_pages: Vec<HugePages>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// RDMA devices and what they need.
    pub rdma: Rdma,
    /// GPUs.
    pub gpus: Gpus,
    /// The MPI on the PATH, where there is one and it was asked.
    pub mpi: Option<Mpi>,
    /// What will slow a job down or fail it, each a sentence for people.
    pub warnings: Vec<String>,
}

/// An MPI launcher found on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mpi {
    /// Which family it is of.
    pub family: Family,
    /// Its version, as it says.
    pub version: String,
    /// Where it lies.
    pub path: String,
}

/// How the host's own name resolves on itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnName {
    /// To these.
    Addresses(Vec<IpAddr>),
    /// Not at all, for this reason.
    Failed(String),
}

/// The CPUs that this process may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpus {
    /// How many; a quota may be a fraction.
    pub usable: f64,
    /// What says so.
    pub because: String,
    /// How many the machine has online.
    pub online: Option<usize>,
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// Its number.
    pub node: u32,
    /// Its CPUs in the kernel's list form, e.g. `0-31,64-95`.
    pub cpus: Option<String>,
    /// Its memory.
    pub memory: Option<u64>,
}

/// The size of `/dev/shm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shm {
    /// In all.
    pub total: u64,
    /// What is left, where the kernel could be asked.
    pub free: Option<u64>,
}

/// A limit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// No limit.
    #[serde(rename = "unlimited")]
    Unlimited,
    /// At most this.
    #[serde(untagged)]
    At(u64),
}

/// The soft limits of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Open files.
    pub nofile: Option<Bound>,
    /// Processes of this user.
    pub nproc: Option<Bound>,
    /// Bytes of locked memory.
    pub memlock: Option<Bound>,
    /// Bytes of stack.
    pub stack: Option<Bound>,
}

/// A pool of huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// Of one page.
    pub size: u64,
    /// Pages.
    pub total: u64,
    /// Pages that nobody uses.
    pub free: Option<u64>,
}

/// What a network interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceKind {
    /// Reaches this host only.
    Loopback,
    /// A bridge, such as docker0 or virbr0: mostly of the same address on every host.
    Bridge,
    /// Several as one.
    Bond,
    /// A tunnel.
    Tunnel,
    /// A device on a bus.
    Physical,
    /// Anything else that is made of software, such as a pod's eth0.
    Virtual,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// E.g. `eth0`.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// Whether it is up.
    pub up: Option<bool>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// Megabits a second.
    pub speed: Option<u32>,
    /// Its addresses, with the length of the prefix: `10.0.0.5/24`.
    pub addresses: Vec<String>,
    /// Whether the default route leaves by it.
    pub default_route: bool,
    /// The kernel's driver.
    pub driver: Option<String>,
    /// Where it is on the PCI bus.
    pub pci: Option<String>,
    /// The NUMA node that it hangs on.
    pub numa: Option<u32>,
}

/// Whether this user may open a device node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Not told: there is no `/dev` to look at.
    #[default]
    Unknown,
    /// The node is not in this container.
    Absent,
    /// It is there, and the kernel refuses.
    Refused,
    /// It opens.
    Open,
}

/// RDMA: the devices, and what the process needs beside them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rdma {
    /// Those that the kernel shows, also where this container was not given them.
    pub devices: Vec<RdmaDevice>,
    /// `/dev/infiniband/rdma_cm`, for connections by IP address.
    pub cm: Access,
    /// Whether memory may be locked beyond the limit: CAP_IPC_LOCK among the effective capabilities,
    /// in the machine's own user namespace.
    pub ipc_lock: Option<bool>,
    /// Whether the module nvidia_peermem, or its forerunner nv_peer_mem, is loaded: NICs reach the
    /// memory of NVIDIA's GPUs.
    pub peermem: bool,
    /// Whether the same goes by dma-buf: told by the open kernel module of the driver and Linux 5.12.
    pub dma_buf: Option<bool>,
}

/// An RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RdmaDevice {
    /// E.g. `mlx5_0`.
    pub name: String,
    /// Which kind of verbs it has: mlx5, mlx4, hfi1, irdma, efa, bnxt_re, rxe, siw, …
    pub driver: Option<String>,
    /// Its firmware's version.
    pub firmware: Option<String>,
    /// Where it is on the PCI bus.
    pub pci: Option<String>,
    /// The NUMA node that it hangs on.
    pub numa: Option<u32>,
    /// Its node below `/dev/infiniband`, e.g. `uverbs0`.
    pub verbs: Option<String>,
    /// Whether that opens.
    pub access: Access,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Whether a job can use it.
    pub usable: bool,
    /// Why not.
    pub why_not: Option<String>,
}

/// A port of an RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// From 1.
    pub number: u32,
    /// `ACTIVE`, `DOWN`, `INIT`, `ARMED`, …
    pub state: Option<String>,
    /// `LinkUp`, `Polling`, `Disabled`, …
    pub physical: Option<String>,
    /// Gigabits a second.
    pub rate: Option<f64>,
    /// Lanes and generation, e.g. `4X EDR`.
    pub width: Option<String>,
    /// `InfiniBand`, `Ethernet` (RoCE, iWARP) or `EFA`.
    pub link: Option<String>,
    /// The address in an InfiniBand subnet.
    pub lid: Option<u32>,
    /// Its addresses, at most [`MAX_GIDS`].
    pub gids: Vec<Gid>,
}

impl Port {
    /// Whether it carries data.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state.as_deref() == Some("ACTIVE")
    }
}

/// GIDs of a port that are told; more only serve hosts of many virtual interfaces.
pub const MAX_GIDS: usize = 16;

/// An address of a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gid {
    /// Its place in the table: what `NCCL_IB_GID_INDEX` takes.
    pub index: u32,
    /// As an IPv6 address is written.
    pub gid: String,
    /// `IB/RoCE v1` or `RoCE v2`.
    pub kind: Option<String>,
    /// The network interface that it belongs to.
    pub netdev: Option<String>,
}

/// The GPUs of all vendors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpus {
    /// Those that the kernel or NVML shows, each saying whether it can be used.
    pub devices: Vec<Gpu>,
    /// The version of NVIDIA's kernel driver.
    pub driver: Option<String>,
    /// The newest CUDA that the driver serves.
    pub cuda: Option<String>,
    /// Whether NVML told of NVIDIA's; else they are read from the kernel's files, which tell less.
    pub nvml: bool,
    /// Why NVML did not, where it might have.
    pub why_no_nvml: Option<String>,
    /// Why there are none, where that is on purpose.
    pub why_none: Option<String>,
    /// The variables that give or hide GPUs, those that are set.
    pub variables: BTreeMap<String, String>,
}

impl Report {
    /// GPUs that this process may compute on.
    pub fn usable_gpus(&self) -> impl Iterator<Item = &Gpu> {
        self.gpus.devices.iter().filter(|gpu| gpu.usable)
    }

    /// RDMA devices that a job can use.
    pub fn usable_rdma(&self) -> impl Iterator<Item = &RdmaDevice> {
        self.rdma.devices.iter().filter(|device| device.usable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_word_or_a_number() {
        let limits = Limits {
            nofile: Some(Bound::At(1024)),
            memlock: Some(Bound::Unlimited),
            ..Limits::default()
        };
        let json = serde_json::to_string(&limits).unwrap();
        assert_eq!(json, r#"{"nofile":1024,"nproc":null,"memlock":"unlimited","stack":null}"#);
        assert_eq!(serde_json::from_str::<Limits>(&json).unwrap(), limits);
    }
}

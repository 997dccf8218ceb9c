//! The words in which the helper answers: what there is to say of a GPU.
//!
//! muster says the same of GPUs that it reads from the kernel's files, of every vendor. Must not
//! load or ask anything; the program beside it does that for NVIDIA.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The form of [`Answer`]; a muster takes no other, since it carries its own helper.
pub const SCHEMA: u32 = 1;

/// Entries of any list about one GPU: processes, instances, peers.
pub const MAX_ENTRIES: usize = 64;

/// GPUs of one machine.
pub const MAX_GPUS: usize = 64;

/// All that the helper prints, as one JSON object on standard output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Why NVML could not be asked at all; then everything else is empty.
    pub failed: Option<String>,
    /// The kernel driver's version, e.g. `535.104.05`.
    pub driver: Option<String>,
    /// The newest CUDA that the driver serves, e.g. `12.2`.
    pub cuda: Option<String>,
    /// In NVML's order, which is that of PCI addresses.
    pub gpus: Vec<Gpu>,
    /// GPUs that are there and could not be asked, each with NVML's words.
    pub problems: Vec<String>,
}

/// Whose GPU it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA, PCI vendor 0x10de.
    #[default]
    Nvidia,
    /// AMD, PCI vendor 0x1002.
    Amd,
    /// Intel, PCI vendor 0x8086.
    Intel,
}

/// One GPU. What could not be found out is absent, with the reason in `unknown` where there is one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// The number that its vendor's tools give it.
    pub index: u32,
    /// Whose it is.
    pub vendor: Vendor,
    /// The product's name.
    pub name: Option<String>,
    /// `GPU-…`: names it whatever is hidden.
    pub uuid: Option<String>,
    /// `dddd:bb:dd.f`, lower case.
    pub pci: Option<String>,
    /// The NUMA node that it hangs on; absent where the machine has only one.
    pub numa: Option<u32>,
    /// The number in the name of its device node.
    pub minor: Option<u32>,
    /// Bytes.
    pub memory_total: Option<u64>,
    /// Bytes, by all who use it.
    pub memory_used: Option<u64>,
    /// Whether it is cut into MIG instances; absent where it cannot be.
    pub mig: Option<bool>,
    /// Its MIG instances.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
    /// `default`, `exclusive-process`, `exclusive-thread` or `prohibited`.
    pub compute_mode: Option<String>,
    /// Memory errors, where it counts them.
    pub ecc: Option<Ecc>,
    /// The last error of the driver about it, where the kernel's log may be read.
    pub xid: Option<Xid>,
    /// How it is connected to other GPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// NVLinks that lead to a switch and so to every other GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_links: Option<u32>,
    /// How near each RDMA device is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub nics: BTreeMap<String, Level>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Percent of the last sample period in which something ran.
    pub utilisation: Option<u32>,
    /// Who computes on it, as process numbers of the driver's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// Whether this process may compute on it.
    pub usable: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// Readings that failed, with the reason: only where it is more than "not supported".
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<String, String>,
}

/// A MIG instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its number on its GPU.
    pub index: u32,
    /// `MIG-…`: what `CUDA_VISIBLE_DEVICES` takes.
    pub uuid: Option<String>,
    /// The product's name with the profile.
    pub name: Option<String>,
    /// Bytes.
    pub memory_total: Option<u64>,
}

/// Memory errors since the driver was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ecc {
    /// Whether they are looked for.
    pub enabled: bool,
    /// Mended by the hardware.
    pub corrected: Option<u64>,
    /// Not mended: what computed with them is wrong or dead.
    pub uncorrected: Option<u64>,
}

/// An error of NVIDIA's driver, by its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xid {
    /// The number, e.g. 79 where the GPU has fallen off the bus.
    pub number: u32,
    /// The kernel's words.
    pub words: String,
}

/// Another GPU, as seen from one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The other's `index`.
    pub index: u32,
    /// Direct links between the two: NVLink or XGMI.
    pub links: u32,
    /// How far it is by PCI.
    pub level: Option<Level>,
}

/// Somebody who computes on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// In the namespace of the driver, so perhaps nobody's here.
    pub pid: u32,
    /// Bytes.
    pub memory: Option<u64>,
}

/// How far two PCI devices are apart, in the words of `nvidia-smi topo`; nearer is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// On the same board.
    Board,
    /// Across one PCI switch at most.
    Pix,
    /// Across several PCI switches, not the host bridge.
    Pxb,
    /// Across the host bridge.
    Phb,
    /// Across host bridges of one NUMA node.
    Node,
    /// Across NUMA nodes.
    Sys,
}

impl Level {
    /// The word of `nvidia-smi topo`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Board => "BOARD",
            Self::Pix => "PIX",
            Self::Pxb => "PXB",
            Self::Phb => "PHB",
            Self::Node => "NODE",
            Self::Sys => "SYS",
        }
    }
}

/// The form in which everyone else writes what NVML gives as `00000000:07:00.0`; `None` for what is
/// no PCI address.
#[must_use]
pub fn pci_address(text: &str) -> Option<String> {
    let mut parts = text.trim().rsplitn(3, ':');
    let (slot, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0");
    let (device, function) = slot.split_once('.')?;
    let hex =
        |text: &str, most: u32| u32::from_str_radix(text, 16).ok().filter(|value| *value <= most);
    let (domain, bus) = (hex(domain, u32::MAX)?, hex(bus, 0xff)?);
    let (device, function) = (hex(device, 0x1f)?, hex(function, 7)?);
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

#[cfg(test)]
mod tests {
    use super::pci_address;

    #[test]
    fn pci_addresses() {
        for (text, address) in [
            ("00000000:07:00.0", Some("0000:07:00.0")),
            ("0000:C1:1f.7\n", Some("0000:c1:1f.7")),
            ("00010000:01:00.0", Some("10000:01:00.0")),
            ("07:00.0", Some("0000:07:00.0")),
            ("0000:07:00", None),
            ("0000:07:20.0", None),
            ("usb1", None),
            ("", None),
        ] {
            assert_eq!(pci_address(text).as_deref(), address, "{text}");
        }
    }
}

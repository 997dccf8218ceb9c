//! Intel's GPUs on a card of their own, as the PCI bus and `/sys/class/drm` show them.
//!
//! Must not count the one inside a processor: it sits on the root bus and has no memory of its own.

use muster_nvml::{Gpu, Vendor};

use super::{refused, render_node};
use crate::devices::host::Roots;
use crate::devices::{node, pci, read};

/// Intel's number as a PCI vendor.
const VENDOR: u32 = 0x8086;

/// The products for computing, by PCI device number (Linux, include/drm/intel/pciids.h).
const NAMES: [(u32, &str); 7] = [
    (0x0bd5, "Intel Data Center GPU Max 1550"),
    (0x0bd6, "Intel Data Center GPU Max 1550"),
    (0x0bd9, "Intel Data Center GPU Max 1100"),
    (0x0bda, "Intel Data Center GPU Max 1100"),
    (0x0bdb, "Intel Data Center GPU Max 1100"),
    (0x56c0, "Intel Data Center GPU Flex 170"),
    (0x56c1, "Intel Data Center GPU Flex 140"),
];

/// The GPUs that the bus shows.
pub(super) fn gpus(roots: &Roots, bus: &[pci::Device]) -> Vec<Gpu> {
    let addresses = bus
        .iter()
        .filter(|device| device.vendor == VENDOR && device.computes())
        .filter_map(|device| device.place.address.as_ref())
        .filter(|address| !address.starts_with("0000:00:"));
    (0..).zip(addresses).map(|(index, address)| gpu(roots, index, address)).collect()
}

fn gpu(roots: &Roots, index: u32, address: &str) -> Gpu {
    let device = roots.sys.join("bus/pci/devices").join(address);
    let product: Option<u32> = read::number(&device.join("device"));
    let name = product.map(|number| {
        let known = NAMES.iter().find(|(product, _)| *product == number);
        known.map_or_else(|| format!("Intel {number:#06x}"), |(_, name)| (*name).to_owned())
    });
    let minor = render_node(&device);
    let why_not = match minor {
        Some(minor) => {
            let name = format!("dri/renderD{minor}");
            refused(&name, node::permits(roots, &roots.dev.join(&name)))
        }
        None => Some("the driver gives it no render node".into()),
    };
    let drm = device.join("drm");
    let cards = read::names(&drm).into_iter().filter(|name| name.starts_with("card"));
    // i915 with the patches of the data-centre driver; upstream does not tell.
    let memory = cards.filter_map(|card| read::number(&drm.join(card).join("lmem_total_bytes")));
    Gpu {
        index,
        vendor: Vendor::Intel,
        name,
        pci: Some(address.to_owned()),
        minor,
        memory_total: memory.max(),
        usable: why_not.is_none(),
        why_not,
        ..Gpu::default()
    }
}

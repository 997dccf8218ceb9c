//! AMD's GPUs: `/sys/class/kfd` for what computes, the PCI bus for the rest.
//!
//! Must not need ROCm: only the kernel's driver is read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_nvml::{Gpu, MAX_ENTRIES, Peer, Vendor};

use super::{refused, render_node};
use crate::devices::host::Roots;
use crate::devices::{node, pci, read};

/// AMD's number as a PCI vendor.
const VENDOR: u32 = 0x1002;

/// The type of a link between GPUs, XGMI, in the kernel's CRAT tables.
const XGMI: &str = "11";

/// A GPU in KFD's topology, which numbers CPUs and GPUs together.
struct Node {
    number: u32,
    address: String,
    text: String,
    directory: PathBuf,
}

impl Node {
    /// The value of a line such as `drm_render_minor 128`.
    fn said(&self, name: &str) -> Option<u64> {
        read::field(&self.text, name)?.parse().ok()
    }

    /// `gfx90a` of 90010: two digits each for minor and step, written in hexadecimal.
    fn architecture(&self) -> Option<String> {
        let version = self.said("gfx_target_version").filter(|version| *version > 0)?;
        Some(format!("gfx{}{:x}{:x}", version / 10000, version / 100 % 100, version % 100))
    }

    /// Bytes of its own memory.
    fn memory(&self) -> Option<u64> {
        let banks = self.directory.join("mem_banks");
        let size = |name: String| {
            let text = read::text(&banks.join(name).join("properties"))?;
            let own = matches!(read::field(&text, "heap_type")?, "1" | "2");
            read::field(&text, "size_in_bytes")?.parse::<u64>().ok().filter(|_| own)
        };
        let sizes: Vec<u64> = read::names(&banks).into_iter().filter_map(size).collect();
        sizes.into_iter().try_fold(0_u64, u64::checked_add).filter(|bytes| *bytes > 0)
    }

    /// The numbers of the nodes that it is linked to by XGMI.
    fn linked(&self) -> Vec<u64> {
        let links = self.directory.join("io_links");
        let to = |name: String| {
            let text = read::text(&links.join(name).join("properties"))?;
            (read::field(&text, "type")? == XGMI).then_some(())?;
            read::field(&text, "node_to")?.parse().ok()
        };
        read::names(&links).into_iter().filter_map(to).collect()
    }
}

/// The GPUs in KFD's topology. Those that the container was not given do not read.
fn nodes(roots: &Roots) -> BTreeMap<String, Node> {
    let directory = roots.sys.join("class/kfd/kfd/topology/nodes");
    let node = |name: String| {
        let number = name.parse().ok()?;
        let directory = directory.join(name);
        let text = read::text(&directory.join("properties"))?;
        let said = |name: &str| read::field(&text, name)?.parse::<u64>().ok();
        said("simd_count").filter(|count| *count > 0)?;
        let (at, domain) = (said("location_id")?, said("domain").unwrap_or(0));
        let (bus, slot, function) = (at >> 8 & 0xff, at >> 3 & 0x1f, at & 7);
        let address = format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}");
        Some((address.clone(), Node { number, address, text, directory }))
    };
    read::names(&directory).into_iter().filter_map(node).collect()
}

/// The GPUs that the bus or KFD shows.
pub(super) fn gpus(roots: &Roots, bus: &[pci::Device]) -> Vec<Gpu> {
    let nodes = nodes(roots);
    let on_bus = bus.iter().filter(|device| device.vendor == VENDOR && device.computes());
    let mut addresses: Vec<&String> =
        on_bus.filter_map(|device| device.place.address.as_ref()).chain(nodes.keys()).collect();
    addresses.sort();
    addresses.dedup();
    let index_of: BTreeMap<u64, u32> = (0..)
        .zip(&addresses)
        .filter_map(|(index, address)| Some((u64::from(nodes.get(*address)?.number), index)))
        .collect();
    let gpu = |(index, address): (u32, &&String)| {
        let mut gpu = gpu(roots, index, address, nodes.get(*address));
        let linked = nodes.get(*address).map(Node::linked).unwrap_or_default();
        let peers = linked.iter().filter_map(|node| index_of.get(node)).take(MAX_ENTRIES);
        gpu.peers = peers.map(|index| Peer { index: *index, links: 1, level: None }).collect();
        gpu
    };
    (0..).zip(&addresses).map(gpu).collect()
}

fn gpu(roots: &Roots, index: u32, address: &str, kfd: Option<&Node>) -> Gpu {
    let device = roots.sys.join("bus/pci/devices").join(address);
    let file = |name: &str| read::number::<u64>(&device.join(name));
    let minor = kfd.and_then(|node| u32::try_from(node.said("drm_render_minor")?).ok());
    let minor = minor.filter(|minor| *minor > 0).or_else(|| render_node(&device));
    let refusal = |name: &str| refused(name, node::permits(roots, &roots.dev.join(name)));
    let why_not = refusal("kfd").or_else(|| {
        minor.map_or_else(
            || Some("the driver gives it no render node".into()),
            |minor| refusal(&format!("dri/renderD{minor}")),
        )
    });
    let architecture = kfd.and_then(Node::architecture);
    let hwmon = device.join("hwmon");
    let temperature = read::names(&hwmon)
        .iter()
        .find_map(|name| read::number::<u32>(&hwmon.join(name).join("temp1_input")));
    Gpu {
        index,
        vendor: Vendor::Amd,
        name: read::line(&device.join("product_name"))
            .or_else(|| architecture.map(|name| format!("AMD {name}"))),
        // As ROCR_VISIBLE_DEVICES takes it.
        uuid: read::line(&device.join("unique_id")).map(|id| format!("GPU-{id}")).or_else(|| {
            let id = kfd?.said("unique_id").filter(|id| *id > 0)?;
            Some(format!("GPU-{id:016x}"))
        }),
        pci: Some(kfd.map_or_else(|| address.to_owned(), |node| node.address.clone())),
        minor,
        memory_total: file("mem_info_vram_total").or_else(|| kfd.and_then(Node::memory)),
        memory_used: file("mem_info_vram_used"),
        temperature: temperature.map(|thousandths| thousandths / 1000),
        utilisation: read::number(&device.join("gpu_busy_percent")),
        usable: why_not.is_none(),
        why_not,
        ..Gpu::default()
    }
}

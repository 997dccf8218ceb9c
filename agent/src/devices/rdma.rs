//! RDMA devices, as `/sys/class/infiniband` and `/dev/infiniband` show them.
//!
//! After the kernel's Documentation/ABI/stable/sysfs-class-infiniband. No file has to be there, and
//! reading one may fail (an empty entry of a GID table answers EINVAL). Must not choose a device.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::host::Roots;
use super::report::{Access, Gid, Limits, MAX_GIDS, Port, Rdma, RdmaDevice};
use super::{kernel, node, pci, read};

mod judge;

pub use judge::ENOUGH_MEMLOCK;

/// Devices that are looked at; more are virtual functions for other containers.
const MAX_DEVICES: usize = 64;

/// Ports of a device that are looked at.
const MAX_PORTS: usize = 8;

/// The kernel's PCI drivers under which RDMA devices run, and how their verbs are called. Others are
/// called as their PCI driver.
const DRIVERS: [(&str, &str); 12] = [
    ("mlx5_core", "mlx5"),
    ("mlx4_core", "mlx4"),
    ("ice", "irdma"),
    ("i40e", "irdma"),
    ("idpf", "irdma"),
    ("bnxt_en", "bnxt_re"),
    ("cxgb4", "iw_cxgb4"),
    ("qede", "qedr"),
    ("hns3", "hns_roce"),
    ("ib_qib", "qib"),
    ("mana", "mana_ib"),
    ("ionic", "ionic_rdma"),
];

/// Devices of software, known by the names that `rdma link add` is given by habit.
const SOFTWARE: [&str; 2] = ["rxe", "siw"];

/// Reads all devices and judges each. `interfaces` are the names of this network namespace's, where
/// they are known.
pub(super) fn read(roots: &Roots, limits: Limits, interfaces: Option<&BTreeSet<&str>>) -> Rdma {
    let class = roots.sys.join("class/infiniband");
    let verbs = verbs_nodes(roots);
    let nodes = roots.dev.join("infiniband");
    let ipc_lock = kernel::ipc_lock(roots);
    let needs = judge::Needs { memlock: limits.memlock, ipc_lock, interfaces };
    let device = |name: String| {
        let mut device = device(&class.join(&name), name);
        device.verbs = verbs.get(&device.name).cloned();
        device.access = match &device.verbs {
            Some(node) => node::opens(roots, &nodes.join(node)),
            // Without its number, any node that opens may be its own.
            None => any_node(roots, &nodes),
        };
        device.why_not = judge::why_not(&device, &needs);
        device.usable = device.why_not.is_none();
        device
    };
    Rdma {
        devices: read::names(&class).into_iter().take(MAX_DEVICES).map(device).collect(),
        cm: node::opens(roots, &nodes.join("rdma_cm")),
        ipc_lock,
        peermem: ["nvidia_peermem", "nv_peer_mem"]
            .iter()
            .any(|module| roots.sys.join("module").join(module).is_dir()),
        dma_buf: dma_buf(roots),
    }
}

/// The nodes below `/dev/infiniband` by the device that each is of.
fn verbs_nodes(roots: &Roots) -> BTreeMap<String, String> {
    let class = roots.sys.join("class/infiniband_verbs");
    let node = |name: String| Some((read::line(&class.join(&name).join("ibdev"))?, name));
    let uverbs = |name: &String| name.starts_with("uverbs");
    read::names(&class).into_iter().filter(uverbs).filter_map(node).collect()
}

fn device(directory: &Path, name: String) -> RdmaDevice {
    let place = pci::place(&directory.join("device"));
    let software = SOFTWARE.iter().find(|known| name.starts_with(*known));
    let driver = place.driver.map_or_else(
        || software.map(|known| (*known).to_owned()),
        |driver| {
            let known = DRIVERS.iter().find(|(pci, _)| *pci == driver);
            Some(known.map_or(driver, |(_, verbs)| (*verbs).to_owned()))
        },
    );
    let efa = driver.as_deref() == Some("efa");
    let ports = directory.join("ports");
    let port = |name: String| Some(port(&ports.join(&name), name.parse().ok()?, efa));
    RdmaDevice {
        name,
        driver,
        firmware: read::line(&directory.join("fw_ver")),
        pci: place.address,
        numa: place.numa,
        ports: read::names(&ports).into_iter().filter_map(port).take(MAX_PORTS).collect(),
        ..RdmaDevice::default()
    }
}

fn port(directory: &Path, number: u32, efa: bool) -> Port {
    // `4: ACTIVE`, `5: LinkUp`: the word is for people and for us.
    let word = |name: &str| {
        let line = read::line(&directory.join(name))?;
        read::tidy(line.split_once(':').map_or(line.as_str(), |(_, word)| word))
    };
    let rate = read::line(&directory.join("rate")).unwrap_or_default();
    let (rate, width) = parse_rate(&rate);
    let link = match read::line(&directory.join("link_layer")) {
        // EFA's is "Unspecified": it is neither of the two.
        _ if efa => Some("EFA".to_owned()),
        Some(link) if link.starts_with("Un") => None,
        link => link,
    };
    let lid = read::number(&directory.join("lid"));
    Port {
        number,
        state: word("state"),
        physical: word("phys_state"),
        rate,
        width,
        // Ethernet has no LIDs, and says 0.
        lid: lid.filter(|lid| *lid != 0),
        link,
        gids: gids(directory),
    }
}

/// Gigabits a second, and what else there is in `100 Gb/sec (4X EDR)`.
fn parse_rate(text: &str) -> (Option<f64>, Option<String>) {
    let (number, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rate = number.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    let width = rest.split_once('(').and_then(|(_, width)| read::tidy(width.trim_end_matches(')')));
    (rate, width)
}

/// The entries of the table of GIDs that are not empty.
fn gids(port: &Path) -> Vec<Gid> {
    let attributes = port.join("gid_attrs");
    let gid = |name: String| {
        let gid = read::line(&port.join("gids").join(&name))?;
        gid.chars().any(|c| c != '0' && c != ':').then_some(())?;
        Some(Gid {
            index: name.parse().ok()?,
            gid,
            kind: read::line(&attributes.join("types").join(&name)),
            netdev: read::line(&attributes.join("ndevs").join(&name)),
        })
    };
    read::names(&port.join("gids")).into_iter().filter_map(gid).take(MAX_GIDS).collect()
}

fn any_node(roots: &Roots, nodes: &Path) -> Access {
    if !roots.dev.is_dir() {
        return Access::Unknown;
    }
    let all = read::names(nodes).into_iter().filter(|name| name.starts_with("uverbs"));
    let all: Vec<Access> = all.map(|name| node::opens(roots, &nodes.join(name))).collect();
    let open = all.iter().find(|access| **access == Access::Open);
    open.or(all.first()).copied().unwrap_or(Access::Absent)
}

/// Whether NVIDIA's driver exports GPU memory as dma-buf: it must be the open kernel module, on a
/// kernel of 5.12 or later (NVIDIA's GPUDirect RDMA documentation).
fn dma_buf(roots: &Roots) -> Option<bool> {
    let version = read::text(&roots.proc.join("driver/nvidia/version"))?;
    let release = kernel::release(roots)?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let kernel = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(version.contains("Open Kernel Module") && kernel >= (5, 12))
}

#[cfg(test)]
mod tests;

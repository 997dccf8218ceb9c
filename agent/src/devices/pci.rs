//! Where devices are: PCI addresses, NUMA nodes, drivers, and how far two devices are apart.
//!
//! Must not know what a device is for.

use std::fs;
use std::path::{Component, Path};

use muster_nvml::{Level, pci_address};

use super::host::Roots;
use super::read;

/// A device's place on the bus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// `dddd:bb:dd.f`
    pub(super) address: Option<String>,
    /// The NUMA node; none on machines that have only one.
    pub(super) numa: Option<u32>,
    /// The kernel's driver.
    pub(super) driver: Option<String>,
    /// From the host bridge to the device; empty where it was not told.
    pub(super) route: Vec<String>,
}

/// The place of what `link` is or leads to, e.g. `/sys/class/net/eth0/device`.
pub(super) fn place(link: &Path) -> Place {
    let uevent = read::text(&link.join("uevent")).unwrap_or_default();
    let said = |name: &str| {
        let value = uevent.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.and_then(read::tidy)
    };
    // A recorded tree may hold directories where the kernel has links.
    let named = link.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let names = [read::target(link), said("PCI_SLOT_NAME"), named];
    Place {
        address: names.iter().flatten().find_map(|name| pci_address(name)),
        numa: read::number(&link.join("numa_node")),
        driver: read::target(&link.join("driver")).or_else(|| said("DRIVER")),
        route: route(link),
    }
}

/// The names on the way that are of the PCI bus.
fn route(link: &Path) -> Vec<String> {
    let Ok(path) = fs::read_link(link) else { return Vec::new() };
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    };
    let on_bus = |name: &String| name.starts_with("pci") || pci_address(name).is_some();
    path.components().filter_map(name).filter(on_bus).collect()
}

/// A device of the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) place: Place,
    pub(super) vendor: u32,
    /// Base class, subclass and interface: 0x0302xx is a 3D controller.
    pub(super) class: u32,
}

impl Device {
    /// Whether it can be a GPU: a display controller, or a processing accelerator as AMD calls its own.
    pub(super) fn computes(&self) -> bool {
        matches!(self.class >> 16, 0x03 | 0x12)
    }
}

/// All devices of the bus, by address.
pub(super) fn devices(roots: &Roots) -> Vec<Device> {
    let bus = roots.sys.join("bus/pci/devices");
    let device = |name: String| {
        let directory = bus.join(name);
        Some(Device {
            vendor: read::number(&directory.join("vendor"))?,
            class: read::number(&directory.join("class"))?,
            place: place(&directory),
        })
    };
    read::names(&bus).into_iter().filter_map(device).collect()
}

/// How far two devices are apart, where both routes are known.
pub(super) fn level(a: &Place, b: &Place) -> Option<Level> {
    if a.route.is_empty() || b.route.is_empty() {
        return None;
    }
    let shared = a.route.iter().zip(&b.route).take_while(|(a, b)| a == b).count();
    let beyond = a.route.len().max(b.route.len()) - shared;
    Some(match (shared, beyond) {
        (0, _) if a.numa == b.numa => Level::Node,
        (0, _) => Level::Sys,
        (_, 0) => Level::Board,
        (1, _) => Level::Phb,
        // A switch is one port up and a port down for each device.
        (_, 1 | 2) => Level::Pix,
        _ => Level::Pxb,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let place = |route: &str, numa| Place {
            route: route.split_whitespace().map(str::to_owned).collect(),
            numa,
            ..Place::default()
        };
        let gpu = place("pci0000:00 00:01.0 01:00.0 02:00.0 03:00.0", Some(0));
        for (route, numa, expected) in [
            ("pci0000:00 00:01.0 01:00.0 02:00.0 03:00.0", 0, Some(Level::Board)),
            ("pci0000:00 00:01.0 01:00.0 02:04.0 04:00.0", 0, Some(Level::Pix)),
            ("pci0000:00 00:01.0 01:00.0 02:08.0 05:00.0 06:00.0 07:00.0", 0, Some(Level::Pxb)),
            ("pci0000:00 00:02.0 08:00.0", 0, Some(Level::Phb)),
            ("pci0000:40 40:01.0 41:00.0", 0, Some(Level::Node)),
            ("pci0000:80 80:01.0 81:00.0", 1, Some(Level::Sys)),
            ("", 0, None),
        ] {
            assert_eq!(level(&gpu, &place(route, Some(numa))), expected, "{route}");
        }
    }

    #[test]
    fn a_recorded_tree_may_have_lost_its_links() {
        let home = tempfile::tempdir().unwrap();
        let device = home.path().join("device");
        fs::create_dir(&device).unwrap();
        assert_eq!(place(&device), Place::default());
        fs::write(device.join("uevent"), "DRIVER=mlx5_core\nPCI_SLOT_NAME=0000:3B:00.0\n").unwrap();
        fs::write(device.join("numa_node"), "-1\n").unwrap();
        let found = place(&device);
        assert_eq!(found.address.as_deref(), Some("0000:3b:00.0"));
        assert_eq!(found.driver.as_deref(), Some("mlx5_core"));
        assert_eq!((found.numa, found.route.len()), (None, 0));
    }
}

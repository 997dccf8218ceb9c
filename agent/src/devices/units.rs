//! What of a host's GPUs a rank can have for itself: a whole GPU, or a MIG instance where a GPU is cut
//! into them.
//!
//! Pure: a function of the report. Must not decide who gets which.

use std::num::NonZeroU32;

use muster_nvml::{Gpu, Vendor};

use super::report::{Port, RdmaDevice, Report};

/// Whose GPUs count, where a host has several vendors': programs are built for one of them, and the
/// others' are mostly there for a screen.
const VENDORS: [Vendor; 3] = [Vendor::Nvidia, Vendor::Amd, Vendor::Intel];

/// The units of one vendor, in the order of its GPUs' numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// Whose they are.
    pub vendor: Vendor,
    /// Never empty.
    pub list: Vec<Unit>,
}

/// A GPU or a MIG instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// What names it whatever is hidden: `GPU-…`, `MIG-…`.
    pub uuid: Option<String>,
    /// A part of a GPU.
    pub is_instance: bool,
    /// The NUMA node that it hangs on; unknown where the machine has only one.
    pub numa: Option<u32>,
    /// The RDMA ports that are nearer to it than the host's others, as UCX names them: `mlx5_0:1`.
    pub nics: Vec<String>,
}

impl Units {
    /// Those that a rank on this host can use; none where there are none.
    #[must_use]
    pub fn of(report: &Report) -> Option<Self> {
        VENDORS.into_iter().find_map(|vendor| {
            let gpus = report.usable_gpus().filter(|gpu| gpu.vendor == vendor);
            let list: Vec<Unit> = gpus.flat_map(|gpu| cut(gpu, report)).collect();
            (!list.is_empty()).then_some(Self { vendor, list })
        })
    }

    /// How many, and what to call them: `8 GPUs`, `1 GPU, 7 MIG instances`.
    #[must_use]
    pub fn counted(&self) -> Option<(NonZeroU32, String)> {
        let instances = self.list.iter().filter(|unit| unit.is_instance).count();
        let parts = [(self.list.len() - instances, "GPU"), (instances, "MIG instance")];
        let told = parts.into_iter().filter(|(count, _)| *count > 0);
        let words = told.map(|(count, what)| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        });
        let count = NonZeroU32::new(u32::try_from(self.list.len()).ok()?)?;
        Some((count, words.collect::<Vec<_>>().join(", ")))
    }
}

/// The GPU itself, or its instances. One that is to be cut and is not yet cannot be computed on.
fn cut(gpu: &Gpu, report: &Report) -> Vec<Unit> {
    let whole = Unit {
        uuid: gpu.uuid.clone(),
        is_instance: false,
        numa: gpu.numa,
        nics: nearest(gpu, report),
    };
    if gpu.mig != Some(true) {
        return vec![whole];
    }
    let instance =
        |uuid: &Option<String>| Unit { uuid: uuid.clone(), is_instance: true, ..whole.clone() };
    gpu.instances.iter().map(|of| instance(&of.uuid)).collect()
}

/// The active ports of the usable devices that are nearest; none where all are as near.
fn nearest(gpu: &Gpu, report: &Report) -> Vec<String> {
    let level = |device: &RdmaDevice| gpu.nics.get(&device.name).copied();
    let active = |device: &&RdmaDevice| device.ports.iter().any(Port::is_active);
    let devices: Vec<_> = report.usable_rdma().filter(active).collect();
    let least = devices.iter().filter_map(|device| level(device)).min();
    if devices.iter().all(|device| level(device) == least) {
        return Vec::new();
    }
    let near = devices.into_iter().filter(|device| level(device) == least);
    near.flat_map(|device| {
        let ports = device.ports.iter().filter(|port| port.is_active());
        ports.map(|port| format!("{}:{}", device.name, port.number))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muster_nvml::{Instance, Level};

    use super::*;

    fn gpu(index: u32, vendor: Vendor) -> Gpu {
        let uuid = Some(format!("GPU-{index}"));
        Gpu { index, vendor, uuid, usable: true, ..Gpu::default() }
    }

    fn with(gpus: Vec<Gpu>) -> Report {
        let mut report = Report::default();
        report.gpus.devices = gpus;
        report
    }

    fn words(gpus: Vec<Gpu>) -> Option<String> {
        Units::of(&with(gpus))?.counted().map(|(count, words)| format!("{count}: {words}"))
    }

    #[test]
    fn what_counts() {
        let nvidia = |index| gpu(index, Vendor::Nvidia);
        let instance = |n: u32| Instance { uuid: Some(format!("MIG-{n}")), ..Instance::default() };
        let cut = |index, n| Gpu {
            mig: Some(true),
            instances: (0..n).map(instance).collect(),
            ..nvidia(index)
        };
        let lost = Gpu { usable: false, ..nvidia(1) };
        for (gpus, expected) in [
            (vec![], None),
            (vec![nvidia(0)], Some("1: 1 GPU")),
            (vec![nvidia(0), nvidia(1)], Some("2: 2 GPUs")),
            (vec![nvidia(0), lost.clone()], Some("1: 1 GPU")),
            (vec![lost.clone()], None),
            (vec![cut(0, 2)], Some("2: 2 MIG instances")),
            (vec![cut(0, 7), nvidia(1)], Some("8: 1 GPU, 7 MIG instances")),
            (vec![cut(0, 0)], None),
            (vec![Gpu { mig: Some(false), ..nvidia(0) }], Some("1: 1 GPU")),
            (
                vec![gpu(0, Vendor::Intel), gpu(0, Vendor::Amd), gpu(1, Vendor::Amd)],
                Some("2: 2 GPUs"),
            ),
            (vec![gpu(0, Vendor::Intel), lost], Some("1: 1 GPU")),
        ] {
            assert_eq!(words(gpus.clone()).as_deref(), expected, "{gpus:?}");
        }
        let uuids = Units::of(&with(vec![cut(0, 2)])).unwrap();
        let uuids: Vec<_> = uuids.list.iter().filter_map(|unit| unit.uuid.as_deref()).collect();
        assert_eq!(uuids, ["MIG-0", "MIG-1"]);
    }

    #[test]
    fn the_nearest_ports_that_work() {
        let device = |name: &str, state: &str| RdmaDevice {
            name: name.into(),
            usable: true,
            ports: vec![Port { number: 1, state: Some(state.into()), ..Port::default() }],
            ..RdmaDevice::default()
        };
        let levels = |near: &[(&str, Level)]| -> BTreeMap<String, Level> {
            near.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect()
        };
        for (state, near, expected) in [
            ("ACTIVE", &[("a", Level::Pix), ("b", Level::Sys)][..], &["a:1"][..]),
            ("DOWN", &[("a", Level::Pix), ("b", Level::Sys)], &[]),
            ("ACTIVE", &[("a", Level::Node), ("b", Level::Node)], &[]),
            ("ACTIVE", &[("b", Level::Phb)], &["b:1"]),
            ("ACTIVE", &[], &[]),
        ] {
            let mut report = with(vec![Gpu { nics: levels(near), ..gpu(0, Vendor::Nvidia) }]);
            report.rdma.devices = vec![device("a", state), device("b", "ACTIVE")];
            assert_eq!(Units::of(&report).unwrap().list[0].nics, expected, "{state} {near:?}");
        }
    }
}

//! What of a host will slow its jobs down or fail them, each with what mends it.
//!
//! Pure: a function of the report, so that it can be told of any host's.

use std::collections::BTreeMap;

use super::rdma::ENOUGH_MEMLOCK;
use super::report::{Bound, OwnName, Report};
use crate::text::{listed, size};

/// What a container gets as `/dev/shm` where nobody says otherwise.
const DEFAULT_SHM: u64 = 64 << 20;

/// Open files that a launcher of some hosts, or a rank of many peers, soon needs.
const FEW_FILES: u64 = 1024;

/// Devices of one reason that are named.
const NAMED: usize = 8;

/// The warnings, the most costly first.
pub(super) fn of(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    gpus(report, &mut warnings);
    rdma(report, &mut warnings);
    host(report, &mut warnings);
    warnings
}

fn gpus(report: &Report, warnings: &mut Vec<String>) {
    let gpus = &report.gpus;
    if let Some(why) = &gpus.why_no_nvml {
        let lost = if gpus.nvml { "NVML left something out" } else { "NVML tells nothing of GPUs" };
        warnings.push(format!("{lost}: {why}"));
    }
    let reasons = gpus.devices.iter().filter(|gpu| !gpu.usable).map(|gpu| {
        let why = gpu.why_not.clone().unwrap_or_default();
        (why, gpu.index.to_string())
    });
    for (why, names) in grouped(reasons) {
        warnings.push(format!("GPU {names} cannot be used: {why}"));
    }
    for gpu in &gpus.devices {
        if let Some(errors) = gpu.ecc.and_then(|ecc| ecc.uncorrected).filter(|errors| *errors > 0) {
            warnings.push(format!(
                "GPU {} has {errors} uncorrected memory errors since its driver was loaded; drain the \
                 node and reset it",
                gpu.index
            ));
        }
        if let Some(xid) = &gpu.xid {
            let (index, number, words) = (gpu.index, xid.number, &xid.words);
            warnings.push(format!("GPU {index} had Xid {number}: {words}"));
        }
    }
}

fn rdma(report: &Report, warnings: &mut Vec<String>) {
    let rdma = &report.rdma;
    let reasons = rdma
        .devices
        .iter()
        .filter(|device| !device.usable)
        .map(|device| (device.why_not.clone().unwrap_or_default(), device.name.clone()));
    for (why, names) in grouped(reasons) {
        warnings.push(format!("RDMA device {names} cannot be used, which leaves TCP: {why}"));
    }
    if report.usable_rdma().next().is_none() {
        return;
    }
    match report.limits.memlock {
        Some(Bound::At(limit)) if limit >= ENOUGH_MEMLOCK && rdma.ipc_lock != Some(true) => {
            warnings.push(format!(
                "only {} of memory may be locked; RDMA fails when it registers more, unlimited is \
                 what it wants",
                size(limit)
            ));
        }
        _ => {}
    }
    let nvidia = report.usable_gpus().any(|gpu| gpu.vendor == muster_nvml::Vendor::Nvidia);
    if nvidia && !rdma.peermem && rdma.dma_buf == Some(false) {
        warnings.push(
            "neither nvidia_peermem nor dma-buf is there, so data between GPU and NIC goes through \
             the host's memory; load nvidia_peermem on the node"
                .into(),
        );
    }
}

fn host(report: &Report, warnings: &mut Vec<String>) {
    if let Some(shm) = report.shm
        && shm.total <= DEFAULT_SHM
        && report.cpus.as_ref().is_some_and(|cpus| cpus.usable > 1.0)
    {
        warnings.push(format!(
            "/dev/shm has {} only; ranks of one host exchange data through it: mount an emptyDir \
             with medium Memory there",
            size(shm.total)
        ));
    }
    if let Some(Bound::At(files)) = report.limits.nofile
        && files < FEW_FILES
    {
        warnings.push(format!("a process may open {files} files only (ulimit -n)"));
    }
    if let Some(OwnName::Failed(why)) = &report.own_name {
        let name = report.hostname.as_deref().unwrap_or_default();
        warnings.push(format!("the host's own name {name} does not resolve here: {why}"));
    }
}

/// The names that have a reason in common, together.
fn grouped(reasons: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (why, name) in reasons {
        names.entry(why).or_default().push(name);
    }
    names.into_iter().map(|(why, names)| (why, listed(&names, NAMED))).collect()
}

#[cfg(test)]
mod tests {
    use muster_nvml::{Ecc, Gpu, Xid};

    use super::*;
    use crate::devices::report::{Cpus, Limits, RdmaDevice, Shm};

    #[test]
    fn nothing_known_is_nothing_to_warn_of() {
        assert_eq!(of(&Report::default()), [""; 0]);
    }

    #[test]
    fn each_reason_once() {
        let refused = |name: &str| RdmaDevice {
            name: name.to_owned(),
            why_not: Some("no port".into()),
            ..RdmaDevice::default()
        };
        let mut report = Report {
            cpus: Some(Cpus { usable: 4.0, because: String::new(), online: None }),
            shm: Some(Shm { total: 64 << 20, free: None }),
            limits: Limits {
                nofile: Some(Bound::At(256)),
                memlock: Some(Bound::At(1 << 30)),
                ..Limits::default()
            },
            own_name: Some(OwnName::Failed("no such name".into())),
            ..Report::default()
        };
        let usable = RdmaDevice { name: "mlx5_2".into(), usable: true, ..RdmaDevice::default() };
        report.rdma.devices = vec![refused("mlx5_0"), refused("mlx5_1"), usable];
        report.rdma.dma_buf = Some(false);
        report.gpus.devices = vec![Gpu {
            usable: true,
            ecc: Some(Ecc { uncorrected: Some(3), ..Ecc::default() }),
            xid: Some(Xid { number: 79, words: "fallen off".into() }),
            ..Gpu::default()
        }];
        let warnings = of(&report);
        for (warning, part) in warnings.iter().zip([
            "3 uncorrected memory errors",
            "Xid 79",
            "RDMA device mlx5_0, mlx5_1 cannot be used",
            "only 1 GiB of memory may be locked",
            "nvidia_peermem",
            "/dev/shm has 64 MiB",
            "open 256 files",
            "own name",
        ]) {
            assert!(warning.contains(part), "{warning:?} and {part}");
        }
        assert_eq!(warnings.len(), 8, "{warnings:#?}");
    }
}

//! What ranks get, as tables.

use super::*;
use crate::devices::report::NumaNode;
use muster_nvml::{Gpu, Instance};

fn gpu(index: u32, vendor: Vendor, numa: Option<u32>) -> Gpu {
    let uuid = Some(format!("GPU-{index}"));
    Gpu { index, vendor, uuid, numa, usable: true, ..Gpu::default() }
}

/// A host of 16 CPUs on two nodes, with so many GPUs, the first half of them on the first node.
fn host(vendor: Vendor, gpus: u32) -> Allotment {
    let node = |node, cpus: &str| NumaNode { node, cpus: Some(cpus.into()), memory: None };
    let mut report = Report { numa: vec![node(0, "0-7"), node(1, "8-15")], ..Report::default() };
    report.gpus.devices =
        (0..gpus).map(|at| gpu(at, vendor, Some(at / gpus.div_ceil(2)))).collect();
    Allotment::of(&report).unwrap()
}

fn ask(bind: GpuBind, local_rank: u32, ranks: u32, cpus: Option<&str>) -> Ask {
    Ask { bind, local_rank, local_size: Some(ranks), cpus: cpus.map(Into::into) }
}

/// What `ranks` ranks see, whose CPUs `cpus` tells, in the order in which they come.
fn seen(
    mut host: Allotment,
    bind: GpuBind,
    ranks: u32,
    cpus: impl Fn(u32) -> Option<&'static str>,
) -> Vec<String> {
    let visible = |local| {
        let answer = host.give(&ask(bind, local, ranks, cpus(local)));
        answer.set.get(CUDA_VISIBLE_DEVICES).map_or("-", String::as_str).replace("GPU-", "")
    };
    (0..ranks).map(visible).collect()
}

#[test]
fn shares_are_even() {
    use GpuBind::{Auto, None as Never, RoundRobin};
    for (bind, gpus, ranks, expected) in [
        (Auto, 4, 4, &["0", "1", "2", "3"][..]),
        (Auto, 8, 2, &["0,1,2,3", "4,5,6,7"]),
        (Auto, 8, 3, &["0,1", "2,3,4", "5,6,7"]),
        (Auto, 2, 5, &["0", "1", "0", "1", "0"]),
        // All of them: nothing is said, and so nothing is hidden or counted anew.
        (Auto, 8, 1, &["-"]),
        (Auto, 1, 2, &["-", "-"]),
        (RoundRobin, 8, 2, &["0", "1"]),
        (RoundRobin, 8, 1, &["0"]),
        (RoundRobin, 2, 5, &["0", "1", "0", "1", "0"]),
        (Never, 4, 4, &["-", "-", "-", "-"]),
    ] {
        let seen = seen(host(Vendor::Nvidia, gpus), bind, ranks, |_| None);
        assert_eq!(seen, expected, "{bind:?}: {ranks} ranks, {gpus} GPUs");
    }
}

#[test]
fn a_rank_gets_what_is_near_its_cpus() {
    use GpuBind::{Auto, Numa, RoundRobin};
    let cores = |rank| Some(["0-3", "4-7", "8-11", "12-15"][rank as usize]);
    let turns = |rank| Some(["0-7", "8-15"][rank as usize % 2]);
    let first = |_| Some("0-7");
    let both = |_| Some("0-15");
    type Cpus = fn(u32) -> Option<&'static str>;
    for (bind, cpus, expected) in [
        (Auto, cores as Cpus, ["0", "1", "2", "3"]),
        (Numa, cores, ["0", "1", "2", "3"]),
        (Auto, turns, ["0", "2", "1", "3"]),
        (Numa, turns, ["0", "2", "1", "3"]),
        // Ranks that crowd on one node: `auto` uses all GPUs, `numa` the near ones.
        (Auto, first, ["0", "1", "2", "3"]),
        (Numa, first, ["0", "1", "0", "1"]),
        (Auto, both, ["0", "1", "2", "3"]),
        (RoundRobin, turns, ["0", "1", "2", "3"]),
    ] {
        let seen = seen(host(Vendor::Nvidia, 4), bind, 4, cpus);
        assert_eq!(seen, expected, "{bind:?} {:?}", [0, 1, 2, 3].map(cpus));
    }
    // Shares of several GPUs are near, too.
    let far_first = |rank| Some(["8-15", "0-7"][rank as usize]);
    assert_eq!(seen(host(Vendor::Nvidia, 4), Auto, 2, far_first), ["2,3", "0,1"]);
}

#[test]
fn instances_go_one_to_a_rank() {
    let instance = |n: u32| Instance { uuid: Some(format!("MIG-{n}")), ..Instance::default() };
    let mut report = Report::default();
    report.gpus.devices = vec![Gpu {
        mig: Some(true),
        instances: vec![instance(0), instance(1)],
        ..gpu(0, Vendor::Nvidia, None)
    }];
    let host = || Allotment::of(&report).unwrap();
    assert_eq!(seen(host(), GpuBind::Auto, 1, |_| None), ["MIG-0"]);
    assert_eq!(seen(host(), GpuBind::Auto, 3, |_| None), ["MIG-0", "MIG-1", "MIG-0"]);
}

#[test]
fn each_vendor_has_its_own_variable() {
    let mut amd = host(Vendor::Amd, 2);
    let answer = amd.give(&ask(GpuBind::Auto, 1, 2, None));
    assert_eq!(answer.set, BTreeMap::from([(ROCR_VISIBLE_DEVICES.into(), "GPU-1".into())]));
    let mut intel = host(Vendor::Intel, 2);
    assert_eq!(intel.give(&ask(GpuBind::Auto, 1, 2, None)), Answer::default());
    let intel = intel.give(&ask(GpuBind::RoundRobin, 1, 2, None));
    assert!(intel.set.is_empty() && intel.refused.unwrap().contains("Intel MPI"));
    let mut nameless = host(Vendor::Amd, 2);
    nameless.units[1].uuid = None;
    assert_eq!(nameless.give(&ask(GpuBind::Auto, 0, 2, None)).set.len(), 1);
    let answer = nameless.give(&ask(GpuBind::Auto, 1, 2, None));
    assert!(answer.set.is_empty() && answer.refused.unwrap().contains("UUID"));
}

#[test]
fn only_numa_names_a_port() {
    let set = |bind| {
        let mut host = host(Vendor::Nvidia, 2);
        host.units[1].nics = vec!["mlx5_3:1".into()];
        host.give(&ask(bind, 1, 2, Some("8-15"))).set.get(UCX_NET_DEVICES).cloned()
    };
    assert_eq!(set(GpuBind::Numa).as_deref(), Some("mlx5_3:1"));
    assert_eq!([GpuBind::Auto, GpuBind::RoundRobin].map(set), [None, None]);
}

#[test]
fn the_users_choice_is_seen() {
    for name in CHOSEN {
        assert_eq!(chosen(&Environment::from_iter([(name, "")])), Some(name));
    }
    assert_eq!(chosen(&Environment::from_iter([("NVIDIA_VISIBLE_DEVICES", "all")])), None);
}

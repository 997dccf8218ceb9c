//! Which of its host's GPUs a rank gets.
//!
//! Pure: the wish of a rank and the units of its host in, variables out. Must not ask a driver; who has
//! the report hands it over. What each wish does and why is in `docs/adr/0014-gpu-binding.md`.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use muster_nvml::Vendor;
use serde::{Deserialize, Serialize};

use crate::config::env::Environment;
use crate::config::variables::{
    CUDA_VISIBLE_DEVICES, GPU_DEVICE_ORDINAL, HIP_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES,
    UCX_NET_DEVICES,
};
use crate::devices::host::cpu_list;
use crate::devices::report::Report;
use crate::devices::units::{Unit, Units};

mod wish;

pub(super) use wish::bind;

/// Each of them says that somebody has chosen GPUs already.
const CHOSEN: [&str; 4] =
    [CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES, GPU_DEVICE_ORDINAL];

/// How ranks are bound to the GPUs of their host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuBind {
    /// Each rank gets its even share of the GPUs or MIG instances, near its CPUs where it is bound to
    /// some
    #[default]
    Auto,
    /// GPUs are left to the program
    None,
    /// One each, by local rank, in turn
    RoundRobin,
    /// One each, of those on the NUMA node of the rank's CPUs, and the RDMA port nearest to it for UCX
    Numa,
}

/// What a rank asks the desk of its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// How to choose.
    pub bind: GpuBind,
    /// The rank among those on its host.
    pub local_rank: u32,
    /// How many these are, where that is known.
    pub local_size: Option<u32>,
    /// The CPUs that it may use, in the kernel's list form.
    pub cpus: Option<String>,
}

/// What it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Variables for the program. None where there is nothing to choose.
    pub set: BTreeMap<String, String>,
    /// Why GPUs that are there were not given, where that is so.
    pub refused: Option<String>,
}

impl Answer {
    fn refused(why: &str) -> Self {
        Self { refused: Some(why.to_owned()), ..Self::default() }
    }
}

/// The variable by which somebody has chosen GPUs for the program already.
#[must_use]
pub fn chosen(env: &Environment) -> Option<&'static str> {
    CHOSEN.into_iter().find(|name| env.get(name).is_some())
}

/// The units of a host and who has got them.
#[derive(Debug)]
pub struct Allotment {
    vendor: Vendor,
    units: Vec<Unit>,
    /// The CPUs of each NUMA node.
    nodes: BTreeMap<u32, BTreeSet<u32>>,
    /// To how many ranks each unit was given.
    given: Vec<u32>,
}

/// Units that are given together, by their place in the list.
type Share = std::ops::Range<usize>;

impl Allotment {
    /// Of a host that has what this report says; none where it has no GPU to give.
    #[must_use]
    pub fn of(report: &Report) -> Option<Self> {
        let Units { vendor, list } = Units::of(report)?;
        let nodes = report.numa.iter();
        let nodes = nodes.filter_map(|node| Some((node.node, cpu_list(node.cpus.as_deref()?)?)));
        let given = vec![0; list.len()];
        Some(Self { vendor, units: list, nodes: nodes.collect(), given })
    }

    /// How many GPUs and instances there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.units.len()
    }

    /// Chooses for a rank, and remembers it.
    pub fn give(&mut self, ask: &Ask) -> Answer {
        let variable = match self.vendor {
            Vendor::Nvidia => CUDA_VISIBLE_DEVICES,
            Vendor::Amd => ROCR_VISIBLE_DEVICES,
            // Intel MPI pins its ranks to them by itself (I_MPI_OFFLOAD).
            Vendor::Intel if ask.bind == GpuBind::Auto => return Answer::default(),
            Vendor::Intel => return Answer::refused("GPUs of Intel are left to Intel MPI"),
        };
        let shares = self.shares(ask);
        let (Some(share), true) = (self.choose(ask, &shares), ask.bind != GpuBind::None) else {
            return Answer::default();
        };
        if share.len() == self.units.len() && !self.has_instances() && ask.bind == GpuBind::Auto {
            return Answer::default();
        }
        let units = &self.units[share.clone()];
        let uuids: Option<Vec<&str>> = units.iter().map(|unit| unit.uuid.as_deref()).collect();
        let Some(uuids) = uuids else {
            return Answer::refused(
                "the driver tells no UUID of a GPU, and numbers may mean another",
            );
        };
        let mut set = BTreeMap::from([(variable.to_owned(), uuids.join(","))]);
        if let (GpuBind::Numa, [unit]) = (ask.bind, units)
            && !unit.nics.is_empty()
        {
            set.insert(UCX_NET_DEVICES.to_owned(), unit.nics.join(","));
        }
        self.given[share].iter_mut().for_each(|ranks| *ranks += 1);
        Answer { set, refused: None }
    }

    fn has_instances(&self) -> bool {
        self.units.iter().any(|unit| unit.is_instance)
    }

    /// What can be given to one rank. CUDA computes on one MIG instance at most.
    fn shares(&self, ask: &Ask) -> Vec<Share> {
        let units = self.units.len();
        let ranks = ask.local_size.map_or(units, |ranks| (ranks.max(1) as usize).min(units));
        let even = ask.bind == GpuBind::Auto && !self.has_instances();
        let shares = if even { ranks } else { units };
        (0..shares).map(|at| at * units / shares..(at + 1) * units / shares).collect()
    }

    /// The share for a rank: that of its number, in turn; or, where the rank is bound to the CPUs of
    /// some NUMA nodes, one near to it. `auto` rather has a far one than one that another has already.
    fn choose(&self, ask: &Ask, shares: &[Share]) -> Option<Share> {
        let own = ask.local_rank as usize % shares.len().max(1);
        let near = match ask.bind {
            GpuBind::None | GpuBind::RoundRobin => None,
            GpuBind::Auto | GpuBind::Numa => self.near(ask.cpus.as_deref()),
        };
        let Some(near) = near else { return shares.get(own).cloned() };
        let is_far = |share: &Share| {
            self.units[share.clone()]
                .iter()
                .filter_map(|unit| unit.numa)
                .any(|n| !near.contains(&n))
        };
        let ranks = |share: &Share| self.given[share.clone()].iter().sum::<u32>();
        let cost = |(at, share): &(usize, &Share)| {
            let turn = (at + shares.len() - own) % shares.len();
            match ask.bind {
                GpuBind::Numa => (u32::from(is_far(share)), ranks(share), turn),
                GpuBind::Auto | GpuBind::None | GpuBind::RoundRobin => {
                    (ranks(share), u32::from(is_far(share)), turn)
                }
            }
        };
        shares.iter().enumerate().min_by_key(cost).map(|(_, share)| share.clone())
    }

    /// The NUMA nodes of these CPUs; none where that says nothing: they are of all nodes that have a
    /// GPU, or nobody knows.
    fn near(&self, cpus: Option<&str>) -> Option<BTreeSet<u32>> {
        let cpus = cpu_list(cpus?)?;
        let near: BTreeSet<u32> = self
            .nodes
            .iter()
            .filter(|(_, of)| !of.is_disjoint(&cpus))
            .map(|(node, _)| *node)
            .collect();
        let nodes: BTreeSet<u32> = self.units.iter().filter_map(|unit| unit.numa).collect();
        (!near.is_empty() && !nodes.is_subset(&near)).then_some(near)
    }
}

#[cfg(test)]
mod tests;

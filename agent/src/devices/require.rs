//! What a job requires of every host, and which host falls short.
//!
//! Pure. A host that does not say what it has falls short: a requirement is there to be proved.

use std::fmt;
use std::str::FromStr;

use super::report::{Bound, Report};
use crate::exit::{Class, Explain};
use crate::ids::HostName;
use crate::text::{phrases, size};

/// Shortfalls that a message names.
const NAMED: usize = 8;

/// What can be required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// GPUs that can be used, or their MIG instances.
    Gpus,
    /// RDMA devices that can be used.
    Rdma,
    /// CPUs.
    Cpus,
    /// Bytes of memory.
    Memory,
    /// Bytes of `/dev/shm`.
    Shm,
    /// Bytes of locked memory.
    Memlock,
}

const WHATS: [(&str, What); 6] = [
    ("gpus", What::Gpus),
    ("rdma", What::Rdma),
    ("cpus", What::Cpus),
    ("memory", What::Memory),
    ("shm", What::Shm),
    ("memlock", What::Memlock),
];

/// The suffixes of sizes, as Kubernetes writes them.
const UNITS: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl What {
    const fn is_size(self) -> bool {
        matches!(self, Self::Memory | Self::Shm | Self::Memlock)
    }

    fn told(self, amount: Bound) -> String {
        match amount {
            Bound::Unlimited => "unlimited".into(),
            Bound::At(bytes) if self.is_size() => size(bytes),
            Bound::At(count) => count.to_string(),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpus => "usable GPUs",
            Self::Rdma => "usable RDMA devices",
            Self::Cpus => "CPUs",
            Self::Memory => "memory",
            Self::Shm => "/dev/shm",
            Self::Memlock => "locked memory",
        })
    }
}

/// What every host must have at least: `gpus=8,rdma=1,cpus=4,memory=16Gi,shm=1Gi,memlock=unlimited`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirements(Vec<(What, Bound)>);

impl FromStr for Requirements {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all: Vec<(What, Bound)> = Vec::new();
        for word in text.split(',') {
            let (name, amount) = word
                .split_once('=')
                .ok_or_else(|| format!("'{word}': expected a name, `=` and an amount"))?;
            let (_, what) =
                WHATS.iter().find(|(known, _)| *known == name.trim()).ok_or_else(|| {
                    let known = WHATS.map(|(name, _)| name);
                    format!("'{word}': expected one of {}", known.join(", "))
                })?;
            if all.iter().any(|(known, _)| known == what) {
                return Err(format!("'{word}': {name} is there twice"));
            }
            let amount = self::amount(*what, amount.trim());
            all.push((*what, amount.ok_or_else(|| expected(*what, word))?));
        }
        Ok(Self(all))
    }
}

fn expected(what: What, word: &str) -> String {
    match what {
        What::Memlock => format!("'{word}': expected a size such as 512Mi or 1Gi, or unlimited"),
        _ if what.is_size() => format!("'{word}': expected a size such as 512Mi or 1Gi"),
        _ => format!("'{word}': expected a whole number"),
    }
}

fn amount(what: What, text: &str) -> Option<Bound> {
    if what == What::Memlock && text == "unlimited" {
        return Some(Bound::Unlimited);
    }
    let unit = UNITS.iter().find(|(suffix, _)| what.is_size() && text.ends_with(suffix));
    let (digits, factor) =
        unit.map_or((text, 1), |(suffix, factor)| (text.trim_end_matches(suffix), *factor));
    let digits = Some(digits).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse::<u64>().ok()?.checked_mul(factor).map(Bound::At)
}

/// One thing that a host has too little of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lack {
    host: HostName,
    words: String,
}

/// Hosts fall short of what was required.
#[derive(Debug, thiserror::Error)]
#[error("meet --require: {}", told(.lacks))]
pub struct Short {
    lacks: Vec<Lack>,
    class: Class,
}

fn told(lacks: &[Lack]) -> String {
    let words: Vec<String> =
        lacks.iter().map(|lack| format!("{} {}", lack.host, lack.words)).collect();
    phrases(&words, NAMED)
}

impl Explain for Short {
    fn class(&self) -> Class {
        self.class
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self.class {
                Class::GpuFault => {
                    "other hosts have as many: look at that node's driver and kernel log, drain it, \
                     and let the job run elsewhere"
                }
                _ => {
                    "correct the resources, limits and volumes of the workers' pods, or --require \
                     less; `muster devices` in the pod tells what it has"
                }
            }
            .into(),
        )
    }
}

/// Whether every host has what is required.
///
/// # Errors
/// [`Short`], with every host and what it lacks. Its class is `gpu-fault`, which a retry may cure,
/// where a host lost GPUs: it shows some that cannot be used, or another host has enough.
pub fn check(required: &Requirements, hosts: &[(&HostName, Option<&Report>)]) -> Result<(), Short> {
    let mut lacks = Vec::new();
    let mut lost = false;
    for (host, report) in hosts {
        let host = HostName::from(host.short());
        let Some(report) = report else {
            lacks.push(Lack { host, words: "does not say what it has".into() });
            continue;
        };
        for (what, wanted) in &required.0 {
            let found = has(*what, report);
            if found.is_some_and(|found| is_enough(found, *wanted)) {
                continue;
            }
            let found = found.map_or_else(|| "unknown".into(), |found| what.told(found));
            let why = why(*what, report).map(|why| format!(" ({why})")).unwrap_or_default();
            let words = format!("has {found} of {} {what}{why}", what.told(*wanted));
            lacks.push(Lack { host: host.clone(), words });
            lost |= *what == What::Gpus
                && (report.gpus.devices.iter().any(|gpu| !gpu.usable)
                    || hosts.iter().filter_map(|(_, report)| *report).any(|other| {
                        has(What::Gpus, other).is_some_and(|found| is_enough(found, *wanted))
                    }));
        }
    }
    if lacks.is_empty() {
        return Ok(());
    }
    let class = if lost { Class::GpuFault } else { Class::LocalResource };
    Err(Short { lacks, class })
}

/// How much there is; none: unknown.
fn has(what: What, report: &Report) -> Option<Bound> {
    let count = |count: usize| Some(Bound::At(u64::try_from(count).unwrap_or(u64::MAX)));
    match what {
        What::Gpus => count(report.usable_gpus().map(|gpu| gpu.instances.len().max(1)).sum()),
        What::Rdma => count(report.usable_rdma().count()),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few CPUs")]
        What::Cpus => report.cpus.as_ref().map(|cpus| Bound::At(cpus.usable.floor() as u64)),
        What::Memory => {
            let memory = &report.memory;
            let least = memory.limit.into_iter().chain(memory.total).min();
            least.map(Bound::At)
        }
        What::Shm => report.shm.map(|shm| Bound::At(shm.total)),
        // The capability sets the limit aside.
        What::Memlock if report.rdma.ipc_lock == Some(true) => Some(Bound::Unlimited),
        What::Memlock => report.limits.memlock,
    }
}

fn is_enough(found: Bound, wanted: Bound) -> bool {
    match (found, wanted) {
        (Bound::Unlimited, _) => true,
        (Bound::At(_), Bound::Unlimited) => false,
        (Bound::At(found), Bound::At(wanted)) => found >= wanted,
    }
}

/// Why there is not more, where that is known.
fn why(what: What, report: &Report) -> Option<&str> {
    match what {
        What::Gpus => {
            let unusable = report.gpus.devices.iter().find_map(|gpu| gpu.why_not.as_deref());
            unusable.or(report.gpus.why_none.as_deref()).or(report.gpus.why_no_nvml.as_deref())
        }
        What::Rdma => report.rdma.devices.iter().find_map(|device| device.why_not.as_deref()),
        What::Cpus => report.cpus.as_ref().map(|cpus| cpus.because.as_str()),
        What::Memory => None,
        What::Shm => Some("mount an emptyDir with medium Memory there"),
        What::Memlock => {
            Some("raise it in the container runtime, or give the pod IPC_LOCK as root")
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_nvml::Gpu;

    use super::*;
    use crate::devices::report::{Limits, Shm};

    fn required(text: &str) -> Result<Requirements, String> {
        text.parse()
    }

    #[test]
    fn amounts() {
        let all = "gpus=8,rdma=1,cpus=4,memory=16Gi,shm=512Mi,memlock=unlimited";
        assert_eq!(required(all).unwrap().0.len(), 6);
        assert_eq!(required("memlock=64k").unwrap().0, [(What::Memlock, Bound::At(64_000))]);
        assert_eq!(required("shm=1").unwrap().0, [(What::Shm, Bound::At(1))]);
        for (text, part) in [
            ("", "'': expected a name"),
            ("gpus", "'gpus': expected a name"),
            ("gpu=8", "expected one of gpus, rdma, cpus, memory, shm, memlock"),
            ("gpus=8Gi", "a whole number"),
            ("gpus=-1", "a whole number"),
            ("gpus=unlimited", "a whole number"),
            ("shm=unlimited", "a size such as"),
            ("shm=99999999999Ti", "a size such as"),
            ("memlock=1GiB", "or unlimited"),
            ("shm=Gi", "a size such as"),
            ("gpus=1,gpus=2", "gpus is there twice"),
        ] {
            let error = required(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    fn host(gpus: usize, unusable: usize) -> Report {
        let gpu = |usable| Gpu {
            usable,
            why_not: (!usable).then(|| "its node does not open".into()),
            ..Gpu::default()
        };
        let mut report = Report {
            shm: Some(Shm { total: 64 << 20, free: None }),
            limits: Limits { memlock: Some(Bound::At(8 << 20)), ..Limits::default() },
            ..Report::default()
        };
        report.gpus.devices = (0..gpus).map(|_| gpu(true)).collect();
        report.gpus.devices.extend((0..unusable).map(|_| gpu(false)));
        report
    }

    #[test]
    fn shortfalls() {
        let names = ["w-0.pi.ns.svc", "w-1.pi.ns.svc"].map(HostName::from);
        let short = |text: &str, reports: [Option<&Report>; 2]| {
            let hosts: Vec<_> = names.iter().zip(reports).collect();
            check(&required(text).unwrap(), &hosts).err().map(|short| {
                assert!(short.hint().is_some());
                (short.class(), short.to_string())
            })
        };
        let (whole, lost, broken, none) = (host(8, 0), host(7, 0), host(7, 1), host(0, 0));
        assert_eq!(short("gpus=8", [Some(&whole), Some(&whole)]), None);
        for (text, reports, class, part) in [
            ("gpus=8", [Some(&whole), Some(&lost)], Class::GpuFault, "w-1 has 7 of 8 usable GPUs"),
            ("gpus=8", [Some(&broken), Some(&broken)], Class::GpuFault, "(its node does not open)"),
            ("gpus=8", [Some(&none), Some(&none)], Class::LocalResource, "w-0 has 0 of 8 usable"),
            ("rdma=1", [Some(&whole), Some(&whole)], Class::LocalResource, "0 of 1 usable RDMA"),
            ("shm=1Gi", [Some(&whole), Some(&whole)], Class::LocalResource, "64 MiB of 1 GiB /dev"),
            ("cpus=1", [Some(&whole), Some(&whole)], Class::LocalResource, "has unknown of 1 CPUs"),
            (
                "memlock=unlimited",
                [Some(&whole), Some(&whole)],
                Class::LocalResource,
                "has 8 MiB of unlimited locked memory (raise it",
            ),
            ("shm=1", [Some(&whole), None], Class::LocalResource, "w-1 does not say what it has"),
        ] {
            let (found, words) = short(text, reports).unwrap();
            assert!(found == class && words.contains(part), "{text}: {found} {words}");
        }
        let mut root = host(0, 0);
        root.rdma.ipc_lock = Some(true);
        assert_eq!(short("memlock=unlimited", [Some(&root), Some(&root)]), None);
    }
}

//! How many CPUs and how much memory this process may use, and why no more.
//!
//! Must not count what the machine has where something smaller holds; every number comes with the
//! limit that it is.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::cgroup::{Hierarchy, hierarchies};
use super::read;
use crate::exit::{Class, Explain};

/// Where the kernel's file systems are.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/proc`
    pub proc: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// What they are below; none where they are this machine's own.
    tree: Option<PathBuf>,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), dev: "/dev".into(), tree: None }
    }
}

impl Roots {
    /// Those of a machine whose files lie below this directory.
    #[must_use]
    pub fn below(tree: &Path) -> Self {
        let [proc, sys, dev] = ["proc", "sys", "dev"].map(|name| tree.join(name));
        Self { proc, sys, dev, tree: Some(tree.to_owned()) }
    }

    /// The same, where the directory holds any of them.
    ///
    /// # Errors
    /// See [`NoMachine`].
    pub fn recorded(tree: &Path) -> Result<Self, NoMachine> {
        let roots = Self::below(tree);
        let any = roots.proc.is_dir() || roots.sys.is_dir();
        if any { Ok(roots) } else { Err(NoMachine(tree.to_owned())) }
    }

    /// Whether they are those of the machine that we run on, so that the kernel can be asked too.
    #[must_use]
    pub fn are_own(&self) -> bool {
        self.tree.is_none()
    }

    /// Where a path of their machine is for us.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        match &self.tree {
            Some(tree) => tree.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// A path below these, as it is called on their machine.
    #[must_use]
    pub fn shown(&self, path: &Path) -> PathBuf {
        let inside = self.tree.as_ref().and_then(|tree| path.strip_prefix(tree).ok());
        inside.map_or_else(|| path.to_owned(), |inside| Path::new("/").join(inside))
    }
}

/// A directory in which no machine's files are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read a machine's files below {}: it has neither proc nor sys", .0.display())]
pub struct NoMachine(PathBuf);

impl Explain for NoMachine {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some("name the directory that holds the machine's proc, sys and dev".into())
    }
}

/// What keeps this process from using more CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuBound {
    /// A control group's quota, in the file named.
    Quota(PathBuf),
    /// The CPUs that the process is bound to, of the number that are online.
    Affinity {
        /// CPUs online.
        online: usize,
    },
    /// Nothing but the machine.
    Online,
}

impl fmt::Display for CpuBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota(file) => write!(f, "quota in {}", file.display()),
            Self::Affinity { online } => write!(f, "bound by cpuset or affinity, {online} online"),
            Self::Online => f.write_str("all that are online"),
        }
    }
}

/// The CPUs that this process may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Cpus {
    /// How many; a quota may be a fraction.
    pub count: f64,
    /// What says so.
    pub bound: CpuBound,
}

/// The memory that this process may use, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The machine's.
    pub total: Option<u64>,
    /// The smallest limit of a control group above this process, where one is set.
    pub limit: Option<u64>,
    /// The file that sets it.
    pub limited_by: Option<PathBuf>,
    /// What the limited group uses now, or this process's own group where none is limited.
    pub used: Option<u64>,
    /// The part of `used` that is cached files not read lately: given back before anything is
    /// killed, and not counted by Kubernetes.
    pub reclaimable: Option<u64>,
}

/// The host's name, as the kernel has it in this UTS namespace.
#[must_use]
pub fn hostname(roots: &Roots) -> Option<String> {
    read::line(&roots.proc.join("sys/kernel/hostname"))
}

/// How many CPUs this process may use: the smallest of quota, cpuset, affinity and machine.
///
/// `None` where neither `/proc` nor `/sys` says anything.
#[must_use]
pub fn cpus(roots: &Roots) -> Option<Cpus> {
    let online = online_list(roots);
    let status = read::text(&roots.proc.join("self/status")).unwrap_or_default();
    // What sched_getaffinity returns, without its limit on the number of CPUs. The cpuset is in it.
    let bound = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let bound = bound.and_then(cpu_list);
    let bindings: Vec<_> = [bound, cpuset(roots)].into_iter().flatten().collect();
    let mut usable = online.clone();
    for binding in bindings {
        // A process that nobody bound is allowed CPUs that do not exist, so this intersects.
        usable = Some(usable.map_or_else(|| binding.clone(), |usable| &usable & &binding));
    }
    let usable = usable.filter(|cpus| !cpus.is_empty());
    let by_count = usable.map(|usable| {
        let online = online.map_or(usable.len(), |online| online.len());
        let all = usable.len() == online;
        let bound = if all { CpuBound::Online } else { CpuBound::Affinity { online } };
        Cpus { count: usable.len() as f64, bound }
    });
    let quotas = hierarchies(roots, "cpu").into_iter().flat_map(|hierarchy| {
        let version = hierarchy.version;
        hierarchy.directories.into_iter().filter_map(move |directory| quota(version, &directory))
    });
    by_count.into_iter().chain(quotas).min_by(|a, b| a.count.total_cmp(&b.count))
}

/// How many CPUs the machine has online.
pub(super) fn online(roots: &Roots) -> Option<usize> {
    online_list(roots).map(|cpus| cpus.len())
}

fn online_list(roots: &Roots) -> Option<BTreeSet<u32>> {
    list(&roots.sys.join("devices/system/cpu/online"))
}

fn quota(version: u8, directory: &Path) -> Option<Cpus> {
    let (file, quota, period) = if version == 2 {
        let file = directory.join("cpu.max");
        let text = read::text(&file)?;
        // "max 100000" does not parse, and is no limit.
        let (quota, period) = text.trim().split_once(' ')?;
        (file, quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?)
    } else {
        let file = directory.join("cpu.cfs_quota_us");
        // -1 is no limit.
        let microseconds = |file: &Path| read::line(file)?.parse::<f64>().ok();
        let period = microseconds(&directory.join("cpu.cfs_period_us"))?;
        (file.clone(), microseconds(&file)?, period)
    };
    (quota > 0.0 && period > 0.0)
        .then(|| Cpus { count: quota / period, bound: CpuBound::Quota(file) })
}

fn cpuset(roots: &Roots) -> Option<BTreeSet<u32>> {
    hierarchies(roots, "cpuset").iter().find_map(|hierarchy| {
        // Only the process's own group: the kernel keeps it within its parents'.
        let own = hierarchy.directories.first()?;
        let names: &[&str] = if hierarchy.version == 2 {
            &["cpuset.cpus.effective"]
        } else {
            &["cpuset.effective_cpus", "cpuset.cpus"]
        };
        names.iter().find_map(|name| list(&own.join(name)))
    })
}

/// How much memory this process may use and uses.
#[must_use]
pub fn memory(roots: &Roots) -> Memory {
    let meminfo = read::text(&roots.proc.join("meminfo")).unwrap_or_default();
    let total = field::<u64>(&meminfo, "MemTotal:").map(|kib| kib.saturating_mul(1024));
    let hierarchies = hierarchies(roots, "memory");
    let limits = hierarchies.iter().flat_map(|hierarchy| {
        hierarchy.directories.iter().filter_map(move |directory| {
            let (limit, file) = memory_limit(hierarchy.version, directory)?;
            Some((limit, file, hierarchy.version, directory.as_path()))
        })
    });
    let tightest = limits.min_by_key(|(limit, ..)| *limit);
    let (limit, limited_by, counted) = match tightest {
        Some((limit, file, version, directory)) => {
            (Some(limit), Some(file), Some((version, directory)))
        }
        None => (None, None, hierarchies.iter().find_map(with_usage)),
    };
    let usage = counted.map(|(version, directory)| {
        let (used, stat) = usage_files(version);
        let stat = read::text(&directory.join("memory.stat")).and_then(|text| field(&text, stat));
        (read::number(&directory.join(used)), stat)
    });
    let (used, reclaimable) = usage.unwrap_or_default();
    Memory { total, limit, limited_by, used, reclaimable }
}

fn usage_files(version: u8) -> (&'static str, &'static str) {
    if version == 2 {
        ("memory.current", "inactive_file")
    } else {
        ("memory.usage_in_bytes", "total_inactive_file")
    }
}

fn with_usage(hierarchy: &Hierarchy) -> Option<(u8, &Path)> {
    let own = hierarchy.directories.first()?;
    let (used, _) = usage_files(hierarchy.version);
    own.join(used).exists().then_some((hierarchy.version, own.as_path()))
}

/// The limit that a group sets, and the file that says so.
fn memory_limit(version: u8, directory: &Path) -> Option<(u64, PathBuf)> {
    // Version 1 writes "none" as the largest multiple of the page size below 2^63.
    let real = |limit: &u64| *limit < 1 << 62;
    if version == 2 {
        let file = directory.join("memory.max");
        return Some((read::number(&file).filter(real)?, file));
    }
    let file = directory.join("memory.limit_in_bytes");
    let own = read::number(&file).filter(real).map(|limit| (limit, file));
    // Knows of limits above the part of the hierarchy that is mounted here.
    let file = directory.join("memory.stat");
    let text = read::text(&file).unwrap_or_default();
    let above = field::<u64>(&text, "hierarchical_memory_limit").filter(real);
    own.into_iter().chain(above.map(|limit| (limit, file))).min_by_key(|(limit, _)| *limit)
}

/// The number after a name at the start of a line.
fn field<T: FromStr>(text: &str, name: &str) -> Option<T> {
    read::field(text, name)?.parse().ok()
}

fn list(file: &Path) -> Option<BTreeSet<u32>> {
    cpu_list(&read::text(file)?)
}

/// Reads the kernel's list format, `0-3,8,10-11`; `None` where it is empty or of another form.
#[must_use]
pub fn cpu_list(text: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse().ok()?, last.parse::<u32>().ok()?);
        // No kernel is built for more CPUs; a broken file must not fill our memory.
        if last >= 1 << 16 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests;

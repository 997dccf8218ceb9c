//! Memory and CPU of hosts, limited and counted, with version 1 or 2 of cgroups, whichever the machine has.
//!
//! Must not place anything outside `muster-lab-<id>` directories, which are the lab's to remove.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Doing, LabError, Result};
use crate::ids;

const ROOT: &str = "/sys/fs/cgroup";

/// How the machine arranges its controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

pub(crate) fn version() -> Version {
    if Path::new(ROOT).join("cgroup.controllers").exists() { Version::Two } else { Version::One }
}

/// What to limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) memory: Option<u64>,
    /// In CPUs.
    pub(crate) cpu: Option<f64>,
}

/// A host's cgroup; every process of the host starts in it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    memory: Option<PathBuf>,
    accounting: Option<PathBuf>,
    dirs: Vec<PathBuf>,
    joins: Vec<File>,
}

/// The controllers a host is put under, as directories of version 1's hierarchies or version 2's one tree.
fn hierarchies() -> Vec<(&'static str, PathBuf)> {
    let root = Path::new(ROOT);
    match version() {
        Version::Two => vec![("memory", root.to_path_buf())],
        Version::One => ["memory", "cpu", "cpuacct"]
            .into_iter()
            .map(|name| (name, root.join(name)))
            .filter(|(_, path)| path.join("cgroup.procs").exists())
            .collect(),
    }
}

fn lab_dir(hierarchy: &Path, id: &str) -> PathBuf {
    hierarchy.join(format!("muster-lab-{id}"))
}

impl Cgroup {
    pub(crate) fn new(lab: &str, host: &str, limits: Limits) -> Result<Self> {
        let mut group =
            Self { memory: None, accounting: None, dirs: Vec::new(), joins: Vec::new() };
        for (controller, hierarchy) in hierarchies() {
            let above = lab_dir(&hierarchy, lab);
            let dir = above.join(host);
            if fs::create_dir_all(&dir).is_err() {
                continue;
            }
            if version() == Version::Two {
                // Best effort: where a controller cannot be had, a limit that was asked for fails below.
                let _ = fs::write(hierarchy.join("cgroup.subtree_control"), "+memory +cpu");
                let _ = fs::write(above.join("cgroup.subtree_control"), "+memory +cpu");
            }
            let procs = dir.join("cgroup.procs");
            let join = OpenOptions::new()
                .write(true)
                .open(&procs)
                .doing(|| format!("open {}", procs.display()))?;
            group.joins.push(join);
            if controller == "memory" {
                group.memory = Some(dir.clone());
            }
            if controller == "cpuacct" || version() == Version::Two {
                group.accounting = Some(dir.clone());
            }
            group.dirs.push(dir);
        }
        if let Some(bytes) = limits.memory {
            let file =
                if version() == Version::Two { "memory.max" } else { "memory.limit_in_bytes" };
            group.set("memory", file, &bytes.to_string())?;
        }
        if let Some(cpus) = limits.cpu {
            let quota = (cpus * 100_000.0).round() as u64;
            match version() {
                Version::Two => group.set("cpu", "cpu.max", &format!("{quota} 100000"))?,
                Version::One => group.set("cpu", "cpu.cfs_quota_us", &quota.to_string())?,
            }
        }
        Ok(group)
    }

    fn set(&self, resource: &'static str, file: &str, value: &str) -> Result<()> {
        let path = self.dirs.iter().map(|dir| dir.join(file)).find(|path| path.exists());
        let path = path.ok_or_else(|| match ids::here().limited {
            true => LabError::OnlyRoot { what: format!("limit {resource}") },
            false => LabError::NoController { resource },
        })?;
        fs::write(&path, value).doing(|| format!("write {value} to {}", path.display()))
    }

    /// Descriptors of `cgroup.procs`; [`join`] uses them in a forked child.
    pub(crate) fn joins(&self) -> Result<Vec<File>> {
        self.joins
            .iter()
            .map(|file| file.try_clone().doing(|| "clone a cgroup descriptor".into()))
            .collect()
    }

    /// The directory that a container of this host would see as its own.
    pub(crate) fn memory_dir(&self) -> Option<&Path> {
        self.memory.as_deref()
    }

    /// How many processes the kernel's OOM killer has taken here.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let dir = self.memory.as_ref()?;
        let file = if version() == Version::Two { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(dir.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
    }

    /// The most memory the host has used, in bytes.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        let dir = self.memory.as_ref()?;
        let file =
            if version() == Version::Two { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
    }

    /// The CPU time, user and system, of every process that the host has had.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let dir = self.accounting.as_ref()?;
        match version() {
            Version::One => {
                let text = fs::read_to_string(dir.join("cpuacct.usage")).ok()?;
                Some(Duration::from_nanos(text.trim().parse().ok()?))
            }
            Version::Two => {
                let text = fs::read_to_string(dir.join("cpu.stat")).ok()?;
                let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
                Some(Duration::from_micros(used.trim().parse().ok()?))
            }
        }
    }
}

/// Moves the calling process into the cgroups. Safe between fork and exec: one write each.
pub(crate) fn join(procs: &[File]) -> io::Result<()> {
    for file in procs {
        nix::unistd::write(file.as_fd(), b"0")?;
    }
    Ok(())
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        for dir in &self.dirs {
            remove(dir, until);
        }
    }
}

/// Kills what is left in a lab's cgroups and removes them.
pub(crate) fn remove_lab(id: &str, limit: Duration) {
    let until = Instant::now() + limit;
    for (_, hierarchy) in hierarchies() {
        let above = lab_dir(&hierarchy, id);
        let Ok(hosts) = fs::read_dir(&above) else { continue };
        for host in hosts.flatten().filter(|entry| entry.path().is_dir()) {
            remove(&host.path(), until);
        }
        remove(&above, until);
    }
}

/// The kernel gives no event for "the last zombie has left", so this polls, for a short while.
fn remove(dir: &Path, until: Instant) {
    while fs::remove_dir(dir).is_err() && dir.exists() && Instant::now() < until {
        let pids = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_comes_and_goes() {
        let id = format!("test-{}", std::process::id());
        let group = Cgroup::new(&id, "one", Limits { memory: Some(64 << 20), cpu: None }).unwrap();
        let dir = group.memory_dir().unwrap().to_path_buf();
        assert!(dir.is_dir());
        assert_eq!(group.oom_kills(), Some(0));
        drop(group);
        remove_lab(&id, Duration::from_secs(1));
        assert!(!dir.exists());
        assert!(!dir.parent().unwrap().exists());
    }
}

//! What can be counted on this host when a rank has failed: OOM kills, full file systems.
//!
//! Must not guess from memory that looks tight; only what the kernel counted is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};
use serde::{Deserialize, Serialize};

use super::cgroup::hierarchies;
use super::host::{Roots, memory};

/// Bytes below which a file system counts as full: less than that a page or a log line may not fit.
const LEAST: u64 = 64 * 1024;

/// Where a job's files and shared memory are, mostly.
const PLACES: [&str; 3] = ["/dev/shm", "/tmp", "/"];

/// For all of them to tell how much room they have.
const LOOK: Duration = Duration::from_secs(1);

/// OOM kills, as the cgroup counted them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomKills {
    /// Processes that the kernel killed.
    pub kills: u64,
    /// The limit, bytes.
    pub limit: Option<u64>,
    /// The most that was in use, bytes.
    pub peak: Option<u64>,
}

/// Looks after the OOM counter of this process's own cgroup.
#[derive(Debug)]
pub struct OomCounter {
    roots: Roots,
    /// The file that counts, and the one that has the peak.
    files: Option<(PathBuf, PathBuf)>,
    seen: u64,
}

impl OomCounter {
    /// Counts from now on.
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        let files = hierarchies(&roots, "memory").iter().find_map(|hierarchy| {
            let own = hierarchy.directories.first()?;
            // memory.events of version 2 (Linux 4.19), memory.oom_control of version 1 (4.13).
            let (count, peak) = match hierarchy.version {
                2 => ("memory.events", "memory.peak"),
                _ => ("memory.oom_control", "memory.max_usage_in_bytes"),
            };
            kills(&own.join(count)).map(|_| (own.join(count), own.join(peak)))
        });
        let seen = files.as_ref().and_then(|(count, _)| kills(count)).unwrap_or(0);
        Self { roots, files, seen }
    }

    /// The kills since the last look, if there were any.
    pub fn look(&mut self) -> Option<OomKills> {
        let (count, peak) = self.files.as_ref()?;
        let now = kills(count)?;
        let fresh = now.checked_sub(self.seen).filter(|fresh| *fresh > 0)?;
        self.seen = now;
        let peak = fs::read_to_string(peak).ok().and_then(|text| text.trim().parse().ok());
        Some(OomKills { kills: fresh, limit: memory(&self.roots).limit, peak })
    }
}

fn kills(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The places of a job whose file system has no room left; none where that is not known in a moment.
pub async fn full() -> Vec<String> {
    // A network file system whose server is gone keeps a thread for as long as it likes.
    let look = tokio::task::spawn_blocking(|| full_of(&PLACES));
    tokio::time::timeout(LOOK, look).await.ok().and_then(Result::ok).unwrap_or_default()
}

fn full_of(paths: &[&str]) -> Vec<String> {
    let root = nix::unistd::geteuid().is_root();
    let is_full = |path: &str| statvfs(path).is_ok_and(|stat| has_no_room(&stat, root));
    paths.iter().filter(|path| is_full(path)).map(|path| (*path).to_owned()).collect()
}

/// A file system that cannot be written to has none by design: that is no trouble. Root may use what is
/// kept back from others.
fn has_no_room(stat: &Statvfs, root: bool) -> bool {
    let free = if root { stat.blocks_free() } else { stat.blocks_available() };
    let writable = !stat.flags().contains(FsFlags::ST_RDONLY);
    writable && stat.blocks() > 0 && free.saturating_mul(stat.fragment_size()) < LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_from_the_first_look_on() {
        for (version, mounts, cgroup, count, peak, limit) in [
            (
                2,
                "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
                "0::/a\n",
                "sys/fs/cgroup/a/memory.events",
                "sys/fs/cgroup/a/memory.peak",
                "sys/fs/cgroup/a/memory.max",
            ),
            (
                1,
                "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
                "4:memory:/a\n",
                "sys/fs/cgroup/memory/a/memory.oom_control",
                "sys/fs/cgroup/memory/a/memory.max_usage_in_bytes",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            write("proc/self/mountinfo", mounts);
            write("proc/self/cgroup", cgroup);
            write(count, "under_oom 0\noom 9\noom_kill 2\n");
            let roots = Roots::below(root.path());
            let mut counter = OomCounter::new(roots);
            assert_eq!(counter.look(), None, "version {version}");
            write(count, "under_oom 0\noom_kill 3\n");
            write(peak, "1048576\n");
            write(limit, "2097152\n");
            let kills = OomKills { kills: 1, limit: Some(2 << 20), peak: Some(1 << 20) };
            assert_eq!(counter.look(), Some(kills), "version {version}");
            assert_eq!(counter.look(), None);
        }
    }

    #[test]
    fn a_file_system_with_room_is_not_full() {
        assert!(full_of(&["/", "/no/such/place"]).is_empty());
    }

    #[test]
    fn what_has_no_blocks_has_nothing_to_fill() {
        assert!(full_of(&["/proc", "/sys"]).is_empty());
    }
}

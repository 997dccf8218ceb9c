//! What the kernel says of the machine's memory and of what this process may have.
//!
//! Must not judge whether it is enough.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::cgroup::unescaped;
use super::host::Roots;
use super::read;
use super::report::{Bound, HugePages, Limits, NumaNode, Shm};

/// The bit of CAP_IPC_LOCK in a set of capabilities.
const IPC_LOCK: u64 = 1 << 14;

/// The kernel's release, e.g. `6.1.0-18-amd64`.
pub(super) fn release(roots: &Roots) -> Option<String> {
    read::line(&roots.proc.join("sys/kernel/osrelease"))
}

/// The machine's NUMA nodes; one where it has none to tell apart.
pub(super) fn numa(roots: &Roots) -> Vec<NumaNode> {
    let directory = roots.sys.join("devices/system/node");
    let node = |name: String| {
        let node = name.strip_prefix("node")?.parse().ok()?;
        let directory = directory.join(name);
        let meminfo = read::text(&directory.join("meminfo")).unwrap_or_default();
        let total = meminfo.lines().find_map(|line| line.split_once("MemTotal:"));
        let total = total.and_then(|(_, rest)| kib(rest));
        Some(NumaNode { node, cpus: read::line(&directory.join("cpulist")), memory: total })
    };
    read::names(&directory).into_iter().filter_map(node).collect()
}

/// The bytes in `32780372 kB`.
fn kib(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The pools of huge pages that have any.
pub(super) fn huge_pages(roots: &Roots) -> Vec<HugePages> {
    let directory = roots.sys.join("kernel/mm/hugepages");
    let pool = |name: String| {
        let size = kib(name.strip_prefix("hugepages-")?.strip_suffix("kB")?)?;
        let directory = directory.join(&name);
        let total = read::number(&directory.join("nr_hugepages")).filter(|total| *total > 0)?;
        Some(HugePages { size, total, free: read::number(&directory.join("free_hugepages")) })
    };
    read::names(&directory).into_iter().filter_map(pool).collect()
}

/// The size of `/dev/shm`: asked of the kernel, or as a tree's mounts tell it.
pub(super) fn shm(roots: &Roots) -> Option<Shm> {
    if !roots.are_own() {
        let mounts = read::text(&roots.proc.join("self/mountinfo"))?;
        return mounts.lines().rev().find_map(mounted_shm);
    }
    let stat = statvfs(&roots.dev.join("shm")).ok()?;
    let bytes = |blocks: u64| blocks.checked_mul(stat.fragment_size());
    Some(Shm { total: bytes(stat.blocks())?, free: bytes(stat.blocks_available()) })
}

/// The size that a line of mountinfo gives `/dev/shm`.
fn mounted_shm(line: &str) -> Option<Shm> {
    let (fields, options) = line.split_once(" - ")?;
    if unescaped(fields.split(' ').nth(4)?) != "/dev/shm" {
        return None;
    }
    let size = options.split([' ', ',']).find_map(|option| option.strip_prefix("size="))?;
    Some(Shm { total: kib(size.strip_suffix('k')?)?, free: None })
}

/// The soft limits of this process (proc(5), `/proc/PID/limits`).
pub(super) fn limits(roots: &Roots) -> Limits {
    let text = read::text(&roots.proc.join("self/limits")).unwrap_or_default();
    let soft = |name: &str| {
        let values = text.lines().find_map(|line| line.strip_prefix(name))?;
        match values.split_ascii_whitespace().next()? {
            "unlimited" => Some(Bound::Unlimited),
            number => number.parse().ok().map(Bound::At),
        }
    };
    Limits {
        nofile: soft("Max open files"),
        nproc: soft("Max processes"),
        memlock: soft("Max locked memory"),
        stack: soft("Max stack size"),
    }
}

/// Whether CAP_IPC_LOCK is effective. In a user namespace of its own a process may have it and the
/// kernel still asks the machine's (`capable()` in `ib_umem_get` and `can_do_mlock`).
pub(super) fn ipc_lock(roots: &Roots) -> Option<bool> {
    let own = roots.proc.join("self");
    let status = read::text(&own.join("status"))?;
    let effective = u64::from_str_radix(read::field(&status, "CapEff:")?, 16).ok()?;
    Some(effective & IPC_LOCK != 0 && in_first_user_namespace(&own.join("uid_map")))
}

/// The machine's own user namespace maps every user to itself.
fn in_first_user_namespace(uid_map: &Path) -> bool {
    read::text(uid_map).is_none_or(|map| {
        map.split_ascii_whitespace().eq(["0", "0", "4294967295"]) || map.trim().is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::planted::machine;

    #[test]
    fn ipc_lock_counts_where_it_is_effective() {
        const HERE: &str = "         0          0 4294967295\n";
        const INSIDE: &str = "0 100000 65536\n";
        for (status, map, effective) in [
            ("CapPrm:\t0000003fffffffff\nCapEff:\t0000000000000000\n", HERE, Some(false)),
            ("CapEff:\t0000000000004000\n", HERE, Some(true)),
            ("CapEff:\t000001ffffffffff\n", INSIDE, Some(false)),
            ("CapEff:\tnonsense\n", HERE, None),
            ("", HERE, None),
        ] {
            let (_home, roots) =
                machine(&[("proc/self/status", status), ("proc/self/uid_map", map)]);
            assert_eq!(ipc_lock(&roots), effective, "{status} {map}");
        }
    }

    #[test]
    fn sizes() {
        let line = "40 30 0:36 / /dev/shm rw,nosuid shared:3 - tmpfs shm rw,size=65536k,inode64";
        assert_eq!(mounted_shm(line), Some(Shm { total: 64 << 20, free: None }));
        for line in [
            "",
            "40 30 0:36 / /dev rw - tmpfs udev rw,size=1k",
            "40 30 0:36 / /dev/shm rw - tmpfs s rw",
        ] {
            assert_eq!(mounted_shm(line), None, "{line}");
        }
        let (_home, roots) = machine(&[
            (
                "proc/self/limits",
                "Limit   Soft Limit  Hard Limit  Units\nMax locked memory   8388608   unlimited   bytes\nMax open files  x  y  files\nMax processes  unlimited unlimited processes\n",
            ),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n"),
            ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n"),
        ]);
        let expected = Limits {
            memlock: Some(Bound::At(8 << 20)),
            nproc: Some(Bound::Unlimited),
            ..Limits::default()
        };
        assert_eq!(limits(&roots), expected);
        assert_eq!(huge_pages(&roots), [HugePages { size: 2 << 20, total: 512, free: None }]);
    }

    #[test]
    fn this_machine_tells() {
        let roots = Roots::default();
        assert!(release(&roots).is_some() && limits(&roots).nofile.is_some());
        assert!(ipc_lock(&roots).is_some());
    }
}

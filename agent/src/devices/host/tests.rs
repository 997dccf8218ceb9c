//! Limits as real hosts and containers lay them out, in temporary trees.

use super::*;
use crate::devices::planted::machine;

const V2: &str = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";
const V1_CONTAINER: &str = "\
32 31 0:29 /docker/c1 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
35 31 0:32 /docker/c1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";
const EIGHT: (&str, &str) = ("sys/devices/system/cpu/online", "0-7\n");
const UNBOUND: (&str, &str) = ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-127\n");

struct Host {
    home: tempfile::TempDir,
    roots: Roots,
}

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let (home, roots) = machine(files);
        Self { home, roots }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }
}

#[test]
fn cpu_counts() {
    let quota = |file: &str| CpuBound::Quota(PathBuf::from(file));
    for (what, files, count, bound) in [
        ("a machine of its own", &[EIGHT, UNBOUND][..], 8.0, CpuBound::Online),
        (
            "taskset",
            &[EIGHT, ("proc/self/status", "Cpus_allowed_list:\t2-3,5\n")],
            3.0,
            CpuBound::Affinity { online: 8 },
        ),
        (
            "version 2 in a cgroup namespace",
            &[
                EIGHT,
                UNBOUND,
                ("proc/self/cgroup", "0::/\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
            ],
            1.5,
            quota("sys/fs/cgroup/cpu.max"),
        ),
        (
            "version 2, the parent's quota is smaller",
            &[
                EIGHT,
                UNBOUND,
                ("proc/self/cgroup", "0::/pods/a\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/pods/a/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/pods/cpu.max", "200000 100000\n"),
            ],
            2.0,
            quota("sys/fs/cgroup/pods/cpu.max"),
        ),
        (
            "version 2 cpuset",
            &[
                EIGHT,
                ("proc/self/cgroup", "0::/\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/cpuset.cpus.effective", "4-6\n"),
                ("sys/fs/cgroup/cpu.max", "400000 100000\n"),
            ],
            3.0,
            CpuBound::Affinity { online: 8 },
        ),
        (
            "version 1 on the host",
            &[
                EIGHT,
                UNBOUND,
                ("proc/self/cgroup", "4:memory:/m\n3:cpuset:/\n2:cpu,cpuacct:/u/s\n"),
                ("proc/self/mountinfo", V1),
                ("sys/fs/cgroup/cpu,cpuacct/u/s/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu,cpuacct/u/s/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/u/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/u/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpuset/cpuset.cpus", "\n"),
            ],
            0.5,
            quota("sys/fs/cgroup/cpu,cpuacct/u/cpu.cfs_quota_us"),
        ),
        (
            "version 1 in a container with the host's namespace",
            &[
                EIGHT,
                UNBOUND,
                ("proc/self/cgroup", "4:memory:/docker/c1\n2:cpu:/docker/c1\n0::/\n"),
                ("proc/self/mountinfo", V1_CONTAINER),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
            2.5,
            quota("sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
        ),
    ] {
        let host = Host::new(files);
        let bound = match bound {
            CpuBound::Quota(file) => CpuBound::Quota(host.home.path().join(file)),
            other => other,
        };
        assert_eq!(cpus(&host.roots), Some(Cpus { count, bound }), "{what}");
    }
    assert_eq!(cpus(&Host::new(&[]).roots), None);
}

#[test]
fn memory_limits() {
    const NONE_V1: &str = "9223372036854771712\n";
    let meminfo = ("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n");
    for (what, files, limit, limited_by, used, reclaimable) in [
        ("nothing known", &[meminfo][..], None, None, None, None),
        (
            "version 2 without a limit",
            &[
                meminfo,
                ("proc/self/cgroup", "0::/\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/memory.max", "max\n"),
                ("sys/fs/cgroup/memory.current", "77\n"),
                ("sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 7\n"),
            ],
            None,
            None,
            Some(77),
            Some(7),
        ),
        (
            "version 2, the pod's limit holds, and its use counts",
            &[
                meminfo,
                ("proc/self/cgroup", "0::/pod/c\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/pod/c/memory.max", "max\n"),
                ("sys/fs/cgroup/pod/c/memory.current", "10\n"),
                ("sys/fs/cgroup/pod/memory.max", "4096\n"),
                ("sys/fs/cgroup/pod/memory.current", "30\n"),
            ],
            Some(4096),
            Some("sys/fs/cgroup/pod/memory.max"),
            Some(30),
            None,
        ),
        (
            "version 1 in a container; the limit above is known by memory.stat only",
            &[
                meminfo,
                ("proc/self/cgroup", "4:memory:/docker/c1\n"),
                ("proc/self/mountinfo", V1_CONTAINER),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", NONE_V1),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "500\n"),
                (
                    "sys/fs/cgroup/memory/memory.stat",
                    "hierarchical_memory_limit 8192\ntotal_inactive_file 5\n",
                ),
            ],
            Some(8192),
            Some("sys/fs/cgroup/memory/memory.stat"),
            Some(500),
            Some(5),
        ),
        (
            "version 1 without a limit",
            &[
                meminfo,
                ("proc/self/cgroup", "4:memory:/\n"),
                ("proc/self/mountinfo", V1),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", NONE_V1),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "9\n"),
            ],
            None,
            None,
            Some(9),
            None,
        ),
    ] {
        let host = Host::new(files);
        let expected = Memory {
            total: Some(1000 * 1024),
            limit,
            limited_by: limited_by.map(|file| host.path(file)),
            used,
            reclaimable,
        };
        assert_eq!(memory(&host.roots), expected, "{what}");
    }
}

#[test]
fn cpu_lists() {
    for (text, cpus) in [
        ("0-3,8,10-11\n", Some(vec![0, 1, 2, 3, 8, 10, 11])),
        ("5", Some(vec![5])),
        ("\n", None),
        ("a-b", None),
        ("0-4294967295", None),
    ] {
        assert_eq!(cpu_list(text), cpus.map(|cpus| cpus.into_iter().collect()), "{text}");
    }
}

#[test]
fn this_host_has_a_name_and_a_cpu() {
    let roots = Roots::default();
    let name = nix::unistd::gethostname().unwrap();
    assert_eq!(hostname(&roots).as_deref(), name.to_str());
    let here = cpus(&roots).unwrap();
    assert!(here.count > 0.0, "{here:?}");
    assert!(memory(&roots).total.is_some());
}

//! Where the control groups of this process are in the file system.
//!
//! Must not interpret a limit; it hands out directories, the process's own first, then its parents'
//! up to the top that is visible from here.

use std::path::{Path, PathBuf};

use super::host::Roots;
use super::read;

/// The directories that hold one controller's files for this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Version 2, where one directory serves all controllers, or 1.
    pub(super) version: u8,
    /// From the process's own group up.
    pub(super) directories: Vec<PathBuf>,
}

/// One line of `/proc/self/mountinfo` that mounts control groups.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: u8,
    /// Which part of the hierarchy is mounted: `/` in a cgroup namespace or on the host.
    root: String,
    point: String,
    controllers: Vec<String>,
}

impl Mount {
    /// Reads one line (proc(5)); `None` for any other file system.
    fn parse(line: &str) -> Option<Self> {
        let (fields, options) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        let mut options = options.split(' ');
        let version = match options.next()? {
            "cgroup2" => 2,
            "cgroup" => 1,
            _ => return None,
        };
        let controllers = options.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Self { version, root, point, controllers })
    }
}

/// mountinfo writes blanks and backslashes in names as three octal digits.
pub(super) fn unescaped(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// The group of this process for `controller`, out of `/proc/self/cgroup`.
fn group<'a>(cgroup: &'a str, version: u8, controller: &str) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match version {
            2 => number == "0" && controllers.is_empty(),
            _ => controllers.split(',').any(|name| name == controller),
        };
        found.then_some(path)
    })
}

/// The group's path below the mount point.
///
/// The path in `/proc/self/cgroup` counts from the namespace's root, the mount may show only a part
/// of the hierarchy, and in a container with the host's cgroup namespace the two differ by the very
/// part that is mounted. A path outside of it leaves the mount point itself, which is then ours.
fn below<'a>(group: &'a str, root: &str) -> &'a str {
    let root = root.trim_end_matches('/');
    match group.strip_prefix(root) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let rest = rest.trim_matches('/');
            if rest.split('/').any(|part| part == "..") { "" } else { rest }
        }
        _ => "",
    }
}

/// Every hierarchy that has `controller` for this process, version 2 first. A host may mix both.
pub(super) fn hierarchies(roots: &Roots, controller: &str) -> Vec<Hierarchy> {
    let read = |name: &str| read::text(&roots.proc.join("self").join(name));
    let (Some(cgroup), Some(mounts)) = (read("cgroup"), read("mountinfo")) else {
        return Vec::new();
    };
    let mut found: Vec<Hierarchy> = mounts
        .lines()
        .filter_map(Mount::parse)
        .filter(|mount| {
            mount.version == 2 || mount.controllers.iter().any(|name| name == controller)
        })
        .filter_map(|mount| {
            let group = group(&cgroup, mount.version, controller)?;
            let top = roots.at(Path::new(&mount.point));
            let own = top.join(below(group, &mount.root));
            let own = if own.is_dir() { own } else { top.clone() };
            let directories = own
                .ancestors()
                .take_while(|directory| directory.starts_with(&top))
                .map(Path::to_owned)
                .collect();
            Some(Hierarchy { version: mount.version, directories })
        })
        .collect();
    found.sort_by_key(|hierarchy| std::cmp::Reverse(hierarchy.version));
    found
}

/// The version that limits this process: 2 where only that is mounted or holds the memory controller,
/// else 1.
pub(super) fn version(roots: &Roots) -> Option<u8> {
    let of = |controller| hierarchies(roots, controller).into_iter();
    of("memory").chain(of("cpu")).map(|hierarchy| hierarchy.version).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let mount = |version, root: &str, point: &str, controllers: &[&str]| {
            let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
            Some(Mount { version, root: root.to_owned(), point: point.to_owned(), controllers })
        };
        for (line, parsed) in [
            (
                "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate",
                mount(2, "/", "/sys/fs/cgroup", &["rw", "nsdelegate"]),
            ),
            (
                "35 31 0:32 /docker/a\\040b /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
                mount(1, "/docker/a b", "/sys/fs/cgroup/cpu,cpuacct", &["rw", "cpu", "cpuacct"]),
            ),
            ("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw", None),
            ("", None),
        ] {
            assert_eq!(Mount::parse(line), parsed, "{line}");
        }
    }

    #[test]
    fn groups() {
        let both = "9:name=systemd:/a\n4:memory:/m\n2:cpu,cpuacct:/c:d\n0::/u\n";
        for (version, controller, path) in [
            (2, "cpu", Some("/u")),
            (1, "cpu", Some("/c:d")),
            (1, "memory", Some("/m")),
            (1, "cpuset", None),
        ] {
            assert_eq!(group(both, version, controller), path, "{version} {controller}");
        }
    }

    #[test]
    fn paths_below_the_mount() {
        for (group, root, rest) in [
            ("/", "/", ""),
            ("/kubepods/pod1/c1", "/", "kubepods/pod1/c1"),
            ("/kubepods/pod1/c1", "/kubepods/pod1/c1", ""),
            ("/docker/c1/sub", "/docker/c1", "sub"),
            ("/docker/c10", "/docker/c1", ""),
            ("/../../other", "/", ""),
            ("/", "/../../kubepods/pod1", ""),
        ] {
            assert_eq!(below(group, root), rest, "{group} in {root}");
        }
    }
}

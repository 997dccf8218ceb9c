//! A snapshot of `/proc`: who descends from whom, and which process groups they form.
//!
//! Must not send a signal or keep state: a snapshot is old the moment it is taken, so whoever acts
//! on it checks the start time again (see `end`).

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// More than a `stat` has, bytes.
const STAT: usize = 1024;

/// More than most environments have, bytes; a job of Kubernetes has one variable for each service.
const ENVIRON: usize = 16 * 1024;

/// A process that stays the same even where its number is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The number.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

impl ProcessId {
    /// Looks the start time up; the process may be a zombie, but must not have been reaped.
    ///
    /// # Errors
    /// Where `/proc` does not have the process, or is not mounted.
    pub fn look_up(proc: &Path, pid: i32) -> io::Result<Self> {
        Process::read(proc, pid).map(|process| process.id)
    }
}

/// One line of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Which process.
    pub id: ProcessId,
    /// Its parent's number; 0 where the parent is outside the PID namespace.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// The kernel's letter for its state: `R`, `S`, `D`, `T`, `Z`, …
    pub state: u8,
    /// How many threads it has.
    pub threads: u32,
    /// CPU time in user mode and in the kernel, its waited-for children's included, clock ticks.
    pub cpu: u64,
    /// The program's name, cut to 15 bytes by the kernel; bytes that are not UTF-8 are replaced.
    pub comm: String,
}

impl Process {
    /// Reads one process.
    ///
    /// # Errors
    /// Where `/proc` does not have it, or is not mounted.
    pub fn read(proc: &Path, pid: i32) -> io::Result<Self> {
        let stat = text(&proc.join(pid.to_string()).join("stat"), STAT)?;
        Self::parse(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Reads `/proc/PID/stat`. The name may hold spaces and parentheses, so the last `)` ends it.
    fn parse(stat: &[u8]) -> Option<Self> {
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let pid = std::str::from_utf8(&stat[..open]).ok()?.trim().parse().ok()?;
        let comm = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
        let mut rest = std::str::from_utf8(&stat[close + 1..]).ok()?.split_ascii_whitespace();
        let state = *rest.next()?.as_bytes().first()?;
        let parent = rest.next()?.parse().ok()?;
        let group = rest.next()?.parse().ok()?;
        // The group was field 5; times are fields 14 to 17, threads 20, the start time 22.
        let mut ticks = |skip| rest.nth(skip)?.parse::<u64>().ok();
        let times = [ticks(8)?, ticks(0)?, ticks(0)?, ticks(0)?];
        let threads = rest.nth(2)?.parse().ok()?;
        let start = rest.nth(1)?.parse().ok()?;
        Some(Self {
            id: ProcessId { pid, start },
            parent,
            group,
            state,
            threads,
            cpu: times.iter().sum(),
            comm,
        })
    }

    /// Whether it has ended and only waits to be reaped: no signal reaches it any more.
    ///
    /// A main thread that called `pthread_exit` looks like a zombie too, while the others run on.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// All processes of one moment.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    processes: HashMap<i32, Process>,
    children: HashMap<i32, Vec<i32>>,
    vanished: usize,
}

impl Tree {
    /// Walks `proc` once. Processes that end meanwhile are left out, and counted.
    ///
    /// # Errors
    /// Where the directory itself cannot be read.
    pub fn read(proc: &Path) -> io::Result<Self> {
        let mut vanished = 0;
        let pids = fs::read_dir(proc)?.flatten().filter_map(|entry| {
            std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse::<i32>().ok()
        });
        let read = |pid| Process::read(proc, pid).inspect_err(|_| vanished += 1).ok();
        let mut tree: Self = pids.filter_map(read).collect();
        tree.vanished = vanished;
        Ok(tree)
    }

    /// How many processes were listed, but gone before they could be read: each may have left a
    /// child behind that started too late to be listed.
    #[must_use]
    pub fn vanished(&self) -> usize {
        self.vanished
    }

    /// The process with this number.
    #[must_use]
    pub fn get(&self, pid: i32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// CPU time of a process and everything that descends from it, clock ticks.
    #[must_use]
    pub fn cpu_below(&self, pid: i32) -> u64 {
        self.get(pid).into_iter().chain(self.descendants(pid)).map(|process| process.cpu).sum()
    }

    /// The very process, not another one that got its number.
    #[must_use]
    pub fn find(&self, id: ProcessId) -> Option<&Process> {
        self.get(id.pid).filter(|process| process.id == id)
    }

    /// Everything below `pid`, parents before their children, without `pid` itself.
    #[must_use]
    pub fn descendants(&self, pid: i32) -> Vec<&Process> {
        let mut found: Vec<&Process> = Vec::new();
        let mut seen = BTreeSet::from([pid]);
        let mut parents = vec![pid];
        while let Some(parent) = parents.pop() {
            for child in self.children.get(&parent).into_iter().flatten() {
                // A snapshot is not atomic: numbers used again could even form a ring.
                if seen.insert(*child) {
                    parents.push(*child);
                    found.extend(self.processes.get(child));
                }
            }
        }
        found
    }

    /// The parent, its parent, and so on, as far as the snapshot has them.
    pub fn ancestors(&self, pid: i32) -> impl Iterator<Item = &Process> {
        let parent = |pid: i32| self.get(pid).and_then(|process| self.get(process.parent));
        // The bound is for rings, as in `descendants`.
        std::iter::successors(parent(pid), move |process| parent(process.id.pid))
            .take(self.processes.len())
    }

    /// The process groups all of whose members satisfy `inside`.
    #[must_use]
    pub fn groups_within(&self, inside: impl Fn(&Process) -> bool) -> BTreeSet<i32> {
        let mut within = BTreeSet::new();
        let mut outside = BTreeSet::new();
        for process in self.processes.values() {
            if inside(process) { &mut within } else { &mut outside }.insert(process.group);
        }
        within.difference(&outside).copied().collect()
    }
}

impl FromIterator<Process> for Tree {
    fn from_iter<I: IntoIterator<Item = Process>>(processes: I) -> Self {
        let processes: HashMap<_, _> =
            processes.into_iter().map(|process| (process.id.pid, process)).collect();
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for process in processes.values() {
            children.entry(process.parent).or_default().push(process.id.pid);
        }
        Self { processes, children, vanished: 0 }
    }
}

/// The numbers of the direct children of `pid`; empty where the kernel does not list them.
#[must_use]
pub fn children(proc: &Path, pid: i32) -> Vec<i32> {
    let list = proc.join(format!("{pid}/task/{pid}/children"));
    let list = fs::read_to_string(list).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The environment that the process had when its program started: `NAME=value` entries.
///
/// `None` where it is gone, is another user's, or does not allow itself to be inspected. This can
/// block for as long as the kernel holds the process's memory lock (a hung driver): never call it
/// without a deadline around it.
#[must_use]
pub fn environ(proc: &Path, pid: i32) -> Option<Vec<u8>> {
    text(&proc.join(pid.to_string()).join("environ"), ENVIRON).ok()
}

/// The whole text of a file of `/proc`, of about so many bytes. Such a file fills what it is asked to fill,
/// so that less is its end: each look reads hundreds.
fn text(file: &Path, about: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    let mut text = vec![0; about];
    let mut length = 0;
    loop {
        match file.read(&mut text[length..]) {
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if length < text.len() {
            text.truncate(length);
            return Ok(text);
        }
        text.resize(length * 2, 0);
    }
}

/// The value of `name` in such an environment.
#[must_use]
pub fn variable<'a>(environ: &'a [u8], name: &str) -> Option<&'a [u8]> {
    environ
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A process whose start time is its number.
    pub(crate) fn process(pid: i32, parent: i32, group: i32, comm: &str) -> Process {
        let id = ProcessId { pid, start: pid.unsigned_abs().into() };
        Process { id, parent, group, state: b'S', threads: 1, cpu: 0, comm: comm.to_owned() }
    }

    fn pids<'a>(processes: impl IntoIterator<Item = &'a Process>) -> BTreeSet<i32> {
        processes.into_iter().map(|process| process.id.pid).collect()
    }

    #[test]
    fn stat_lines() {
        let tail = "1 42 42 0 -1 4194560 100 0 0 0 7 8 0 0 20 0 1 0 98765 1000 200";
        for (comm, read) in [("sh", "sh"), ("a) S 9 (b", "a) S 9 (b"), ("", "")] {
            let line = format!("77 ({comm}) Z {tail}");
            let process = Process::parse(line.as_bytes()).unwrap();
            assert_eq!(process.id, ProcessId { pid: 77, start: 98765 });
            assert_eq!((process.parent, process.group, process.comm.as_str()), (1, 42, read));
            assert!(process.ended());
        }
        let headless = format!("77 (sh) Z {}", tail.replace(" 20 0 1 0 ", " 20 0 4 0 "));
        let process = Process::parse(headless.as_bytes()).unwrap();
        assert!(!process.ended() && process.threads == 4);
        for broken in ["", "77", "77 (sh", "77 (sh) S 1", ") 77 ("] {
            assert_eq!(Process::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn descent() {
        let tree: Tree = [
            process(1, 0, 1, "init"),
            process(10, 1, 10, "muster"),
            process(11, 10, 11, "mpirun"),
            process(12, 11, 12, "rank"),
            process(13, 12, 12, "helper"),
            process(20, 1, 20, "other"),
            process(21, 20, 11, "stray"),
        ]
        .into_iter()
        .collect();
        assert_eq!(pids(tree.descendants(10)), BTreeSet::from([11, 12, 13]));
        assert_eq!(pids(tree.descendants(99)), BTreeSet::new());
        assert_eq!(pids(tree.ancestors(13)), BTreeSet::from([12, 11, 10, 1]));
        let job = pids(tree.descendants(10));
        let groups = tree.groups_within(|process| job.contains(&process.id.pid));
        assert_eq!(groups, BTreeSet::from([12]), "group 11 has a member outside");
        assert!(tree.find(ProcessId { pid: 12, start: 12 }).is_some());
        assert!(tree.find(ProcessId { pid: 12, start: 13 }).is_none());
    }

    #[test]
    fn a_ring_does_not_hang() {
        let tree: Tree = [process(2, 3, 2, "a"), process(3, 2, 2, "b")].into_iter().collect();
        assert_eq!(pids(tree.descendants(2)), BTreeSet::from([3]));
        assert_eq!(tree.ancestors(2).count(), 2);
    }

    #[test]
    fn variables() {
        let environ = b"PATH=/bin\0A=\0MUSTER_SESSION=s1\0AB=x=y\0";
        for (name, value) in [
            ("MUSTER_SESSION", Some(&b"s1"[..])),
            ("A", Some(b"")),
            ("AB", Some(b"x=y")),
            ("B", None),
            ("MUSTER", None),
        ] {
            assert_eq!(variable(environ, name), value, "{name}");
        }
    }

    #[test]
    fn files_of_any_length_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        for length in [0, 1, 7, 8, 9, 16, 100] {
            let file = dir.path().join("file");
            let written: Vec<u8> = (0..length).collect();
            fs::write(&file, &written).unwrap();
            assert_eq!(text(&file, 8).unwrap(), written);
        }
        let ours = i32::try_from(std::process::id()).unwrap();
        let real = Path::new("/proc");
        let whole = fs::read("/proc/self/environ").unwrap();
        for about in [1, 64, whole.len(), ENVIRON] {
            assert_eq!(text(Path::new("/proc/self/environ"), about).unwrap(), whole);
        }
        assert_eq!(environ(real, ours).unwrap(), whole);
    }

    #[test]
    fn this_process_is_in_the_real_proc() {
        let tree = Tree::read(Path::new("/proc")).unwrap();
        let us = i32::try_from(std::process::id()).unwrap();
        let found = tree.get(us).unwrap();
        assert_eq!(found.id, ProcessId::look_up(Path::new("/proc"), us).unwrap());
        assert_eq!(found.group, nix::unistd::getpgrp().as_raw());
    }
}

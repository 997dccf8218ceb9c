//! Samples of the machine's CPUs by perf, of those processes only that descend from this one: the lab's.
//!
//! Hardware counters are not asked for, which virtual machines seldom have. Must not leave perf running.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::Result;

/// Samples a second on each CPU.
const RATE: f64 = 2000.0;

/// For perf to begin: it looks at all processes first.
const BEGIN_MS: u16 = 20_000;

/// Samples by process and function.
pub(crate) struct Samples {
    counts: HashMap<(String, String), u64>,
    turns: usize,
}

/// Looks while `run` takes so many turns.
pub(crate) fn record(turns: usize, run: impl FnOnce() -> Result<()>) -> Result<Samples> {
    let dir = std::env::temp_dir().join(format!("bench-perf-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let read = Perf::begin(&dir).and_then(|perf| {
        let ran = run();
        let file = perf.end()?;
        ran?;
        read(&file, turns)
    });
    // What perf wrote is of no use to anybody else.
    let _ = std::fs::remove_dir_all(&dir);
    read
}

struct Perf {
    child: Child,
    data: PathBuf,
}

impl Perf {
    fn begin(dir: &Path) -> Result<Self> {
        let [data, tell, ack] = ["data", "tell", "ack"].map(|name| dir.join(name));
        for fifo in [&tell, &ack] {
            // One of the last record.
            let _ = std::fs::remove_file(fifo);
            mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        // Both ways, so that neither waits for perf to open its end.
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
        let (mut tell_end, ack_end) = (open(&tell)?, open(&ack)?);
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-a", "-e", "cpu-clock", "-F"]).arg(format!("{RATE}"));
        command.args(["-D", "-1", "-o"]).arg(&data);
        command.arg(format!("--control=fifo:{},{}", tell.display(), ack.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(missing)?;
        let mut perf = Self { child, data };
        tell_end.write_all(b"enable\n")?;
        match perf.acknowledged(ack_end) {
            Ok(()) => Ok(perf),
            Err(error) => {
                let _ = perf.child.kill();
                let _ = perf.child.wait();
                Err(error)
            }
        }
    }

    fn acknowledged(&mut self, mut ack: File) -> Result<()> {
        let mut fds = [PollFd::new(ack.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(BEGIN_MS))? == 0 {
            return Err("perf does not begin: is it allowed to sample all CPUs? \
                        hint: run as root, and see /proc/sys/kernel/perf_event_paranoid"
                .into());
        }
        // The first letter of "ack" says it all.
        Ok(ack.read_exact(&mut [0])?)
    }

    fn end(mut self) -> Result<PathBuf> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGINT)?;
        self.child.wait()?;
        Ok(self.data)
    }
}

fn missing(error: std::io::Error) -> String {
    format!("perf: {error}; hint: apt-get install linux-perf")
}

/// Has perf tell its samples, and counts them.
fn read(data: &Path, turns: usize) -> Result<Samples> {
    let mut command = Command::new("perf");
    command.args(["script", "--no-inline", "--show-task-events", "-i"]).arg(data);
    command.args(["-F", "comm,pid,tid,time,event,ip,sym,dso"]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(missing)?;
    let mut family = Family::new(std::process::id());
    let mut counts = HashMap::new();
    for line in BufReader::new(child.stdout.take().ok_or("no stdout")?).lines() {
        let line = line?;
        if let Some((when, event)) = line.split_once("PERF_RECORD_") {
            family.learn(event, when.trim_end().ends_with(" 0.000000:"));
        } else if let Some((pid, function)) = sampled(&line)
            && let Some(name) = family.name(pid)
        {
            *counts.entry((name, function)).or_insert(0) += 1;
        }
    }
    if !child.wait()?.success() {
        return Err("perf script failed".into());
    }
    Ok(Samples { counts, turns })
}

/// Its file's name may have more behind it; `rsh` is its link for Hydra.
fn is_muster(comm: &str) -> bool {
    comm.starts_with("muster") || comm == "rsh"
}

/// The process and the function of a line like `comm 12/13 1.5: cpu-clock:  ffff symbol (object)`.
fn sampled(line: &str) -> Option<(u32, String)> {
    let (who, what) = line.split_once(" cpu-clock:")?;
    let pid = who.split_whitespace().rev().nth(1)?.split_once('/')?.0.parse().ok()?;
    let (symbol, object) = what.trim().split_once(' ')?.1.rsplit_once(" (")?;
    let object = object.trim_end_matches(')').rsplit('/').next().unwrap_or_default();
    let function = match (symbol.trim(), object) {
        ("[unknown]", object) => format!("unknown, of {object}"),
        (symbol, _) => symbol.to_owned(),
    };
    Some((pid, function))
}

/// The processes that descend from one, with the names that they have at the time.
struct Family {
    root: u32,
    known: HashMap<u32, Process>,
}

struct Process {
    parent: u32,
    comm: String,
    /// Whether it was there before anything was looked at.
    old: bool,
    /// The name that it had before it ran what it was made to run; none where it does not yet.
    before: Option<String>,
}

impl Family {
    fn new(root: u32) -> Self {
        Self { root, known: HashMap::new() }
    }

    /// `FORK(child:tid):(parent:tid)` and `COMM exec: name:pid/tid`, without `exec` where a process names itself;
    /// `old` are those that perf tells at its begin.
    fn learn(&mut self, event: &str, old: bool) {
        if let Some(ids) = event.strip_prefix("FORK(") {
            let mut numbers = ids.split([':', '(', ')']).filter_map(|word| word.parse().ok());
            if let (Some(child), Some(_), Some(parent)) =
                (numbers.next(), numbers.next(), numbers.next())
                && child != parent
            {
                let of = self.known.get(&parent);
                let comm = of.map_or_else(String::new, |parent| parent.comm.clone());
                let process = Process { parent, comm, old, before: None };
                self.known.insert(child, process);
            }
        } else if let Some((words, id)) =
            event.strip_prefix("COMM").and_then(|rest| rest.rsplit_once(':'))
            && let Some((pid, tid)) = id.split_once('/')
            && pid == tid.trim()
            && let Some(process) = pid.parse().ok().and_then(|pid: u32| self.known.get_mut(&pid))
        {
            let (how, name) = words.split_once(": ").unwrap_or_default();
            let before = std::mem::replace(&mut process.comm, name.to_owned());
            if how.contains("exec") {
                process.before = Some(before);
                process.old = false;
            }
        }
    }

    /// What a process counts as; none for strangers.
    fn name(&self, pid: u32) -> Option<String> {
        let process = self.known.get(&pid)?;
        let own = self.descends(pid) && process.comm != "perf" && !process.comm.starts_with("lab-");
        own.then(|| match process.comm.as_str() {
            comm if is_muster(comm) => self.role(process).to_owned(),
            comm => format!("`{comm}`"),
        })
    }

    fn descends(&self, mut pid: u32) -> bool {
        // As deep as no tree of processes is.
        for _ in 0..64 {
            match self.known.get(&pid) {
                Some(process) if process.parent == self.root => return true,
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        false
    }

    /// One binary is all of these; who started it tells which.
    fn role(&self, process: &Process) -> &'static str {
        if process.old {
            return "`muster worker`";
        }
        let Some(parent) = self.known.get(&process.parent) else { return "`muster`" };
        match parent.comm.as_str() {
            // Split off, and not yet another program.
            comm if is_muster(comm) && process.before.is_none() => self.role(parent),
            _ if process.before.as_deref() == Some("sh") => "`muster launch`",
            "mpirun" | "mpiexec.hydra" | "mpiexec" | "hydra_bstrap_pr" => "`muster rsh`",
            "orted" | "prted" | "hydra_pmi_proxy" => "`muster rank`",
            "bench" => "`muster rsh`",
            _ => "`muster`",
        }
    }
}

impl Samples {
    /// CPU milliseconds a turn, the most first.
    pub(crate) fn by_process(&self) -> Vec<(String, f64)> {
        let mut sums = HashMap::new();
        for ((process, _), count) in &self.counts {
            *sums.entry(process.clone()).or_insert(0) += count;
        }
        self.sorted(sums)
    }

    /// The same of each function in each process.
    pub(crate) fn by_function(&self) -> Vec<((String, String), f64)> {
        self.sorted(self.counts.clone())
    }

    fn sorted<K: Ord>(&self, counts: HashMap<K, u64>) -> Vec<(K, f64)> {
        let ms = |count: u64| count as f64 / RATE * 1e3 / self.turns.max(1) as f64;
        let mut all: Vec<_> = counts.into_iter().map(|(key, count)| (key, ms(count))).collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_the_family_are_told_by_role() {
        let mut family = Family::new(10);
        family.learn("FORK(11:11):(10:10)", true);
        family.learn("COMM: muster:11/11", true);
        for event in [
            "FORK(12:12):(11:15)",
            "COMM exec: orted:12/12",
            "FORK(13:13):(12:12)",
            "COMM exec: muster:13/13",
            "FORK(13:14):(13:13)",
            "FORK(20:20):(1:1)",
        ] {
            family.learn(event, false);
        }
        let name = |pid| family.name(pid);
        assert_eq!(name(11).as_deref(), Some("`muster worker`"));
        assert_eq!(name(12).as_deref(), Some("`orted`"));
        assert_eq!(name(13).as_deref(), Some("`muster rank`"));
        assert_eq!(name(20), None);
    }

    #[test]
    fn a_line_has_process_and_function() {
        let line =
            " tokio-rt worker 12/13 62567.319271: cpu-clock:  ffff81 a::b<c d> ([kernel.kallsyms])";
        assert_eq!(sampled(line), Some((12, "a::b<c d>".to_owned())));
        let line = "  muster 7/7 1.2: cpu-clock:   7f31 [unknown] (/work/muster)";
        assert_eq!(sampled(line), Some((7, "unknown, of muster".to_owned())));
    }
}

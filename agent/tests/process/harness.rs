//! Runs cases in their own processes, and starts this binary in other parts.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use muster::process::end::end_sync;
use muster::process::scope::Scope;
use muster::process::tree::Tree;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that names the case to run.
pub(crate) const CASE: &str = "MUSTER_TEST_CASE";
/// The variable that names the part to play, perhaps with an argument after a colon.
pub(crate) const ROLE: &str = "MUSTER_TEST_ROLE";
/// No case takes longer, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(40);

pub(crate) type Case = (&'static str, fn());

/// Runs every case whose name contains one of the words given, as libtest would.
pub(crate) fn run_all(cases: &[Case]) {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    let chosen = cases
        .iter()
        .filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word)));
    let mut failed = Vec::new();
    // What a failed case leaves must not hold up whoever reads our output to its end.
    adopt();
    for (name, _) in chosen {
        let mut case = this().env(CASE, name).process_group(0).spawn().unwrap();
        let (done, late) = mpsc::channel::<()>();
        let group = Pid::from_raw(i32::try_from(case.id()).unwrap());
        let watchdog = std::thread::spawn(move || {
            if late.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
            }
        });
        let status = case.wait().unwrap();
        drop(done);
        watchdog.join().unwrap();
        end_sync(Scope::all_descendants(), Duration::ZERO).unwrap();
        println!("test {name} ... {}", if status.success() { "ok" } else { "FAILED" });
        if !status.success() {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        println!("\nfailed: {failed:?}");
        std::process::exit(101);
    }
}

pub(crate) fn this() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_remove(CASE).env_remove(ROLE);
    command
}

/// Makes this case adopt whatever the programs it starts leave behind, so that [`left`] sees it.
pub(crate) fn adopt() {
    prctl::set_child_subreaper(true).unwrap();
}

/// The descendants of this process that still run.
pub(crate) fn left() -> Vec<String> {
    let us = i32::try_from(std::process::id()).unwrap();
    let tree = Tree::read(Path::new("/proc")).unwrap();
    let running = tree.descendants(us).into_iter().filter(|process| !process.ended());
    running.map(|process| format!("{} {}", process.id.pid, process.comm)).collect()
}

/// Waits until no descendant is left, not even one that is adopted meanwhile.
pub(crate) fn wait_for_all() {
    while !matches!(nix::sys::wait::wait(), Err(nix::errno::Errno::ECHILD)) {}
}

/// A program that plays a part, and its lines.
pub(crate) struct Program {
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it in a session of its own, so without a terminal whatever runs the tests has.
    pub(crate) fn start(role: &str) -> Self {
        Self::run(this().env(ROLE, role))
    }

    pub(crate) fn run(command: &mut Command) -> Self {
        Self::run_with(command, Stdio::null())
    }

    pub(crate) fn run_with(command: &mut Command, stdin: Stdio) -> Self {
        // SAFETY: setsid is async-signal-safe and touches no memory.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                Ok(())
            });
        }
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it ended after {line:?}");
        line.trim_end().to_owned()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

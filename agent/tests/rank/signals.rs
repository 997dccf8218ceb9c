//! Signals: which reach the program, which stop it, and what ends with it.

use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{pid, program, rank, start, text};

#[test]
fn signals_reach_the_program_once() {
    let script = "n=0; trap 'n=$((n+1))' USR1 USR2 HUP INT ALRM; trap 'echo got $n; exit 5' TERM; \
                  echo READY; while :; do sleep 0.01; done";
    let (mut child, mut stdout) = start(&mut rank(&["--tag=none"], script));
    for signal in
        [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGINT, Signal::SIGALRM]
    {
        kill(pid(&child), signal).unwrap();
    }
    kill(pid(&child), Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "got 5\n");
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn ignored_signals_stay_ignored() {
    let script = "echo READY; read x; kill -HUP $$; echo alive";
    let mut command = rank(&["--tag=none"], script);
    command.stdin(Stdio::piped());
    // SAFETY: signal is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            nix::sys::signal::signal(Signal::SIGHUP, nix::sys::signal::SigHandler::SigIgn)?;
            Ok(())
        });
    }
    let (mut child, mut stdout) = start(&mut command);
    kill(pid(&child), Signal::SIGHUP).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "alive\n");
}

#[test]
fn what_was_ignored_is_ignored_by_the_program() {
    let look = "grep Sig[BI] /proc/self/status";
    for ignored in ["PIPE HUP CHLD WINCH", "USR1"] {
        // dash does not ignore SIGCHLD, whatever it is told.
        let script = format!(r#"trap '' {ignored}; {look}; exec "$0" rank --tag=none -- {look}"#);
        let mut command = Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_muster")]).env("PMI_RANK", "3");
        let output = command.output().unwrap();
        let lines: Vec<&str> = text(&output.stdout).lines().collect();
        let [blocked, ignored, wrapped @ ..] = lines.as_slice() else { panic!("{output:?}") };
        assert_eq!(wrapped, [*blocked, *ignored]);
        assert!(output.status.success());
    }
}

#[test]
fn signals_of_every_kind_reach_the_program() {
    // Python handles them by number. 34 is the first real-time signal to programs made with glibc.
    let script = "import signal, sys, time\n\
                  got = []\n\
                  wanted = [25, 26, 27, 28, 29, 30, 34, 40, 64]\n\
                  for n in wanted: signal.signal(n, lambda n, _: got.append(n))\n\
                  print('READY', flush=True)\n\
                  until = time.time() + 20\n\
                  while len(got) < len(wanted) and time.time() < until: time.sleep(0.01)\n\
                  print(sorted(got) == wanted, got)\n";
    let (mut child, mut stdout) = start(&mut program(&["--tag=none"], &["python3", "-c", script]));
    for signal in [25, 26, 27, 28, 29, 30, 34, 40, 64] {
        // SAFETY: kill touches no memory.
        assert_eq!(unsafe { nix::libc::kill(pid(&child).as_raw(), signal) }, 0);
    }
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("True"), "{rest}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn it_does_not_stop_for_a_program_that_handled_the_request() {
    let script = "trap 'echo handled' TSTP; echo READY; echo $$; while :; do sleep 0.01; done";
    let (mut child, mut stdout) = start(rank(&["--tag=none"], script).process_group(0));
    let mut line = || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    let program = Pid::from_raw(line().parse().unwrap());
    kill(pid(&child), Signal::SIGTSTP).unwrap();
    assert_eq!(line(), "handled");
    kill(program, Signal::SIGSTOP).unwrap();
    wait_for_state(program, 'T');
    kill(program, Signal::SIGCONT).unwrap();
    kill(program, Signal::SIGTSTP).unwrap();
    // It can only be heard to go on by a wrapper that goes on.
    assert_eq!(line(), "handled");
    kill(pid(&child), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

/// Waits until the kernel says so of a process.
fn wait_for_state(pid: Pid, state: char) {
    let wanted = format!("State:\t{state}");
    let begun = Instant::now();
    while !fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains(&wanted) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{pid} is not {state}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_stops_and_goes_on_with_the_program() {
    let mut command = rank(&["--tag=none"], "echo READY; read x; echo on");
    // A group of its own, whose parent is in this session: in an orphaned one, such as a runner's background
    // job, the kernel throws SIGTSTP away.
    let (mut child, mut stdout) = start(command.process_group(0).stdin(Stdio::piped()));
    kill(pid(&child), Signal::SIGTSTP).unwrap();
    let state = nix::sys::wait::waitpid(pid(&child), Some(nix::sys::wait::WaitPidFlag::WUNTRACED));
    assert!(matches!(state, Ok(nix::sys::wait::WaitStatus::Stopped(..))), "{state:?}");
    kill(pid(&child), Signal::SIGCONT).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "on\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_program_dies_with_the_wrapper_and_is_in_its_group() {
    let script = "echo READY; ps -o pgid= -p $$; echo $$; exec sleep 1000";
    let mut command = rank(&["--tag=none"], script);
    let (mut child, mut stdout) = start(command.process_group(0));
    let mut line = || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line.trim().parse::<i32>().unwrap()
    };
    assert_eq!(line(), pid(&child).as_raw(), "the group that mpirun will signal");
    let program = Pid::from_raw(line());
    let pidfd = program_fd(program);
    child.kill().unwrap();
    child.wait().unwrap();
    // Readable once it has ended.
    let mut ended =
        [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&pidfd), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut ended, 10_000u16), Ok(1), "{program} lives on");
}

fn program_fd(pid: Pid) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd as _;
    // SAFETY: a new descriptor of the kernel's, owned by nobody else.
    unsafe {
        let fd = nix::libc::syscall(nix::libc::SYS_pidfd_open, pid.as_raw(), 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        std::os::fd::OwnedFd::from_raw_fd(i32::try_from(fd).unwrap())
    }
}

//! The guarding parent below a shell with job control, on a real pseudo-terminal.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use nix::libc;
use nix::pty::openpty;
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, tcsetpgrp};

use crate::harness::{Case, ROLE, this};

pub(crate) const CASES: &[Case] = &[("terminal_keys_reach_the_child_once", keys)];

/// Starts the guarded program as a shell would, continues it once when it stops, and says so.
pub(crate) fn shell() {
    // SAFETY: ignoring runs no code; a shell must, or giving the terminal away would stop it.
    unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) }.unwrap();
    let out = std::io::stdout();
    let mut command = this();
    command.env(ROLE, "signals").process_group(0);
    let program = command.spawn().unwrap();
    let job = Pid::from_raw(i32::try_from(program.id()).unwrap());
    let terminal = std::io::stdin();
    tcsetpgrp(terminal.as_fd(), job).unwrap();
    writeln!(&out, "JOB {job}").unwrap();
    loop {
        match waitpid(job, Some(WaitPidFlag::WUNTRACED)).unwrap() {
            WaitStatus::Stopped(..) => {
                writeln!(&out, "STOPPED").unwrap();
                killpg(job, Signal::SIGCONT).unwrap();
            }
            WaitStatus::Exited(_, code) => return writeln!(&out, "EXITED {code}").unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

fn keys() {
    let pty = openpty(None, None).unwrap();
    let mut keyboard = File::from(pty.master);
    let mut command = this();
    command.env(ROLE, "shell").stdin(Stdio::from(pty.slave)).stdout(Stdio::piped());
    // SAFETY: setsid and this ioctl on standard input are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            Ok(())
        });
    }
    let mut shell = command.spawn().unwrap();
    let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut first = [lines.next().unwrap(), lines.next().unwrap()];
    first.sort_unstable();
    assert_eq!(first[1], "READY");
    let guard = Pid::from_raw(first[0].strip_prefix("JOB ").unwrap().parse().unwrap());

    let mut next = || lines.next().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    assert_eq!(next(), "SIGINT");
    keyboard.write_all(b"\x1a").unwrap();
    assert_eq!(next(), "STOPPED", "the shell sees the guard stop, as its child did");
    assert_eq!(next(), "SIGCONT");
    keyboard.write_all(b"\x1c").unwrap();
    // The guard may forward SIGCONT too, which does no harm; SIGINT and SIGQUIT twice would.
    let mut after = next();
    while after == "SIGCONT" {
        after = next();
    }
    assert_eq!(after, "SIGQUIT");
    kill(guard, Signal::SIGTERM).unwrap();
    let mut last = vec![next(), next()];
    last.retain(|line| line != "SIGCONT");
    last.extend(lines);
    assert_eq!(last, ["SIGTERM", "EXITED 0"]);
    assert!(shell.wait().unwrap().success());
}

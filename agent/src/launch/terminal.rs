//! Who owns the terminal: mpirun runs in a process group of its own, and on a terminal that group
//! must be the one in the foreground, or its first read stops it.
//!
//! Ctrl-Z then reaches mpirun and not us. The shell waits for the guard above this process, so the
//! guard is what is suspended in its stead; this process goes on, and with it the connections.
//!
//! Must do nothing where standard input is no terminal, or where muster itself is in the background.

use std::io::{IsTerminal, stdin};
use std::path::Path;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, killpg, pthread_sigmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgid, getpgrp, getppid, getsid, tcgetpgrp, tcsetpgrp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;

use crate::process::tree::Process;

/// The terminal, lent to another process group; taken back when dropped.
#[derive(Debug)]
pub struct Lent {
    group: Pid,
    attending: AbortHandle,
}

/// Lends the terminal to `group`, whose leader is a child of ours, and suspends the job as the group
/// is suspended; none where there is nothing to lend. Needs a runtime.
#[must_use]
pub fn lend(group: i32) -> Option<Lent> {
    let group = Pid::from_raw(group);
    if !stdin().is_terminal() || !is_foreground(getpgrp()) {
        return None;
    }
    tcsetpgrp(stdin(), group).ok()?;
    let attending = tokio::spawn(attend(group)).abort_handle();
    Some(Lent { group, attending })
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.attending.abort();
        take_back(self.group);
    }
}

/// Suspends and continues the job with `group`.
async fn attend(group: Pid) {
    let Ok(mut changes) = signal(SignalKind::child()) else { return };
    let continued = SignalKind::from_raw(Signal::SIGCONT as i32);
    let Ok(mut continued) = signal(continued) else { return };
    loop {
        tokio::select! {
            _ = changes.recv() => {
                if stopped(group) {
                    take_back(group);
                    if !suspend() {
                        resume(group);
                    }
                }
            }
            _ = continued.recv() => resume(group),
        }
    }
}

fn is_foreground(group: Pid) -> bool {
    tcgetpgrp(stdin()) == Ok(group)
}

/// Whether the group's leader has been stopped since the last look. Takes nothing from the reaper,
/// which waits for ends alone.
fn stopped(leader: Pid) -> bool {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    matches!(waitid(Id::Pid(leader), flags), Ok(WaitStatus::Stopped(..)))
}

/// Stops the guard, so that the shell sees a stopped job; false where no shell would continue it.
fn suspend() -> bool {
    let guard = getppid();
    let parent = Process::read(Path::new("/proc"), guard.as_raw()).map(|guard| guard.parent);
    let Ok(parent) = parent.map(Pid::from_raw) else { return false };
    // As the kernel has it for SIGTSTP: somebody in this session, outside this group, must be there.
    let has_shell = getsid(Some(parent)) == getsid(None) && getpgid(Some(parent)) != Ok(getpgrp());
    has_shell && kill(guard, Signal::SIGSTOP).is_ok()
}

/// Goes on: in the foreground with the terminal, in the background without.
fn resume(group: Pid) {
    if is_foreground(getpgrp()) {
        let _ = tcsetpgrp(stdin(), group);
    }
    // The group is gone only when mpirun has just ended.
    let _ = killpg(group, Signal::SIGCONT);
}

/// Takes the terminal back from `group`, if it still has it.
fn take_back(group: Pid) {
    if !is_foreground(group) {
        return;
    }
    // We are in the background now, where taking the terminal raises SIGTTOU.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTTOU);
    let mut before = SigSet::empty();
    let blocking = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut before));
    if blocking.is_ok() {
        let _ = tcsetpgrp(stdin(), getpgrp());
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    }
}

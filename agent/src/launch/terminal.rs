//! Who owns the terminal: mpirun runs in a process group of its own, and on a terminal that group
//! must be the one in the foreground, or its first read stops it.
//!
//! Must do nothing where standard input is no terminal, or where muster itself is in the background.

use std::io::{IsTerminal, stdin};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal, lent to another process group; taken back when dropped.
#[derive(Debug)]
pub struct Lent;

/// Lends the terminal to `group`; none where there is nothing to lend.
#[must_use]
pub fn lend(group: i32) -> Option<Lent> {
    let stdin = stdin();
    if !stdin.is_terminal() || tcgetpgrp(&stdin) != Ok(getpgrp()) {
        return None;
    }
    tcsetpgrp(&stdin, Pid::from_raw(group)).ok().map(|()| Lent)
}

impl Drop for Lent {
    fn drop(&mut self) {
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
}

//! The loop of a wrapper: read what the program writes, hand it on, notice its end. Where the worker reads
//! stdout itself, this only waits.
//!
//! Must not tag or write itself, and must not run while nothing happens.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};

use super::child::{Change, Program, change};
use super::outlet::{Outlet, Wanted};
use super::protocol::LINGER;
use super::signals::{self, Signals};
use crate::output::Stream;
use crate::output::clock::Micros;
use crate::output::split::{READ, Splitter};
use crate::process::status::WaitStatus;
use crate::process::usage::Usage;

/// Reads of one output that is full before the other, and signals, are looked at.
const READS: usize = 4;

/// How the program ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exit {
    /// Its status.
    pub status: WaitStatus,
    /// What it used.
    pub usage: Usage,
    /// From start to end.
    pub wall: Duration,
}

/// One of the program's outputs.
struct Source {
    stream: Stream,
    /// None once it is at its end, or nobody wants it any more.
    pipe: Option<OwnedFd>,
    splitter: Splitter,
}

/// What one read came to.
#[derive(PartialEq, Eq)]
enum Read {
    /// This many bytes.
    Some(usize),
    /// Nothing is there at the moment.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

impl Source {
    /// Whether it is open, and to be read here.
    fn is_own(&self, outlet: &Outlet) -> bool {
        let lent = self.stream == Stream::Out && outlet.lent();
        self.pipe.is_some() && !lent
    }

    fn read(&mut self, outlet: &mut Outlet) -> Read {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.is_own(outlet)) else {
            return Read::Closed;
        };
        let count = match nix::unistd::read(pipe, self.splitter.space()) {
            Ok(0) => return self.close(outlet),
            Ok(count) => count,
            Err(Errno::EAGAIN) => return Read::Nothing,
            Err(Errno::EINTR) => return Read::Some(0),
            Err(_) => return self.close(outlet),
        };
        outlet.keep(self.stream, self.splitter.filled(count));
        match self.hand_on(outlet) {
            Wanted::Yes => Read::Some(count),
            Wanted::No => Read::Closed,
        }
    }

    /// Shows the lines that have ended.
    fn hand_on(&mut self, outlet: &mut Outlet) -> Wanted {
        let time = Micros::from(SystemTime::now());
        let live = outlet.is_live(self.stream);
        let next = if live { Splitter::rest } else { Splitter::batch };
        while let Some(batch) = next(&mut self.splitter) {
            if outlet.show(self.stream, time, batch) == Wanted::No {
                // The program's next write tells it, as it would without a wrapper.
                self.pipe = None;
                return Wanted::No;
            }
        }
        Wanted::Yes
    }

    /// Bytes that are in the pipe now; none where it is closed.
    fn held(&self) -> Option<usize> {
        let mut held: libc::c_int = 0;
        let pipe = self.pipe.as_ref()?;
        // SAFETY: FIONREAD stores an int, and held is one.
        let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut held) };
        usize::try_from(held).ok().filter(|_| result == 0)
    }

    /// Reads what is in the pipe now, and keeps it without showing it, which may take time.
    fn take(&mut self, outlet: &mut Outlet) -> Vec<u8> {
        let mut bytes = vec![0; self.held().unwrap_or(0)];
        let read = self.pipe.as_ref().map(|pipe| nix::unistd::read(pipe, &mut bytes));
        bytes.truncate(read.and_then(Result::ok).unwrap_or(0));
        outlet.keep(self.stream, &bytes);
        bytes
    }

    /// Shows what was [taken](Self::take).
    fn show(&mut self, mut bytes: &[u8], outlet: &mut Outlet) {
        while !bytes.is_empty() {
            let space = self.splitter.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.splitter.filled(count);
            bytes = &bytes[count..];
            if self.hand_on(outlet) == Wanted::No {
                return;
            }
        }
    }

    /// Reads what is in the pipe now, and perhaps more.
    fn drain(&mut self, outlet: &mut Outlet) {
        self.drain_while(|_| true, outlet);
    }

    fn drain_while(&mut self, wanted: impl Fn(&Outlet) -> bool, outlet: &mut Outlet) {
        let Some(mut left) = self.held() else { return };
        // One look more, for the end of file.
        while wanted(outlet)
            && let Read::Some(count) = self.read(outlet)
        {
            if left == 0 {
                return;
            }
            left = left.saturating_sub(count);
        }
    }

    /// Hands on a last line without an end.
    fn close(&mut self, outlet: &mut Outlet) -> Read {
        self.pipe = None;
        if let Some(batch) = self.splitter.rest() {
            outlet.show(self.stream, Micros::from(SystemTime::now()), batch);
        }
        Read::Closed
    }
}

/// Runs until the program has ended and everything it wrote is handed on. `ended` hears of the end where the
/// worker still has to read stdout: what follows from a failure may end this process before that is done.
pub(super) fn run(
    program: Program,
    signals: &Signals,
    outlet: &mut Outlet,
    ended: impl FnOnce(&Exit, &mut Outlet),
) -> Exit {
    let [out, err] = program.pipes;
    let rule = outlet.rule();
    let source = |stream, pipe| Source { stream, pipe: Some(pipe), splitter: Splitter::new(rule) };
    let mut sources = [source(Stream::Out, out), source(Stream::Err, err)];
    let exit = loop {
        let [woken, heard, ready @ ..] = wait(signals, &sources, outlet, PollTimeout::NONE);
        if woken {
            signals.drain();
            match change(program.pid, signals) {
                Some(Change::Ended(status, usage)) => {
                    break Exit { status, usage, wall: program.started.elapsed() };
                }
                // A shell that stops its job waits for us to stop, and continues us; whoever stopped
                // the program alone will continue it alone.
                Some(Change::Stopped(Signal::SIGTSTP)) if signals::take_stop() => {
                    let _ = raise(Signal::SIGSTOP);
                }
                Some(Change::Stopped(_)) | None => {}
            }
        }
        read(&mut sources, ready, outlet);
        if heard {
            outlet.hear();
        }
        let [out, _] = &sources;
        if out.pipe.is_some() && out.splitter.is_empty() {
            outlet.lend();
        }
    };
    let mut taken = Vec::new();
    if outlet.lent() {
        let [_, err] = &mut sources;
        // Whoever kills this process soon finds it shown.
        err.drain_while(|outlet| !outlet.is_full(), outlet);
        // Nobody may be reading the lines, and a failure is told all the same.
        taken = err.take(outlet);
        ended(&exit, outlet);
    }
    outlet.finish();
    let [_, err] = &mut sources;
    err.show(&taken, outlet);
    for source in &mut sources {
        source.drain(outlet);
    }
    linger(&mut sources, signals, outlet);
    wait_for_worker(signals, outlet);
    for source in &mut sources {
        // The worker may have gone without reading all of stdout.
        source.drain(outlet);
        source.close(outlet);
    }
    exit
}

/// Reads on while children of the program hold its outputs open, but not for ever.
fn linger(sources: &mut [Source; 2], signals: &Signals, outlet: &mut Outlet) {
    let until = Instant::now() + LINGER;
    while sources.iter().any(|source| source.is_own(outlet)) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let [woken, heard, ready @ ..] = wait(signals, sources, outlet, rounded_up(left));
        if woken {
            signals.drain();
        }
        read(sources, ready, outlet);
        if heard {
            outlet.hear();
        }
    }
}

/// Waits until a worker that reads stdout has handed on all of it, as a write would wait for its reader.
fn wait_for_worker(signals: &Signals, outlet: &mut Outlet) {
    while outlet.lent() {
        let timeout = match outlet.patience() {
            Some(Duration::ZERO) => return,
            Some(left) => rounded_up(left),
            None => PollTimeout::NONE,
        };
        let [woken, heard, ..] = wait(signals, &[], outlet, timeout);
        if woken {
            signals.drain();
        }
        if heard {
            outlet.hear();
        }
    }
}

/// So that a wait does not end just before its time.
fn rounded_up(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}

fn read(sources: &mut [Source; 2], ready: [bool; 2], outlet: &mut Outlet) {
    for (source, ready) in sources.iter_mut().zip(ready) {
        // Where much is there, more is: a few reads spare the looks between them.
        for _ in 0..if ready { READS } else { 0 } {
            if outlet.is_full() || !matches!(source.read(outlet), Read::Some(READ)) {
                break;
            }
        }
    }
}

/// Waits for a signal, for a word of the worker, or for something to read: which of them it is.
fn wait(signals: &Signals, sources: &[Source], outlet: &Outlet, timeout: PollTimeout) -> [bool; 4] {
    let full = outlet.is_full();
    let source = |index: usize| {
        let source = sources.get(index).filter(|source| source.is_own(outlet) && !full)?;
        source.pipe.as_ref().map(AsFd::as_fd)
    };
    let fds = [Some(signals.as_fd()), outlet.link(), source(0), source(1), Some(signals.queued())];
    let mut entries = fds.map(|fd| match fd {
        Some(fd) => PollFd::new(fd, PollFlags::POLLIN),
        None => PollFd::new(signals.as_fd(), PollFlags::empty()),
    });
    if let (Some(link), true) = (outlet.link(), full) {
        entries[1] = PollFd::new(link, PollFlags::POLLIN | PollFlags::POLLOUT);
    }
    // EINTR: the signal has rung the bell as well, which the next call tells.
    match poll(&mut entries, timeout) {
        Ok(_) => {
            let [ready @ .., queued] = entries.map(|entry| entry.any().unwrap_or(true));
            if queued {
                signals.forward_queued();
            }
            ready
        }
        Err(_) => [false; 4],
    }
}

//! The loop of a wrapper: read what the program writes, hand it on, notice its end.
//!
//! Must not tag or write itself, and must not run while nothing happens.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::libc::{self, rusage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};

use super::child::{Change, Program, change};
use super::outlet::{Outlet, Wanted};
use super::signals::{self, Signals};
use crate::output::Stream;
use crate::output::clock::Micros;
use crate::output::split::{READ, Splitter};
use crate::process::status::WaitStatus;

/// How long others may go on writing to the program's pipes after its end: children that it left
/// behind. What it wrote itself is in the pipes by then, and is read whatever the time.
const LINGER: Duration = Duration::from_secs(1);

/// Reads of one output that is full before the other, and signals, are looked at.
const READS: usize = 4;

/// How the program ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exit {
    /// Its status.
    pub status: WaitStatus,
    /// What it used.
    pub usage: rusage,
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
    fn read(&mut self, outlet: &mut Outlet) -> Read {
        let Some(pipe) = &self.pipe else { return Read::Closed };
        let count = match nix::unistd::read(pipe, self.splitter.space()) {
            Ok(0) => return self.close(outlet),
            Ok(count) => count,
            Err(Errno::EAGAIN) => return Read::Nothing,
            Err(Errno::EINTR) => return Read::Some(0),
            Err(_) => return self.close(outlet),
        };
        let time = Micros::from(SystemTime::now());
        outlet.keep(self.stream, self.splitter.filled(count));
        while let Some(batch) = self.splitter.batch() {
            if outlet.show(self.stream, time, batch) == Wanted::No {
                // The program's next write tells it, as it would without a wrapper.
                self.pipe = None;
                return Read::Closed;
            }
        }
        Read::Some(count)
    }

    /// Reads what is in the pipe now, and perhaps more.
    fn drain(&mut self, outlet: &mut Outlet) {
        let mut held: libc::c_int = 0;
        let Some(pipe) = &self.pipe else { return };
        // SAFETY: FIONREAD stores an int, and held is one.
        if unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut held) } != 0 {
            return;
        }
        let mut left = usize::try_from(held).unwrap_or(0);
        // One look more, for the end of file.
        while let Read::Some(count) = self.read(outlet) {
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

/// Runs until the program has ended and everything it wrote is handed on.
pub(super) fn run(program: Program, signals: &Signals, outlet: &mut Outlet) -> Exit {
    let [out, err] = program.pipes;
    let rule = outlet.rule();
    let source = |stream, pipe| Source { stream, pipe: Some(pipe), splitter: Splitter::new(rule) };
    let mut sources = [source(Stream::Out, out), source(Stream::Err, err)];
    let exit = loop {
        let [woken, ready @ ..] = wait(signals, &sources, PollTimeout::NONE);
        if woken {
            signals.drain();
            match change(program.pid, signals) {
                Some(Change::Ended(status, usage)) => {
                    break Exit { status, usage, wall: program.started.elapsed() };
                }
                // A shell that stops its job waits for us to stop, and continues us; whoever stopped
                // the program alone will continue it alone.
                Some(Change::Stopped) if signals::take_stop() => drop(raise(Signal::SIGSTOP)),
                Some(Change::Stopped) | None => {}
            }
        }
        read(&mut sources, ready, outlet);
    };
    for source in &mut sources {
        source.drain(outlet);
    }
    linger(&mut sources, signals, outlet);
    for source in &mut sources {
        source.close(outlet);
    }
    exit
}

/// Reads on while children of the program hold its outputs open, but not for ever.
fn linger(sources: &mut [Source; 2], signals: &Signals, outlet: &mut Outlet) {
    let until = Instant::now() + LINGER;
    while sources.iter().any(|source| source.pipe.is_some()) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        // Rounded up, so that the wait does not end just before its time.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        let [woken, ready @ ..] = wait(signals, sources, timeout.unwrap_or(PollTimeout::MAX));
        if woken {
            signals.drain();
        }
        read(sources, ready, outlet);
    }
}

fn read(sources: &mut [Source; 2], ready: [bool; 2], outlet: &mut Outlet) {
    for (source, ready) in sources.iter_mut().zip(ready) {
        // Where much is there, more is: a few reads spare the looks between them.
        for _ in 0..if ready { READS } else { 0 } {
            if !matches!(source.read(outlet), Read::Some(READ)) {
                break;
            }
        }
    }
}

/// Waits for a signal, or for something to read: which of them it is.
fn wait(signals: &Signals, sources: &[Source; 2], timeout: PollTimeout) -> [bool; 3] {
    fn entry<'f>(source: &'f Source, signals: &'f Signals) -> PollFd<'f> {
        match &source.pipe {
            Some(pipe) => PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
            None => PollFd::new(signals.as_fd(), PollFlags::empty()),
        }
    }
    let woken = PollFd::new(signals.as_fd(), PollFlags::POLLIN);
    let mut entries = [woken, entry(&sources[0], signals), entry(&sources[1], signals)];
    // EINTR: the signal has rung the bell as well, which the next call tells.
    match poll(&mut entries, timeout) {
        Ok(_) => entries.map(|entry| entry.any().unwrap_or(true)),
        Err(_) => [false; 3],
    }
}

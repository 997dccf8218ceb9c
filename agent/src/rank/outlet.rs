//! Where a rank's lines go: own stdout and stderr, the worker, files; and what is kept of them.
//!
//! Must not read from the program or decide when it ends.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime};

use super::link::{Heard, Link};
use super::protocol::{Ended, Kind};
use super::{is_own_terminal, signals};
use crate::output::Stream;
use crate::output::clock::Micros;
use crate::output::files::RotatingFile;
use crate::output::split::{Batch, End, Rule};
use crate::output::stream::{Hurry, Shared};
use crate::output::tag::Tagger;
use crate::output::tail::Tail;
use crate::text::say;

// SAFETY: the runtime opens /dev/null for standard descriptors that were closed, and nothing here
// closes them.
const STDOUT: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(1) };
// SAFETY: as above.
const STDERR: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(2) };

/// Tagged bytes written at once, but for what a line has beyond them: less than a pipe holds.
const WRITE: usize = 60 * 1024;
/// What a slow reader gets when somebody wants this process to end.
const HASTE: Duration = Duration::from_secs(2);
/// Bytes of last lines that are kept for reports.
const TAIL: usize = 32 * 1024;
/// Bytes of a stream's last lines that are kept to be shown if the program fails. Up to twice as many are held,
/// of each stream, and all of the wrapper has to fit 3 MiB.
const QUIET_TAIL: usize = 64 * 1024;
/// Lines of stderr in the last report.
const TAIL_LINES: usize = 50;

/// Whether an output is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Go on.
    Yes,
    /// Nobody reads it any more: the program should find its pipe closed, too.
    No,
}

/// Where lines are shown.
#[derive(Debug)]
enum Show {
    /// On this process's own stdout and stderr, tagged here.
    Here,
    /// By the worker, or by the launcher behind it.
    Worker(Link),
    /// Not now; the last ones at the end, if the program fails.
    Held(Box<[Tail; 2]>),
    /// Nowhere: not one of the ranks that were asked for.
    Nowhere,
}

/// Who reads the program's stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// This process.
    Own,
    /// This process, though the worker would.
    Offered,
    /// The worker.
    Worker,
}

/// All outlets of one rank.
#[derive(Debug)]
pub(super) struct Outlet {
    show: Show,
    reader: Reader,
    /// The worker, while lines are held back from it.
    worker: Option<Link>,
    tagger: Tagger,
    own: [Own; 2],
    reports: Option<Link>,
    /// Whether the end has been told.
    reported: bool,
    files: [Option<RotatingFile>; 2],
    stderr_tail: Tail,
    hurry: Hurry<'static>,
    tagged: Vec<u8>,
}

/// Own stdout or stderr.
#[derive(Debug)]
struct Own {
    /// Whether writing to it has failed for good.
    lost: bool,
    /// Whether somebody watches it, and nothing is put between the program's bytes: then prompts and progress
    /// bars pass at once.
    live: bool,
    file: Shared<'static>,
}

/// Where a rank's reports and lines are to go.
#[derive(Debug)]
pub(super) struct Ways {
    /// The worker, for reports, if there is one.
    pub reports: Option<Link>,
    /// The worker, for lines; none: our own stdout and stderr.
    pub lines: Option<Link>,
    /// Whether anybody is to see the lines.
    pub shown: bool,
    /// How many last lines to show, only if it fails; none: all of them at once.
    pub quiet: Option<usize>,
    /// Where to keep them.
    pub files: [Option<RotatingFile>; 2],
}

impl Outlet {
    /// Outlets for lines that `tagger` tags.
    #[must_use]
    pub(super) fn new(tagger: Tagger, ways: Ways) -> Self {
        let Ways { reports, lines, shown, quiet, files } = ways;
        let plain = tagger.style().plain();
        let own = [STDOUT, STDERR].map(|fd| Own {
            lost: false,
            live: plain && is_own_terminal(fd),
            file: Shared::new(fd),
        });
        let tail = |lines| Tail::new(lines, QUIET_TAIL);
        let (show, worker) = match (shown, quiet, lines) {
            (false, ..) => (Show::Nowhere, None),
            (true, None, Some(link)) => (Show::Worker(link), None),
            (true, None, None) => (Show::Here, None),
            (true, Some(count), link) => {
                (Show::Held(Stream::BOTH.map(|_| tail(count)).into()), link)
            }
        };
        Self {
            show,
            reader: Reader::Own,
            worker,
            tagger,
            own,
            stderr_tail: Tail::new(TAIL_LINES, TAIL),
            reports,
            reported: false,
            files,
            hurry: Hurry::new(signals::hurry(), HASTE),
            tagged: Vec::new(),
        }
    }

    /// What ends a line. Lines that are shown elsewhere go there with every byte.
    pub(super) fn rule(&self) -> Rule {
        match &self.show {
            Show::Worker(_) => self.tagger.style().carried(),
            Show::Here | Show::Held(_) | Show::Nowhere => self.tagger.style().rule(),
        }
    }

    /// Where the worker may be [heard](Self::hear).
    pub(super) fn link(&self) -> Option<BorrowedFd<'_>> {
        match &self.show {
            Show::Worker(link) => Some(link.as_fd()),
            Show::Here | Show::Held(_) | Show::Nowhere => None,
        }
    }

    /// Takes in what the worker has said about stdout.
    pub(super) fn hear(&mut self) {
        let Show::Worker(link) = &self.show else { return };
        match link.hear() {
            Heard::Nothing => {}
            Heard::Offer => self.reader = Reader::Offered,
            Heard::Taken => self.reader = Reader::Own,
            Heard::Gone => self.without_worker(),
        }
    }

    /// Leaves the program's stdout to the worker, where that has offered to read it. The next byte
    /// must be a line's first.
    pub(super) fn lend(&mut self) {
        if self.reader == Reader::Offered && self.say(Kind::Take) {
            self.reader = Reader::Worker;
        }
    }

    /// Whether the worker reads stdout.
    pub(super) fn lent(&self) -> bool {
        self.reader == Reader::Worker
    }

    /// Whether showing stderr would wait for a worker that reads stdout. Who waits there notices no end.
    pub(super) fn is_full(&self) -> bool {
        matches!(&self.show, Show::Worker(link) if self.lent() && !link.has_room())
    }

    /// Tells a worker that reads stdout that the program has ended.
    pub(super) fn finish(&mut self) {
        if self.lent() {
            self.say(Kind::Finish);
        }
    }

    /// How long the worker may still take; none: as long as it likes.
    pub(super) fn patience(&mut self) -> Option<Duration> {
        self.hurry.left()
    }

    fn say(&mut self, word: Kind) -> bool {
        let Show::Worker(link) = &self.show else { return false };
        let said = link.say(word, &mut self.hurry).is_ok();
        if !said {
            self.without_worker();
        }
        said
    }

    /// From now on all is read and shown here.
    fn without_worker(&mut self) {
        (self.show, self.reader) = (Show::Here, Reader::Own);
    }

    /// Keeps bytes as they came, cut anywhere.
    pub(super) fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Err {
            self.stderr_tail.push(bytes);
        }
        let slot = &mut self.files[stream.index()];
        let Some(file) = slot else { return };
        if let Err(error) = file.write_all(bytes) {
            say(&format!("warning: stopped writing {}: {error}", file.path().display()));
            *slot = None;
        }
    }

    /// Whether bytes are to be shown as they come, and not only when their line has ended.
    pub(super) fn is_live(&self, stream: Stream) -> bool {
        matches!(self.show, Show::Here) && self.own[stream.index()].live
    }

    /// Shows lines.
    pub(super) fn show(&mut self, stream: Stream, time: Micros, batch: Batch<'_>) -> Wanted {
        match &mut self.show {
            Show::Here => self.print(stream, time, batch),
            Show::Worker(link) => match link.output(stream, time, batch, &mut self.hurry) {
                Ok(()) => Wanted::Yes,
                Err((unsent, _)) => {
                    self.without_worker();
                    self.print(stream, time, unsent)
                }
            },
            Show::Held(tails) => {
                tails[stream.index()].push(batch.bytes);
                Wanted::Yes
            }
            Show::Nowhere => Wanted::Yes,
        }
    }

    fn print(&mut self, stream: Stream, time: Micros, batch: Batch<'_>) -> Wanted {
        if self.own[stream.index()].lost {
            return Wanted::Yes;
        }
        if self.tagger.style().plain() {
            return self.own[stream.index()].write(stream, batch.bytes, &mut self.hurry);
        }
        let own = &mut self.own[stream.index()];
        let mut tagging = self.tagger.tag(batch, stream, time);
        loop {
            self.tagged.clear();
            let more = tagging.write(WRITE, &mut self.tagged);
            let wanted = own.write(stream, &self.tagged, &mut self.hurry);
            if !more || own.lost {
                return wanted;
            }
        }
    }

    /// Whether anybody is told how the program ends.
    pub(super) fn has_reports(&self) -> bool {
        self.reports.is_some()
    }

    /// Reports the end, once.
    pub(super) fn report(&mut self, ended: &mut Ended) {
        ended.stderr = String::from_utf8_lossy(self.stderr_tail.bytes()).into_owned();
        if let (Some(link), false) = (&self.reports, self.reported) {
            self.reported = true;
            link.end(ended);
        }
    }

    /// Shows what was held back where the program failed by itself, and reports the end.
    pub(super) fn end(&mut self, ended: &mut Ended) {
        let then = self.worker.take().map_or(Show::Here, Show::Worker);
        if let Show::Held(tails) = std::mem::replace(&mut self.show, then)
            && ended.failed_by_itself()
        {
            let time = Micros::from(SystemTime::now());
            for stream in Stream::BOTH {
                let bytes = tails[stream.index()].bytes();
                if !bytes.is_empty() {
                    self.show(stream, time, Batch { bytes, end: End::Eof });
                }
            }
        }
        self.report(ended);
    }
}

impl Own {
    fn write(&mut self, stream: Stream, bytes: &[u8], hurry: &mut Hurry<'_>) -> Wanted {
        let Err(error) = self.file.write_all(bytes, hurry) else { return Wanted::Yes };
        self.lost = true;
        match error.kind() {
            io::ErrorKind::BrokenPipe => Wanted::No,
            // Somebody wants an end and nobody reads: nothing is left to be said.
            io::ErrorKind::TimedOut => Wanted::Yes,
            _ => {
                say(&format!("warning: the rank's {} is lost from here: {error}", stream.name()));
                Wanted::Yes
            }
        }
    }
}

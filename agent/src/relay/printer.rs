//! Tags lines and writes them to stdout and stderr, from a thread of its own: a reader may be slow, and
//! nothing else may wait for it.
//!
//! Must not drop a line while somebody reads. Who sends waits in its queue's turn.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nix::fcntl::{FcntlArg, fcntl};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval, sleep_until};

use super::states::States;
use super::{Origin, Part, Piece, Source};
use crate::output::clock::Micros;
use crate::output::stream::{Hurry, Shared};
use crate::output::tag::{Format, Style, Tagger, Tagging};
use crate::output::tail::Tail;
use crate::output::{Identity, Returns, Stream};
use crate::process::interrupt::Interruptible;
use crate::rank::protocol::{Frame, Kind, read_payload};
use crate::text::say;

/// Pieces that may wait to be printed; each has up to 128 KiB of lines from a wrapper that is in haste.
const WAITING: usize = 32;

/// Tagged bytes written at once.
const WRITE: usize = 128 * 1024;

/// Of each rank's stderr, lines and bytes that are kept; and of how many ranks that have ended.
const TAIL: (usize, usize) = (50, 8 * 1024);
const KEPT: usize = 256;

/// Room in the pipe that stdout may be, bytes: what is written at once, twice, so that its reader and this
/// process seldom wait for each other.
const PIPE: i32 = 256 * 1024;

/// What a slow reader gets once somebody wants an end.
const HASTE: Duration = Duration::from_secs(2);

/// What is given beyond that to whoever sends lines, and then to the thread that prints them.
const OVERDUE: Duration = Duration::from_millis(500);
const STUCK: Duration = Duration::from_secs(1);

/// Between two attempts to end a write that blocks.
const AGAIN: Duration = Duration::from_millis(100);

/// Something for the printer.
#[derive(Debug)]
pub enum Print {
    /// A piece of what a wrapper shows.
    Piece(Origin, Piece),
    /// Whole lines that need no tag.
    Raw(Stream, Bytes),
    /// No more pieces come from there, whatever has not been closed.
    Gone(Origin),
    /// When everything before it has been printed, tell the last words of ranks.
    Flush(oneshot::Sender<Vec<LastWords>>),
}

/// The end of what a rank wrote to stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWords {
    /// Whose.
    pub of: Identity,
    /// The lines.
    pub lines: Vec<u8>,
}

/// Prints what hosts send, until dropped with all its queue's senders.
#[derive(Debug)]
pub struct Printer {
    queue: mpsc::Sender<Print>,
    hurried: Arc<AtomicBool>,
    /// Since when.
    asked: watch::Sender<Option<Instant>>,
    thread: Arc<Interruptible>,
}

/// The printer's thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("start the thread that prints: {0}")]
pub struct PrinterError(#[source] io::Error);

impl crate::exit::Explain for PrinterError {
    fn class(&self) -> crate::exit::Class {
        crate::exit::Class::LocalResource
    }

    fn hint(&self) -> Option<String> {
        Some("raise the limit on processes (ulimit -u, or the container's pids limit)".into())
    }
}

impl Printer {
    /// Starts one; `deaf` is called when nobody reads stdout any more.
    ///
    /// # Errors
    /// The process may have no more threads.
    pub fn start(deaf: impl FnOnce() + Send + 'static) -> Result<Self, PrinterError> {
        let (queue, inbox) = mpsc::channel(WAITING);
        let hurried = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&hurried);
        let print = move || Printing::new(&asked, Box::new(deaf)).run(inbox);
        let thread = Interruptible::spawn("printer", print).map_err(PrinterError)?;
        let asked = watch::Sender::new(None);
        Ok(Self { queue, hurried, asked, thread: Arc::new(thread) })
    }

    /// Where to send what is to be printed.
    #[must_use]
    pub fn queue(&self) -> mpsc::Sender<Print> {
        self.queue.clone()
    }

    /// From now on, all that is left to be printed may take two seconds and no more. Needs a runtime.
    pub fn hurry(&self) {
        if self.hurried.swap(true, Ordering::Relaxed) {
            return;
        }
        self.asked.send_replace(Some(Instant::now()));
        let thread = Arc::clone(&self.thread);
        tokio::spawn(async move {
            let mut again = interval(AGAIN);
            while !thread.is_finished() {
                again.tick().await;
                thread.interrupt();
            }
        });
    }

    /// Resolves when it was told to hurry and the time for that is over.
    pub async fn overdue(&self) {
        self.late(OVERDUE).await;
    }

    async fn late(&self, beyond: Duration) {
        let mut asked = self.asked.subscribe();
        // The sender lives in self, so waiting cannot fail.
        let since = asked.wait_for(Option::is_some).await.ok().and_then(|since| *since);
        sleep_until(since.unwrap_or_else(Instant::now) + HASTE + beyond).await;
    }

    /// Whether something waits for the reader of stdout or stderr.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.queue.capacity() < self.queue.max_capacity()
    }

    /// Resolves when everything that was sent before is printed, with the last words of ranks; with none where
    /// it is in haste and stuck.
    pub async fn flush(&self) -> Vec<LastWords> {
        let (told, printed) = oneshot::channel();
        let all = async {
            if self.queue.send(Print::Flush(told)).await.is_err() {
                return Vec::new();
            }
            // A thread that panicked has said so.
            printed.await.unwrap_or_default()
        };
        tokio::select! {
            last_words = all => last_words,
            () = self.late(STUCK) => Vec::new(),
        }
    }
}

/// The state of the printing thread.
struct Printing<'a> {
    deaf: Option<Box<dyn FnOnce() + Send>>,
    hurry: Hurry<'a>,
    ranks: HashMap<(Origin, Source), Rank>,
    /// Of ranks that have ended, the latest last.
    last_words: VecDeque<LastWords>,
    files: [File; 2],
    tagged: Vec<u8>,
}

struct Rank {
    tagger: Tagger,
    stderr: Tail,
    states: [States; 2],
    /// When the latest of its lines was read.
    last: Micros,
}

impl Rank {
    fn last_words(&self) -> Option<LastWords> {
        let lines = self.stderr.bytes().to_vec();
        (!lines.is_empty()).then(|| LastWords { of: self.tagger.identity().clone(), lines })
    }
}

struct File {
    file: Shared<'static>,
    /// Whether writing to it has failed for good.
    lost: bool,
}

impl<'a> Printing<'a> {
    fn new(hurried: &'a AtomicBool, deaf: Box<dyn FnOnce() + Send>) -> Self {
        // SAFETY: the runtime opens /dev/null for standard descriptors that were closed, and nothing
        // here closes them.
        let files = [1, 2].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
        // Only speed is at stake; it fails on anything but a pipe.
        let _ = fcntl(files[0], FcntlArg::F_SETPIPE_SZ(PIPE));
        Self {
            deaf: Some(deaf),
            hurry: Hurry::new(hurried, HASTE),
            ranks: HashMap::new(),
            last_words: VecDeque::new(),
            files: files.map(|fd| File { file: Shared::new(fd), lost: false }),
            tagged: Vec::new(),
        }
    }

    fn run(mut self, mut inbox: mpsc::Receiver<Print>) {
        while let Some(next) = inbox.blocking_recv() {
            match next {
                Print::Piece(origin, Piece { source, part: Part::Frame(kind, payload) }) => {
                    self.frame((origin, source), kind, &payload);
                }
                Print::Piece(origin, Piece { source, part: Part::Closed }) => {
                    let mut ended = self.ranks.remove(&(origin, source));
                    if let Some(rank) = &mut ended {
                        self.rest(rank);
                    }
                    self.last_words.extend(ended.and_then(|rank| rank.last_words()));
                    if self.last_words.len() > KEPT {
                        self.last_words.pop_front();
                    }
                }
                Print::Gone(origin) => {
                    let gone = self.ranks.extract_if(|(of, _), _| *of == origin);
                    for (_, mut rank) in gone.collect::<Vec<_>>() {
                        self.rest(&mut rank);
                    }
                }
                Print::Raw(stream, bytes) => {
                    self.files[stream.index()].write(stream, &bytes, &mut self.hurry);
                    self.notice_a_lost_stdout();
                }
                Print::Flush(told) => {
                    let running = self.ranks.values().filter_map(Rank::last_words);
                    drop(told.send(self.last_words.iter().cloned().chain(running).collect()));
                }
            }
        }
    }

    /// Prints the states of lines that nothing has ended.
    fn rest(&mut self, rank: &mut Rank) {
        let Rank { tagger, states, last, .. } = rank;
        for stream in Stream::BOTH {
            if let Some(batch) = states[stream.index()].rest() {
                let file = &mut self.files[stream.index()];
                let tagging = tagger.tag(batch, stream, *last);
                file.tag(tagging, stream, &mut self.tagged, &mut self.hurry);
            }
        }
    }

    fn notice_a_lost_stdout(&mut self) {
        if self.files[Stream::Out.index()].lost
            && let Some(deaf) = self.deaf.take()
        {
            deaf();
        }
    }

    fn frame(&mut self, of: (Origin, Source), kind: Kind, payload: &Bytes) {
        match read_payload(kind, payload) {
            Ok(Frame::Hello(hello)) => {
                match Tagger::new(hello.identity.unwrap_or_default(), hello.style) {
                    Ok(tagger) => {
                        let stderr = Tail::new(TAIL.0, TAIL.1);
                        let states = Default::default();
                        let last = Micros(0);
                        self.ranks.insert(of, Rank { tagger, stderr, states, last });
                    }
                    Err(error) => tracing::warn!(%error, "a rank's lines are not shown"),
                }
            }
            Ok(Frame::Output(stream, time, batch)) => {
                let Some(rank) = self.ranks.get_mut(&of) else { return };
                let Rank { tagger, stderr, states, last } = rank;
                if stream == Stream::Err {
                    stderr.push(batch.bytes);
                }
                *last = time;
                let file = &mut self.files[stream.index()];
                let shown = match tagger.style().returns {
                    Returns::Keep => Some(batch),
                    Returns::Collapse => {
                        let Style { format, max_line, .. } = tagger.style();
                        // Of JSON, every byte can be had back.
                        let longest = if *format == Format::Json { 0 } else { *max_line };
                        states[stream.index()].pass(batch, longest)
                    }
                };
                if tagger.style().plain() {
                    file.write(stream, batch.bytes, &mut self.hurry);
                } else if let Some(batch) = shown {
                    let tagging = tagger.tag(batch, stream, time);
                    file.tag(tagging, stream, &mut self.tagged, &mut self.hurry);
                }
                self.notice_a_lost_stdout();
            }
            Ok(Frame::End(_) | Frame::Ask(_) | Frame::Answer(_) | Frame::Word(_)) => {}
            Err(error) => tracing::warn!(%error, "a piece of a rank's output is not shown"),
        }
    }
}

impl File {
    fn tag(
        &mut self,
        mut tagging: Tagging<'_, '_>,
        stream: Stream,
        tagged: &mut Vec<u8>,
        hurry: &mut Hurry<'_>,
    ) {
        loop {
            tagged.clear();
            let more = tagging.write(WRITE, tagged);
            self.write(stream, tagged, hurry);
            if !more || self.lost {
                return;
            }
        }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8], hurry: &mut Hurry<'_>) {
        if self.lost {
            return;
        }
        // What this process says itself must not stand inside a line.
        let result = match stream {
            Stream::Out => {
                let _turn = io::stdout().lock();
                self.file.write_all(bytes, hurry)
            }
            Stream::Err => {
                let _turn = io::stderr().lock();
                self.file.write_all(bytes, hurry)
            }
        };
        let Err(error) = result else { return };
        self.lost = true;
        if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::TimedOut) {
            let name = stream.name();
            say(&format!("warning: what ranks write to {name} is lost from here: {error}"));
        }
    }
}

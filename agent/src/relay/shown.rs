//! What one wrapper shows, from its frames or, where it lends us the program's stdout, from that pipe.
//!
//! Every byte from the pipe is copied two times less than one that a wrapper sends, see docs/adr/0015. Must
//! not read a pipe while its wrapper does.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::desk::Outlets;
use super::frames::Frames;
use super::pipe::{LONGEST, Pipe};
use super::printer::Print;
use super::{Part, Piece, Source};
use crate::output::tag::Format;
use crate::output::{Returns, Stream};
use crate::rank::protocol::{Hello, Kind, LINGER, Output, ProtocolError, header};

/// For a program whose wrapper was killed to be dead, too.
const DEATH: Duration = Duration::from_millis(100);

/// What a wrapper shows, and where to.
pub(super) struct Shown<'o> {
    pub source: Source,
    /// As it was read, and as it came.
    pub hello: (Hello, Bytes),
    pub outlets: &'o Outlets,
}

/// What has come.
enum Next {
    Frame(Result<Option<(Kind, Bytes)>, ProtocolError>),
    /// Of the pipe; none: it is at its end.
    Lines(Option<Bytes>),
}

impl Shown<'_> {
    /// Hands on everything, until the wrapper has left or nobody wants it.
    pub(super) async fn carry(
        self,
        mut stream: UnixStream,
        mut frames: Frames,
        pipes: Vec<OwnedFd>,
    ) {
        let (hello, _) = &self.hello;
        let rule = hello.style.carried();
        let mut pipes = pipes.into_iter();
        let mut pipes = Stream::BOTH.map(|stream| Some((pipes.next()?, stream)));
        let mut stdout = None;
        let mut wanted = self.greet().await;
        if hello.lends && pipes[0].is_some() && rule.max_line <= LONGEST {
            say(&stream, Kind::Offer);
        }
        while wanted {
            let next = tokio::select! {
                frame = frames.next(&mut stream) => Next::Frame(frame),
                lines = next_lines(&mut stdout) => Next::Lines(lines),
            };
            match next {
                Next::Frame(Ok(Some((kind @ (Kind::Stdout | Kind::Stderr), lines)))) => {
                    wanted = self.lines(kind, lines).await;
                }
                Next::Frame(Ok(Some((Kind::Take, _)))) => {
                    let open = |(pipe, stream)| Pipe::open(pipe, stream, rule);
                    stdout = pipes[0].take().and_then(open);
                    // It reads on where we cannot.
                    wanted = stdout.is_some();
                }
                Next::Frame(Ok(Some((Kind::Finish, _)))) => {
                    if let Some(stdout) = &mut stdout {
                        stdout.finish(LINGER);
                    }
                }
                Next::Frame(Ok(None)) => break,
                // It lives, and reads its pipes itself.
                Next::Frame(Ok(Some(_))) => wanted = false,
                Next::Frame(Err(error)) => {
                    tracing::warn!(%error, "turned a wrapper away");
                    wanted = false;
                }
                Next::Lines(Some(lines)) => {
                    wanted = self.lines(Kind::Stdout, lines).await;
                }
                Next::Lines(None) => {
                    stdout = None;
                    say(&stream, Kind::Taken);
                }
            }
        }
        // What a killed wrapper has left. One that lives has read its pipes to the end.
        let open = |(pipe, stream)| Pipe::open(pipe, stream, rule);
        let [out, err] = pipes.map(|pipe| if wanted { pipe.and_then(open) } else { None });
        for (pipe, kind) in [(stdout.or(out), Kind::Stdout), (err, Kind::Stderr)] {
            let Some(mut pipe) = pipe else { continue };
            pipe.finish(DEATH);
            while wanted {
                let Some(lines) = pipe.next().await else { break };
                wanted = self.lines(kind, lines).await;
            }
        }
        self.send(Part::Closed).await;
    }

    async fn lines(&self, kind: Kind, lines: Bytes) -> bool {
        self.outlets.roll.wrote();
        self.send(Part::Frame(kind, lines)).await
    }

    /// Tells the printers how lines look; the same to both, but that a pod's log is no terminal, which the
    /// launcher may have.
    async fn greet(&self) -> bool {
        let (hello, payload) = &self.hello;
        let for_log = match (hello.output, serde_json::to_vec(&for_log(hello.clone()))) {
            (Output::Both, Ok(hello)) => Bytes::from(hello),
            _ => payload.clone(),
        };
        for (outlet, hello) in self.to().into_iter().zip([payload.clone(), for_log]) {
            if !self.send_to(outlet, Part::Frame(Kind::Hello, hello)).await {
                return false;
            }
        }
        true
    }

    /// Whether anybody is left to show it.
    async fn send(&self, part: Part) -> bool {
        for outlet in self.to() {
            if !self.send_to(outlet, part.clone()).await {
                return false;
            }
        }
        true
    }

    async fn send_to(&self, outlet: Option<&mpsc::Sender<Print>>, part: Part) -> bool {
        let Some(outlet) = outlet else { return true };
        let piece = Piece { source: self.source, part };
        outlet.send(Print::Piece(self.outlets.origin, piece)).await.is_ok()
    }

    /// The launcher's queue, and this pod's.
    fn to(&self) -> [Option<&mpsc::Sender<Print>>; 2] {
        let (hello, _) = &self.hello;
        let launcher = hello.shown.then_some(&self.outlets.launcher);
        match (hello.output, &self.outlets.pod) {
            (Output::Pod, Some(pod)) => [None, Some(pod)],
            (Output::Both, Some(pod)) => [launcher, Some(pod)],
            (Output::Launcher | Output::Mpirun, _) | (Output::Pod | Output::Both, None) => {
                [launcher, None]
            }
        }
    }
}

/// Without colours, and with the last state of a line only. Lines without a tag stay as they are.
fn for_log(mut hello: Hello) -> Hello {
    hello.style.color = false;
    if hello.style.format != Format::None {
        hello.style.returns = Returns::Collapse;
    }
    hello
}

/// Of a pipe that is read here; otherwise this waits for ever.
async fn next_lines(pipe: &mut Option<Pipe>) -> Option<Bytes> {
    match pipe {
        Some(pipe) => pipe.next().await,
        None => std::future::pending().await,
    }
}

/// Says a word to the wrapper. Nothing else goes this way, so there is room; and that a wrapper is gone, its
/// frames tell.
fn say(stream: &UnixStream, word: Kind) {
    let _ = stream.try_write(&header(word, 0));
}

//! What a wrapper tells the worker of its host, over the worker's unix socket.
//!
//! It connects twice: reports (hello, end) never wait behind lines (hello, stdout, stderr). With the hello of
//! the second come the program's pipes: the worker may read stdout in the wrapper's stead, and reads what a
//! killed wrapper has left. Frames: one byte of kind, four of length (big-endian), the payload. The worker
//! closes the socket when it has enough. A connection before those two asks which GPUs the rank gets: one
//! frame there, one back. Must not touch a socket itself.
//!
//! ```text
//! kind  payload
//! 1     hello   JSON, always first
//! 2     stdout  8 bytes of time (microseconds since 1970, big-endian), 1 byte of end
//! 3     stderr  (0 whole lines, 1 the last line was cut, 2 the last line has no end), raw lines
//! 4     end     JSON, always last; a socket that closes without one says that the wrapper was killed
//! 5     ask     JSON, first and only
//! 6     answer  JSON, the worker's
//! 7     offer   the worker's: it can read stdout itself
//! 8     take    it is to, from here on, where a line begins; 2 does not come any more
//! 9     finish  the program has ended: read what is there, and see to children that it left
//! 10    taken   the worker's: stdout is at its end, and all of it handed on
//! ```
//!
//! 7 to 10 have no payload. Stdout has one reader at any time: the wrapper until it says 8, then the worker
//! until it says 10 or is gone; the wrapper reads on then.
//!
//! Lines travel raw, for whoever prints them to tag. Everything is bounded: a frame by
//! [`MAX_FRAME`], a hello and an end by [`MAX_REPORT`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gpus::{Answer, Ask};
use crate::output::clock::Micros;
use crate::output::split::{Batch, End};
use crate::output::tag::Style;
use crate::output::{Identity, Stream};
use crate::process::status::WaitStatus;
use crate::process::usage::Usage;

/// The largest payload, bytes. A longer batch goes in several frames.
pub const MAX_FRAME: usize = 1024 * 1024;
/// The largest payload of a report, bytes.
pub const MAX_REPORT: usize = 256 * 1024;
/// How long others may go on writing to the program's pipes after its end: children that it left
/// behind. What it wrote itself is in the pipes by then, and is read whatever the time.
pub const LINGER: Duration = Duration::from_secs(1);
/// Kind and length.
pub const HEADER: usize = 5;
/// What precedes the lines in an output frame's payload.
pub const OUTPUT_HEADER: usize = 9;
/// Where in an output frame's payload its last line's end is told.
pub const END_AT: usize = 8;
/// What stands there where the last line has no end.
pub const NO_END: u8 = 2;

/// The kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Who is there.
    Hello = 1,
    /// Lines of standard output.
    Stdout = 2,
    /// Lines of standard error.
    Stderr = 3,
    /// How the program ended.
    End = 4,
    /// Which GPUs to use.
    Ask = 5,
    /// These.
    Answer = 6,
    /// The worker can read stdout.
    Offer = 7,
    /// It is to.
    Take = 8,
    /// To its end.
    Finish = 9,
    /// There it is.
    Taken = 10,
}

impl Kind {
    /// The kind that a byte stands for.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        let reports = [Self::Hello, Self::Stdout, Self::Stderr, Self::End, Self::Ask, Self::Answer];
        let words = [Self::Offer, Self::Take, Self::Finish, Self::Taken];
        reports.into_iter().chain(words).find(|kind| *kind as u8 == byte)
    }

    /// The kind of frames that carry a stream.
    #[must_use]
    pub fn carrying(stream: Stream) -> Self {
        match stream {
            Stream::Out => Self::Stdout,
            Stream::Err => Self::Stderr,
        }
    }
}

/// Where a rank's lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// The launcher's stdout and stderr, past mpirun; through mpirun where no worker serves
    Launcher,
    /// The worker's own stdout and stderr, so the container's log
    Pod,
    /// Both of them
    Both,
    /// The wrapper's own stdout and stderr, which mpirun forwards
    Mpirun,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    /// How the program ends.
    Reports,
    /// What it prints.
    Lines,
}

/// The first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Of this protocol: 1.
    pub version: u32,
    /// What follows.
    pub carries: Carries,
    /// When the program was started, by the host's clock.
    pub time: Micros,
    /// Whose lines will come. None: no rank in the environment.
    pub identity: Option<Identity>,
    /// The program's process, in the host's own PID namespace.
    pub pid: i32,
    /// The wrapper's process.
    pub wrapper: i32,
    /// The program and its arguments, lossily, no more than 4,096 bytes.
    pub command: String,
    /// Where the lines are to be shown.
    pub output: Output,
    /// Whether the launcher shows this rank (`--ranks`).
    pub shown: bool,
    /// Whether the worker may offer to read stdout: nobody here needs to see it.
    #[serde(default)]
    pub lends: bool,
    /// How lines are to look.
    pub style: Style,
}

/// The last frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, by the host's clock.
    pub time: Micros,
    /// How.
    pub status: WaitStatus,
    /// A terminating signal that the wrapper was told to pass on, if any, before the end.
    pub told: Option<i32>,
    /// From start to end, microseconds.
    pub wall_us: u64,
    /// At what cost, the program's waited-for children included.
    #[serde(default)]
    pub usage: Usage,
    /// The last lines of standard error: at most 50, and 32 KiB. Lossy.
    pub stderr: String,
    /// What `TORCHELASTIC_ERROR_FILE` holds, at most 64 KiB, where it was named and written.
    #[serde(default)]
    pub elastic: Option<String>,
}

impl Ended {
    /// Not by a signal that it was told to end by, which is what becomes of ranks when another fails.
    #[must_use]
    pub fn failed_by_itself(&self) -> bool {
        !self.status.success() && self.told.is_none()
    }
}

/// The header of a frame.
#[must_use]
pub fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    #[expect(clippy::cast_possible_truncation, reason = "senders keep to MAX_FRAME")]
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [kind as u8, a, b, c, d]
}

/// Header and output header of a frame that carries `length` bytes of lines.
#[must_use]
pub fn output_header(
    stream: Stream,
    time: Micros,
    end: End,
    length: usize,
) -> [u8; HEADER + OUTPUT_HEADER] {
    let mut bytes = [0; HEADER + OUTPUT_HEADER];
    bytes[..HEADER].copy_from_slice(&header(Kind::carrying(stream), OUTPUT_HEADER + length));
    bytes[HEADER..HEADER + 8].copy_from_slice(&time.0.to_be_bytes());
    bytes[HEADER + END_AT] = match end {
        End::Line => 0,
        End::Cut => 1,
        End::Eof => NO_END,
    };
    bytes
}

/// Cuts a batch into parts that fit a frame; all but the last are `Cut`, or end with a line.
pub fn parts(batch: Batch<'_>) -> impl Iterator<Item = Batch<'_>> {
    const ROOM: usize = MAX_FRAME - OUTPUT_HEADER;
    let mut rest = batch.bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (length, end) = if rest.len() <= ROOM {
            (rest.len(), batch.end)
        } else {
            match memchr::memrchr(b'\n', &rest[..ROOM]) {
                Some(at) => (at + 1, End::Line),
                None => (ROOM, End::Cut),
            }
        };
        let (bytes, more) = rest.split_at(length);
        rest = more;
        Some(Batch { bytes, end })
    })
}

/// A report in its frame.
///
/// # Errors
/// It does not fit.
pub fn report(kind: Kind, message: &impl Serialize) -> Result<Vec<u8>, ProtocolError> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MAX_REPORT {
        return Err(ProtocolError::TooLong(body.len()));
    }
    let mut frame = header(kind, body.len()).to_vec();
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// A frame, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'b> {
    /// Always the first.
    Hello(Box<Hello>),
    /// Lines, raw.
    Output(Stream, Micros, Batch<'b>),
    /// Always the last.
    End(Box<Ended>),
    /// First and only.
    Ask(Ask),
    /// What comes back.
    Answer(Answer),
    /// About who reads stdout.
    Word(Kind),
}

/// Why a wrapper's socket cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A kind that is not known here.
    #[error("read a rank's report: there is no frame of kind {0}")]
    Kind(u8),
    /// Beyond the bound.
    #[error("read a rank's report: {0} bytes announced, more than allowed")]
    TooLong(usize),
    /// An output frame without lines, or with an end that is not known here.
    #[error("read a rank's report: an output frame without lines or with an unknown end")]
    Output,
    /// No report of this version.
    #[error("read a rank's report: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads the kind and the payload's length from a frame's header.
///
/// # Errors
/// Nothing that follows can be read then.
pub fn read_header(bytes: [u8; HEADER]) -> Result<(Kind, usize), ProtocolError> {
    let [kind, a, b, c, d] = bytes;
    let kind = Kind::of(kind).ok_or(ProtocolError::Kind(kind))?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let most = match kind {
        Kind::Hello | Kind::End | Kind::Ask | Kind::Answer => MAX_REPORT,
        Kind::Stdout | Kind::Stderr => MAX_FRAME,
        Kind::Offer | Kind::Take | Kind::Finish | Kind::Taken => 0,
    };
    if length > most { Err(ProtocolError::TooLong(length)) } else { Ok((kind, length)) }
}

/// Reads a payload.
///
/// # Errors
/// Nothing that follows should be believed then.
pub fn read_payload(kind: Kind, payload: &[u8]) -> Result<Frame<'_>, ProtocolError> {
    let output = |stream| {
        let (time, rest) = payload.split_first_chunk::<8>().ok_or(ProtocolError::Output)?;
        let (end, bytes) = rest.split_first().ok_or(ProtocolError::Output)?;
        let end = match *end {
            0 => End::Line,
            1 => End::Cut,
            NO_END => End::Eof,
            _ => return Err(ProtocolError::Output),
        };
        if bytes.is_empty() {
            return Err(ProtocolError::Output);
        }
        Ok(Frame::Output(stream, Micros(u64::from_be_bytes(*time)), Batch { bytes, end }))
    };
    match kind {
        Kind::Hello => Ok(Frame::Hello(serde_json::from_slice(payload)?)),
        Kind::Stdout => output(Stream::Out),
        Kind::Stderr => output(Stream::Err),
        Kind::End => Ok(Frame::End(serde_json::from_slice(payload)?)),
        Kind::Ask => Ok(Frame::Ask(serde_json::from_slice(payload)?)),
        Kind::Answer => Ok(Frame::Answer(serde_json::from_slice(payload)?)),
        Kind::Offer | Kind::Take | Kind::Finish | Kind::Taken => Ok(Frame::Word(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Returns;
    use crate::output::tag::Format;

    fn read(frame: &[u8]) -> Result<Frame<'_>, ProtocolError> {
        let (header, payload) = frame.split_first_chunk::<HEADER>().unwrap();
        let (kind, length) = read_header(*header)?;
        assert_eq!(length, payload.len());
        read_payload(kind, payload)
    }

    #[test]
    fn reports_go_there_and_back() {
        let hello = Hello {
            version: 1,
            carries: Carries::Lines,
            time: Micros(1),
            identity: Some(Identity { rank: 3, host: "w".into(), ..Identity::default() }),
            pid: 7,
            wrapper: 6,
            command: "./app".into(),
            output: Output::Launcher,
            shown: true,
            lends: true,
            style: Style {
                format: Format::Template("{rank}: ".into()),
                timestamps: false,
                color: false,
                returns: Returns::Collapse,
                max_line: 65536,
            },
        };
        let frame = report(Kind::Hello, &hello).unwrap();
        assert_eq!(read(&frame).unwrap(), Frame::Hello(Box::new(hello)));
        let ended = Ended {
            time: Micros(9),
            status: WaitStatus::Signaled { signal: 11, core: true },
            told: None,
            wall_us: 1,
            usage: Usage { user_us: 2, max_rss_kib: 3, ..Usage::default() },
            stderr: "x\n".into(),
            elastic: None,
        };
        let frame = report(Kind::End, &ended).unwrap();
        assert_eq!(read(&frame).unwrap(), Frame::End(Box::new(ended)));
    }

    #[test]
    fn an_end_of_another_version_may_tell_less_of_its_cost() {
        let ended = |usage: &str| {
            let told = r#""time":9,"status":{"exited":3},"told":null,"wall_us":1,"stderr":"x""#;
            serde_json::from_str::<Ended>(&format!("{{{told}{usage}}}")).unwrap()
        };
        assert_eq!(ended(r#","cpu_us":7,"max_rss_kib":8"#).usage, Usage::default());
        let some = Usage { user_us: 7, ..Usage::default() };
        assert_eq!(ended(r#","usage":{"user_us":7,"later":1}"#).usage, some);
    }

    #[test]
    fn words_have_no_payload() {
        for word in [Kind::Offer, Kind::Take, Kind::Finish, Kind::Taken] {
            assert_eq!(read(&header(word, 0)).unwrap(), Frame::Word(word));
            assert!(matches!(read_header(header(word, 1)), Err(ProtocolError::TooLong(1))));
        }
    }

    #[test]
    fn output_goes_there_and_back_in_parts_that_fit() {
        let mut lines = vec![b'x'; 2 * MAX_FRAME];
        lines[1000] = b'\n';
        let batch = Batch { bytes: &lines, end: End::Eof };
        let mut seen = Vec::new();
        for part in parts(batch) {
            let mut frame =
                output_header(Stream::Err, Micros(5), part.end, part.bytes.len()).to_vec();
            frame.extend_from_slice(part.bytes);
            let Frame::Output(Stream::Err, Micros(5), read) = read(&frame).unwrap() else {
                panic!()
            };
            seen.push((read.bytes.len(), read.end));
        }
        let room = MAX_FRAME - OUTPUT_HEADER;
        let rest = 2 * MAX_FRAME - 1001 - room;
        assert!(rest <= room);
        assert_eq!(seen, [(1001, End::Line), (room, End::Cut), (rest, End::Eof)]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(read_header(*b"SSH-2"), Err(ProtocolError::Kind(b'S'))));
        assert!(matches!(read_header([1, 255, 0, 0, 0]), Err(ProtocolError::TooLong(_))));
        assert!(matches!(
            read_payload(Kind::Stdout, b"\0\0\0\0\0\0\0\0\0"),
            Err(ProtocolError::Output)
        ));
        assert!(matches!(
            read_payload(Kind::Stdout, b"\0\0\0\0\0\0\0\0\x03x"),
            Err(ProtocolError::Output)
        ));
        assert!(matches!(read_payload(Kind::Hello, b"{}"), Err(ProtocolError::Json(_))));
    }
}

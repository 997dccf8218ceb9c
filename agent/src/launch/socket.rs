//! The engine's unix socket: how `muster rsh` hands a remote command to the launcher that keeps the
//! connections.
//!
//! Must not open connections; it knows the frames, and both ends of carrying them.
//!
//! A frame is a kind byte, four length bytes (big endian) and that many bytes.

use std::io::{self, IoSlice, Read, Write};

use bytes::Buf;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The largest frame, bytes. A command line of Open MPI has a few kB; the kernel allows 2 MiB.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To the engine: a [`Request`] in JSON.
    Request,
    /// To the engine, next: the command line, bytes as they are.
    Command,
    /// To the engine: standard input.
    Stdin,
    /// To the engine: standard input is over.
    StdinEnd,
    /// To the engine: the agent was told to stop by a signal.
    Stopped,
    /// To the agent, first: the host is of this job, send the input.
    Ours,
    /// To the agent: standard output.
    Stdout,
    /// To the agent: standard error.
    Stderr,
    /// To the agent, last: how the command ended, [`crate::ssh::remote::Ended`] in JSON.
    Ended,
    /// To the agent, last: the command could not be started, in words.
    Failed,
    /// To the agent, first and last: the host is none of this job's; dial it yourself.
    NotOurs,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Request,
        Self::Command,
        Self::Stdin,
        Self::StdinEnd,
        Self::Stopped,
        Self::Ours,
        Self::Stdout,
        Self::Stderr,
        Self::Ended,
        Self::Failed,
        Self::NotOurs,
    ];

    /// Its byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Request => b'r',
            Self::Command => b'c',
            Self::Stdin => b'i',
            Self::StdinEnd => b'e',
            Self::Stopped => b't',
            Self::Ours => b'a',
            Self::Stdout => b'O',
            Self::Stderr => b'E',
            Self::Ended => b'S',
            Self::Failed => b'F',
            Self::NotOurs => b'N',
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// What the agent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The host as mpirun named it.
    pub host: String,
    /// Variables to offer to the host.
    pub env: Vec<(String, String)>,
}

/// The frame that a signal handler can write, because it is made already.
pub const STOPPED: [u8; 5] = [Kind::Stopped.byte(), 0, 0, 0, 0];

fn header(kind: Kind, len: usize) -> io::Result<[u8; 5]> {
    let len = u32::try_from(len).ok().filter(|len| *len as usize <= MAX_FRAME);
    let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    let [a, b, c, d] = len.to_be_bytes();
    Ok([kind.byte(), a, b, c, d])
}

fn parse(header: [u8; 5]) -> io::Result<(Kind, usize)> {
    let [kind, len @ ..] = header;
    let len = u32::from_be_bytes(len) as usize;
    match Kind::from_byte(kind) {
        Some(kind) if len <= MAX_FRAME => Ok((kind, len)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame of muster's socket")),
    }
}

/// Writes frames, synchronously and in one go.
///
/// # Errors
/// The other end is gone, or a frame is too long.
pub fn send(stream: &mut impl Write, frames: &[(Kind, &[u8])]) -> io::Result<()> {
    let headers = frames.iter().map(|(kind, data)| header(*kind, data.len()));
    let headers = headers.collect::<io::Result<Vec<_>>>()?;
    let parts = headers.iter().zip(frames).flat_map(|(header, (_, data))| [header, *data]);
    let mut parts: Vec<IoSlice<'_>> = parts.map(IoSlice::new).collect();
    let mut rest = &mut parts[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a frame, synchronously, into `buffer`.
///
/// # Errors
/// The other end is gone, or sends something else.
pub fn receive(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Kind> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let (kind, len) = parse(head)?;
    buffer.resize(len, 0);
    stream.read_exact(buffer)?;
    Ok(kind)
}

/// Writes a frame in one go.
///
/// # Errors
/// The other end is gone, or the frame is too long.
pub async fn write_frame(
    stream: &mut (impl AsyncWriteExt + Unpin),
    kind: Kind,
    data: &[u8],
) -> io::Result<()> {
    let header = header(kind, data.len())?;
    stream.write_all_buf(&mut Buf::chain(&header[..], data)).await
}

/// Reads a frame.
///
/// # Errors
/// The other end is gone, or sends something else.
pub async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let (kind, len) = parse(head)?;
    let mut data = vec![0; len];
    stream.read_exact(&mut data).await?;
    Ok((kind, data))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn frames_survive_the_way_and_garbage_does_not() {
        let mut way = Vec::new();
        send(&mut way, &[(Kind::Request, b"{}"), (Kind::Command, b"orted -mca ess env")]).unwrap();
        way.extend(STOPPED);
        way.extend(b"GET / HTTP/1.1");
        let (mut way, mut buffer) = (&way[..], Vec::new());
        for (kind, data) in [
            (Kind::Request, &b"{}"[..]),
            (Kind::Command, b"orted -mca ess env"),
            (Kind::Stopped, b""),
        ] {
            assert_eq!(receive(&mut way, &mut buffer).unwrap(), kind);
            assert_eq!(buffer, data);
        }
        assert!(receive(&mut way, &mut buffer).is_err());
    }

    #[test]
    fn a_full_way_loses_nothing() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let data: Vec<u8> = (0..2_000_000_u32).map(|n| n as u8).collect();
        let sent = data.clone();
        let sending = std::thread::spawn(move || {
            send(&mut ours, &[(Kind::Stdin, &sent), (Kind::StdinEnd, b""), (Kind::Stdin, b"x")])
        });
        let (mut theirs, mut buffer) = (BufReader::new(theirs), Vec::new());
        for (kind, data) in [(Kind::Stdin, &data[..]), (Kind::StdinEnd, b""), (Kind::Stdin, b"x")] {
            assert_eq!(receive(&mut theirs, &mut buffer).unwrap(), kind);
            assert!(buffer == data);
        }
        sending.join().unwrap().unwrap();
    }
}

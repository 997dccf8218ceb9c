//! The desk of a host: takes the connections of wrappers and hands on what comes.
//!
//! A wrapper connects twice, for its reports and for its lines, so that the reports of a host never wait
//! behind lines that nobody reads; its own end it tells when those are taken. Must not hold more than one frame of each.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::frames::Frames;
use super::printer::Print;
use super::roll::Roll;
use super::shown::Shown;
use super::socket::RankSocket;
use super::{Origin, Report, Source};
use crate::output::clock::Micros;
use crate::process::reaper::{Exited, Reaper};
use crate::process::status::WaitStatus;
use crate::rank::gpus::{Allotment, Ask};
use crate::rank::protocol::{self, Carries, Ended, Frame, Hello, Kind, read_payload};

/// For a wrapper to introduce itself; it does so at once.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// For a program whose wrapper was killed to become ours.
const ADOPTION: Duration = Duration::from_millis(300);

/// Bytes read at once of a hello.
const FIRST: usize = 16 * 1024;

/// Descriptors that can come at once (SCM_MAX_FD of the kernel).
const MOST_AT_ONCE: usize = 253;

/// Connections of a host at a time: two a rank.
const MOST: usize = 8192;

/// Where a desk hands things on to. Its queues are the bound of what waits here.
#[derive(Debug, Clone)]
pub struct Outlets {
    /// How the printers are to call this desk.
    pub origin: Origin,
    /// Who runs.
    pub roll: Arc<Roll>,
    /// Knows how programs ended whose wrapper was killed.
    pub reaper: Reaper,
    /// Starts and ends.
    pub reports: mpsc::Sender<Report>,
    /// Lines for the launcher's printer.
    pub launcher: mpsc::Sender<Print>,
    /// Lines for this pod's own log; none: the launcher's output is that log.
    pub pod: Option<mpsc::Sender<Print>>,
    /// The GPUs for the ranks of this desk; none: there are none.
    pub gpus: Arc<Mutex<Option<Allotment>>>,
}

/// Serves wrappers until `closing` is true; then those that are there, until the last has left.
pub async fn serve(socket: RankSocket, outlets: Outlets, mut closing: watch::Receiver<bool>) {
    let mut wrappers = JoinSet::new();
    let mut next = 0;
    let mut take = |(stream, wrapper), wrappers: &mut JoinSet<()>| {
        next += 1;
        wrappers.spawn(attend(stream, wrapper, Source(next), outlets.clone()));
    };
    loop {
        tokio::select! {
            // What has connected already is taken before the desk closes.
            biased;
            accepted = socket.accept(), if wrappers.len() < MOST => match accepted {
                Ok(peer) => take(peer, &mut wrappers),
                // Out of descriptors: wrappers end and give some back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = wrappers.join_next() => {}
            // Where its sender is gone nobody is interested any more.
            _ = async { closing.wait_for(|closing| *closing).await.is_ok() } => break,
        }
    }
    drop(socket);
    wrappers.join_all().await;
}

async fn attend(mut stream: UnixStream, wrapper: i32, source: Source, outlets: Outlets) {
    let mut frames = Frames::default();
    let mut pipes = Vec::new();
    let first = timeout(HELLO_LIMIT, async {
        frames.push(&receive(&stream, &mut pipes).await.ok()?);
        frames.next(&mut stream).await.ok().flatten()
    });
    let Ok(Some((kind, payload))) = first.await else { return };
    let hello = match read_payload(kind, &payload) {
        Ok(Frame::Hello(hello)) => hello,
        Ok(Frame::Ask(question)) => {
            let limit = timeout(HELLO_LIMIT, answer(&mut stream, &question, &outlets));
            // Who does not wait for the answer does without.
            let _ = limit.await;
            return;
        }
        Ok(_) => return,
        Err(error) => {
            tracing::warn!(%error, "turned a wrapper away");
            return;
        }
    };
    match hello.carries {
        Carries::Reports => report(stream, frames, source, (wrapper, hello), &outlets).await,
        Carries::Lines => {
            let shown = Shown { source, hello: (*hello, payload), outlets: &outlets };
            shown.carry(stream, frames, pipes).await;
        }
    }
}

/// Tells a rank its GPUs.
async fn answer(stream: &mut UnixStream, question: &Ask, outlets: &Outlets) -> io::Result<()> {
    let answer = {
        let mut gpus = outlets.gpus.lock().unwrap_or_else(PoisonError::into_inner);
        gpus.as_mut().map(|gpus| gpus.give(question)).unwrap_or_default()
    };
    let frame = protocol::report(Kind::Answer, &answer).map_err(io::Error::other)?;
    stream.write_all(&frame).await
}

/// The first bytes on a connection, and the descriptors that come with them: the program's pipes.
async fn receive(stream: &UnixStream, pipes: &mut Vec<OwnedFd>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; FIRST];
    let read = stream
        .async_io(Interest::READABLE, || {
            // Of what does not fit, the kernel would leave some open that we never hear of.
            let mut space = nix::cmsg_space!([RawFd; MOST_AT_ONCE]);
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let (fd, flags) = (stream.as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
            let message = recvmsg::<()>(fd, &mut slices, Some(&mut space), flags)?;
            for rights in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(fds) = rights {
                    // SAFETY: the kernel has just made them, for us alone.
                    pipes.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            Ok(message.bytes)
        })
        .await?;
    bytes.truncate(read);
    Ok(bytes)
}

async fn report(
    mut stream: UnixStream,
    mut frames: Frames,
    source: Source,
    (wrapper, hello): (i32, Box<Hello>),
    outlets: &Outlets,
) {
    // In a pid namespace of its own (a container within this one) it does not know its number here, nor
    // that of its program.
    let program = Some(hello.pid).filter(|_| hello.wrapper == wrapper);
    let rank = hello.identity.as_ref().map(|identity| identity.rank);
    outlets.roll.started(source, rank, wrapper, program);
    let since = hello.time;
    let started = Report::Started(source, hello);
    if outlets.reports.send(started).await.is_err() {
        return;
    }
    let ended = match frames.next(&mut stream).await {
        Ok(Some((Kind::End, payload))) => match read_payload(Kind::End, &payload) {
            Ok(Frame::End(ended)) => Some(ended),
            Ok(_) | Err(_) => None,
        },
        Ok(_) | Err(_) => None,
    };
    let ended = match ended {
        Some(ended) => Some(ended),
        None => match program {
            Some(program) => adopted(program, since, outlets).await.map(Box::new),
            None => None,
        },
    };
    outlets.roll.ended(source);
    // Nobody listens any more where the launch is over.
    let _ = outlets.reports.send(Report::Ended(source, ended)).await;
}

/// The end of a program, started `since`, whose wrapper was killed, if the program itself was not.
async fn adopted(program: i32, since: Micros, outlets: &Outlets) -> Option<Ended> {
    let time = Micros::from(SystemTime::now());
    let told_all = outlets.roll.told();
    let Exited { status, usage } = outlets.reaper.adopted(program, ADOPTION).await?;
    let by = |wanted: &[i32]| match status {
        WaitStatus::Signaled { signal, .. } if wanted.contains(&signal) => Some(signal),
        _ => None,
    };
    let killed = by(&[nix::libc::SIGKILL]).is_some();
    // Nobody is left to say whether it was told to, but that is what these signals say.
    let asked = by(&[nix::libc::SIGTERM, nix::libc::SIGINT, nix::libc::SIGHUP]);
    let told = asked.or(told_all);
    (!killed).then(|| Ended {
        time,
        status,
        told,
        wall_us: time.0.saturating_sub(since.0),
        usage,
        stderr: String::new(),
        elastic: None,
    })
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{ControlMessage, sendmsg};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::unix::pipe;

    use super::*;

    #[tokio::test]
    async fn a_hello_with_too_many_descriptors_leaves_none_open() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, mut unread) = pipe::pipe().unwrap();
        let sent = [sender.into_blocking_fd().unwrap()];
        let fds = [sent[0].as_raw_fd(); 3];
        let rights = [ControlMessage::ScmRights(&fds)];
        let hello = [std::io::IoSlice::new(b"hello")];
        sendmsg::<()>(theirs.as_raw_fd(), &hello, &rights, MsgFlags::empty(), None).unwrap();
        drop(sent);
        let mut pipes = Vec::new();
        assert_eq!(receive(&ours, &mut pipes).await.unwrap(), b"hello");
        assert_eq!(pipes.len(), 3);
        drop(pipes);
        // At its end when nobody has the other end open.
        let end = timeout(HELLO_LIMIT, unread.read(&mut [0])).await.unwrap();
        assert_eq!(end.unwrap(), 0);
    }
}

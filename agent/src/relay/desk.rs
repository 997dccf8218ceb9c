//! The desk of a host: takes the connections of wrappers and hands on what comes.
//!
//! A wrapper connects twice, for its reports and for its lines, so that a report never waits behind
//! lines that nobody reads. Must not hold more than one frame of each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::frames::Frames;
use super::printer::Print;
use super::roll::Roll;
use super::socket::RankSocket;
use super::{Origin, Part, Piece, Report, Source};
use crate::rank::protocol::{Carries, Frame, Hello, Kind, Output, read_payload};

/// For a wrapper to introduce itself; it does so at once.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// Connections of a host at a time: two a rank.
const MOST: usize = 8192;

/// Where a desk hands things on to. Its queues are the bound of what waits here.
#[derive(Debug, Clone)]
pub struct Outlets {
    /// How the printers are to call this desk.
    pub origin: Origin,
    /// Who runs.
    pub roll: Arc<Roll>,
    /// Starts and ends.
    pub reports: mpsc::Sender<Report>,
    /// Lines for the launcher's printer.
    pub launcher: mpsc::Sender<Print>,
    /// Lines for this pod's own log; none: the launcher's output is that log.
    pub pod: Option<mpsc::Sender<Print>>,
}

/// Serves wrappers until `closing` is true; then those that are there, until the last has left.
pub async fn serve(socket: RankSocket, outlets: Outlets, mut closing: watch::Receiver<bool>) {
    let mut wrappers = JoinSet::new();
    let mut next = 0;
    let mut take = |stream, wrappers: &mut JoinSet<()>| {
        next += 1;
        wrappers.spawn(attend(stream, Source(next), outlets.clone()));
    };
    loop {
        tokio::select! {
            // What has connected already is taken before the desk closes.
            biased;
            accepted = socket.accept(), if wrappers.len() < MOST => match accepted {
                Ok(stream) => take(stream, &mut wrappers),
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

async fn attend(mut stream: UnixStream, source: Source, outlets: Outlets) {
    let mut frames = Frames::default();
    let first = timeout(HELLO_LIMIT, frames.next(&mut stream)).await;
    let Ok(Ok(Some((Kind::Hello, payload)))) = first else { return };
    let hello = match read_payload(Kind::Hello, &payload) {
        Ok(Frame::Hello(hello)) => hello,
        Ok(_) => return,
        Err(error) => {
            tracing::warn!(%error, "turned a wrapper away");
            return;
        }
    };
    match hello.carries {
        Carries::Reports => report(stream, frames, source, hello, &outlets).await,
        Carries::Lines => show(stream, frames, source, (&hello, payload), &outlets).await,
    }
}

async fn report(
    mut stream: UnixStream,
    mut frames: Frames,
    source: Source,
    hello: Box<Hello>,
    outlets: &Outlets,
) {
    let started = Report::Started(source, hello);
    outlets.roll.note(&started);
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
    let ended = Report::Ended(source, ended);
    outlets.roll.note(&ended);
    // Nobody listens any more where the launch is over.
    let _ = outlets.reports.send(ended).await;
}

async fn show(
    mut stream: UnixStream,
    mut frames: Frames,
    source: Source,
    (hello, payload): (&Hello, Bytes),
    outlets: &Outlets,
) {
    let (launcher, pod) = match (hello.output, &outlets.pod) {
        (Output::Pod, Some(pod)) => (None, Some(pod)),
        (Output::Both, Some(pod)) => (hello.shown.then_some(&outlets.launcher), Some(pod)),
        (Output::Launcher | Output::Mpirun, _) | (Output::Pod | Output::Both, None) => {
            (hello.shown.then_some(&outlets.launcher), None)
        }
    };
    let send = async |part: Part| {
        for outlet in [launcher, pod].into_iter().flatten() {
            let piece = Piece { source, part: part.clone() };
            if outlet.send(Print::Piece(outlets.origin, piece)).await.is_err() {
                return false;
            }
        }
        true
    };
    let mut wanted = send(Part::Frame(Kind::Hello, payload)).await;
    while wanted {
        match frames.next(&mut stream).await {
            Ok(Some((kind @ (Kind::Stdout | Kind::Stderr), payload))) => {
                outlets.roll.wrote();
                wanted = send(Part::Frame(kind, payload)).await;
            }
            Ok(_) => break,
            Err(error) => {
                tracing::warn!(%error, "turned a wrapper away");
                break;
            }
        }
    }
    send(Part::Closed).await;
}

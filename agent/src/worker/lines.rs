//! The worker's end of the channel on which the lines of ranks go to the launcher, and its desk.
//!
//! Must not outlive the channel: wrappers that come later print by themselves, through mpirun.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use russh::server::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::session::Line;
use super::{ConnectionId, Worker};
use crate::rank::gpus::Allotment;
use crate::relay::desk::{self, Outlets};
use crate::relay::mux::{FromDesk, Gather, ToDesk};
use crate::relay::printer::Print;
use crate::relay::socket::RankSocket;
use crate::relay::{Origin, Report};
use crate::ssh::control::Frames;
use crate::ssh::wire::Gauge;

/// Pieces that may wait for the channel.
const WAITING: usize = 4;

/// Reports that may wait for the control channel.
const REPORTS: usize = 64;

/// For the printer to hear that a launcher is gone.
const FORGETTING: Duration = Duration::from_secs(5);

/// Serves a launcher until everything is handed on, or the channel closes.
pub async fn serve(line: Line) {
    let Line { link, read, write, gauge, .. } = line;
    let worker = link.worker;
    let mut messages = Messages { read, gauge, frames: Frames::default() };
    let Some(ToDesk::Open { socket, window, pod_log }) = messages.next().await else { return };
    let socket = match RankSocket::bind(&socket, &link.id.to_string()) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "no socket for ranks: mpirun carries their lines");
            let _ = write.close().await;
            return;
        }
    };
    worker.set_rank_socket(link.id, Some(socket.name().to_owned()));

    let (pieces, outgoing) = mpsc::channel(WAITING);
    let (reports, said) = mpsc::channel(REPORTS);
    let (close, closing) = watch::channel(false);
    let pod = if pod_log { worker.log() } else { None };
    let (origin, roll) = (Origin(link.id.0), worker.roll(link.id));
    // What its hello has told: a launch is not to wait for another look.
    let devices = worker.devices(Duration::MAX).await;
    let gpus = Arc::new(Mutex::new(devices.as_ref().and_then(Allotment::of)));
    let reaper = worker.reaper();
    let log = pod.clone();
    let outlets = Outlets { origin, roll, reaper, reports, launcher: pieces, pod, gpus };
    let desk = desk::serve(socket, outlets, closing);
    let (granted, grants) = watch::channel(window);
    let listening = async {
        loop {
            match messages.next().await {
                Some(ToDesk::Taken { bytes }) => granted.send_modify(|all| *all += bytes),
                Some(ToDesk::Close) => {
                    close.send_replace(true);
                }
                Some(ToDesk::Open { .. }) | None => return,
            }
        }
    };
    let handing_on = async {
        let (_, (), ()) =
            tokio::join!(send(&write, outgoing, grants), desk, hand_on(said, &worker, link.id));
    };
    tokio::select! {
        () = handing_on => {}
        () = listening => {}
    }
    worker.set_rank_socket(link.id, None);
    let _ = write.eof().await;
    let _ = write.close().await;
    if let Some(log) = log {
        // Its ranks are not heard of again, where the launcher has vanished. A log that nobody reads has worse to hold.
        let _ = timeout(FORGETTING, log.send(Print::Gone(origin))).await;
    }
}

/// What the launcher says on the channel.
struct Messages {
    read: ChannelReadHalf,
    gauge: Gauge,
    frames: Frames,
}

impl Messages {
    /// The next message; none when the channel is closed, or not understood.
    async fn next(&mut self) -> Option<ToDesk> {
        loop {
            match self.frames.take() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "closing the channel of lines");
                    return None;
                }
            }
            match self.read.wait().await? {
                ChannelMsg::Data { data } => {
                    self.gauge.consumed(data.len());
                    self.frames.push(&data);
                }
                ChannelMsg::Close | ChannelMsg::Eof => return None,
                _ => {}
            }
        }
    }
}

/// Hands reports to the launcher of this connection.
async fn hand_on(mut said: mpsc::Receiver<Report>, worker: &Arc<Worker>, id: ConnectionId) {
    while let Some(report) = said.recv().await {
        if report.is_failure() {
            // First, so that whoever hears of the end knows the reason.
            worker.tell_of_trouble(id).await;
        }
        worker.tell_launcher(id, report.into()).await;
    }
}

/// Sends pieces as the launcher grants it; none when the connection is gone.
async fn send(
    write: &ChannelWriteHalf<Msg>,
    mut outgoing: mpsc::Receiver<Print>,
    mut grants: watch::Receiver<usize>,
) -> Option<()> {
    let mut gather = Gather::default();
    let mut sent = 0;
    gather.push(&FromDesk::Ready);
    loop {
        // While more is there at once, small pieces travel together.
        let next = match outgoing.try_recv() {
            Ok(next) => next,
            Err(_) => {
                if let Some(small) = gather.take() {
                    send_bytes(write, small, &mut sent, &mut grants).await?;
                }
                outgoing.recv().await?
            }
        };
        let Print::Piece(_, piece) = next else { continue };
        let full = gather.push(&FromDesk::Piece(piece));
        for bytes in full.into_iter().flatten() {
            send_bytes(write, bytes, &mut sent, &mut grants).await?;
        }
    }
}

async fn send_bytes(
    write: &ChannelWriteHalf<Msg>,
    mut bytes: Bytes,
    sent: &mut usize,
    grants: &mut watch::Receiver<usize>,
) -> Option<()> {
    while !bytes.is_empty() {
        let granted = *grants.wait_for(|granted| *granted > *sent).await.ok()?;
        let now = bytes.split_to(bytes.len().min(granted - *sent));
        *sent += now.len();
        write.data_bytes(now).await.ok()?;
    }
    Some(())
}

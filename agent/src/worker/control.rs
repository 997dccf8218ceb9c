//! The worker's end of the control channel: says hello, answers, reports ranks and the platform's
//! wish to stop.
//!
//! Must not outlive the channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::ChannelMsg;
use tokio::sync::mpsc;

use super::call_back::call_back;
use super::session::Line;
use super::{ConnectionId, Worker, ranks};
use crate::devices::clock::Stamp;
use crate::ssh::control::{self, Frames, Still, ToLauncher, ToWorker};

/// Answers that may wait to be sent.
const ANSWERS: usize = 64;

/// No launcher needs signs of life more often, milliseconds.
const LEAST_HEARTBEAT: u64 = 50;

/// Serves a launcher until the channel closes.
pub async fn serve(line: Line) {
    let Line { link, mut read, write, gauge, .. } = line;
    let worker = link.worker;
    let (answers, mut outgoing) = mpsc::channel::<ToLauncher>(ANSWERS);
    worker.register_launcher(link.id, answers.clone());
    let asked = Instant::now();
    let mut hello = worker.hello().await;
    hello.clock = Some(Stamp::now(asked.elapsed()));
    let hello = ToLauncher::Hello(Box::new(hello));
    if answers.send(hello).await.is_err() {
        return;
    }
    let incoming = async {
        let mut frames = Frames::default();
        while let Some(message) = read.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    gauge.consumed(data.len());
                    frames.push(&data);
                    loop {
                        match frames.take::<ToWorker>() {
                            Ok(Some(message)) => act(message, link.id, &worker, &answers),
                            Ok(None) => break,
                            Err(error) => {
                                tracing::warn!(%error, "closing the control channel");
                                return;
                            }
                        }
                    }
                }
                ChannelMsg::Close | ChannelMsg::Eof => return,
                _ => {}
            }
        }
    };
    let sending = async {
        loop {
            let message = tokio::select! {
                Some(message) = outgoing.recv() => message,
                else => return,
            };
            let Ok(frame) = control::encode(&message) else { continue };
            if write.data_bytes(frame).await.is_err() {
                return;
            }
        }
    };
    let stopping = async {
        let grace = worker.stop_announced().await;
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let _ = answers.send(ToLauncher::Terminating { grace_ms }).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = incoming => {}
        () = sending => {}
        () = stopping => {}
    }
    let _ = write.close().await;
}

/// Gives signs of life until nobody listens.
async fn heartbeats(
    connection: ConnectionId,
    worker: Arc<Worker>,
    answers: mpsc::Sender<ToLauncher>,
    pause: Duration,
) {
    let roll = worker.roll(connection);
    loop {
        worker.tell_of_oom(connection).await;
        let still = roll.still().map(Still::from);
        if answers.send(ToLauncher::Heartbeat { still }).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = answers.closed() => return,
        }
    }
}

/// Starts what a message asks for; nothing here waits, so that the next message is heard.
fn act(
    message: ToWorker,
    connection: ConnectionId,
    worker: &Arc<Worker>,
    answers: &mpsc::Sender<ToLauncher>,
) {
    let (worker, answers) = (Arc::clone(worker), answers.clone());
    match message {
        ToWorker::CallBack { name, address } => {
            tokio::spawn(async move {
                let _ = answers.send(call_back(&name, address).await).await;
            });
        }
        ToWorker::Watch { heartbeat_ms } => {
            let pause = Duration::from_millis(heartbeat_ms.max(LEAST_HEARTBEAT));
            tokio::spawn(heartbeats(connection, Arc::clone(&worker), answers.clone(), pause));
            let started = worker.command_started();
            tokio::spawn(async move {
                let report = |ranks| ToLauncher::Ranks { ranks };
                ranks::watch(started, &answers, report).await;
            });
        }
        ToWorker::SignalRanks { signal } => worker.roll(connection).signal(signal),
        ToWorker::End { patience_ms, grace_ms } => {
            tokio::spawn(async move {
                let [patience, grace] = [patience_ms, grace_ms].map(Duration::from_millis);
                let ended = worker.end_session(connection, patience, grace).await;
                let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let (all, killed) = (ended.termed + ended.killed, ended.killed);
                let message = ToLauncher::Ended { terminated: count(all), killed: count(killed) };
                let _ = answers.send(message).await;
            });
        }
    }
}

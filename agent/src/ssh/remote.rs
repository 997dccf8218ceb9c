//! A command that runs on a host, seen from here: its input, what it says, and how it ended.
//!
//! Must not start it; a connection does.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::watch;

use super::credit::{CONSUMED, Unsaid};
use crate::process::status::{WaitStatus, from_ssh_name};

/// How a command on a host ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// As its parent there saw it.
    Status(WaitStatus),
    /// The connection ended before the command did.
    Lost(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Lost(reason) => write!(f, "connection lost: {reason}"),
        }
    }
}

/// What a command on a host has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes of its standard output.
    Stdout(Bytes),
    /// Bytes of its standard error.
    Stderr(Bytes),
    /// The last event.
    Ended(Ended),
}

/// A command that runs on a host.
pub struct Exec {
    events: ExecEvents,
    /// Its standard input.
    stdin: ExecStdin,
}

/// The standard input of a command on a host.
pub struct ExecStdin {
    write: Arc<ChannelWriteHalf<Msg>>,
}

impl Exec {
    /// A command that was granted on this channel. `credited`: the server wants to know what is
    /// consumed of its output; `closed` tells why the connection ended.
    pub(super) fn new(
        read: ChannelReadHalf,
        write: ChannelWriteHalf<Msg>,
        credited: bool,
        closed: watch::Receiver<Option<String>>,
    ) -> Self {
        let write = Arc::new(write);
        let unsaid = credited.then(|| (Arc::clone(&write), Unsaid::default()));
        let events = ExecEvents { read, unsaid, closed, status: None };
        Self { events, stdin: ExecStdin { write } }
    }

    /// Takes it apart, so that both directions can be pumped at once.
    #[must_use]
    pub fn split(self) -> (ExecEvents, ExecStdin) {
        (self.events, self.stdin)
    }
}

impl ExecStdin {
    /// Sends bytes; waits while the command does not read.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn write(&self, data: Bytes) -> Result<(), russh::Error> {
        self.write.data_bytes(data).await
    }

    /// Ends the input.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn eof(&self) -> Result<(), russh::Error> {
        self.write.eof().await
    }

    /// Gives the command up: the server ends it.
    pub async fn close(&self) {
        // A connection that is gone has ended it already.
        let _ = self.write.close().await;
    }
}

/// Output and end of a command on a host.
pub struct ExecEvents {
    read: ChannelReadHalf,
    /// What a muster at the other end is to be told.
    unsaid: Option<(Arc<ChannelWriteHalf<Msg>>, Unsaid)>,
    closed: watch::Receiver<Option<String>>,
    status: Option<WaitStatus>,
}

impl ExecEvents {
    /// The next event; after [`ExecEvent::Ended`] there is none.
    pub async fn next(&mut self) -> ExecEvent {
        loop {
            match self.read.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    self.consumed(data.len()).await;
                    return ExecEvent::Stdout(data);
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    self.consumed(data.len()).await;
                    return ExecEvent::Stderr(data);
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    // Codes beyond eight bits cannot come from a Unix process.
                    let code = u8::try_from(exit_status).unwrap_or(u8::MAX);
                    self.status = Some(WaitStatus::Exited(code));
                }
                Some(ChannelMsg::ExitSignal { signal_name, core_dumped, .. }) => {
                    let name = super::signal_name(&signal_name);
                    // A name that says nothing is a death by some signal; 0 is none of them.
                    let signal = from_ssh_name(&name).unwrap_or(0);
                    self.status = Some(WaitStatus::Signaled { signal, core: core_dumped });
                }
                Some(ChannelMsg::Close) | None => {
                    let reason = || self.closed.borrow().clone();
                    return ExecEvent::Ended(match self.status.take() {
                        Some(status) => Ended::Status(status),
                        None => Ended::Lost(reason().unwrap_or("connection closed".into())),
                    });
                }
                Some(_) => {}
            }
        }
    }

    async fn consumed(&mut self, bytes: usize) {
        if let Some((write, unsaid)) = &mut self.unsaid
            && let Some(value) = unsaid.add(bytes)
        {
            // Where it cannot be said, the connection is gone.
            let _ = write.set_env(false, CONSUMED, value).await;
        }
    }
}

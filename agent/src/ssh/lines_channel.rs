//! The launcher's end of the channel on which a worker sends the lines of its ranks.
//!
//! Must not print them.

use std::sync::Arc;

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

use super::client::ChannelError;
use super::control;
use crate::relay::mux::{Demux, FromDesk, MuxError, ToDesk};

/// Receives the lines of a worker's ranks.
pub struct LinesChannel {
    read: ChannelReadHalf,
    desk: DeskSender,
    demux: Demux,
    /// Bytes that have been taken and not yet told.
    taken: usize,
    window: usize,
}

/// Speaks to the desk of a worker.
#[derive(Clone)]
pub struct DeskSender(Arc<ChannelWriteHalf<Msg>>);

impl DeskSender {
    /// Asks for what is there, and then the end.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn close(&self) -> Result<(), ChannelError> {
        self.tell(&ToDesk::Close).await
    }

    /// Closes the channel, and with it the desk: dropping both halves would leave it open, and ranks would
    /// wait for grants that never come.
    pub async fn hang_up(&self) {
        // A connection that is gone has closed it already.
        let _ = self.0.close().await;
    }

    async fn tell(&self, message: &ToDesk) -> Result<(), ChannelError> {
        Ok(self.0.data_bytes(control::encode(message)?).await?)
    }
}

impl LinesChannel {
    pub(super) fn new(read: ChannelReadHalf, write: ChannelWriteHalf<Msg>) -> Self {
        let desk = DeskSender(Arc::new(write));
        Self { read, desk, demux: Demux::default(), taken: 0, window: 0 }
    }

    /// Has the worker open its desk for wrappers that look for `socket`; no more than `window` bytes
    /// will be under way.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn open(
        &mut self,
        socket: &str,
        window: usize,
        pod_log: bool,
    ) -> Result<(), ChannelError> {
        self.window = window;
        self.desk.tell(&ToDesk::Open { socket: socket.to_owned(), window, pod_log }).await
    }

    /// For saying more to the desk while its lines are read.
    #[must_use]
    pub fn desk(&self) -> DeskSender {
        self.desk.clone()
    }

    /// What the worker sends next; none when it has closed the channel or is gone. What came before
    /// counts as taken.
    ///
    /// # Errors
    /// What it sends is not understood.
    pub async fn next(&mut self) -> Result<Option<FromDesk>, MuxError> {
        loop {
            if let Some(message) = self.demux.take()? {
                return Ok(Some(message));
            }
            // A quarter at a time: often enough to keep the other end busy, and seldom enough.
            if self.taken > self.window / 4 {
                let bytes = std::mem::take(&mut self.taken);
                // Where the connection is gone, the next read tells.
                let _ = self.desk.tell(&ToDesk::Taken { bytes }).await;
            }
            match self.read.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    self.taken += data.len();
                    self.demux.push(&data);
                }
                Some(ChannelMsg::Close | ChannelMsg::Eof) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }
}

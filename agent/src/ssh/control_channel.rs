//! The launcher's end of the control channel of a worker.
//!
//! Must not act on a message.

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

use super::client::ChannelError;
use super::control::{self, FrameError, Frames, ToLauncher, ToWorker};

/// Sends control messages to a worker.
pub struct ControlSender {
    write: ChannelWriteHalf<Msg>,
}

impl ControlSender {
    pub(super) fn new(write: ChannelWriteHalf<Msg>) -> Self {
        Self { write }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&self, message: &ToWorker) -> Result<(), ChannelError> {
        Ok(self.write.data_bytes(control::encode(message)?).await?)
    }
}

/// Receives control messages from a worker.
pub struct ControlReceiver {
    read: ChannelReadHalf,
    frames: Frames,
}

impl ControlReceiver {
    pub(super) fn new(read: ChannelReadHalf) -> Self {
        Self { read, frames: Frames::default() }
    }

    /// The next message; none when the worker closed the channel or is gone.
    ///
    /// # Errors
    /// The worker sent something that is not a message.
    pub async fn next(&mut self) -> Result<Option<ToLauncher>, FrameError> {
        loop {
            if let Some(message) = self.frames.take()? {
                return Ok(Some(message));
            }
            match self.read.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    self.frames.push(&data);
                }
                Some(ChannelMsg::Close | ChannelMsg::Eof) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }
}

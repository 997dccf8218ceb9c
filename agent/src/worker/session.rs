//! The server end of one connection: who may enter, and one task for each channel.
//!
//! Must not run anything itself: a callback of the protocol only checks, counts and hands over.

use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{
    Channel, ChannelId, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, server,
};
use tokio::sync::{Notify, Semaphore};

use super::{ConnectionId, Worker, control, exec, lines};
use crate::relay::mux;
use crate::ssh::control::SUBSYSTEM;
use crate::ssh::wire::{Brake, Gauge};

/// Channels that one connection may have open at a time; a launcher needs one for control and one
/// for each daemon.
const MAX_CHANNELS: usize = 256;

/// Environment requests that one channel may make.
const MAX_VARIABLES: usize = 512;

/// The bytes of all its names and values together.
const MAX_VARIABLE_BYTES: usize = 1024 * 1024;

/// One connection, as the channels on it share it.
#[derive(Clone)]
pub struct Link {
    /// Tells connections apart.
    pub id: ConnectionId,
    /// The worker that it leads to.
    pub worker: Arc<Worker>,
    /// What waits to be read on it.
    pub brake: Brake,
    /// Rings when the peer has proved that it holds the job's key.
    pub authenticated: Arc<Notify>,
}

/// Protocol callbacks of one connection.
pub struct Handler {
    link: Link,
    channels: Arc<Semaphore>,
}

impl Handler {
    /// Callbacks for `link`.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link, channels: Arc::new(Semaphore::new(MAX_CHANNELS)) }
    }

    fn admit(&self, key: &PublicKey) -> Auth {
        if self.link.worker.access().admits(key) { Auth::Accept } else { Auth::reject() }
    }
}

impl server::Handler for Handler {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.admit(offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.admit(key.public_key))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Self::Error> {
        self.link.authenticated.notify_one();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Ok(permit) = Arc::clone(&self.channels).try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        reply.accept().await;
        let gauge = self.link.brake.open(channel.id().number());
        let (read, write) = channel.split();
        let handle = session.handle();
        let line = Line { link: self.link.clone(), read, write, handle, gauge };
        tokio::spawn(async move {
            line.serve().await;
            drop(permit);
        });
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.link.brake.arrived(channel.number(), data.len()).await;
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _stream: u32,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.link.brake.arrived(channel.number(), data.len()).await;
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        self.link.brake.target()
    }
}

/// One channel of a connection.
pub struct Line {
    /// The connection.
    pub link: Link,
    /// What the peer sends on it.
    pub read: ChannelReadHalf,
    /// What is sent to the peer.
    pub write: ChannelWriteHalf<Msg>,
    /// For answers that only the connection can give.
    pub handle: Handle,
    /// The account of what waits in `read`.
    pub gauge: Gauge,
}

impl Line {
    /// Serves the channel's first request that means something, then closes it.
    async fn serve(mut self) {
        let mut env: Vec<(String, String)> = Vec::new();
        let mut bytes = 0;
        while let Some(message) = self.read.wait().await {
            match message {
                ChannelMsg::SetEnv { want_reply, variable_name, variable_value } => {
                    bytes += variable_name.len() + variable_value.len();
                    let fits = env.len() < MAX_VARIABLES && bytes <= MAX_VARIABLE_BYTES;
                    let taken = fits && self.link.worker.accepts_variable(&variable_name);
                    if taken {
                        env.push((variable_name, variable_value));
                    }
                    self.answer(want_reply, taken).await;
                }
                ChannelMsg::Exec { want_reply, command } => {
                    self.answer(want_reply, true).await;
                    return exec::serve(self, command, env).await;
                }
                ChannelMsg::RequestSubsystem { want_reply, name } => match name.as_str() {
                    SUBSYSTEM => {
                        self.answer(want_reply, true).await;
                        return control::serve(self).await;
                    }
                    mux::SUBSYSTEM => {
                        self.answer(want_reply, true).await;
                        return lines::serve(self).await;
                    }
                    _ => self.answer(want_reply, false).await,
                },
                ChannelMsg::RequestShell { want_reply }
                | ChannelMsg::RequestPty { want_reply, .. }
                | ChannelMsg::RequestX11 { want_reply, .. }
                | ChannelMsg::AgentForward { want_reply } => self.answer(want_reply, false).await,
                ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
                    self.gauge.consumed(data.len());
                }
                ChannelMsg::Close => return,
                _ => {}
            }
        }
    }

    async fn answer(&self, wanted: bool, yes: bool) {
        if !wanted {
            return;
        }
        let id = self.write.id();
        // A connection that has just gone needs no answer.
        let _ = if yes {
            self.handle.channel_success(id).await
        } else {
            self.handle.channel_failure(id).await
        };
    }
}

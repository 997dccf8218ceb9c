//! The server end of one connection: who may enter, and one task for each channel.
//!
//! Must not run anything itself: a callback of the protocol only checks, counts and hands over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::PublicKey;
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{
    Channel, ChannelId, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, Pty,
    server,
};
use tokio::sync::{Notify, Semaphore};

use super::{ConnectionId, Worker, control, exec, lines};
use crate::relay::mux;
use crate::ssh::control::SUBSYSTEM;
use crate::ssh::credit::{self, Credit};
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

/// What was asked for on a channel so far.
#[derive(Debug, Default)]
struct ChannelRequest {
    variables: Vec<(String, String)>,
    /// Of names and values, refused ones too.
    bytes: usize,
    /// Whether, and how much, the client lets the command say; none: as much as it likes.
    credit: Option<Arc<Credit>>,
    /// Something runs there, or is about to.
    taken: bool,
}

impl ChannelRequest {
    /// Takes a variable for the command to come, or refuses it.
    fn variable(&mut self, name: &str, value: &str, worker: &Worker) -> bool {
        if name == credit::CONSUMED {
            return match &self.credit {
                Some(credit) => credit.consumed(value),
                None if self.taken => false,
                None => self.credit.get_or_insert_default().consumed(value),
            };
        }
        self.bytes += name.len() + value.len();
        let fits = self.variables.len() < MAX_VARIABLES && self.bytes <= MAX_VARIABLE_BYTES;
        let taken = fits && worker.accepts_variable(name);
        if taken {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
        taken
    }

    /// Whether the channel is still free for what is asked for now.
    fn take(&mut self) -> bool {
        !std::mem::replace(&mut self.taken, true)
    }
}

type SharedRequest = Arc<Mutex<ChannelRequest>>;

/// Protocol callbacks of one connection. They answer, since russh keeps one note a channel of whether
/// an answer is due: one given later would pass for that of the next request.
pub struct Handler {
    link: Link,
    channels: Arc<Semaphore>,
    requests: HashMap<ChannelId, SharedRequest>,
}

impl Handler {
    /// Callbacks for `link`.
    #[must_use]
    pub fn new(link: Link) -> Self {
        let channels = Arc::new(Semaphore::new(MAX_CHANNELS));
        Self { link, channels, requests: HashMap::new() }
    }

    /// What `ask` says of what was requested on a channel; no to one that has closed.
    fn with_request(
        &self,
        channel: ChannelId,
        ask: impl FnOnce(&mut ChannelRequest) -> bool,
    ) -> bool {
        self.requests
            .get(&channel)
            .is_some_and(|request| ask(&mut request.lock().unwrap_or_else(PoisonError::into_inner)))
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
        let (id, (read, write)) = (channel.id(), channel.split());
        let request = SharedRequest::default();
        // Those of channels that are over have no other owner any more.
        self.requests.retain(|_, request| Arc::strong_count(request) > 1);
        self.requests.insert(id, Arc::clone(&request));
        let handle = session.handle();
        let line = Line { link: self.link.clone(), read, write, handle, gauge, request };
        tokio::spawn(async move {
            line.serve().await;
            drop(permit);
        });
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let worker = &self.link.worker;
        let taken = self.with_request(channel, |request| request.variable(name, value, worker));
        answer(session, channel, taken)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, self.with_request(channel, ChannelRequest::take))
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let known = [SUBSYSTEM, mux::SUBSYSTEM].contains(&name);
        answer(session, channel, known && self.with_request(channel, ChannelRequest::take))
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, false)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, false)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, false)
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

fn answer(session: &mut Session, channel: ChannelId, yes: bool) -> Result<(), russh::Error> {
    if yes { session.channel_success(channel) } else { session.channel_failure(channel) }
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
    request: SharedRequest,
}

impl Line {
    /// Serves the channel's first request that means something, then closes it.
    async fn serve(mut self) {
        while let Some(message) = self.read.wait().await {
            match message {
                ChannelMsg::Exec { command, .. } => {
                    let (env, credit) = self.take_request();
                    return exec::serve(self, command, env, credit).await;
                }
                ChannelMsg::RequestSubsystem { name, .. } if name == SUBSYSTEM => {
                    return control::serve(self).await;
                }
                ChannelMsg::RequestSubsystem { name, .. } if name == mux::SUBSYSTEM => {
                    return lines::serve(self).await;
                }
                ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
                    self.gauge.consumed(data.len());
                }
                ChannelMsg::Close => return,
                // Refused already, or of no concern.
                _ => {}
            }
        }
    }

    /// The variables for the command, and how much it may say.
    fn take_request(&self) -> (Vec<(String, String)>, Option<Arc<Credit>>) {
        let mut request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut request.variables), request.credit.clone())
    }
}

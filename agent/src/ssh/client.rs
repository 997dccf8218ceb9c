//! The client end of a connection: dials a host, proves both ends, opens channels.
//!
//! Must not retry: who waits for a host decides when to dial again.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::client::{self, AuthResult, DisconnectReason, Msg};
use russh::keys::ssh_key::Algorithm;
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, known_hosts};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::control::{self, FrameError};
use super::control_channel::{ControlReceiver, ControlSender};
use super::credit;
use super::duplex::Duplex;
use super::heartbeat::Heartbeat;
use super::keys::JobKey;
use super::lines_channel::LinesChannel;
use super::remote::Exec;
use super::wire;
use crate::relay::mux;

/// Which host key is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum HostKeys {
    /// Only the job's own key: what a muster worker shows, and a stock sshd whose HostKey is it.
    #[default]
    Job,
    /// Keys listed in ~/.ssh/known_hosts.
    KnownHosts,
    /// Any key: the other end is not authenticated.
    Any,
}

/// With what a connection is opened.
#[derive(Debug, Clone)]
pub struct Login {
    /// The key to sign with.
    pub key: JobKey,
    /// The user name to ask for; muster workers ignore it.
    pub user: String,
    /// Whom to believe.
    pub host_keys: HostKeys,
    /// The host's name, by which known_hosts may list it; its address counts as well.
    pub host: String,
    /// When a silent server is given up.
    pub heartbeat: Heartbeat,
}

/// Why a host could not be connected to; the words are the host's state in the progress line.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing listens on the port.
    #[error("connection refused")]
    Refused,
    /// No answer in time, in the stage named.
    #[error("timed out while {0}")]
    TimedOut(&'static str),
    /// The network says no.
    #[error("{0}")]
    Unreachable(io::Error),
    /// Something answers that does not speak SSH.
    #[error("not an SSH server")]
    NotSsh,
    /// Something took the connection and closed it.
    #[error("closed the connection during the SSH handshake")]
    Closed,
    /// The server showed another key than the one that is believed.
    #[error("wrong host key")]
    WrongHostKey,
    /// The server did not accept the job's key.
    #[error("key refused")]
    KeyRefused,
    /// The SSH protocol broke down.
    #[error("SSH: {0}")]
    Protocol(russh::Error),
}

impl DialError {
    /// Whether it may be otherwise in a moment: the server is not there yet, or is busy. What it says
    /// of keys it will say again.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Refused | Self::TimedOut(_) | Self::Unreachable(_) | Self::Closed => true,
            Self::NotSsh | Self::WrongHostKey | Self::KeyRefused | Self::Protocol(_) => false,
        }
    }
}

/// Why a command or a control channel could not be started on an open connection.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The connection is gone.
    #[error("use the connection: {0}")]
    Lost(#[from] russh::Error),
    /// The server would not.
    #[error("start the command: the server refused")]
    Refused,
    /// The control channel was not understood.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No answer in time.
    #[error("start the command: no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// For a good-bye to be on its way; a silent peer does not take it.
const GOODBYE: Duration = Duration::from_millis(200);

/// How long an open connection may take to answer a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

struct Handler {
    login: Login,
    peer: SocketAddr,
    /// Set where the server has shown the key derived from the job's.
    derived: Arc<AtomicBool>,
    ended: watch::Sender<Option<String>>,
}

impl client::Handler for Handler {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            // Certificates are never offered for; a server that sends one anyway is not believed.
            return Ok(self.login.host_keys == HostKeys::Any);
        };
        let derived = self.login.key.is_derived(key);
        self.derived.store(derived, Ordering::Relaxed);
        // Who shows the derived key holds the job's, by which others know the host.
        let key = if derived { self.login.key.public() } else { key };
        Ok(match self.login.host_keys {
            HostKeys::Job => self.login.key.is(key),
            HostKeys::Any => true,
            HostKeys::KnownHosts => {
                let known = |host: &str| {
                    known_hosts::check_known_hosts(host, self.peer.port(), key).unwrap_or(false)
                };
                known(&self.login.host) || known(&self.peer.ip().to_string())
            }
        })
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        let words = match reason {
            DisconnectReason::ReceivedDisconnect(info) => info.message,
            DisconnectReason::Error(russh::Error::KeepaliveTimeout) => "no sign of life".to_owned(),
            DisconnectReason::Error(error) => error.to_string(),
        };
        self.ended.send_replace(Some(words));
        Ok(())
    }
}

/// One authenticated connection to a host; closed when dropped.
pub struct Connection {
    handle: client::Handle<Handler>,
    ended: watch::Receiver<Option<String>>,
    peer: SocketAddr,
    local: SocketAddr,
    /// The user and the file of the key.
    way: (String, PathBuf),
    took: (Duration, Duration),
}

impl Connection {
    /// Connects, checks the host key, authenticates; all within `limit`.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(peer: SocketAddr, login: Login, limit: Duration) -> Result<Self, DialError> {
        let begun = Instant::now();
        let deadline = begun + limit;
        let stream = timeout_at(deadline, TcpStream::connect(peer))
            .await
            .map_err(|_| DialError::TimedOut("connecting"))?
            .map_err(|error| match error.kind() {
                io::ErrorKind::ConnectionRefused => DialError::Refused,
                io::ErrorKind::TimedOut => DialError::TimedOut("connecting"),
                _ => DialError::Unreachable(error),
            })?;
        let connected = Instant::now();
        let local = stream.local_addr().map_err(DialError::Unreachable)?;
        stream.set_nodelay(true).map_err(DialError::Unreachable)?;
        let (ended, ended_rx) = watch::channel(None);
        let (key, user, derived) = (login.key.clone(), login.user.clone(), Arc::default());
        let way = (user.clone(), key.path().to_path_buf());
        let config = config(login.heartbeat);
        let handler = Handler { login, peer, derived: Arc::clone(&derived), ended };
        let mut handle =
            timeout_at(deadline, client::connect_stream(config, Duplex::new(stream), handler))
                .await
                .map_err(|_| DialError::TimedOut("exchanging keys"))?
                .map_err(handshake_error)?;
        // A server that shows the derived key takes it, too.
        let derived = key.derived().filter(|_| derived.load(Ordering::Relaxed));
        let key = Arc::clone(derived.unwrap_or(key.private()));
        let authenticated = async {
            let hash = match key.algorithm() {
                Algorithm::Rsa { .. } => handle.best_supported_rsa_hash().await?.flatten(),
                // Nothing to be agreed upon, nor to be waited for.
                _ => None,
            };
            handle.authenticate_publickey(user, PrivateKeyWithHashAlg::new(key, hash)).await
        };
        let result = timeout_at(deadline, authenticated)
            .await
            .map_err(|_| DialError::TimedOut("authenticating"))?
            .map_err(DialError::Protocol)?;
        match result {
            AuthResult::Success => {
                let took = (connected - begun, connected.elapsed());
                Ok(Self { handle, ended: ended_rx, peer, local, way, took })
            }
            AuthResult::Failure { .. } => Err(DialError::KeyRefused),
        }
    }

    /// How long it took to connect, and then to exchange keys and authenticate.
    #[must_use]
    pub fn took(&self) -> (Duration, Duration) {
        self.took
    }

    /// The user that it was opened for.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.way.0
    }

    /// The file of the key that was offered.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.way.1
    }

    /// The address at the other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our own address on this connection: the one at which the peer can see us.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Waits until the connection has ended, and says why; does not keep it open.
    pub fn ended(&self) -> impl Future<Output = String> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => "connection closed".into(),
            }
        }
    }

    /// Says good-bye, so that the server need not wonder; bounded.
    pub async fn close(&self) {
        let goodbye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        // A connection that is gone already needs no good-bye.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }

    /// Starts a command; `env` is offered variable by variable and may be refused silently.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub async fn exec(
        &self,
        command: &[u8],
        env: &[(String, String)],
    ) -> Result<Exec, ChannelError> {
        let (mut read, write) = self.channel().await?;
        for (name, value) in env {
            write.set_env(false, name, value).await?;
        }
        write.set_env(true, credit::CONSUMED, "0").await?;
        write.exec(true, command).await?;
        let credited = match granted(&mut read).await {
            Ok(()) => true,
            Err(ChannelError::Refused) => false,
            Err(error) => return Err(error),
        };
        granted(&mut read).await?;
        Ok(Exec::new(read, write, credited, self.ended.clone()))
    }

    /// Opens the control channel; none where the server is not muster.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub async fn control(&self) -> Result<Option<(ControlSender, ControlReceiver)>, ChannelError> {
        let channel = self.subsystem(control::SUBSYSTEM).await?;
        Ok(channel.map(|(read, write)| (ControlSender::new(write), ControlReceiver::new(read))))
    }

    /// Opens a channel for the lines of ranks; none where the server knows of no such thing.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub async fn lines(&self) -> Result<Option<LinesChannel>, ChannelError> {
        let channel = self.subsystem(mux::SUBSYSTEM).await?;
        Ok(channel.map(|(read, write)| LinesChannel::new(read, write)))
    }

    async fn subsystem(
        &self,
        name: &str,
    ) -> Result<Option<(ChannelReadHalf, ChannelWriteHalf<Msg>)>, ChannelError> {
        let (mut read, write) = self.channel().await?;
        write.request_subsystem(true, name).await?;
        match granted(&mut read).await {
            Ok(()) => Ok(Some((read, write))),
            Err(ChannelError::Refused) => {
                // An open channel counts against the sessions that sshd allows (MaxSessions).
                write.close().await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn channel(&self) -> Result<(ChannelReadHalf, ChannelWriteHalf<Msg>), ChannelError> {
        let open = self.handle.channel_open_session();
        let channel: Channel<Msg> = tokio::time::timeout(REQUEST_TIMEOUT, open)
            .await
            .map_err(|_| ChannelError::TimedOut(REQUEST_TIMEOUT))??;
        Ok(channel.split())
    }
}

fn config(heartbeat: Heartbeat) -> Arc<client::Config> {
    Arc::new(client::Config {
        window_size: wire::WINDOW,
        maximum_packet_size: wire::PACKET,
        channel_buffer_size: wire::CHANNEL_MESSAGES,
        preferred: wire::algorithms(),
        keepalive_interval: Some(heartbeat.client_keepalive()),
        keepalive_max: wire::KEEPALIVE_MISSES,
        nodelay: true,
        ..client::Config::default()
    })
}

fn handshake_error(error: russh::Error) -> DialError {
    match error {
        russh::Error::UnknownKey => DialError::WrongHostKey,
        russh::Error::Version | russh::Error::PacketSize(_) => DialError::NotSsh,
        russh::Error::Disconnect => DialError::Closed,
        russh::Error::IO(error) => match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe => DialError::Closed,
            _ => DialError::Unreachable(error),
        },
        other => DialError::Protocol(other),
    }
}

/// Waits for the answer to a channel request.
async fn granted(read: &mut ChannelReadHalf) -> Result<(), ChannelError> {
    let answer = async {
        loop {
            match read.wait().await {
                Some(ChannelMsg::Success) => return Ok(()),
                Some(ChannelMsg::WindowAdjusted { .. }) => {}
                Some(_) => return Err(ChannelError::Refused),
                None => return Err(ChannelError::Lost(russh::Error::Disconnect)),
            }
        }
    };
    tokio::time::timeout(REQUEST_TIMEOUT, answer)
        .await
        .map_err(|_| ChannelError::TimedOut(REQUEST_TIMEOUT))?
}

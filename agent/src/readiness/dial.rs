//! One attempt at one address: dialled, both ends proved, greeted.
//!
//! Must not know who is expected there.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout};

use super::gate::HostState;
use super::wait::{Control, Link, Steps};
use crate::devices::clock::ClockOffset;
use crate::process::status::WaitStatus;
use crate::ssh::client::{Connection, DialError, Login};
use crate::ssh::control::ToLauncher;
use crate::ssh::remote::{Ended, ExecEvent};

/// How addresses are dialled.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) port: u16,
    pub(super) login: Login,
    /// For the login, and again for the hello.
    pub(super) limit: Duration,
}

/// Who is at an address, its connection open.
pub(super) struct Reached {
    /// Never this machine.
    pub(super) link: Link,
    pub(super) steps: Steps,
}

impl Reached {
    /// The connection.
    pub(super) fn connection(&self) -> Option<&Connection> {
        match &self.link {
            Link::Worker(connection, _) | Link::Plain(connection) => Some(connection),
            Link::Here => None,
        }
    }
}

impl Dialler {
    pub(super) async fn dial(&self, address: IpAddr) -> Result<Reached, HostState> {
        let address = SocketAddr::new(address, self.port);
        let connection = Connection::dial(address, self.login.clone(), self.limit)
            .await
            .map_err(|error| state_of(&error))?;
        let (connect, authenticate) = connection.took();
        let steps = Steps { connect, authenticate, ..Steps::default() };
        let dialled = Instant::now();
        match timeout(self.limit, greet(&connection)).await {
            Ok(Ok(control)) => {
                let link = match control {
                    Some(control) => Link::Worker(connection, Box::new(control)),
                    None => Link::Plain(connection),
                };
                Ok(Reached { link, steps: Steps { hello: dialled.elapsed(), ..steps } })
            }
            Ok(Err(words)) => Err(HostState::Failed(words)),
            Err(_) => Err(HostState::TimedOut("waiting for its hello".into())),
        }
    }
}

fn state_of(error: &DialError) -> HostState {
    match error {
        DialError::Refused => HostState::Refused,
        DialError::TimedOut(stage) => HostState::TimedOut((*stage).to_owned()),
        DialError::NotSsh => HostState::NotSsh,
        DialError::Closed => HostState::Closed,
        DialError::WrongHostKey => HostState::WrongHostKey,
        DialError::KeyRefused => HostState::KeyRefused,
        DialError::Unreachable(_) | DialError::Protocol(_) => HostState::Failed(error.to_string()),
    }
}

/// The hello of a muster worker; for a plain SSH server, proof that `true` runs there.
async fn greet(connection: &Connection) -> Result<Option<Control>, String> {
    let asked = Instant::now();
    if let Some((sender, mut receiver)) =
        connection.control().await.map_err(|error| error.to_string())?
    {
        return match receiver.next().await {
            Ok(Some(ToLauncher::Hello(mut hello))) => {
                let offset = |stamp| ClockOffset::of(stamp, SystemTime::now(), asked.elapsed());
                if let (Some(stamp), Some(devices)) = (hello.clock, &mut hello.devices) {
                    devices.clock = Some(offset(stamp));
                }
                Ok(Some(Control { hello: *hello, sender, receiver }))
            }
            Ok(Some(_)) => Err("its first message is no hello".into()),
            Ok(None) => Err("closed its control channel".into()),
            Err(error) => Err(error.to_string()),
        };
    }
    let exec = connection.exec(b"true", &[]).await.map_err(|error| error.to_string())?;
    let (mut events, _stdin) = exec.split();
    loop {
        match events.next().await {
            ExecEvent::Ended(Ended::Status(WaitStatus::Exited(0))) => return Ok(None),
            ExecEvent::Ended(ended) => return Err(format!("`true` did not run there: {ended}")),
            ExecEvent::Stdout(_) | ExecEvent::Stderr(_) => {}
        }
    }
}

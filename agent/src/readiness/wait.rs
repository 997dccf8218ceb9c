//! Brings every host to ready: one task each, bounded and jittered, under one deadline.
//!
//! Must not decide what to say about a host; the gate does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::dial::{Dialler, Reached};
use super::gate::{Gate, HostState, NotReady};
use super::lobby::Lobby;
use super::pace::Pace;
use crate::devices::own::OwnHost;
use crate::discovery::HostSpec;
use crate::discovery::lookup::Lookup;
use crate::exit::{Class, Explain as _};
use crate::ssh::client::{Connection, Login};
use crate::ssh::control::Hello;
use crate::ssh::control_channel::{ControlReceiver, ControlSender};

/// How a wait is bounded.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For everything together.
    pub total: Duration,
    /// For one attempt at one host, from dialling to the hello.
    pub attempt: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { total: Duration::from_secs(600), attempt: Duration::from_secs(15) }
    }
}

/// How often it is asked whether there is something to say.
const TICK: Duration = Duration::from_millis(500);

/// Hosts that are dialled at one time.
const DIALS: usize = 128;

/// The first pause between two attempts at a host, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A host that is ready, its connection kept open.
pub struct Ready {
    /// As asked for.
    pub spec: HostSpec,
    /// How it is reached.
    pub link: Link,
    /// How long each step took, in the attempt that succeeded.
    pub steps: Steps,
}

/// The steps by which a host becomes ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steps {
    /// Its name to an address.
    pub resolve: Duration,
    /// TCP.
    pub connect: Duration,
    /// Keys exchanged, both ends proved.
    pub authenticate: Duration,
    /// Its hello.
    pub hello: Duration,
}

/// How a ready host is reached.
pub enum Link {
    /// It is this machine.
    Here,
    /// A muster worker.
    Worker(Connection, Box<Control>),
    /// A plain SSH server.
    Plain(Connection),
}

/// The control channel of a muster worker.
pub struct Control {
    /// What the worker said of itself.
    pub hello: Hello,
    /// Towards the worker.
    pub sender: ControlSender,
    /// From the worker.
    pub receiver: ControlReceiver,
}

/// Waits until every host is ready, and hands the line of who is missing to `report` now and then.
///
/// A host that was ready and is lost again, because its pod was moved, is waited for anew.
///
/// # Errors
/// [`NotReady`] when the time is over, or when waiting longer cannot help.
pub async fn wait<L: Lookup + Sync + Send + 'static>(
    hosts: Vec<HostSpec>,
    own: Arc<OwnHost>,
    default_port: u16,
    resolver: Arc<L>,
    login: Login,
    patience: Patience,
    mut report: impl FnMut(String),
) -> Result<Vec<Ready>, NotReady> {
    let start = Instant::now();
    let port = |host: &HostSpec| host.port.unwrap_or(default_port);
    let mut gate = Gate::new(hosts.iter().map(|host| (host.name.clone(), port(host))));
    let mut ready: Vec<Option<Ready>> = hosts.iter().map(|_| None).collect();
    let (states, mut news) = mpsc::channel(hosts.len().max(1));
    let dials = Arc::new(Semaphore::new(DIALS));
    let dialler = |port| Dialler { port, login: login.clone(), limit: patience.attempt };
    let lobby = Lobby::open(&hosts, dialler(default_port), &own, &dials).map(Arc::new);
    if let Some(lobby) = &lobby {
        resolver.introduce(Arc::<Lobby>::clone(lobby));
    }
    let attempt = |index: usize| Attempt {
        index,
        dialler: dialler(port(&hosts[index])),
        host: hosts[index].clone(),
        own: Arc::clone(&own),
        resolver: Arc::clone(&resolver),
        lobby: lobby.clone(),
        dials: Arc::clone(&dials),
        states: states.clone(),
    };
    let mut attempts: JoinSet<_> = (0..hosts.len()).map(|index| attempt(index).repeat()).collect();
    let mut losses: JoinSet<(usize, String)> = JoinSet::new();
    let (mut ticks, mut pace) = (interval(TICK), Pace::default());
    let deadline = tokio::time::sleep_until(start + patience.total);
    tokio::pin!(deadline);
    while !gate.is_open() {
        tokio::select! {
            // In this order, so that no older state of a host is noted over a newer one.
            biased;
            () = &mut deadline => return Err(gate.give_up(start.elapsed())),
            Some((index, state)) = news.recv() => {
                gate.set(index, state, start.elapsed());
                if gate.is_hopeless(start.elapsed()) {
                    return Err(gate.give_up(start.elapsed()));
                }
            }
            Some(Ok((index, reason))) = losses.join_next() => {
                ready[index] = None;
                gate.lose(index, &reason, start.elapsed());
                attempts.spawn(attempt(index).repeat());
            }
            Some(Ok((index, host))) = attempts.join_next() => {
                gate.set(index, HostState::Ready, start.elapsed());
                if let Link::Worker(connection, _) | Link::Plain(connection) = &host.link {
                    let end = connection.ended();
                    losses.spawn(async move { (index, end.await) });
                }
                ready[index] = Some(host);
            }
            _ = ticks.tick() => {
                if pace.is_due(&gate.picture(), start.elapsed()) {
                    report(gate.progress(start.elapsed()));
                }
                if gate.is_hopeless(start.elapsed()) {
                    return Err(gate.give_up(start.elapsed()));
                }
            }
        }
    }
    report(gate.progress(start.elapsed()));
    Ok(ready.into_iter().flatten().collect())
}

struct Attempt<L> {
    index: usize,
    host: HostSpec,
    dialler: Dialler,
    own: Arc<OwnHost>,
    resolver: Arc<L>,
    lobby: Option<Arc<Lobby>>,
    dials: Arc<Semaphore>,
    states: mpsc::Sender<(usize, HostState)>,
}

impl<L: Lookup + Sync> Attempt<L> {
    /// Tries until it succeeds; who waits drops it when the time is over.
    async fn repeat(mut self) -> (usize, Ready) {
        let mut pause = PAUSE.0;
        if let Some(user) = &self.host.user {
            self.dialler.login.user.clone_from(user);
        }
        self.dialler.login.host = self.host.name.to_string();
        loop {
            match self.once().await {
                Ok(ready) => return (self.index, ready),
                Err(HostState::Absent(words)) => {
                    self.tell(HostState::Absent(words)).await;
                    self.resolver.news(&self.host.name).await;
                    pause = PAUSE.0;
                    continue;
                }
                Err(state) => self.tell(state).await,
            }
            let jitter = rand::rng().random_range(0.75..1.25);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = pause.mul_f64(1.5).min(PAUSE.1);
        }
    }

    async fn tell(&self, state: HostState) {
        // Nobody listens any more only when this task is about to be dropped.
        let _ = self.states.send((self.index, state)).await;
    }

    async fn once(&self) -> Result<Ready, HostState> {
        let begun = Instant::now();
        let steps = Steps::default();
        let here = || Ready { spec: self.host.clone(), link: Link::Here, steps };
        if self.own.is_named(&self.host.name) {
            return Ok(here());
        }
        // Asked for in each attempt: a pod that was moved has another address.
        let addresses = self.resolver.lookup(&self.host.name).await.map_err(|error| {
            let words = error.to_string();
            match error.class() {
                Class::Config => HostState::Unresolvable(words),
                _ if error.is_absence() => HostState::Absent(words),
                _ if error.is_half_known() => HostState::HalfKnown(words),
                _ => HostState::NoName(words),
            }
        })?;
        if addresses.iter().any(|address| self.own.is_at(*address)) {
            return Ok(here());
        }
        let resolve = begun.elapsed();
        self.tell(HostState::Resolved).await;
        let mut last = HostState::NoName("no address".into());
        for address in addresses {
            match self.reach(address).await {
                Ok(Reached { link, steps }) => {
                    let steps = Steps { resolve, ..steps };
                    return Ok(Ready { spec: self.host.clone(), link, steps });
                }
                Err(state) => last = state,
            }
        }
        Err(last)
    }

    /// Who was greeted at the address already is not dialled a second time.
    async fn reach(&self, address: IpAddr) -> Result<Reached, HostState> {
        if let Some(lobby) = &self.lobby
            && let Some(greeted) = lobby.take(address).await
        {
            return greeted;
        }
        let _permit = self.dials.acquire().await;
        self.dialler.dial(address).await
    }
}

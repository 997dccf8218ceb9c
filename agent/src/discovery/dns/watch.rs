//! Looking for hosts that are not there yet, without asking for names that do not exist.
//!
//! A cache in front of the cluster's DNS keeps "no such name" for up to 30 s, so that a question that
//! comes too early delays its own answer (coredns 2434). Here the name of the hosts' headless Service
//! is asked for, which exists from the first pod on. Whose each address in its answer is, the address
//! itself is asked once, where somebody can, and DNS for its pointer record where that does not tell. A
//! host's own name is asked for where the Service tells nothing, and now and then in case that it tells
//! wrong; never again before the last answer to it can have changed.
//!
//! Must not know search lists, nor how a question is asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, Notify};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::exchange::{Question, Reply};
use super::{Missed, Upstream};
use crate::discovery::lookup::{Greeter, LookupError};
use crate::discovery::pods::Pods;
use crate::discovery::standing::Standing;
use crate::discovery::suffix::Place;
use crate::ids::HostName;

/// For the answer to a Service's name, and for those to all its new addresses: who waits for them
/// could ask for the host instead.
const SERVICE: Duration = Duration::from_secs(2);

/// For an address to say itself whose it is; DNS is asked instead of who takes longer.
const GREETING: Duration = Duration::from_secs(1);

/// After how long without any sign of the Service a host behind it is asked for nevertheless.
const SOON: Duration = Duration::from_secs(5);

/// The same where the Service has other pods, and how often from then on: some server may not give
/// all of a Service's pods, or the names of none.
const RARELY: Duration = Duration::from_secs(30);

/// What is known of a Service.
struct Service {
    pods: Pods,
    state: State,
    standing: Standing,
    /// Since when the answer has been the same.
    same: Instant,
    /// When it is asked for again.
    due: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No answer.
    Unknown,
    /// No such name.
    Missing,
    /// The name is there, with or without addresses.
    There,
}

/// What is known of a host that was not there.
struct Absent {
    since: Instant,
    standing: Standing,
    /// When it was asked for, and what was answered.
    last: Option<(Instant, LookupError)>,
    /// When it is asked for again.
    due: Instant,
}

/// Everything that is known of hosts and Services that were looked for.
pub(super) struct Watch {
    start: Instant,
    services: Mutex<HashMap<String, Arc<Turn<Service>>>>,
    absent: Mutex<HashMap<HostName, Absent>>,
    /// Something was learnt that concerns every host.
    learnt: Notify,
    greeter: OnceLock<Arc<dyn Greeter>>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let (services, absent) = (Mutex::default(), Mutex::default());
        let (learnt, greeter) = (Notify::new(), OnceLock::new());
        Self { start: Instant::now(), services, absent, learnt, greeter }
    }

    pub(super) fn introduce(&self, greeter: Arc<dyn Greeter>) {
        // One is enough; a second would know no more.
        let _ = self.greeter.set(greeter);
    }

    /// Wakes everybody who waits for news.
    pub(super) fn tell(&self) {
        self.learnt.notify_waiters();
    }

    fn service(&self, name: &str) -> Arc<Turn<Service>> {
        let mut services = held(&self.services);
        if let Some(service) = services.get(name) {
            return Arc::clone(service);
        }
        let now = Instant::now();
        let (pods, standing) = (Pods::default(), Standing::default());
        let service = Service { pods, state: State::Unknown, standing, same: now, due: now };
        let service = Arc::new(Turn::new(service));
        services.insert(name.to_owned(), Arc::clone(&service));
        service
    }

    /// Whether the host may be asked for now; if not, the answer without asking.
    fn may_ask(&self, host: &HostName, ruled_out: Option<RuledOut>) -> Result<(), LookupError> {
        let now = Instant::now();
        let mut hosts = held(&self.absent);
        let absent = hosts.entry(host.clone()).or_insert_with(|| Absent::since(now));
        let answer = match (ruled_out, &absent.last) {
            (Some(RuledOut { error, patience }), last) => {
                let from = last.as_ref().map_or(absent.since, |(at, _)| *at);
                absent.due = absent.due.max(from + patience);
                error
            }
            (None, Some((_, error))) => error.clone(),
            (None, None) => {
                absent.due = now;
                return Ok(());
            }
        };
        if now < absent.due { Err(answer) } else { Ok(()) }
    }

    /// Takes what asking for the host came to.
    fn asked(&self, host: &HostName, missed: Option<&Missed>) {
        let now = Instant::now();
        let mut hosts = held(&self.absent);
        let Some(Missed { error, ttl }) = missed else {
            hosts.remove(host);
            return;
        };
        let absent = hosts.entry(host.clone()).or_insert_with(|| Absent::since(now));
        absent.due = now + absent.standing.pause(*ttl, now - absent.since);
        absent.last = Some((now, error.clone()));
    }
}

impl Absent {
    fn since(now: Instant) -> Self {
        Self { since: now, standing: Standing::default(), last: None, due: now }
    }
}

/// What a Service says of a host that is not among its pods.
struct RuledOut {
    error: LookupError,
    /// For how long that is believed.
    patience: Duration,
}

impl Service {
    /// None where the host may be there all the same.
    fn rules_out(&self, place: &Place, is_home: bool) -> Option<RuledOut> {
        let patience = match self.state {
            State::Missing if is_home => SOON,
            State::There if self.pods.is_empty() && is_home => SOON,
            State::There
                if self.pods.are_named_below(&place.service) && self.pods.are_all_named() =>
            {
                RARELY
            }
            State::Unknown | State::Missing | State::There => return None,
        };
        let (service, pods) = (place.service.clone(), self.pods.len());
        Some(RuledOut { error: LookupError::NotBehind { service, pods }, patience })
    }

    fn answered(&mut self, reply: Result<Reply, Missed>) {
        let now = Instant::now();
        let (state, ttl) = match &reply {
            Ok(reply) if reply.no_such_name => (State::Missing, reply.ttl),
            Ok(reply) => (State::There, reply.ttl),
            Err(_) => (State::Unknown, Duration::ZERO),
        };
        let mut changed = state != self.state;
        if let Ok(reply) = reply {
            changed |= self.pods.answered(reply.addresses);
        }
        if changed {
            self.same = now;
        }
        self.state = state;
        self.due = now + self.standing.pause(ttl, now - self.same);
    }
}

impl Upstream {
    /// Where a host is that is looked for again and again.
    pub(super) async fn find(
        self: &Arc<Self>,
        watch: &Watch,
        host: &HostName,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let places = self.suffixes().places(host);
        let mut ruled_out = None;
        for place in &places {
            let service = watch.service(&place.service);
            let mut service = service.lock().await;
            self.look(watch, &mut service, place).await;
            let addresses = service.pods.addresses_of(&place.name);
            if !addresses.is_empty() {
                self.learn(Some(watch), host, &place.suffix);
                watch.asked(host, None);
                return Ok(addresses);
            }
            if places.len() == 1 {
                ruled_out = service.rules_out(place, self.suffixes().is_home(&place.service));
            }
        }
        watch.may_ask(host, ruled_out)?;
        let answer = self.in_turn(Some(watch), host).await;
        watch.asked(host, answer.as_ref().err());
        answer.map_err(|missed| missed.error)
    }

    /// Asks for the Service where its last answer may have changed, and whose its new addresses are.
    async fn look(self: &Arc<Self>, watch: &Watch, service: &mut Service, place: &Place) {
        let now = watch.start.elapsed();
        service.pods.renew(&place.name, now);
        if Instant::now() >= service.due {
            let question = self.ask(&place.service, Question::OneFamily);
            let late = |_| Err(self.late(SERVICE));
            service.answered(timeout(SERVICE, question).await.unwrap_or_else(late));
        }
        let mut nameless = service.pods.nameless(now);
        let deadline = Instant::now() + SERVICE;
        if let Some(greeter) = watch.greeter.get() {
            let pods = &mut service.pods;
            // One record proves that this is a headless Service whose pods have names below its own, and
            // not one with an address for all of them, or some domain's wildcard: nobody is greeted there.
            if let Some(first) = nameless.first().filter(|_| !pods.are_named_below(&place.service))
            {
                let until = Instant::now() + GREETING / 2;
                for (address, names) in self.names_of([*first], until).await {
                    if !names.is_empty() {
                        pods.name(address, names, now);
                    }
                }
                nameless = pods.nameless(now);
            }
            if pods.are_named_below(&place.service) {
                let said = greet(greeter, nameless, &place.service).await;
                nameless = pods.heard(said, now).into_iter().collect();
            }
        }
        for (address, names) in self.names_of(nameless, deadline).await {
            service.pods.name(address, names, now);
        }
    }

    /// The names to which these addresses point; none where there was no answer.
    async fn names_of(
        self: &Arc<Self>,
        addresses: impl IntoIterator<Item = IpAddr>,
        deadline: Instant,
    ) -> Vec<(IpAddr, Vec<String>)> {
        let mut asking = JoinSet::new();
        for address in addresses {
            let upstream = Arc::clone(self);
            asking.spawn(async move {
                let question = upstream.pointers(address);
                let reply = timeout_at(deadline, question).await.ok().and_then(Result::ok);
                (address, reply.unwrap_or_default().names)
            });
        }
        asking.join_all().await
    }

    /// Waits until asking for the host may bring something new.
    pub(super) async fn news(&self, watch: &Watch, host: &HostName) {
        let learnt = watch.learnt.notified();
        let mut due = held(&watch.absent).get(host).map(|absent| absent.due);
        let places = self.suffixes().places(host);
        for place in places {
            let service = watch.service(&place.service);
            let again = service.lock().await.due;
            due = Some(due.map_or(again, |due| due.min(again)));
        }
        match due {
            Some(due) => {
                let _ = timeout(due.saturating_duration_since(Instant::now()), learnt).await;
            }
            None => sleep_until(Instant::now() + SERVICE).await,
        }
    }
}

/// The full names, below the Service's, that who is at these addresses say they have.
async fn greet(
    greeter: &Arc<dyn Greeter>,
    addresses: Vec<IpAddr>,
    service: &str,
) -> Vec<(IpAddr, Option<String>)> {
    let until = Instant::now() + GREETING;
    let mut asking = JoinSet::new();
    for address in addresses {
        let greeter = Arc::clone(greeter);
        asking.spawn(async move {
            let name = timeout_at(until, greeter.greet(address)).await.ok().flatten();
            (address, name)
        });
    }
    let full = |name: String| match name.split_once('.') {
        None => Some(format!("{name}.{service}")),
        // As setHostnameAsFQDN makes it.
        Some((_, domain)) => (domain == service).then_some(name),
    };
    let said = asking.join_all().await.into_iter();
    said.map(|(address, name)| (address, name.and_then(full))).collect()
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks, so a poisoned one is as good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

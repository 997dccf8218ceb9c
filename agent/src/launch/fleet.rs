//! The ready hosts of a job and the connections to them, kept open until the end.
//!
//! Must not decide anything; it finds hosts, carries messages and reports what it hears.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::event::{Event, Loss};
use super::socket::WayAsked;
use crate::devices::own::OwnHost;
use crate::ids::HostName;
use crate::readiness::wait::{Control, Link, Ready};
use crate::relay::Report;
use crate::ssh::client::Connection;
use crate::ssh::control::{ToLauncher, ToWorker};
use crate::ssh::control_channel::{ControlReceiver, ControlSender};
use crate::ssh::heartbeat::Heartbeat;

/// For a message to be on its way.
const TELLING: Duration = Duration::from_secs(1);

/// Between the end of a control channel and that of its connection.
const CLOSING: Duration = Duration::from_secs(1);

/// How a command reaches a host.
pub enum Way {
    /// It is started on this machine.
    Here,
    /// It is sent over this connection.
    Over(Arc<Connection>),
}

struct Member {
    name: HostName,
    connection: Option<Arc<Connection>>,
    sender: Option<Arc<ControlSender>>,
}

impl Member {
    /// Whether the connection, where there is one, is the way that was asked for.
    fn is(&self, asked: &WayAsked) -> Option<bool> {
        let connection = self.connection.as_ref()?;
        // With no control channel it is an sshd, which serves one user or another.
        let user = self.sender.is_none().then(|| connection.user());
        Some(asked.is(connection.peer().port(), user, connection.key()))
    }
}

/// All hosts of the job.
pub struct Fleet {
    members: Vec<Member>,
    own: Arc<OwnHost>,
    here: HostName,
}

impl Fleet {
    /// Takes the ready hosts over and starts listening to them.
    #[must_use]
    pub fn new(
        ready: Vec<Ready>,
        own: Arc<OwnHost>,
        heartbeat: Heartbeat,
        events: &mpsc::Sender<Event>,
    ) -> Self {
        let mut here = HostName::from(own.hostname.as_str());
        let mut members = Vec::with_capacity(ready.len());
        for Ready { spec, link, .. } in ready {
            let name = spec.name;
            let (connection, sender) = match link {
                Link::Here => {
                    here = name.clone();
                    (None, None)
                }
                Link::Plain(connection) => (Some(Arc::new(connection)), None),
                Link::Worker(connection, control) => {
                    let Control { sender, receiver, .. } = *control;
                    tokio::spawn(listen(name.clone(), receiver, heartbeat, events.clone()));
                    (Some(Arc::new(connection)), Some(Arc::new(sender)))
                }
            };
            if let Some(connection) = &connection {
                tokio::spawn(mourn(name.clone(), Arc::clone(connection), events.clone()));
            }
            members.push(Member { name, connection, sender });
        }
        Self { members, own, here }
    }

    /// This machine, by its name in the plan where it is in it.
    #[must_use]
    pub fn here(&self) -> &HostName {
        &self.here
    }

    /// The hosts that run a muster worker.
    pub fn workers(&self) -> impl Iterator<Item = &HostName> {
        self.members.iter().filter(|member| member.sender.is_some()).map(|member| &member.name)
    }

    /// The host that mpirun means by `name`, and the way to it; none = not of this job, or not by the
    /// way that was asked for.
    ///
    /// mpirun may shorten names (Open MPI 4 without `orte_keep_fqdn_hostnames`) and may ask for its
    /// own host (Hydra does).
    #[must_use]
    pub fn find(&self, name: &str, asked: &WayAsked) -> Option<(HostName, Way)> {
        let name = HostName::from(name);
        let exact = self.members.iter().find(|member| member.name == name);
        let by_address = || {
            let address: IpAddr = name.as_str().parse().ok()?;
            let at = |member: &&Member| {
                member.connection.as_ref().is_some_and(|link| link.peer().ip() == address)
            };
            self.members.iter().find(at)
        };
        let short = || {
            let is = |member: &&Member| are_one(member.name.as_str(), name.as_str());
            let mut same = self.members.iter().filter(is);
            // Two hosts of one short name are told apart by nothing; neither is guessed.
            same.next().filter(|_| same.next().is_none())
        };
        let (host, way) = match exact.or_else(by_address).or_else(short) {
            Some(member) => match &member.connection {
                Some(connection) => {
                    let over = || (member.name.clone(), Way::Over(Arc::clone(connection)));
                    return member.is(asked)?.then(over);
                }
                None => (member.name.clone(), Way::Here),
            },
            None if self.own.is_named(&name) => (self.here.clone(), Way::Here),
            None => return None,
        };
        // mpirun's words for its agents are the same for all hosts, and this one has no port of its own.
        let mut others = self.members.iter().filter_map(|member| member.is(asked)).peekable();
        (others.peek().is_none() || others.any(|fits| fits)).then_some((host, way))
    }

    /// The connections to muster workers.
    pub fn connections(&self) -> impl Iterator<Item = (&HostName, Arc<Connection>)> {
        let workers = self.members.iter().filter(|member| member.sender.is_some());
        workers.filter_map(|member| Some((&member.name, Arc::clone(member.connection.as_ref()?))))
    }

    /// Sends a message to every muster worker, all at once; those that are gone show it by
    /// themselves.
    pub async fn tell_workers(&self, message: &ToWorker) {
        let mut telling = JoinSet::new();
        for sender in self.members.iter().filter_map(|member| member.sender.clone()) {
            let message = message.clone();
            telling.spawn(async move { timeout(TELLING, sender.send(&message)).await });
        }
        telling.join_all().await;
    }

    /// Says good-bye to every host, all at once.
    pub async fn close(&self) {
        let mut goodbyes = JoinSet::new();
        for connection in self.members.iter().filter_map(|member| member.connection.clone()) {
            goodbyes.spawn(async move { connection.close().await });
        }
        goodbyes.join_all().await;
    }
}

/// Whether one name is the other without its last labels: `w0` and `w0.pi` are one host, `w0.pi` and
/// `w0.other` are two.
fn are_one(a: &str, b: &str) -> bool {
    let begins =
        |long: &str, short| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'));
    let is_name = |text: &str| text.parse::<IpAddr>().is_err();
    let [a, b] = [a, b].map(|name| name.trim_end_matches('.'));
    is_name(a) && is_name(b) && (a == b || begins(a, b) || begins(b, a))
}

/// Turns what a worker says into events.
async fn listen(
    host: HostName,
    mut receiver: ControlReceiver,
    heartbeat: Heartbeat,
    events: mpsc::Sender<Event>,
) {
    // Nobody is missed who has never promised to be heard.
    let mut patience = Duration::MAX;
    loop {
        let message = match timeout(patience, receiver.next()).await {
            Err(_) => timeout(heartbeat.second_look(), receiver.next()).await,
            in_time => in_time,
        };
        let Ok(message) = message else {
            let loss = Loss::Silent { missed: heartbeat.misses, time: patience };
            // Nobody listens when the launch is over.
            let _ = events.send(Event::WorkerLost(host, loss)).await;
            return;
        };
        let event = match message {
            Ok(Some(ToLauncher::Heartbeat { still })) => {
                patience = heartbeat.patience();
                Event::Still(host.clone(), still)
            }
            Ok(Some(ToLauncher::OomKilled(kills))) => Event::OomKilled(host.clone(), kills),
            Ok(Some(ToLauncher::Full { paths })) => Event::Full(host.clone(), paths),
            Ok(Some(ToLauncher::Ranks { ranks })) => Event::Ranks(host.clone(), ranks),
            Ok(Some(ToLauncher::Terminating { grace_ms })) => {
                Event::WorkerStopping(host.clone(), Duration::from_millis(grace_ms))
            }
            Ok(Some(ToLauncher::RankStarted { source, hello })) => {
                Event::Rank(host.clone(), Report::Started(source, hello))
            }
            Ok(Some(ToLauncher::RankEnded { source, ended })) => {
                Event::Rank(host.clone(), Report::Ended(source, ended))
            }
            Ok(Some(ToLauncher::Ended { terminated, killed })) => {
                Event::WorkerCleared(host.clone(), terminated, killed)
            }
            Ok(Some(ToLauncher::Hello(_) | ToLauncher::CalledBack { .. })) => continue,
            Ok(None) => {
                // With its connection, as a rule; whoever watches that says why.
                tokio::time::sleep(CLOSING).await;
                Event::WorkerLost(
                    host.clone(),
                    Loss::Connection("it closed its control channel".into()),
                )
            }
            Err(error) => Event::WorkerLost(host.clone(), Loss::Connection(error.to_string())),
        };
        let over = matches!(event, Event::WorkerLost(..));
        if events.send(event).await.is_err() || over {
            return;
        }
    }
}

/// Reports the end of a connection.
async fn mourn(host: HostName, connection: Arc<Connection>, events: mpsc::Sender<Event>) {
    let reason = connection.ended().await;
    // Nobody listens when the launch is over.
    let _ = events.send(Event::WorkerLost(host, Loss::Connection(reason))).await;
}

#[cfg(test)]
mod tests {
    use super::are_one;

    #[test]
    fn shortened_names() {
        for (a, b, one) in [
            ("w0.pi.default.svc", "w0", true),
            ("w0", "w0.pi", true),
            ("w0.pi.default.svc", "w0.pi", true),
            ("w0.pi", "w0.pi.", true),
            ("w0.pi.default.svc", "w0.pi.", true),
            ("w0.pi.default.svc", "w0.other.svc", false),
            ("w0.pi", "w0.other", false),
            ("w0", "w01", false),
            ("10.0.0.7", "10", false),
        ] {
            assert_eq!(are_one(a, b), one, "{a} {b}");
            assert_eq!(are_one(b, a), one, "{b} {a}");
        }
    }
}

//! Who is behind new addresses, by its own word: each is dialled once, before it is known which host it
//! is, and the connection kept for a moment for whichever host turns out to be there.
//!
//! Only who proves the job's key is listened to, as ever. Must not decide which host an address is where
//! that is in doubt: the lookup does, by DNS.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::sleep;

use super::dial::{Dialler, Reached};
use super::gate::HostState;
use super::wait::Link;
use crate::devices::own::OwnHost;
use crate::discovery::HostSpec;
use crate::discovery::lookup::{Boxed, Greeter};
use crate::ids::{HostName, short};
use crate::ssh::client::HostKeys;

/// How long a connection waits to be taken. Whose address it is, DNS tells within it; who is not of the
/// job is left then.
const KEPT: Duration = Duration::from_secs(5);

/// Addresses that may be dialled in vain, beyond two for each host: a Service that has more is not the
/// job's alone.
const MORE: usize = 8;

type Greeted = Result<Reached, HostState>;

/// One dial, under way or waiting to be taken.
struct Visit {
    number: u64,
    outcome: oneshot::Receiver<Greeted>,
}

#[derive(Default)]
struct Visits {
    at: HashMap<IpAddr, Visit>,
    begun: u64,
    /// Those that have brought no host of the job so far.
    in_vain: usize,
}

/// Addresses that were dialled before it was known whose they are.
pub(super) struct Lobby {
    dialler: Dialler,
    own: Arc<OwnHost>,
    dials: Arc<Semaphore>,
    /// First labels, in lower case, that one host alone has.
    hosts: Arc<HashSet<String>>,
    most: usize,
    visits: Arc<Mutex<Visits>>,
}

impl Lobby {
    /// None where a host's name, port or user must be known before it is dialled.
    pub(super) fn open(
        hosts: &[HostSpec],
        dialler: Dialler,
        own: &Arc<OwnHost>,
        dials: &Arc<Semaphore>,
    ) -> Option<Self> {
        let alike = |host: &HostSpec| {
            host.user.is_none() && host.port.is_none_or(|port| port == dialler.port)
        };
        // known_hosts may list keys by name; and who shows any key proves nothing by its words.
        if dialler.login.host_keys != HostKeys::Job || !hosts.iter().all(alike) {
            return None;
        }
        Some(Self {
            dialler,
            own: Arc::clone(own),
            dials: Arc::clone(dials),
            hosts: Arc::new(told_apart(hosts.iter().map(|host| &host.name))),
            most: 2 * hosts.len() + MORE,
            visits: Arc::default(),
        })
    }

    /// What greeting the address has come to, where it was greeted just now; waits for what is under way.
    pub(super) async fn take(&self, address: IpAddr) -> Option<Greeted> {
        let visit = held(&self.visits).at.remove(&address)?;
        let greeted = visit.outcome.await.ok()?;
        let lost = |reached: &Reached| reached.connection().is_some_and(|link| !link.is_open());
        if greeted.as_ref().is_ok_and(lost) { None } else { Some(greeted) }
    }

    /// Dials the address; the name that who is there says comes before the connection can be taken.
    fn visit(&self, address: IpAddr) -> Option<oneshot::Receiver<String>> {
        if self.own.is_at(address) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        let (mut give, outcome) = oneshot::channel();
        let number = {
            let mut visits = held(&self.visits);
            if visits.in_vain >= self.most {
                return None;
            }
            visits.in_vain += 1;
            visits.begun += 1;
            let number = visits.begun;
            visits.at.insert(address, Visit { number, outcome });
            number
        };
        let (dialler, dials) = (self.dialler.clone(), Arc::clone(&self.dials));
        let (hosts, visits) = (Arc::clone(&self.hosts), Arc::downgrade(&self.visits));
        tokio::spawn(async move {
            let greeting = async {
                let _permit = dials.acquire().await;
                dialler.dial(address).await
            };
            let greeted = tokio::select! {
                greeted = greeting => greeted,
                // Dialled anew, or the wait is over.
                () = give.closed() => return,
            };
            let name = name_of(&greeted).filter(|name| hosts.contains(short(name)));
            // Where the other ends are gone, nobody has waited.
            let _ = give.send(greeted);
            if let Some(name) = name {
                if let Some(visits) = visits.upgrade() {
                    held(&visits).in_vain -= 1;
                }
                let _ = tell.send(name);
            } else {
                drop(tell);
            }
            sleep(KEPT).await;
            let Some(visits) = visits.upgrade() else { return };
            if let Some(Ok(reached)) = forget(&visits, address, number)
                && let Some(connection) = reached.connection()
            {
                connection.close().await;
            }
        });
        Some(told)
    }
}

impl Greeter for Lobby {
    fn greet<'a>(&'a self, address: IpAddr) -> Boxed<'a, Option<String>> {
        Box::pin(async move { self.visit(address)?.await.ok() })
    }
}

/// The kernel's host name of a muster worker, in lower case.
fn name_of(greeted: &Greeted) -> Option<String> {
    match &greeted.as_ref().ok()?.link {
        Link::Worker(_, control) => Some(control.hello.hostname.to_ascii_lowercase()),
        Link::Plain(_) | Link::Here => None,
    }
}

/// First labels by which one host is told from all others.
fn told_apart<'a>(hosts: impl Iterator<Item = &'a HostName>) -> HashSet<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for host in hosts {
        *counts.entry(host.short().to_ascii_lowercase()).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count == 1).map(|(label, _)| label).collect()
}

/// What nobody has taken, unless the address was dialled anew.
fn forget(visits: &Mutex<Visits>, address: IpAddr, number: u64) -> Option<Greeted> {
    let mut visits = held(visits);
    if visits.at.get(&address)?.number != number {
        return None;
    }
    visits.at.remove(&address)?.outcome.try_recv().ok()
}

fn held(visits: &Mutex<Visits>) -> MutexGuard<'_, Visits> {
    // Nothing is left half done under this lock, so a poisoned one is as good.
    visits.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::told_apart;
    use crate::ids::HostName;

    #[test]
    fn a_label_of_two_hosts_tells_neither() {
        let hosts = ["w-0.a", "W-1.a.n.svc", "w-1.b", "w-2", "10.0.0.1"].map(HostName::from);
        let mut labels = Vec::from_iter(told_apart(hosts.iter()));
        labels.sort_unstable();
        assert_eq!(labels, ["10.0.0.1", "w-0", "w-2"]);
    }
}

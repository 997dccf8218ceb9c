//! A DNS server that behaves like CoreDNS in front of a headless Service, with switches for its bad days.
//!
//! Must not answer from anywhere but what was published: nothing leaves the lab.

mod server;
mod zone;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::rr::Name;
pub use hickory_proto::rr::RecordType;

use crate::error::{LabError, Result};
use server::Server;
use zone::Zone;

/// The most queries that the log keeps; later ones are not logged.
const LOG: usize = 100_000;

/// A query as the server saw it.
#[derive(Debug, Clone)]
pub struct Query {
    /// The name asked for, in lower case, without the last dot.
    pub name: String,
    /// A, AAAA, …
    pub kind: RecordType,
    /// When it came.
    pub when: Instant,
    /// Over TCP rather than UDP.
    pub over_tcp: bool,
    /// Who asked.
    pub from: IpAddr,
}

/// The lab's DNS: records, switches and the log of queries. Changes hold from the next query on.
#[derive(Debug)]
pub struct Dns {
    shared: Arc<Mutex<Shared>>,
    _server: Server,
}

#[derive(Debug, Default)]
struct Shared {
    zone: Zone,
    queries: Vec<Query>,
    paused: bool,
    truncate: bool,
    failing: BTreeSet<RecordType>,
}

impl Dns {
    /// Starts the server on port 53 of the bridge's address in `net`.
    pub(crate) fn start(net: &OwnedFd) -> Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let server = Server::start(net, Arc::clone(&shared))?;
        Ok(Self { shared, _server: server })
    }

    /// Publishes an address for a full name such as `pi-worker-0.pi.default.svc.cluster.local`; the name above it
    /// (the headless Service) gets the address too. A second address is added to the first.
    pub fn publish(&self, name: &str, address: impl Into<IpAddr>) -> Result<()> {
        let name = parse(name)?;
        self.lock().zone.publish(name, address.into());
        Ok(())
    }

    /// Takes a name with all its addresses away.
    pub fn withdraw(&self, name: &str) -> Result<()> {
        let name = parse(name)?;
        self.lock().zone.withdraw(&name);
        Ok(())
    }

    /// Replaces all addresses of a name by one: the pod was rescheduled.
    pub fn change(&self, name: &str, address: impl Into<IpAddr>) -> Result<()> {
        let name = parse(name)?;
        let mut shared = self.lock();
        shared.zone.withdraw(&name);
        shared.zone.publish(name, address.into());
        Ok(())
    }

    /// Makes a Service exist without members: asking for it then gives "no data" instead of "no such name".
    pub fn declare(&self, service: &str) -> Result<()> {
        let service = parse(service)?;
        self.lock().zone.declare(service);
        Ok(())
    }

    /// How long a "no such name" stays the answer for a name and type once it was given, even if the name is
    /// published meanwhile. CoreDNS caches for up to 30 s; the lab does not by default.
    pub fn cache_negative(&self, time: Option<Duration>) {
        self.lock().zone.cache_negative(time);
    }

    /// The same for answers with addresses: a pod that has moved is given at its old address for this long.
    pub fn cache_positive(&self, time: Option<Duration>) {
        self.lock().zone.cache_positive(time);
    }

    /// Answers every UDP query with the TC bit and no records, so that clients must come back over TCP.
    pub fn force_truncation(&self, on: bool) {
        self.lock().truncate = on;
    }

    /// Answers every query of this type with SERVFAIL.
    pub fn fail(&self, kind: RecordType, on: bool) {
        let failing = &mut self.lock().failing;
        if on {
            failing.insert(kind)
        } else {
            failing.remove(&kind)
        };
    }

    /// Lets queries go unanswered (they are still logged).
    pub fn pause(&self) {
        self.lock().paused = true;
    }

    /// Answers again; queries of the meantime are lost.
    pub fn resume(&self) {
        self.lock().paused = false;
    }

    /// What was asked so far, in order.
    pub fn queries(&self) -> Vec<Query> {
        self.lock().queries.clone()
    }

    /// Waits until a full name has been asked for.
    pub fn wait_for_query(&self, name: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while !self.queries().iter().any(|query| query.name == name) {
            if Instant::now() > until {
                let (what, tail) = (format!("a query for {name}"), String::new());
                return Err(LabError::Deadline { what, limit, tail });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Forgets the log.
    pub fn clear_queries(&self) {
        self.lock().queries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(name: &str) -> Result<Name> {
    let mut parsed =
        Name::from_ascii(name).map_err(|_| LabError::Name { name: name.to_owned() })?;
    parsed.set_fqdn(true);
    Ok(parsed.to_lowercase())
}

//! Asking DNS where hosts are, straight from `/etc/resolv.conf`, with nothing remembered but the
//! search suffix: a pod that moves is found at its new address at the next attempt, and one that
//! appears is found at once, whatever was answered before.
//!
//! Works the same in a static binary, where the C library's resolver and nsswitch are not to be had.
//! Must not decide when to ask again: that is readiness.

mod exchange;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::Name;
use tokio::sync::{Mutex as Turn, Semaphore};
use tokio::time::timeout;

use self::exchange::{both_families, exchange};
use super::hosts_file::{self, HostsFile};
use super::lookup::{Boxed, Lookup, LookupError};
use super::resolv_conf::{self, ResolvConf, ResolvConfError};
use super::suffix::{Candidate, Course, Suffixes};
use crate::ids::HostName;

/// The longest that one attempt for one host may take, whatever resolv.conf says.
pub const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a host waits for the one before it to learn the suffix, before it walks the list itself.
const TURN: Duration = Duration::from_secs(1);
/// How long a name further down the search list is waited for, once the server has answered for one
/// before it. What lies there is often a company's domain that cannot be reached from the cluster.
const FURTHER: Duration = Duration::from_secs(1);
/// Hosts asked for at a time: each takes two sockets, of 1,024 that a process may usually have.
const AT_ONCE: usize = 64;

/// Answers [`Lookup`] from `/etc/hosts` and DNS.
pub struct Resolver {
    hosts: HostsFile,
    upstream: Result<Upstream, Arc<ResolvConfError>>,
}

/// The name servers and what they taught.
struct Upstream {
    servers: Vec<(SocketAddr, TokioResolver)>,
    /// The one that answered last, so that a dead first one costs its time only once.
    preferred: AtomicUsize,
    suffixes: Mutex<Suffixes>,
    /// Held by the one host that walks the list while nothing has been learnt.
    turn: Turn<()>,
    at_once: Semaphore,
    attempt: Duration,
    /// The time of one server within one attempt.
    each: Duration,
}

/// What one full name came to.
enum Answer {
    Found(Vec<IpAddr>),
    Absent,
    Failed(LookupError),
}

impl Resolver {
    /// From `/etc/resolv.conf` and `/etc/hosts`.
    #[must_use]
    pub fn from_system() -> Self {
        Self::from_files(Path::new(resolv_conf::PATH), Path::new(hosts_file::PATH))
    }

    /// From other files. A resolv.conf that cannot be used is an error of the first lookup that
    /// needs it: addresses and the names in the hosts file do without.
    #[must_use]
    pub fn from_files(resolv_conf: &Path, hosts: &Path) -> Self {
        let conf = resolv_conf::read(resolv_conf).map_err(Arc::new);
        Self { hosts: HostsFile::new(hosts), upstream: conf.map(|conf| Upstream::new(&conf)) }
    }

    /// From a value; tests use it for the port.
    #[must_use]
    pub fn from_conf(conf: &ResolvConf, hosts: &Path) -> Self {
        Self { hosts: HostsFile::new(hosts), upstream: Ok(Upstream::new(conf)) }
    }

    async fn resolve(&self, host: &HostName) -> Result<Vec<IpAddr>, LookupError> {
        let text = host.as_str();
        if let Ok(address) = text.parse() {
            return Ok(vec![address]);
        }
        let mut addresses = self.hosts.lookup(text);
        // RFC 6761 §6.3: this name is never asked of a server.
        if addresses.is_empty() && text.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        if !addresses.is_empty() {
            addresses.sort_by_key(IpAddr::is_ipv6);
            return Ok(addresses);
        }
        match &self.upstream {
            Ok(upstream) => upstream.attempt(host).await,
            Err(error) => Err(LookupError::NoServer(Arc::clone(error))),
        }
    }
}

impl Lookup for Resolver {
    fn lookup<'a>(&'a self, name: &'a HostName) -> Boxed<'a, Result<Vec<IpAddr>, LookupError>> {
        Box::pin(self.resolve(name))
    }
}

impl Upstream {
    fn new(conf: &ResolvConf) -> Self {
        let attempt = ATTEMPT.min(conf.timeout.saturating_mul(conf.attempts));
        let count = u32::try_from(conf.servers.len()).unwrap_or(1).max(1);
        let each = (attempt / count).min(conf.timeout);
        let servers = conf.servers.iter();
        Self {
            servers: servers
                .filter_map(|server| Some((*server, exchange(*server, each)?)))
                .collect(),
            preferred: AtomicUsize::new(0),
            suffixes: Mutex::new(Suffixes::new(conf)),
            turn: Turn::new(()),
            at_once: Semaphore::new(AT_ONCE),
            attempt,
            each,
        }
    }

    async fn attempt(&self, host: &HostName) -> Result<Vec<IpAddr>, LookupError> {
        match timeout(self.attempt, self.in_turn(host)).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(self.attempt)),
        }
    }

    fn timed_out(&self, after: Duration) -> LookupError {
        let servers = self.servers.iter().map(|(server, _)| *server).collect();
        LookupError::Timeout { after, servers }
    }

    /// While nothing has been learnt, one host goes first, so that a thousand hosts do not each walk
    /// the list. One that gets no answer does not hold up the others for longer than [`TURN`].
    async fn in_turn(&self, host: &HostName) -> Result<Vec<IpAddr>, LookupError> {
        let learnt = self.suffixes().has_learnt();
        let turn = if learnt { None } else { timeout(TURN, self.turn.lock()).await.ok() };
        // Closed never, and if it were, asking too much at once would be the lesser evil.
        let _permit = self.at_once.acquire().await.ok();
        let course = self.suffixes().course(host);
        // The one before has taught the suffix: nobody needs to wait for this host.
        let _turn = turn.filter(|_| matches!(course, Course::Walk(_)));
        let candidates = match course {
            Course::Direct(one) => vec![one],
            Course::Walk(several) => several,
        };
        self.walk(host, candidates).await
    }

    /// The first name that answers. A failure further down the list does not end the walk and does
    /// not hide that the names before it are absent.
    async fn walk(
        &self,
        host: &HostName,
        candidates: Vec<Candidate>,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let mut asked = Vec::new();
        let mut unanswered = Vec::new();
        for Candidate { name, suffix } in candidates {
            let answer = if asked.is_empty() {
                self.ask(&name).await
            } else {
                let late = |_| Answer::Failed(self.timed_out(FURTHER));
                timeout(FURTHER, self.ask(&name)).await.unwrap_or_else(late)
            };
            match answer {
                Answer::Found(addresses) => {
                    self.suffixes().found(host, &suffix);
                    return Ok(addresses);
                }
                Answer::Absent => asked.push(name),
                Answer::Failed(error) => unanswered.push((name, error)),
            }
        }
        match unanswered.pop() {
            Some((_, error)) if asked.is_empty() => Err(error),
            last => {
                let unanswered = unanswered.into_iter().chain(last).map(|(name, _)| name);
                Err(LookupError::NoSuchName { asked, unanswered: unanswered.collect() })
            }
        }
    }

    /// Both address families at once, of one server after the other until one answers.
    async fn ask(&self, full_name: &str) -> Answer {
        let Ok(name) = Name::from_ascii(full_name) else {
            return Answer::Failed(LookupError::NotAName { name: full_name.to_owned() });
        };
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = None;
        for step in 0..self.servers.len() {
            let at = (first + step) % self.servers.len();
            let Some((server, exchange)) = self.servers.get(at) else { continue };
            match both_families(exchange, self.each, &name).await {
                Ok(addresses) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return if addresses.is_empty() {
                        Answer::Absent
                    } else {
                        Answer::Found(addresses)
                    };
                }
                Err(NetError::Timeout) => {
                    failure.get_or_insert_with(|| self.timed_out(self.each));
                }
                Err(error) => {
                    failure = Some(LookupError::ServerFailure {
                        server: *server,
                        name: full_name.to_owned(),
                        reason: error.to_string(),
                    });
                }
            }
        }
        Answer::Failed(failure.unwrap_or_else(|| self.timed_out(self.each)))
    }

    fn suffixes(&self) -> MutexGuard<'_, Suffixes> {
        // Nothing is left half done under this lock, so a poisoned one is as good.
        self.suffixes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

//! Asking DNS where hosts are, straight from `/etc/resolv.conf`.
//!
//! Once, with nothing remembered but the search suffix; or again and again for a job whose hosts come
//! one after the other: see [`watch`].
//!
//! Works the same in a static binary, where the C library's resolver and nsswitch are not to be had.
//! Must not decide how long to wait for a host: that is readiness.

mod exchange;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::Name;
use tokio::sync::{Mutex as Turn, Semaphore};
use tokio::time::{sleep, timeout};

use self::exchange::{Question, Reply, exchange};
use self::watch::Watch;
use super::hosts_file::{self, HostsFile};
use super::lookup::{Boxed, Greeter, Lookup, LookupError};
use super::resolv_conf::{self, ResolvConf, ResolvConfError};
use super::suffix::{Candidate, Course, Suffix, Suffixes};
use crate::devices::host::{Roots, hostname};
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

/// How often `/etc/hosts` is looked at for a host that is not there.
const HOSTS_FILE: Duration = Duration::from_secs(2);

/// Answers [`Lookup`] from `/etc/hosts` and DNS.
pub struct Resolver {
    hosts: HostsFile,
    upstream: Result<Arc<Upstream>, Arc<ResolvConfError>>,
    watch: Option<Watch>,
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

/// Why a host was not found, and for how long a cache may give the same answer.
struct Missed {
    error: LookupError,
    ttl: Duration,
}

impl Resolver {
    /// From `/etc/resolv.conf` and `/etc/hosts`, for a host or two that should be there.
    #[must_use]
    pub fn from_system() -> Self {
        let (resolv_conf, hosts) = (Path::new(resolv_conf::PATH), Path::new(hosts_file::PATH));
        Self::from_files(resolv_conf, hosts, hostname(&Roots::default()).as_deref())
    }

    /// The same for a job's hosts, which are looked for until they are there.
    #[must_use]
    pub fn of_job() -> Self {
        Self::from_system().watching()
    }

    /// From other files. A resolv.conf that cannot be used is an error of the first lookup that
    /// needs it: addresses and the names in the hosts file do without.
    #[must_use]
    pub fn from_files(resolv_conf: &Path, hosts: &Path, hostname: Option<&str>) -> Self {
        Self::new(resolv_conf::read(resolv_conf), hosts, hostname)
    }

    fn new(
        conf: Result<ResolvConf, ResolvConfError>,
        hosts: &Path,
        hostname: Option<&str>,
    ) -> Self {
        let hosts = HostsFile::new(hosts);
        let home = hostname.and_then(|name| hosts.domain_of(name));
        let upstream = conf.map(|conf| Arc::new(Upstream::new(&conf, home))).map_err(Arc::new);
        Self { hosts, upstream, watch: None }
    }

    fn watching(self) -> Self {
        Self { watch: Some(Watch::new()), ..self }
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
            Ok(upstream) => upstream.attempt(self.watch.as_ref(), host).await,
            Err(error) => Err(LookupError::NoServer(Arc::clone(error))),
        }
    }

    async fn until_news(&self, host: &HostName) {
        if let (Ok(upstream), Some(watch)) = (&self.upstream, &self.watch) {
            let changes = upstream.news(watch, host);
            // The hosts file tells nobody when it changes.
            let _ = timeout(HOSTS_FILE, changes).await;
        } else {
            sleep(HOSTS_FILE).await;
        }
    }
}

impl Lookup for Resolver {
    fn lookup<'a>(&'a self, name: &'a HostName) -> Boxed<'a, Result<Vec<IpAddr>, LookupError>> {
        Box::pin(self.resolve(name))
    }

    fn news<'a>(&'a self, name: &'a HostName) -> Boxed<'a, ()> {
        Box::pin(self.until_news(name))
    }

    fn introduce(&self, greeter: Arc<dyn Greeter>) {
        if let Some(watch) = &self.watch {
            watch.introduce(greeter);
        }
    }
}

impl Upstream {
    fn new(conf: &ResolvConf, home: Option<String>) -> Self {
        let attempt = ATTEMPT.min(conf.timeout.saturating_mul(conf.attempts));
        let count = u32::try_from(conf.servers.len()).unwrap_or(1).max(1);
        let each = (attempt / count).min(conf.timeout);
        let servers = conf.servers.iter();
        Self {
            servers: servers
                .filter_map(|server| Some((*server, exchange(*server, each)?)))
                .collect(),
            preferred: AtomicUsize::new(0),
            suffixes: Mutex::new(Suffixes::new(conf, home)),
            turn: Turn::new(()),
            at_once: Semaphore::new(AT_ONCE),
            attempt,
            each,
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        watch: Option<&Watch>,
        host: &HostName,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let answer = async {
            match watch {
                Some(watch) => self.find(watch, host).await,
                None => self.in_turn(None, host).await.map_err(|missed| missed.error),
            }
        };
        let late = |_| Err(self.late(self.attempt).error);
        timeout(self.attempt, answer).await.unwrap_or_else(late)
    }

    fn late(&self, after: Duration) -> Missed {
        let servers = self.servers.iter().map(|(server, _)| *server).collect();
        LookupError::Timeout { after, servers }.into()
    }

    /// While nothing has been learnt, one host goes first, so that a thousand hosts do not each walk
    /// the list. One that gets no answer does not hold up the others for longer than [`TURN`].
    async fn in_turn(&self, watch: Option<&Watch>, host: &HostName) -> Result<Vec<IpAddr>, Missed> {
        let learnt = self.suffixes().has_learnt();
        let turn = if learnt { None } else { timeout(TURN, self.turn.lock()).await.ok() };
        let course = self.suffixes().course(host);
        // The one before has taught the suffix: nobody needs to wait for this host.
        let _turn = turn.filter(|_| matches!(course, Course::Walk(_)));
        let candidates = match course {
            Course::Direct(one) => vec![one],
            Course::Walk(several) => several,
        };
        let (addresses, suffix) = self.walk(candidates).await?;
        self.learn(watch, host, &suffix);
        Ok(addresses)
    }

    /// Notes the suffix under which the host was found.
    fn learn(&self, watch: Option<&Watch>, host: &HostName, suffix: &Suffix) {
        let taught = {
            let mut suffixes = self.suffixes();
            let before = suffixes.has_learnt();
            suffixes.found(host, suffix);
            !before && suffixes.has_learnt()
        };
        if let Some(watch) = watch.filter(|_| taught) {
            watch.tell();
        }
    }

    /// The first name that answers. A failure further down the list does not end the walk and does
    /// not hide that the names before it are absent.
    async fn walk(&self, candidates: Vec<Candidate>) -> Result<(Vec<IpAddr>, Suffix), Missed> {
        let (mut asked, mut unanswered) = (Vec::new(), Vec::new());
        let mut ttl: Option<Duration> = None;
        for Candidate { name, suffix } in candidates {
            let question = self.ask(&name, Question::Addresses);
            let answer = if asked.is_empty() {
                question.await
            } else {
                timeout(FURTHER, question).await.unwrap_or_else(|_| Err(self.late(FURTHER)))
            };
            match answer {
                Ok(reply) if reply.addresses.is_empty() => {
                    ttl = Some(ttl.map_or(reply.ttl, |ttl| ttl.min(reply.ttl)));
                    asked.push(name);
                }
                Ok(reply) => return Ok((reply.addresses, suffix)),
                Err(missed) => unanswered.push((name, missed)),
            }
        }
        if let Some((_, missed)) = unanswered.pop_if(|_| asked.is_empty()) {
            return Err(missed);
        }
        // A name that was not answered is worth another question at once.
        let ttl = ttl.filter(|_| unanswered.is_empty()).unwrap_or_default();
        let unanswered = unanswered.into_iter().map(|(name, _)| name).collect();
        Err(Missed { error: LookupError::NoSuchName { asked, unanswered }, ttl })
    }

    /// The names that an address points to.
    async fn pointers(&self, address: IpAddr) -> Result<Reply, Missed> {
        self.question(&Name::from(address), Question::Pointers).await
    }

    async fn ask(&self, full_name: &str, question: Question) -> Result<Reply, Missed> {
        let Ok(mut name) = Name::from_ascii(full_name) else {
            return Err(LookupError::NotAName { name: full_name.to_owned() }.into());
        };
        name.set_fqdn(true);
        self.question(&name, question).await
    }

    /// Asks one server after the other until one answers.
    async fn question(&self, name: &Name, question: Question) -> Result<Reply, Missed> {
        // Closed never, and if it were, asking too much at once would be the lesser evil.
        let _permit = self.at_once.acquire().await.ok();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = None;
        for step in 0..self.servers.len() {
            let at = (first + step) % self.servers.len();
            let Some((server, exchange)) = self.servers.get(at) else { continue };
            match exchange::ask(exchange, self.each, name, question).await {
                Ok(reply) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(NetError::Timeout) => {
                    failure.get_or_insert_with(|| self.late(self.each));
                }
                Err(error) => {
                    let (server, name, reason) = (*server, name.to_ascii(), error.to_string());
                    failure = Some(LookupError::ServerFailure { server, name, reason }.into());
                }
            }
        }
        Err(failure.unwrap_or_else(|| self.late(self.each)))
    }

    fn suffixes(&self) -> MutexGuard<'_, Suffixes> {
        // Nothing is left half done under this lock, so a poisoned one is as good.
        self.suffixes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<LookupError> for Missed {
    /// Nobody keeps an answer that was none.
    fn from(error: LookupError) -> Self {
        Self { error, ttl: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests;

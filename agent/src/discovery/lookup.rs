//! The question "where is this host now?", apart from how it is answered.
//!
//! Must not know DNS's wire, so that readiness can be tested against a table.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::resolv_conf::ResolvConfError;
use crate::exit::{Class, Explain};
use crate::ids::HostName;

/// A future that can be handed to another task.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How long [`Lookup::news`] takes where nothing is known of when an answer may change.
const A_WHILE: Duration = Duration::from_secs(1);

/// Finds the addresses of hosts, as of now.
pub trait Lookup: Send + Sync {
    /// The addresses of a host, at least one, IPv4 before IPv6. Bounded in time.
    fn lookup<'a>(&'a self, name: &'a HostName) -> Boxed<'a, Result<Vec<IpAddr>, LookupError>>;

    /// Waits until asking for this host, which was absent, may bring another answer.
    fn news<'a>(&'a self, name: &'a HostName) -> Boxed<'a, ()> {
        let _ = name;
        Box::pin(tokio::time::sleep(A_WHILE))
    }

    /// Takes somebody who can tell by asking there whose an address is, which spares DNS the question.
    /// Whoever has no use for it goes on without.
    fn introduce(&self, greeter: Arc<dyn Greeter>) {
        drop(greeter);
    }

    /// The addresses of all pods behind a headless Service, in ascending order and each once; what
    /// hosts they mean is said by [`service::members`](super::service::members).
    fn lookup_service<'a>(
        &'a self,
        service: &'a HostName,
    ) -> Boxed<'a, Result<Vec<IpAddr>, LookupError>> {
        Box::pin(async move {
            let mut addresses = self.lookup(service).await?;
            addresses.sort_unstable();
            addresses.dedup();
            Ok(addresses)
        })
    }
}

/// Asks at an address itself who is there.
pub trait Greeter: Send + Sync {
    /// The host name that who is there says it has, proved by the job's key, in lower case: one that
    /// says which of the hosts that are looked for it is. None where it does not, or says nothing.
    fn greet<'a>(&'a self, address: IpAddr) -> Boxed<'a, Option<String>>;
}

/// Why a host has no address, this time.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LookupError {
    /// "No such name", or "no address", is what was answered.
    #[error("{}", absence(asked, unanswered))]
    NoSuchName {
        /// The full names to which this was the answer, in order.
        asked: Vec<String>,
        /// Those to which there was none: the host may have one of them.
        unanswered: Vec<String>,
    },
    /// Its Service has pods, or is not there at all, and none of them has this name.
    #[error("{}", stranger(service, *pods))]
    NotBehind {
        /// The Service's full name.
        service: String,
        /// Pods that it has.
        pods: usize,
    },
    /// A name server answered that it could not, or would not, answer.
    #[error("name server {server} failed for {name}: {reason}")]
    ServerFailure {
        /// Which one, of several the last.
        server: SocketAddr,
        /// The full name.
        name: String,
        /// The response code or the transport's error.
        reason: String,
    },
    /// No answer within the time of one attempt.
    #[error("no answer within {:.1} s from name server {}", after.as_secs_f64(), list(servers))]
    Timeout {
        /// The time of one attempt.
        after: Duration,
        /// All that were asked.
        servers: Vec<SocketAddr>,
    },
    /// There is no name server to ask.
    #[error("no name server to ask: {0}")]
    NoServer(Arc<ResolvConfError>),
    /// With a suffix the name is too long for DNS, or it holds what DNS cannot.
    #[error("'{name}' cannot be a name in DNS")]
    NotAName {
        /// The name.
        name: String,
    },
}

fn absence(asked: &[String], unanswered: &[String]) -> String {
    let asked = asked.join(", ");
    if unanswered.is_empty() {
        return format!("no such name (asked for {asked})");
    }
    format!("no usable answer for {} (and no such name: {asked})", unanswered.join(", "))
}

fn stranger(service: &str, pods: usize) -> String {
    match pods {
        0 => format!("no such name, as no pod is behind {service}"),
        1 => format!("no such name; the one pod behind {service} has another"),
        _ => format!("no such name among those of the {pods} pods behind {service}"),
    }
}

fn list(servers: &[SocketAddr]) -> String {
    servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(", ")
}

impl LookupError {
    /// Whether the name may simply not be published yet, as opposed to something being broken.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        match self {
            Self::NoSuchName { unanswered, .. } => unanswered.is_empty(),
            Self::NotBehind { .. } => true,
            Self::ServerFailure { .. }
            | Self::Timeout { .. }
            | Self::NoServer(_)
            | Self::NotAName { .. } => false,
        }
    }

    /// Whether some of the names that the host may have are absent, and for others there was no answer.
    #[must_use]
    pub const fn is_half_known(&self) -> bool {
        matches!(self, Self::NoSuchName { unanswered, .. } if !unanswered.is_empty())
    }

    /// Whether DNS did not answer: the same question, asked again at once, may find the host.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::ServerFailure { .. } | Self::Timeout { .. }) || self.is_half_known()
    }
}

impl Explain for LookupError {
    fn class(&self) -> Class {
        match self {
            Self::NoSuchName { .. }
            | Self::NotBehind { .. }
            | Self::ServerFailure { .. }
            | Self::Timeout { .. } => Class::NameResolution,
            Self::NoServer(_) | Self::NotAName { .. } => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSuchName { unanswered, .. } if !unanswered.is_empty() => {
                "the pod may not be Ready yet; but the cluster's DNS is overloaded or cannot be reached, \
                 or the search list in /etc/resolv.conf ends with a domain whose servers do not answer"
            }
            Self::NoSuchName { .. } | Self::NotBehind { .. } => {
                "a pod's name appears when the pod is Ready, or at once if its headless Service has \
                 publishNotReadyAddresses: true; check the pod's subdomain and the Service's name"
            }
            Self::ServerFailure { .. } | Self::Timeout { .. } => {
                "check the cluster's DNS pods and that a NetworkPolicy lets this pod reach port 53, \
                 UDP and TCP"
            }
            Self::NoServer(_) => {
                "give the pod a dnsPolicy with a name server, or name the hosts by address"
            }
            Self::NotAName { .. } => "check the name in the list of hosts",
        };
        Some(hint.to_owned())
    }
}

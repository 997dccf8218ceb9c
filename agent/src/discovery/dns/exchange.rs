//! Questions to one name server.
//!
//! Must not know search lists or other servers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::{Instant, timeout_at};

/// How long the other address family is waited for once one has answered; some servers never answer
/// AAAA. RFC 8305 §3 allows 50 ms where a person waits; nobody does here.
const GRACE: Duration = Duration::from_millis(500);

/// What is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Its addresses of both families.
    Addresses,
    /// Its IPv4 addresses, and IPv6 ones only where there is none: one family is enough to count by.
    OneFamily,
    /// The names that an address points to.
    Pointers,
}

/// A server's answer; "nothing" is one.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// IPv4 before IPv6.
    pub(super) addresses: Vec<IpAddr>,
    /// In lower case, without the last dot.
    pub(super) names: Vec<String>,
    /// Its time to live: for how long a cache may give the same. None for "nothing" without the
    /// record that would tell (RFC 2308 §5), which is not kept.
    pub(super) ttl: Duration,
    /// There is nothing of any kind under this name, nor below it (RFC 8020).
    pub(super) no_such_name: bool,
}

impl Reply {
    fn and(mut self, other: Self) -> Self {
        // What is there counts: nothing of the other family may be kept for another time.
        self.ttl = match (self.addresses.is_empty(), other.addresses.is_empty()) {
            (true, false) => other.ttl,
            (false, true) => self.ttl,
            _ => self.ttl.min(other.ttl),
        };
        self.addresses.extend(other.addresses);
        self.no_such_name &= other.no_such_name;
        self
    }
}

/// One server, UDP first and TCP for what does not fit, no cache of any kind, no search list: names
/// come here absolute. A lost packet is sent again by the exchange itself, within `patience`.
pub(super) fn exchange(server: SocketAddr, patience: Duration) -> Option<TokioResolver> {
    let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    udp.port = server.port();
    tcp.port = server.port();
    let name_server = NameServerConfig::new(server.ip(), true, vec![udp, tcp]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);

    let mut options = ResolverOpts::default();
    options.timeout = patience;
    options.attempts = 0;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.num_concurrent_reqs = 1;

    let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.with_options(options).build().ok()
}

/// The server's answer within `patience`.
pub(super) async fn ask(
    exchange: &TokioResolver,
    patience: Duration,
    name: &Name,
    question: Question,
) -> Result<Reply, NetError> {
    let deadline = Instant::now() + patience;
    let one = async |kind, until| {
        timeout_at(until, records(exchange, name, kind)).await.unwrap_or(Err(NetError::Timeout))
    };
    if question == Question::Pointers {
        return one(RecordType::PTR, deadline).await;
    }
    // One after the other: an absent name, which most are while a job starts, is asked for once.
    let v4 = one(RecordType::A, deadline).await;
    let until = match &v4 {
        Ok(reply) if reply.no_such_name => return v4,
        Ok(reply) if reply.addresses.is_empty() => deadline,
        Ok(_) if question == Question::OneFamily => return v4,
        Ok(_) => deadline.min(Instant::now() + GRACE),
        Err(NetError::Timeout) => return v4,
        Err(_) => deadline,
    };
    let v6 = one(RecordType::AAAA, until).await;
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok(v4.and(v6)),
        // One family that answers with addresses is enough; "none" beside a failure is not.
        (Ok(one), Err(_)) | (Err(_), Ok(one)) if !one.addresses.is_empty() => Ok(one),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// One question.
async fn records(
    exchange: &TokioResolver,
    name: &Name,
    kind: RecordType,
) -> Result<Reply, NetError> {
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    let answer = match exchange.lookup(name.clone(), kind).await {
        Ok(answer) => answer,
        Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => {
            return Ok(Reply {
                ttl: nothing.negative_ttl.map(seconds).unwrap_or_default(),
                no_such_name: nothing.response_code == ResponseCode::NXDomain,
                ..Reply::default()
            });
        }
        Err(error) => return Err(error),
    };
    let mut reply = Reply::default();
    for record in answer.answers() {
        match &record.data {
            RData::A(address) => reply.addresses.push(IpAddr::V4(address.0)),
            RData::AAAA(address) => reply.addresses.push(IpAddr::V6(address.0)),
            RData::PTR(target) => {
                let name = target.0.to_ascii().to_ascii_lowercase();
                reply.names.push(name.trim_end_matches('.').to_owned());
            }
            _ => {}
        }
    }
    reply.ttl = answer.answers().iter().map(|one| seconds(one.ttl)).min().unwrap_or_default();
    Ok(reply)
}

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
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::{Instant, timeout_at};

/// How long the other address family is waited for once one has answered; some servers never answer
/// AAAA. RFC 8305 §3 allows 50 ms where a person waits; nobody does here.
const GRACE: Duration = Duration::from_millis(500);

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
    options.positive_max_ttl = Some(Duration::ZERO);
    options.negative_max_ttl = Some(Duration::ZERO);
    options.use_hosts_file = ResolveHosts::Never;
    options.num_concurrent_reqs = 1;

    let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.with_options(options).build().ok()
}

/// IPv4 before IPv6; empty where the name, or both families of it, are absent.
pub(super) async fn both_families(
    exchange: &TokioResolver,
    patience: Duration,
    name: &Name,
) -> Result<Vec<IpAddr>, NetError> {
    let deadline = Instant::now() + patience;
    let a = family(exchange, name, RecordType::A);
    let aaaa = family(exchange, name, RecordType::AAAA);
    tokio::pin!(a, aaaa);
    let late = |_| Err(NetError::Timeout);
    let soon = |first: &Result<Vec<IpAddr>, NetError>| match first {
        Ok(addresses) if !addresses.is_empty() => deadline.min(Instant::now() + GRACE),
        Ok(_) | Err(_) => deadline,
    };
    let (v4, v6) = tokio::select! {
        v4 = &mut a => {
            let v6 = timeout_at(soon(&v4), aaaa).await.unwrap_or_else(late);
            (v4, v6)
        }
        v6 = &mut aaaa => {
            let v4 = timeout_at(soon(&v6), a).await.unwrap_or_else(late);
            (v4, v6)
        }
    };
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.extend(v6);
            Ok(v4)
        }
        // One family that answers with addresses is enough; "none" beside a failure is not.
        (Ok(one), Err(_)) | (Err(_), Ok(one)) if !one.is_empty() => Ok(one),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// One question; no such name and no such record are an empty answer.
async fn family(
    exchange: &TokioResolver,
    name: &Name,
    family: RecordType,
) -> Result<Vec<IpAddr>, NetError> {
    match exchange.lookup(name.clone(), family).await {
        Ok(answer) => {
            let address = |data: &RData| match data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            };
            Ok(answer.answers().iter().filter_map(|record| address(&record.data)).collect())
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

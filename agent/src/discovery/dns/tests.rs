//! The resolver against a real server in this process: what it finds, and what that costs.

mod server;
mod watch;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::net::xfer::Protocol;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use self::server::DnsServer;
use super::{ATTEMPT, Resolver};
use crate::discovery::lookup::{Lookup as _, LookupError};
use crate::discovery::resolv_conf::ResolvConf;
use crate::exit::{Class, Explain as _};
use crate::ids::HostName;

/// As a pod has it, but for the servers.
fn pod(servers: &[SocketAddr]) -> ResolvConf {
    let search = ["pi.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"];
    ResolvConf {
        servers: servers.to_vec(),
        search: search.map(str::to_owned).to_vec(),
        ndots: 5,
        timeout: Duration::from_secs(5),
        attempts: 2,
    }
}

fn resolver(servers: &[SocketAddr]) -> Resolver {
    Resolver::new(Ok(pod(servers)), Path::new("/nonexistent"), None)
}

async fn find(resolver: &Resolver, name: &str) -> Result<Vec<String>, LookupError> {
    let addresses = resolver.lookup(&HostName::from(name)).await?;
    Ok(addresses.iter().map(ToString::to_string).collect())
}

/// Both questions for each name.
fn both(names: &[&str]) -> Vec<String> {
    names.iter().flat_map(|name| [format!("{name} A"), format!("{name} AAAA")]).collect()
}

#[tokio::test]
async fn the_list_is_walked_once_and_then_each_host_costs_one_question_a_family() {
    let dns = DnsServer::start().await;
    for index in 0..64 {
        dns.publish(&format!("w-{index}.pi.svc.cluster.local."), &["10.0.0.1"]);
    }
    let resolver = resolver(&[dns.address]);
    find(&resolver, "w-0.pi").await.unwrap();
    let walked = both(&["w-0.pi.pi.svc.cluster.local.", "w-0.pi.svc.cluster.local."]);
    // A name that does not exist has no address of the other family either.
    assert_eq!(dns.asked(), [&walked[..1], &walked[2..]].concat());
    for index in 1..64 {
        find(&resolver, &format!("w-{index}.pi")).await.unwrap();
        assert_eq!(dns.asked(), both(&[&format!("w-{index}.pi.svc.cluster.local.")]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_asked_for_together_let_one_go_first() {
    let dns = DnsServer::start().await;
    for index in 0..64 {
        dns.publish(&format!("w-{index}.pi.cluster.local."), &["10.0.0.1", "fd77::1"]);
    }
    let resolver = Arc::new(resolver(&[dns.address]));
    let mut lookups = JoinSet::new();
    for index in 0..64 {
        let resolver = Arc::clone(&resolver);
        lookups.spawn(async move { find(&resolver, &format!("w-{index}.pi")).await });
    }
    for found in lookups.join_all().await {
        assert_eq!(found.unwrap(), ["10.0.0.1", "fd77::1"]);
    }
    // Two names in vain for the first host, then one a host, of two families.
    assert_eq!(dns.asked().len(), 2 + 2 * 64);
}

#[tokio::test]
async fn a_pod_that_appears_is_found_at_the_next_attempt() {
    let dns = DnsServer::start().await;
    dns.publish("w-0.svc.cluster.local.", &["10.0.0.1"]);
    let resolver = resolver(&[dns.address]);
    find(&resolver, "w-0").await.unwrap();
    dns.asked();

    for _ in 0..3 {
        let error = find(&resolver, "w-1").await.unwrap_err();
        assert_eq!(error.to_string(), "no such name (asked for w-1.svc.cluster.local.)");
        assert!(error.is_absence() && error.class() == Class::NameResolution);
        assert_eq!(dns.asked(), ["w-1.svc.cluster.local. A"], "one question");
    }
    dns.publish("w-1.svc.cluster.local.", &["10.0.0.2"]);
    assert_eq!(find(&resolver, "w-1").await.unwrap(), ["10.0.0.2"]);
}

#[tokio::test]
async fn a_name_without_addresses_is_absent_too() {
    let dns = DnsServer::start().await;
    dns.publish("w-0.", &[]);
    let error = find(&resolver(&[dns.address]), "w-0.").await.unwrap_err();
    assert_eq!(error.to_string(), "no such name (asked for w-0.)");
}

#[tokio::test]
async fn a_pod_that_moved_is_found_at_its_new_address() {
    let dns = DnsServer::start().await;
    let resolver = resolver(&[dns.address]);
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        dns.publish("w-0.svc.cluster.local.", &[address]);
        assert_eq!(find(&resolver, "w-0").await.unwrap(), [address]);
    }
}

#[tokio::test]
async fn a_host_under_another_suffix_is_found_in_the_end() {
    let dns = DnsServer::start().await;
    dns.publish("w-0.svc.cluster.local.", &["10.0.0.1"]);
    dns.publish("gpu-box.corp.example.", &["192.168.0.1"]);
    let resolver = resolver(&[dns.address]);
    find(&resolver, "w-0").await.unwrap();
    for _ in 0..3 {
        find(&resolver, "gpu-box").await.unwrap_err();
    }
    assert_eq!(find(&resolver, "gpu-box").await.unwrap(), ["192.168.0.1"]);
    dns.asked();
    assert_eq!(find(&resolver, "gpu-box").await.unwrap(), ["192.168.0.1"]);
    assert_eq!(dns.asked(), both(&["gpu-box.corp.example."]));
}

#[tokio::test]
async fn what_does_not_fit_is_asked_over_tcp() {
    let dns = DnsServer::start().await;
    let addresses: Vec<String> =
        (0..1000).map(|index| format!("10.0.{}.{}", index / 250, index % 250)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    dns.publish("pi.", &addresses);
    dns.change(|zone| zone.truncated = true);
    let found = resolver(&[dns.address]).lookup_service(&"pi.".into()).await.unwrap();
    assert_eq!(found.len(), 1000);
    assert!(found.is_sorted());
    let transports = dns.transports();
    for expected in [Protocol::Udp, Protocol::Tcp] {
        assert!(transports.contains(&expected), "{transports:?}");
    }
}

#[tokio::test]
async fn the_hosts_file_and_addresses_need_no_server() {
    let dns = DnsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "fd77::7 pi-launcher\n10.0.0.7 pi-launcher\n").unwrap();
    let resolver = Resolver::new(Ok(pod(&[dns.address])), &hosts, None);
    for (name, expected) in [
        ("pi-launcher", &["10.0.0.7", "fd77::7"][..]),
        ("PI-Launcher.", &["10.0.0.7", "fd77::7"]),
        ("localhost", &["127.0.0.1", "::1"]),
        ("10.1.2.3", &["10.1.2.3"]),
        ("fd77::3", &["fd77::3"]),
    ] {
        assert_eq!(find(&resolver, name).await.unwrap(), expected, "{name}");
    }
    assert_eq!(dns.asked(), [""; 0]);

    // Nor do they need a resolv.conf.
    let resolver = Resolver::from_files(&folder.path().join("resolv.conf"), &hosts, None);
    assert_eq!(find(&resolver, "pi-launcher").await.unwrap(), ["10.0.0.7", "fd77::7"]);
    let error = find(&resolver, "w-0").await.unwrap_err();
    assert!(matches!(error, LookupError::NoServer(_)), "{error}");
    assert!(error.to_string().starts_with("no name server to ask: read /"), "{error}");
    assert!(error.class() == Class::Config && error.hint().is_some());
}

#[tokio::test]
async fn a_dead_server_costs_a_bounded_time() {
    // Bound but never read: packets vanish as behind a NetworkPolicy.
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut conf = pod(&[dead.local_addr().unwrap()]);
    conf.timeout = Duration::from_millis(300);
    let resolver = Arc::new(Resolver::new(Ok(conf), Path::new("/nonexistent"), None));
    let start = Instant::now();
    let mut lookups = JoinSet::new();
    for index in 0..100 {
        let resolver = Arc::clone(&resolver);
        lookups.spawn(async move { find(&resolver, &format!("w-{index}")).await });
    }
    for found in lookups.join_all().await {
        let error = found.unwrap_err();
        assert!(matches!(error, LookupError::Timeout { .. }), "{error}");
        assert_eq!(error.to_string().split(" within ").next(), Some("no answer"));
    }
    // Two attempts of 0.3 s each, for all hosts together.
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(start.elapsed() < ATTEMPT);
}

#[tokio::test]
async fn a_failing_server_is_told_from_an_absent_name() {
    let dns = DnsServer::start().await;
    dns.change(|zone| {
        zone.failing.insert("w-0.".to_owned());
    });
    let error = find(&resolver(&[dns.address]), "w-0.").await.unwrap_err();
    assert!(matches!(error, LookupError::ServerFailure { .. }), "{error}");
    assert!(!error.is_absence() && error.class() == Class::NameResolution);
    assert!(error.to_string().contains("for w-0.: "), "{error}");
}

#[tokio::test]
async fn the_end_of_the_list_out_of_reach_hides_nothing() {
    let dns = DnsServer::start().await;
    dns.change(|zone| {
        zone.failing.insert("w-0.corp.example.".to_owned());
        zone.silent.insert("w-0.".to_owned());
    });
    let resolver = resolver(&[dns.address]);
    let start = Instant::now();
    let error = find(&resolver, "w-0").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no usable answer for w-0.corp.example., w-0. (and no such name: \
         w-0.pi.svc.cluster.local., w-0.svc.cluster.local., w-0.cluster.local.)"
    );
    assert!(error.is_half_known() && !error.is_absence(), "a host may be there: {error:?}");
    assert!(error.is_failure() && error.hint().is_some_and(|hint| hint.contains("search list")));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_fails() {
    let (first, second) = (DnsServer::start().await, DnsServer::start().await);
    first.change(|zone| {
        zone.failing.insert("w-0.".to_owned());
    });
    second.publish("w-0.", &["10.0.0.1"]);
    second.publish("w-1.", &["10.0.0.2"]);
    let resolver = resolver(&[first.address, second.address]);
    assert_eq!(find(&resolver, "w-0.").await.unwrap(), ["10.0.0.1"]);
    first.asked();
    assert_eq!(find(&resolver, "w-1.").await.unwrap(), ["10.0.0.2"]);
    assert_eq!(first.asked(), [""; 0], "the one that answers is asked first from then on");
}

#[tokio::test]
async fn a_server_that_ignores_ipv6_questions_does_not_hold_up() {
    let dns = DnsServer::start().await;
    dns.publish("w-0.", &["10.0.0.1"]);
    dns.change(|zone| zone.silent_aaaa = true);
    let start = Instant::now();
    assert_eq!(find(&resolver(&[dns.address]), "w-0.").await.unwrap(), ["10.0.0.1"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn names_that_dns_cannot_hold_are_refused() {
    let dns = DnsServer::start().await;
    let name = ["a".repeat(60).as_str(); 4].join(".");
    let error = find(&resolver(&[dns.address]), &name).await.unwrap_err();
    // With a suffix it is too long; as it stands it is only absent.
    assert!(matches!(error, LookupError::NoSuchName { .. }), "{error}");
    let error = find(&resolver(&[dns.address]), &format!("{name}.{name}.")).await.unwrap_err();
    assert!(matches!(error, LookupError::NotAName { .. }), "{error}");
}

#[tokio::test]
async fn a_lookup_can_be_stood_in_for() {
    use crate::discovery::lookup::{Boxed, Lookup};
    struct Fake;
    impl Lookup for Fake {
        fn lookup<'a>(&'a self, _: &'a HostName) -> Boxed<'a, Result<Vec<IpAddr>, LookupError>> {
            let addresses = ["10.0.0.2", "10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
            Box::pin(async move { Ok(addresses.to_vec()) })
        }
    }
    let lookup: Arc<dyn Lookup> = Arc::new(Fake);
    let found = lookup.lookup_service(&"pi".into()).await.unwrap();
    assert_eq!(found, ["10.0.0.1", "10.0.0.2"].map(|a| a.parse::<IpAddr>().unwrap()));
}

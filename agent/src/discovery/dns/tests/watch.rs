//! Hosts that are looked for again and again: what that asks, and what it does not.

use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;

use super::*;
use crate::discovery::lookup::{Boxed, Greeter};

const SERVICE: &str = "pi.svc.cluster.local.";

/// As on the launcher of a job: its own full name is in its hosts file, and it is behind the Service.
fn of_job(dns: &DnsServer, hosts_file: &str) -> Resolver {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, hosts_file).unwrap();
    Resolver::new(Ok(pod(&[dns.address])), &hosts, Some("pi-launcher")).watching()
}

const KUBELETS: &str = "10.0.0.100 pi-launcher.pi.svc.cluster.local pi-launcher\n";

/// Publishes the launcher and these workers.
fn come(dns: &DnsServer, workers: &[u8]) {
    let mut all = vec![(100, "pi-launcher".to_owned())];
    all.extend(workers.iter().map(|index| (*index, format!("w-{index}"))));
    let addresses: Vec<String> = all.iter().map(|(last, _)| format!("10.0.0.{last}")).collect();
    for ((_, name), address) in all.iter().zip(&addresses) {
        dns.publish(&format!("{name}.{SERVICE}"), &[address]);
    }
    dns.publish(SERVICE, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Looks for a host as readiness does, a few times.
async fn wait(resolver: &Resolver, name: &str) -> Vec<String> {
    for _ in 0..20 {
        match find(resolver, name).await {
            Ok(addresses) => return addresses,
            Err(_) => resolver.news(&HostName::from(name)).await,
        }
    }
    panic!("{name} was not found");
}

fn workers_asked_for(asked: &[String]) -> Vec<&String> {
    asked.iter().filter(|question| question.starts_with("w-")).collect()
}

#[tokio::test]
async fn hosts_are_found_behind_their_service_without_a_question_for_their_names() {
    let dns = DnsServer::start().await;
    come(&dns, &[1, 2]);
    let resolver = of_job(&dns, KUBELETS);
    for name in ["w-1.pi", "w-2.pi.svc", "W-2.PI.svc.cluster.local."] {
        assert_eq!(find(&resolver, name).await.unwrap().len(), 1, "{name}");
    }
    let error = find(&resolver, "w-3.pi").await.unwrap_err();
    let words = "no such name among those of the 3 pods behind pi.svc.cluster.local";
    assert_eq!(error.to_string(), words);
    assert!(error.is_absence() && error.class() == Class::NameResolution);
    let pointers = ["1", "100", "2"].map(|last| format!("{last}.0.0.10.in-addr.arpa. PTR"));
    let service = [format!("{SERVICE} A")];
    assert_eq!(dns.asked(), [&pointers[..], &service].concat());

    come(&dns, &[1, 2, 3]);
    assert_eq!(wait(&resolver, "w-3.pi").await, ["10.0.0.3"]);
    assert_eq!(workers_asked_for(&dns.asked()), [""; 0], "while it was not there");
}

#[tokio::test]
async fn before_there_is_any_pod_only_the_service_is_asked_for() {
    let dns = DnsServer::start().await;
    let resolver = of_job(&dns, KUBELETS);
    for _ in 0..3 {
        let error = find(&resolver, "w-1.pi").await.unwrap_err();
        assert_eq!(error.to_string(), "no such name, as no pod is behind pi.svc.cluster.local");
    }
    assert_eq!(dns.asked(), [format!("{SERVICE} A")], "and not before it can have changed");
    come(&dns, &[1]);
    assert_eq!(wait(&resolver, "w-1.pi").await, ["10.0.0.1"]);
    assert_eq!(workers_asked_for(&dns.asked()), [""; 0]);
}

#[tokio::test]
async fn the_service_is_found_where_this_machine_has_no_full_name() {
    let dns = DnsServer::start().await;
    come(&dns, &[1]);
    let resolver = of_job(&dns, "");
    assert_eq!(find(&resolver, "w-1.pi").await.unwrap(), ["10.0.0.1"]);
    find(&resolver, "w-2.pi").await.unwrap_err();
    assert_eq!(workers_asked_for(&dns.asked()), [""; 0], "nor where it was not there");
}

#[tokio::test]
async fn a_pod_that_moved_is_found_at_its_new_address() {
    let dns = DnsServer::start().await;
    come(&dns, &[1]);
    let resolver = of_job(&dns, KUBELETS);
    assert_eq!(find(&resolver, "w-1.pi").await.unwrap(), ["10.0.0.1"]);
    dns.publish(&format!("w-1.{SERVICE}"), &["10.0.0.9"]);
    dns.publish(SERVICE, &["10.0.0.9", "10.0.0.100"]);
    while find(&resolver, "w-1.pi").await.unwrap() != ["10.0.0.9"] {
        resolver.news(&HostName::from("w-1.pi")).await;
    }
}

#[tokio::test]
async fn names_are_asked_for_where_addresses_do_not_tell_theirs() {
    let dns = DnsServer::start().await;
    come(&dns, &[1]);
    dns.change(|zone| zone.no_pointers = true);
    let resolver = of_job(&dns, KUBELETS);
    assert_eq!(find(&resolver, "w-1.pi").await.unwrap(), ["10.0.0.1"]);
    let error = find(&resolver, "w-2.pi").await.unwrap_err();
    assert!(error.to_string().starts_with("no such name"), "{error}");
    dns.asked();
    for _ in 0..3 {
        let again = find(&resolver, "w-2.pi").await.unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
    }
    assert_eq!(dns.asked(), [""; 0], "not before the answer can have changed");
    come(&dns, &[1, 2]);
    assert_eq!(wait(&resolver, "w-2.pi").await, ["10.0.0.2"]);
}

#[tokio::test]
async fn names_are_asked_for_where_the_service_cannot_be() {
    let dns = DnsServer::start().await;
    come(&dns, &[1]);
    dns.change(|zone| {
        zone.failing.insert(SERVICE.to_owned());
    });
    let resolver = of_job(&dns, KUBELETS);
    assert_eq!(find(&resolver, "w-1.pi").await.unwrap(), ["10.0.0.1"]);
}

#[tokio::test]
async fn hosts_without_a_service_are_found() {
    let dns = DnsServer::start().await;
    dns.publish("node1.", &["10.1.0.1"]);
    dns.publish("node2.corp.example.", &["10.1.0.2"]);
    dns.publish("node3.hpc.corp.example.", &["10.1.0.3"]);
    let resolver = of_job(&dns, KUBELETS);
    for (name, address) in [("node1", "10.1.0.1"), ("node2", "10.1.0.2"), ("node3.hpc", "10.1.0.3")]
    {
        assert_eq!(wait(&resolver, name).await, [address], "{name}");
    }
}

#[tokio::test]
async fn a_service_that_hides_a_pod_is_not_believed_for_ever() {
    let dns = DnsServer::start().await;
    dns.publish("w-1.pi.svc.cluster.local.", &["10.0.0.1"]);
    let resolver = of_job(&dns, KUBELETS);
    find(&resolver, "w-1.pi").await.unwrap_err();
    assert_eq!(wait(&resolver, "w-1.pi").await, ["10.0.0.1"]);
}

/// Stands in for readiness, which dials: what it would hear, and where it has asked.
struct Table {
    says: HashMap<u8, &'static str>,
    asked: Mutex<Vec<u8>>,
}

impl Table {
    fn introduce<const N: usize>(resolver: &Resolver, says: [(u8, &'static str); N]) -> Arc<Self> {
        let table = Arc::new(Self { says: says.into(), asked: Mutex::default() });
        resolver.introduce(Arc::<Self>::clone(&table));
        table
    }

    fn asked(&self) -> Vec<u8> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort_unstable();
        asked
    }
}

impl Greeter for Table {
    fn greet<'a>(&'a self, address: IpAddr) -> Boxed<'a, Option<String>> {
        let IpAddr::V4(address) = address else { panic!("{address}") };
        let last = address.octets()[3];
        self.asked.lock().unwrap().push(last);
        Box::pin(async move { self.says.get(&last).map(|name| (*name).to_owned()) })
    }
}

fn pointers(asked: &[String]) -> Vec<&str> {
    let pointers = asked.iter().filter_map(|question| question.strip_suffix(" PTR"));
    pointers.filter_map(|name| name.strip_suffix(".0.0.10.in-addr.arpa.")).collect()
}

#[tokio::test]
async fn hosts_that_say_who_they_are_cost_dns_no_question() {
    let dns = DnsServer::start().await;
    come(&dns, &[1, 2, 3, 4]);
    let resolver = of_job(&dns, KUBELETS);
    let says = [(2, "w-2"), (3, "w-3.pi.svc.cluster.local"), (4, "w-4.of.another.service")];
    let table = Table::introduce(&resolver, says);
    for index in 1..=4 {
        let found = find(&resolver, &format!("w-{index}.pi")).await.unwrap();
        assert_eq!(found, [format!("10.0.0.{index}")]);
    }
    assert_eq!(table.asked(), [2, 3, 4, 100], "each once, and not where DNS was asked");
    // The first proves the Service; one says a name elsewhere, and the launcher nothing.
    let asked = dns.asked();
    assert_eq!((pointers(&asked), asked.len()), (vec!["1", "100", "4"], 4), "{asked:?}");

    come(&dns, &[1, 2, 3, 4, 5]);
    assert_eq!(wait(&resolver, "w-5.pi").await, ["10.0.0.5"]);
    assert_eq!(table.asked(), [5], "only who is new");
}

#[tokio::test]
async fn of_two_that_say_one_name_dns_tells_which_is_it() {
    let dns = DnsServer::start().await;
    come(&dns, &[1, 2]);
    let resolver = of_job(&dns, KUBELETS);
    Table::introduce(&resolver, [(2, "w-3"), (3, "w-3")]);
    assert_eq!(find(&resolver, "w-3.pi").await.unwrap(), ["10.0.0.2"], "so far");
    come(&dns, &[1, 2, 3]);
    assert_eq!(wait(&resolver, "w-2.pi").await, ["10.0.0.2"]);
    assert_eq!(find(&resolver, "w-3.pi").await.unwrap(), ["10.0.0.3"]);
}

#[tokio::test]
async fn nobody_is_greeted_where_no_record_proves_the_service() {
    let dns = DnsServer::start().await;
    come(&dns, &[1, 2]);
    dns.change(|zone| zone.no_pointers = true);
    let resolver = of_job(&dns, KUBELETS);
    let table = Table::introduce(&resolver, [(1, "w-1"), (2, "w-2")]);
    assert_eq!(find(&resolver, "w-1.pi").await.unwrap(), ["10.0.0.1"]);
    assert_eq!(table.asked(), [0; 0]);
    assert!(dns.asked().contains(&format!("w-1.{SERVICE} A")), "its name was asked for");
}

//! The records and what they make of a question. Pure but for the time that it is given.
//!
//! Must not know of sockets, messages' sizes or logs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// The time to live of CoreDNS's kubernetes plugin, in seconds.
const TTL: u32 = 5;
/// Entries beyond this are not cached.
const CACHE: usize = 100_000;

/// What to answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<Record>,
    /// The start of authority, for answers without records.
    pub(super) authority: Option<Record>,
}

impl Answer {
    /// A cache tells for how long it will still give this answer; begun seconds count as whole ones, as CoreDNS's
    /// does. For "nothing" that is the time to live of the authority's record and its minimum (RFC 2308 §5).
    fn with_ttl(mut self, left: Duration) -> Self {
        let seconds = left.as_secs_f64().ceil() as u32;
        for record in self.records.iter_mut().chain(&mut self.authority) {
            record.ttl = seconds;
            if let RData::SOA(soa) = &mut record.data {
                soa.minimum = seconds;
            }
        }
        self
    }
}

#[derive(Debug, Default)]
pub(super) struct Zone {
    hosts: BTreeMap<Name, BTreeSet<IpAddr>>,
    declared: BTreeSet<Name>,
    negative: Option<Duration>,
    positive: Option<Duration>,
    cache: HashMap<(Name, RecordType), (Instant, Answer)>,
    turn: usize,
}

impl Zone {
    pub(super) fn publish(&mut self, name: Name, address: IpAddr) {
        self.hosts.entry(name).or_default().insert(address);
    }

    pub(super) fn withdraw(&mut self, name: &Name) {
        self.hosts.remove(name);
    }

    pub(super) fn declare(&mut self, service: Name) {
        self.declared.insert(service);
    }

    pub(super) fn cache_negative(&mut self, time: Option<Duration>) {
        self.negative = time;
        self.cache.clear();
    }

    pub(super) fn cache_positive(&mut self, time: Option<Duration>) {
        self.positive = time;
        self.cache.clear();
    }

    /// Answers a question as of `now`, from the cache where it has an answer that still counts.
    pub(super) fn answer(&mut self, name: &Name, kind: RecordType, now: Instant) -> Answer {
        let key = (name.to_lowercase(), kind);
        if let Some((until, answer)) = self.cache.get(&key) {
            if now < *until {
                return answer.clone().with_ttl(*until - now);
            }
            self.cache.remove(&key);
        }
        let answer = self.look_up(&key.0, kind);
        let time = if answer.records.is_empty() { self.negative } else { self.positive };
        let Some(time) = time.filter(|_| self.cache.len() < CACHE) else { return answer };
        self.cache.insert(key, (now + time, answer.clone()));
        answer.with_ttl(time)
    }

    fn look_up(&mut self, name: &Name, kind: RecordType) -> Answer {
        let pointers = self.pointers(name);
        let addresses = self.addresses(name);
        let exists = !pointers.is_empty() || self.exists(name);
        let mut records: Vec<RData> = addresses
            .into_iter()
            .filter_map(|address| match (address, kind) {
                (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => Some(RData::A(A(v4))),
                (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(v6))),
                _ => None,
            })
            .collect();
        if matches!(kind, RecordType::PTR | RecordType::ANY) {
            records.extend(pointers.into_iter().map(|target| RData::PTR(PTR(target))));
        }
        if !records.is_empty() {
            // Like CoreDNS's loadbalance plugin: another one comes first each time.
            self.turn = self.turn.wrapping_add(1);
            let turn = self.turn % records.len();
            records.rotate_left(turn);
        }
        let records: Vec<_> =
            records.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data)).collect();
        Answer {
            code: if exists { ResponseCode::NoError } else { ResponseCode::NXDomain },
            authority: records.is_empty().then(|| authority(name)),
            records,
        }
    }

    /// A host's own addresses, or those of the members of a headless Service.
    fn addresses(&self, name: &Name) -> BTreeSet<IpAddr> {
        if let Some(own) = self.hosts.get(name) {
            return own.clone();
        }
        let members = self
            .hosts
            .iter()
            .filter(|(host, _)| host.base_name() == *name && host.num_labels() > 1);
        members.flat_map(|(_, addresses)| addresses.iter().copied()).collect()
    }

    /// Names between a published one and the zone exist too, without records of their own.
    fn exists(&self, name: &Name) -> bool {
        let mut known = self.hosts.keys().chain(&self.declared);
        known.any(|known| name.zone_of(known)) || *name == apex()
    }

    /// The names that an `…in-addr.arpa` question is about.
    fn pointers(&self, name: &Name) -> Vec<Name> {
        let Ok(network) = name.parse_arpa_name() else { return Vec::new() };
        let address = network.addr();
        let full = network.prefix_len() == network.max_prefix_len();
        let pointed =
            self.hosts.iter().filter(|(_, addresses)| full && addresses.contains(&address));
        pointed.map(|(host, _)| host.clone()).collect()
    }
}

fn apex() -> Name {
    name("cluster.local.")
}

/// A name that is known to be one; the root if it were not.
fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap_or_else(|_| Name::root())
}

/// Questions outside the cluster's zone are answered for the root, as from a resolver upstream.
fn authority(asked: &Name) -> Record {
    let apex = apex();
    let owner = if apex.zone_of(asked) { apex } else { Name::root() };
    let server = name("ns.dns.cluster.local.");
    let mailbox = name("hostmaster.cluster.local.");
    let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86400, TTL);
    Record::from_rdata(owner, TTL, RData::SOA(soa))
}

#[cfg(test)]
mod tests {
    use super::*;

    const W0: &str = "pi-worker-0.pi.default.svc.cluster.local.";
    const SERVICE: &str = "pi.default.svc.cluster.local.";

    fn zone() -> Zone {
        let mut zone = Zone::default();
        zone.publish(name(W0), [10, 77, 1, 1].into());
        zone.publish(name("pi-worker-1.pi.default.svc.cluster.local."), [10, 77, 1, 2].into());
        zone
    }

    #[test]
    fn each_kind_of_question_gets_its_kind_of_answer() {
        use RecordType::{A, AAAA, PTR, SRV};
        use ResponseCode::{NXDomain, NoError};
        let table = [
            (W0, A, NoError, 1, "a host"),
            ("PI-Worker-0.pi.default.svc.cluster.local.", A, NoError, 1, "case does not matter"),
            (W0, AAAA, NoError, 0, "no data of this type"),
            (SERVICE, A, NoError, 2, "the headless Service has all members"),
            (SERVICE, SRV, NoError, 0, "a Service without ports has no SRV"),
            ("svc.cluster.local.", A, NoError, 0, "an empty name between"),
            ("cluster.local.", A, NoError, 0, "the zone itself"),
            ("pi-worker-9.pi.default.svc.cluster.local.", A, NXDomain, 0, "an absent host"),
            ("x.pi-worker-0.pi.default.svc.cluster.local.", A, NXDomain, 0, "below a host"),
            ("example.org.", A, NXDomain, 0, "outside"),
            ("1.1.77.10.in-addr.arpa.", PTR, NoError, 1, "the way back"),
            ("9.1.77.10.in-addr.arpa.", PTR, NXDomain, 0, "no way back"),
        ];
        for (asked, kind, code, count, why) in table {
            let answer = zone().answer(&name(asked), kind, Instant::now());
            assert_eq!((answer.code, answer.records.len()), (code, count), "{why}: {asked} {kind}");
            assert_eq!(answer.authority.is_some(), count == 0, "{why}: SOA comes with no records");
        }
    }

    #[test]
    fn a_name_asked_too_early_stays_absent_until_its_time_is_up() {
        let mut zone = zone();
        zone.cache_negative(Some(Duration::from_secs(30)));
        let late = name("pi-worker-7.pi.default.svc.cluster.local.");
        let other = name("pi-worker-8.pi.default.svc.cluster.local.");
        let start = Instant::now();
        let code = |zone: &mut Zone, name: &Name, after| {
            zone.answer(name, RecordType::A, start + Duration::from_secs(after)).code
        };
        assert_eq!(code(&mut zone, &late, 0), ResponseCode::NXDomain);
        zone.publish(late.clone(), [10, 77, 1, 8].into());
        zone.publish(other.clone(), [10, 77, 1, 9].into());
        assert_eq!(code(&mut zone, &late, 29), ResponseCode::NXDomain);
        assert_eq!(
            code(&mut zone, &other, 29),
            ResponseCode::NoError,
            "only the name that was asked suffers"
        );
        assert_eq!(
            code(&mut zone, &late, 30),
            ResponseCode::NoError,
            "asking again does not prolong it"
        );
    }

    #[test]
    fn a_cached_answer_tells_how_long_it_will_be_given() {
        let mut zone = zone();
        zone.cache_positive(Some(Duration::from_secs(5)));
        zone.cache_negative(Some(Duration::from_secs(30)));
        let start = Instant::now();
        let ttl = |zone: &mut Zone, asked: &str, after: f64| {
            let now = start + Duration::from_secs_f64(after);
            let answer = zone.answer(&name(asked), RecordType::A, now);
            answer.records.iter().chain(&answer.authority).map(|one| one.ttl).min().unwrap()
        };
        for (asked, after, expected) in [
            (W0, 0.0, 5),
            (W0, 1.5, 4),
            (W0, 4.9, 1),
            (W0, 5.0, 5),
            (SERVICE, 2.0, 5),
            (SERVICE, 4.0, 3),
            ("w-9.default.svc.cluster.local.", 0.0, 30),
            ("w-9.default.svc.cluster.local.", 29.5, 1),
            ("w-9.default.svc.cluster.local.", 30.0, 30),
        ] {
            assert_eq!(ttl(&mut zone, asked, after), expected, "{asked} after {after} s");
        }
    }

    #[test]
    fn a_moved_host_is_given_at_its_old_address_while_cached() {
        let mut zone = zone();
        zone.cache_positive(Some(Duration::from_secs(5)));
        let start = Instant::now();
        let data = |zone: &mut Zone, after| {
            let answer = zone.answer(&name(W0), RecordType::A, start + Duration::from_secs(after));
            answer.records[0].data.clone()
        };
        let before = data(&mut zone, 0);
        zone.withdraw(&name(W0));
        zone.publish(name(W0), [10, 77, 9, 9].into());
        assert_eq!(data(&mut zone, 4), before);
        assert_ne!(data(&mut zone, 5), before);
    }

    #[test]
    fn a_declared_service_without_members_has_no_data() {
        let mut zone = Zone::default();
        assert_eq!(
            zone.answer(&name(SERVICE), RecordType::A, Instant::now()).code,
            ResponseCode::NXDomain
        );
        zone.declare(name(SERVICE));
        assert_eq!(
            zone.answer(&name(SERVICE), RecordType::A, Instant::now()).code,
            ResponseCode::NoError
        );
    }
}

//! The hosts of a job side by side: in what one differs from the others.
//!
//! Pure: a function of the reports. Must not judge what a difference costs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::report::{Bound, Interface, RdmaDevice, Report};
use super::units::Units;
use crate::ids::HostName;
use crate::text::size;

/// What one host said of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// As the list of hosts has it.
    pub host: HostName,
    /// Where it was reached; none: it is this machine.
    pub address: Option<IpAddr>,
    /// The version of its worker; none: no worker serves there.
    pub muster: Option<String>,
    /// What it has; none: it did not say.
    pub report: Option<Report>,
}

/// A fact of which each host has one, in words; none: it is unknown, or there is no such thing.
pub type Fact = (&'static str, fn(&Row, &Report) -> Option<String>);

/// What hosts are compared in.
pub const FACTS: [Fact; 14] = [
    ("cpus", |_, it| it.cpus.as_ref().map(|cpus| cpus.usable.to_string())),
    ("memory", |_, it| it.memory.limit.or(it.memory.total).map(size)),
    ("shm", |_, it| it.shm.map(|shm| size(shm.total))),
    ("memlock", |_, it| {
        it.limits.memlock.map(|bound| match bound {
            Bound::Unlimited => "unlimited".to_owned(),
            Bound::At(bytes) => size(bytes),
        })
    }),
    ("gpus", |_, it| gpus(it)),
    ("gpu", |_, it| counted(it.usable_gpus().filter_map(|gpu| gpu.name.clone())).map(joined)),
    ("driver", |_, it| it.gpus.driver.clone()),
    ("cuda", |_, it| it.gpus.cuda.clone()),
    ("mpi", |_, it| it.mpi.as_ref().map(|mpi| format!("{} {}", mpi.family, mpi.version))),
    ("rdma", |_, it| counted(it.usable_rdma().map(kind)).map(with_counts)),
    ("ports", |_, it| ports(it)),
    ("interface", |row, it| interface(row, it).map(|of| of.name.clone())),
    ("mtu", |row, it| interface(row, it)?.mtu.map(|mtu| mtu.to_string())),
    ("muster", |row, _| row.muster.clone()),
];

/// A host that differs from most in something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Odd {
    /// Its place among the hosts.
    pub at: usize,
    /// In what.
    pub fact: &'static str,
    /// What it has.
    pub value: Option<String>,
    /// What most have, and how many these are. None: no value is that of most.
    pub most: Option<(Option<String>, usize)>,
}

/// The words of a fact for each host; none for a host without a report.
#[must_use]
pub fn values((_, of): &Fact, rows: &[Row]) -> Vec<Option<Option<String>>> {
    rows.iter().map(|row| row.report.as_ref().map(|report| of(row, report))).collect()
}

/// Which hosts differ in what, by facts and then by hosts.
#[must_use]
pub fn odd(rows: &[Row]) -> Vec<Odd> {
    FACTS.iter().flat_map(|fact| odd_in(fact.0, &values(fact, rows))).collect()
}

fn odd_in(fact: &'static str, values: &[Option<Option<String>>]) -> Vec<Odd> {
    let mut counts: BTreeMap<&Option<String>, usize> = BTreeMap::new();
    for value in values.iter().flatten() {
        *counts.entry(value).or_default() += 1;
    }
    if counts.len() < 2 {
        return Vec::new();
    }
    let largest = counts.values().copied().max().unwrap_or(0);
    let mut most = counts.iter().filter(|(_, count)| **count == largest);
    // Of two largest, neither is most.
    let most = most.next().filter(|_| most.next().is_none());
    let most = most.map(|(value, count)| ((*value).clone(), *count));
    let told = values.iter().enumerate().filter_map(|(at, value)| Some((at, value.clone()?)));
    told.filter(|(_, value)| most.as_ref().is_none_or(|(most, _)| value != most))
        .map(|(at, value)| Odd { at, fact, value, most: most.clone() })
        .collect()
}

/// `7 GPUs (1 not usable)`.
fn gpus(report: &Report) -> Option<String> {
    let usable = Units::of(report).and_then(|units| units.counted());
    let usable = usable.map(|(_, words)| words);
    match report.gpus.devices.iter().filter(|gpu| !gpu.usable).count() {
        0 => usable,
        lost => Some(format!("{} ({lost} not usable)", usable.unwrap_or_else(|| "none".into()))),
    }
}

/// What an RDMA device is to a job: `400 Gb/s InfiniBand`.
fn kind(device: &RdmaDevice) -> String {
    let port = device.ports.iter().find(|port| port.is_active()).or(device.ports.first());
    let rate = port.and_then(|port| port.rate).map(|rate| format!("{rate} Gb/s"));
    let link = port.and_then(|port| port.link.clone());
    let words: Vec<String> = [rate, link].into_iter().flatten().collect();
    if words.is_empty() { device.name.clone() } else { words.join(" ") }
}

/// `7 of 8 active`.
fn ports(report: &Report) -> Option<String> {
    let ports = || report.rdma.devices.iter().flat_map(|device| &device.ports);
    let all = ports().count();
    let active = ports().filter(|port| port.is_active()).count();
    (all > 0).then(|| format!("{active} of {all} active"))
}

/// The interface at which the host was reached, else that of its default route.
fn interface<'r>(row: &Row, report: &'r Report) -> Option<&'r Interface> {
    let has = |it: &&Interface| {
        let own = |text: &String| text.split('/').next().and_then(|of| of.parse::<IpAddr>().ok());
        row.address.is_some_and(|address| it.addresses.iter().any(|of| own(of) == Some(address)))
    };
    let by_default = || report.interfaces.iter().find(|it| it.default_route);
    report.interfaces.iter().find(has).or_else(by_default)
}

/// How often each is there; none where there is nothing.
fn counted(things: impl Iterator<Item = String>) -> Option<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for thing in things {
        *counts.entry(thing).or_default() += 1;
    }
    (!counts.is_empty()).then_some(counts)
}

fn joined(counts: BTreeMap<String, usize>) -> String {
    counts.into_keys().collect::<Vec<_>>().join(", ")
}

fn with_counts(counts: BTreeMap<String, usize>) -> String {
    let words = counts.into_iter().map(|(thing, count)| format!("{count} x {thing}"));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use muster_nvml::Gpu;

    use super::*;
    use crate::devices::report::{InterfaceKind, Mpi, Port};
    use crate::plan::Family;

    fn interface(name: &str, mtu: u32, address: &str) -> Interface {
        Interface {
            name: name.into(),
            kind: InterfaceKind::Virtual,
            up: Some(true),
            mtu: Some(mtu),
            speed: None,
            addresses: vec![address.into()],
            default_route: name == "eth0",
            driver: None,
            pci: None,
            numa: None,
        }
    }

    /// A host of 2 GPUs, an InfiniBand port and Open MPI, reached at 10.0.0.1.
    fn row(host: &str) -> Row {
        let gpu = |index| Gpu { index, usable: true, name: Some("H100".into()), ..Gpu::default() };
        let port = Port {
            number: 1,
            state: Some("ACTIVE".into()),
            rate: Some(400.0),
            link: Some("InfiniBand".into()),
            ..Port::default()
        };
        let mut report = Report::default();
        report.gpus.devices = vec![gpu(0), gpu(1)];
        report.gpus.driver = Some("535.104.05".into());
        report.rdma.devices =
            vec![RdmaDevice { usable: true, ports: vec![port], ..RdmaDevice::default() }];
        report.interfaces =
            vec![interface("eth0", 1500, "192.168.0.1/24"), interface("ib0", 4092, "10.0.0.1/8")];
        let (version, path) = ("4.1.4".into(), "/usr/bin/mpirun".into());
        report.mpi = Some(Mpi { family: Family::OpenMpi4, version, path });
        Row {
            host: host.into(),
            address: Some([10, 0, 0, 1].into()),
            muster: Some("0.1.0".into()),
            report: Some(report),
        }
    }

    type Change = fn(&mut Row, &mut Report);

    /// A fact, what the odd host has, and what most have.
    type Found = (&'static str, Option<&'static str>, Option<&'static str>);

    fn changed(change: Change) -> Row {
        let mut row = row("odd");
        let mut report = row.report.take().unwrap_or_default();
        change(&mut row, &mut report);
        Row { report: Some(report), ..row }
    }

    #[test]
    fn the_odd_one_out_is_found() {
        let cases: [(Change, &[Found]); 9] = [
            (|_, _| (), &[]),
            (|_, of| drop(of.gpus.devices.pop()), &[("gpus", Some("1 GPU"), Some("2 GPUs"))]),
            (
                |_, of| of.gpus.devices[1].usable = false,
                &[("gpus", Some("1 GPU (1 not usable)"), Some("2 GPUs"))],
            ),
            (
                |_, of| of.gpus.driver = Some("525.60".into()),
                &[("driver", Some("525.60"), Some("535.104.05"))],
            ),
            (|_, of| of.mpi = None, &[("mpi", None, Some("Open MPI 4 4.1.4"))]),
            (
                |_, of| of.rdma.devices[0].ports[0].state = Some("DOWN".into()),
                &[("ports", Some("0 of 1 active"), Some("1 of 1 active"))],
            ),
            (
                |_, of| of.rdma.devices[0].usable = false,
                &[("rdma", None, Some("1 x 400 Gb/s InfiniBand"))],
            ),
            (|_, of| of.interfaces[1].mtu = Some(1500), &[("mtu", Some("1500"), Some("4092"))]),
            (
                |row, _| row.address = None,
                &[("interface", Some("eth0"), Some("ib0")), ("mtu", Some("1500"), Some("4092"))],
            ),
        ];
        for (change, expected) in cases {
            let rows = [row("a"), changed(change), row("b")];
            let odd = odd(&rows);
            assert!(odd.iter().all(|odd| odd.at == 1), "{odd:?}");
            let found: Vec<_> = odd
                .iter()
                .map(|odd| {
                    let (most, count) = odd.most.as_ref().unwrap();
                    assert_eq!(*count, 2);
                    (odd.fact, odd.value.as_deref(), most.as_deref())
                })
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn of_two_neither_is_odd() {
        let two = [row("a"), changed(|_, of| of.gpus.driver = None)];
        let found: Vec<_> = odd(&two).into_iter().map(|odd| (odd.at, odd.fact, odd.most)).collect();
        assert_eq!(found, [(0, "driver", None), (1, "driver", None)]);
        // Who says nothing is not counted.
        let silent = Row { report: None, ..row("silent") };
        assert_eq!(odd(&[row("a"), silent]), []);
    }
}

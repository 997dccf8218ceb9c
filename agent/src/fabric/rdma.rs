//! Which RDMA all hosts of a job can use, or which host cannot and why.
//!
//! Must not count software devices (rxe, siw): they are slower than TCP. Must not count iWARP: UCX and
//! NCCL do not speak it.

use std::collections::BTreeMap;
use std::fmt;

use super::Member;
use crate::devices::report::{Gid, Port, RdmaDevice, Report};
use crate::text::listed;

/// Drivers whose devices are not a fabric for MPI.
const PASSED_OVER: [&str; 3] = ["rxe", "siw", "iw_cxgb4"];

/// Devices that one variable may list.
const MAX_LISTED: usize = 64;

/// An IPv4 address in the form of a GID begins so.
const IPV4_GID: &str = "0000:0000:0000:0000:0000:ffff:";

/// What speaks to what: ports of different kinds do not reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// By verbs, in an InfiniBand subnet.
    InfiniBand,
    /// By verbs, over Ethernet.
    Roce,
    /// By PSM.
    OmniPath,
    /// By libfabric's efa provider.
    Efa,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InfiniBand => "InfiniBand",
            Self::Roce => "RoCE",
            Self::OmniPath => "Omni-Path",
            Self::Efa => "EFA",
        })
    }
}

/// What a set of hosts can use together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rdma {
    pub(super) kind: Kind,
    /// `mlx5_0:1`, of all hosts.
    pub(super) ports: Vec<String>,
    /// On the host that has the fewest.
    count: usize,
    /// Gigabits a second of one, the slowest.
    rate: f64,
    /// The index of the RoCE v2 address in the tables of GIDs, where it is the same everywhere.
    pub(super) gid: Option<u32>,
    /// Whether all are of Mellanox' make, which Open MPI and Intel MPI treat on their own.
    pub(super) mlx: bool,
}

impl fmt::Display for Rdma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<&str> = self.ports.iter().map(String::as_str).collect();
        write!(f, "{} over {}", self.kind, listed(&shown, 2))?;
        match self.rate {
            0.0 => Ok(()),
            rate => write!(f, " ({} x {rate} Gb/s a host)", self.count),
        }
    }
}

/// What hosts have in common.
#[derive(Debug, PartialEq)]
pub(super) enum Survey {
    /// All can use this.
    All(Rdma),
    /// Some show a device, but not all can use the same.
    Some {
        /// What those have that can.
        best: Option<Rdma>,
        /// Why the others cannot, and what mends it; a phrase for each reason.
        reasons: Vec<String>,
    },
    /// Nobody shows a device.
    Nowhere,
    /// Some host does not tell; the others do not stand in the way. A phrase that says who.
    Unknown(Vec<String>),
}

/// A port that can be used.
struct Usable<'a> {
    device: &'a RdmaDevice,
    port: &'a Port,
    gid: Option<u32>,
}

type Host<'a> = BTreeMap<Kind, Vec<Usable<'a>>>;

/// Looks at every host on which ranks run.
pub(super) fn survey(members: &[Member<'_>]) -> Survey {
    let working: Vec<&Member<'_>> = members.iter().filter(|member| member.works).collect();
    let told: Vec<(&Member<'_>, &Report)> =
        working.iter().filter_map(|member| Some((*member, member.report?))).collect();
    let real = |report: &Report| report.rdma.devices.iter().any(is_fabric);
    let shown = told.iter().any(|(_, report)| real(report));
    let silent: Vec<&str> =
        working.iter().filter(|it| it.report.is_none()).map(|it| it.name.short()).collect();
    let hosts: Vec<Host<'_>> = told.iter().map(|(_, report)| host(report)).collect();
    let kinds = [Kind::InfiniBand, Kind::Roce, Kind::OmniPath, Kind::Efa];
    let common = |hosts: &[&Host<'_>]| {
        let found = kinds.iter().filter_map(|kind| together(*kind, hosts));
        found.reduce(|best, next| if next.worth() > best.worth() { next } else { best })
    };
    let all: Vec<&Host<'_>> = hosts.iter().collect();
    let of_all = common(&all);
    if !silent.is_empty() {
        return Survey::Unknown(vec![format!(
            "{} does not say what it has",
            listed(&silent, super::NAMED)
        )]);
    }
    if let Some(rdma) = of_all {
        return Survey::All(rdma);
    }
    if !shown {
        return Survey::Nowhere;
    }
    // What most of those who can use something have; the others lack it.
    let has = |kind: Kind| all.iter().copied().filter(|host| host.contains_key(&kind)).collect();
    let best = kinds
        .iter()
        .map(|kind| (*kind, has(*kind)))
        .filter(|(_, hosts): &(Kind, Vec<&Host<'_>>)| !hosts.is_empty())
        .max_by_key(|(kind, hosts)| (hosts.len(), std::cmp::Reverse(*kind)))
        .and_then(|(kind, hosts)| together(kind, &hosts));
    let lacking = told
        .iter()
        .zip(&hosts)
        .filter(|(_, host)| best.as_ref().is_none_or(|best| !host.contains_key(&best.kind)));
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for ((member, report), host) in lacking {
        let why = why_not(report, host);
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, hosts)) => hosts.push(member.name.short()),
            None => reasons.push((why, vec![member.name.short()])),
        }
    }
    let reasons = reasons.into_iter().take(super::NAMED);
    let reasons = reasons.map(|(why, hosts)| format!("{}: {why}", listed(&hosts, super::NAMED)));
    Survey::Some { best, reasons: reasons.collect() }
}

impl Rdma {
    /// What a host can carry by it, Gigabits a second.
    fn worth(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 64 devices of 8 ports")]
        let count = self.count as f64;
        count * self.rate.max(1.0)
    }
}

fn is_fabric(device: &RdmaDevice) -> bool {
    !device.driver.as_deref().is_some_and(|driver| PASSED_OVER.contains(&driver))
}

/// The fastest usable ports of a host, by kind. Slower ones, as for storage, would only be waited for.
fn host(report: &Report) -> Host<'_> {
    let mut kinds: Host<'_> = BTreeMap::new();
    for device in report.usable_rdma().filter(|device| is_fabric(device)) {
        for port in &device.ports {
            if port.state.as_ref().is_none_or(|state| state == "ACTIVE")
                && let Some(kind) = kind(device, port)
            {
                let gid = gid(report, port);
                kinds.entry(kind).or_default().push(Usable { device, port, gid });
            }
        }
    }
    for ports in kinds.values_mut() {
        let rate = |usable: &Usable<'_>| usable.port.rate.unwrap_or(0.0);
        let fastest = ports.iter().map(rate).fold(0.0, f64::max);
        ports.retain(|usable| rate(usable) >= fastest);
    }
    kinds
}

fn kind(device: &RdmaDevice, port: &Port) -> Option<Kind> {
    match (device.driver.as_deref(), port.link.as_deref()) {
        (Some("hfi1"), _) => Some(Kind::OmniPath),
        (_, Some("EFA")) => Some(Kind::Efa),
        (_, Some("InfiniBand")) => Some(Kind::InfiniBand),
        (_, Some("Ethernet")) => Some(Kind::Roce),
        _ => None,
    }
}

/// The RoCE v2 address of a port by an interface of this host: the IPv4 one, if there is any.
fn gid(report: &Report, port: &Port) -> Option<u32> {
    let ours = |gid: &&Gid| {
        let by = gid.netdev.as_ref();
        gid.kind.as_deref() == Some("RoCE v2")
            && by.is_none_or(|netdev| report.interfaces.iter().any(|it| it.name == *netdev))
    };
    let mut found: Vec<&Gid> = port.gids.iter().filter(ours).collect();
    found.sort_by_key(|gid| (!gid.gid.starts_with(IPV4_GID), gid.index));
    found.first().map(|gid| gid.index)
}

/// What these hosts can do with one kind; none where one of them lacks it.
fn together(kind: Kind, hosts: &[&Host<'_>]) -> Option<Rdma> {
    let each: Vec<&Vec<Usable<'_>>> =
        hosts.iter().map(|host| host.get(&kind)).collect::<Option<_>>()?;
    let all = || each.iter().flat_map(|ports| ports.iter());
    let mut ports: Vec<String> = Vec::new();
    for usable in all() {
        let port = format!("{}:{}", usable.device.name, usable.port.number);
        if ports.len() < MAX_LISTED && !ports.contains(&port) {
            ports.push(port);
        }
    }
    let gid = all().next()?.gid.filter(|first| all().all(|usable| usable.gid == Some(*first)));
    let rates = all().filter_map(|usable| usable.port.rate);
    let mlx = |driver: &str| driver.starts_with("mlx");
    Some(Rdma {
        kind,
        ports,
        count: each.iter().map(|ports| ports.len()).min()?,
        rate: rates.reduce(f64::min).unwrap_or(0.0),
        gid: gid.filter(|_| kind == Kind::Roce),
        mlx: all().all(|usable| usable.device.driver.as_deref().is_some_and(mlx)),
    })
}

/// Why a host cannot use what others do.
fn why_not(report: &Report, host: &Host<'_>) -> String {
    if let Some(kind) = host.keys().next() {
        return format!("has {kind} only; keep the job on nodes of one kind");
    }
    let devices: Vec<&RdmaDevice> =
        report.rdma.devices.iter().filter(|device| is_fabric(device)).collect();
    match devices.first() {
        None => {
            "has no RDMA device; request the device plugin's resource for every worker, and keep \
                 the job on nodes that have it"
                .into()
        }
        Some(first) => {
            let why = first.why_not.as_deref().unwrap_or("its link layer is unknown");
            let alike = |device: &&&RdmaDevice| device.why_not == first.why_not;
            let names: Vec<&str> =
                devices.iter().filter(alike).map(|device| device.name.as_str()).collect();
            format!("{} cannot be used: {why}", listed(&names, 2))
        }
    }
}

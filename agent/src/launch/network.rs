//! What the ready hosts have, put before the choice of a network and before the requirements.
//!
//! Must not choose; `fabric` does, and `devices::require` judges.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::launch::LaunchConfig;
use crate::devices::mca_params;
use crate::devices::net;
use crate::devices::report::{Interface, InterfaceKind, Report};
use crate::devices::require;
use crate::exit::Failure;
use crate::fabric::{self, Member, Wanted};
use crate::ids::HostName;
use crate::plan::Fabric;
use crate::readiness::wait::{Link, Ready};
use crate::text::say;

/// What this machine has: all of it where ranks run here, else its addresses.
#[must_use]
pub fn own_report(ready: &[Ready], devices: Option<&Report>) -> Report {
    let works = ready.is_empty() || ready.iter().any(|host| matches!(host.link, Link::Here));
    match devices {
        Some(report) if works => report.clone(),
        Some(_) | None => Report { interfaces: own_interfaces(), ..Report::default() },
    }
}

/// The interfaces that have an address, as far as the kernel's list of addresses tells them.
fn own_interfaces() -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for address in net::addresses().unwrap_or_default() {
        let shown = address.to_string();
        match interfaces.iter_mut().find(|known| known.name == address.interface) {
            Some(known) => known.addresses.push(shown),
            None => interfaces.push(Interface {
                name: address.interface,
                kind: if address.loopback {
                    InterfaceKind::Loopback
                } else {
                    InterfaceKind::Virtual
                },
                up: Some(address.up),
                mtu: None,
                speed: None,
                addresses: vec![shown],
                default_route: false,
                driver: None,
                pci: None,
                numa: None,
            }),
        }
    }
    interfaces
}

/// The report of a host; `own` is that of this machine.
fn report<'a>(host: &'a Ready, own: &'a Report) -> Option<&'a Report> {
    match &host.link {
        Link::Here => Some(own),
        Link::Worker(_, control) => control.hello.devices.as_ref(),
        Link::Plain(_) => None,
    }
}

/// The network of the job, and its variables.
///
/// # Errors
/// RDMA was asked for by name, and not every host has it.
pub fn fabric_of(config: &LaunchConfig, ready: &[Ready], own: &Report) -> Result<Fabric, Failure> {
    let ours = ready.iter().find_map(|host| match &host.link {
        Link::Worker(connection, _) | Link::Plain(connection) => Some(connection.local().ip()),
        Link::Here => None,
    });
    // Alone, this machine has no peers.
    let Some(ours) = ours else {
        if config.fabric == Wanted::Rdma {
            say("warning: --fabric rdma: ranks of one machine use no network");
        }
        return Ok(Fabric::default());
    };
    let launcher = HostName::from(config.own.hostname.as_str());
    let mut members: Vec<Member<'_>> = ready
        .iter()
        .map(|host| Member {
            name: &host.spec.name,
            address: Some(match &host.link {
                Link::Worker(connection, _) | Link::Plain(connection) => connection.peer().ip(),
                Link::Here => ours,
            }),
            report: report(host, own),
            works: true,
        })
        .collect();
    if !ready.iter().any(|host| matches!(host.link, Link::Here)) {
        let (name, address, report) = (&launcher, Some(ours), Some(own));
        members.push(Member { name, address, report, works: false });
    }
    let mut chosen = fabric::choose(config.fabric, config.mpirun.family, &members)?;
    let workers = ready.iter().filter_map(|host| match &host.link {
        Link::Worker(_, control) => Some((&host.spec.name, &control.hello.network)),
        Link::Here | Link::Plain(_) => None,
    });
    let home = config.env.non_empty("HOME").map(Path::new);
    let files = mca_params::interfaces(Some(&config.mpirun.path), home);
    chosen.elsewhere = fabric::given(&config.work, &config.env, files, workers);
    Ok(chosen)
}

/// Whether every host has what `--require` names.
///
/// # Errors
/// See [`require::Short`].
pub fn require(config: &LaunchConfig, ready: &[Ready], own: &Report) -> Result<(), Failure> {
    let Some(required) = &config.require else { return Ok(()) };
    let here = HostName::from(config.own.hostname.as_str());
    let mut hosts: Vec<(&HostName, Option<&Report>)> =
        ready.iter().map(|host| (&host.spec.name, report(host, own))).collect();
    if hosts.is_empty() {
        hosts.push((&here, Some(own)));
    }
    Ok(require::check(required, &hosts)?)
}

/// Workers whose clocks are off, as a warning.
#[must_use]
pub fn clocks(ready: &[Ready]) -> Option<String> {
    let mut off = BTreeMap::new();
    for host in ready {
        let Link::Worker(_, control) = &host.link else { continue };
        let clock = control.hello.devices.as_ref().and_then(|devices| devices.clock);
        if let Some(clock) = clock.filter(|clock| clock.is_off()) {
            off.insert(host.spec.name.short(), clock);
        }
    }
    let worst = off.iter().max_by(|a, b| a.1.seconds.abs().total_cmp(&b.1.seconds.abs()))?;
    Some(format!(
        "the clocks of {} workers differ from ours, most that of {}: {}; times in their lines are their \
         own, so let chrony or NTP set the nodes' clocks",
        off.len(),
        worst.0,
        worst.1
    ))
}

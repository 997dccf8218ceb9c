//! What the ready hosts have and how many ranks they take, from what each said of itself.
//!
//! Must not decide which number counts; `plan::slots` does.

use std::num::NonZeroU32;

use crate::config::env::Environment;
use crate::config::launch::LaunchConfig;
use crate::devices::collect::{self, Resolve};
use crate::devices::compare::Row;
use crate::devices::host::{Roots, cpus};
use crate::devices::report::Report;
use crate::devices::units::Units;
use crate::plan::{Plan, PlanHost, Request, slots};
use crate::process::reaper::Reaper;
use crate::rank::gpus::GpuBind;
use crate::readiness::wait::{Link, Ready};
use crate::text::listed;

/// Hosts that a line names.
const NAMED: usize = 4;

/// The slots of each ready host; `own` is what this machine has.
#[must_use]
pub fn plan_hosts(
    ready: &[Ready],
    flag: Option<NonZeroU32>,
    own: Option<&Report>,
) -> Vec<PlanHost> {
    let own_cpus = || cpus(&Roots::default()).map(|cpus| cpus.count);
    ready
        .iter()
        .map(|host| {
            let (cpus, offered) = match &host.link {
                Link::Here => (own_cpus(), own_slots(own_cpus(), own)),
                Link::Worker(_, control) => {
                    let hello = &control.hello;
                    (Some(hello.cpus), (hello.slots, hello.slots_from.clone()))
                }
                Link::Plain(_) => (None, slots::offered(None, None)),
            };
            let (slots, slots_from) = slots::decide(host.spec.slots, flag, offered);
            PlanHost { name: host.spec.name.clone(), slots, slots_from, cpus }
        })
        .collect()
}

/// The slots that this machine offers.
pub(super) fn own_slots(cpus: Option<f64>, devices: Option<&Report>) -> (u32, String) {
    slots::offered(devices.and_then(Units::of).and_then(|units| units.counted()), cpus)
}

/// What this machine has, where ranks may run on it: looked for while the others become ready, because
/// a driver in trouble takes its time.
pub async fn own_devices(env: &Environment, reaper: &Reaper) -> Option<Report> {
    let report = collect::report(&Roots::default(), env, reaper, Resolve::Nothing).await;
    report.inspect_err(|error| tracing::warn!("failed to {error}")).ok()
}

/// What each host said of itself, side by side; `own` is what this machine has.
#[must_use]
pub fn rows(ready: &[Ready], own: Option<&Report>) -> Vec<Row> {
    let row = |host: &Ready| {
        let (address, muster, report) = match &host.link {
            Link::Here => (None, Some(crate::VERSION.to_owned()), own.cloned()),
            Link::Worker(connection, control) => {
                let hello = &control.hello;
                let address = Some(connection.peer().ip());
                (address, Some(hello.version.clone()), hello.devices.clone())
            }
            Link::Plain(connection) => (Some(connection.peer().ip()), None, None),
        };
        let address = address.map(|address| address.to_canonical());
        Row { host: host.spec.name.clone(), address, muster, report }
    };
    ready.iter().map(row).collect()
}

/// What a host is known to have; `own` is what this machine has.
fn devices<'r>(host: &'r Ready, own: Option<&'r Report>) -> Option<&'r Report> {
    match &host.link {
        Link::Worker(_, control) => control.hello.devices.as_ref(),
        Link::Here => own,
        Link::Plain(_) => None,
    }
}

/// Whether it is known that no host has a GPU; of a launch without hosts, that this machine has none.
#[must_use]
pub fn without_gpus(ready: &[Ready], own: Option<&Report>) -> bool {
    let none = |report: Option<&Report>| report.is_some_and(|report| Units::of(report).is_none());
    if ready.is_empty() { none(own) } else { ready.iter().all(|host| none(devices(host, own))) }
}

/// Which hosts have fewer GPUs than ranks, so that these share them. Where the user's own line says
/// which ranks run where, the slots stand for them.
#[must_use]
pub fn sharing(
    config: &LaunchConfig,
    (request, plan): (&Request, &Plan),
    ready: &[Ready],
    own: Option<&Report>,
) -> Option<String> {
    if config.gpu_bind == Some(GpuBind::None) || request.wrapper.is_empty() {
        return None;
    }
    let devices =
        |host: &PlanHost| devices(ready.iter().find(|of| of.spec.name == host.name)?, own);
    let load = |host: &PlanHost| {
        let ranks = match &plan.placement {
            Some(placement) => placement.get(&host.name).copied().unwrap_or(0),
            None => host.slots,
        };
        (host.name.short().to_owned(), ranks, devices(host).and_then(Units::of))
    };
    let mut loads: Vec<_> = plan.hosts.iter().map(load).collect();
    if let ([], Some(ranks)) = (&loads[..], plan.ranks) {
        loads.push(("this machine".into(), ranks, own.and_then(Units::of)));
    }
    crowded(loads.iter().filter_map(|(name, ranks, units)| {
        Some((name.as_str(), *ranks, units.as_ref()?.counted()?))
    }))
}

/// Says which of these names have fewer units, so counted, than ranks.
fn crowded<'a>(
    loads: impl Iterator<Item = (&'a str, u32, (NonZeroU32, String))>,
) -> Option<String> {
    let crowded = loads.filter(|(_, ranks, (units, _))| *ranks > units.get());
    let words: Vec<String> =
        crowded.map(|(name, ranks, (_, units))| format!("{ranks} on {units} ({name})")).collect();
    (!words.is_empty()).then(|| format!("ranks share GPUs in turn: {}", listed(&words, NAMED)))
}

#[cfg(test)]
mod tests {
    use super::{NonZeroU32, crowded};

    #[test]
    fn crowds_are_told_once() {
        let load = |name, ranks, units| {
            (name, ranks, (NonZeroU32::new(units).unwrap(), format!("{units} GPUs")))
        };
        assert_eq!(crowded([load("w0", 2, 2), load("w1", 1, 4)].into_iter()), None);
        assert_eq!(
            crowded([load("w0", 4, 2), load("w1", 2, 2)].into_iter()).unwrap(),
            "ranks share GPUs in turn: 4 on 2 GPUs (w0)"
        );
        let many = ["a", "b", "c", "d", "e", "f"].map(|name| load(name, 3, 2));
        assert!(crowded(many.into_iter()).unwrap().ends_with("(d) and 2 more"));
    }
}

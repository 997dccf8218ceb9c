//! What the ready hosts have and how many ranks they take, from what each said of itself.
//!
//! Must not decide which number counts; `plan::slots` does.

use std::num::NonZeroU32;

use crate::config::env::Environment;
use crate::devices::collect::{self, Resolve};
use crate::devices::host::{Roots, cpus};
use crate::devices::report::Report;
use crate::devices::units::Units;
use crate::plan::{PlanHost, slots};
use crate::process::reaper::Reaper;
use crate::readiness::wait::{Link, Ready};

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
            PlanHost {
                name: host.spec.name.clone(),
                slots,
                slots_from,
                cpus,
                is_launcher: matches!(host.link, Link::Here),
            }
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

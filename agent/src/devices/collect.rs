//! Asks every reader and puts one report together.
//!
//! Must not take longer than [`LIMIT`], whatever a driver does; what did not answer is absent.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::gpu::{self, helper};
use super::host::{CpuBound, Roots, cpus, hostname, memory};
use super::report::{Cpus, OwnName, Report, SCHEMA};
use super::{cgroup, interfaces, kernel, rdma, warnings};
use crate::config::env::Environment;
use crate::exit::{Class, Explain};
use crate::process::reaper::Reaper;

/// How long a report may take: as long as NVML, since all readers work at the same time.
pub const LIMIT: Duration = helper::LIMIT;

/// How long the own name may take to resolve.
const OWN_NAME: Duration = Duration::from_secs(2);

/// Whether to resolve the own name. A worker that just started must not: a name that is asked for too
/// early is remembered as unknown by caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// Ask for it.
    OwnName,
    /// Leave it unknown.
    Nothing,
}

/// The kernel's files did not read in time: a driver hangs in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read the kernel's files in {} s", LIMIT.as_secs())]
pub struct SilentKernel;

impl Explain for SilentKernel {
    fn class(&self) -> Class {
        Class::LocalResource
    }

    fn hint(&self) -> Option<String> {
        Some("a driver hangs; look for blocked tasks in the node's kernel log (dmesg)".into())
    }
}

/// What the host has whose files these are. NVML is asked where that is this machine.
///
/// # Errors
/// See [`SilentKernel`].
pub async fn report(
    roots: &Roots,
    env: &Environment,
    reaper: &Reaper,
    resolve: Resolve,
) -> Result<Report, SilentKernel> {
    let reading = {
        let roots = roots.clone();
        spawn_blocking(move || (from_files(&roots), gpu::look(&roots)))
    };
    let nvml = async {
        gpu::whether_to_ask(roots, env)?;
        helper::ask(reaper).await
    };
    let own_name = async {
        match hostname(roots) {
            Some(name) if resolve == Resolve::OwnName && roots.are_own() => {
                Some(look_up(&name).await)
            }
            _ => None,
        }
    };
    let (read, nvml, own_name) = tokio::join!(timeout(LIMIT, reading), nvml, own_name);
    let (mut report, seen) = read.ok().and_then(Result::ok).ok_or(SilentKernel)?;
    report.own_name = own_name;
    report.gpus = gpu::settle(seen, nvml, env, &report.rdma.devices);
    report.warnings = warnings::of(&report);
    Ok(report.fitted())
}

/// All but the GPUs.
pub(crate) fn from_files(roots: &Roots) -> Report {
    let interfaces = interfaces::interfaces(roots);
    let limits = kernel::limits(roots);
    let mut memory = memory(roots);
    memory.limited_by = memory.limited_by.map(|file| roots.shown(&file));
    Report {
        schema: SCHEMA.to_owned(),
        hostname: hostname(roots),
        kernel: kernel::release(roots),
        cpus: cpus(roots).map(|cpus| Cpus {
            usable: cpus.count,
            because: match cpus.bound {
                CpuBound::Quota(file) => CpuBound::Quota(roots.shown(&file)).to_string(),
                bound => bound.to_string(),
            },
            online: super::host::online(roots),
        }),
        numa: kernel::numa(roots),
        memory,
        cgroup: cgroup::version(roots),
        shm: kernel::shm(roots),
        limits,
        huge_pages: kernel::huge_pages(roots),
        rdma: rdma::read(roots, limits, interfaces::names(&interfaces).as_ref()),
        interfaces,
        ..Report::default()
    }
}

async fn look_up(name: &str) -> OwnName {
    match timeout(OWN_NAME, tokio::net::lookup_host((name, 0))).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
            addresses.dedup();
            OwnName::Addresses(addresses)
        }
        Ok(Err(error)) => OwnName::Failed(error.to_string()),
        Err(_) => OwnName::Failed(format!("no answer in {} s", OWN_NAME.as_secs())),
    }
}

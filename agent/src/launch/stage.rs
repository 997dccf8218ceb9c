//! The stages before mpirun: hosts to ready ones, ready ones to a plan, a plan to files.
//!
//! Must not run the job; each stage hands its result to the next.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum as _;
use tokio::time::{Instant, sleep};

use super::dispatch::Expected;
use super::fleet::Fleet;
use super::journal::Journal;
use super::slots::{self, own_slots, plan_hosts};
use super::{job, network};
use crate::config::env::Environment;
use crate::config::launch::{LaunchConfig, Reach};
use crate::config::variables::{ABSTRACT, MUSTER_RUN_DIR, POD_NAME};
use crate::devices::host::{Roots, cpus};
use crate::devices::net;
use crate::devices::own::OwnHost;
use crate::devices::report::Report;
use crate::discovery::Hosts;
use crate::discovery::dns::Resolver;
use crate::discovery::enumerate::enumerate;
use crate::exit::{Class, Explain, Failure};
use crate::output::Returns;
use crate::plan::{self, Fabric, Family, Plan, PlanHost, Request};
use crate::process::limits::raise_open_files;
use crate::rank::gpus::GpuBind;
use crate::rank::protocol::Output;
use crate::rank::{self, Color};
use crate::readiness::callback;
use crate::readiness::wait::{Link, Patience, Ready, Steps, wait};
use crate::text::say;

/// Between two questions for a service whose pods are not all there.
const SERVICE_PAUSE: Duration = Duration::from_secs(1);

/// Brings all hosts to ready, and has them call back.
///
/// # Errors
/// A host did not become ready, or cannot reach this one.
pub async fn gather(
    hosts: &Hosts,
    reach: &Reach,
    own: &Arc<OwnHost>,
) -> Result<Vec<Ready>, Failure> {
    raise_open_files();
    let services = Resolver::from_system();
    let deadline = Instant::now() + reach.patience.total;
    let specs = loop {
        let error = match enumerate(&hosts.list, &services, &own.addresses).await {
            Ok(specs) => break specs,
            Err(error) => error,
        };
        if error.class() == Class::Config || Instant::now() + SERVICE_PAUSE >= deadline {
            return Err(error.into());
        }
        say(&error.to_string());
        sleep(SERVICE_PAUSE).await;
    };
    if specs.is_empty() {
        return Ok(Vec::new());
    }
    say(&format!("{} hosts from {}", specs.len(), hosts.source));
    let rest = deadline.saturating_duration_since(Instant::now());
    let mut ready = wait(
        specs,
        Arc::clone(own),
        reach.port,
        Arc::new(Resolver::of_job()),
        reach.login.clone(),
        Patience { total: rest, ..reach.patience },
        |line| say(&line),
    )
    .await?;
    let found = callback::check(&mut ready, &own.hostname).await;
    for (host, why) in &found.nameless {
        say(&format!("warning: {host} cannot resolve our name {}: {why}", own.hostname));
    }
    if !found.cut_off.is_empty() {
        return Err(callback::CutOff { hosts: found.cut_off }.into());
    }
    for line in disagreements(&ready) {
        say(&format!("warning: {line}"));
    }
    if let Some(line) = network::clocks(&ready) {
        say(&format!("warning: {line}"));
    }
    Ok(ready)
}

/// What the workers' hellos show that may end badly: MPIs that differ.
fn disagreements(ready: &[Ready]) -> Vec<String> {
    let mut mpis: Vec<(String, Vec<&str>)> = Vec::new();
    for host in ready {
        let Link::Worker(_, control) = &host.link else { continue };
        let mpi = match &control.hello.mpi {
            Some(mpi) => format!("{} {}", mpi.family, mpi.version),
            None => "no mpirun on PATH".into(),
        };
        match mpis.iter_mut().find(|(known, _)| *known == mpi) {
            Some((_, hosts)) => hosts.push(host.spec.name.short()),
            None => mpis.push((mpi, vec![host.spec.name.short()])),
        }
    }
    if mpis.len() < 2 {
        return Vec::new();
    }
    let words: Vec<String> =
        mpis.iter().map(|(mpi, hosts)| format!("{mpi} on {}", hosts.join(", "))).collect();
    vec![format!("the workers' MPIs differ: {}", words.join("; "))]
}

/// The pods that are called otherwise than their hosts, by the short names of those.
#[must_use]
pub fn pods(ready: &[Ready], env: &Environment) -> BTreeMap<String, String> {
    let named = ready.iter().filter_map(|host| {
        let pod = match &host.link {
            Link::Here => env.non_empty(POD_NAME),
            Link::Worker(_, control) => control.hello.pod.as_deref(),
            Link::Plain(_) => None,
        };
        let short = host.spec.name.short();
        pod.filter(|pod| *pod != short).map(|pod| (short.to_owned(), pod.to_owned()))
    });
    named.collect()
}

/// The interface over which the first remote host was reached.
#[must_use]
pub fn interface(ready: &[Ready]) -> Option<String> {
    let local = ready.iter().find_map(|host| match &host.link {
        Link::Worker(connection, _) | Link::Plain(connection) => Some(connection.local().ip()),
        Link::Here => None,
    })?;
    let addresses = net::addresses().ok()?;
    net::interface_of(local, &addresses).map(ToOwned::to_owned)
}

/// What to put before the program of each rank, or why nothing.
///
/// # Errors
/// The wrapper cannot be called by one path on all hosts; the words say why.
fn wrapper(
    config: &LaunchConfig,
    ready: &[Ready],
    own_devices: Option<&Report>,
    run_dir: &Path,
) -> Result<Vec<OsString>, String> {
    let own = std::env::current_exe().map_err(|error| format!("our own path: {error}"))?;
    for host in ready {
        let name = &host.spec.name;
        match &host.link {
            Link::Here => {}
            Link::Plain(_) => return Err(format!("{name} runs no muster worker")),
            Link::Worker(_, control) => match control.hello.muster.as_deref() {
                Some(path) if own == Path::new(path) => {}
                Some(path) => return Err(format!("muster is {path} on {name}")),
                None => return Err(format!("{name} does not say where its muster is")),
            },
        }
    }
    let mut output = config.output.clone();
    output.job = output.job.or_else(|| job::name(&config.env, &config.own.hostname, run_dir));
    let ours = matches!(output.output, Output::Launcher | Output::Both | Output::Mpirun);
    if ours && rank::on_terminal() {
        if output.color == Color::Auto && config.env.non_empty("NO_COLOR").is_none() {
            output.color = Color::Always;
        }
        output.returns = output.returns.or(Some(Returns::Keep));
    }
    let mut words = vec![own.into_os_string(), "rank".into()];
    words.extend(output.flags());
    // It need not ask its worker for what nobody has.
    let none = || slots::without_gpus(ready, own_devices).then_some(GpuBind::None);
    let bind = config.gpu_bind.or_else(none).and_then(|bind| bind.to_possible_value());
    words.extend(bind.map(|bind| format!("--gpu-bind={}", bind.get_name()).into()));
    words.push("--".into());
    Ok(words)
}

/// The request that the plan is made from; `own` is what this machine has.
#[must_use]
pub fn request(
    config: &LaunchConfig,
    ready: &[Ready],
    own: Option<&Report>,
    fabric: Fabric,
    run_dir: &Path,
) -> Request {
    let wrapper = wrapper(config, ready, own, run_dir).unwrap_or_else(|why| {
        say(&format!("warning: the ranks' lines stay untagged, and GPUs unbound: {why}"));
        Vec::new()
    });
    let name = run_dir.file_name().unwrap_or_default().to_string_lossy();
    let local_cpus = cpus(&Roots::default()).map(|cpus| cpus.count);
    Request {
        hosts: plan_hosts(ready, config.slots, own),
        ranks: config.ranks.map(NonZeroU32::get),
        work: config.work.clone(),
        mpirun: config.mpirun.clone(),
        run_dir: run_dir.to_path_buf(),
        muster: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("muster")),
        socket: run_dir.join("socket"),
        rank_socket: Some(format!("{ABSTRACT}{name}")),
        wrapper,
        uid: nix::unistd::geteuid().as_raw(),
        local_cpus: plan::slots::offered(None, local_cpus).0,
        local_slots: plan::slots::decide(None, config.slots, own_slots(local_cpus, own)),
        interface: interface(ready),
        fabric,
        hosts_from_flag: config.hosts.source.is_flag(),
        env: config.env.clone(),
    }
}

/// Notes how long the slowest host took for each step to being ready.
pub fn timings(ready: &[Ready], journal: &mut Journal) {
    let links = ready.iter().filter(|host| !matches!(host.link, Link::Here));
    let steps: Vec<&Steps> = links.map(|host| &host.steps).collect();
    for (name, of) in [
        ("dns", (|steps| steps.resolve) as fn(&Steps) -> Duration),
        ("connect", |steps| steps.connect),
        ("authenticate", |steps| steps.authenticate),
        ("hello", |steps| steps.hello),
    ] {
        if let Some(slowest) = steps.iter().map(|steps| of(steps)).max() {
            journal.took(name, slowest);
        }
    }
    journal.reached("ready");
}

/// How often workers are to give signs of life: as asked for, and often enough to see a stall.
#[must_use]
pub fn heartbeat(config: &LaunchConfig) -> Duration {
    let stall = config.stall.map_or(Duration::MAX, |stall| stall / 4);
    config.heartbeat.interval.min(stall)
}

/// What the launch is held to.
#[must_use]
pub fn expected(config: &LaunchConfig, plan: &Plan, hosts: &[PlanHost], fleet: &Fleet) -> Expected {
    Expected {
        hosts: hosts.iter().map(|host| host.name.clone()).collect(),
        placement: plan.placement.clone(),
        workers: fleet.workers().cloned().collect(),
        here: fleet.here().clone(),
        agent_is_ours: plan.agent_is_ours,
        daemons_detach: config.mpirun.family == Family::OpenMpi4,
        grace: config.grace,
        stall: config.stall,
    }
}

/// The job's private directory; removed with everything in it when dropped.
#[derive(Debug)]
pub struct RunDir(PathBuf);

/// No place for the run directory.
#[derive(Debug, thiserror::Error)]
#[error("make a private directory for the job: {}", tried(.0))]
pub struct NoRunDir(Vec<(PathBuf, io::Error)>);

fn tried(attempts: &[(PathBuf, io::Error)]) -> String {
    let words: Vec<String> =
        attempts.iter().map(|(path, error)| format!("{}: {error}", path.display())).collect();
    words.join("; ")
}

impl Explain for NoRunDir {
    fn class(&self) -> Class {
        Class::LocalResource
    }

    fn hint(&self) -> Option<String> {
        Some(
            "with a read-only root, mount an emptyDir at /tmp or name one with MUSTER_RUN_DIR"
                .into(),
        )
    }
}

/// The longest path a unix socket may have, sun_path of unix(7), less its terminating NUL.
const SOCKET_PATH: usize = 107;

impl RunDir {
    /// Makes it below the first of `$MUSTER_RUN_DIR`, `$TMPDIR`, `/tmp`, `/dev/shm` that takes it.
    ///
    /// # Errors
    /// None of them does.
    pub fn create(env: &Environment) -> Result<Self, NoRunDir> {
        let named = [MUSTER_RUN_DIR, "TMPDIR"].into_iter().filter_map(|name| env.non_empty(name));
        let mut attempts = Vec::new();
        for parent in named.chain(["/tmp", "/dev/shm"]) {
            let random: u32 = rand::random();
            let path =
                Path::new(parent).join(format!("muster-{}-{random:08x}", std::process::id()));
            if path.as_os_str().len() + "/socket".len() > SOCKET_PATH {
                attempts.push((path, io::Error::other("too long for a socket's path")));
                continue;
            }
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    if let (Some(_), Some((wanted, error))) =
                        (env.non_empty(MUSTER_RUN_DIR), attempts.first())
                    {
                        say(&format!(
                            "warning: {MUSTER_RUN_DIR}: make {}: {error}",
                            wanted.display()
                        ));
                    }
                    return Ok(Self(path));
                }
                Err(error) => attempts.push((path, error)),
            }
        }
        Err(NoRunDir(attempts))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the plan's files and links into it.
    ///
    /// # Errors
    /// The disk is full or not writable.
    pub fn write(&self, plan: &Plan) -> Result<(), NoRunDir> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |error| NoRunDir(vec![(path, error)])
        };
        for (path, content) in &plan.files {
            std::fs::write(path, content).map_err(failed(path))?;
        }
        for (link, target) in &plan.links {
            symlink(target, link).map_err(failed(link))?;
        }
        Ok(())
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // It lies in a temporary directory; what cannot be removed goes with the container.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

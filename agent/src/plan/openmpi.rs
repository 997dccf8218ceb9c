//! What Open MPI 4 and 5 have in common under different names.
//!
//! Must not hold what only one of them knows.

use super::error::PlanError;
use super::job::Job;
use super::settings::Settings;
use crate::config::env::Environment;

/// Above this many hosts the agents, which live as long as the job, use up the default of
/// `num_concurrent` and the launch deadlocks.
const CONCURRENT: usize = 128;

/// Values of the agent that images carry for use on one machine; none of them can reach a host.
const PLACEHOLDERS: [&str; 6] = ["sh", "/bin/sh", "false", "/bin/false", "true", "/bin/true"];

/// Variables that say a batch system placed this process.
const BATCH: [&str; 9] = [
    "SLURM_JOBID",
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "PBS_ENVIRONMENT",
    "LSB_JOBID",
    "PE_HOSTFILE",
    "FLUX_JOB_ID",
    "COBALT_JOBID",
    "LOADL_HOSTFILE",
];

/// The names of parameters in one of the two.
pub(super) struct Names {
    /// `OMPI_MCA_` or `PRTE_MCA_`.
    pub(super) prefix: &'static str,
    /// The component of `plm` that uses a remote shell.
    pub(super) plm: &'static str,
    /// The parameter with the binding policy.
    pub(super) binding: &'static str,
}

impl Names {
    pub(super) fn of(&self, parameter: &str) -> String {
        format!("{}{parameter}", self.prefix)
    }
}

/// A remote-shell agent that was set by someone and can be one.
pub(super) fn users_agent<'e>(env: &'e Environment, names: &[String]) -> Option<(String, &'e str)> {
    names.iter().find_map(|name| {
        let value = env.non_empty(name)?;
        (!PLACEHOLDERS.contains(&value.trim())).then(|| (name.clone(), value))
    })
}

/// Makes muster the agent by the variable `name`, where there is none or a placeholder.
pub(super) fn put_agent(
    job: &Job<'_>,
    settings: &mut Settings<'_>,
    name: &str,
) -> Result<(), PlanError> {
    let reason = match settings.env().non_empty(name) {
        Some(placeholder) => format!("muster is the remote shell; `{placeholder}` reaches no host"),
        None => "muster is the remote shell".to_owned(),
    };
    settings.put(name, agent(job)?, &reason);
    Ok(())
}

/// The value that makes muster the agent, with its arguments in it.
///
/// Both versions split it at blanks, and at `:` into alternatives of which the first that exists
/// is taken. Daemons look it up too, and ORTE's crash where none exists; `sh` exists on a host
/// that has only a stock sshd, and is never called there.
fn agent(job: &Job<'_>) -> Result<String, PlanError> {
    Ok(format!("{} rsh : sh", job.path(&job.request.muster, &[':', '"', '\''])?))
}

/// Who launches, how flat, and how soon a lost host is noticed; true where daemons are started through
/// the remote shell.
pub(super) fn launcher(job: &Job<'_>, settings: &mut Settings<'_>, names: &Names) -> bool {
    let plm = names.of("plm");
    let through_shell = settings.want(&plm, names.plm, "start daemons through the remote shell")
        || settings.env().get(&plm).is_some_and(|list| selects(list, names.plm));
    let batch = BATCH.iter().find(|name| settings.env().non_empty(name).is_some());
    if let Some(batch) = batch {
        settings.want(
            &names.of("ras"),
            "^slurm,gridengine,tm,pbs,lsf,loadleveler,alps,flux",
            &format!("{batch} is set, and its allocation would replace the hostfile"),
        );
    }
    let shell = |parameter: &str| names.of(&format!("plm_{}_{parameter}", names.plm));
    settings.want(&shell("no_tree_spawn"), "1", "all daemons are started from the launcher");
    let hosts = job.request.hosts.len();
    let concurrent = shell("num_concurrent");
    if hosts > CONCURRENT {
        settings.want_unless(
            &[&concurrent],
            hosts.to_string(),
            &format!("one agent for each of {hosts} hosts, or the launch deadlocks"),
            &format!("fewer than {hosts} deadlocks the launch"),
        );
    }
    let lost = "a lost host is noticed in seconds, not minutes";
    for (parameter, value) in [("time", "10"), ("intvl", "2"), ("probes", "3")] {
        settings.want(&names.of(&format!("oob_tcp_keepalive_{parameter}")), value, lost);
    }
    through_shell
}

/// Whether a list of components, or of those that are left out after a `^`, leaves this one in.
fn selects(list: &str, component: &str) -> bool {
    let named = list.trim_start_matches('^').split(',').any(|name| name.trim() == component);
    named != list.starts_with('^')
}

/// Leave for uid 0, which a container often is.
pub(super) fn root(job: &Job<'_>, settings: &mut Settings<'_>, prefix: &str) {
    if job.request.uid == 0 {
        for suffix in ["", "_CONFIRM"] {
            let name = format!("{prefix}_ALLOW_RUN_AS_ROOT{suffix}");
            settings.want(&name, "1", "the launcher runs as root");
        }
    }
}

/// Slots and oversubscription for local use, where muster writes the line.
///
/// Without a hostfile both count cores and refuse more ranks, although a machine of 4 cores and
/// 8 threads can run 8, and 4 ranks on 2 CPUs are a fair wish on a laptop.
pub(super) fn local(
    job: &Job<'_>,
    settings: &mut Settings<'_>,
    slots: &str,
    oversubscribe: (&str, &str),
) {
    let cpus = job.request.local_cpus.max(1);
    let Some(ranks) = job.ranks else { return };
    settings.want(slots, cpus.to_string(), "each CPU of this machine is a slot");
    if ranks > cpus {
        let reason = format!("{ranks} ranks on {cpus} CPUs were asked for");
        settings.want(oversubscribe.0, oversubscribe.1, &reason);
    }
}

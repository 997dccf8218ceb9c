//! Hydra, in MPICH's and in Intel's words.
//!
//! Must not count on `:N` in Intel's default hostfile: only `-machinefile` honours it.

use std::path::PathBuf;

use super::error::PlanError;
use super::job::Job;
use super::settings::{Settings, Settled};
use super::{Family, slots};

/// What the agent is called in the run directory. muster acts as `muster rsh` under this name,
/// because Hydra takes one path and no arguments for it.
const LINK: &str = "rsh";

/// The link from Hydra's agent to this binary, for jobs with hosts.
pub(super) fn link(job: &Job<'_>) -> Option<(PathBuf, PathBuf)> {
    job.hostfile.as_ref()?;
    Some((job.request.run_dir.join(LINK), job.request.muster.clone()))
}

/// Adds the variables, and says what they make of the launch.
pub(super) fn settings(job: &Job<'_>, settings: &mut Settings<'_>) -> Result<Settled, PlanError> {
    let intel = job.request.mpirun.family == Family::IntelMpi;
    if intel {
        path(job, settings)?;
    }
    if job.hostfile.is_none() {
        return Ok(Settled { by_slot: true, agent_is_ours: false });
    }
    job.socket(settings)?;
    let (launcher, exec, iface, hostfile): (&[&str], &[&str], _, _) = if intel {
        (
            &["I_MPI_HYDRA_BOOTSTRAP"],
            &["I_MPI_HYDRA_BOOTSTRAP_EXEC"],
            "I_MPI_HYDRA_IFACE",
            "I_MPI_HYDRA_HOST_FILE",
        )
    } else {
        (
            &["HYDRA_LAUNCHER", "HYDRA_BOOTSTRAP"],
            &["HYDRA_LAUNCHER_EXEC", "HYDRA_BOOTSTRAP_EXEC"],
            "HYDRA_IFACE",
            "HYDRA_HOST_FILE",
        )
    };
    settings.want_unless(launcher, "ssh", "start proxies through the remote shell", "");
    // The other launchers (`fork`, `slurm`, `manual`, …) call no remote shell.
    let by_shell = launcher
        .iter()
        .filter_map(|name| settings.env().get(name))
        .all(|value| matches!(value, "ssh" | "rsh"));
    let agent = job.path(&job.request.run_dir.join(LINK), &[])?;
    let agent_is_ours = settings.want_unless(
        exec,
        agent,
        "muster is the remote shell",
        "muster's own connections are not used",
    );
    if intel {
        settings.want("I_MPI_HYDRA_BRANCH_COUNT", "0", "all proxies are started from the launcher");
    }
    match &job.request.interface {
        Some(interface) => {
            settings.want(iface, interface.as_str(), "proxies call back by address, not by name");
        }
        None if settings.env().get(iface).is_none() => settings.note(
            "proxies call the launcher back by its short host name, which must resolve on every \
             worker",
        ),
        None => settings.keep(iface, ""),
    }
    let ours = job.default_hostfile(settings, hostfile, "the hosts of this job");
    let by_slot = if intel { per_host(job, settings) } else { ours || job.slots_are_listed() };
    Ok(Settled { by_slot, agent_is_ours: agent_is_ours && by_shell })
}

/// Intel's count of ranks a host where the line is the user's; true where it gives the slots.
fn per_host(job: &Job<'_>, settings: &mut Settings<'_>) -> bool {
    const PER_HOST: &str = "I_MPI_PERHOST";
    if job.writes_line() {
        settings.keep(PER_HOST, "the hostfile on the command line outranks it");
        return true;
    }
    let Some(slots) = slots::uniform(&job.request.hosts) else {
        settings.keep(PER_HOST, "");
        settings.note(
            "the hosts differ in slots, and Intel MPI honours them only with `-machinefile`: put \
             it on the mpirun line, or give muster the program alone",
        );
        return false;
    };
    let slots = slots.to_string();
    let reason = "Intel MPI reads no slots from a default hostfile, and all hosts have as many";
    settings.want(PER_HOST, slots.as_str(), reason)
        || settings.env().get(PER_HOST) == Some(slots.as_str())
}

/// `mpirun` is a script that runs the first `mpiexec.hydra` on PATH, MPICH's if that comes first.
fn path(job: &Job<'_>, settings: &mut Settings<'_>) -> Result<(), PlanError> {
    let mpirun = &job.request.mpirun.path;
    let (Some(directory), true) =
        (mpirun.parent(), mpirun.file_name().is_some_and(|name| name == "mpirun"))
    else {
        return Ok(());
    };
    let directory = job.path(directory, &[':'])?;
    let path = settings.env().get("PATH").unwrap_or_default();
    if path.split(':').next() != Some(directory.as_str()) {
        let path = if path.is_empty() { directory } else { format!("{directory}:{path}") };
        settings.put("PATH", path, "Intel's mpirun takes the first mpiexec.hydra on it");
    }
    Ok(())
}

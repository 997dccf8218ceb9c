//! From a request to a plan.
//!
//! Must not know a variable of any family: their files do.

use super::error::PlanError;
use super::job::Job;
use super::settings::Settings;
use super::{
    Family, Plan, Request, Setting, Work, dialect, hydra, openmpi4, openmpi5, slots, work, wrap,
};
use crate::config::variables::MUSTER_RANK_SOCKET;

/// What our hostfile is called in the run directory.
const HOSTFILE: &str = "hostfile";

/// The whole launch: hostfile, argv, environment, and where the ranks must be found.
///
/// # Errors
/// When the request does not fit the hosts, or cannot be said in the words of the MPI family.
pub fn build(request: &Request) -> Result<Plan, PlanError> {
    let family = request.mpirun.family;
    check(&request.work)?;

    let mut job = Job { request, ranks: None, hostfile: None };
    let mut files = Vec::new();
    if !request.hosts.is_empty() {
        let path = request.run_dir.join(HOSTFILE);
        job.hostfile = Some(job.path(&path, &[])?);
        files.push((path, dialect::hostfile(family, &request.hosts)?));
    }
    job.ranks = ranks(request)?;

    let mut settings = Settings::new(&request.env);
    if let (Work::MpirunLine(_), Some(_)) = (&request.work, request.ranks) {
        settings.note("the number of ranks is left to the mpirun line");
    }
    let settled = match family {
        Family::OpenMpi4 => openmpi4::settings(&job, &mut settings)?,
        Family::OpenMpi5 => openmpi5::settings(&job, &mut settings)?,
        Family::Mpich | Family::IntelMpi => hydra::settings(&job, &mut settings)?,
    };
    request.fabric.apply(&mut settings);
    for warning in &request.fabric.warnings {
        settings.note(format!("warning: {warning}"));
    }
    if let Some(name) = &request.rank_socket {
        settings.put(MUSTER_RANK_SOCKET, name.as_str(), "where wrappers of ranks find muster");
    }
    let argv = wrap::argv(&job, &mut settings);
    let (env, notes) = settings.finish();

    let placement = match job.ranks {
        Some(ranks) if settled.by_slot && job.hostfile.is_some() => {
            Some(slots::by_slot(&request.hosts, ranks))
        }
        _ => None,
    };
    let links =
        if family.is_hydra() { hydra::link(&job).into_iter().collect() } else { Vec::new() };
    let daemon_env = if family.is_hydra() { Vec::new() } else { daemon_env(request, &env) };
    let (fabric, hosts) = (request.fabric.line.clone(), request.hosts.clone());
    Ok(Plan {
        argv,
        env,
        daemon_env,
        fabric,
        files,
        links,
        ranks: job.ranks,
        hosts,
        placement,
        agent_is_ours: settled.agent_is_ours,
        notes,
    })
}

/// What the fabric sets and Open MPI does not carry to other hosts: it knows its own parameters only.
fn daemon_env(request: &Request, env: &[Setting]) -> Vec<(String, String)> {
    let of_fabric = |name: &str| request.fabric.wishes.iter().any(|wish| wish.name == name);
    env.iter()
        .filter(|setting| !setting.kept && of_fabric(&setting.name))
        .filter(|setting| !setting.name.contains("_MCA_"))
        .map(|setting| (setting.name.clone(), setting.value.clone()))
        .collect()
}

/// A program that mpirun would misread is refused before anything else is asked of it.
fn check(work: &Work) -> Result<(), PlanError> {
    let args = work.args();
    let Work::Program(_) = work else {
        return args.first().map(|_| ()).ok_or(PlanError::NothingToRun);
    };
    match Work::parse(args.to_vec())? {
        _ if args.iter().any(|word| word == ":") => Err(PlanError::Separator),
        Work::Program(_) | Work::MpirunLine(_) => Ok(()),
    }
}

fn ranks(request: &Request) -> Result<Option<u32>, PlanError> {
    let local = request.hosts.is_empty();
    match &request.work {
        Work::Program(_) if local => match request.ranks.unwrap_or(request.local_slots.0) {
            0 => Err(PlanError::NoRanks),
            ranks => Ok(Some(ranks)),
        },
        Work::Program(_) => slots::ranks(&request.hosts, request.ranks).map(Some),
        Work::MpirunLine(_) if local => Ok(None),
        Work::MpirunLine(line) => Ok(work::ranks_by_slot(line, request.mpirun.family)
            // More than the slots is for mpirun to refuse, or for Hydra to wrap round.
            .filter(|ranks| *ranks <= slots::total(&request.hosts))),
    }
}

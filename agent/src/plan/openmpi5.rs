//! Open MPI 5 and later: PRRTE reads `PRTE_MCA_*`, and ignores what operators set for Open MPI 4.
//!
//! Must not set `prte_keep_fqdn_hostnames`: true makes PRRTE fail to recognise its own host, which
//! it then reaches through the agent. Must not set anything by an `OMPI_MCA_` name.

use super::error::PlanError;
use super::job::{Fit, Job};
use super::openmpi::{self, Names};
use super::settings::{Settings, Settled};

const NAMES: Names =
    Names { prefix: "PRTE_MCA_", plm: "ssh", binding: "hwloc_default_binding_policy" };
const AGENT: &str = "PRTE_MCA_plm_ssh_agent";
const ARGS: &str = "PRTE_MCA_plm_ssh_args";

/// Adds the variables, and says what they make of the launch.
pub(super) fn settings(job: &Job<'_>, settings: &mut Settings<'_>) -> Result<Settled, PlanError> {
    let mut agent_is_ours = false;
    if job.hostfile.is_some() {
        job.socket(settings)?;
        let ours = agent(job, settings)?;
        agent_is_ours = openmpi::launcher(job, settings, &NAMES) && ours;
        settings.keep(
            "PRTE_MCA_prte_keep_fqdn_hostnames",
            "where it is true, PRRTE may not recognise its own host",
        );
        hostfile(job, settings);
    } else {
        openmpi::local(
            job,
            settings,
            "PRTE_MCA_prte_set_default_slots",
            ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"),
        );
    }
    openmpi::root(job, settings, "OMPI");
    if job.request.mpirun.path.file_name().is_some_and(|name| name == "prterun") {
        openmpi::root(job, settings, "PRTE");
    }
    if settings.env().get("HOME").is_none() {
        settings.put("HOME", "/", "PRRTE fails without one");
    }
    binding(job, settings);
    let users_binding = settings.env().get("PRTE_MCA_hwloc_default_binding_policy");
    let moved = settings
        .env()
        .iter()
        .any(|(name, _)| name == "PRTE_MCA_ras" || name.starts_with("PRTE_MCA_rmaps"));
    let by_slot = !moved && users_binding.is_none_or(harmless);
    Ok(Settled { by_slot, agent_is_ours })
}

/// The agent: the user's for PRRTE, else the user's for ORTE, else muster; true where it
/// is muster.
fn agent(job: &Job<'_>, settings: &mut Settings<'_>) -> Result<bool, PlanError> {
    let unused = "muster's own connections are not used";
    if let Some((name, _)) = openmpi::users_agent(settings.env(), &[AGENT.to_owned()]) {
        settings.keep(&name, unused);
        return Ok(false);
    }
    let older = "OMPI_MCA_plm_rsh_agent";
    if let Some((_, value)) = openmpi::users_agent(settings.env(), &[older.to_owned()]) {
        settings.put(AGENT, value, &format!("{older}, which PRRTE does not read; {unused}"));
        // Words for the user's own shell; muster needs none of them.
        if let Some(args) = settings.env().non_empty("OMPI_MCA_plm_rsh_args") {
            settings.want(ARGS, args, "OMPI_MCA_plm_rsh_args, which PRRTE does not read");
        }
        return Ok(false);
    }
    openmpi::put_agent(job, settings, AGENT)?;
    Ok(true)
}

/// Our file in every case where PRRTE's own variable is not set: it has the hosts of the operator's
/// file, and the slots are decided in it.
fn hostfile(job: &Job<'_>, settings: &mut Settings<'_>) {
    let why = match settings.env().non_empty("OMPI_MCA_orte_default_hostfile") {
        Some(older) => format!("the hosts of {older}, which PRRTE is not told of"),
        None => "the hosts of this job".to_owned(),
    };
    job.default_hostfile(settings, "PRTE_MCA_prte_default_hostfile", &why);
    if let Some(slots) = settings.env().non_empty("OMPI_MCA_orte_set_default_slots") {
        settings.want(
            "PRTE_MCA_prte_set_default_slots",
            slots,
            "OMPI_MCA_orte_set_default_slots, which PRRTE does not read",
        );
    }
}

/// PRRTE binds each rank to a core and refuses (213), or moves ranks to another host, where cores
/// run out; hosts count hardware threads.
fn binding(job: &Job<'_>, settings: &mut Settings<'_>) {
    let name = NAMES.of(NAMES.binding);
    match job.fit() {
        Fit::Over(why) => {
            settings.want(&name, "none", &why);
        }
        Fit::Tight => {
            let why = "ranks may share a core: CPUs can be hardware threads";
            settings.want(&name, "core:overload-allowed", why);
        }
        Fit::Loose => {}
    }
}

/// Whether a binding policy leaves ranks on the host that their slot is on.
fn harmless(policy: &str) -> bool {
    policy == "none" || policy.ends_with("overload-allowed")
}

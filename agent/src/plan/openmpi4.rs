//! Open MPI 4 and earlier: ORTE reads `OMPI_MCA_*`.
//!
//! Must not name PRRTE's variables. Names checked with `ompi_info --all` of 4.1.4.

use super::error::PlanError;
use super::job::{Fit, Job};
use super::openmpi::{self, Names};
use super::settings::{Settings, Settled};

const NAMES: Names =
    Names { prefix: "OMPI_MCA_", plm: "rsh", binding: "hwloc_base_binding_policy" };
const AGENT: &str = "OMPI_MCA_plm_rsh_agent";

/// Adds the variables, and says what they make of the launch.
pub(super) fn settings(job: &Job<'_>, settings: &mut Settings<'_>) -> Result<Settled, PlanError> {
    let mut settled = Settled { by_slot: true, agent_is_ours: false };
    if job.hostfile.is_some() {
        job.socket(settings)?;
        let ours = agent(job, settings)?;
        settled.agent_is_ours = openmpi::launcher(job, settings, &NAMES) && ours;
        if job.request.hosts.iter().any(|host| host.name.short() != host.name.as_str()) {
            settings.want(
                "OMPI_MCA_orte_keep_fqdn_hostnames",
                "true",
                "the agent gets host names whole",
            );
        }
        let why = "the hosts of this job";
        if !job.default_hostfile(settings, "OMPI_MCA_orte_default_hostfile", why) {
            settled.by_slot = job.slots_are_listed();
            if !settled.by_slot {
                settings.note(
                    "the hostfile in OMPI_MCA_orte_default_hostfile leaves slots out: Open MPI \
                     counts cores there, not what muster counts",
                );
            }
        }
    } else {
        // It fails where its remote shell does not exist, also where it calls none. An image for
        // muster has no ssh, so `sh` stands in; where there is an ssh it stays what it was.
        settings.want(AGENT, "ssh : rsh : sh", "mpirun fails where no remote shell exists");
        openmpi::local(
            job,
            settings,
            "OMPI_MCA_orte_set_default_slots",
            ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        );
    }
    openmpi::root(job, settings, "OMPI");
    if let Fit::Over(why) = job.fit() {
        settings.want(&NAMES.of(NAMES.binding), "none", &why);
    }
    let moved = settings.env().iter().any(|(name, _)| {
        name == "OMPI_MCA_ras"
            || (name.starts_with("OMPI_MCA_rmaps") && name != "OMPI_MCA_rmaps_base_oversubscribe")
    });
    settled.by_slot &= !moved;
    Ok(settled)
}

/// The agent: the user's, else muster; true where it is muster.
fn agent(job: &Job<'_>, settings: &mut Settings<'_>) -> Result<bool, PlanError> {
    let names = [AGENT.to_owned(), "OMPI_MCA_orte_rsh_agent".to_owned()];
    if let Some((name, _)) = openmpi::users_agent(settings.env(), &names) {
        settings.keep(&name, "muster's own connections are not used");
        return Ok(false);
    }
    openmpi::put_agent(job, settings, AGENT)?;
    Ok(true)
}

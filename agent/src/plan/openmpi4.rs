//! Open MPI 4 and earlier: ORTE reads `OMPI_MCA_*`.
//!
//! Must not name PRRTE's variables. Names checked with `ompi_info --all` of 4.1.4.

use super::error::PlanError;
use super::job::{Fit, Job};
use super::openmpi::{self, Names};
use super::settings::Settings;

const NAMES: Names =
    Names { prefix: "OMPI_MCA_", plm: "rsh", binding: "hwloc_base_binding_policy" };
const AGENT: &str = "OMPI_MCA_plm_rsh_agent";

/// Adds the variables; true where the ranks will fill the hosts slot by slot.
pub(super) fn settings(job: &Job<'_>, settings: &mut Settings<'_>) -> Result<bool, PlanError> {
    let mut by_slot = true;
    if job.hostfile.is_some() {
        job.socket(settings)?;
        agent(job, settings)?;
        openmpi::launcher(job, settings, &NAMES);
        if job.request.hosts.iter().any(|host| host.name.short() != host.name.as_str()) {
            settings.want(
                "OMPI_MCA_orte_keep_fqdn_hostnames",
                "true",
                "the agent gets host names whole",
            );
        }
        let why = "the hosts of this job";
        if !job.default_hostfile(settings, "OMPI_MCA_orte_default_hostfile", why) {
            by_slot =
                job.request.hosts.iter().all(|host| host.slots_from == super::slots::FROM_HOSTFILE);
            if !by_slot {
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
    Ok(by_slot && !moved)
}

fn agent(job: &Job<'_>, settings: &mut Settings<'_>) -> Result<(), PlanError> {
    let names = [AGENT.to_owned(), "OMPI_MCA_orte_rsh_agent".to_owned()];
    if let Some((name, _)) = openmpi::users_agent(settings.env(), &names) {
        settings.keep(&name, "muster's own connections are not used");
        return Ok(());
    }
    let reason = match settings.env().non_empty(AGENT) {
        Some(placeholder) => format!("muster is the remote shell; `{placeholder}` reaches no host"),
        None => "muster is the remote shell".to_owned(),
    };
    settings.put(AGENT, openmpi::agent(job)?, &reason);
    Ok(())
}

//! What the ranks of a launch call their job, where the user has not named it.
//!
//! Must not look beyond the environment and this machine.

use std::path::Path;

use crate::config::env::Environment;
use crate::discovery::operator::{Machine, detect};
use crate::process::ranks::BATCH_JOBS;

/// The operator's name for it, else the launch's own, which no other has. None in the job of a batch system,
/// whose number for it each rank finds.
#[must_use]
pub fn name(env: &Environment, hostname: &str, run_dir: &Path) -> Option<String> {
    let machine = Machine { env, hostname, root: Path::new("/") };
    let by_operator = detect(&machine).job;
    let in_batch = BATCH_JOBS.iter().any(|name| env.non_empty(name).is_some());
    let own = || run_dir.file_name().map(|name| name.to_string_lossy().into_owned());
    by_operator.or_else(|| if in_batch { None } else { own() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_name_else_the_batch_systems_else_our_own() {
        for (variables, hostname, expected) in [
            (&[("K_MPI_JOB_ROLE", "launcher")][..], "pi-launcher", Some("pi")),
            (&[("K_MPI_JOB_ROLE", "launcher"), ("SLURM_JOB_ID", "9")], "pi-launcher", Some("pi")),
            (&[("SLURM_JOB_ID", "9")], "node1", None),
            (&[("SLURM_JOB_ID", "")], "node1", Some("muster-7-0123abcd")),
            (&[], "node1", Some("muster-7-0123abcd")),
        ] {
            let env: Environment = variables.iter().copied().collect();
            let found = name(&env, hostname, Path::new("/tmp/muster-7-0123abcd"));
            assert_eq!(found.as_deref(), expected, "{variables:?}");
        }
    }
}

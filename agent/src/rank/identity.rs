//! Which rank this is, by its environment.
//!
//! Must not hold the tables of variables: ranks are named by [`crate::process::ranks::TABLE`].

use crate::config::env::Environment;
use crate::ids::HostName;
use crate::output::Identity;
use crate::process::ranks::Place;

/// Reads it; `hostname` is the kernel's name of this host, for where the launcher gives none. A job that the
/// user or a launch has named is called so.
#[must_use]
pub(super) fn find(env: &Environment, job: Option<&str>, hostname: &str) -> Option<Identity> {
    let lookup = |name: &str| env.get(name).map(str::as_bytes);
    let place = Place::find(lookup)?;
    let host = Place::host(lookup).unwrap_or(hostname);
    let job = job.or_else(|| Place::job(lookup));
    Some(Identity {
        rank: place.rank,
        size: place.size,
        local_rank: place.local_rank,
        local_size: place.local_size,
        host: HostName::from(host).short().to_owned(),
        job: job.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_short_and_jobs_are_named() {
        let env: Environment = [
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_SIZE", "8"),
            ("PMIX_HOSTNAME", "w-1.job.default.svc"),
            ("PMIX_NAMESPACE", "prterun-1"),
            ("SLURM_JOB_ID", "42"),
        ]
        .into_iter()
        .collect();
        let expected = Identity {
            rank: 3,
            size: Some(8),
            host: "w-1".into(),
            job: Some("42".into()),
            ..Identity::default()
        };
        assert_eq!(find(&env, None, "kernel"), Some(expected.clone()));
        let named = Identity { job: Some("mine".into()), ..expected };
        assert_eq!(find(&env, Some("mine"), "kernel"), Some(named));
        let env: Environment = [("PMI_RANK", "0")].into_iter().collect();
        assert_eq!(find(&env, None, "kernel.domain").map(|of| of.host), Some("kernel".into()));
        assert_eq!(find(&Environment::default(), None, "kernel"), None);
    }
}

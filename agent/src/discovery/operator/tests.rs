//! Each operator's traces, as its own sources write them.

use std::fs;

use super::{Machine, Operator, Surroundings, detect};
use crate::config::env::Environment;
use crate::discovery::service::default_pattern;

/// A case: host name, environment, files that exist.
type Traces<'t> = (&'t str, &'t [(&'t str, &'t str)], &'t [&'t str]);

/// What they must tell: operator, job, default pattern.
type Told<'t> = (Operator, Option<&'t str>, Option<&'t str>);

fn detected((hostname, env, files): Traces<'_>) -> Surroundings {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "w-0 slots=1\n").unwrap();
    }
    let env: Environment = env.iter().copied().collect();
    detect(&Machine { env: &env, hostname, root: root.path() })
}

#[test]
fn operators_are_told_by_their_traces() {
    let hostfile = "/etc/mpi/hostfile";
    let cases: &[(Traces<'_>, Told<'_>)] = &[
        (
            ("pi-launcher", &[("K_MPI_JOB_ROLE", "launcher")], &[hostfile]),
            (Operator::MpiOperator, Some("pi"), Some("pi-worker-{i}")),
        ),
        (
            ("my-pi-worker-12", &[("K_MPI_JOB_ROLE", "worker")], &[]),
            (Operator::MpiOperator, Some("my-pi"), Some("my-pi-worker-{i}")),
        ),
        (("node17", &[("K_MPI_JOB_ROLE", "worker")], &[]), (Operator::MpiOperator, None, None)),
        (
            ("tj-launcher-0-0", &[("JOB_COMPLETION_INDEX", "0")], &[hostfile]),
            (Operator::Trainer, Some("tj"), Some("tj-node-0-{i}")),
        ),
        (
            ("tj-node-0-0", &[("JOB_COMPLETION_INDEX", "0")], &[hostfile]),
            (Operator::Trainer, Some("tj"), Some("tj-node-0-{i}")),
        ),
        (
            ("tj-node-0-3", &[("JOB_COMPLETION_INDEX", "3")], &[]),
            (Operator::Trainer, Some("tj"), Some("tj-node-0-{i}")),
        ),
        (
            ("set-ranks-1-2", &[("JOB_COMPLETION_INDEX", "2")], &[]),
            (Operator::JobSet, None, Some("set-ranks-1-{i}")),
        ),
        (
            ("job-4", &[("JOB_COMPLETION_INDEX", "4")], &[]),
            (Operator::IndexedJob, Some("job"), Some("job-{i}")),
        ),
        // No hostfile, so no launcher of Trainer's.
        (
            ("set-launcher-0-0", &[("JOB_COMPLETION_INDEX", "0")], &[]),
            (Operator::JobSet, None, Some("set-launcher-0-{i}")),
        ),
        // A host name that is not the pod's (hostNetwork) tells no prefix.
        (("node-17", &[("JOB_COMPLETION_INDEX", "4")], &[]), (Operator::IndexedJob, None, None)),
        (
            ("j-mpimaster-0", &[("MPI_HOST", "a,b")], &["/etc/volcano/mpiworker.host"]),
            (Operator::Volcano, None, None),
        ),
        (("j-w-0", &[("VC_WORKER_HOSTS", "a")], &[]), (Operator::Volcano, None, None)),
        (("j-w-0", &[("VC_TASK_INDEX", "0")], &[]), (Operator::Volcano, None, None)),
        (
            ("ip-10-0-0-1", &[("AWS_BATCH_JOB_NODE_INDEX", "0")], &[]),
            (Operator::AwsBatch, None, None),
        ),
        (("algo-1", &[("SM_HOSTS", "[\"algo-1\"]")], &[]), (Operator::SageMaker, None, None)),
        (("n0", &[("AZ_BATCH_HOST_LIST", "10.0.0.4")], &[]), (Operator::AzureBatch, None, None)),
        (
            ("laptop", &[("K_MPI_JOB_ROLE", ""), ("MPI_HOST", "x")], &[]),
            (Operator::None, None, None),
        ),
    ];
    for (traces, (operator, job, pattern)) in cases {
        let found = detected(*traces);
        assert_eq!((found.operator, found.job.as_deref()), (*operator, *job), "{traces:?}");
        assert_eq!(default_pattern(&found).as_deref(), *pattern, "{traces:?}");
    }
}

//! Which source speaks, what it is called, and what is said when it cannot be used.

use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::{HostFlags, HostList, Hosts, SourceError, resolve};
use crate::config::env::Environment;
use crate::discovery::operator::Machine;
use crate::exit::{Class, Explain as _};

type Pairs<'t> = &'t [(&'t str, &'t str)];

fn resolved(
    flags: &HostFlags,
    hostname: &str,
    env: Pairs<'_>,
    files: Pairs<'_>,
) -> Result<Hosts, SourceError> {
    let root = tempfile::tempdir().unwrap();
    for (file, content) in files {
        let path = root.path().join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let env: Environment = env.iter().copied().collect();
    resolve(flags, &Machine { env: &env, hostname, root: root.path() })
}

/// The source and the hosts in one line.
fn line(hosts: &Hosts) -> String {
    let list = match &hosts.list {
        HostList::Local => "local".to_owned(),
        HostList::Named(list) => {
            let names: Vec<String> = list
                .iter()
                .map(|host| match host.slots {
                    Some(slots) => format!("{}:{slots}", host.name),
                    None => host.name.to_string(),
                })
                .collect();
            names.join(" ")
        }
        HostList::FromService(service) => format!("{} of {}", service.workers, service.name),
    };
    format!("{} = {list}", hosts.source)
}

fn service(service: &str, workers: u32, pattern: Option<&str>) -> HostFlags {
    HostFlags {
        service: Some(service.to_owned()),
        workers: NonZeroU32::new(workers),
        pattern: pattern.map(str::to_owned),
        ..HostFlags::default()
    }
}

#[test]
fn the_environment_tells_in_order_of_precedence() {
    const MOUNT: (&str, &str) = ("/etc/mpi/hostfile", "m-0 slots=2\n");
    let ompi = ("OMPI_MCA_orte_default_hostfile", "/etc/mpi/hostfile");
    let cases: &[(Pairs<'_>, Pairs<'_>, &str)] = &[
        (&[], &[], "nothing: this machine alone = local"),
        (&[], &[MOUNT], "/etc/mpi/hostfile = m-0:2"),
        (&[ompi], &[MOUNT], "/etc/mpi/hostfile (OMPI_MCA_orte_default_hostfile) = m-0:2"),
        (
            &[ompi, ("PRTE_MCA_prte_default_hostfile", "/p"), ("HYDRA_HOST_FILE", "/h")],
            &[MOUNT, ("/p", "p"), ("/h", "h")],
            "/etc/mpi/hostfile (OMPI_MCA_orte_default_hostfile) = m-0:2",
        ),
        (
            &[("PRTE_MCA_prte_default_hostfile", "/p"), ("I_MPI_HYDRA_HOST_FILE", "/i")],
            &[MOUNT, ("/p", "p"), ("/i", "i")],
            "/p (PRTE_MCA_prte_default_hostfile) = p",
        ),
        (
            &[("I_MPI_HYDRA_HOST_FILE", "/i"), ("HYDRA_HOST_FILE", "/h")],
            &[("/i", "i:3"), ("/h", "h")],
            "/i (I_MPI_HYDRA_HOST_FILE) = i:3",
        ),
        (&[("HYDRA_HOST_FILE", "/h")], &[MOUNT, ("/h", "h:4")], "/h (HYDRA_HOST_FILE) = h:4"),
        // Set to nothing, or to Open MPI's word for nothing.
        (
            &[("HYDRA_HOST_FILE", ""), ("OMPI_MCA_orte_default_hostfile", "none")],
            &[MOUNT],
            "/etc/mpi/hostfile = m-0:2",
        ),
        (
            &[("VC_TASK_INDEX", "0"), ("MPI_HOST", "j-w-0.j,j-w-1.j"), ("VC_WORKER_HOSTS", "x")],
            &[("/etc/volcano/worker.host", "y")],
            "MPI_HOST = j-w-0.j j-w-1.j",
        ),
        (
            &[("VC_MPIWORKER_HOSTS", "a.j,b.j"), ("VC_MPIMASTER_HOSTS", "m.j")],
            &[("/etc/volcano/mpiworker.host", "y")],
            "VC_MPIWORKER_HOSTS = a.j b.j",
        ),
        (
            &[],
            &[("/etc/volcano/mpi_worker.host", "a.j\nb.j\n"), ("/etc/volcano/master.host", "m")],
            "/etc/volcano/mpi_worker.host = a.j b.j",
        ),
        // Without Volcano's other traces the name is anybody's.
        (&[("MPI_HOST", "a,b")], &[], "nothing: this machine alone = local"),
        (&[("SM_HOSTS", r#"["algo-1", "algo-2"]"#)], &[], "SM_HOSTS = algo-1 algo-2"),
        (
            &[("AZ_BATCH_HOST_LIST", "10.0.0.4,10.0.0.5")],
            &[],
            "AZ_BATCH_HOST_LIST = 10.0.0.4 10.0.0.5",
        ),
        (&[("AWS_BATCH_JOB_NUM_NODES", "1")], &[], "nothing: this machine alone = local"),
    ];
    for (env, files, expected) in cases {
        let hosts = resolved(&HostFlags::default(), "pod", env, files).unwrap();
        assert_eq!(line(&hosts), *expected, "{env:?}");
        assert!(!hosts.source.is_flag());
    }
}

#[test]
fn flags_outrank_everything() {
    let env = [("HYDRA_HOST_FILE", "/missing")];
    let hosts = HostFlags { hosts: Some("a,b:4".to_owned()), ..HostFlags::default() };
    let hostfile = HostFlags { hostfile: Some(PathBuf::from("/my")), ..HostFlags::default() };
    for (flags, hostname, expected) in [
        (&hosts, "pod", "--hosts = a b:4"),
        (&hostfile, "pod", "/my (--hostfile) = c:2"),
        (&service("pi", 2, Some("w-{i}")), "pod", "w-{i}.pi (--service) = w-0.pi w-1.pi"),
        (&service("pi", 2, None), "pod", "the addresses of pi (--service) = 2 of pi"),
    ] {
        let found = resolved(flags, hostname, &env, &[("/my", "c slots=2")]).unwrap();
        assert_eq!(line(&found), expected);
        assert!(found.source.is_flag());
    }
}

#[test]
fn a_service_takes_its_pattern_from_the_own_name() {
    for (hostname, env, expected) in [
        ("pi-launcher", ("K_MPI_JOB_ROLE", "launcher"), "pi-worker-0.s pi-worker-1.s"),
        ("ij-1", ("JOB_COMPLETION_INDEX", "1"), "ij-0.s ij-1.s"),
        ("tj-node-0-1", ("JOB_COMPLETION_INDEX", "1"), "tj-node-0-0.s tj-node-0-1.s"),
    ] {
        let hosts = resolved(&service("s", 2, None), hostname, &[env], &[]).unwrap();
        assert!(line(&hosts).ends_with(&format!("(--service) = {expected}")), "{hosts:?}");
    }
}

#[test]
fn all_problems_of_the_flags_at_once() {
    let everything = HostFlags {
        hosts: Some("a".to_owned()),
        hostfile: Some(PathBuf::from("/f")),
        pattern: Some("w".to_owned()),
        ..HostFlags::default()
    };
    let no_workers = HostFlags { service: Some("pi".to_owned()), ..HostFlags::default() };
    for (flags, expected) in [
        (everything, "--hosts and --hostfile both name the hosts\n  --pattern needs --service"),
        (no_workers, "--service needs --workers"),
        (
            HostFlags { workers: NonZeroU32::new(2), ..HostFlags::default() },
            "--workers needs --service",
        ),
        (service("pi", 2, Some("w")), "--pattern 'w' does not say where the index goes"),
        (
            service("p i", 2, None),
            "--service 'p i': expected a host name of letters, digits, '-', '_' and '.', or an IP \
             address",
        ),
    ] {
        let error = resolved(&flags, "pod", &[], &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("follow the flags: {expected}"));
        assert_eq!(error.class(), Class::Config);
        assert!(error.hint().unwrap().contains("in one way"));
    }
}

#[test]
fn sources_that_cannot_be_used_name_themselves() {
    let cases: &[(Pairs<'_>, Pairs<'_>, &str)] = &[
        (
            &[("HYDRA_HOST_FILE", "/gone")],
            &[],
            "read hosts from /gone (HYDRA_HOST_FILE): No such file or directory (os error 2)",
        ),
        (&[], &[("/etc/mpi/hostfile", "\n")], "read hosts from /etc/mpi/hostfile: no host in it"),
        (
            &[("OMPI_MCA_orte_default_hostfile", "/h")],
            &[("/h", "a slots=x")],
            "read hosts from /h (OMPI_MCA_orte_default_hostfile): line 1: 'slots=x': expected a \
             number of slots from 1 to 4294967295",
        ),
        (
            &[("SM_HOSTS", "algo-1")],
            &[],
            "read hosts from SM_HOSTS: expected a JSON list of host names: expected value at line \
             1 column 1",
        ),
        (
            &[("VC_AWORKER_HOSTS", "a"), ("VC_BWORKER_HOSTS", "b")],
            &[],
            "choose between the hosts of VC_AWORKER_HOSTS, VC_BWORKER_HOSTS",
        ),
        (
            &[("AWS_BATCH_JOB_NUM_NODES", "4")],
            &[],
            "find the hosts of this job: AWS Batch says it has 4 nodes, but lists none",
        ),
    ];
    for (env, files, expected) in cases {
        let error = resolved(&HostFlags::default(), "pod", env, files).unwrap_err();
        assert_eq!(error.to_string(), *expected);
        assert_eq!(error.class(), Class::Config);
        assert!(error.hint().is_some());
    }
}

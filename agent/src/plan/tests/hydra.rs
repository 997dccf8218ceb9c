//! MPICH and Intel MPI, with what mpi-operator sets for them.
//!
//! Must not repeat what holds for every family.

use super::*;

#[test]
fn four_hosts_and_nothing_set() {
    let plan = build(&request(Family::Mpich)).unwrap();
    assert_eq!(argv(&plan), "/usr/bin/mpirun -f /run/m/hostfile -n 16 ./train --fast");
    assert_eq!(plan.files, [("/run/m/hostfile".into(), "w0:4\nw1:4\nw2:4\nw3:4\n".into())]);
    assert_eq!(plan.links, [("/run/m/rsh".into(), "/usr/bin/muster".into())]);
    assert_eq!(
        set(&plan),
        [
            "MUSTER_SOCKET=/run/m/sock",
            "HYDRA_LAUNCHER=ssh",
            "HYDRA_LAUNCHER_EXEC=/run/m/rsh",
            "HYDRA_IFACE=eth0",
        ]
    );
    let plan = build(&request(Family::IntelMpi)).unwrap();
    assert_eq!(
        argv(&plan),
        "/opt/intel/bin/mpirun -machinefile /run/m/hostfile -n 16 ./train --fast"
    );
    assert_eq!(
        set(&plan),
        [
            "PATH=/opt/intel/bin:/usr/bin",
            "MUSTER_SOCKET=/run/m/sock",
            "I_MPI_HYDRA_BOOTSTRAP=ssh",
            "I_MPI_HYDRA_BOOTSTRAP_EXEC=/run/m/rsh",
            "I_MPI_HYDRA_BRANCH_COUNT=0",
            "I_MPI_HYDRA_IFACE=eth0",
        ]
    );
}

#[test]
fn only_intels_script_needs_its_directory_on_path() {
    for (mpirun, path, expected) in [
        (
            "/opt/intel/bin/mpirun",
            "/usr/bin:/opt/intel/bin",
            Some("/opt/intel/bin:/usr/bin:/opt/intel/bin"),
        ),
        ("/opt/intel/bin/mpirun", "/opt/intel/bin:/usr/bin", None),
        ("/opt/intel/bin/mpirun", "", Some("/opt/intel/bin")),
        ("/opt/intel/bin/mpiexec", "/usr/bin", None),
    ] {
        let mut asked = Request { env: env(&[("PATH", path)]), ..request(Family::IntelMpi) };
        asked.mpirun.path = mpirun.into();
        let plan = build(&asked).unwrap();
        assert_eq!(setting(&plan, "PATH").map(|s| s.value.as_str()), expected);
    }
}

#[test]
fn an_operators_settings_stay() {
    let set = [
        ("HYDRA_HOST_FILE", "/etc/mpi/hostfile"),
        ("HYDRA_LAUNCH_EXTRA_ARGS", "-o ConnectionAttempts=10"),
    ];
    let mut asked = Request { env: env(&set), ..request(Family::Mpich) };
    assert_eq!(kept(&build(&asked).unwrap()), ["HYDRA_HOST_FILE"]);
    asked.work = line("mpiexec -n 6 ./a.out");
    let plan = build(&asked).unwrap();
    assert_eq!(setting(&plan, "HYDRA_HOST_FILE").unwrap().value, "/etc/mpi/hostfile");
    assert_eq!(placed(&plan), Some(vec![4, 2]));
    asked.hosts_from_flag = true;
    let plan = build(&asked).unwrap();
    let hostfile = setting(&plan, "HYDRA_HOST_FILE").unwrap();
    assert_eq!((hostfile.value.as_str(), hostfile.kept), ("/run/m/hostfile", false));
    assert!(hostfile.reason.contains("/etc/mpi/hostfile"), "{}", hostfile.reason);
}

#[test]
fn intel_counts_ranks_a_host_where_the_hosts_agree() {
    let operator = [
        ("I_MPI_HYDRA_HOST_FILE", "/etc/mpi/hostfile"),
        ("I_MPI_PERHOST", "4"),
        ("I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS", "-o ConnectionAttempts=10"),
    ];
    let theirs = [("I_MPI_PERHOST", "1")];
    for (variables, slots, per_host, placement, notes) in [
        (&[][..], [4, 4], Some("4"), Some(vec![4, 2]), 0),
        (&operator[..], [4, 4], Some("4"), Some(vec![4, 2]), 0),
        (&theirs[..], [4, 4], Some("1"), None, 0),
        (&[][..], [4, 2], None, None, 1),
    ] {
        let hosts = vec![host("w0", slots[0]), host("w1", slots[1])];
        let work = line("mpirun -n 6 ./a.out");
        let asked = Request { hosts, work, env: env(variables), ..request(Family::IntelMpi) };
        let plan = build(&asked).unwrap();
        assert_eq!(setting(&plan, "I_MPI_PERHOST").map(|s| s.value.as_str()), per_host);
        assert_eq!((placed(&plan), plan.notes.len()), (placement, notes), "{variables:?}");
    }
}

#[test]
fn the_users_agent_is_kept_under_either_name() {
    for (family, name) in [
        (Family::Mpich, "HYDRA_LAUNCHER_EXEC"),
        (Family::Mpich, "HYDRA_BOOTSTRAP_EXEC"),
        (Family::IntelMpi, "I_MPI_HYDRA_BOOTSTRAP_EXEC"),
    ] {
        let plan = build(&Request { env: env(&[(name, "/mine")]), ..request(family) }).unwrap();
        assert_eq!(kept(&plan), [name]);
        assert!(!set(&plan).iter().any(|set| set.ends_with("/run/m/rsh")), "{:?}", set(&plan));
        assert!(!plan.agent_is_ours, "{name}");
    }
}

#[test]
fn muster_is_the_agent_where_the_launcher_is_a_remote_shell() {
    for (family, variables, ours) in [
        (Family::Mpich, &[][..], true),
        (Family::Mpich, &[("HYDRA_LAUNCHER", "rsh")], true),
        (Family::Mpich, &[("HYDRA_LAUNCHER", "slurm")], false),
        (Family::Mpich, &[("HYDRA_BOOTSTRAP", "manual")], false),
        (Family::Mpich, &[("I_MPI_HYDRA_BOOTSTRAP", "slurm")], true),
        (Family::IntelMpi, &[], true),
        (Family::IntelMpi, &[("I_MPI_HYDRA_BOOTSTRAP", "ssh")], true),
        (Family::IntelMpi, &[("I_MPI_HYDRA_BOOTSTRAP", "slurm")], false),
        (Family::IntelMpi, &[("HYDRA_LAUNCHER", "slurm")], true),
    ] {
        let plan = build(&Request { env: env(variables), ..request(family) }).unwrap();
        assert_eq!(plan.agent_is_ours, ours, "{family} {variables:?}");
    }
}

#[test]
fn without_an_interface_the_name_must_resolve() {
    for family in [Family::Mpich, Family::IntelMpi] {
        let plan = build(&Request { interface: None, ..request(family) }).unwrap();
        assert!(plan.notes[0].contains("must resolve"), "{:?}", plan.notes);
        assert!(!set(&plan).iter().any(|set| set.contains("IFACE")));
    }
}

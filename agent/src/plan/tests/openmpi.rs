//! Open MPI 4 and 5, with what operators and images set for them.
//!
//! Must not repeat what holds for every family.

use super::*;

/// What mpi-operator gives the launcher of an Open MPI job; Trainer gives the same.
const OPERATOR: [(&str, &str); 5] = [
    ("K_MPI_JOB_ROLE", "launcher"),
    ("OMPI_MCA_orte_keep_fqdn_hostnames", "true"),
    ("OMPI_MCA_orte_default_hostfile", "/etc/mpi/hostfile"),
    ("OMPI_MCA_plm_rsh_args", "-o ConnectionAttempts=10"),
    ("OMPI_MCA_orte_set_default_slots", "4"),
];

#[test]
fn four_hosts_and_nothing_set() {
    let plan = build(&request(Family::OpenMpi4)).unwrap();
    assert_eq!(argv(&plan), "/usr/bin/mpirun --hostfile /run/m/hostfile -n 16 ./train --fast");
    assert_eq!(
        plan.files,
        [("/run/m/hostfile".into(), "w0 slots=4\nw1 slots=4\nw2 slots=4\nw3 slots=4\n".into())]
    );
    assert_eq!(
        set(&plan),
        [
            "MUSTER_SOCKET=/run/m/sock",
            "OMPI_MCA_plm_rsh_agent=/usr/bin/muster rsh : sh",
            "OMPI_MCA_plm=rsh",
            "OMPI_MCA_plm_rsh_no_tree_spawn=1",
            "OMPI_MCA_oob_tcp_keepalive_time=10",
            "OMPI_MCA_oob_tcp_keepalive_intvl=2",
            "OMPI_MCA_oob_tcp_keepalive_probes=3",
        ]
    );
    let plan = build(&request(Family::OpenMpi5)).unwrap();
    assert_eq!(
        set(&plan),
        [
            "MUSTER_SOCKET=/run/m/sock",
            "PRTE_MCA_plm_ssh_agent=/usr/bin/muster rsh : sh",
            "PRTE_MCA_plm=ssh",
            "PRTE_MCA_plm_ssh_no_tree_spawn=1",
            "PRTE_MCA_oob_tcp_keepalive_time=10",
            "PRTE_MCA_oob_tcp_keepalive_intvl=2",
            "PRTE_MCA_oob_tcp_keepalive_probes=3",
        ]
    );
}

#[test]
fn the_users_line_gets_the_hostfile_by_variable() {
    for (family, name) in [
        (Family::OpenMpi4, "OMPI_MCA_orte_default_hostfile"),
        (Family::OpenMpi5, "PRTE_MCA_prte_default_hostfile"),
    ] {
        let mut asked = Request { work: line("mpirun ./a.out"), ..request(family) };
        let value = |asked: &Request| {
            let plan = build(asked).unwrap();
            let setting = setting(&plan, name).unwrap();
            (setting.value.clone(), setting.kept)
        };
        assert_eq!(value(&asked), ("/run/m/hostfile".into(), false));
        asked.env = env(&[(name, "/etc/mine")]);
        assert_eq!(value(&asked), ("/etc/mine".into(), true));
        asked.hosts_from_flag = true;
        assert_eq!(value(&asked), ("/run/m/hostfile".into(), false));
    }
}

#[test]
fn an_operators_settings_stay_for_open_mpi_4() {
    let names = [("pi-worker-0.pi.ns.svc", 4), ("pi-worker-1.pi.ns.svc", 4)];
    let hosts = names.map(|(name, slots)| host(name, slots)).to_vec();
    let asked = Request { hosts, env: env(&OPERATOR), ..request(Family::OpenMpi4) };
    let plan = build(&asked).unwrap();
    assert_eq!(
        kept(&plan),
        ["OMPI_MCA_orte_keep_fqdn_hostnames", "OMPI_MCA_orte_default_hostfile"]
    );
    assert_eq!(placed(&plan), Some(vec![4, 4]));

    let by_line = Request { work: line("mpirun -n 5 ./a.out"), ..asked };
    let plan = build(&by_line).unwrap();
    assert_eq!(
        setting(&plan, "OMPI_MCA_orte_default_hostfile").unwrap().value,
        "/etc/mpi/hostfile"
    );
    assert_eq!(placed(&plan), Some(vec![4, 1]));

    // A hostfile without slots means cores to Open MPI, which muster cannot know.
    let mut uncounted = by_line;
    uncounted.hosts[1].slots_from = "CPU limit of 4".into();
    let plan = build(&uncounted).unwrap();
    assert_eq!((placed(&plan), plan.notes.len()), (None, 1));
}

#[test]
fn an_operators_settings_are_translated_for_open_mpi_5() {
    for work in [program(&["./train"]), line("mpirun -n 16 ./train")] {
        let asked = Request { env: env(&OPERATOR), work, ..request(Family::OpenMpi5) };
        let plan = build(&asked).unwrap();
        let slots = setting(&plan, "PRTE_MCA_prte_set_default_slots").unwrap();
        assert_eq!((slots.value.as_str(), slots.kept), ("4", false));
        assert_eq!(placed(&plan), Some(vec![4; 4]));
        let hostfile = setting(&plan, "PRTE_MCA_prte_default_hostfile").map(|s| s.value.as_str());
        let by_line = matches!(asked.work, Work::MpirunLine(_));
        assert_eq!(hostfile, by_line.then_some("/run/m/hostfile"));
        for never in ["PRTE_MCA_prte_keep_fqdn_hostnames", "PRTE_MCA_plm_ssh_args"] {
            assert!(setting(&plan, never).is_none(), "{never}");
        }

        // Planned under its own result, everything is found set and stays.
        let again: Vec<_> = plan.env.iter().map(|s| (s.name.as_str(), s.value.as_str())).collect();
        let again = Request { env: OPERATOR.into_iter().chain(again).collect(), ..asked };
        let twice = build(&again).unwrap();
        let values = |plan: &Plan| -> Vec<_> {
            plan.env.iter().map(|s| (s.name.clone(), s.value.clone())).collect()
        };
        let first = values(&plan);
        assert!(values(&twice).iter().all(|pair| pair.0 == "HOME" || first.contains(pair)));
    }
}

#[test]
fn host_names_stay_whole() {
    for (name, expected) in [("w0", false), ("w0.job", true), ("10.0.0.7", false)] {
        let asked = Request { hosts: vec![host(name, 4)], ..request(Family::OpenMpi4) };
        let plan = build(&asked).unwrap();
        assert_eq!(setting(&plan, "OMPI_MCA_orte_keep_fqdn_hostnames").is_some(), expected);
    }
}

#[test]
fn the_users_agent_is_kept_and_a_placeholder_is_not() {
    let (older, newer) = ("OMPI_MCA_plm_rsh_agent", "PRTE_MCA_plm_ssh_agent");
    let ours = "/usr/bin/muster rsh : sh";
    for (family, name, set, agent, is_kept) in [
        (Family::OpenMpi4, older, vec![(older, "ssh -p 2222")], "ssh -p 2222", true),
        (Family::OpenMpi4, older, vec![(older, "sh")], ours, false),
        (Family::OpenMpi4, older, vec![(older, "")], ours, false),
        (Family::OpenMpi4, older, vec![(newer, "ssh")], ours, false),
        (Family::OpenMpi5, newer, vec![(newer, "ssh")], "ssh", true),
        (Family::OpenMpi5, newer, vec![(older, "kubexec.sh")], "kubexec.sh", false),
        (Family::OpenMpi5, newer, vec![(older, "a"), (newer, "b")], "b", true),
        (Family::OpenMpi5, newer, vec![(older, "false")], ours, false),
    ] {
        let plan = build(&Request { env: env(&set), ..request(family) }).unwrap();
        let setting = setting(&plan, name).unwrap();
        assert_eq!((setting.value.as_str(), setting.kept), (agent, is_kept), "{set:?}");
        assert_eq!(setting.reason.contains("not used"), agent != ours, "{set:?}");
    }
}

#[test]
fn muster_is_the_agent_where_nobody_set_another() {
    for (family, name, value, ours) in [
        (Family::OpenMpi4, "PRTE_MCA_plm_ssh_agent", "ssh", true),
        (Family::OpenMpi4, "OMPI_MCA_plm_rsh_agent", "sh", true),
        (Family::OpenMpi4, "OMPI_MCA_plm_rsh_agent", "kubexec.sh", false),
        (Family::OpenMpi4, "OMPI_MCA_orte_rsh_agent", "kubexec.sh", false),
        (Family::OpenMpi4, "OMPI_MCA_plm", "slurm", false),
        (Family::OpenMpi4, "OMPI_MCA_plm", "^rsh", false),
        (Family::OpenMpi4, "OMPI_MCA_plm", "^slurm,alps", true),
        (Family::OpenMpi5, "PRTE_MCA_plm_ssh_agent", "ssh", false),
        // Not kept but translated, and still not ours.
        (Family::OpenMpi5, "OMPI_MCA_plm_rsh_agent", "kubexec.sh", false),
        (Family::OpenMpi5, "PRTE_MCA_plm", "slurm,ssh", true),
        (Family::OpenMpi5, "PRTE_MCA_plm", "slurm", false),
        (Family::OpenMpi5, "OMPI_MCA_plm", "slurm", true),
    ] {
        let plan = build(&Request { env: env(&[(name, value)]), ..request(family) }).unwrap();
        assert_eq!(plan.agent_is_ours, ours, "{family} {name}={value}");
    }
}

#[test]
fn words_for_the_users_shell_come_with_it() {
    let set = [("OMPI_MCA_plm_rsh_agent", "ssh"), ("OMPI_MCA_plm_rsh_args", "-p 2222")];
    let plan = build(&Request { env: env(&set), ..request(Family::OpenMpi5) }).unwrap();
    assert_eq!(setting(&plan, "PRTE_MCA_plm_ssh_args").unwrap().value, "-p 2222");
}

#[test]
fn agents_are_as_many_as_hosts() {
    for (family, name) in [
        (Family::OpenMpi4, "OMPI_MCA_plm_rsh_num_concurrent"),
        (Family::OpenMpi5, "PRTE_MCA_plm_ssh_num_concurrent"),
    ] {
        for (hosts, expected) in [(128, None), (129, Some("129")), (1000, Some("1000"))] {
            let hosts = (0..hosts).map(|i| host(&format!("w{i}"), 1)).collect();
            let plan = build(&Request { hosts, ..request(family) }).unwrap();
            assert_eq!(setting(&plan, name).map(|s| s.value.as_str()), expected);
        }
    }
}

#[test]
fn a_batch_system_does_not_place_the_job() {
    for (family, name) in [(Family::OpenMpi4, "OMPI_MCA_ras"), (Family::OpenMpi5, "PRTE_MCA_ras")] {
        for (variable, expected) in
            [("SLURM_JOB_ID", true), ("PBS_ENVIRONMENT", true), ("SLURM_CONF", false)]
        {
            let plan = build(&Request { env: env(&[(variable, "5")]), ..request(family) }).unwrap();
            assert_eq!(setting(&plan, name).is_some(), expected, "{variable}");
        }
    }
}

#[test]
fn binding_follows_the_cpus() {
    let policy = |family, cpus: Option<f64>, slots| {
        let hosts = vec![host("w0", 1), PlanHost { cpus, ..host("w1", slots) }];
        let plan = build(&Request { hosts, ..request(family) }).unwrap();
        plan.env.iter().find(|s| s.name.contains("binding")).map(|s| s.value.clone())
    };
    let (none, core) = (Some("none".to_owned()), Some("core:overload-allowed".to_owned()));
    for (cpus, slots, four, five) in [
        (Some(4.0), 5, none.clone(), none),
        (Some(4.0), 4, None, core),
        (Some(8.0), 4, None, None),
        (None, 4, None, None),
    ] {
        assert_eq!(policy(Family::OpenMpi4, cpus, slots), four, "{cpus:?} {slots}");
        assert_eq!(policy(Family::OpenMpi5, cpus, slots), five, "{cpus:?} {slots}");
    }
}

#[test]
fn a_mapping_of_the_users_leaves_the_placement_open() {
    for (family, name, value, known) in [
        (Family::OpenMpi4, "OMPI_MCA_rmaps_base_mapping_policy", "node", false),
        (Family::OpenMpi4, "OMPI_MCA_rmaps_base_oversubscribe", "1", true),
        (Family::OpenMpi4, "PRTE_MCA_rmaps_default_mapping_policy", "node", true),
        (Family::OpenMpi5, "PRTE_MCA_rmaps_default_mapping_policy", "node", false),
        (Family::OpenMpi5, "PRTE_MCA_hwloc_default_binding_policy", "core", false),
        (Family::OpenMpi5, "PRTE_MCA_hwloc_default_binding_policy", "none", true),
    ] {
        let plan = build(&Request { env: env(&[(name, value)]), ..request(family) }).unwrap();
        assert_eq!(plan.placement.is_some(), known, "{name}={value}");
    }
}

#[test]
fn root_is_allowed_where_it_is_root() {
    for (family, uid, path, expected) in [
        (Family::OpenMpi4, 1000, "/usr/bin/mpirun", 0),
        (Family::OpenMpi4, 0, "/usr/bin/mpirun", 2),
        (Family::OpenMpi5, 0, "/usr/bin/mpirun", 2),
        (Family::OpenMpi5, 0, "/usr/bin/prterun", 4),
    ] {
        let mut asked = Request { uid, ..request(family) };
        asked.mpirun.path = path.into();
        let plan = build(&asked).unwrap();
        let root = plan.env.iter().filter(|s| s.name.contains("RUN_AS_ROOT")).count();
        assert_eq!(root, expected, "{path} {uid}");
    }
}

#[test]
fn prrte_gets_a_home() {
    let asked =
        Request { env: [("PATH", "/usr/bin")].into_iter().collect(), ..request(Family::OpenMpi5) };
    assert_eq!(setting(&build(&asked).unwrap(), "HOME").unwrap().value, "/");
}

#[test]
fn a_path_that_would_be_split_is_refused() {
    for path in ["/opt/my tools/muster", "/opt/a:b/muster"] {
        let asked = Request { muster: path.into(), ..request(Family::OpenMpi4) };
        assert!(matches!(build(&asked), Err(PlanError::Path { .. })), "{path}");
    }
}

//! Whole plans as tables: what is asked, under which environment, against what is set.
//!
//! Must not repeat what a stage's own table covers.

mod hydra;
mod openmpi;

use super::{
    Elsewhere, Fabric, Family, Mpirun, Plan, PlanError, PlanHost, Request, Setting, Wish, Work,
    build,
};

/// Four workers of four slots, nothing in the environment, a program that takes one argument.
fn request(family: Family) -> Request {
    let path = match family {
        Family::IntelMpi => "/opt/intel/bin/mpirun",
        _ => "/usr/bin/mpirun",
    };
    Request {
        hosts: (0..4).map(|i| host(&format!("w{i}"), 4)).collect(),
        ranks: None,
        work: program(&["./train", "--fast"]),
        mpirun: Mpirun { path: path.into(), family, version: "1.2.3".into() },
        run_dir: "/run/m".into(),
        muster: "/usr/bin/muster".into(),
        socket: "/run/m/sock".into(),
        rank_socket: None,
        wrapper: Vec::new(),
        uid: 1000,
        local_cpus: 2,
        local_slots: (2, "CPU limit of 2".into()),
        interface: Some("eth0".into()),
        fabric: Fabric::default(),
        hosts_from_flag: false,
        env: env(&[("PATH", "/usr/bin"), ("HOME", "/root")]),
    }
}

fn host(name: &str, slots: u32) -> PlanHost {
    PlanHost { name: name.into(), slots, slots_from: "hostfile".into(), cpus: Some(8.0) }
}

fn env(variables: &[(&str, &str)]) -> crate::config::env::Environment {
    variables.iter().copied().chain([("HOME", "/root")]).collect()
}

fn program(words: &[&str]) -> Work {
    Work::Program(words.iter().map(Into::into).collect())
}

fn line(words: &str) -> Work {
    Work::MpirunLine(words.split(' ').map(Into::into).collect())
}

fn argv(plan: &Plan) -> String {
    let words: Vec<_> = plan.argv.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn setting<'p>(plan: &'p Plan, name: &str) -> Option<&'p Setting> {
    plan.env.iter().find(|setting| setting.name == name)
}

/// What muster itself sets, as `NAME=value`.
fn set(plan: &Plan) -> Vec<String> {
    let ours = plan.env.iter().filter(|setting| !setting.kept);
    ours.map(|setting| format!("{}={}", setting.name, setting.value)).collect()
}

fn kept(plan: &Plan) -> Vec<&str> {
    plan.env.iter().filter(|s| s.kept).map(|s| s.name.as_str()).collect()
}

fn placed(plan: &Plan) -> Option<Vec<u32>> {
    plan.placement.as_ref().map(|placement| placement.values().copied().collect())
}

#[test]
fn each_rank_starts_in_its_wrapper() {
    let wrapper: Vec<_> = ["/m", "rank", "--tag=json", "--"].map(Into::into).into();
    let wrapped = |family, work| {
        build(&Request { work, wrapper: wrapper.clone(), ..request(family) }).unwrap()
    };
    for family in FAMILIES {
        let plan = wrapped(family, program(&["./a.out", "-x"]));
        assert!(argv(&plan).ends_with(" /m rank --tag=json -- ./a.out -x"), "{}", argv(&plan));
        let own = wrapped(family, program(&["muster", "rank", "./a.out"]));
        assert!(argv(&own).ends_with(" 16 muster rank ./a.out"), "{}", argv(&own));
        // The user's own line stays as it is, where the family has a variable for it.
        let plan = wrapped(family, line("mpirun -n 2 ./a.out"));
        let by_variable = set(&plan).iter().any(|s| s.ends_with("_agent=/m rank --tag=json --"));
        assert_eq!(by_variable, !family.is_hydra());
        assert_eq!(argv(&plan).ends_with("-n 2 ./a.out"), by_variable);
        assert_eq!(argv(&plan).ends_with("-n 2 /m rank --tag=json -- ./a.out"), !by_variable);
    }
    let unclear = wrapped(Family::Mpich, line("mpirun -configfile x"));
    assert!(unclear.notes.iter().any(|note| note.contains("stay untagged")), "{unclear:?}");
    let blank = Request {
        work: line("mpirun -n 2 ./a.out"),
        wrapper: ["/m", "rank", "--tag={rank} ", "--"].map(Into::into).into(),
        ..request(Family::OpenMpi5)
    };
    let plan = build(&blank).unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("takes no blanks")), "{plan:?}");
}

const FAMILIES: [Family; 4] = [Family::OpenMpi4, Family::OpenMpi5, Family::Mpich, Family::IntelMpi];

#[test]
fn ranks_fill_the_hosts_of_each_family() {
    for family in FAMILIES {
        for (asked, ranks, placement) in [
            (None, 16, vec![4, 4, 4, 4]),
            (Some(5), 5, vec![4, 1]),
            (Some(16), 16, vec![4, 4, 4, 4]),
        ] {
            let plan = build(&Request { ranks: asked, ..request(family) }).unwrap();
            assert_eq!(plan.ranks, Some(ranks), "{family}");
            assert_eq!(placed(&plan), Some(placement), "{family}");
            assert!(argv(&plan).ends_with(&format!("-n {ranks} ./train --fast")));
        }
    }
}

#[test]
fn what_no_launch_can_do_is_refused() {
    for family in FAMILIES {
        let refused = |change: fn(&mut Request)| {
            let mut request = request(family);
            change(&mut request);
            build(&request).unwrap_err()
        };
        assert!(matches!(
            refused(|r| r.ranks = Some(17)),
            PlanError::NotEnoughSlots { ranks: 17, total: 16, .. }
        ));
        assert_eq!(refused(|r| r.ranks = Some(0)), PlanError::NoRanks);
        assert_eq!(refused(|r| r.work = program(&[])), PlanError::NothingToRun);
        assert_eq!(refused(|r| r.work = program(&["./a", ":", "./b"])), PlanError::Separator);
        assert!(matches!(
            refused(|r| r.work = program(&["-x", "A"])),
            PlanError::OptionForProgram(_)
        ));
        assert!(matches!(refused(|r| r.run_dir = "/run/a b".into()), PlanError::Path { .. }));
    }
}

#[test]
fn the_users_line_stays_as_it_is() {
    for family in FAMILIES {
        for (words, ranks, placement) in [
            ("mpirun -n 6 ./a.out -n 2", Some(6), Some(vec![4, 2])),
            ("mpirun -np 6 -map-by node ./a.out", None, None),
            ("mpirun ./a.out", None, None),
            ("mpirun -n 99 ./a.out", None, None),
        ] {
            let request = Request { work: line(words), ..request(family) };
            let plan = build(&request).unwrap();
            let rest = words.strip_prefix("mpirun").unwrap();
            assert_eq!(argv(&plan), format!("{}{rest}", request.mpirun.path.display()));
            assert_eq!((plan.ranks, placed(&plan)), (ranks, placement), "{family} {words}");
        }
    }
}

#[test]
fn a_job_without_hosts_names_none() {
    for (family, variables) in [
        (
            Family::OpenMpi4,
            vec!["OMPI_MCA_plm_rsh_agent=ssh : rsh : sh", "OMPI_MCA_orte_set_default_slots=2"],
        ),
        (
            Family::OpenMpi5,
            vec![
                "PRTE_MCA_prte_set_default_slots=2",
                "PRTE_MCA_hwloc_default_binding_policy=core:overload-allowed",
            ],
        ),
        (Family::Mpich, vec![]),
        (Family::IntelMpi, vec!["PATH=/opt/intel/bin"]),
    ] {
        let local = Request { hosts: Vec::new(), env: env(&[]), ..request(family) };
        let plan = build(&local).unwrap();
        assert_eq!(argv(&plan), format!("{} -n 2 ./train --fast", local.mpirun.path.display()));
        assert_eq!(set(&plan), variables, "{family}");
        assert_eq!((plan.ranks, placed(&plan)), (Some(2), None));
        assert!(plan.files.is_empty() && plan.links.is_empty(), "{family}");
    }
}

#[test]
fn a_laptop_may_be_oversubscribed() {
    for (family, expected) in [
        (
            Family::OpenMpi4,
            vec!["OMPI_MCA_rmaps_base_oversubscribe=1", "OMPI_MCA_hwloc_base_binding_policy=none"],
        ),
        (
            Family::OpenMpi5,
            vec![
                "PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe",
                "PRTE_MCA_hwloc_default_binding_policy=none",
            ],
        ),
        (Family::Mpich, vec![]),
    ] {
        let laptop = Request { hosts: Vec::new(), ranks: Some(4), ..request(family) };
        let plan = build(&laptop).unwrap();
        for variable in expected {
            assert!(set(&plan).iter().any(|set| set == variable), "{variable} {:?}", set(&plan));
        }
    }
}

#[test]
fn the_fabric_is_set_where_nobody_said_otherwise() {
    let wish = |name, rivals, value: &str| Wish {
        name,
        rivals,
        value: value.to_owned(),
        reason: "why".to_owned(),
    };
    let elsewhere =
        |value: &str, place: &str| Elsewhere { value: value.to_owned(), place: place.to_owned() };
    let fabric = Fabric {
        line: Some("TCP over eth0".into()),
        warnings: vec!["it is slow".into()],
        wishes: vec![
            wish("OMPI_MCA_btl_tcp_if_include", &["OMPI_MCA_btl_tcp_if_exclude"], "eth0"),
            wish("OMPI_MCA_pml", &[], "ob1"),
            wish("UCX_NET_DEVICES", &[], "eth0"),
            wish("NCCL_SOCKET_IFNAME", &[], "=eth0"),
            wish("NCCL_IB_DISABLE", &["NCCL_NET"], "1"),
        ],
        elsewhere: [
            ("NCCL_SOCKET_IFNAME".to_owned(), elsewhere("eth7", "in the environment of w0")),
            ("OMPI_MCA_btl_tcp_if_exclude".to_owned(), elsewhere("lo", "on the mpirun line")),
        ]
        .into(),
    };
    for family in FAMILIES {
        let env = env(&[("PATH", "/opt/intel/bin"), ("NCCL_NET", "Socket")]);
        let plan = build(&Request { fabric: fabric.clone(), env, ..request(family) }).unwrap();
        assert_eq!(setting(&plan, "UCX_NET_DEVICES").unwrap().value, "eth0");
        assert!(set(&plan).contains(&"OMPI_MCA_pml=ob1".to_owned()));
        let kept = kept(&plan);
        for name in ["NCCL_SOCKET_IFNAME", "OMPI_MCA_btl_tcp_if_exclude", "NCCL_NET"] {
            assert!(kept.contains(&name), "{family}: {kept:?}");
        }
        assert!(setting(&plan, "OMPI_MCA_btl_tcp_if_include").is_none());
        let reason = &setting(&plan, "NCCL_SOCKET_IFNAME").unwrap().reason;
        assert_eq!(reason, "set in the environment of w0");
        assert!(plan.notes.contains(&"warning: it is slow".to_owned()));
        assert_eq!(plan.fabric.as_deref(), Some("TCP over eth0"));
        // Hydra carries the whole environment, Open MPI its own parameters.
        let expected: &[(String, String)] = if family.is_hydra() {
            &[]
        } else {
            &[("UCX_NET_DEVICES".to_owned(), "eth0".to_owned())]
        };
        assert_eq!(plan.daemon_env, expected, "{family}");
    }
}

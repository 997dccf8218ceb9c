//! The choice as a table over the recorded machines of `tests/fixtures/sysfs`, alone and mixed.

use muster_nvml::Gpu;

use super::*;
use crate::devices::collect::from_files;
use crate::devices::planted::fixture;
use crate::devices::report::{Access, Interface, InterfaceKind};

/// A machine, with an address on the interface of its default route.
fn machine(name: &str, address: &str) -> Report {
    let (_files, roots) = fixture(name);
    let mut report = from_files(&roots);
    let interface = report.interfaces.iter_mut().find(|it| it.default_route).unwrap();
    interface.addresses = vec![address.to_owned()];
    report
}

/// The same, with its RDMA devices made usable.
fn mended(name: &str, address: &str) -> Report {
    let mut report = machine(name, address);
    for device in &mut report.rdma.devices {
        (device.usable, device.why_not, device.access) = (true, None, Access::Open);
        device.ports.iter_mut().for_each(|port| port.state = Some("ACTIVE".into()));
    }
    report
}

fn try_chosen(wanted: Wanted, family: Family, hosts: &[Report]) -> Result<Fabric, NoRdma> {
    let names: Vec<HostName> =
        (0..hosts.len()).map(|index| HostName::from(format!("w-{index}.pi.ns.svc"))).collect();
    let members: Vec<Member<'_>> = hosts
        .iter()
        .zip(&names)
        .map(|(report, name)| {
            let reached = report.interfaces.iter().find(|it| it.default_route);
            let address = reached.and_then(|it| it.addresses.first()?.split('/').next());
            let address = address.and_then(|text| text.parse().ok());
            Member { name, address, report: Some(report), works: true }
        })
        .collect();
    choose(wanted, family, &members)
}

fn chosen(wanted: Wanted, family: Family, hosts: &[Report]) -> Fabric {
    try_chosen(wanted, family, hosts).unwrap()
}

fn set(fabric: &Fabric) -> Vec<String> {
    fabric.wishes.iter().map(|wish| format!("{}={}", wish.name, wish.value)).collect()
}

const A: &str = "10.0.0.5/24";
const B: &str = "10.0.0.6/24";
const FAMILIES: [Family; 4] = [Family::OpenMpi4, Family::OpenMpi5, Family::Mpich, Family::IntelMpi];

#[test]
fn without_rdma_only_the_interface_is_set() {
    let hosts = [machine("no-rdma", A), machine("no-rdma", B)];
    for (family, expected) in FAMILIES.iter().zip([
        &[
            "OMPI_MCA_oob_tcp_if_include=eth0",
            "OMPI_MCA_btl_tcp_if_include=eth0",
            "UCX_NET_DEVICES=eth0",
        ][..],
        &[
            "PRTE_MCA_prte_if_include=eth0",
            "OMPI_MCA_btl_tcp_if_include=eth0",
            "UCX_NET_DEVICES=eth0",
        ],
        &["FI_TCP_IFACE=eth0", "UCX_NET_DEVICES=eth0", "FI_PROVIDER=tcp"],
        &["FI_TCP_IFACE=eth0", "UCX_NET_DEVICES=eth0", "I_MPI_OFI_PROVIDER=tcp"],
    ]) {
        let fabric = chosen(Wanted::Auto, *family, &hosts);
        assert_eq!(set(&fabric), expected, "{family}");
        assert_eq!(fabric.warnings, [""; 0]);
        let line = fabric.line.unwrap();
        assert!(line.starts_with("TCP over eth0 (10.0.0.0/24"), "{line}");
        assert!(line.ends_with(": no host has an RDMA device"), "{line}");
        assert_eq!(chosen(Wanted::None, *family, &hosts), Fabric::default());
    }
}

#[test]
fn what_all_hosts_can_use_is_used() {
    let ib = [machine("mlx5-ib", A), machine("mlx5-ib", B)];
    let fabric = chosen(Wanted::Auto, Family::OpenMpi4, &ib);
    assert_eq!(
        set(&fabric),
        [
            "OMPI_MCA_oob_tcp_if_include=eth0",
            "OMPI_MCA_btl_tcp_if_include=eth0",
            "UCX_NET_DEVICES=mlx5_0:1,eth0",
        ]
    );
    let line = fabric.line.unwrap();
    assert!(line.starts_with("InfiniBand over mlx5_0:1 (1 x 200 Gb/s a host); TCP,"), "{line}");
    for (family, expected) in FAMILIES.iter().zip([
        &["UCX_NET_DEVICES=mlx5_0:1", "OMPI_MCA_pml=ucx"][..],
        &["UCX_NET_DEVICES=mlx5_0:1", "OMPI_MCA_pml=ucx"],
        &["UCX_NET_DEVICES=mlx5_0:1"],
        &["UCX_NET_DEVICES=mlx5_0:1", "I_MPI_OFI_PROVIDER=mlx"],
    ]) {
        let set = set(&chosen(Wanted::Rdma, *family, &ib));
        let beyond: Vec<&String> = set.iter().filter(|it| !it.contains("IFACE=")).collect();
        let beyond: Vec<&&String> = beyond.iter().filter(|it| !it.contains("if_include")).collect();
        assert_eq!(beyond, expected.iter().collect::<Vec<_>>(), "{family}");
    }
}

#[test]
fn nccl_gets_whole_names_where_there_are_gpus() {
    let with_gpu = |mut report: Report| {
        report.gpus.devices.push(Gpu::default());
        report
    };
    let dgx = [with_gpu(machine("dgx", A)), with_gpu(machine("dgx", B))];
    let fabric = chosen(Wanted::Auto, Family::OpenMpi5, &dgx);
    let all = (0..8).map(|index| format!("mlx5_{index}:1")).collect::<Vec<_>>().join(",");
    let set_here = set(&fabric);
    for expected in [
        "NCCL_SOCKET_IFNAME==eth0".to_owned(),
        format!("NCCL_IB_HCA=={all}"),
        format!("UCX_NET_DEVICES={all},eth0"),
    ] {
        assert!(set_here.contains(&expected), "{expected} in {set_here:#?}");
    }
    assert!(fabric.line.unwrap().contains("mlx5_0:1, mlx5_1:1 and 6 more (8 x 400 Gb/s a host)"));
    assert!(!set_here.iter().any(|it| it.starts_with("NCCL_IB_GID_INDEX")), "InfiniBand has none");

    // One of the two ports is in this network namespace, and its RoCE v2 address of IPv4 counts.
    let roce = [with_gpu(machine("mlx5-roce", A)), with_gpu(machine("mlx5-roce", B))];
    let usable = roce[0].usable_rdma().next().unwrap();
    let by_v2 = |gid: &&crate::devices::report::Gid| {
        gid.kind.as_deref() == Some("RoCE v2") && gid.gid.contains(":ffff:")
    };
    let index = usable.ports[0].gids.iter().find(by_v2).unwrap().index;
    let set_here = set(&chosen(Wanted::Auto, Family::OpenMpi4, &roce));
    assert!(set_here.contains(&"NCCL_IB_HCA==mlx5_0:1".to_owned()), "{set_here:#?}");
    assert!(set_here.contains(&format!("NCCL_IB_GID_INDEX={index}")), "{set_here:#?}");
    // Where the tables differ, NCCL is left to look for itself.
    let mut other = roce[1].clone();
    for device in &mut other.rdma.devices {
        device.ports.iter_mut().flat_map(|port| &mut port.gids).for_each(|gid| gid.index += 2);
    }
    let set_here = set(&chosen(Wanted::Auto, Family::OpenMpi4, &[roce[0].clone(), other]));
    assert!(!set_here.iter().any(|it| it.starts_with("NCCL_IB_GID_INDEX")), "{set_here:#?}");
}

#[test]
fn rdma_that_one_host_lacks_is_left_and_told() {
    for (other, part) in [
        ("no-rdma", "w-1: has no RDMA device; request the device plugin's resource"),
        ("efa", "w-1: efa_0 cannot be used: /dev/infiniband/uverbs0 is not in this container"),
        ("hfi1", "w-1: hfi1_0 cannot be used: port 1 is INIT"),
    ] {
        let hosts = [machine("mlx5-ib", A), machine(other, B)];
        let fabric = chosen(Wanted::Auto, Family::OpenMpi5, &hosts);
        let [warning] = &fabric.warnings[..] else { panic!("{:?}", fabric.warnings) };
        assert!(warning.contains(part), "{warning}");
        assert!(warning.contains("instead of InfiniBand over mlx5_0:1 (1 x 200 Gb/s"), "{warning}");
        let set = set(&fabric);
        assert!(set.contains(&"OMPI_MCA_pml=ob1".to_owned()), "{set:?}");
        assert!(set.contains(&"OMPI_MCA_btl=^openib,uct,ofi,usnic".to_owned()), "{set:?}");
        assert!(set.contains(&"UCX_NET_DEVICES=eth0".to_owned()), "{set:?}");
        let refused = try_chosen(Wanted::Rdma, Family::OpenMpi5, &hosts).unwrap_err();
        assert_eq!(refused.class(), Class::LocalResource);
        assert!(refused.to_string().contains(part), "{refused}");
    }
    // Both have one, and they do not reach each other.
    let mixed = [machine("mlx5-ib", A), mended("mlx5-roce", B)];
    let fabric = chosen(Wanted::Auto, Family::IntelMpi, &mixed);
    assert!(fabric.warnings[0].contains("w-1: has RoCE only"), "{:?}", fabric.warnings);
    assert!(set(&fabric).contains(&"I_MPI_OFI_PROVIDER=tcp".to_owned()));
    // Nobody can use what everybody shows.
    let unusable = [machine("hfi1", A), machine("hfi1", B)];
    let fabric = chosen(Wanted::Auto, Family::Mpich, &unusable);
    let warning = &fabric.warnings[0];
    assert!(warning.contains("by TCP over eth0"), "{warning}");
    assert!(warning.contains(": w-0, w-1: hfi1_0 cannot be used: port 1 is INIT"), "{warning}");
}

#[test]
fn other_fabrics_are_left_to_the_mpi_unless_they_are_asked_for() {
    for (name, family, line, forced) in [
        ("efa", Family::OpenMpi5, "EFA over efa_0:1", &["OMPI_MCA_pml=cm", "FI_PROVIDER=efa"][..]),
        ("efa", Family::IntelMpi, "EFA over efa_0:1", &["I_MPI_OFI_PROVIDER=efa"]),
        ("hfi1", Family::OpenMpi4, "Omni-Path over hfi1_0:1", &["OMPI_MCA_pml=cm"]),
        ("hfi1", Family::Mpich, "Omni-Path over hfi1_0:1", &["FI_PROVIDER=psm2"]),
    ] {
        let hosts = [mended(name, A), mended(name, B)];
        let auto = chosen(Wanted::Auto, family, &hosts);
        assert!(auto.line.as_ref().unwrap().starts_with(line), "{auto:?}");
        let by_rdma = set(&chosen(Wanted::Rdma, family, &hosts));
        let more: Vec<&String> = by_rdma.iter().filter(|it| !set(&auto).contains(it)).collect();
        assert_eq!(more, forced.iter().collect::<Vec<_>>(), "{name} {family}");
    }
    // Software over Ethernet is no RDMA.
    let mut rxe = mended("mlx5-roce", A);
    rxe.rdma.devices.iter_mut().for_each(|device| device.driver = Some("rxe".into()));
    let fabric = chosen(Wanted::Auto, Family::OpenMpi4, &[rxe.clone(), rxe]);
    assert!(fabric.line.unwrap().ends_with("no host has an RDMA device"));
}

fn interface(name: &str, kind: InterfaceKind, address: &str, default_route: bool) -> Interface {
    Interface {
        name: name.to_owned(),
        kind,
        up: Some(true),
        mtu: None,
        speed: None,
        addresses: vec![address.to_owned()],
        default_route,
        driver: None,
        pci: None,
        numa: None,
    }
}

/// A host behind `docker0`, of the same address everywhere, and a second network.
fn plain(name: &str, address: &str) -> Report {
    Report {
        interfaces: vec![
            interface("lo", InterfaceKind::Loopback, "127.0.0.1/8", false),
            interface("docker0", InterfaceKind::Bridge, "172.17.0.1/16", false),
            interface("eth9", InterfaceKind::Virtual, "10.9.0.1/24", false),
            interface(name, InterfaceKind::Virtual, address, true),
        ],
        ..Report::default()
    }
}

#[test]
fn interfaces_may_have_other_names_on_each_host() {
    let hosts = [plain("eth0", A), plain("ens3", B)];
    let open = chosen(Wanted::Auto, Family::OpenMpi4, &hosts);
    assert!(set(&open).contains(&"OMPI_MCA_btl_tcp_if_include=10.0.0.0/24".to_owned()));
    assert_eq!(open.warnings, [""; 0]);
    let hydra = chosen(Wanted::Auto, Family::Mpich, &hosts);
    assert_eq!(set(&hydra), ["UCX_NET_DEVICES=ens3,eth0", "FI_PROVIDER=tcp"]);
    assert!(hydra.warnings[0].contains("FI_TCP_IFACE is not set"), "{:?}", hydra.warnings);
}

#[test]
fn a_host_that_says_nothing_leaves_transports_to_the_mpi() {
    let names = ["w-0", "w-1"].map(HostName::from);
    let told = plain("eth0", A);
    let member = |index: usize, address: &str, report| Member {
        name: &names[index],
        address: address.parse().ok(),
        report,
        works: true,
    };
    let choose = |address| {
        let members = [member(0, "10.0.0.5", Some(&told)), member(1, address, None)];
        choose(Wanted::Auto, Family::OpenMpi5, &members).unwrap()
    };
    // In the same subnet, of which Open MPI finds the interface by itself.
    let near = choose("10.0.0.9");
    assert_eq!(
        set(&near),
        ["PRTE_MCA_prte_if_include=10.0.0.0/24", "OMPI_MCA_btl_tcp_if_include=10.0.0.0/24"]
    );
    assert!(near.line.unwrap().contains("left to the MPI, since w-1 does not say what it has"));
    let far = choose("10.5.0.9");
    assert_eq!(set(&far), [""; 0]);
    assert!(far.warnings[0].contains("unknown on w-1"), "{:?}", far.warnings);
}

#[test]
fn a_translated_address_leads_to_the_default_route() {
    let names = ["w-0", "w-1"].map(HostName::from);
    let hosts = [plain("eth0", A), plain("eth0", B)];
    let members: Vec<Member<'_>> = hosts
        .iter()
        .zip(&names)
        .map(|(report, name)| Member {
            name,
            address: "192.0.2.1".parse().ok(),
            report: Some(report),
            works: true,
        })
        .collect();
    let fabric = choose(Wanted::Auto, Family::OpenMpi4, &members).unwrap();
    assert!(set(&fabric).contains(&"OMPI_MCA_btl_tcp_if_include=eth0".to_owned()));
    assert!(fabric.line.unwrap().contains("by the default route, as addresses are translated"));
}

#[test]
fn a_launcher_that_runs_no_rank_needs_no_rdma() {
    let names = ["w-0", "launcher"].map(HostName::from);
    let (worker, launcher) = (machine("mlx5-ib", A), plain("eth0", B));
    let member = |index: usize, address: &str, report, works| Member {
        name: &names[index],
        address: address.parse().ok(),
        report: Some(report),
        works,
    };
    let members = [member(0, "10.0.0.5", &worker, true), member(1, "10.0.0.6", &launcher, false)];
    let fabric = choose(Wanted::Auto, Family::OpenMpi4, &members).unwrap();
    assert!(fabric.line.unwrap().starts_with("InfiniBand over mlx5_0:1"));
}

//! What is printed, letter by letter, and that hostfiles can be read back.

use std::path::PathBuf;

use clap::ValueEnum as _;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use super::{Format, render};
use crate::discovery::{HostSpec, Located, LookupError, Source, hostfile};
use crate::ids::HostName;

fn source() -> Source {
    let path = PathBuf::from("/etc/mpi/hostfile");
    Source::FileVariable { name: "OMPI_MCA_orte_default_hostfile", path }
}

fn located(hosts: Vec<HostSpec>) -> Vec<Located> {
    let here = |host| Located { host, addresses: Ok(vec!["10.0.0.1".parse().unwrap()]) };
    hosts.into_iter().map(here).collect()
}

fn job() -> Vec<Located> {
    let hosts = "pi-worker-0.pi slots=4\n[fd77::5]:2\npi-worker-10.pi max_slots=8 port=2222\n";
    let mut hosts = located(hostfile::parse(hosts.as_bytes()).unwrap());
    hosts[1].addresses = Ok(vec!["fd77::5".parse().unwrap(), "fd77::6".parse().unwrap()]);
    hosts[2].addresses = Err(LookupError::NoSuchName {
        asked: vec!["pi-worker-10.pi.svc.cluster.local.".to_owned()],
        unanswered: Vec::new(),
    });
    hosts
}

#[test]
fn for_people() {
    let expected = "\
hosts from /etc/mpi/hostfile (OMPI_MCA_orte_default_hostfile)
HOST             SLOTS  MAX  PORT  ADDRESSES
pi-worker-0.pi   4      -    -     10.0.0.1
fd77::5          2      -    -     fd77::5, fd77::6
pi-worker-10.pi  -      8    2222  not found: no such name (asked for pi-worker-10.pi.svc.cluster.local.)
";
    let note = "slots not listed: `muster launch` takes --slots, else the host's GPUs or MIG \
                instances, else its CPU limit, and says which\n";
    assert_eq!(render(Format::Table, &source(), &job()), format!("{expected}{note}"));
    let expected = "hosts from --hosts\nHOST  SLOTS  ADDRESSES\na     -      10.0.0.1\n";
    let one = located(hostfile::parse_list("a").unwrap());
    assert_eq!(render(Format::Table, &Source::HostsFlag, &one), format!("{expected}{note}"));
    let two = located(hostfile::parse_list("a:2").unwrap());
    assert!(render(Format::Table, &Source::HostsFlag, &two).ends_with("a     2      10.0.0.1\n"));
}

#[test]
fn for_programs() {
    let expected = r#"{
  "schema": "muster-hosts/1",
  "source": "/etc/mpi/hostfile (OMPI_MCA_orte_default_hostfile)",
  "hosts": [
    {
      "name": "pi-worker-0.pi",
      "slots": 4,
      "addresses": [
        "10.0.0.1"
      ]
    },
    {
      "name": "fd77::5",
      "slots": 2,
      "addresses": [
        "fd77::5",
        "fd77::6"
      ]
    },
    {
      "name": "pi-worker-10.pi",
      "max_slots": 8,
      "port": 2222,
      "addresses": [],
      "error": "no such name (asked for pi-worker-10.pi.svc.cluster.local.)"
    }
  ]
}
"#;
    assert_eq!(render(Format::Json, &source(), &job()), expected);
}

#[test]
fn for_mpi() {
    for (format, expected) in [
        (
            Format::OpenMpi,
            "pi-worker-0.pi slots=4\nfd77::5 slots=2\n\
             # not found: no such name (asked for pi-worker-10.pi.svc.cluster.local.)\n\
             pi-worker-10.pi max_slots=8 port=2222\n",
        ),
        (
            Format::Hydra,
            "pi-worker-0.pi:4\n[fd77::5]:2\n\
             # not found: no such name (asked for pi-worker-10.pi.svc.cluster.local.)\n\
             pi-worker-10.pi\n",
        ),
        (Format::Horovod, "pi-worker-0.pi:4\n[fd77::5]:2\n"),
    ] {
        assert_eq!(render(format, &source(), &job()), expected);
    }
}

#[test]
fn without_hosts_a_hostfile_is_empty() {
    for format in Format::value_variants() {
        assert_eq!(
            render(*format, &Source::HostsFlag, &[]).is_empty(),
            !matches!(format, Format::Table | Format::Json)
        );
    }
}

fn hosts() -> impl Strategy<Value = Vec<HostSpec>> {
    let name = prop_oneof![
        "[a-zA-Z][a-z0-9_-]{0,20}(\\.[a-z][a-z0-9-]{0,8}){0,4}\\.?",
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string()),
    ];
    let count = || option::of(1..=u32::MAX);
    let host =
        (name, count(), count(), option::of(1..=u16::MAX), option::of("[a-z_][a-z0-9_.-]{0,9}"));
    let host = host.prop_map(|(name, slots, max, port, user)| {
        let slots = slots.and_then(std::num::NonZeroU32::new);
        let max_slots =
            max.and_then(std::num::NonZeroU32::new).max(slots).filter(|_| max.is_some());
        HostSpec { name: HostName::from(name), slots, max_slots, port, user }
    });
    vec(host, 1..20).prop_map(|mut hosts| {
        hosts.sort_by(|one, other| one.name.cmp(&other.name));
        hosts.dedup_by(|one, other| one.name == other.name);
        hosts
    })
}

/// Pieces that get past the first checks of the parser.
fn almost_a_hostfile() -> impl Strategy<Value = String> {
    let pieces = [
        "w-0",
        "w-1",
        " ",
        "\t",
        "\n",
        "\r\n",
        "=",
        "slots",
        "max_slots",
        "port",
        "user_name",
        "4",
        "0",
        "-1",
        "4294967296",
        ":",
        "::",
        "[",
        "]",
        "@",
        "#",
        ".",
        ",",
        "fd77::1",
        "\u{e9}",
        "\0",
    ];
    vec(select(pieces.to_vec()), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn open_mpi_hostfiles_are_read_back(hosts in hosts()) {
        let text = render(Format::OpenMpi, &Source::HostsFlag, &located(hosts.clone()));
        assert_eq!(hostfile::parse(text.as_bytes()).unwrap(), hosts, "{text}");
    }

    #[test]
    fn hydra_hostfiles_are_read_back(hosts in hosts()) {
        let hosts: Vec<HostSpec> = hosts
            .into_iter()
            .map(|host| HostSpec { slots: host.slots, ..HostSpec::named(host.name) })
            .collect();
        let text = render(Format::Hydra, &Source::HostsFlag, &located(hosts.clone()));
        assert_eq!(hostfile::parse(text.as_bytes()).unwrap(), hosts, "{text}");
    }

    #[test]
    fn no_bytes_break_the_parser(bytes in vec(any::<u8>(), 0..2048)) {
        let list = String::from_utf8_lossy(&bytes);
        for parsed in [hostfile::parse(&bytes), hostfile::parse_list(&list)] {
            if let Err(error) = parsed {
                let error = error.to_string();
                assert!(!error.contains(|c: char| c.is_control() && c != '\n'), "{error:?}");
            }
        }
    }

    #[test]
    fn whatever_is_parsed_can_be_printed_and_read_back(text in almost_a_hostfile()) {
        match hostfile::parse(text.as_bytes()) {
            Ok(hosts) => {
                let again = render(Format::OpenMpi, &Source::HostsFlag, &located(hosts.clone()));
                assert_eq!(hostfile::parse(again.as_bytes()).unwrap(), hosts, "{text:?}");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

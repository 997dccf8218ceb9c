//! The real OpenSSH in hosts, as root and in the operator's non-root pattern.
//!
//! Needs tests/setup to have run; no MPI runs, no muster.

use std::time::Duration;

use lab::openssh::{CLIENT, Sshd};
use lab::{Cmd, Install, KeyKind, KeyPair, Lab, MpiJob};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn every_kind_of_key_opens_a_session_as_root() {
    for kind in KeyKind::ALL {
        let lab = Lab::new().unwrap();
        let job =
            MpiJob::new("pi", Install::Mpich4, 1).unwrap().key(KeyPair::generate(kind).unwrap());
        let hosts = lab.boot_idle([job.launcher().openssh(), job.worker(0).openssh()]).unwrap();
        hosts[1].publish().unwrap();
        let _server = Sshd::new().start(&hosts[1]).unwrap();
        let ssh =
            Cmd::new("ssh").args(CLIENT).args([&job.worker_name(0), "id -un; hostname; exit 7"]);
        let output = hosts[0].run(ssh, SOON).unwrap();
        assert_eq!((output.stdout.as_str(), output.code()), ("root\npi-worker-0\n", 7), "{kind:?}");
    }
}

#[test]
fn non_root_on_port_2222() {
    let lab = Lab::new().unwrap();
    let job = MpiJob::new("pi", Install::OpenMpi5, 1).unwrap().non_root(1000);
    let pods =
        [job.launcher(), job.worker(0)].map(|pod| pod.openssh().passwd("mpiuser", "/bin/sh"));
    let hosts = lab.boot_idle(pods).unwrap();
    hosts[1].publish().unwrap();
    let _server = Sshd::new().port(2222).keys(job.ssh_dir()).start(&hosts[1]).unwrap();
    // ssh refuses a private key of its own that others can read; a mounted secret belongs to root, and passes.
    let ssh = |remote: &str| {
        let words = ["-p", "2222", "-i", "/home/mpiuser/.ssh/id_rsa", &job.worker_name(0), remote]
            .map(String::from);
        hosts[0].run(Cmd::new("ssh").args(CLIENT).args(words), SOON).unwrap()
    };
    let output = ssh("id -u; command -v mpirun; echo $LD_LIBRARY_PATH");
    let bin = Install::OpenMpi5.mpirun();
    let lib = bin.parent().unwrap().parent().unwrap().join("lib");
    assert_eq!(
        output.stdout,
        format!("1000\n{}\n{}\n", bin.display(), lib.display()),
        "{output:?}"
    );
}

#[test]
fn a_host_has_no_openssh_unless_it_asks() {
    let lab = Lab::new().unwrap();
    let host = lab.boot_idle([lab::HostSpec::new("w")]).unwrap().remove(0);
    assert!(Sshd::new().start(&host).is_err());
}

//! One launcher and four workers of each MPI: the job runs, and each bad ending has its verdict.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lab::{Install, MpiJob};
use muster_tests::{LONG, ranks_by_host};

use crate::site::{self, Site};

const RANKS: &str = "/opt/job/ranks";
const WORKERS: [&str; 4] = ["pi-worker-0", "pi-worker-1", "pi-worker-2", "pi-worker-3"];

/// A job that ends well, one whose rank is too greedy, one that is told to stop, one that loses a worker.
fn endings(install: Install) {
    if !site::ready() {
        return;
    }
    let site = Site::start(install);
    let strict = "id -u; grep CapBnd /proc/self/status; \
        touch /x /run/x /var/tmp/x ~/x 2>/dev/null || echo read-only; ls /x /run/x /var/tmp/x ~/x 2>/dev/null; \
        ls -d /usr/bin/ssh-* /etc/ssh/sshd_config 2>/dev/null || echo no OpenSSH";
    let strict = site.workers[0].exec(strict).unwrap();
    assert_eq!(strict, "1000\nCapBnd:\t0000000000000000\nread-only\nno OpenSSH\n");

    // The images' health check, also a readiness probe, is true of a worker and false where none serves.
    let health = "muster rsh -o ConnectTimeout=3 localhost true; echo $?; \
        muster rsh -p 2 -o ConnectTimeout=3 localhost true 2>/dev/null; echo $?";
    assert_eq!(site.workers[0].exec(health).unwrap(), "0\n255\n");
    runs_on_all(&site);
    site.left_nothing(&site.workers);

    let launcher = site.launch(["launch", "--", RANKS, "alloc", "2000", "3"]);
    let output = launcher.output(LONG).unwrap();
    let said = output.stderr.as_str();
    assert_eq!(output.code(), 83, "{output:?}");
    assert!(said.contains("on pi-worker-1 was killed by the kernel's OOM killer"), "{said}");
    assert!(
        said.contains("1 kills counted; the memory limit was 600 MiB, the most in use "),
        "{said}"
    );
    let message = launcher.termination_message();
    assert!(message.starts_with("verdict  host-oom, exit code 83"), "{message}");
    site.left_nothing(&site.workers);

    let launcher = site.launch(["launch", "--", RANKS, "checkpoint", "1"]);
    for rank in 0..8 {
        launcher.process.wait_for_line(&format!("waits rank {rank} of 8"), LONG).unwrap();
    }
    launcher.stop(Duration::from_secs(30)).unwrap();
    let output = launcher.output(LONG).unwrap();
    assert_eq!(output.code(), 143, "{output:?}");
    for rank in 0..8 {
        assert!(output.stdout.contains(&format!("saved rank {rank} of 8")), "{output:?}");
    }
    site.left_nothing(&site.workers);

    let launcher = site.launch(["launch", "--", RANKS, "sleep", "600"]);
    launcher.process.wait_for_line("hello rank 7 of 8", LONG).unwrap();
    site.workers[3].kill().unwrap();
    let output = launcher.output(LONG).unwrap();
    assert_eq!(output.code(), 172, "{output:?}");
    assert!(output.stderr.contains("The worker on pi-worker-3 was lost"), "{output:?}");
    assert_eq!(lab::code(site.workers[3].process.wait(LONG).unwrap()), 137);
    site.left_nothing(&site.workers[..3]);
}

fn runs_on_all(site: &Site) {
    let launcher = site.launch(["launch", "--", RANKS, "hello"]);
    let output = launcher.output(LONG).unwrap();
    assert!(output.success(), "{output:?}");
    let hosts = ranks_by_host(&output.stdout, 8);
    assert_eq!(hosts.keys().collect::<Vec<_>>(), WORKERS, "{output:?}");
    assert!(hosts.values().all(|ranks| ranks.len() == 2), "{output:?}");
}

#[test]
fn open_mpi_4() {
    endings(Install::OpenMpi4);
}

#[test]
fn open_mpi_5() {
    endings(Install::OpenMpi5);
}

#[test]
fn mpich() {
    endings(Install::Mpich5);
}

#[test]
fn intel_mpi() {
    endings(Install::IntelMpi);
}

/// On a base that is not Debian, as UBI: it has glibc and a shell, and none of Debian's tools.
#[test]
fn on_a_base_without_debians_tools() {
    if !site::ready() {
        return;
    }
    let job = MpiJob::new("pi", Install::OpenMpi4, 4).unwrap().slots(2).non_root(1000);
    let site = Site::with("openmpi-bare", Install::OpenMpi4, &job, |spec| spec);
    let tools = "command -v apt-get dpkg useradd || echo none";
    assert_eq!(site.workers[0].exec(tools).unwrap(), "none\n");
    runs_on_all(&site);
}

/// As platforms do that pick a uid: nobody in the image knows it, and its group is 0.
#[test]
fn any_uid_without_a_passwd_entry() {
    if !site::ready() {
        return;
    }
    let job = MpiJob::new("pi", Install::OpenMpi4, 4).unwrap().slots(2).non_root(1000);
    let site = Site::of(Install::OpenMpi4, &job, |spec| spec.user(1_000_620_000, 0));
    let id =
        site.workers[0].exec("id -u; getent passwd 1000620000 || echo nobody knows it").unwrap();
    assert_eq!(id, "1000620000\nnobody knows it\n");
    runs_on_all(&site);
}

//! A lab without root: as an ordinary user who is root of a user namespace, and what is said where that is not enough.
//!
//! The tests run their halves in child processes, which have the identity that is wanted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use lab::{Cmd, HostSpec, Lab, LabError};

const CHILD: &str = "LAB_TEST_USER";
const SOON: Duration = Duration::from_secs(10);
/// No half of a test takes longer than this, in seconds.
const LIMIT: &str = "60";
const UNSHARE: &[&str] = &["unshare", "--user", "--map-root-user"];

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Words that make a command run as an ordinary user.
fn as_user() -> &'static [&'static str] {
    if is_root() {
        &["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--"]
    } else {
        &[]
    }
}

fn run(words: &[&str]) -> Output {
    let mut all = ["timeout", LIMIT].iter().chain(words);
    Command::new(all.next().unwrap()).args(all).env(CHILD, "1").current_dir("/").output().unwrap()
}

/// Runs an ignored test of this program, from where every user can reach it.
fn half(name: &str, before: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let program = program.to_str().unwrap();
    let words: Vec<_> = as_user()
        .iter()
        .chain(before)
        .copied()
        .chain([program, "--ignored", "--exact", name, "--nocapture"])
        .collect();
    let output = run(&words);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{words:?}: {}\n{said}", output.status);
    assert!(said.contains("DONE"), "{said}");
    said
}

fn stdout(host: &lab::Host, line: &str) -> String {
    let output = host.run(Cmd::sh(line), SOON).unwrap();
    assert!(output.success(), "{line}: {output:?}");
    output.stdout.trim().to_owned()
}

#[test]
fn a_user_namespace_is_enough_for_a_lab() {
    let words: Vec<_> = as_user().iter().chain(UNSHARE).copied().chain(["true"]).collect();
    let tried = run(&words);
    if !tried.status.success() {
        let why = String::from_utf8_lossy(&tried.stderr);
        assert!(std::env::var_os("CI").is_none(), "user namespaces have to work in CI: {why}");
        // Past the test harness, which keeps what passing tests print to itself.
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED: no lab in a user namespace, this machine allows none: {why}"
        );
        return;
    }
    half("the_half_in_a_user_namespace", UNSHARE);
}

#[test]
fn without_root_the_way_to_a_lab_is_shown() {
    half("the_half_of_an_ordinary_user", &[]);
}

#[test]
#[ignore = "runs only as the child of a test above"]
fn the_half_of_an_ordinary_user() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let said = Lab::new().unwrap_err().to_string();
    assert!(said.contains("unshare --user --map-root-user /"), "{said}");
    println!("DONE");
}

#[test]
#[ignore = "runs only as the child of a test above"]
fn the_half_in_a_user_namespace() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let lab = Lab::new().unwrap();
    let dir = lab.dir().to_owned();
    let domain = "pi.default.svc.cluster.local";
    let hosts = lab.boot_idle(["a", "b"].map(|name| HostSpec::new(name).domain(domain))).unwrap();

    assert_eq!(stdout(&hosts[0], "hostname -f"), format!("a.{domain}"));
    assert_eq!(stdout(&hosts[0], "cat /proc/1/comm"), "sleep");
    assert_eq!(stdout(&hosts[0], "ls /sys/class/net | sort | xargs"), "eth0 lo");
    assert_eq!(stdout(&hosts[0], "command -v ssh sshd scp || echo none"), "none");
    assert_eq!(
        stdout(&hosts[0], "echo x | tee /etc/lab-test /usr/bin/lab-test /opt/lab-test"),
        "x"
    );
    assert_eq!(stdout(&hosts[1], "ls /etc/lab-test /opt/lab-test 2>&1 | grep -c 'No such'"), "2");
    assert!(!Path::new("/opt/lab-test").exists());

    hosts[1].publish().unwrap();
    let found = stdout(&hosts[0], "getent hosts b.pi.default.svc");
    assert!(found.contains(&hosts[1].address().to_string()), "{found}");

    let listener = hosts[1]
        .in_network(|| std::net::TcpListener::bind((hosts[1].address(), 7000)).unwrap())
        .unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&listener.local_addr().unwrap(), SOON);
    let to = listener.local_addr().unwrap();
    let client = hosts[0].in_network(connect).unwrap().unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    hosts[1].cut().unwrap();
    let short = Duration::from_millis(300);
    let connect = || std::net::TcpStream::connect_timeout(&to, short);
    assert!(hosts[0].in_network(connect).unwrap().is_err(), "cut off");
    hosts[1].heal().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&to, SOON);
    assert!(hosts[0].in_network(connect).unwrap().is_ok(), "healed");

    let busy = hosts[0].spawn(Cmd::sh("setsid sleep 1003 & echo READY; wait")).unwrap();
    busy.wait_for_line("READY", SOON).unwrap();
    let before = hosts[0].processes();
    assert!(before.len() >= 3, "{before:?}");
    hosts[0].kill().unwrap();
    assert!(before.iter().all(|info| !Path::new(&format!("/proc/{}", info.outer)).exists()));

    let user = lab.add(HostSpec::new("c").user(1000, 1000)).unwrap_err();
    assert!(matches!(user, LabError::NoSuchId { id: 1000, .. }), "{user}");
    let limited = lab.add(HostSpec::new("d").memory(64 << 20)).unwrap_err();
    assert!(limited.to_string().contains("limit memory: only the machine's root"), "{limited}");

    lab.boot_idle([HostSpec::new("e").read_only_root()]).unwrap();
    let host = lab.hosts().pop().unwrap();
    assert_eq!(stdout(&host, "touch /x /etc/x /usr/x 2>&1 | grep -c Read-only"), "3");

    drop((lab, hosts, host));
    assert!(!dir.exists(), "{}", dir.display());
    println!("DONE");
}

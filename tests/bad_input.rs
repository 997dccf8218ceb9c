//! Promise: bad input ends at once, with where it is, what was expected, a hint, and the table's code.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lab::{Cmd, FileSpec, Host, HostSpec, Install, KeyKind, KeyPair, Lab, Output};
use muster_tests::{LONG, muster};

/// A file of rules with a class that is none.
const RULES: &str = r#"[[rule]]
name = "mine"
class = "nonsense"
strength = "end"
match = ["boom!!"]
says = "It went off."
"#;

/// Within a second, on a machine that does nothing else.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A host with keys and MPI, run by the uid 1000, in which `muster` is a command.
fn host(lab: &Lab, change: impl Fn(HostSpec) -> HostSpec) -> Host {
    let key = KeyPair::generate(KeyKind::EcdsaP521).unwrap();
    let file = |path: &str, content: &str| FileSpec::new(path, content).mode(0o644);
    let spec = HostSpec::new("h")
        .mpi(Install::OpenMpi4)
        .restricted(1000)
        .files(key.files("/keys", 0o644))
        .file(file("/public/id_rsa", &key.public))
        .file(file("/garbage/id_rsa", "hello"))
        .file(file("/locked/id_rsa", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"))
        .file(FileSpec::new("/secret/id_rsa", key.private.as_str()).mode(0o600).owner(0, 0))
        .file(file("/etc/h/slots", "w0 slots=2\nw1 slots=x\n"))
        .file(file("/etc/h/zero", "w0 slots=0\n"))
        .file(file("/etc/h/twice", "w0 slots=2\nw1\n# again\nw0 slots=3\n"))
        .file(file("/etc/h/empty", "# nobody\n\n"))
        .file(file("/etc/h/word", "w0 slots=2 color=red\n"))
        .file(file("/etc/h/rules", RULES))
        .file(file("/etc/h/one", "localhost slots=2\n"))
        .file(file("/bin/ls-mpirun", "#!/bin/sh\necho ls 9.1\n").mode(0o755))
        .env("MUSTER_KEY_DIR", "/keys");
    lab.boot_idle([change(spec)]).unwrap().remove(0)
}

fn run(host: &Host, line: &str) -> Output {
    let line = format!("muster() {{ {} \"$@\"; }}\n{line}", muster().display());
    host.run(Cmd::sh(line), LONG).unwrap()
}

/// Each line of input, and what is said: the code, and all of stderr.
fn says(host: &Host, cases: &[(&str, i32, &str)]) {
    for (line, code, words) in cases {
        let output = run(host, line);
        let class = match code {
            87 => "mpi-mismatch",
            88 => "auth-failed",
            89 => "config",
            91 => "local-resource",
            other => panic!("{other} has no name here"),
        };
        let told = format!("exit code {code} ({class}); a retry will not help");
        let expected: Vec<&str> = words.lines().map(str::trim).chain([told.as_str()]).collect();
        let said = output.stderr.lines().map(|line| line.strip_prefix("muster: ").unwrap().trim());
        assert_eq!(said.collect::<Vec<_>>(), expected, "{line}");
        assert_eq!((output.code(), output.stdout.as_str()), (*code, ""), "{line}: {output:?}");
        assert!(expected.iter().any(|line| line.starts_with("hint: ")), "{line}");
        assert!(output.elapsed < AT_ONCE, "{line}: {:?}", output.elapsed);
    }
}

const LINES: &str = "hint: write one host a line: 'host', 'host:4' or 'host slots=4', with max_slots=, port= or \
                     user_name= where needed";
const ONE_WAY: &str = "hint: name the hosts in one way: --hosts a,b:4, or --hostfile FILE, or --service NAME \
                       --workers N [--pattern 'worker-{i}']";
const HELP: &str = "hint: --help shows what can be given, with examples";

fn with(words: &str, hint: &str) -> String {
    format!("{words}\n{hint}")
}

#[test]
fn hosts_and_flags() {
    let lab = Lab::new().unwrap();
    let host = host(&lab, |spec| spec);
    let number = "expected a number of slots from 1 to 4294967295";
    let file = "error: failed to read hosts from /etc/h/";
    let cases = [
        ("launch --hostfile /etc/h/slots", with(&format!("{file}slots (--hostfile): line 2: 'slots=x': {number}"), LINES)),
        ("wait --hostfile /etc/h/zero", with(&format!("{file}zero (--hostfile): line 1: 'slots=0': {number}"), LINES)),
        ("hosts --hostfile /etc/h/twice", with(&format!("{file}twice (--hostfile): line 4: 'w0': 3 slots for a host that has 2 slots on line 1"), LINES)),
        ("launch --hostfile /etc/h/empty", with(&format!("{file}empty (--hostfile): no host in it"), "hint: list one host a line, such as 'worker-0 slots=4'")),
        ("launch --hostfile /etc/h/word", with(&format!("{file}word (--hostfile): line 1: 'color=red': expected slots=, max_slots=, port= or user_name="), LINES)),
        ("hosts --hostfile /etc/h/none", with(&format!("{file}none (--hostfile): No such file or directory (os error 2)"), "hint: mount the file in this container, or name the hosts with --hosts or --hostfile")),
        ("launch --hosts a,b:0", with(&format!("error: failed to read hosts from --hosts: entry 2: 'b:0': {number}"), LINES)),
        ("launch --service pi", with("error: failed to follow the flags: --service needs --workers", ONE_WAY)),
        ("wait --hosts a --hostfile /etc/h/one", with("error: failed to follow the flags: --hosts and --hostfile both name the hosts", ONE_WAY)),
        ("wait", "error: failed to find hosts to wait for: no flag, variable or hostfile names any\nhint: name them with --hosts, --hostfile or --service, or mount the operator's hostfile here".into()),
        ("launch -n 0", with("error: invalid value '0' for '--np <N>': expected a number from 1 to 4294967295", HELP)),
        ("launch --require gpu=8", with("error: invalid value 'gpu=8' for '--require <LIST>': 'gpu=8': expected one of gpus, rdma, cpus, memory, shm, memlock", HELP)),
        ("launch --require shm=1GB", with("error: invalid value 'shm=1GB' for '--require <LIST>': 'shm=1GB': expected a size such as 512Mi or 1Gi", HELP)),
        ("launch --fabric ib", with("error: invalid value 'ib' for '--fabric <FABRIC>'\n[possible values: auto, tcp, rdma, none]", HELP)),
        ("launch --bogus", format!("error: unexpected argument '--bogus' found\ntip: to pass '--bogus' as a value, use '-- --bogus'\nUsage: muster launch [OPTIONS] -- <PROGRAM>...\n{HELP}")),
        ("hosts --format xml", with("error: invalid value 'xml' for '--format <FORMAT>'\n[possible values: table, json, openmpi, hydra, horovod]", HELP)),
        ("launch ''", format!("error: unexpected argument '' found\nUsage: muster launch [OPTIONS] -- <PROGRAM>...\n{HELP}")),
    ];
    let cases: Vec<(String, i32, String)> = cases
        .into_iter()
        .map(|(words, said)| {
            let program = if words.starts_with("launch") { " -- true" } else { "" };
            (format!("muster {words}{program}"), 89, said)
        })
        .collect();
    let cases: Vec<(&str, i32, &str)> =
        cases.iter().map(|(line, code, words)| (line.as_str(), *code, words.as_str())).collect();
    says(&host, &cases);
    says(
        &host,
        &[
            (
                "muster launch -- ''",
                89,
                "error: failed to read the command: there is no program to run
                 hint: give the program after `--`, as in `muster launch -- ./train`",
            ),
            (
                "muster launch -- --map-by node ./app",
                89,
                "error: failed to read the command: the option `--map-by` stands where the program should
                 hint: muster's own options stand before `--`, the program comes first after it",
            ),
            (
                "MUSTER_PORT=x muster worker",
                89,
                "error: invalid value 'x' for '--port <PORT>': expected a port from 0 to 65535
                 hint: the value is that of MUSTER_PORT in the environment",
            ),
            (
                "MUSTER_PORT=x muster sshd -D",
                89,
                "error: failed to read MUSTER_PORT: 'x' is not a port from 0 to 65535
                 hint: unset it, or give the port with -p",
            ),
            // A variable that is empty is none.
            (
                "MUSTER_PORT= MUSTER_GRACE= muster launch --hosts a:0 -- true",
                89,
                "error: failed to read hosts from --hosts: entry 1: 'a:0': expected a number of slots from 1 to 4294967295
                 hint: write one host a line: 'host', 'host:4' or 'host slots=4', with max_slots=, port= or user_name= where needed",
            ),
            (
                "muster rank --timestamp -- true",
                89,
                "error: unexpected argument '--timestamp' found
                 tip: a similar argument exists: '--timestamps'
                 tip: to pass '--timestamp' as a value, use '-- --timestamp'
                 Usage: muster rank [OPTIONS] [--] PROGRAM [ARGUMENT]...
                 hint: --help shows what can be given, with examples",
            ),
            (
                "muster devices --watch 0s",
                89,
                "error: invalid value '0s' for '--watch <TIME>': expected 100ms or more
                 hint: --help shows what can be given, with examples",
            ),
            (
                "MUSTER_HEARTBEAT=1ms muster launch -- true",
                89,
                "error: invalid value '1ms' for '--heartbeat <TIME>': expected 100ms or more
                 hint: the value is that of MUSTER_HEARTBEAT in the environment",
            ),
            (
                "muster launch --grace 500years -- true",
                89,
                "error: invalid value '500years' for '--grace <TIME>': expected a year or less
                 hint: --help shows what can be given, with examples",
            ),
            (
                "muster launch --rules /etc/h/rules -- true",
                89,
                "error: failed to read the rules
                 /etc/h/rules:3: there is no class 'nonsense'
                 hint: a rule needs name, class (muster explain lists them), strength (note, echo, banner, end, likely, cause, proof), match and says; `muster explain --help` shows one",
            ),
            (
                "MUSTER_GRACE=soon muster launch -- true",
                89,
                "error: invalid value 'soon' for '--grace <TIME>': expected a time such as 500ms, 30s or 10m
                 hint: the value is that of MUSTER_GRACE in the environment",
            ),
            (
                "OMPI_MCA_orte_default_hostfile=/etc/h/slots muster launch -- true",
                89,
                "error: failed to read hosts from /etc/h/slots (OMPI_MCA_orte_default_hostfile): line 2: 'slots=x': expected a number of slots from 1 to 4294967295
                 hint: write one host a line: 'host', 'host:4' or 'host slots=4', with max_slots=, port= or user_name= where needed",
            ),
            // Every problem at once.
            (
                "PATH=/nowhere muster launch --hosts a:0 -- ''",
                89,
                "error: failed to read hosts from --hosts: entry 1: 'a:0': expected a number of slots from 1 to 4294967295
                 and to read the command: there is no program to run
                 and to find mpirun, mpiexec, mpiexec.hydra, prterun, orterun on PATH (/nowhere)
                 hint: write one host a line: 'host', 'host:4' or 'host slots=4', with max_slots=, port= or user_name= where needed
                 give the program after `--`, as in `muster launch -- ./train`
                 install Open MPI, MPICH or Intel MPI in the image, or put its bin directory on PATH",
            ),
        ],
    );
    // No slots for so many ranks; localhost needs no worker.
    let output = run(&host, "muster launch -n 3 --hostfile /etc/h/one -- true");
    assert_eq!(output.code(), 85, "{output:?}");
    let words = "muster: error: failed to place 3 ranks in 2 slots (localhost has 2)\n\
                 muster: hint: ask for at most 2 ranks with `-n`, add hosts, or give the hosts more slots with \
                 `--slots` or in the hostfile\n\
                 muster: exit code 85 (not-enough-slots); a retry will not help\n";
    assert!(output.stderr.ends_with(words), "{output:?}");
}

#[test]
fn keys_and_ports() {
    let lab = Lab::new().unwrap();
    let host = host(&lab, |spec| spec);
    let formats = "hint: expected an unencrypted private key: ECDSA (SEC1 or PKCS#8), RSA (PKCS#1 or PKCS#8) or the \
                   OpenSSH format";
    let read = |dir: &str, why: &str, hint: &str| {
        format!("error: failed to read the job's key {dir}/id_rsa: {why}\n{hint}")
    };
    let public = read("/public", "this is a public key", formats);
    let garbage = read("/garbage", "not a PEM file", formats);
    let locked = read("/locked", "the key is protected by a passphrase", formats);
    let secret = read(
        "/secret",
        "Permission denied (os error 13)",
        "hint: uid 1000 must be able to read it: set the secret's defaultMode or the pod's fsGroup (ls -l /secret/id_rsa)",
    );
    let none = "error: failed to find the job's key: no id_rsa, id_ecdsa or id_ed25519 in /nowhere\n\
                hint: mount the job's SSH secret and name its directory with MUSTER_KEY_DIR (launch, wait, worker and devices also take --key-dir)";
    let defaults = "error: failed to find the job's key: no id_rsa, id_ecdsa or id_ed25519 in //.ssh, /root/.ssh, /home/mpiuser/.ssh\n\
                    hint: mount the job's SSH secret and name its directory with MUSTER_KEY_DIR (launch, wait, worker and devices also take --key-dir)";
    says(
        &host,
        &[
            ("muster worker --key-dir /public", 88, &public),
            ("muster worker --key-dir /garbage", 88, &garbage),
            ("MUSTER_KEY_DIR=/locked muster wait --hosts a", 88, &locked),
            ("muster launch --key-dir /secret --hosts a -- true", 88, &secret),
            ("muster worker --key-dir /nowhere", 88, none),
            ("unset MUSTER_KEY_DIR; muster worker", 88, &defaults.replace("//.ssh", "/.ssh")),
            (
                "muster worker --listen 192.0.2.1",
                89,
                "error: failed to listen on 192.0.2.1:2222: Address not available (os error 99)
                 hint: --listen takes an address of this host, or 0.0.0.0 or [::] for all",
            ),
            (
                "muster worker --port 80 --listen 127.0.0.1",
                91,
                "error: failed to listen on 127.0.0.1:80: Permission denied (os error 13)
                 hint: port 80 needs root or CAP_NET_BIND_SERVICE; choose one above 1023",
            ),
        ],
    );
    let line = format!("{} worker --port 2222 --listen 127.0.0.1", muster().display());
    let first = host.spawn(Cmd::sh(line)).unwrap();
    first.wait_for_line("READY", LONG).unwrap();
    says(
        &host,
        &[(
            "muster worker --port 2222 --listen 127.0.0.1",
            91,
            "error: failed to listen on 127.0.0.1:2222: Address in use (os error 98)
             hint: another process has port 2222, perhaps another pod of this node under hostNetwork; choose another with --port or MUSTER_PORT, 0 picks a free one",
        )],
    );
}

#[test]
fn mpirun_and_names() {
    let lab = Lab::new().unwrap();
    let host = host(&lab, |spec| spec);
    let hint = "hint: muster drives Open MPI, MPICH and Intel MPI; of PyPI's Open MPI 5 call mpirun, not prterun";
    let unknown = format!(
        "error: failed to recognise /bin/ls-mpirun: `--version` ended with exit status: 0 and said \"ls 9.1\"\n{hint}"
    );
    says(
        &host,
        &[
            (
                "PATH=/nowhere muster launch -- true",
                87,
                "error: failed to find mpirun, mpiexec, mpiexec.hydra, prterun, orterun on PATH (/nowhere)
                 hint: install Open MPI, MPICH or Intel MPI in the image, or put its bin directory on PATH",
            ),
            (
                "muster launch -- /nowhere/mpirun -n 2 ./app",
                87,
                "error: failed to use /nowhere/mpirun as mpirun: it is not an executable file
                 hint: name the launcher's own file, such as /usr/bin/mpirun",
            ),
            ("MUSTER_MPIRUN=/bin/ls-mpirun muster launch -- true", 87, &unknown),
        ],
    );
    host.run(Cmd::sh("rm /etc/resolv.conf").as_lab(), LONG).unwrap();
    let missing =
        "no name server to ask: read /etc/resolv.conf: No such file or directory (os error 2)";
    let hint = "hint: give the pod a dnsPolicy with a name server, or list the hosts by name or address as they are";
    for command in ["launch --hosts a,b -- true", "wait --hosts a,b"] {
        let output = run(&host, &format!("muster {command}"));
        assert_eq!(output.code(), 89, "{output:?}");
        assert!(
            output.stderr.contains("failed to reach all workers: 0/2 ready after 0 s\n"),
            "{output:?}"
        );
        assert!(output.stderr.contains(&format!("\nmuster:   a: {missing}\n")), "{output:?}");
        assert!(output.stderr.contains(&format!("\nmuster: {hint}\n")), "{output:?}");
        assert!(output.elapsed < AT_ONCE, "{output:?}");
    }
    says(
        &host,
        &[(
            "muster wait --service pi --workers 2",
            89,
            &format!(
                "error: failed to find the pods of service pi: {missing}\nhint: give the pod a dnsPolicy with a name server, or name the hosts by address"
            ),
        )],
    );
    let output = run(&host, "muster hosts --hosts a");
    assert_eq!(output.code(), 170, "{output:?}");
    assert!(output.stdout.contains(missing), "{output:?}");
    let output = run(&host, "muster rsh a id");
    assert_eq!(output.code(), 255, "{output:?}");
    let hint = "give the pod a dnsPolicy with a name server, or name the hosts by address";
    let words = format!("failed to resolve a: {missing}\nmuster: hint: {hint}\n");
    assert_eq!(output.stderr, format!("muster: rsh: {words}"));
}

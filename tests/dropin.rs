//! Promise: under the names ssh and sshd muster takes OpenSSH's place: manifests, mpirun lines and programs that
//! call ssh stay as they are, and either end may be OpenSSH still.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use lab::openssh::Sshd;
use lab::{Cmd, FileSpec, Host, HostSpec, Install, KeyKind, KeyPair, Lab, MpiJob, Output, Proc};
use muster_tests::{LONG, muster, ranks_by_host};

/// What mpi-operator's base image has for its non-root user, and how its manifests start it.
const SSHD_CONFIG: &str = "PidFile /home/mpiuser/sshd.pid\nHostKey /home/mpiuser/.ssh/id_rsa\n\
    StrictModes no\nPort 2222\n";
const SSHD: [&str; 3] = ["-De", "-f", "/home/mpiuser/.sshd_config"];

/// What it has for clients.
const SSH_CONFIG: &str = "Host *\n    Port 2222\n    StrictHostKeyChecking no\n    \
    UserKnownHostsFile /dev/null\n    SendEnv LANG LC_*\n";

/// Whose ssh and sshd a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    Muster,
    OpenSsh,
}

impl Has {
    fn prepare(self, spec: HostSpec) -> HostSpec {
        match self {
            Self::Muster => spec,
            // OpenSSH does nothing for a user that passwd does not know.
            Self::OpenSsh => spec.openssh().passwd("mpiuser", "/bin/sh"),
        }
    }

    /// Makes the links, as a line in a Dockerfile does.
    fn install(self, host: &Host) {
        if self == Self::Muster {
            let install = Cmd::new(muster().display().to_string()).arg("install").as_lab();
            let output = host.run(install, LONG).unwrap();
            assert!(output.success(), "{output:?}");
        }
    }

    fn ready(self) -> &'static str {
        match self {
            Self::Muster => "READY",
            Self::OpenSsh => "Server listening on",
        }
    }
}

/// The pods of an MPIJob in the operator's non-root pattern, with nothing in them that muster made.
struct StockJob {
    /// Ends its hosts when dropped.
    _lab: Lab,
    launcher: Host,
    servers: Vec<(Host, Proc)>,
}

impl StockJob {
    fn start(install: Install, workers: usize, launcher: Has, worker: Has) -> Self {
        let job = MpiJob::new("pi", install, workers).unwrap().non_root(1000);
        let lab = Lab::new().unwrap();
        let specs = job.all_workers().into_iter().map(|spec| {
            let spec = spec.file(FileSpec::new("/home/mpiuser/.sshd_config", SSHD_CONFIG));
            worker.prepare(spec.file(FileSpec::new("/etc/ssh/ssh_config", SSH_CONFIG)))
        });
        let hosts = lab.boot_idle(specs).unwrap();
        let mut servers = Vec::new();
        for host in hosts {
            worker.install(&host);
            let server = host.spawn(Cmd::new("/usr/sbin/sshd").args(SSHD)).unwrap();
            servers.push((host, server));
        }
        for (host, server) in &servers {
            server.wait_for_line(worker.ready(), LONG).unwrap();
            host.publish().unwrap();
        }
        let spec = job.launcher().file(FileSpec::new("/etc/ssh/ssh_config", SSH_CONFIG));
        // Where the workers have OpenSSH's sshd, the user must have the name there that it has here.
        let spec = if worker == Has::OpenSsh { spec.passwd("mpiuser", "/bin/sh") } else { spec };
        let host = lab.boot_idle([launcher.prepare(spec)]).unwrap().remove(0);
        launcher.install(&host);
        host.publish().unwrap();
        Self { _lab: lab, launcher: host, servers }
    }

    /// `mpirun -n 2 …` as manifests have it, with no word of muster.
    fn mpirun(&self, install: Install, program: &[&str]) -> Output {
        let mut mpirun = Cmd::new("mpirun").args(["-n", "2"]).env("HYDRA_IFACE", "eth0");
        if install == Install::OpenMpi5 {
            // It reads none of the operator's variables.
            mpirun = mpirun.args(["--hostfile", "/etc/mpi/hostfile"]).args([
                "--prtemca",
                "prte_keep_fqdn_hostnames",
                "1",
            ]);
        }
        let path = install.program(program[0]).display().to_string();
        self.launcher.run(mpirun.arg(path).args(program[1..].iter().copied()), LONG).unwrap()
    }

    /// One rank on each of two workers.
    fn runs_on_both(&self, install: Install) {
        let output = self.mpirun(install, &["ranks", "hello"]);
        assert!(output.success(), "{output:?}");
        let hosts = ranks_by_host(&output.stdout, 2);
        assert_eq!(hosts.keys().collect::<Vec<_>>(), ["pi-worker-0", "pi-worker-1"], "{output:?}");
    }
}

/// The operator's `pi` example, and not one OpenSSH program in any pod.
fn stock_manifest(install: Install) {
    let job = StockJob::start(install, 2, Has::Muster, Has::Muster);
    let output = job.launcher.run(Cmd::sh("ls /usr/bin/ssh /usr/bin/scp"), LONG).unwrap();
    assert_eq!(output.stdout, "", "the launcher has an OpenSSH");
    let output = job.mpirun(install, &["pi"]);
    assert!(output.success(), "{output:?}");
    assert!(output.stdout.contains("pi is 3.14159"), "{output:?}");
    job.runs_on_both(install);
    for (_, server) in &job.servers {
        let said = server.stderr_so_far();
        assert!(said.contains("sshd: ignored StrictModes ("), "{said}");
    }
}

#[test]
fn stock_manifest_open_mpi_4() {
    stock_manifest(Install::OpenMpi4);
}

#[test]
fn stock_manifest_open_mpi_5() {
    stock_manifest(Install::OpenMpi5);
}

#[test]
fn stock_manifest_mpich_4() {
    stock_manifest(Install::Mpich4);
}

#[test]
fn stock_manifest_mpich_5() {
    stock_manifest(Install::Mpich5);
}

#[test]
fn stock_manifest_intel_mpi() {
    stock_manifest(Install::IntelMpi);
}

#[test]
fn a_launcher_with_openssh_and_workers_with_muster() {
    let job = StockJob::start(Install::OpenMpi4, 2, Has::OpenSsh, Has::Muster);
    job.runs_on_both(Install::OpenMpi4);
}

#[test]
fn a_launcher_with_muster_and_workers_with_openssh() {
    let job = StockJob::start(Install::OpenMpi4, 2, Has::Muster, Has::OpenSsh);
    job.runs_on_both(Install::OpenMpi4);
}

/// Idle hosts of root with one key in /root/.ssh; the last word is for what differs.
fn hosts(names: &[&str], change: impl Fn(HostSpec) -> HostSpec) -> (Lab, Vec<Host>) {
    let lab = Lab::new().unwrap();
    let key = KeyPair::generate(KeyKind::EcdsaP521).unwrap();
    let spec = |name: &&str| {
        let domain = "pi.default.svc.cluster.local";
        change(HostSpec::new(*name).domain(domain).files(key.files("/root/.ssh", 0o600)))
    };
    let hosts = lab.boot_idle(names.iter().map(spec)).unwrap();
    for host in &hosts {
        host.publish().unwrap();
    }
    (lab, hosts)
}

/// Starts sshd under that name; every host has muster's links.
fn serve(host: &Host, words: &[&str]) -> Proc {
    Has::Muster.install(host);
    let server = host.spawn(Cmd::new("/usr/sbin/sshd").args(words.iter().copied())).unwrap();
    server.wait_for_line("READY", LONG).unwrap();
    server
}

fn sh(host: &Host, line: &str) -> Output {
    host.run(Cmd::sh(line), LONG).unwrap()
}

/// The operator's default command: both ports, for ssh's clients and for muster's.
#[test]
fn sshd_without_a_port_is_found_by_ssh_and_by_muster() {
    let (lab, hosts) = hosts(&["client", "w0"], HostSpec::openssh);
    // By an image of muster's own beside the OpenSSH of this host.
    let server = hosts[1]
        .spawn(Cmd::sh(format!("cp {} /tmp/sshd && exec /tmp/sshd -De", muster().display())));
    let server = server.unwrap();
    let line = server.wait_for_line("READY", LONG).unwrap();
    assert!(line.contains(":22 ") && line.contains(":2222,"), "{line}");
    let alone = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
    assert_eq!(sh(&hosts[0], &format!("ssh {alone} w0.pi hostname")).stdout, "w0\n");
    let muster = muster().display().to_string();
    for options in ["", "-p 22", "-p 2222"] {
        let output = sh(&hosts[0], &format!("{muster} rsh {options} w0.pi hostname"));
        assert_eq!(output.stdout, "w0\n", "{options}: {output:?}");
    }
    drop(lab);
}

/// Where 22 belongs to root the other port is enough; a port that was asked for is not.
#[test]
fn sshd_of_another_user_goes_on_without_port_22() {
    let key = KeyPair::generate(KeyKind::EcdsaP521).unwrap();
    let lab = Lab::new().unwrap();
    let spec = HostSpec::new("w0").restricted(4711).files(key.files("/home/mpiuser/.ssh", 0o644));
    let host = lab.boot_idle([spec]).unwrap().remove(0);
    Has::Muster.install(&host);
    let closed = "echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let output = host.run(Cmd::sh(closed).as_lab(), LONG).unwrap();
    assert!(output.success(), "{output:?}");

    let server = host.spawn(Cmd::new("/usr/sbin/sshd").arg("-De")).unwrap();
    let line = server.wait_for_line("READY", LONG).unwrap();
    assert!(line.contains(":2222,") && !line.contains(":22 "), "{line}");
    assert!(
        server.stderr_so_far().contains("goes on without that: failed to listen on "),
        "{line}"
    );
    assert_eq!(sh(&host, "ssh localhost 'id -u'").stdout, "4711\n");

    let output = sh(&host, "/usr/sbin/sshd -De -p 22");
    assert_eq!(output.code(), 91, "{output:?}");
    assert!(output.stderr.contains("port 22 needs root"), "{output:?}");
}

#[test]
fn sshd_does_what_its_configuration_says() {
    let config = "Port 2200\nListenAddress 127.0.0.1\nPidFile /tmp/sshd.pid\nHostKey /etc/foreign\n\
        AuthorizedKeysFile /etc/keys/%u-%U\nSetEnv FROM_SSHD=\"a b\"\nAcceptEnv GIVEN_*\n\
        UsePAM yes\nPasswordAuthentication yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n";
    let (foreign, other) = (
        KeyPair::generate(KeyKind::Ed25519).unwrap(),
        KeyPair::generate(KeyKind::Ed25519).unwrap(),
    );
    let (_lab, hosts) = hosts(&["w0"], |spec| {
        spec.openssh()
            .env("USER", "root")
            .file(FileSpec::new("/tmp/config", config))
            .file(FileSpec::new("/etc/foreign", foreign.private.as_str()).mode(0o600))
            .file(FileSpec::new("/etc/other", other.private.as_str()).mode(0o600))
            .file(FileSpec::new("/etc/keys/root-0", other.public.as_str()))
            .file(FileSpec::new("/etc/known", format!("[127.0.0.1]:2200 {}", foreign.public)))
    });
    let host = &hosts[0];
    let start = format!("cp {} /tmp/sshd && exec /tmp/sshd -De -f /tmp/config", muster().display());
    let server = host.spawn(Cmd::sh(start)).unwrap();
    let line = server.wait_for_line("READY", LONG).unwrap();
    assert!(line.contains(" on 127.0.0.1:2200,"), "{line}");
    let said = server.stderr_so_far();
    assert!(said.contains("PasswordAuthentication (keys are the only way in)"), "{said}");

    // OpenSSH itself judges: the host key is the one of the file, and only the listed key opens.
    let ssh = "ssh -p 2200 -o UserKnownHostsFile=/etc/known -o StrictHostKeyChecking=yes \
        -o IdentitiesOnly=yes";
    let line = format!(
        "GIVEN_X=1 {ssh} -o SendEnv=GIVEN_X -i /etc/other 127.0.0.1 'echo $FROM_SSHD-$GIVEN_X'"
    );
    let output = sh(host, &line);
    assert_eq!(output.stdout, "a b-1\n", "{output:?}");
    let output = sh(host, &format!("{ssh} -o BatchMode=yes -i /root/.ssh/id_rsa 127.0.0.1 true"));
    assert_eq!(output.code(), 255, "{output:?}");
    assert!(output.stderr.contains("Permission denied (publickey)"), "{output:?}");

    // The file names the process to signal, and goes with it.
    let output = sh(host, "kill $(cat /tmp/sshd.pid)");
    assert!(output.success(), "{output:?}");
    assert_eq!(lab::code(server.wait(LONG).unwrap()), 143);
    assert_eq!(sh(host, "ls /tmp/sshd.pid").stdout, "");
}

/// Without -D, as in `/usr/sbin/sshd; mpiexec …`: it returns when it serves, holds nobody's output, and says why
/// where it cannot serve.
#[test]
fn sshd_goes_on_in_the_background() {
    let (_lab, hosts) = hosts(&["w0"], |spec| spec);
    let host = &hosts[0];
    Has::Muster.install(host);
    let start = "/usr/sbin/sshd -p 2222 -o PidFile=/tmp/pid";
    let output =
        sh(host, &format!("said=$({start} 2>&1); echo \"$? $said\"; ssh localhost hostname"));
    assert_eq!(output.stdout, "0 \nw0\n", "{output:?}");
    let output = sh(host, &format!("{start}; echo $?"));
    assert_eq!(output.stdout, "91\n", "{output:?}");
    assert!(output.stderr.contains("another process has port 2222"), "{output:?}");
    let output = sh(host, "kill $(cat /tmp/pid)");
    assert!(output.success(), "{output:?}");
    host.wait_until_gone("sshd", LONG).unwrap();

    // With -e its log stays where it was.
    let output = sh(host, &format!("{start} -e 2>/tmp/log; kill $(cat /tmp/pid)"));
    assert!(output.success(), "{output:?}");
    host.wait_until_gone("sshd", LONG).unwrap();
    let log = sh(host, "cat /tmp/log").stdout;
    assert!(log.contains("muster: received SIGTERM"), "{log}");
}

#[test]
fn what_sshd_cannot_honour_it_refuses_by_file_and_line() {
    let (_lab, hosts) = hosts(&["w0"], |spec| spec);
    let host = &hosts[0];
    Has::Muster.install(host);
    for (line, code, words) in [
        ("-t -f /dev/null", 0, ""),
        ("-t", 0, ""),
        ("-De -f /tmp/none", 89, "failed to read /tmp/none: No such file"),
        ("-De -f /tmp/c", 89, "failed to honour Match User bob (/tmp/c line 3): "),
        ("-t -o ForceCommand=/bin/date", 89, "failed to honour ForceCommand /bin/date (sshd's "),
        ("-t -o PermitEmptyPasswords=yes", 89, "muster lets nobody in without a key"),
        ("-t -o HostKey=/none", 88, "failed to read the job's key /none"),
        ("-t -o AuthorizedKeysFile=/none", 88, "failed to find a key that opens this worker"),
        ("-Z", 89, "sshd has no option -Z"),
    ] {
        let file = "printf '\\nUsePAM no\\nMatch User bob\\n' > /tmp/c";
        let output = sh(host, &format!("{file}; /usr/sbin/sshd {line}"));
        assert_eq!(output.code(), code, "{line}: {output:?}");
        assert!(output.stderr.contains(words), "{line}: {output:?}");
        assert_eq!(output.stderr.contains("hint: "), code != 0, "{line}: {output:?}");
        assert_eq!(output.stdout, "", "{line}: {output:?}");
    }
    for (line, stdout, stderr) in [
        ("sshd -V", "", "in place of sshd"),
        ("ssh -V", "", "in place of ssh"),
        ("sshd -?", "Serves on a worker as `muster worker` does", ""),
        ("ssh --help", "Runs a command on a host", ""),
    ] {
        let output = sh(host, line);
        assert!(output.success(), "{line}: {output:?}");
        assert!(output.stdout.starts_with(stdout), "{line}: {output:?}");
        assert!(output.stderr.contains(stderr), "{line}: {output:?}");
    }
}

#[test]
fn install_makes_links_and_takes_nothing_away() {
    let (_lab, hosts) = hosts(&["w0"], HostSpec::openssh);
    let host = &hosts[0];
    let bin = muster().display().to_string();
    let output = sh(host, &format!("{bin} install --ssh; readlink /usr/local/bin/ssh"));
    assert_eq!(output.stdout, format!("{bin}\n"), "{output:?}");
    let output = sh(host, &format!("{bin} install --ssh"));
    assert!(output.success() && output.stderr.contains("(was there)"), "{output:?}");

    // A real sshd stays, unless it is said twice.
    let output = sh(host, &format!("{bin} install"));
    assert_eq!(output.code(), 89, "{output:?}");
    assert!(output.stderr.contains("link /usr/sbin/sshd: another program is there"), "{output:?}");
    assert!(output.stderr.contains("--force"), "{output:?}");
    assert!(sh(host, "test -f /usr/sbin/sshd -a ! -L /usr/sbin/sshd").success());
    let output = sh(host, &format!("{bin} install --force; readlink /usr/sbin/sshd"));
    assert_eq!(output.stdout, format!("{bin}\n"), "{output:?}");

    let output = sh(host, &format!("PATH=/usr/bin:/usr/local/bin {bin} install --ssh"));
    assert!(output.success(), "{output:?}");
    assert!(output.stderr.contains("warning: /usr/bin/ssh comes first on PATH"), "{output:?}");
}

#[test]
fn install_says_what_to_do_where_it_may_not_write() {
    let lab = Lab::new().unwrap();
    let hosts = [HostSpec::new("user").user(1000, 1000), HostSpec::new("fixed").read_only_root()];
    let hosts = lab.boot_idle(hosts).unwrap();
    for (host, words) in
        [(&hosts[0], "run it as root while the image is built"), (&hosts[1], "RUN muster")]
    {
        let output = sh(host, &format!("{} install", muster().display()));
        assert_eq!(output.code(), 89, "{output:?}");
        assert!(output.stderr.contains(words), "{output:?}");
    }
}

/// The configuration describes a host under another name and port; the command line wins over it.
#[test]
fn ssh_reads_its_configuration() {
    let config = "Host alias\n  HostName w0.pi\n  Port 2200\n  IdentityFile ~/.ssh/id_rsa\n\
        Host slow\n  HostName 10.77.99.99\n  ConnectTimeout 1\n  ConnectionAttempts 2\n\
        Host jump\n  ProxyJump gate\n";
    let (_lab, hosts) = hosts(&["client", "w0"], |spec| {
        spec.file(FileSpec::new("/root/.ssh/config", config))
            .file(FileSpec::new("/tmp/other", "Host alias\nHostName w0.pi\nPort 9\n"))
    });
    let (client, _server) = (&hosts[0], serve(&hosts[1], &["-De", "-p", "2200"]));
    Has::Muster.install(client);
    for (line, code, stdout, stderr) in [
        ("ssh alias hostname", 0, "w0\n", ""),
        ("ssh -p 9 alias hostname", 255, "", ":9): connection refused"),
        ("ssh -F /tmp/other alias hostname", 255, "", ":9): connection refused"),
        ("ssh -F none w0.pi hostname", 255, "", ":22, and 2222 refused): connection refused"),
        ("MUSTER_PORT=2200 ssh w0.pi hostname", 0, "w0\n", ""),
        ("ssh slow hostname", 255, "", "timed out while connecting"),
        ("ssh jump hostname", 255, "", "/root/.ssh/config line 10: ProxyJump cannot be honoured"),
    ] {
        let output = sh(client, line);
        let found = (output.code(), output.stdout.as_str());
        assert_eq!(found, (code, stdout), "{line}: {output:?}");
        assert!(output.stderr.contains(stderr), "{line}: {output:?}");
    }
}

/// A stock sshd on 22 is found where nothing listens on 2222; a host that shows a wrong key there is
/// not given a second chance.
#[test]
fn ssh_looks_on_port_22_only_where_2222_is_refused() {
    let foreign = KeyPair::generate(KeyKind::Ed25519).unwrap();
    let (_lab, hosts) = hosts(&["client", "plain", "liar"], |spec| {
        let spec = if spec.short_name() == "client" { spec } else { spec.openssh() };
        spec.file(FileSpec::new("/etc/foreign", foreign.private.as_str()).mode(0o600))
    });
    let [client, plain, liar] = &hosts[..] else { unreachable!("three were asked for") };
    let _plain = Sshd::new().port(22).start(plain).unwrap();
    let _right = Sshd::new().port(22).start(liar).unwrap();
    let _wrong = Sshd::new().port(2222).host_key("/etc/foreign").start(liar).unwrap();
    Has::Muster.install(client);
    assert_eq!(sh(client, "ssh plain.pi hostname").stdout, "plain\n");
    assert_eq!(sh(client, "ssh -p 22 liar.pi hostname").stdout, "liar\n");
    let output = sh(client, "ssh liar.pi hostname");
    assert_eq!((output.code(), output.stdout.as_str()), (255, ""), "{output:?}");
    assert!(output.stderr.contains(":2222): wrong host key"), "{output:?}");
}

/// Four workers that serve as sshd, and a client with muster's ssh alone.
fn four_workers() -> (Lab, Vec<Host>, Vec<Proc>) {
    let (lab, hosts) = hosts(&["client", "w0", "w1", "w2", "w3"], |spec| spec);
    let servers = hosts[1..].iter().map(|host| serve(host, &["-De"])).collect();
    Has::Muster.install(&hosts[0]);
    (lab, hosts, servers)
}

#[test]
fn pdsh_reaches_every_host() {
    let (_lab, hosts, _servers) = four_workers();
    // As DeepSpeed starts it: the fan-out, the largest exit code, variables and a directory first.
    let pdsh = "PDSH_RCMD_TYPE=ssh PDSH_SSH_ARGS_APPEND='-o StrictHostKeyChecking=no' \
        pdsh -S -f 1024 -w w0.pi,w1.pi,w2.pi,w3.pi";
    let output =
        sh(&hosts[0], &format!("{pdsh} export A=b\\; cd /tmp\\; 'echo $A $PWD $(hostname) %n'"));
    assert!(output.success(), "{output:?}");
    let lines: BTreeSet<&str> = output.stdout.lines().collect();
    let expected: Vec<String> = (0..4).map(|n| format!("w{n}: b /tmp w{n} {n}")).collect();
    assert_eq!(lines, expected.iter().map(String::as_str).collect(), "{output:?}");

    let output = sh(&hosts[0], &format!("{pdsh} 'hostname | grep -q w2 && exit 7; true'"));
    assert_eq!(output.code(), 7, "{output:?}");
    // It ends its commands by a signal to ssh, and they end with it.
    let job =
        hosts[0].spawn(Cmd::sh(format!("exec env {pdsh} 'echo up; exec sleep 1000'"))).unwrap();
    for n in 0..4 {
        job.wait_for_line(&format!("w{n}: up"), LONG).unwrap();
    }
    let output = sh(&hosts[0], &format!("{pdsh} \"pkill -f '[s]leep 1000'\""));
    assert!(output.success(), "{output:?}");
    let output = job.output(LONG).unwrap();
    assert_eq!(output.code(), 143, "{output:?}");
}

#[test]
fn rsync_copies_both_ways() {
    let (_lab, hosts, _servers) = four_workers();
    let line = "set -e; mkdir -p /tmp/in/sub /tmp/back; head -c 20000000 /dev/urandom > /tmp/in/big\n\
        printf 'a\\0b\\n' > '/tmp/in/sub/odd name'; ln -s big /tmp/in/link; : > /tmp/in/empty\n\
        rsync -a -e ssh /tmp/in/ w0.pi:/tmp/out/\n\
        rsync -a w0.pi:/tmp/out/ /tmp/back/\n\
        diff -r --no-dereference /tmp/in /tmp/back && echo same\n\
        echo more >> /tmp/in/big; rsync -az --delete -e 'ssh -p 2222' /tmp/in/ root@w0.pi:/tmp/out/\n\
        ssh w0.pi 'cd /tmp/out; cat big' | cmp - /tmp/in/big && echo same\n\
        set +e; rsync -a w0.pi:/no/such /tmp/; test $? = 23 && echo missed";
    let output = sh(&hosts[0], line);
    assert_eq!(output.stdout, "same\nsame\nmissed\n", "{output:?}");
}

/// The words of horovodrun's check of its hosts and of its launch, and of DeepSpeed's look at the first host, as
/// both put them to a shell, with the options that tests/launchers.rs, which runs both, has no need of.
#[test]
fn horovod_and_deepspeed_find_what_they_look_for() {
    let (_lab, hosts, _servers) = four_workers();
    let horovod = "ssh -o PasswordAuthentication=no -o StrictHostKeyChecking=no";
    for (line, expected) in [
        (format!("{horovod} w0.pi   true; echo $?"), "0\n"),
        (
            format!(
                "{horovod} -o ConnectTimeout=10 w0.pi -p 2222 -i /root/.ssh/id_rsa true; echo $?"
            ),
            "0\n",
        ),
        (format!("{horovod} none.pi   true 2>/dev/null; echo $?"), "255\n"),
        (
            format!(
                "{horovod} w1.pi -p 2222  'cd /tmp >/dev/null 2>&1 ; HOROVOD_RANK=1 sh -c '\"'\"'echo $HOROVOD_RANK $PWD'\"'\"''"
            ),
            "1 /tmp\n",
        ),
        (
            "ssh -o PasswordAuthentication=no w2.pi hostname -I | cut -d. -f1-2".to_owned(),
            "10.77\n",
        ),
        (
            "ssh -o PasswordAuthentication=no -p 2222 w3.pi 'which sh >/dev/null && hostname'"
                .to_owned(),
            "w3\n",
        ),
    ] {
        let output = sh(&hosts[0], &line);
        assert_eq!(output.stdout, expected, "{line}: {output:?}");
    }
}

#[test]
fn lint_image_knows_a_good_image_from_a_bad_one() {
    let lab = Lab::new().unwrap();
    let spec = |name: &str| HostSpec::new(name).mpi(Install::Mpich4);
    let hosts = lab
        .boot_idle([
            spec("good"),
            spec("bad").openssh(),
            HostSpec::new("none").without("/usr/bin/mpirun"),
        ])
        .unwrap();
    // A copy, because the way to a build's directory is not open to every UID.
    let put = format!(
        "cp {} /usr/local/bin/muster && chmod 755 /usr/local/bin/muster",
        muster().display()
    );
    for host in &hosts {
        assert!(sh(host, &put).success());
    }
    let good =
        sh(&hosts[0], "muster install 2>/dev/null && rm -rf /home/mpiuser && muster lint-image");
    assert!(good.success(), "{good:?}");
    assert!(good.stdout.starts_with("ok       /usr/bin/mpirun: MPICH 4.0"), "{good:?}");
    assert!(good.stdout.contains("\nok       /usr/sbin/sshd: sshd is muster\n"), "{good:?}");

    // OpenSSH's ssh hides muster's, its server is still there with its keys.
    let line = "muster install --ssh 2>/dev/null; chmod 700 /usr/bin/mpirun.mpich; mkdir -p /run/sshd\n\
        : > /etc/ssh/ssh_host_rsa_key; PATH=/usr/bin:/usr/local/bin:/bin; muster lint-image; echo $?";
    let bad = sh(&hosts[1], line);
    for words in [
        ": cannot be run by any UID\n         hint: chmod o+rx /usr/bin/mpi",
        "error    /usr/bin/ssh: comes first on PATH, before muster's /usr/local/bin/ssh",
        "warning  /usr/sbin/sshd: OpenSSH's server is still here",
        "warning  /etc/ssh/ssh_host_rsa_key: a private host key",
        "warning  /run/sshd: ",
    ] {
        assert!(bad.stdout.contains(words), "{words}: {bad:?}");
    }
    assert!(bad.stdout.ends_with("warnings\n89\n"), "{bad:?}");

    let none = sh(&hosts[2], "rm -f /usr/bin/mpi* /usr/bin/orte*; muster lint-image --format json");
    assert_eq!(none.code(), 89, "{none:?}");
    let json: serde_json::Value = serde_json::from_str(&none.stdout).unwrap();
    assert_eq!(json["fine"], false);
    assert_eq!(json["findings"][0]["level"], "error");
    assert!(json["findings"][0]["what"].as_str().unwrap().starts_with("no MPI: "), "{json}");
}

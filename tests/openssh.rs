//! Promise: muster and OpenSSH understand each other, either way round, so images migrate one at a time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lab::openssh::{CLIENT, Sshd, agent, mpirun};
use lab::{Cmd, FileSpec, Host, HostSpec, Install, KeyKind, KeyPair, Lab, MpiJob, Signal};
use muster_tests::{Cluster, LONG, Pair, muster, over_sshd, run_muster};

/// A worker ends what a peer left behind after its orphan grace of 3 s.
const SOON: Duration = Duration::from_secs(15);

/// Exit codes, both streams, the words of a shell, a large echo.
const BATTERY: &str = r#"
$1 $w 'echo out; echo err >&2; exit 7' >/tmp/out 2>/tmp/err; test $? = 7 || echo "exit code"
test "$(cat /tmp/out)" = out || echo "stdout: $(cat /tmp/out)"
test "$(cat /tmp/err)" = err || echo "stderr: $(cat /tmp/err)"
test "$($1 -n $w 'cat; echo over')" = over || echo "stdin of -n"
test "$($1 $w 'a=1; echo "$a  $(echo two)" | cat')" = '1  two' || echo "not a shell's words"
$1 $w 'no-such-program' 2>/dev/null </dev/null; test $? = 127 || echo "missing program"
head -c 67108864 /dev/urandom >/tmp/in
$1 $w cat </tmp/in | cmp - /tmp/in || echo "64 MiB"
$1 $w 'cat >/dev/null; head -c 3000000 /dev/zero >&2' </dev/null 2>&1 | wc -c | grep -qx 3000000 ||
    echo "3 MB of stderr"
echo done
"#;

fn battery(pair: &Pair, with: &str) {
    let output = pair.sh(&format!("set -- {with}\n{BATTERY}"));
    assert_eq!(output.stdout, "done\n", "{with}: {output:?}");
}

#[test]
fn every_kind_of_key_opens_a_worker() {
    for kind in KeyKind::ALL {
        let pair = Pair::start(kind);
        for with in ["ssh", "rsh"] {
            let output = pair.sh(&format!("{with} $w 'id -u; hostname; exit 3'"));
            let expected = ("0\nw0\n", 3);
            assert_eq!((output.stdout.as_str(), output.code()), expected, "{kind:?}: {output:?}");
        }
    }
}

#[test]
fn ssh_and_rsh_run_commands_on_a_worker() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    battery(&pair, "ssh");
    battery(&pair, "rsh");

    // Nothing of the server's own is left open in a command: it has what any process here has.
    let list = "ls /proc/self/fd";
    let given = pair.worker.run(Cmd::sh(list), LONG).unwrap();
    for with in ["ssh", "rsh"] {
        let output = pair.sh(&format!("{with} $w '{list}' </dev/null"));
        assert_eq!(output.stdout, given.stdout, "{with}: {output:?}");
    }

    // ssh has no code for a signal; what the wire says shows with -v.
    let output = pair.sh("ssh -v $w 'kill -TERM $$'");
    assert_eq!(output.code(), 255, "{output:?}");
    assert!(output.stderr.contains("rtype exit-signal"), "{output:?}");
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139), ("USR2", 140)] {
        let output = pair.sh(&format!("rsh $w 'kill -{signal} $$'"));
        assert_eq!(output.code(), code, "{output:?}");
    }
}

#[test]
fn a_client_sets_the_variables_on_the_list_and_no_other() {
    let pair = Pair::start(KeyKind::Ed25519);
    for with in ["ssh", "rsh"] {
        let output = pair.sh(&format!(
            "{with} -o SetEnv='OMPI_MCA_x=1 FOO=2 LD_PRELOAD=/x.so MUSTER_SESSION=mine' $w \
             'echo $OMPI_MCA_x-$FOO-$LD_PRELOAD; echo $MUSTER_SESSION | grep -c mine'"
        ));
        // OpenSSH takes one variable a word; rsh reads the same.
        assert!(output.stdout.starts_with("1--\n0"), "{with}: {output:?}");
        // What is refused does not touch the command, whatever comes first and last.
        let refused: String = (0..60).map(|number| format!("FOO{number}=x ")).collect();
        let output = pair.sh(&format!("{with} -o SetEnv='{refused}' $w 'echo $FOO1-ran'"));
        assert_eq!(output.stdout, "-ran\n", "{with}: {output:?}");
    }
}

#[test]
fn what_a_worker_does_not_do_it_refuses_politely() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    for (line, code, word) in [
        ("ssh -tt $w 'echo ran'", 255, "PTY allocation request failed"),
        ("ssh $w </dev/null", 255, "shell request failed"),
        ("scp $options /etc/hosts $w:/tmp/x", 255, "subsystem request failed"),
        ("echo ls | sftp $options $w", 255, "subsystem request failed"),
        ("ssh -o ExitOnForwardFailure=yes -R 9:localhost:22 $w true", 255, "forwarding failed"),
        // Some clients send a locale by default, and do not wait for one answer before the next request.
        ("LC_ALL=C.UTF-8 ssh -o SendEnv=LC_ALL $w </dev/null", 255, "shell request failed"),
        ("ssh -o SetEnv=FOO=x $w 'echo ran'", 0, ""),
        ("eval $(ssh-agent); ssh -A $w 'echo ran'", 0, ""),
    ] {
        let options = CLIENT.join(" ");
        let output = pair.sh(&format!("options='{options} -P 2222'\n{line}"));
        assert_eq!(output.code(), code, "{line}: {output:?}");
        assert!(output.stderr.contains(word), "{line}: {output:?}");
        assert_eq!(output.stdout.contains("ran"), code == 0, "{line}: {output:?}");
    }
    // A forwarded connection is refused, the connection that asked for it lives on.
    let output = pair.sh(
        "mkfifo /tmp/p; ssh -L 9999:127.0.0.1:2222 $w 'echo up; cat; echo alive' </tmp/p >/tmp/o \
         & exec 3>/tmp/p; until grep -q up /tmp/o 2>/dev/null; do :; done\n\
         timeout 5 ssh -p 9999 127.0.0.1 true 2>/dev/null; echo $?; exec 3>&-; wait; cat /tmp/o",
    );
    assert!(output.stdout.starts_with("255\nup\nalive\n"), "{output:?}");
    // No session at all.
    let idle = pair.client.spawn(pair.line("exec 2>&1; ssh -v -N $w")).unwrap();
    idle.wait_for_line("Entering interactive session", LONG).unwrap();
    idle.signal_group(Signal::SIGTERM);
    idle.wait(LONG).unwrap();
    battery(&pair, "rsh");
}

#[test]
fn another_key_is_refused() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    let other = KeyPair::generate(KeyKind::EcdsaP521).unwrap();
    std::fs::write(pair.lab.shared_dir().join("other"), &other.private).unwrap();
    let key = pair.lab.shared_dir().join("other").display().to_string();
    let alone = "-o IdentitiesOnly=yes -o IdentityAgent=none";
    let output =
        pair.sh(&format!("cp {key} /tmp/k; chmod 600 /tmp/k; ssh {alone} -i /tmp/k $w id"));
    assert_eq!(output.code(), 255, "{output:?}");
    assert!(output.stderr.contains("Permission denied (publickey)"), "{output:?}");
    // The worker's host key is the job's, which is not this one.
    let output = pair.sh("rsh -i /tmp/k $w id");
    assert_eq!(output.code(), 255, "{output:?}");
    assert!(output.stderr.contains("wrong host key"), "{output:?}");
    let output = pair.sh("MUSTER_HOST_KEY=any rsh -i /tmp/k $w id");
    assert_eq!(output.code(), 255, "{output:?}");
    assert!(output.stderr.contains("key refused"), "{output:?}");
    let output = pair.sh("ssh -o PubkeyAuthentication=no -o PasswordAuthentication=yes $w id");
    assert!(output.stderr.contains("Permission denied (publickey)"), "{output:?}");
}

#[test]
fn many_commands_share_one_connection() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    let output =
        pair.sh("mux='-o ControlMaster=auto -o ControlPath=/tmp/mux -o ControlPersist=300'\n\
         head -c 8388608 /dev/urandom >/tmp/in\n\
         ssh $mux $w true 2>/dev/null\n\
         for i in 1 2 3 4 5 6 7 8; do\n\
           { ssh $mux $w cat </tmp/in | cmp - /tmp/in && echo same; } & all=\"$all $!\"\n\
         done\n\
         wait $all\n\
         # Nobody reads this one's input; the others' small ones get through.\n\
         ssh $mux $w 'exec sleep 1000' </dev/zero & deaf=$!\n\
         for i in 1 2 3 4; do echo hello | ssh $mux $w \"cat; exit $i\"; echo $?; done\n\
         kill $deaf; wait $deaf 2>/dev/null\n\
         ssh $mux -O exit $w 2>/dev/null");
    let small: String = (1..=4).map(|code| format!("hello\n{code}\n")).collect();
    assert_eq!(output.stdout, "same\n".repeat(8) + &small, "{output:?}");
    pair.worker.wait_until_gone("sleep 1000", SOON).unwrap();
}

/// In a launch all remote commands of a host share the engine's one connection to it.
#[test]
fn many_commands_share_the_connection_of_a_launch() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    // Stands in for an mpirun that has much to say to its daemons.
    let mpirun = "#!/bin/sh\n\
        case $1 in --version) echo 'mpirun (Open MPI) 4.1.4'; exit;; esac\n\
        for i in 1 2 3 4 5 6 7 8; do\n\
          { $M rsh w0.pi cat </tmp/in | cmp - /tmp/in && echo same; } & all=\"$all $!\"\n\
        done\n\
        wait $all; $M rsh w0.pi 'exit 7'; echo $?; $M rsh -n client.pi 'kill -9 $$'; echo $?\n\
        echo hello | $M rsh client.pi 'cat; exit 3'; echo $?; $M rsh w0.pi cat </dev/null\n\
        # Input that comes late, and some that never comes but hangs up.\n\
        mkfifo /tmp/late; late() { $M rsh w0.pi 'echo up; cat; echo over' </tmp/late; }\n\
        late | { exec 3>/tmp/late; read up; echo $up late >&3; exec 3>&-; cat; }\n\
        late | { exec 3>/tmp/late; read up; exec 3>&-; cat; }\n\
        ls /proc/self/fd | tr '\\n' ' '";
    let script = pair.lab.shared_dir().join("mpirun");
    std::fs::write(&script, mpirun).unwrap();
    let (script, muster) = (script.display(), muster().display().to_string());
    let output = pair.sh(&format!(
        "cp {script} /tmp/mpirun; chmod 755 /tmp/mpirun; head -c 16777216 /dev/urandom >/tmp/in\n\
         ls /proc/self/fd | tr '\\n' ' '; echo; export M={muster}\n\
         {muster} launch --hosts w0.pi -- /tmp/mpirun x"
    ));
    let (given, rest) = output.stdout.split_once('\n').unwrap();
    let expected = "same\n".repeat(8) + "7\n137\nhello\n3\nup late\nover\nover\n" + given;
    assert_eq!(rest, expected, "{output:?}");
}

/// A launch's connection serves who asks for it in as many words, and nobody who asks for another way.
#[test]
fn another_port_user_key_or_host_is_not_that_of_the_launch() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    // Stands in for an mpirun with arguments for its agents; `x` shows whose connection it is.
    let mpirun = "#!/bin/sh\n\
        case $1 in --version) echo 'mpirun (Open MPI) 4.1.4'; exit;; esac\n\
        x='echo $MUSTER_SESSION'; own=$($M rsh w0.pi \"$x\")\n\
        echo 'Port 9' >/tmp/config\n\
        try() { got=$($M rsh $1 \"$x\" 2>/tmp/err); code=$?\n\
          if [ \"$got\" = \"$own\" ]; then echo \"$1: own\"; else echo \"$1: $code $got$(head -1 /tmp/err)\"; fi; }\n\
        try '-x -o ConnectionAttempts=10 w0.pi'; try '-p 2222 -l somebody -i ~/.ssh/id_rsa w0.pi'\n\
        try '-o HostName=w0.pi nobody'; try '-p 2222 client.pi'\n\
        try '-p 9 w0.pi'; try '-F /tmp/config w0.pi'; try '-i /nokey w0.pi'\n\
        try '-o HostName=elsewhere w0.pi'; try '-p 9 client.pi'";
    let script = pair.lab.shared_dir().join("mpirun");
    std::fs::write(&script, mpirun).unwrap();
    let (script, muster) = (script.display(), muster().display().to_string());
    let output = pair.sh(&format!(
        "cp {script} /tmp/mpirun; chmod 755 /tmp/mpirun; export M={muster}\n\
         {muster} launch --hosts w0.pi -- /tmp/mpirun x"
    ));
    let said: Vec<&str> = output.stdout.lines().collect();
    let expected = [
        "-x -o ConnectionAttempts=10 w0.pi: own",
        "-p 2222 -l somebody -i ~/.ssh/id_rsa w0.pi: own",
        "-o HostName=w0.pi nobody: own",
        // The launcher's own host, where the engine itself runs the command.
        "-p 2222 client.pi: 0 launcher",
        "-p 9 w0.pi: 255 muster: rsh: failed to connect to w0.pi (",
        "-F /tmp/config w0.pi: 255 muster: rsh: failed to connect to w0.pi (",
        "-i /nokey w0.pi: 255 muster: rsh: failed to read the job's key /nokey: No such file",
        "-o HostName=elsewhere w0.pi: 255 muster: rsh: failed to resolve elsewhere: no such name",
        "-p 9 client.pi: 255 muster: rsh: failed to resolve client.pi: no such name",
    ];
    assert_eq!(said.len(), expected.len(), "{output:?}");
    for (said, expected) in said.into_iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn who_is_told_to_stop_says_so() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    let line = format!("exec {} rsh w0.pi 'echo up; exec sleep 1000'", muster().display());
    let client = pair.client.spawn(Cmd::sh(line)).unwrap();
    client.wait_for_line("up", LONG).unwrap();
    client.signal(Signal::SIGTERM);
    let output = client.output(LONG).unwrap();
    assert_eq!(output.code(), 255, "{output:?}");
    let words = "muster: rsh: failed to run the command to its end: a signal told to stop\n";
    assert_eq!(output.stderr, words);
}

#[test]
fn a_peer_that_leaves_takes_its_command_along() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    for with in ["ssh", "rsh"] {
        for input in ["/dev/null", "/dev/zero"] {
            let line = format!("{with} $w 'echo up; exec sleep 1000' <{input} 2>&1");
            let client = pair.client.spawn(pair.line(&line)).unwrap();
            client.wait_for_line("up", LONG).unwrap();
            client.signal_group(Signal::SIGKILL);
            pair.worker.wait_until_gone("sleep 1000", SOON).unwrap();
        }
    }
}

#[test]
fn a_worker_that_is_stopped_tells_how_its_commands_ended() {
    for with in ["ssh", "rsh"] {
        let pair = Pair::start(KeyKind::EcdsaP521);
        let line = format!(
            "{with} $w 'trap \"echo bye; exit 7\" TERM; echo up; while :; do sleep 0.1; done'"
        );
        let client = pair.client.spawn(pair.line(&line)).unwrap();
        client.wait_for_line("up", LONG).unwrap();
        pair.server.signal(Signal::SIGTERM);
        let output = client.output(LONG).unwrap();
        let expected = ("up\nbye\n", 7);
        assert_eq!((output.stdout.as_str(), output.code()), expected, "{with}: {output:?}");
        assert_eq!(lab::code(pair.server.wait(LONG).unwrap()), 143);
    }
}

/// Two hosts with OpenSSH and this job's key; on the second a real sshd.
struct Stock {
    lab: Lab,
    client: Host,
}

impl Stock {
    fn start(kind: KeyKind, change: impl Fn(Sshd) -> Sshd) -> Self {
        let lab = Lab::new().unwrap();
        let (key, foreign) =
            (KeyPair::generate(kind).unwrap(), KeyPair::generate(KeyKind::Ed25519).unwrap());
        let spec = |name: &str| {
            HostSpec::new(name)
                .domain("pi.default.svc.cluster.local")
                .openssh()
                .files(key.files("/root/.ssh", 0o600))
                .file(FileSpec::new("/etc/foreign", foreign.private.as_str()).mode(0o600))
        };
        let mut hosts = lab.boot_idle([spec("client"), spec("w0")]).unwrap();
        hosts[1].publish().unwrap();
        change(Sshd::new().port(2222)).start(&hosts[1]).unwrap();
        std::fs::write(lab.shared_dir().join("foreign.pub"), foreign.public).unwrap();
        Self { lab, client: hosts.remove(0) }
    }

    fn rsh(&self, before: &str, words: &str) -> lab::Output {
        let muster = muster().display().to_string();
        self.client.run(Cmd::sh(format!("{before} {muster} rsh {words}")), LONG).unwrap()
    }
}

#[test]
fn rsh_runs_commands_on_a_stock_sshd() {
    for kind in KeyKind::ALL {
        let stock = Stock::start(kind, |sshd| sshd.setting("AcceptEnv=OMPI_*"));
        let muster = muster().display().to_string();
        let line = format!("rsh() {{ {muster} rsh \"$@\"; }}\nw=w0.pi\nset -- rsh\n{BATTERY}");
        let output = stock.client.run(Cmd::sh(line), LONG).unwrap();
        assert_eq!(output.stdout, "done\n", "{kind:?}: {output:?}");
        let output = stock.rsh("", "w0.pi 'kill -TERM $$'");
        assert_eq!(output.code(), 143, "{output:?}");
        let output = stock.rsh("", "-o SetEnv=OMPI_MCA_x=1 w0.pi 'echo $OMPI_MCA_x'");
        assert_eq!(output.stdout, "1\n", "{output:?}");
    }
}

#[test]
fn a_foreign_host_key_is_believed_only_on_request() {
    let stock = Stock::start(KeyKind::EcdsaP521, |sshd| sshd.host_key("/etc/foreign"));
    let output = stock.rsh("", "w0.pi hostname");
    assert_eq!((output.code(), output.stdout.as_str()), (255, ""), "{output:?}");
    let first = output.stderr.lines().next().unwrap();
    assert!(first.starts_with("muster: rsh: failed to connect to w0.pi (10.77."), "{output:?}");
    assert!(first.ends_with(": wrong host key"), "{output:?}");
    assert!(output.stderr.contains("hint: a stock sshd shows a key of its own"), "{output:?}");

    let output = stock.rsh("MUSTER_HOST_KEY=known-hosts", "w0.pi hostname");
    assert_eq!(output.code(), 255, "{output:?}");
    assert!(
        output.stderr.contains("hint: list the host's key in ~/.ssh/known_hosts"),
        "{output:?}"
    );
    let known = stock.lab.shared_dir().join("foreign.pub");
    let line = format!(
        "echo \"[w0.pi]:2222 $(cat {})\" >/root/.ssh/known_hosts; MUSTER_HOST_KEY=known-hosts",
        known.display()
    );
    assert_eq!(stock.rsh(&line, "w0.pi hostname").stdout, "w0\n");
    assert_eq!(stock.rsh("MUSTER_HOST_KEY=any", "w0.pi hostname").stdout, "w0\n");
    let output = stock.rsh("MUSTER_HOST_KEY=maybe", "w0.pi hostname");
    assert_eq!(output.code(), 255, "{output:?}");
    assert!(output.stderr.contains("MUSTER_HOST_KEY"), "{output:?}");
}

#[test]
fn rsh_says_in_one_line_why_it_reached_nobody() {
    let stock = Stock::start(KeyKind::EcdsaP521, |sshd| sshd.port(22));
    for (before, words, expected) in [
        ("", "-p 9 w0.pi id", ":9): connection refused"),
        ("", "nobody.pi id", "failed to resolve nobody.pi: "),
        ("", "-o ConnectTimeout=1 10.77.99.99 id", "failed to connect to 10.77.99.99 ("),
        ("MUSTER_KEY_DIR=/etc/ssh", "w0.pi id", "failed to find the job's key: no id_rsa"),
        ("", "-i /etc/foreign -p 22 w0.pi id", "wrong host key"),
        ("MUSTER_HOST_KEY=any", "-i /etc/foreign -p 22 w0.pi id", "key refused"),
        ("MUSTER_PORT=x", "w0.pi id", "failed to read MUSTER_PORT: 'x' is not a port number"),
        ("", "w0.pi", "failed to run a command on w0.pi: none given"),
        ("", "-W a:1 w0.pi id", "failed to honour -W"),
    ] {
        let output = stock.rsh(before, words);
        assert_eq!(output.code(), 255, "{words}: {output:?}");
        assert_eq!(output.stdout, "", "{words}");
        let mut lines = output.stderr.lines();
        let first = lines.next().unwrap();
        assert!(first.starts_with("muster: rsh: failed to "), "{words}: {output:?}");
        assert!(first.contains(expected), "{words}: {output:?}");
        assert!(lines.all(|line| line.starts_with("muster: hint: ")), "{words}: {output:?}");
        assert!(output.elapsed < Duration::from_secs(8), "{words}: {output:?}");
    }
}

/// Workers with the real sshd, which lets one session at a time in, and a launcher with muster.
fn launch_over_plain_sshd(install: Install) {
    let job = MpiJob::new("pi", install, 2).unwrap().slots(2);
    let (_lab, _workers, launcher) = over_sshd(&job);
    launcher.publish().unwrap();
    let program = install.program("ranks").display().to_string();
    let output = launcher.run(run_muster(["launch", "--", &program, "hello"]), LONG).unwrap();
    assert!(output.success(), "{output:?}");
    for host in ["pi-worker-0", "pi-worker-1"] {
        let said = format!(" of 4 on {host}");
        assert_eq!(output.stdout.matches(&said).count(), 2, "{output:?}");
    }
}

#[test]
fn open_mpi_launches_over_plain_sshd() {
    launch_over_plain_sshd(Install::OpenMpi4);
}

#[test]
fn mpich_launches_over_plain_sshd() {
    launch_over_plain_sshd(Install::Mpich4);
}

/// The operator's own launcher: mpirun and OpenSSH's ssh, only the workers have changed.
fn stock_mpirun_reaches_muster_workers(install: Install) {
    let job = MpiJob::new("pi", install, 2).unwrap().slots(2);
    let cluster = Cluster::start_with(&job, |spec| spec.openssh().file(agent(2222)));
    let program = install.program("ranks").display().to_string();
    let mpirun = mpirun(install).args(["-n", "4", &program, "hello"]);
    let output = cluster.launcher.run(mpirun, LONG).unwrap();
    assert!(output.success(), "{output:?}");
    for host in ["pi-worker-0", "pi-worker-1"] {
        let said = format!(" of 4 on {host}");
        assert_eq!(output.stdout.matches(&said).count(), 2, "{output:?}");
    }
}

#[test]
fn stock_open_mpi_with_ssh_reaches_muster_workers() {
    stock_mpirun_reaches_muster_workers(Install::OpenMpi4);
}

#[test]
fn stock_mpich_with_ssh_reaches_muster_workers() {
    stock_mpirun_reaches_muster_workers(Install::Mpich4);
}

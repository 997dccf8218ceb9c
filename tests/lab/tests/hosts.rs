//! What a host is: its identity, its files, its limits, and that a kill is the end of it.
//!
//! Needs root and Debian's base tools; no MPI, no muster.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lab::{Caps, Cmd, FileSpec, HostSpec, Lab, LabError, Signal, Stream};

const SOON: Duration = Duration::from_secs(10);

fn stdout(host: &lab::Host, line: &str) -> String {
    let output = host.run(Cmd::sh(line), SOON).unwrap();
    assert!(output.success(), "{line}: {output:?}");
    output.stdout.trim().to_owned()
}

#[test]
fn a_host_looks_like_a_container() {
    let lab = Lab::new().unwrap();
    let spec =
        HostSpec::new("pi-worker-0").domain("pi.default.svc.cluster.local").env("ROLE", "worker");
    let host = lab.boot_idle([spec]).unwrap().remove(0);
    assert_eq!(stdout(&host, "hostname"), "pi-worker-0");
    assert_eq!(stdout(&host, "hostname -f"), "pi-worker-0.pi.default.svc.cluster.local");
    assert_eq!(stdout(&host, "cat /proc/1/comm"), "sleep");
    assert_eq!(stdout(&host, "echo $ROLE $HOME $HOSTNAME"), "worker /root pi-worker-0");
    assert_eq!(stdout(&host, "ls /sys/class/net | sort | xargs"), "eth0 lo");
    assert_eq!(
        stdout(
            &host,
            "ls /tmp /run /root /home /etc/mpi /root/.ssh 2>/dev/null | grep -v : | grep -v target | xargs"
        ),
        ""
    );
    assert_eq!(stdout(&host, "stat -c %a /tmp"), "1777");
    assert_eq!(
        stdout(&host, "cat /etc/resolv.conf | tail -n 2"),
        "nameserver 10.77.0.1\noptions ndots:5"
    );
    assert_eq!(stdout(&host, "grep CapEff /proc/self/status | cut -f 2"), "00000000a80425fb");
    assert_eq!(stdout(&host, "command -v ssh sshd scp || echo none"), "none");
    assert!(stdout(&host, "ls /proc | grep -c '^[0-9]'").parse::<i32>().unwrap() < 8);
    host.run(Cmd::sh("echo gone > /dev/termination-log"), SOON).unwrap();
    assert_eq!(host.termination_log(), "gone\n");
}

#[test]
fn what_a_host_writes_stays_in_it() {
    let lab = Lab::new().unwrap();
    let hosts = lab.boot_idle(["a", "b"].map(HostSpec::new)).unwrap();
    stdout(&hosts[0], "echo mine | tee /etc/lab-test /usr/bin/lab-test /opt/lab-test");
    assert_eq!(
        stdout(
            &hosts[1],
            "ls /etc/lab-test /usr/bin/lab-test /opt/lab-test 2>&1 | grep -c 'No such'"
        ),
        "3"
    );
    assert!(!std::path::Path::new("/etc/lab-test").exists());
    std::fs::write(lab.shared_dir().join("note"), "for all").unwrap();
    assert_eq!(stdout(&hosts[1], &format!("cat {}/note", lab.shared_dir().display())), "for all");
}

#[test]
fn restricted_read_only_host() {
    let lab = Lab::new().unwrap();
    let key = FileSpec::new("/home/mpiuser/.ssh/id_rsa", "secret").mode(0o640);
    let spec =
        HostSpec::new("w").restricted(64321).read_only_root().home("/home/mpiuser").file(key);
    let host = lab.boot_idle([spec]).unwrap().remove(0);
    assert_eq!(stdout(&host, "id -u; id -g; id -G"), "64321\n64321\n64321");
    assert_eq!(stdout(&host, "whoami 2>&1 || true"), "whoami: cannot find name for user ID 64321");
    assert_eq!(
        stdout(&host, "grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/self/status | cut -f 2 | xargs"),
        "0000000000000000 0000000000000000 1"
    );
    assert_eq!(stdout(&host, "cat /home/mpiuser/.ssh/id_rsa"), "secret");
    assert_eq!(stdout(&host, "touch /etc/x /home/mpiuser/x /x 2>&1 | grep -c Read-only"), "3");
    assert_eq!(stdout(&host, "touch /tmp/x /dev/shm/x && echo ok"), "ok");
    let program = std::env::current_exe().unwrap();
    assert_eq!(
        stdout(&host, &format!("test -x {} && echo ok", program.display())),
        "ok",
        "build outputs are reachable"
    );
}

#[test]
fn all_capabilities_when_asked() {
    let lab = Lab::new().unwrap();
    let host = lab.boot_idle([HostSpec::new("w").caps(Caps::All)]).unwrap().remove(0);
    assert_ne!(stdout(&host, "grep CapEff /proc/self/status | cut -f 2"), "00000000a80425fb");
}

#[test]
fn pid_1_is_what_was_booted_and_its_end_is_seen() {
    let lab = Lab::new().unwrap();
    let host = lab.add(HostSpec::new("w")).unwrap();
    let first = host.boot(Cmd::sh("echo I am $$; echo oops >&2; sleep 0.1; exit 7")).unwrap();
    assert_eq!(first.wait_for_line("I am", SOON).unwrap(), "I am 1");
    let output = first.output(SOON).unwrap();
    assert_eq!((output.code(), output.stderr.as_str()), (7, "oops\n"));
    assert!(matches!(host.run(Cmd::new("true"), SOON), Err(LabError::Down { .. })));
    host.boot_idle().unwrap();
    assert!(host.run(Cmd::new("true"), SOON).unwrap().success(), "a host can be booted again");
    assert!(matches!(host.boot_idle(), Err(LabError::Up { .. })));
}

#[test]
fn a_kill_is_the_end_of_every_process() {
    let lab = Lab::new().unwrap();
    let host = lab.boot_idle([HostSpec::new("w")]).unwrap().remove(0);
    let daemons = host
        .spawn(Cmd::sh("for i in 1 2 3; do setsid sleep 777 & done; echo READY; sleep 778"))
        .unwrap();
    daemons.wait_for_line("READY", SOON).unwrap();
    let found = host
        .wait_for_processes("four sleeps", SOON, |all| {
            // A fork of the shell has the shell's words until it becomes what it is to run.
            let sleeps = |words: &str| all.iter().filter(|p| p.cmdline == words).count();
            sleeps("sleep 777") == 3 && sleeps("sleep 778") == 1
        })
        .unwrap();
    assert_eq!((found[0].pid, found[0].ppid, found[0].cmdline.as_str()), (1, 0, "sleep infinity"));
    assert_eq!(
        host.kill_matching("sleep 777", Signal::SIGTERM),
        3 + 1,
        "three sleeps and the shell that names them"
    );
    host.wait_until_gone("sleep 777", SOON).unwrap();
    host.spawn(Cmd::sh("setsid sleep 779 & echo READY; wait"))
        .unwrap()
        .wait_for_line("READY", SOON)
        .unwrap();
    host.kill().unwrap();
    assert!(
        found.iter().all(|info| !std::path::Path::new(&format!("/proc/{}", info.outer)).exists())
    );
    assert_eq!(host.processes(), []);
}

#[test]
fn orphans_are_reaped_by_an_idle_host() {
    let lab = Lab::new().unwrap();
    let host = lab.boot_idle([HostSpec::new("w")]).unwrap().remove(0);
    stdout(&host, "(setsid sh -c 'exec sleep 0.05' &) ; true");
    host.wait_for_processes("only PID 1", SOON, |all| all.len() == 1).unwrap();
}

#[test]
fn a_memory_limit_really_kills() {
    let lab = Lab::new().unwrap();
    let hosts =
        lab.boot_idle([HostSpec::new("small").memory(64 << 20), HostSpec::new("large")]).unwrap();
    let eat = Cmd::sh("head -c 200000000 /dev/zero | tail -n 1 | wc -c");
    let killed = hosts[0].run(Cmd::new("sh").args(["-c", "tail /dev/zero"]), SOON).unwrap();
    assert_eq!(killed.code(), 137, "{killed:?}");
    assert_eq!(hosts[0].oom_kills(), Some(1));
    assert!(hosts[0].is_up());
    assert!(hosts[1].run(eat, SOON).unwrap().success());
    assert_eq!(hosts[1].oom_kills(), Some(0));
    assert!(hosts[1].memory_peak().unwrap() > 100 << 20);
    let seen = stdout(
        &hosts[0],
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max",
    );
    assert_eq!(seen, (64 << 20).to_string(), "the host sees its own limit");
}

#[test]
fn lines_input_and_deadlines() {
    let lab = Lab::new().unwrap();
    let host = lab.boot_idle([HostSpec::new("w")]).unwrap().remove(0);
    let cat = host.spawn(Cmd::new("cat").stdin(lab::Input::Pipe)).unwrap();
    cat.write_stdin(b"first\nsecond\n").unwrap();
    assert_eq!(cat.wait_for_line("sec", SOON).unwrap(), "second");
    assert_eq!(cat.wait_for_line("first", SOON).unwrap(), "first", "earlier lines count");
    let late = cat.wait_for_line("third", Duration::from_millis(50)).unwrap_err();
    assert!(late.to_string().contains("second"), "the error shows the output: {late}");
    cat.close_stdin();
    assert!(cat.wait(SOON).unwrap().success());
    assert!(matches!(cat.wait_for_line("third", SOON), Err(LabError::Ended { .. })));
    assert_eq!(cat.written(Stream::Stdout), "first\nsecond\n");

    let fed = host
        .run(Cmd::new("wc").arg("-c").stdin(lab::Input::Bytes(vec![b'x'; 1 << 20])), SOON)
        .unwrap();
    assert_eq!(fed.stdout.trim(), "1048576");
    let stuck = host.run(Cmd::sh("echo working; sleep 1000"), Duration::from_secs(2)).unwrap_err();
    assert!(stuck.to_string().contains("working"), "{stuck}");
    host.wait_until_gone("sleep 1000", SOON).unwrap();
}

#[test]
fn a_command_that_is_not_there_is_an_error() {
    let lab = Lab::new().unwrap();
    let host = lab.boot_idle([HostSpec::new("w").without("/usr/bin/tac")]).unwrap().remove(0);
    assert!(matches!(host.spawn(Cmd::new("tac")), Err(LabError::Io { .. })));
    assert!(matches!(host.spawn(Cmd::new("no-such-program")), Err(LabError::Io { .. })));
}

#[test]
fn names_are_unique() {
    let lab = Lab::new().unwrap();
    lab.add(HostSpec::new("w")).unwrap();
    assert!(matches!(lab.add(HostSpec::new("w")), Err(LabError::Duplicate { .. })));
}

#[test]
fn sixty_four_hosts_come_up_together() {
    let started = std::time::Instant::now();
    let lab = Lab::new().unwrap();
    let hosts = lab.boot_idle((0..64).map(|i| HostSpec::new(format!("w{i}")))).unwrap();
    let up = started.elapsed();
    let names = lab::each(&hosts, |host| Ok(host.run(Cmd::new("hostname"), SOON)?.stdout)).unwrap();
    assert_eq!(names[63], "w63\n");
    let asked = started.elapsed();
    drop((lab, hosts));
    println!(
        "64 hosts: up after {up:.2?}, each ran a command by {asked:.2?}, gone after {:.2?}",
        started.elapsed()
    );
    assert!(up < Duration::from_secs(20), "{up:?}");
}

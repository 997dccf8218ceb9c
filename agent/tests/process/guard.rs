//! The guarding parent.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster::process::guard;
use muster::process::tree::{Process, children};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpid, getppid, pause};
use signal_hook::consts as number;
use signal_hook::iterator::Signals;
use std::path::Path;

use crate::harness::{Case, Program, ROLE, adopt, left, this, wait_for_all};

pub(crate) const CASES: &[Case] = &[
    ("guard_passes_exit_codes_on", exit_codes),
    ("guard_forwards_every_signal_once", signals),
    ("guard_leaves_nothing_when_the_working_child_is_killed", child_killed),
    ("guard_ends_though_nobody_reads_what_it_says", unread),
    ("guard_ends_what_a_finished_child_left", strays),
    ("guard_killed_then_the_child_ends_the_job", guard_killed),
    ("guard_killed_then_a_child_without_runtime_dies", guard_killed_early),
    ("guard_as_pid_1_reaps_and_forwards", pid_1),
    ("guard_respects_nohup", nohup),
    ("guard_spares_children_it_was_handed", handed_over),
    ("guard_refuses_to_fork_threads", threads),
];

/// A daemon in a session of its own, with no environment, that ignores SIGTERM; says `up`.
const STUBBORN: &str = "(env -i setsid sh -c 'trap \"\" TERM; echo up; exec sleep 1000' &)";

fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).env_remove(ROLE);
    command
}

/// What a guarded program does in these tests.
pub(crate) fn play(role: &str, argument: &str) {
    if role == "threads" {
        let held = std::thread::spawn(std::thread::park);
        let error = guard::enter().unwrap_err();
        say(&error.to_string());
        held.thread().unpark();
        held.join().unwrap();
        return;
    }
    let guarded = guard::enter().unwrap();
    match role {
        "exit" => std::process::exit(argument.parse().unwrap()),
        "die" => {
            kill(getpid(), argument.parse::<Signal>().unwrap()).unwrap();
            pause();
        }
        "signals" => {
            let caught = [
                number::SIGTERM,
                number::SIGINT,
                number::SIGHUP,
                number::SIGQUIT,
                number::SIGUSR1,
                number::SIGUSR2,
                number::SIGWINCH,
                number::SIGCONT,
            ];
            let mut signals = Signals::new(caught).unwrap();
            say("READY");
            for signal in signals.forever() {
                say(Signal::try_from(signal).unwrap().as_str());
                if signal == number::SIGTERM {
                    break;
                }
            }
        }
        "job" => {
            sh(&format!("{STUBBORN}; exec sleep 1000")).spawn().unwrap();
            say(&getpid().to_string());
            pause();
        }
        "strays" => {
            let script = format!("{STUBBORN}; (setsid sleep 1000 &); read line");
            let mut shell = sh(&script).stdin(Stdio::piped()).spawn().unwrap();
            say(&getpid().to_string());
            io::stdin().read_line(&mut String::new()).unwrap();
            drop(shell.stdin.take());
            shell.wait().unwrap();
            std::process::exit(5);
        }
        "works" => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(crate::children::work(guarded));
        }
        "pause" => {
            say(&getpid().to_string());
            pause();
        }
        "handed" => {
            // The child of the shell that became the guard is none of ours.
            say("READY");
        }
        "masks" => {
            let blocked = |pid: Pid| {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap()
            };
            let bit = |signal: Signal| 1_u64 << (signal as i32 - 1);
            let above = blocked(getppid());
            assert_eq!(above & bit(Signal::SIGHUP), 0, "an ignored signal stays ignored");
            assert_ne!(above & bit(Signal::SIGTERM), 0);
            assert_eq!(blocked(getpid()), 0);
        }
        "pid1" => orphans_under_pid_1(),
        other => panic!("no role {other}"),
    }
}

fn exit_codes() {
    for (role, code) in [
        ("exit:0", 0),
        ("exit:3", 3),
        ("exit:255", 255),
        ("die:SIGABRT", 99),
        ("die:SIGFPE", 136),
        ("die:SIGTERM", 143),
        ("die:SIGKILL", 137),
    ] {
        assert_eq!(Program::start(role).code(), Some(code), "{role}");
    }
}

fn signals() {
    let mut program = Program::start("signals");
    assert_eq!(program.line(), "READY");
    for signal in [
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
        Signal::SIGCONT,
    ] {
        program.signal(signal);
        assert_eq!(program.line(), signal.as_str());
    }
    // To the group, as `timeout` does: were the child in it, it would hear of each twice.
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTERM] {
        killpg(program.pid(), signal).unwrap();
        assert_eq!(program.line(), signal.as_str());
    }
    assert_eq!(program.code(), Some(0));
}

/// Reads the child's pid and `up`, in whichever order they come.
fn pid_and_up(program: &mut Program) -> Pid {
    let lines = [program.line(), program.line()];
    assert!(lines.iter().any(|line| line == "up"), "{lines:?}");
    Pid::from_raw(lines.iter().find_map(|line| line.parse().ok()).unwrap())
}

fn child_killed() {
    adopt();
    let mut program = Program::start("job");
    let child = pid_and_up(&mut program);
    assert!(left().len() >= 4, "guard, child, sleep and the daemon: {:?}", left());
    let begun = Instant::now();
    kill(child, Signal::SIGKILL).unwrap();
    assert_eq!(program.code(), Some(137));
    assert_eq!(left(), [""; 0]);
    assert!(begun.elapsed() < Duration::from_secs(1), "no grace after a violent death");
}

fn unread() {
    let (_reader, mut full) = io::pipe().unwrap();
    let room = fcntl(&full, FcntlArg::F_GETPIPE_SZ).unwrap();
    full.write_all(&vec![b'x'; usize::try_from(room).unwrap()]).unwrap();
    let mut program = Program::run(this().env(ROLE, "pause").stderr(full));
    let child = Pid::from_raw(program.line().parse().unwrap());
    kill(child, Signal::SIGKILL).unwrap();
    assert_eq!(program.code(), Some(137));
}

fn strays() {
    adopt();
    let mut command = this();
    let (read, write) = io::pipe().unwrap();
    let mut program = Program::run_with(command.env(ROLE, "strays"), read.into());
    pid_and_up(&mut program);
    drop(write);
    assert_eq!(program.code(), Some(5));
    assert_eq!(left(), [""; 0]);
}

fn guard_killed() {
    adopt();
    let mut program = Program::start("works");
    pid_and_up(&mut program);
    program.signal(Signal::SIGKILL);
    assert_eq!(program.line(), "the parent is gone");
    assert_eq!(program.line(), "ended 1 killed 1 left 0");
    assert_eq!(program.code(), None);
    wait_for_all();
}

fn guard_killed_early() {
    adopt();
    let mut program = Program::start("pause");
    let _child = program.line();
    program.signal(Signal::SIGKILL);
    assert_eq!(program.code(), None);
    wait_for_all();
}

fn orphans_under_pid_1() {
    assert_eq!(getppid(), Pid::from_raw(1));
    assert_eq!(getpid(), Pid::from_raw(2));
    for _ in 0..20 {
        assert!(sh("(exit 3 &); (setsid true &)").status().unwrap().success());
    }
    // No event tells this process of another's children being reaped.
    let patience = Instant::now() + Duration::from_secs(10);
    let zombie = |pid: &i32| Process::read(Path::new("/proc"), *pid).is_ok_and(|p| p.ended());
    while children(Path::new("/proc"), 1).iter().any(|pid| *pid != 2 && zombie(pid)) {
        assert!(Instant::now() < patience, "PID 1 leaves zombies");
        std::thread::yield_now();
    }
    sh(&format!("{STUBBORN}; exec sleep 1000")).spawn().unwrap();
    say("READY");
    pause();
}

fn pid_1() {
    adopt();
    let mut unshare = Command::new("unshare");
    unshare.args(["--fork", "--pid", "--mount-proc"]).arg(std::env::current_exe().unwrap());
    unshare.env_remove(crate::harness::CASE).env(ROLE, "pid1");
    let mut program = Program::run(&mut unshare);
    let lines = [program.line(), program.line()];
    assert!(lines.contains(&"READY".to_owned()), "{lines:?}");
    let first = children(Path::new("/proc"), program.pid().as_raw())[0];
    kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
    assert_eq!(program.code(), Some(143), "forwarded by PID 1, died of it, 128 + 15");
    assert_eq!(left(), [""; 0]);
}

fn nohup() {
    let mut command = this();
    command.env(ROLE, "masks");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("trap '' HUP; exec \"$0\"").arg(command.get_program()).env(ROLE, "masks");
    assert!(shell.env_remove(crate::harness::CASE).status().unwrap().success());
}

fn handed_over() {
    adopt();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("sleep 1000 >&- & exec \"$0\"").arg(std::env::current_exe().unwrap());
    let mut program = Program::run(shell.env(ROLE, "handed").env_remove(crate::harness::CASE));
    assert_eq!(program.line(), "READY");
    assert_eq!(program.code(), Some(0));
    let left = left();
    assert!(left.len() == 1 && left[0].ends_with(" sleep"), "{left:?}");
    let pid = left[0].split(' ').next().unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

fn threads() {
    let mut program = Program::start("threads");
    assert_eq!(program.line(), "fork the working process: 2 threads run already");
    assert_eq!(program.code(), Some(0));
}

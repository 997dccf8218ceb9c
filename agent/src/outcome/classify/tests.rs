//! What outranks what, over facts as a live job has them.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::outcome::facts::{ElasticError, StageFailure, Stall, Told};
use crate::output::clock::Micros;
use crate::process::usage::Usage;

const SECOND: u64 = 1_000_000;

static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::built_in().unwrap()));

fn signal(signal: i32) -> WaitStatus {
    WaitStatus::Signaled { signal, core: false }
}

fn rank(rank: u32, host: &str, status: WaitStatus, at: u64, stderr: &str) -> RankEnd {
    RankEnd {
        rank,
        local_rank: Some(rank % 2),
        host: host.into(),
        pod: None,
        pid: 100,
        status,
        told: false,
        at: Micros(at),
        wall_us: 3 * SECOND,
        usage: Usage {
            user_us: 2 * SECOND,
            system_us: SECOND / 4,
            max_rss_kib: 2 * 1024 * 1024,
            major_faults: 7,
            preempted: 1,
        },
        stderr: stderr.into(),
    }
}

fn event(host: &str, at: u64, what: HostFact) -> HostEvent {
    HostEvent { host: host.into(), pod: None, at: Micros(at), what }
}

fn oom() -> HostFact {
    HostFact::OomKill { kills: 1, limit: Some(1 << 31), peak: Some(1 << 31) }
}

fn of(facts: &Facts) -> Verdict {
    classify(facts, &RULES, ExitPolicy::Application)
}

/// Class, code, rank and host.
fn short(facts: &Facts) -> (Class, u8, Option<u32>, Option<String>) {
    let verdict = of(facts);
    (verdict.class, verdict.code, verdict.culprit.rank, verdict.culprit.host)
}

#[test]
fn a_ranks_end_with_its_last_words() {
    let exit = WaitStatus::Exited;
    for (status, stderr, class, code) in [
        (exit(3), "", Class::AppError, 3),
        (exit(200), "", Class::AppError, 80),
        (exit(127), "", Class::CommandNotFound, 86),
        (signal(11), "", Class::AppCrash, 82),
        (signal(9), "", Class::AppError, 80),
        (signal(15), "", Class::AppError, 80),
        (exit(1), "Traceback (most recent call last):\nValueError: x", Class::AppError, 1),
        (exit(1), "torch.OutOfMemoryError: CUDA out of memory. Tried", Class::GpuOom, 84),
        (signal(6), "  what():  std::bad_alloc", Class::HostOom, 83),
        (
            signal(6),
            "[Rank 0] Watchdog caught collective operation timeout: x",
            Class::Stalled,
            177,
        ),
        (
            exit(7),
            "application called MPI_Abort(MPI_COMM_WORLD, 7) - process 2",
            Class::AppAbort,
            7,
        ),
        // A crash stays one, whatever Python printed before.
        (signal(11), "ValueError: x", Class::AppCrash, 82),
    ] {
        let facts = Facts {
            ranks: vec![rank(2, "w2", status, SECOND, stderr), rank(0, "w1", exit(0), 9, "")],
            mpirun: Some(exit(1)),
            ..Facts::default()
        };
        assert_eq!(short(&facts), (class, code, Some(2), Some("w2".into())), "{status} {stderr}");
    }
}

#[test]
fn a_ranks_end_says_what_it_used() {
    let facts =
        Facts { ranks: vec![rank(2, "w2", WaitStatus::Exited(3), SECOND, "")], ..Facts::default() };
    assert_eq!(
        of(&facts).evidence[0].text,
        "rank 2 (local rank 0) on w2 (pid 100): exit code 3 after 3.0 s, user 2.0 s, system 0.2 s, \
         peak memory 2 GiB, major page faults 7, involuntary context switches 1"
    );
}

#[test]
fn the_first_failure_decides_and_what_was_told_to_end_is_secondary() {
    let facts = Facts {
        ranks: vec![
            rank(5, "w3", WaitStatus::Exited(4), SECOND + 200_000, ""),
            rank(2, "w2", WaitStatus::Exited(3), SECOND, ""),
            RankEnd { told: true, ..rank(0, "w1", signal(15), SECOND - 1, "") },
        ],
        ..Facts::default()
    };
    let verdict = of(&facts);
    assert_eq!((verdict.code, verdict.culprit.rank), (3, Some(2)));
    assert_eq!(verdict.failures.len(), 2);
    assert_eq!(verdict.failures[1].culprit.rank, Some(5));
}

#[test]
fn of_one_moment_the_likelier_cause_is_the_first() {
    let exit = WaitStatus::Exited;
    for (earlier, later, rank_of_later) in [
        (exit(14), signal(11), true),
        (signal(11), exit(3), true),
        (exit(4), exit(3), false),
        (signal(11), signal(6), false),
    ] {
        let facts = Facts {
            ranks: vec![
                rank(1, "w1", earlier, SECOND, ""),
                rank(2, "w2", later, SECOND + 50_000, ""),
            ],
            ..Facts::default()
        };
        let first = if rank_of_later { 2 } else { 1 };
        assert_eq!(of(&facts).culprit.rank, Some(first), "{earlier}, {later}");
    }
}

#[test]
fn an_echo_makes_way_for_its_cause() {
    let echo = "NCCL error: remote process exited or there was a network error";
    let facts = Facts {
        ranks: vec![
            rank(0, "w1", signal(6), SECOND, echo),
            rank(3, "w2", WaitStatus::Exited(1), SECOND + 300_000, "ValueError: nan"),
        ],
        ..Facts::default()
    };
    let verdict = of(&facts);
    assert_eq!((verdict.class, verdict.code, verdict.culprit.rank), (Class::AppError, 1, Some(3)));
    assert_eq!(verdict.failures[0].culprit.rank, Some(3));
}

#[test]
fn an_oom_kill_that_was_survived_is_no_reason() {
    for (minutes, class) in [(0, Class::HostOom), (5, Class::AppError)] {
        let ranks = vec![rank(2, "w2", WaitStatus::Exited(3), minutes * 60 * SECOND + 10, "")];
        let facts = Facts { ranks, hosts: vec![event("w2", 9, oom())], ..Facts::default() };
        assert_eq!(of(&facts).class, class, "{minutes} minutes later");
    }
}

#[test]
fn a_counted_oom_kill_outranks_signal_9() {
    let killed = rank(2, "w2", signal(9), SECOND, "");
    let facts = Facts {
        ranks: vec![killed, rank(0, "w1", WaitStatus::Exited(1), SECOND + 9, "peer lost")],
        hosts: vec![event("w2", SECOND + 700_000, oom())],
        ..Facts::default()
    };
    let verdict = of(&facts);
    assert_eq!((verdict.class, verdict.code, verdict.culprit.rank), (Class::HostOom, 83, Some(2)));
    assert!(verdict.explanation.contains("limit was 2 GiB, the most in use 2 GiB"), "{verdict:?}");
    // A peer may leave, and the job be told to end, before a large process has died.
    let facts = Facts {
        ranks: vec![
            rank(0, "w1", WaitStatus::Exited(14), SECOND, ""),
            RankEnd { told: true, ..rank(2, "w2", signal(9), SECOND + 300_000, "") },
        ],
        hosts: vec![event("w2", SECOND + 10, oom())],
        ..Facts::default()
    };
    assert_eq!(short(&facts), (Class::HostOom, 83, Some(2), Some("w2".into())));
    // Another host's kill, of nobody who failed, explains nothing.
    let facts = Facts {
        ranks: vec![rank(2, "w2", WaitStatus::Exited(3), SECOND, "")],
        hosts: vec![event("w1", 1, oom())],
        ..Facts::default()
    };
    assert_eq!(of(&facts).class, Class::AppError);
}

#[test]
fn hosts_and_signals() {
    let later = rank(0, "w1", WaitStatus::Exited(1), 5 * SECOND, "");
    let lost = HostFact::HeartbeatsMissed { missed: 3 };
    let daemon = HostFact::DaemonFailed { program: "orted".into(), status: signal(9) };
    let cut = HostFact::ConnectionLost { reason: "reset".into() };
    let full = HostFact::DiskFull { path: "/dev/shm".into() };
    for (what, class) in [
        (lost, Class::WorkerLost),
        (cut, Class::WorkerLost),
        (daemon, Class::DaemonFailed),
        (HostFact::ToldToStop, Class::Evicted),
    ] {
        let facts = Facts {
            ranks: vec![later.clone()],
            hosts: vec![event("w2", SECOND, what)],
            ..Facts::default()
        };
        assert_eq!(short(&facts), (class, class.code(), None, Some("w2".into())));
    }
    let facts = Facts {
        ranks: vec![rank(2, "w2", signal(7), SECOND, "")],
        hosts: vec![event("w2", 1, full)],
        ..Facts::default()
    };
    assert_eq!(of(&facts).class, Class::LocalResource);
    // Told to stop: before a failure it is the reason, after one it is not.
    for (at, class) in [(SECOND, Class::Terminated), (9 * SECOND, Class::AppError)] {
        let told = Some(Told { signal: 15, at: Micros(at) });
        let facts = Facts { ranks: vec![later.clone()], told, ..Facts::default() };
        assert_eq!(of(&facts).class, class);
    }
}

#[test]
fn without_a_failed_rank() {
    let stage = StageFailure { class: Class::AuthFailed, words: "log in to w1".into(), hint: None };
    let elastic = ElasticError { rank: Some(2), message: "CUDA out of memory".into(), at: None };
    let facts = |mpirun| Facts { mpirun, ..Facts::default() };
    assert_eq!(of(&Facts { stage: Some(stage), ..Facts::default() }).code, 88);
    assert_eq!(of(&facts(Some(WaitStatus::Exited(0)))).class, Class::Ok);
    assert_eq!(of(&facts(None)).class, Class::Ok);
    assert_eq!(of(&facts(Some(WaitStatus::Exited(213)))).code, 80);
    assert_eq!(of(&facts(Some(WaitStatus::Exited(1)))).code, 1);
    assert_eq!(of(&facts(Some(signal(15)))).code, 143);
    let host = Some("w3".into());
    let stall = Some(Stall { at: Micros(2), seconds: 60, rank: Some(3), host });
    // Who loses its peers while they are told to end has not failed first; who failed before it has.
    for (second, class) in
        [(None, Class::Stalled), (Some(3), Class::Stalled), (Some(1), Class::AppError)]
    {
        let lost = second.map(|second| rank(0, "w0", WaitStatus::Exited(14), second, ""));
        let ranks = lost.into_iter().collect();
        let verdict = of(&Facts { stall: stall.clone(), ranks, ..Facts::default() });
        assert_eq!(verdict.class, class, "{second:?}");
        if class == Class::Stalled {
            let Culprit { rank: idle, host, .. } = verdict.culprit;
            assert_eq!((idle, host.as_deref()), (Some(3), Some("w3")));
            assert_eq!(
                verdict.explanation,
                "No rank wrote a line, and rank 3 used no CPU time for 60 s. Rank 3 has been idle the \
                 longest; ranks that wait for it in MPI may spin."
            );
        }
    }
    let ranks = vec![rank(2, "w2", WaitStatus::Exited(1), 1, "")];
    assert_eq!(
        of(&Facts { ranks, elastic: vec![elastic], ..Facts::default() }).class,
        Class::GpuOom
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_last_words_are_judged(words in "\\PC{0,400}", raw in 0..=255_i32, told: bool) {
        let status = if raw > 200 { signal(raw - 200) } else { WaitStatus::Exited(raw as u8) };
        let end = RankEnd { told, ..rank(1, "w1", status, 1, &words) };
        let verdict = of(&Facts { ranks: vec![end], ..Facts::default() });
        prop_assert_eq!(verdict.code == 0, verdict.class == Class::Ok);
    }
}

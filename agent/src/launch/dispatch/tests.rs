//! The policy as stories: what happens, and what follows.

use std::sync::Arc;

use super::*;
use crate::launch::event::Event::*;
use crate::launch::witness::{Witness, verdict};
use crate::outcome::{ExitPolicy, Rules, Verdict};
use crate::output::Identity;
use crate::output::Returns;
use crate::output::clock::Micros;
use crate::output::tag::{Format, Style};
use crate::plan::Family;
use crate::process::usage::Usage;
use crate::rank::protocol::{self, Carries, Hello, Output};

fn host(name: &str) -> HostName {
    HostName::from(name)
}

/// Two workers, `a` and `b`, one rank each, launched from `l`, which is no host of the plan.
fn expected() -> Expected {
    let hosts = [host("a"), host("b")];
    Expected {
        hosts: hosts.iter().cloned().collect(),
        placement: Some(hosts.iter().map(|host| (host.clone(), 1)).collect()),
        workers: hosts.into_iter().collect(),
        here: host("l"),
        agent_is_ours: true,
        daemons_detach: false,
        grace: Duration::from_secs(10),
        stall: Some(Duration::from_secs(60)),
    }
}

fn gone() -> Loss {
    Loss::Connection("gone".into())
}

/// The wrapper of a rank says that it has been started.
fn started(on: &str, rank: u32) -> Event {
    let identity = Some(Identity { rank, size: Some(2), host: on.into(), ..Identity::default() });
    let style = Style {
        format: Format::Prefix,
        timestamps: false,
        color: false,
        returns: Returns::Collapse,
        max_line: 65536,
    };
    let hello = Hello {
        version: 1,
        carries: Carries::Reports,
        time: Micros(0),
        identity,
        pid: 7,
        wrapper: 6,
        command: "./app".into(),
        output: Output::Launcher,
        shown: true,
        lends: false,
        style,
    };
    Rank(host(on), Report::Started(Source(rank), Box::new(hello)))
}

/// It says how the rank ended, in this second.
fn ended(on: &str, rank: u32, status: WaitStatus, told: Option<i32>, second: u64) -> Event {
    let ended = protocol::Ended {
        time: Micros(second * 1_000_000),
        status,
        told,
        wall_us: 1,
        usage: Usage::default(),
        stderr: String::new(),
        elastic: None,
    };
    Rank(host(on), Report::Ended(Source(rank), Some(Box::new(ended))))
}

/// The wrapper was killed.
fn vanished(on: &str, rank: u32) -> Event {
    Rank(host(on), Report::Ended(Source(rank), None))
}

fn still(on: &str, rank: u32, silent: u64, idle: u64) -> Event {
    let still = crate::ssh::control::Still { silent_ms: silent * 1000, rank, idle_ms: idle * 1000 };
    Event::Still(host(on), Some(still))
}

fn ranks(numbers: &[u32]) -> Vec<RankSeen> {
    numbers.iter().map(|rank| RankSeen { rank: *rank, size: Some(2), pid: 7 }).collect()
}

const fn exited(code: u8) -> WaitStatus {
    WaitStatus::Exited(code)
}

const fn killed() -> WaitStatus {
    WaitStatus::Signaled { signal: 9, core: false }
}

/// Plays the events and returns the verdict, if it came to one.
fn play(expected: Expected, events: Vec<Event>) -> (Vec<Response>, Option<Verdict>) {
    let mut dispatch = Dispatch::new(expected);
    let mut witness = Witness::new(Family::Mpich);
    let mut responses = Vec::new();
    for (second, event) in events.into_iter().enumerate() {
        witness.see(&event, Micros(second as u64 * 1_000_000));
        responses.extend(dispatch.handle(event));
    }
    let ending = responses.iter().find_map(|response| match response {
        Response::Finish(ending) => Some(ending.clone()),
        _ => None,
    });
    let rules = Arc::new(Rules::built_in().unwrap());
    let verdict = |ending| {
        verdict(&witness.facts(&ending, b"", &[], &rules), &rules, ExitPolicy::Application)
    };
    (responses, ending.map(verdict))
}

fn cleared() -> [Event; 2] {
    [WorkerCleared(host("a"), 0, 0), WorkerCleared(host("b"), 0, 0)]
}

fn reached() -> [Event; 2] {
    [AgentCalled(host("a")), AgentCalled(host("b"))]
}

#[test]
fn how_launches_end() {
    let lost = || Ended::Lost("no sign of life".into());
    let failed = |code| Ended::Status(exited(code));
    let stories: Vec<(&str, Vec<Event>, u8)> = vec![
        ("a clean job", [&reached()[..], &[MpirunEnded(exited(0))], &cleared()].concat(), 0),
        ("a rank failed", [&reached()[..], &[MpirunEnded(exited(3))], &cleared()].concat(), 3),
        (
            "mpirun was killed",
            [&[MpirunEnded(killed())][..], &cleared()].concat(),
            143,
        ),
        (
            "all ranks on the launcher, reported as success",
            [&[MpirunEnded(exited(0))][..], &cleared()].concat(),
            90,
        ),
        (
            "one host was never reached",
            [&[AgentCalled(host("a")), MpirunEnded(exited(0))][..], &cleared()].concat(),
            90,
        ),
        (
            "a host reached by tree spawn counts when its rank was seen",
            [
                &[AgentCalled(host("a")), Ranks(host("b"), ranks(&[1])), MpirunEnded(exited(0))]
                    [..],
                &cleared(),
            ]
            .concat(),
            0,
        ),
        (
            "a worker is lost, and Open MPI 5 says 0",
            [
                &reached()[..],
                &[WorkerLost(host("b"), gone()), MpirunEnded(exited(0))],
                &[WorkerCleared(host("a"), 0, 0)],
            ]
            .concat(),
            172,
        ),
        (
            "a worker is lost, and mpirun notices first",
            [
                &reached()[..],
                &[MpirunEnded(exited(205)), WorkerCleared(host("a"), 0, 0)],
                &[WorkerLost(host("b"), gone())],
            ]
            .concat(),
            172,
        ),
        (
            "a worker is lost, and Open MPI 5 notices first and says 0",
            [
                &reached()[..],
                &[MpirunEnded(exited(0)), WorkerLost(host("b"), gone())],
                &[WorkerCleared(host("a"), 0, 0)],
            ]
            .concat(),
            172,
        ),
        (
            "a worker goes away after its part of a job that went well",
            [
                &reached()[..],
                &[AgentEnded(host("b"), failed(0)), MpirunEnded(exited(0))],
                &[WorkerLost(host("b"), gone()), WorkerCleared(host("a"), 0, 0)],
            ]
            .concat(),
            0,
        ),
        (
            "a worker is evicted, and mpirun notices first",
            [
                &reached()[..],
                &[MpirunEnded(exited(1)), WorkerStopping(host("b"), Duration::from_secs(30))],
                &cleared(),
            ]
            .concat(),
            173,
        ),
        (
            "a worker is evicted",
            [
                &reached()[..],
                &[WorkerStopping(host("b"), Duration::from_secs(30)), MpirunEnded(exited(1))],
                &cleared(),
            ]
            .concat(),
            173,
        ),
        (
            "a daemon dies, and Open MPI 5 says 0",
            [
                &reached()[..],
                &[AgentEnded(host("b"), failed(255)), MpirunEnded(exited(0))],
                &cleared(),
            ]
            .concat(),
            174,
        ),
        (
            "a daemon is missing, and Hydra hangs",
            [
                &reached()[..],
                &[AgentEnded(host("b"), failed(127)), Timer(super::Timer::DaemonLeft)],
                &[MpirunEnded(exited(255))],
                &cleared(),
            ]
            .concat(),
            86,
        ),
        (
            "an agent is killed, and Open MPI 5 says 0",
            [&reached()[..], &[AgentEnded(host("b"), lost()), MpirunEnded(exited(0))], &cleared()]
                .concat(),
            172,
        ),
        (
            "mpirun stops its own agents at the end",
            [&reached()[..], &[AgentStopped(host("b")), MpirunEnded(exited(0))], &cleared()]
                .concat(),
            0,
        ),
        (
            "the platform stops the launcher",
            [
                &reached()[..],
                &[Stop(super::Stop::Terminate), MpirunEnded(exited(1))],
                &cleared(),
            ]
            .concat(),
            143,
        ),
        (
            "somebody presses Ctrl-C",
            [
                &reached()[..],
                &[Stop(super::Stop::Interrupt), MpirunEnded(exited(1))],
                &cleared(),
            ]
            .concat(),
            130,
        ),
        (
            "a worker does not answer at the end",
            [
                &reached()[..],
                &[MpirunEnded(exited(0)), WorkerCleared(host("a"), 0, 0)],
                &[Timer(super::Timer::Clear)],
            ]
            .concat(),
            0,
        ),
        (
            "mpirun cannot be killed",
            [
                &reached()[..],
                &[Stop(super::Stop::Terminate), Timer(super::Timer::Grace)],
                &[Timer(super::Timer::Kill)],
                &cleared(),
            ]
            .concat(),
            143,
        ),
        (
            "the first cause stays the cause",
            [
                &reached()[..],
                &[WorkerLost(host("b"), gone()), Stop(super::Stop::Terminate)],
                &[MpirunEnded(exited(1)), WorkerCleared(host("a"), 0, 0)],
            ]
            .concat(),
            172,
        ),
    ];
    for (story, events, code) in stories {
        let (responses, outcome) = play(expected(), events);
        let outcome = outcome.unwrap_or_else(|| panic!("{story}: never ends: {responses:?}"));
        assert_eq!(outcome.code, code, "{story}: {outcome:?}");
    }
}

#[test]
fn ranks_where_none_were_planned_end_the_job_and_are_named() {
    let events = vec![
        Ranks(host("l"), ranks(&[0, 1])),
        MpirunEnded(exited(1)),
        WorkerCleared(host("a"), 0, 0),
        WorkerCleared(host("b"), 0, 0),
    ];
    let (responses, outcome) = play(expected(), events);
    assert!(
        responses.contains(&Response::Signal(super::Stop::Terminate.number())),
        "{responses:?}"
    );
    let outcome = outcome.unwrap();
    assert_eq!(outcome.code, 90);
    let words = "planned: a x 1, b x 1\nseen:    l x 2\nmpirun never reached: a, b".to_owned();
    assert!(responses.contains(&Response::Say(words)), "{responses:?}");
    assert!(outcome.evidence[0].text.contains("2 ranks started on l"), "{outcome:?}");
}

#[test]
fn a_second_wish_to_stop_kills() {
    let stop = || Event::Stop(super::Stop::Terminate);
    let (responses, _) = play(expected(), vec![stop()]);
    assert!(!responses.contains(&KILL_HERE), "{responses:?}");
    let (responses, _) = play(expected(), vec![stop(), stop()]);
    assert!(responses.contains(&KILL_HERE), "{responses:?}");
    let (responses, _) = play(expected(), vec![stop(), Timer(super::Timer::Grace)]);
    assert!(responses.contains(&KILL_HERE), "{responses:?}");
    let (responses, _) = play(expected(), vec![ParentGone]);
    assert!(responses.contains(&KILL_HERE), "{responses:?}");
}

#[test]
fn a_daemon_that_detaches_is_no_daemon_that_left() {
    let mut expected = expected();
    expected.daemons_detach = true;
    let events = vec![AgentEnded(host("a"), Ended::Status(exited(0)))];
    assert_eq!(play(expected, events).0, []);
}

#[test]
fn who_runs_where_is_said_once_all_are_there() {
    let events = vec![
        Ranks(host("a"), ranks(&[0])),
        Ranks(host("b"), ranks(&[1])),
        Ranks(host("b"), ranks(&[])),
    ];
    let (responses, _) = play(expected(), events);
    let words = "2 ranks run: a x 1, b x 1".to_owned();
    assert_eq!(responses, [Response::State(State::Running, words.clone()), Response::Say(words)]);
}

#[test]
fn alone_on_this_machine_nothing_is_waited_for() {
    let alone = Expected {
        hosts: BTreeSet::new(),
        placement: None,
        workers: BTreeSet::new(),
        ..expected()
    };
    let events = vec![Ranks(host("l"), ranks(&[0, 1])), MpirunEnded(exited(0))];
    assert_eq!(play(alone, events).1.unwrap().code, 0);
}

/// Two ranks run, one on each worker.
fn running() -> Vec<Event> {
    [&reached()[..], &[started("a", 0), started("b", 1)]].concat()
}

#[test]
fn the_first_failure_ends_the_job_and_is_the_culprit() {
    let stories: Vec<(&str, Vec<Event>, u8, Option<u32>)> = vec![
        (
            "a rank exits with 3, the other obeys SIGTERM",
            vec![
                ended("b", 1, exited(3), None, 10),
                ended("a", 0, WaitStatus::Signaled { signal: 15, core: false }, Some(15), 11),
                MpirunEnded(exited(3)),
            ],
            3,
            Some(1),
        ),
        (
            "two fail on their own, the later one reports first",
            vec![
                ended("a", 0, exited(4), None, 11),
                ended("b", 1, exited(3), None, 10),
                MpirunEnded(exited(4)),
            ],
            3,
            Some(1),
        ),
        (
            "a rank is killed together with its wrapper, and mpirun hangs",
            vec![
                vanished("b", 1),
                Timer(super::Timer::Vanished),
                ended("a", 0, WaitStatus::Signaled { signal: 15, core: false }, Some(15), 11),
                Timer(super::Timer::Follow),
                MpirunEnded(killed()),
            ],
            80,
            Some(1),
        ),
        (
            "a rank is killed for want of memory",
            vec![
                OomKilled(
                    host("b"),
                    crate::devices::trouble::OomKills { kills: 1, limit: Some(1), peak: Some(1) },
                ),
                ended("b", 1, killed(), None, 4),
                MpirunEnded(exited(137)),
            ],
            83,
            Some(1),
        ),
        (
            "no rank makes progress",
            vec![still("a", 0, 61, 1), still("b", 1, 70, 65), MpirunEnded(killed())],
            177,
            Some(1),
        ),
    ];
    for (story, events, code, rank) in stories {
        let events = [running(), events, cleared().to_vec()].concat();
        let (responses, verdict) = play(expected(), events);
        let verdict = verdict.unwrap_or_else(|| panic!("{story}: never ends: {responses:?}"));
        assert_eq!((verdict.code, verdict.culprit.rank), (code, rank), "{story}: {verdict:?}");
        assert!(responses.contains(&Response::SignalRanks(SIGTERM)), "{story}: {responses:?}");
    }
}

#[test]
fn ranks_have_their_grace_and_mpirun_follows_them() {
    let stop = Stop(super::Stop::Terminate);
    let (responses, _) = play(expected(), [running(), vec![stop.clone()]].concat());
    assert!(responses.contains(&Response::SignalRanks(SIGTERM)), "{responses:?}");
    assert!(!responses.contains(&Response::Signal(SIGTERM)), "{responses:?}");
    // mpirun may end before its ranks have had their grace; they keep it.
    let (responses, _) = play(expected(), [running(), vec![stop, MpirunEnded(exited(1))]].concat());
    let (patience, grace) = (Duration::from_secs(10), LEFTOVER_GRACE);
    assert!(responses.contains(&Response::ClearWorkers { patience, grace }), "{responses:?}");
}

#[test]
fn daemons_that_mpirun_left_have_less_grace_than_what_may_be_of_a_rank() {
    let term = |name, rank, told| {
        ended(name, rank, WaitStatus::Signaled { signal: 15, core: false }, told, 11)
    };
    let failed = [running(), vec![ended("b", 1, exited(3), None, 10)]].concat();
    let over = vec![term("a", 0, Some(15)), Timer(super::Timer::Follow), MpirunEnded(killed())];
    let graces = [(over, DAEMON_GRACE), (vec![MpirunEnded(exited(3))], LEFTOVER_GRACE)];
    for (events, expected_grace) in graces {
        let (responses, _) = play(expected(), [failed.clone(), events].concat());
        let graces: Vec<_> = responses
            .iter()
            .filter_map(|response| match response {
                Response::ClearWorkers { grace, .. } => Some(*grace),
                _ => None,
            })
            .collect();
        assert_eq!(graces, [expected_grace], "{responses:?}");
    }
}

#[test]
fn a_job_with_some_progress_has_not_stalled() {
    let calm = [
        // Somebody writes; everybody computes; the last one is gone.
        vec![still("a", 0, 5, 99), still("b", 1, 99, 99)],
        vec![still("a", 0, 99, 5), still("b", 1, 99, 5)],
        vec![still("a", 0, 99, 59)],
    ];
    for events in calm {
        let (responses, _) = play(expected(), events.clone());
        let told = |response: &Response| matches!(response, Response::Signal(_));
        assert!(!responses.iter().any(told), "{events:?} {responses:?}");
    }
}

#[test]
fn an_mpirun_that_overlooks_the_end_of_its_ranks_is_ended_and_the_job_has_gone_well() {
    let well = |name, rank| ended(name, rank, exited(0), None, 10);
    let overdue = || Timer(super::Timer::Overdue);
    let both = [running(), vec![well("a", 0), well("b", 1)]].concat();
    let (responses, _) = play(expected(), both.clone());
    assert_eq!(responses.last(), Some(&Response::Arm(super::Timer::Overdue, OVERDUE)));
    let ends =
        [vec![MpirunEnded(exited(1))], vec![Timer(super::Timer::Grace), MpirunEnded(killed())]];
    for end in ends {
        let events = [both.clone(), vec![overdue()], end, cleared().to_vec()].concat();
        let (responses, verdict) = play(expected(), events);
        assert!(responses.contains(&Response::Signal(SIGTERM)), "{responses:?}");
        assert_eq!(verdict.unwrap().code, 0, "{responses:?}");
    }
    // mpirun has something to wait for, or nobody knows whether it has.
    let lively = [
        vec![well("a", 0), overdue()],
        vec![well("a", 0), Ranks(host("b"), ranks(&[1])), well("b", 1), overdue()],
        vec![well("a", 0), well("b", 1), started("b", 2), overdue()],
    ];
    for events in lively {
        let (responses, _) = play(expected(), [running(), events.clone()].concat());
        assert!(!responses.contains(&Response::Signal(SIGTERM)), "{events:?} {responses:?}");
    }
    // A rank that came late and left again begins another wait.
    let late = [both, vec![Ranks(host("a"), ranks(&[0])), Ranks(host("a"), vec![])]].concat();
    let (responses, _) = play(expected(), [late.clone(), vec![overdue()]].concat());
    assert!(!responses.contains(&Response::Signal(SIGTERM)), "{responses:?}");
    let (responses, _) = play(expected(), [late, vec![overdue(), overdue()]].concat());
    assert!(responses.contains(&Response::Signal(SIGTERM)), "{responses:?}");
}

//! The policy as stories: what happens, and what follows.

use super::*;
use crate::launch::event::Event::*;

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
    }
}

fn ranks(numbers: &[u32]) -> Vec<RankSeen> {
    numbers.iter().map(|rank| RankSeen { rank: *rank, size: Some(2), pid: 7 }).collect()
}

const fn exited(code: u8) -> WaitStatus {
    WaitStatus::Exited(code)
}

/// Plays the events and returns the outcome, if it came to one.
fn play(expected: Expected, events: Vec<Event>) -> (Vec<Response>, Option<Outcome>) {
    let mut dispatch = Dispatch::new(expected);
    let responses: Vec<Response> =
        events.into_iter().flat_map(|event| dispatch.handle(event)).collect();
    let outcome = responses.iter().find_map(|response| match response {
        Response::Finish(outcome) => Some(outcome.clone()),
        _ => None,
    });
    (responses, outcome)
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
            [&[MpirunEnded(WaitStatus::Signaled { signal: 9, core: false })][..], &cleared()]
                .concat(),
            137,
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
                &[WorkerLost(host("b"), "gone".into()), MpirunEnded(exited(0))],
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
                &[WorkerLost(host("b"), "no sign of life".into())],
            ]
            .concat(),
            172,
        ),
        (
            "a worker is lost, and Open MPI 5 notices first and says 0",
            [
                &reached()[..],
                &[MpirunEnded(exited(0)), WorkerLost(host("b"), "no sign of life".into())],
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
                &[WorkerLost(host("b"), "gone".into()), WorkerCleared(host("a"), 0, 0)],
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
                &[WorkerLost(host("b"), "gone".into()), Stop(super::Stop::Terminate)],
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
    assert_eq!(
        outcome.lines,
        ["planned: a x 1, b x 1", "seen:    l x 2", "mpirun never reached: a, b"]
    );
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
    assert_eq!(responses, [Response::Say("2 ranks run: a x 1, b x 1".into())]);
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

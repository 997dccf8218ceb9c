//! Keeps what a launch has seen, as facts for the verdict.
//!
//! Must not decide: the policy names the cause of an end, `outcome` weighs it. Pure; the time of an event
//! is handed in.

use std::collections::HashMap;
use std::sync::Arc;

use super::dispatch::is_killed;
use super::event::{Cause, Ending, Event, Loss};
use crate::exit::Class;
use crate::ids::HostName;
use crate::outcome::facts::{
    ElasticError, Facts, HostEvent, HostFact, RankEnd, StageFailure, Stall, Told,
};
use crate::outcome::rules::Strength;
use crate::outcome::scan::{Finding, Source as From};
use crate::outcome::{ExitPolicy, Rules, Scanner, Verdict, classify, facts};
use crate::output::clock::Micros;
use crate::plan::Family;
use crate::process::status::WaitStatus;
use crate::process::usage::Usage;
use crate::rank::protocol::{Ended, Hello};
use crate::relay::printer::LastWords;
use crate::relay::{Report, Source};
use crate::ssh::remote;

/// Ends of ranks that are kept: those that failed come first.
const ENDS: usize = 256;

const SIGKILL: WaitStatus = WaitStatus::Signaled { signal: nix::libc::SIGKILL, core: false };

/// What has been seen so far.
#[derive(Debug)]
pub struct Witness {
    family: Family,
    running: HashMap<(HostName, Source), Box<Hello>>,
    /// Ranks whose wrapper was killed.
    vanished: HashMap<(HostName, Source), (Box<Hello>, Micros)>,
    ranks: Vec<RankEnd>,
    hosts: Vec<HostEvent>,
    elastic: Vec<ElasticError>,
    /// When a host was first said to be in trouble.
    trouble: HashMap<HostName, Micros>,
    told: Option<Micros>,
    /// When the launch began to end the job.
    failing: Option<Micros>,
}

impl Witness {
    /// Has seen nothing. A daemon is called as in `family`.
    #[must_use]
    pub fn new(family: Family) -> Self {
        Self {
            family,
            running: HashMap::new(),
            vanished: HashMap::new(),
            ranks: Vec::new(),
            hosts: Vec::new(),
            elastic: Vec::new(),
            trouble: HashMap::new(),
            told: None,
            failing: None,
        }
    }

    /// Notes that the launch ends the job from now on.
    pub fn failing(&mut self, now: Micros) {
        self.failing.get_or_insert(now);
    }

    /// Notes what an event tells.
    pub fn see(&mut self, event: &Event, now: Micros) {
        match event {
            Event::Stop(_) | Event::ParentGone => drop(self.told.get_or_insert(now)),
            Event::Rank(host, Report::Started(source, hello)) => {
                self.running.insert((host.clone(), *source), hello.clone());
            }
            Event::Rank(host, Report::Ended(source, ended)) => {
                let key = (host.clone(), *source);
                let Some(hello) = self.running.remove(&key) else { return };
                match ended {
                    Some(ended) => self.ended(host, &hello, ended),
                    None => drop(self.vanished.insert(key, (hello, now))),
                }
            }
            Event::OomKilled(host, oom) => {
                let (kills, limit, peak) = (oom.kills, oom.limit, oom.peak);
                self.host(host, now, HostFact::OomKill { kills, limit, peak });
            }
            Event::Full(host, paths) => {
                for path in paths {
                    self.host(host, now, HostFact::DiskFull { path: path.clone() });
                }
            }
            Event::WorkerLost(host, loss) => {
                let since = match loss {
                    Loss::Connection(_) => now,
                    Loss::Silent { time, .. } => {
                        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                        Micros(now.0.saturating_sub(time))
                    }
                };
                self.trouble.entry(host.clone()).or_insert(since);
            }
            Event::AgentEnded(host, remote::Ended::Status(status)) => {
                self.trouble.entry(host.clone()).or_insert(now);
                // A shell's codes for what it cannot find or execute: mpirun does not say on which host.
                if matches!(status, WaitStatus::Exited(126 | 127)) {
                    self.daemon_failed(host, now, *status);
                }
            }
            Event::WorkerStopping(host, _) | Event::AgentEnded(host, remote::Ended::Lost(_)) => {
                self.trouble.entry(host.clone()).or_insert(now);
            }
            Event::Still(..)
            | Event::MpirunEnded(_)
            | Event::Timer(_)
            | Event::AgentCalled(_)
            | Event::AgentStopped(_)
            | Event::Ranks(..)
            | Event::WorkerCleared(..) => {}
        }
    }

    fn host(&mut self, host: &HostName, at: Micros, what: HostFact) {
        self.hosts.push(HostEvent { host: host.short().to_owned(), pod: None, at, what });
    }

    /// Notes how a daemon failed, once.
    fn daemon_failed(&mut self, host: &HostName, at: Micros, status: WaitStatus) {
        let what = HostFact::DaemonFailed { program: self.family.daemon().to_owned(), status };
        let known = |event: &HostEvent| event.host == host.short() && event.what == what;
        if !self.hosts.iter().any(known) {
            self.host(host, at, what);
        }
    }

    /// Notes how a rank ended.
    pub fn ended(&mut self, host: &HostName, hello: &Hello, ended: &Ended) {
        if self.ranks.len() >= ENDS && !ended.failed_by_itself() {
            return;
        }
        let rank = hello.identity.as_ref().map(|identity| identity.rank);
        let told = ended.told.is_some();
        let mut end = RankEnd {
            wall_us: ended.wall_us,
            usage: ended.usage,
            ..rank_end(host, hello, ended.status, told, ended.time)
        };
        // A job of thousands may fail at once, and say the same thousands of times.
        if self.ranks.len() < ENDS {
            let elastic = ended.elastic.as_deref();
            self.elastic
                .extend(elastic.and_then(|text| ElasticError::parse(rank, text.as_bytes())));
            end.stderr.clone_from(&ended.stderr);
        }
        self.ranks.push(end);
    }

    /// The facts of a launch that ended so; `said` is what mpirun printed and carried.
    #[must_use]
    pub fn facts(
        mut self,
        ending: &Ending,
        said: &[u8],
        last_words: &[LastWords],
        rules: &Arc<Rules>,
    ) -> Facts {
        let mut scanner = Scanner::new(Arc::clone(rules));
        // What those say whom a killed mpirun left behind, and how they end, is no reason of its end.
        let left_behind = ending.cause.is_none() && is_killed(ending.mpirun);
        let (said, last_words) = if left_behind { (&b""[..], &[][..]) } else { (said, last_words) };
        if left_behind {
            self.ranks.clear();
        }
        for line in said.split(|byte| *byte == b'\n') {
            scanner.line(&From::Mpirun, &facts::Culprit::default(), line);
        }
        for LastWords { of, lines } in last_words {
            let who = facts::Culprit {
                rank: Some(of.rank),
                local_rank: of.local_rank,
                host: Some(of.host.clone()),
                pod: None,
            };
            for line in lines.split(|byte| *byte == b'\n') {
                scanner.line(&From::Rank(of.rank), &who, line);
            }
        }
        let mut facts = Facts {
            mpirun: Some(ending.mpirun),
            findings: scanner.findings(),
            elastic: std::mem::take(&mut self.elastic),
            ..Facts::default()
        };
        let at = |witness: &Self, host: &HostName| {
            witness.trouble.get(host).copied().unwrap_or(Micros(0))
        };
        match &ending.cause {
            None | Some(Cause::Rank) => {}
            Some(Cause::Told(stop)) => {
                let at = self.told.unwrap_or(Micros(0));
                facts.told = Some(Told { signal: stop.number(), at });
            }
            // Killed by whom? A line that names the cause says more than the kill.
            Some(Cause::Vanished(..)) if facts.findings.iter().any(names_a_cause) => {}
            Some(Cause::Vanished(host, source)) => {
                if let Some((hello, at)) = self.vanished.get(&(host.clone(), *source)) {
                    self.ranks.push(rank_end(host, hello, SIGKILL, false, *at));
                }
            }
            Some(Cause::Lost(host, loss)) => {
                let what = match loss {
                    Loss::Connection(reason) => HostFact::ConnectionLost { reason: reason.clone() },
                    Loss::Silent { missed, .. } => HostFact::HeartbeatsMissed { missed: *missed },
                };
                self.host(host, at(&self, host), what);
            }
            Some(Cause::Evicted(host)) => self.host(host, at(&self, host), HostFact::ToldToStop),
            Some(Cause::Daemon(host, remote::Ended::Status(status))) => {
                self.daemon_failed(host, at(&self, host), *status);
            }
            Some(Cause::Daemon(host, remote::Ended::Lost(reason))) => {
                let what = HostFact::ConnectionLost { reason: reason.clone() };
                self.host(host, at(&self, host), what);
            }
            Some(Cause::Misplaced(words)) => {
                facts.stage = Some(StageFailure {
                    class: Class::Placement,
                    words: format!("place the ranks: {words}"),
                    hint: None,
                });
            }
            Some(Cause::Stalled { host, rank, seconds }) => {
                let host = Some(host.short().to_owned());
                let at = self.failing.unwrap_or(Micros(0));
                facts.stall = Some(Stall { at, seconds: *seconds, rank: Some(*rank), host });
            }
        }
        facts.ranks = self.ranks;
        facts.hosts = self.hosts;
        facts
    }
}

fn names_a_cause(finding: &Finding) -> bool {
    finding.rule.strength >= Strength::End
}

/// The verdict over a launch.
#[must_use]
pub fn verdict(facts: &Facts, rules: &Arc<Rules>, policy: ExitPolicy) -> Verdict {
    let mut verdict = classify(facts, rules, policy);
    // Who pressed Ctrl-C, or closed the pipe, gets the code that a shell gives it.
    if let (Class::Terminated, Some(told)) = (verdict.class, facts.told) {
        verdict.code = WaitStatus::Signaled { signal: told.signal, core: false }.shell_code();
    }
    verdict
}

fn rank_end(host: &HostName, hello: &Hello, status: WaitStatus, told: bool, at: Micros) -> RankEnd {
    let identity = hello.identity.clone().unwrap_or_default();
    RankEnd {
        rank: identity.rank,
        local_rank: identity.local_rank,
        host: host.short().to_owned(),
        pod: None,
        pid: hello.pid,
        status,
        told,
        at,
        wall_us: 0,
        usage: Usage::default(),
        stderr: String::new(),
    }
}

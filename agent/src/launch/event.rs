//! What can happen during a launch, and what can be done about it.
//!
//! Must not hold logic; [`dispatch`](super::dispatch) has it.

use std::fmt;
use std::time::Duration;

use super::journal::State;
use crate::devices::trouble::OomKills;
use crate::ids::HostName;
use crate::process::status::WaitStatus;
use crate::relay::{Report, Source};
use crate::ssh::control::{RankSeen, Still};
use crate::ssh::remote::Ended;

/// A request to stop that muster received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM: the platform, or an operator.
    Terminate,
    /// SIGINT: somebody at a terminal.
    Interrupt,
    /// SIGHUP: the terminal went away.
    HangUp,
    /// SIGPIPE, as it were: nobody reads our standard output any more.
    Pipe,
}

impl Stop {
    /// The signal's number.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Terminate => nix::libc::SIGTERM,
            Self::Interrupt => nix::libc::SIGINT,
            Self::HangUp => nix::libc::SIGHUP,
            Self::Pipe => nix::libc::SIGPIPE,
        }
    }

    /// The signal's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::HangUp => "SIGHUP",
            Self::Pipe => "SIGPIPE",
        }
    }
}

/// How a worker was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Its connection ended.
    Connection(String),
    /// It gave no sign of life.
    Silent {
        /// Heartbeats that did not come.
        missed: u32,
        /// For how long nothing came.
        time: Duration,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(reason) => f.write_str(reason),
            Self::Silent { missed, time } => {
                write!(f, "no sign of life for {:.1} s, {missed} heartbeats", time.as_secs_f64())
            }
        }
    }
}

/// Waits that end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Ranks, or mpirun, were asked to end and have had their grace.
    Grace,
    /// All ranks have ended and mpirun has had its time to follow.
    Follow,
    /// All ranks have ended well and mpirun has had its time to follow.
    Overdue,
    /// A wrapper vanished without a report, and mpirun has had its time to say why.
    Vanished,
    /// mpirun was killed and has had its time to be gone.
    Kill,
    /// An MPI daemon ended and mpirun has had its time to notice.
    DaemonLeft,
    /// The workers have had their time to clear up.
    Clear,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// muster was told to stop.
    Stop(Stop),
    /// The guard above this process was killed.
    ParentGone,
    /// mpirun ended.
    MpirunEnded(WaitStatus),
    /// A wait is over.
    Timer(Timer),
    /// mpirun asked its remote-shell agent for a command on this host.
    AgentCalled(HostName),
    /// That command ended.
    AgentEnded(HostName, Ended),
    /// mpirun told the agent of this host to stop, and with it the command.
    AgentStopped(HostName),
    /// Ranks run on this host now.
    Ranks(HostName, Vec<RankSeen>),
    /// A rank's wrapper on this host says that its program was started, or how it ended.
    Rank(HostName, Report),
    /// The kernel's OOM killer took processes on this host.
    OomKilled(HostName, OomKills),
    /// These file systems of this host have no room left.
    Full(HostName, Vec<String>),
    /// For how long the ranks of this host have been still; none: it has none that tell.
    Still(HostName, Option<Still>),
    /// This worker is gone.
    WorkerLost(HostName, Loss),
    /// The platform told this worker to stop.
    WorkerStopping(HostName, Duration),
    /// This worker has nothing left of the job: so many processes were told to end, so many killed.
    WorkerCleared(HostName, u32, u32),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// Send this signal to mpirun's process group.
    Signal(i32),
    /// Send this signal to every rank that has a wrapper, on all hosts.
    SignalRanks(i32),
    /// End whatever runs here on behalf of the job, mpirun included.
    ClearHere {
        /// In which it may end by itself first.
        patience: Duration,
        /// Between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// Ask every worker to end what this job started there; each answers with
    /// [`Event::WorkerCleared`] or is lost.
    ClearWorkers {
        /// In which it may end by itself first.
        patience: Duration,
        /// Between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// Start a wait.
    Arm(Timer, Duration),
    /// Tell the user.
    Say(String),
    /// Note that the job is so far, and why.
    State(State, String),
    /// The launch is over.
    Finish(Ending),
}

/// Why a launch ends other than by mpirun's own doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// muster was told to stop.
    Told(Stop),
    /// A rank failed by itself; the reports say which and how.
    Rank,
    /// A wrapper vanished without a report.
    Vanished(HostName, Source),
    /// A worker was lost.
    Lost(HostName, Loss),
    /// The platform told a worker to stop.
    Evicted(HostName),
    /// An MPI daemon ended, and mpirun did not notice.
    Daemon(HostName, Ended),
    /// Ranks started, or did not, other than planned: in words.
    Misplaced(String),
    /// Nobody wrote, and one rank did not compute.
    Stalled {
        /// The host of the rank that stands out.
        host: HostName,
        /// That rank.
        rank: u32,
        /// For how long it has used no CPU time, seconds.
        seconds: u64,
    },
}

/// How a launch ended, as far as the policy knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why, where mpirun alone is not the answer.
    pub cause: Option<Cause>,
    /// How mpirun ended.
    pub mpirun: WaitStatus,
}

//! What can happen during a launch, and what can be done about it.
//!
//! Must not hold logic; [`dispatch`](super::dispatch) has it.

use std::time::Duration;

use crate::exit::Class;
use crate::ids::HostName;
use crate::process::status::WaitStatus;
use crate::relay::Report;
use crate::ssh::control::RankSeen;
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

/// Waits that end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// mpirun was asked to end and has had its grace.
    Grace,
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
    /// The connection to this worker is gone.
    WorkerLost(HostName, String),
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
    /// The launch is over.
    Finish(Outcome),
}

/// How a launch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code of muster.
    pub code: u8,
    /// The class, where muster itself has one; none = the code is mpirun's.
    pub class: Option<Class>,
    /// What to say last, a line each.
    pub lines: Vec<String>,
}

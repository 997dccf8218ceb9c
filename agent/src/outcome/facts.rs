//! What is known of a run, as data. Times are the wall clock's.
//!
//! Must not decide anything; `classify` does.

use std::collections::BTreeMap;

use crate::exit::{Class, Explain};
use crate::outcome::scan::Finding;
use crate::output::clock::Micros;
use crate::process::status::WaitStatus;
use crate::process::usage::Usage;

/// Everything that is known when a run has ended, or when it is decided that it must end.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Ranks that ended, in any order, also those that ended well.
    pub ranks: Vec<RankEnd>,
    /// What befell hosts.
    pub hosts: Vec<HostEvent>,
    /// The launcher was told to stop.
    pub told: Option<Told>,
    /// How mpirun ended; None: it still ran, or is not known (a saved log).
    pub mpirun: Option<WaitStatus>,
    /// The stage that failed before a rank could start, or that found ranks elsewhere than planned.
    pub stage: Option<StageFailure>,
    /// Nobody wrote for the set time, and one rank did not compute.
    pub stall: Option<Stall>,
    /// What `TORCHELASTIC_ERROR_FILE` said, where there was one.
    pub elastic: Vec<ElasticError>,
    /// What the rules found in the output of mpirun and the ranks.
    pub findings: Vec<Finding>,
}

impl Facts {
    /// Names the pod beside each host that has one of another name; `pods` is by the hosts' short names.
    pub fn name_pods(&mut self, pods: &BTreeMap<String, String>) {
        for end in &mut self.ranks {
            end.pod = pods.get(&end.host).cloned();
        }
        for event in &mut self.hosts {
            event.pod = pods.get(&event.host).cloned();
        }
        for finding in &mut self.findings {
            let host = finding.culprit.host.as_ref();
            finding.culprit.pod = host.and_then(|host| pods.get(host)).cloned();
        }
    }
}

/// Who a rank is, and where it ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Culprit {
    /// The rank in the world.
    pub rank: Option<u32>,
    /// The rank among those on its host.
    pub local_rank: Option<u32>,
    /// The host's name.
    pub host: Option<String>,
    /// The pod, where it is called otherwise than the host.
    pub pod: Option<String>,
}

impl Culprit {
    /// Whether it names nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A host and nothing else.
    #[must_use]
    pub fn host(name: &str) -> Self {
        Self { host: Some(name.to_owned()), ..Self::default() }
    }
}

/// A rank's end, as its wrapper saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankEnd {
    /// The rank in the world.
    pub rank: u32,
    /// The rank among those on its host, where known.
    pub local_rank: Option<u32>,
    /// Its host.
    pub host: String,
    /// Its pod, where it is called otherwise.
    pub pod: Option<String>,
    /// Its process, in the host's PID namespace.
    pub pid: i32,
    /// How it ended.
    pub status: WaitStatus,
    /// Whether a terminating signal was passed on to it before: then its end is no failure of its own.
    pub told: bool,
    /// When.
    pub at: Micros,
    /// From its start to its end, microseconds.
    pub wall_us: u64,
    /// What it used.
    pub usage: Usage,
    /// The last lines of its standard error, bounded.
    pub stderr: String,
}

impl RankEnd {
    /// Why its wrapper could not start it, where that is so: then it took no time, and the code is ours.
    #[must_use]
    pub fn not_started(&self) -> Option<Class> {
        let WaitStatus::Exited(code) = self.status else { return None };
        let class = Class::ALL.into_iter().find(|class| class.code() == code)?;
        (self.wall_us == 0 && class != Class::Ok).then_some(class)
    }

    /// Who it is.
    #[must_use]
    pub fn culprit(&self) -> Culprit {
        Culprit {
            rank: Some(self.rank),
            local_rank: self.local_rank,
            host: Some(self.host.clone()),
            pod: self.pod.clone(),
        }
    }
}

/// Something that befell a host, as its worker said or as was seen from the launcher.
#[derive(Debug, Clone)]
pub struct HostEvent {
    /// Which.
    pub host: String,
    /// Its pod, where it is called otherwise.
    pub pod: Option<String>,
    /// When. For silence: when it was last heard, not when patience ended.
    pub at: Micros,
    /// What.
    pub what: HostFact,
}

/// What can befall a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFact {
    /// The kernel's OOM killer took processes: counted in the cgroup (`memory.events` of v2,
    /// `memory.oom_control` of v1).
    OomKill {
        /// How many processes since the job began.
        kills: u64,
        /// The cgroup's limit, bytes.
        limit: Option<u64>,
        /// The most that was in use, bytes.
        peak: Option<u64>,
    },
    /// The platform told the worker to stop (SIGTERM).
    ToldToStop,
    /// A file system is full.
    DiskFull {
        /// Where it is mounted, e.g. `/dev/shm`.
        path: String,
    },
    /// The worker's connection ended.
    ConnectionLost {
        /// In whose words.
        reason: String,
    },
    /// The worker was not heard of.
    HeartbeatsMissed {
        /// How many in a row.
        missed: u32,
    },
    /// The MPI daemon ended badly by itself.
    DaemonFailed {
        /// Its name, e.g. `orted`.
        program: String,
        /// How.
        status: WaitStatus,
    },
}

/// The launcher's own order to stop.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// By which signal.
    pub signal: i32,
    /// When.
    pub at: Micros,
}

/// An error of a stage before the ranks ran, or of their placement, rendered so that it can be kept.
#[derive(Debug, Clone)]
pub struct StageFailure {
    /// Its class.
    pub class: Class,
    /// Its words, after "failed to ".
    pub words: String,
    /// The way out of it.
    pub hint: Option<String>,
}

impl From<&dyn Explain> for StageFailure {
    fn from(error: &dyn Explain) -> Self {
        Self { class: error.class(), words: error.to_string(), hint: error.hint() }
    }
}

/// What `--stall-timeout` saw.
#[derive(Debug, Clone)]
pub struct Stall {
    /// When it was noticed.
    pub at: Micros,
    /// Seconds for which that rank used no CPU time.
    pub seconds: u64,
    /// The rank that has been idle the longest, where one stands out.
    pub rank: Option<u32>,
    /// Its host, by its short name.
    pub host: Option<String>,
}

/// What PyTorch's elastic agent keeps of the first exception of a rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticError {
    /// The rank, where known.
    pub rank: Option<u32>,
    /// The exception's message.
    pub message: String,
    /// Its time, microseconds since 1970, where the file has one.
    pub at: Option<Micros>,
}

impl ElasticError {
    /// Reads an error file: `{"message": {"message": …, "extraInfo": {"timestamp": …}}}`, or with a
    /// plain string as the message (torch/distributed/elastic/multiprocessing/errors/error_handler.py).
    #[must_use]
    pub fn parse(rank: Option<u32>, json: &[u8]) -> Option<Self> {
        let file: serde_json::Value = serde_json::from_slice(json).ok()?;
        let outer = file.get("message")?;
        let message = outer.get("message").unwrap_or(outer).as_str()?.to_owned();
        let stamp = outer.pointer("/extraInfo/timestamp");
        let seconds = stamp.and_then(|at| at.as_u64().or_else(|| at.as_str()?.parse().ok()));
        Some(Self { rank, message, at: seconds.map(|s| Micros(s.saturating_mul(1_000_000))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elastic_error_files() {
        let full = br#"{"message": {"message": "RuntimeError: boom", "extraInfo":
            {"py_callstack": "x", "timestamp": "1700000000"}}}"#;
        let parsed = ElasticError::parse(Some(3), full).unwrap();
        assert_eq!(parsed.message, "RuntimeError: boom");
        assert_eq!(parsed.at, Some(Micros(1_700_000_000_000_000)));
        let short =
            ElasticError::parse(None, br#"{"message": "SIGKILL", "timestamp": 1}"#).unwrap();
        assert_eq!((short.message.as_str(), short.at), ("SIGKILL", None));
        for bad in [&b""[..], b"{}", b"[1]", b"\xff", br#"{"message": 3}"#] {
            assert_eq!(ElasticError::parse(None, bad), None);
        }
    }
}

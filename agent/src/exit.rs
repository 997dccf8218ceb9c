//! THE exit-code table: what each class of ending is called, its code, and what it means.
//!
//! Must not decide which class an ending has; stages name a class, this file gives its number.
//!
//! Kubeflow's convention: 1-127 is permanent, 128-255 can be retried. 129-159 belong to shells
//! (128 + signal number), so no class has a code there except 143, which is what it says.

use std::error::Error;
use std::fmt;

/// How a run of muster ended, in the classes that operators route by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Every rank ended with 0.
    Ok,
    /// A rank failed with a code outside the pass-through ranges.
    AppError,
    /// `MPI_Abort` with such a code.
    AppAbort,
    /// A rank died of SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGABRT.
    AppCrash,
    /// The kernel's OOM killer took a rank, or an allocation failed.
    HostOom,
    /// Out of device memory.
    GpuOom,
    /// The request does not fit the hosts.
    NotEnoughSlots,
    /// The program, or the MPI daemon, is missing on a host.
    CommandNotFound,
    /// MPI families or versions differ between hosts, or mpirun is missing.
    MpiMismatch,
    /// Key missing, unreadable or refused.
    AuthFailed,
    /// Bad flags, hostfile or environment.
    Config,
    /// Ranks did not start where the plan put them.
    Placement,
    /// Disk or /dev/shm full, a port in use, limits too low.
    LocalResource,
    /// A bug in muster.
    Internal,
    /// muster was told to stop (SIGTERM).
    Terminated,
    /// Hosts never appeared in DNS.
    NameResolution,
    /// Hosts resolve, but never became ready.
    WorkersNotReady,
    /// A worker or its node vanished.
    WorkerLost,
    /// A worker was told to stop by the platform.
    Evicted,
    /// The MPI daemon started and failed.
    DaemonFailed,
    /// NCCL, UCX, libfabric or verbs transport failure.
    Fabric,
    /// XID, ECC, lost device or driver failure.
    GpuFault,
    /// No sign of progress within the set time.
    Stalled,
}

impl Class {
    /// Every class, in the order of the codes.
    pub const ALL: [Self; 23] = [
        Self::Ok,
        Self::AppError,
        Self::AppAbort,
        Self::AppCrash,
        Self::HostOom,
        Self::GpuOom,
        Self::NotEnoughSlots,
        Self::CommandNotFound,
        Self::MpiMismatch,
        Self::AuthFailed,
        Self::Config,
        Self::Placement,
        Self::LocalResource,
        Self::Internal,
        Self::Terminated,
        Self::NameResolution,
        Self::WorkersNotReady,
        Self::WorkerLost,
        Self::Evicted,
        Self::DaemonFailed,
        Self::Fabric,
        Self::GpuFault,
        Self::Stalled,
    ];

    /// The process exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::AppError => 80,
            Self::AppAbort => 81,
            Self::AppCrash => 82,
            Self::HostOom => 83,
            Self::GpuOom => 84,
            Self::NotEnoughSlots => 85,
            Self::CommandNotFound => 86,
            Self::MpiMismatch => 87,
            Self::AuthFailed => 88,
            Self::Config => 89,
            Self::Placement => 90,
            Self::LocalResource => 91,
            Self::Internal => 99,
            Self::Terminated => 143,
            Self::NameResolution => 170,
            Self::WorkersNotReady => 171,
            Self::WorkerLost => 172,
            Self::Evicted => 173,
            Self::DaemonFailed => 174,
            Self::Fabric => 175,
            Self::GpuFault => 176,
            Self::Stalled => 177,
        }
    }

    /// The name by which logs and manifests call it, e.g. `name-resolution`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::AppError => "app-error",
            Self::AppAbort => "app-abort",
            Self::AppCrash => "app-crash",
            Self::HostOom => "host-oom",
            Self::GpuOom => "gpu-oom",
            Self::NotEnoughSlots => "not-enough-slots",
            Self::CommandNotFound => "command-not-found",
            Self::MpiMismatch => "mpi-mismatch",
            Self::AuthFailed => "auth-failed",
            Self::Config => "config",
            Self::Placement => "placement",
            Self::LocalResource => "local-resource",
            Self::Internal => "internal",
            Self::Terminated => "terminated",
            Self::NameResolution => "name-resolution",
            Self::WorkersNotReady => "workers-not-ready",
            Self::WorkerLost => "worker-lost",
            Self::Evicted => "evicted",
            Self::DaemonFailed => "daemon-failed",
            Self::Fabric => "fabric",
            Self::GpuFault => "gpu-fault",
            Self::Stalled => "stalled",
        }
    }

    /// What it means, in a few words for a table.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "every rank ended with 0",
            Self::AppError => "a rank failed, with a code that is not passed on",
            Self::AppAbort => "a rank called MPI_Abort, with a code that is not passed on",
            Self::AppCrash => "a rank died of SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGABRT",
            Self::HostOom => "the kernel's OOM killer took a rank, or an allocation failed",
            Self::GpuOom => "out of device memory",
            Self::NotEnoughSlots => "the request does not fit the hosts",
            Self::CommandNotFound => {
                "the program, a part of it, or the MPI daemon is missing on a host"
            }
            Self::MpiMismatch => {
                "MPI families or versions differ between hosts, or mpirun is missing"
            }
            Self::AuthFailed => "key missing, unreadable or refused",
            Self::Config => "bad flags, hostfile or environment",
            Self::Placement => "ranks did not start where the plan put them",
            Self::LocalResource => "disk or /dev/shm full, a port in use, limits too low",
            Self::Internal => "a bug in muster",
            Self::Terminated => "the launcher was told to stop",
            Self::NameResolution => "hosts never appeared in DNS",
            Self::WorkersNotReady => "hosts resolve, but never became ready",
            Self::WorkerLost => "a worker or its node vanished",
            Self::Evicted => "the platform told a worker, or the job, to stop",
            Self::DaemonFailed => "the MPI daemon started and failed",
            Self::Fabric => "a transport of NCCL, UCX, libfabric or verbs failed",
            Self::GpuFault => "XID, ECC, lost device or driver failure",
            Self::Stalled => "no sign of progress within the set time",
        }
    }

    /// Whether running the same job again, unchanged, can succeed.
    #[must_use]
    pub const fn retryable(self) -> bool {
        self.code() >= 128
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An error that knows its place in the table and what the reader can do about it.
///
/// `Display` is the lowercase fragment that reads well after "failed to …"; the way out of it is
/// in [`hint`](Explain::hint) and is printed on a line of its own.
pub trait Explain: Error {
    /// The class that the process ends with when this error ends it.
    fn class(&self) -> Class;

    /// What to do about it: one sentence, or a command to run.
    fn hint(&self) -> Option<String>;
}

/// Any stage's error on its way out, still able to explain itself.
#[derive(Debug)]
pub struct Failure(Box<dyn Explain + Send + Sync>);

impl Failure {
    /// The error.
    #[must_use]
    pub fn error(&self) -> &(dyn Explain + Send + Sync) {
        self.0.as_ref()
    }
}

impl<E: Explain + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

/// The kernel would not give what every asynchronous program needs: epoll, a pipe, signals.
#[derive(Debug, thiserror::Error)]
#[error("start the event loop: {0}")]
pub struct RuntimeError(#[source] pub std::io::Error);

impl Explain for RuntimeError {
    fn class(&self) -> Class {
        Class::LocalResource
    }

    fn hint(&self) -> Option<String> {
        Some("raise the limit on file descriptors (ulimit -n)".into())
    }
}

#[cfg(test)]
mod tests {
    use super::Class;

    #[test]
    fn codes_ascend_and_stay_out_of_the_shells_range() {
        let codes: Vec<u8> = Class::ALL.iter().map(|class| class.code()).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
        assert!(codes.iter().all(|code| *code == 143 || !(129..=159).contains(code)), "{codes:?}");
    }
}

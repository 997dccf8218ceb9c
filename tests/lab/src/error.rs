//! What can go wrong in the lab, in words that read well after "failed to ".
//!
//! Must not hide a cause: every variant that has one carries it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The lab's result.
pub type Result<T> = std::result::Result<T, LabError>;

/// A failure of the lab itself, never of the program under test.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces, bridges and cgroups need root.
    #[error(
        "make a lab: namespaces and bridges need root, and this process runs as uid {uid}\n\
         hint: run as root, or `unshare --user --map-root-user {program} …`, where not all is to be had (one user id, no limits); \
         where unshare fails too, see that sysctl user.max_user_namespaces is not 0 and that \
         kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns do not forbid it"
    )]
    NotRoot {
        /// The effective uid of this process.
        uid: u32,
        /// Its program.
        program: String,
    },
    /// The directory for labs cannot be used.
    #[error("make a lab in {}: {source}\nhint: it has to belong to uid {owner}; let its owner remove it", base.display())]
    Base {
        /// The directory.
        base: PathBuf,
        /// The cause.
        source: io::Error,
        /// Whose it should be, as seen from outside any user namespace of this process.
        owner: u32,
    },
    /// A host asks for an id that this process's user namespace does not have.
    #[error(
        "give host {host} {kind} {id}: this user namespace has no such id\n\
         hint: run as root, or `unshare --user --map-root-user --map-auto`, which maps more ids where \
         /etc/subuid and /etc/subgid grant them"
    )]
    NoSuchId {
        /// The host's name.
        host: String,
        /// `user` or `group`.
        kind: &'static str,
        /// The id.
        id: u32,
    },
    /// Something that a user namespace does not allow.
    #[error(
        "{what}: only the machine's root can, and this process is root of a user namespace\nhint: run as root"
    )]
    OnlyRoot {
        /// What was asked for.
        what: String,
    },
    /// A system call or a file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and to what.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A tool (`ip`, `tc`, `openssl`, …) ended badly.
    #[error("run `{command}`: {detail}\nhint: run tests/setup")]
    Tool {
        /// The command line.
        command: String,
        /// Its exit status and what it wrote to stderr.
        detail: String,
    },
    /// The host has no PID 1 at the moment.
    #[error("use host {host}: it is down\nhint: boot it first")]
    Down {
        /// The host's name.
        host: String,
    },
    /// The host has a PID 1 and must not have one for this.
    #[error("{what} host {host}: it is up\nhint: kill it first")]
    Up {
        /// What was asked for.
        what: &'static str,
        /// The host's name.
        host: String,
    },
    /// Two hosts of one lab cannot share a name.
    #[error("add host {host}: the lab has one of this name")]
    Duplicate {
        /// The name.
        host: String,
    },
    /// Something did not happen in time.
    #[error("see {what} within {limit:?}\n{tail}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The end of what the process had written by then.
        tail: String,
    },
    /// The process ended, so what was waited for can never come.
    #[error("see {what}: the process ended with {status}\n{tail}")]
    Ended {
        /// What was waited for.
        what: String,
        /// How the process ended.
        status: String,
        /// The end of what it had written.
        tail: String,
    },
    /// An MPI install or a compiled program is not there.
    #[error("find {}\nhint: run tests/setup", missing.display())]
    Setup {
        /// The file that is missing.
        missing: PathBuf,
    },
    /// The machine has no cgroup controller for a limit that was asked for.
    #[error(
        "limit {resource}: this machine offers no cgroup controller for it under /sys/fs/cgroup"
    )]
    NoController {
        /// `memory` or `cpu`.
        resource: &'static str,
    },
    /// Not a domain name.
    #[error("publish {name:?}: not a domain name")]
    Name {
        /// What was given.
        name: String,
    },
}

/// Names what was being done when a system call failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| LabError::Io { what: what(), source: cause.into() })
    }
}

//! Entering and making Linux namespaces, always on a thread that is given up afterwards.
//!
//! Must not change the namespaces of a thread it did not start: tests run on the others.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Doing, LabError, Result};

/// The namespaces of a running host, kept open by descriptor.
#[derive(Debug)]
pub(crate) struct HostNamespaces {
    pub(crate) mount: OwnedFd,
    pub(crate) uts: OwnedFd,
    pub(crate) ipc: OwnedFd,
    pub(crate) pid: OwnedFd,
    pub(crate) cgroup: Option<OwnedFd>,
}

impl HostNamespaces {
    /// Moves the calling thread into the host, all but the network; children are born in its PID namespace.
    pub(crate) fn enter(&self) -> Result<()> {
        unshare(CloneFlags::CLONE_FS).doing(|| "unshare the file system attributes".into())?;
        for (fd, kind, what) in [
            (&self.uts, CloneFlags::CLONE_NEWUTS, "uts"),
            (&self.ipc, CloneFlags::CLONE_NEWIPC, "ipc"),
            (&self.pid, CloneFlags::CLONE_NEWPID, "pid"),
            (&self.mount, CloneFlags::CLONE_NEWNS, "mount"),
        ] {
            setns(fd, kind).doing(|| format!("enter the {what} namespace"))?;
        }
        if let Some(cgroup) = &self.cgroup {
            setns(cgroup, CloneFlags::CLONE_NEWCGROUP)
                .doing(|| "enter the cgroup namespace".into())?;
        }
        Ok(())
    }
}

/// Opens one of the calling thread's own namespaces (`net`, `mnt`, …).
pub(crate) fn own(kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/thread-self/ns/{kind}");
    Ok(File::open(&path).doing(|| format!("open {path}"))?.into())
}

/// Moves the calling thread into a network namespace.
pub(crate) fn enter_net(net: &OwnedFd) -> Result<()> {
    setns(net, CloneFlags::CLONE_NEWNET).doing(|| "enter a network namespace".into())
}

/// Runs `work` on a thread of its own, whose namespaces may be changed.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Runs `work` inside a network namespace.
pub(crate) fn in_net<T: Send>(net: &OwnedFd, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    apart(|| {
        enter_net(net)?;
        work()
    })
}

/// Makes an empty network namespace that lives as long as the descriptor.
pub(crate) fn new_net() -> Result<OwnedFd> {
    apart(|| {
        unshare(CloneFlags::CLONE_NEWNET).doing(|| "make a network namespace".into())?;
        own("net")
    })
}

/// Fails with a clear word where the machine does not let us make namespaces.
pub(crate) fn require_root() -> Result<()> {
    let uid = nix::unistd::geteuid();
    if uid.is_root() {
        return Ok(());
    }
    let program =
        std::env::current_exe().map_or_else(|_| "…".into(), |path| path.display().to_string());
    Err(LabError::NotRoot { uid: uid.as_raw(), program })
}

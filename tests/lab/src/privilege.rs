//! What a host's processes may do: identity, capabilities, limits. Applied in the child, between fork and exec.
//!
//! Must not allocate or lock in [`Privileges::apply`]: it runs in the fork of a process with many threads.

use std::io;

use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::ids;

/// The capabilities of a host's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Caps {
    /// What container runtimes give by default.
    #[default]
    Container,
    /// None at all, as `drop: [ALL]` leaves them.
    None,
    /// All the lab has, as `privileged: true` gives.
    All,
}

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD,
/// AUDIT_WRITE, SETFCAP: the set that containerd and Docker agree on (numbers from linux/capability.h).
const CONTAINER: &[u32] = &[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

/// The highest capability number that is tried; the kernel answers EINVAL beyond its own last one.
const LAST: u32 = 63;

impl Caps {
    fn keeps(self, capability: u32) -> bool {
        match self {
            Caps::Container => CONTAINER.contains(&capability),
            Caps::None => false,
            Caps::All => true,
        }
    }
}

/// Identity and limits, ready to be applied.
#[derive(Debug, Clone)]
pub(crate) struct Privileges {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) caps: Caps,
    pub(crate) no_new_privileges: bool,
    pub(crate) limits: Vec<(Resource, u64)>,
    /// Whether supplementary groups can be set at all: most user namespaces deny it.
    pub(crate) set_groups: bool,
}

impl Privileges {
    /// Root with everything, for what the lab itself does inside a host.
    pub(crate) fn lab() -> Self {
        Self {
            uid: Uid::from_raw(0),
            gid: Gid::from_raw(0),
            caps: Caps::All,
            no_new_privileges: false,
            limits: Vec::new(),
            set_groups: ids::here().set_groups,
        }
    }

    /// Gives up what is not ours. An exec computes the rest: root gets its bounding set, another uid gets nothing.
    pub(crate) fn apply(&self) -> io::Result<()> {
        for &(resource, value) in &self.limits {
            setrlimit(resource, value, value)?;
        }
        for capability in (0..=LAST).filter(|&capability| !self.caps.keeps(capability)) {
            // SAFETY: prctl(PR_CAPBSET_DROP) takes plain numbers and touches no memory of ours.
            let answer = unsafe {
                libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0)
            };
            if answer == -1 && nix::errno::Errno::last() == nix::errno::Errno::EINVAL {
                break;
            }
        }
        if self.set_groups {
            setgroups(&[self.gid])?;
        }
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)?;
        if self.no_new_privileges {
            prctl::set_no_new_privs()?;
        }
        Ok(())
    }
}

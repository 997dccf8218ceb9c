//! What a wait status means: to a shell, to a reader, and on the SSH wire.
//!
//! Must not wait for anything; whoever waits hands the raw status in.

use std::borrow::Cow;
use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use nix::libc;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How a process ended.
///
/// Our own and not nix's, which cannot hold a real-time signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitStatus {
    /// It called `exit` with this code.
    Exited(u8),
    /// A signal ended it.
    Signaled {
        /// The signal's number on Linux.
        signal: i32,
        /// Whether the kernel says that it dumped core.
        core: bool,
    },
}

impl WaitStatus {
    /// Decodes what `wait4` stored; `None` where the process only stopped or continued.
    #[must_use]
    pub fn from_raw(raw: i32) -> Option<Self> {
        if libc::WIFEXITED(raw) {
            // WEXITSTATUS is the low byte of what was given to exit().
            return Some(Self::Exited((libc::WEXITSTATUS(raw) & 0xff) as u8));
        }
        libc::WIFSIGNALED(raw)
            .then(|| Self::Signaled { signal: libc::WTERMSIG(raw), core: libc::WCOREDUMP(raw) })
    }

    /// The code that a shell shows as `$?`: 128 + the signal's number, or the exit code.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            // A wait status has seven bits for the signal, so this cannot overflow when it is real.
            Self::Signaled { signal, .. } => 128 | (signal & 0x7f) as u8,
        }
    }

    /// Whether it ended with exit code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// What `std::process::Child::wait` returns; it never reports a stop.
impl From<ExitStatus> for WaitStatus {
    fn from(status: ExitStatus) -> Self {
        Self::from_raw(status.into_raw())
            .unwrap_or(Self::Signaled { signal: status.stopped_signal().unwrap_or(0), core: false })
    }
}

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled { signal, core } => {
                match Signal::try_from(signal) {
                    Ok(name) => write!(f, "killed by {} ({signal})", name.as_str())?,
                    Err(_) => write!(f, "killed by signal {signal}")?,
                }
                if core { f.write_str(", core dumped") } else { Ok(()) }
            }
        }
    }
}

/// The thirteen signals that RFC 4254, section 6.10, names.
const RFC_4254: [Signal; 13] = [
    Signal::SIGABRT,
    Signal::SIGALRM,
    Signal::SIGFPE,
    Signal::SIGHUP,
    Signal::SIGILL,
    Signal::SIGINT,
    Signal::SIGKILL,
    Signal::SIGPIPE,
    Signal::SIGQUIT,
    Signal::SIGSEGV,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The signal's name in an `exit-signal` or `signal` message (RFC 4254, section 6.10).
///
/// The RFC leaves other signals to local names of the form `name@domain`: SIGBUS travels as
/// `BUS@muster`, the real-time signal 34 as `34@muster`, so that both ends of muster agree and any
/// other client still prints something telling.
#[must_use]
pub fn ssh_name(signal: i32) -> Cow<'static, str> {
    let Ok(known) = Signal::try_from(signal) else {
        return Cow::Owned(format!("{signal}@muster"));
    };
    let name = known.as_str().trim_start_matches("SIG");
    if RFC_4254.contains(&known) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("{name}@muster"))
    }
}

/// The number of a signal named on the SSH wire, whoever's local name it is.
///
/// `None` for a name that says nothing, such as OpenSSH's `SIG@openssh.com` for "some other signal".
#[must_use]
pub fn from_ssh_name(name: &str) -> Option<i32> {
    let local = name.split_once('@').map_or(name, |(local, _)| local);
    let bare = local.strip_prefix("SIG").unwrap_or(local);
    if let Ok(number) = bare.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    format!("SIG{bare}").parse::<Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_statuses() {
        let signaled = |signal, core| Some(WaitStatus::Signaled { signal, core });
        for (raw, status, code, text) in [
            (0, Some(WaitStatus::Exited(0)), 0, "exit code 0"),
            (3 << 8, Some(WaitStatus::Exited(3)), 3, "exit code 3"),
            (255 << 8, Some(WaitStatus::Exited(255)), 255, "exit code 255"),
            (9, signaled(9, false), 137, "killed by SIGKILL (9)"),
            (11 | 0x80, signaled(11, true), 139, "killed by SIGSEGV (11), core dumped"),
            (34, signaled(34, false), 162, "killed by signal 34"),
            (64, signaled(64, false), 192, "killed by signal 64"),
        ] {
            let decoded = WaitStatus::from_raw(raw);
            assert_eq!(decoded, status, "{raw:#x}");
            let decoded = decoded.unwrap();
            assert_eq!((decoded.shell_code(), decoded.to_string().as_str()), (code, text));
            assert_eq!(WaitStatus::from(ExitStatus::from_raw(raw)), decoded);
            assert_eq!(decoded.success(), raw == 0);
        }
        assert_eq!(WaitStatus::from_raw(0x137f), None, "stopped by SIGSTOP");
        assert_eq!(WaitStatus::from_raw(0xffff), None, "continued");
    }

    #[test]
    fn ssh_names_go_there_and_back() {
        for (signal, name) in
            [(9, "KILL"), (15, "TERM"), (11, "SEGV"), (7, "BUS@muster"), (34, "34@muster")]
        {
            assert_eq!(ssh_name(signal), name);
        }
        for signal in 1..=64 {
            assert_eq!(from_ssh_name(&ssh_name(signal)), Some(signal), "{signal}");
        }
        for (name, signal) in [
            ("SIGTERM", Some(15)),
            ("BUS@example.org", Some(7)),
            ("SIG@openssh.com", None),
            ("", None),
            ("0@muster", None),
            ("BOGUS", None),
        ] {
            assert_eq!(from_ssh_name(name), signal, "{name}");
        }
    }

    #[test]
    fn names_are_those_of_the_rfc() {
        let names: Vec<_> = (1..=64).map(ssh_name).filter(|name| !name.contains('@')).collect();
        assert_eq!(
            names,
            [
                "HUP", "INT", "QUIT", "ILL", "ABRT", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
                "ALRM", "TERM"
            ]
        );
    }
}

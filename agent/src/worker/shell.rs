//! Starts a command line as a remote shell does: `/bin/sh -c`, in the home directory.
//!
//! Must not know who asked for it; the worker's server and the launcher's own host both start
//! commands here.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::config::variables::MUSTER_SESSION;
use crate::process::reaper::Reaper;
use crate::process::spawn::{Child, SpawnError, spawn};

/// The shell that MPI launchers write their command lines for.
const SHELL: &str = "/bin/sh";

/// Starts `command` with this process's environment, `env` over it, and the mark of `session`.
///
/// Its working directory is `$HOME`, as with any remote shell, or `/` where that is no directory:
/// an arbitrary UID without a passwd entry often has none. HOME is always set, because Open MPI 5's
/// prted dies of a segmentation fault where it is not.
///
/// # Errors
/// See [`SpawnError`].
pub fn start(
    reaper: &Reaper,
    command: &[u8],
    env: &[(String, String)],
    session: &str,
) -> Result<Child, SpawnError> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_dir());
    let home = home.unwrap_or_else(|| PathBuf::from("/"));
    let mut shell = Command::new(SHELL);
    shell
        .arg("-c")
        .arg(OsStr::from_bytes(command))
        .env("HOME", &home)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .env(MUSTER_SESSION, session)
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    spawn(reaper, shell)
}

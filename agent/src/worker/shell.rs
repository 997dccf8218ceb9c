//! Starts a command line as a remote shell does, in the home directory: with `/bin/sh -c`, or without
//! where the shell would do nothing but start a program.
//!
//! Must not know who asked for it; the worker's server and the launcher's own host both start
//! commands here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{AccessFlags, access};

use super::plain;
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
/// A plain line saves the shell, which dash would leave waiting beside each daemon (it forks for its
/// last command too).
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
    let prepared = |program: &OsStr| {
        let mut prepared = Command::new(program);
        prepared
            .env("HOME", &home)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env(MUSTER_SESSION, session)
            .current_dir(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        prepared
    };
    if let Some(words) = plain::words(command)
        && let Some(file) = find(&words[0], env)
    {
        let mut direct = prepared(file.as_os_str());
        direct.arg0(&words[0]).args(&words[1..]);
        // Any shell sets it, and Open MPI believes it; ours is of another directory.
        direct.env("PWD", home.canonicalize().unwrap_or_else(|_| home.clone()));
        match spawn(reaper, direct) {
            // A script without a #! line, or something that the shell has words and a code for.
            Err(
                SpawnError::NotFound { .. }
                | SpawnError::NoInterpreter { .. }
                | SpawnError::PermissionDenied { .. }
                | SpawnError::Format { .. }
                | SpawnError::TooLong { .. },
            ) => {}
            started => return started,
        }
    }
    let mut shell = prepared(OsStr::new(SHELL));
    shell.arg("-c").arg(OsStr::from_bytes(command));
    spawn(reaper, shell)
}

/// The file that a shell would start; none where only a shell can say.
///
/// Looked up here, because the PATH that counts is the command's, and because std forks where it is to look
/// in another than ours.
fn find(program: &OsStr, env: &[(String, String)]) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program));
    }
    let value = |name: &OsStr| {
        let set = env.iter().rev().find(|(known, _)| name == known.as_str());
        set.map_or_else(|| std::env::var_os(name), |(_, value)| Some(OsString::from(value)))
    };
    // How bash hands a function on to a shell.
    let mut function = OsString::from("BASH_FUNC_");
    function.extend([program, OsStr::new("%%")]);
    if value(&function).is_some() {
        return None;
    }
    let path = value(OsStr::new("PATH"))?;
    std::env::split_paths(&path)
        // What is relative is so to where the command runs.
        .take_while(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|file| executable(file))
}

fn executable(file: &Path) -> bool {
    access(file, AccessFlags::X_OK).is_ok()
}

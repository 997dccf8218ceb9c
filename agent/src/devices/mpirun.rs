//! The MPI launcher of this host: where it is and which it says it is.
//!
//! Must not interpret what it prints (`plan::family` does) and must not start a job.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;

use super::report::Mpi;
use crate::exit::{Class, Explain};
use crate::plan::{Mpirun, family};

/// Names to look for, in this order.
const NAMES: [&str; 5] = ["mpirun", "mpiexec", "mpiexec.hydra", "prterun", "orterun"];

/// How long it may take to say its version.
const LIMIT: Duration = Duration::from_secs(10);

/// Characters of an unknown answer that a message shows.
const SHOWN: usize = 300;

/// Why there is no usable launcher on this host.
#[derive(Debug, Error)]
pub enum MpirunError {
    /// None of the names is an executable on PATH.
    #[error("find {} on PATH ({path})", .names.join(", "))]
    NotFound {
        /// The names that were looked for.
        names: Vec<String>,
        /// What PATH was.
        path: String,
    },
    /// The path that was given is not an executable file.
    #[error("use {} as mpirun: it is not an executable file", .0.display())]
    NotExecutable(PathBuf),
    /// It could not be started.
    #[error("run `{} --version`", .path.display())]
    Start {
        /// The command.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not answer in time and was killed.
    #[error("learn the version of {}: no answer in {} s", .0.display(), LIMIT.as_secs())]
    Silent(PathBuf),
    /// It answered in words that no known family uses.
    #[error("recognise {}: `--version` ended with {status} and said {said:?}", .path.display())]
    Unknown {
        /// The command.
        path: PathBuf,
        /// How it ended.
        status: String,
        /// The beginning of what it said.
        said: String,
    },
}

impl Explain for MpirunError {
    fn class(&self) -> Class {
        match self {
            Self::NotFound { .. }
            | Self::NotExecutable(_)
            | Self::Start { .. }
            | Self::Silent(_)
            | Self::Unknown { .. } => Class::MpiMismatch,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::NotFound { .. } => {
                    "install Open MPI, MPICH or Intel MPI in the image, or put its bin directory on PATH"
                }
                Self::NotExecutable(_) => "name the launcher's own file, such as /usr/bin/mpirun",
                Self::Start { .. } | Self::Silent(_) => {
                    "run it by hand in the same image to see what it waits for or lacks"
                }
                Self::Unknown { .. } => {
                    "muster drives Open MPI, MPICH and Intel MPI; of PyPI's Open MPI 5 call mpirun, not prterun"
                }
            }
            .to_owned(),
        )
    }
}

/// The launcher's absolute path: the one that was named (a path, or a name to look for on `path`),
/// else the first of the usual names.
///
/// # Errors
/// When there is none.
pub fn find(explicit: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf, MpirunError> {
    let names: Vec<OsString> = match explicit {
        Some(named) if named.as_os_str().as_encoded_bytes().contains(&b'/') => {
            return std::path::absolute(named)
                .ok()
                .filter(|file| is_executable(file))
                .ok_or_else(|| MpirunError::NotExecutable(named.to_owned()));
        }
        Some(named) => vec![named.as_os_str().to_owned()],
        None => NAMES.iter().map(OsString::from).collect(),
    };
    let path = path.unwrap_or_default();
    let directories: Vec<PathBuf> =
        std::env::split_paths(path).filter(|directory| directory.is_absolute()).collect();
    names
        .iter()
        .flat_map(|name| directories.iter().map(move |directory| directory.join(name)))
        .find(|file| is_executable(file))
        .ok_or_else(|| MpirunError::NotFound {
            names: names.iter().map(|name| name.to_string_lossy().into_owned()).collect(),
            path: path.to_string_lossy().into_owned(),
        })
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Asks it which it is, for at most 10 seconds.
///
/// Its own directory comes first on PATH, because Intel's `mpirun` is a script that runs the first
/// `mpiexec.hydra` there, which may be MPICH's.
///
/// # Errors
/// When it cannot be run, does not answer, or answers in unknown words.
pub fn identify(path: &Path) -> Result<Mpirun, MpirunError> {
    let output = ask(path, LIMIT)?;
    let said = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    match family::recognise(&said) {
        Some((family, version)) => Ok(Mpirun { path: path.to_owned(), family, version }),
        None => Err(MpirunError::Unknown {
            path: path.to_owned(),
            status: output.status.to_string(),
            said: said.trim().chars().take(SHOWN).collect(),
        }),
    }
}

/// The launcher on this `PATH`, for a report. Asks it who it is, so it may take a moment, and must be
/// over before this process has a reaper.
#[must_use]
pub fn found(path: Option<&OsStr>) -> Option<Mpi> {
    let found = find(None, path).and_then(|path| identify(&path));
    let found = found.inspect_err(|error| tracing::debug!(%error, "no MPI")).ok()?;
    let Mpirun { path, family, version } = found;
    Some(Mpi { family, version, path: path.display().to_string() })
}

fn ask(path: &Path, limit: Duration) -> Result<Output, MpirunError> {
    let start = |source| MpirunError::Start { path: path.to_owned(), source };
    let mut command = Command::new(path);
    command.arg("--version").process_group(0).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(search) = own_directory_first(path, std::env::var_os("PATH")) {
        command.env("PATH", search);
    }
    if std::env::var_os("HOME").is_none() {
        // PRRTE fails without one.
        command.env("HOME", "/");
    }
    let child = command.spawn().map_err(start)?;
    // The group, because a script's child would keep the pipes open.
    let group = i32::try_from(child.id()).ok().map(Pid::from_raw);
    let (sender, answer) = mpsc::sync_channel(1);
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match answer.recv_timeout(limit) {
        Ok(output) => output.map_err(start),
        Err(_) => {
            if let Some(group) = group {
                // It may have ended by itself meanwhile.
                let _ = killpg(group, Signal::SIGKILL);
            }
            Err(MpirunError::Silent(path.to_owned()))
        }
    }
}

fn own_directory_first(path: &Path, search: Option<OsString>) -> Option<OsString> {
    let mut directories = vec![path.parent()?.to_owned()];
    directories.extend(std::env::split_paths(&search.unwrap_or_default()));
    std::env::join_paths(directories).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt;
    use std::time::Instant;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::stat::Mode;

    use super::*;
    use crate::plan::Family;

    fn script(directory: &Path, name: &str, body: &str) -> PathBuf {
        let file = directory.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn finds_names_in_order_and_paths_as_given() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mpiexec = script(a.path(), "mpiexec", "");
        let mpirun = script(b.path(), "mpirun", "");
        let search = std::env::join_paths([a.path(), b.path()]).unwrap();
        assert_eq!(find(None, Some(&search)).unwrap(), mpirun);
        assert_eq!(find(Some(Path::new("mpiexec")), Some(&search)).unwrap(), mpiexec);
        assert_eq!(find(Some(&mpiexec), None).unwrap(), mpiexec);

        std::fs::set_permissions(&mpirun, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(find(None, Some(&search)).unwrap(), mpiexec);
        assert!(matches!(find(Some(&mpirun), None), Err(MpirunError::NotExecutable(_))));
        assert!(matches!(find(None, None), Err(MpirunError::NotFound { .. })));
    }

    #[test]
    fn asks_and_recognises() {
        let home = tempfile::tempdir().unwrap();
        let open =
            script(home.path(), "mpirun", "[ $1 = --version ] && echo 'mpirun (Open MPI) 4.1.4'");
        let expected =
            Mpirun { path: open.clone(), family: Family::OpenMpi4, version: "4.1.4".into() };
        assert_eq!(identify(&open).unwrap(), expected);

        let intel = script(home.path(), "intel", "mpiexec.hydra");
        script(
            home.path(),
            "mpiexec.hydra",
            "echo 'Intel(R) MPI Library, Version 2021.18.1 Build 1'",
        );
        assert_eq!(identify(&intel).unwrap().family, Family::IntelMpi);

        let broken = script(home.path(), "broken", "echo 'no such library' >&2; exit 127");
        let error = identify(&broken).unwrap_err();
        assert!(error.to_string().contains("no such library"), "{error}");
        assert!(error.to_string().contains("127"), "{error}");
        assert_eq!(error.class(), Class::MpiMismatch);
    }

    #[test]
    fn a_silent_one_is_killed_with_its_children() {
        let home = tempfile::tempdir().unwrap();
        // Whoever lives holds the write end; the read end sees the end of file when none does.
        let alive = home.path().join("alive");
        nix::unistd::mkfifo(&alive, Mode::S_IRWXU).unwrap();
        let mut held = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&alive)
            .unwrap();
        let body = format!("exec 3>{}; sleep 60 & wait", alive.display());
        let silent = script(home.path(), "mpirun", &body);

        let begun = Instant::now();
        let asked = ask(&silent, Duration::from_millis(500));
        assert!(matches!(asked, Err(MpirunError::Silent(_))));
        fcntl(&held, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        held.read_to_end(&mut Vec::new()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "a child outlived the time limit");
    }
}

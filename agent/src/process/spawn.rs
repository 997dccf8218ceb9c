//! Starting a command as a child of its own process group.
//!
//! Must not wait for it (that is `reaper`) and must not decide what to run.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, access};
use tokio::net::unix::pipe;

use super::reaper::{Exit, Reaper};
use super::tree::ProcessId;
use crate::exit::{Class, Explain};

/// A started child. Dropping it neither ends nor forgets the process: the reaper still reaps it.
#[derive(Debug)]
pub struct Child {
    /// Which process; its number is its process group's too.
    pub id: ProcessId,
    /// Our end of its standard input, where it was to be piped.
    pub stdin: Option<pipe::Sender>,
    /// Our end of its standard output, where it was to be piped.
    pub stdout: Option<pipe::Receiver>,
    /// Our end of its standard error, where it was to be piped.
    pub stderr: Option<pipe::Receiver>,
    /// Resolves when it has ended.
    pub exit: Exit,
}

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No such program, at its path or anywhere on PATH.
    #[error("start {}: no such program", program.display())]
    NotFound {
        /// As it was asked for.
        program: PathBuf,
    },
    /// The file is there, but what must run it is not.
    #[error("start {}: its interpreter or loader does not exist", program.display())]
    NoInterpreter {
        /// As it was asked for.
        program: PathBuf,
    },
    /// The file may not be executed.
    #[error("start {}: permission denied", program.display())]
    PermissionDenied {
        /// As it was asked for.
        program: PathBuf,
    },
    /// The file is no program for this machine.
    #[error("start {}: not in a format that this machine executes", program.display())]
    Format {
        /// As it was asked for.
        program: PathBuf,
    },
    /// The working directory cannot be entered.
    #[error("start {} in {}", program.display(), directory.display())]
    Directory {
        /// As it was asked for.
        program: PathBuf,
        /// Where it was to run.
        directory: PathBuf,
        /// What is wrong with that.
        source: io::Error,
    },
    /// Arguments and environment together exceed what the kernel takes.
    #[error("start {}: the arguments and the environment are too long", program.display())]
    TooLong {
        /// As it was asked for.
        program: PathBuf,
    },
    /// Processes, memory or descriptors are used up.
    #[error("start {}: out of processes, memory or file descriptors", program.display())]
    Resources {
        /// As it was asked for.
        program: PathBuf,
        /// Which of them.
        source: io::Error,
    },
    /// Any other failure of the system calls.
    #[error("start {}", program.display())]
    Io {
        /// As it was asked for.
        program: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

impl Explain for SpawnError {
    fn class(&self) -> Class {
        match self {
            Self::NotFound { .. }
            | Self::NoInterpreter { .. }
            | Self::PermissionDenied { .. }
            | Self::Format { .. } => Class::CommandNotFound,
            Self::Directory { .. } | Self::TooLong { .. } => Class::Config,
            Self::Resources { .. } => Class::LocalResource,
            Self::Io { .. } => Class::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound { .. } => {
                "install it in the image, put its directory on PATH, or give its absolute path"
            }
            Self::NoInterpreter { .. } => {
                "look at the first line of the script, or at the loader that `file` names: the image lacks it"
            }
            Self::PermissionDenied { .. } => {
                "make the file executable (chmod +x), and check that its volume is not mounted noexec"
            }
            Self::Format { .. } => {
                "it may be built for another CPU, or be a script without a #! line"
            }
            Self::Directory { .. } => "create the directory in the image or mount it on every host",
            Self::TooLong { .. } => {
                "shorten the command line or the environment; `getconf ARG_MAX` shows the limit"
            }
            Self::Resources { .. } => {
                "raise the limit on processes (ulimit -u, pids.max), descriptors (ulimit -n) or memory"
            }
            Self::Io { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Starts `command` in a process group of its own, with default signal handling and nothing
/// blocked; what was set to be piped comes back as non-blocking ends.
///
/// No `pre_exec` hook, so std takes its `posix_spawn` path, which does not copy our page tables.
/// Signals that were already ignored when muster was started (nohup) stay ignored, as POSIX has it.
///
/// # Errors
/// Where the program cannot be started; [`SpawnError`] says which part of it is at fault.
pub fn spawn(reaper: &Reaper, mut command: Command) -> Result<Child, SpawnError> {
    command.process_group(0);
    let (mut child, id, exit) =
        reaper.register(&mut command).map_err(|error| explain(&command, error))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ends = || {
        Ok(Child {
            id,
            stdin: stdin.map(|end| pipe::Sender::from_owned_fd(end.into())).transpose()?,
            stdout: stdout.map(|end| pipe::Receiver::from_owned_fd(end.into())).transpose()?,
            stderr: stderr.map(|end| pipe::Receiver::from_owned_fd(end.into())).transpose()?,
            exit,
        })
    };
    match ends() {
        Ok(child) => Ok(child),
        Err(source) => {
            reaper.signal(id.pid, Signal::SIGKILL);
            Err(SpawnError::Io { program: command.get_program().into(), source })
        }
    }
}

/// Finds out what `ENOENT` and its like mean: the kernel says the same of a missing program, of a
/// missing interpreter and of a missing working directory.
pub(crate) fn explain(command: &Command, error: io::Error) -> SpawnError {
    let program = PathBuf::from(command.get_program());
    if let Some(directory) = command.get_current_dir()
        && let Err(source) = enter(directory)
    {
        return SpawnError::Directory { program, directory: directory.to_owned(), source };
    }
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) if located(command).is_some() => SpawnError::NoInterpreter { program },
        Some(Errno::ENOENT | Errno::ENOTDIR) => SpawnError::NotFound { program },
        Some(Errno::EACCES | Errno::EPERM) => SpawnError::PermissionDenied { program },
        Some(Errno::ENOEXEC) => SpawnError::Format { program },
        Some(Errno::E2BIG) => SpawnError::TooLong { program },
        Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => {
            SpawnError::Resources { program, source: error }
        }
        _ => SpawnError::Io { program, source: error },
    }
}

fn enter(directory: &Path) -> io::Result<()> {
    if !std::fs::metadata(directory)?.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(access(directory, AccessFlags::X_OK)?)
}

/// Where its program is, at its path or in a directory of PATH.
pub(crate) fn located(command: &Command) -> Option<PathBuf> {
    let program = Path::new(command.get_program());
    if command.get_program().as_encoded_bytes().contains(&b'/') {
        let path = command.get_current_dir().unwrap_or(Path::new("")).join(program);
        return path.exists().then_some(path);
    }
    let set = command.get_envs().find(|(name, _)| *name == OsStr::new("PATH"));
    let path = match set {
        Some((_, value)) => value.map(OsStr::to_owned),
        None => std::env::var_os("PATH"),
    };
    std::env::split_paths(&path?).map(|dir| dir.join(program)).find(|path| path.exists())
}

//! Starts a command line as a remote shell does, in the home directory: with `/bin/sh -c`, or without
//! where the shell would do nothing but start a program.
//!
//! Must not know who asked for it; the worker's server and the launcher's own host both start
//! commands here. Must not touch a file that may hang: one thread serves all connections.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::plain;
use crate::config::variables::MUSTER_SESSION;
use crate::process::reaper::Reaper;
use crate::process::spawn::{Child, SpawnError, spawn};

/// The shell that MPI launchers write their command lines for.
const SHELL: &str = "/bin/sh";

/// What a shell does for us where a file system does not answer: it looks, and perhaps hangs, by itself. Its
/// arguments are the command and our HOME, in whose place a peer may have set another.
const PATIENT: &str = r#"cd -P -- "$1" 2>/dev/null || { [ "$HOME" != "$1" ] || HOME=/; cd /; }
unset OLDPWD; exec /bin/sh -c "$0""#;

/// How long files are looked at. An autofs mount or a lazily pulled image takes longer at times, and a dead
/// NFS server for ever; far below what a heartbeat allows.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at one time: those that hang hold a thread each.
static LOOKS: Semaphore = Semaphore::const_new(16);

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
pub async fn start(
    reaper: &Reaper,
    command: &[u8],
    env: &[(String, String)],
    session: &str,
) -> Result<Child, SpawnError> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let words = plain::words(command);
    let search = words.as_ref().and_then(|words| Search::new(&words[0], env));
    let prepared = |program: &OsStr, home: &Path| {
        let mut prepared = Command::new(program);
        prepared
            .env("HOME", home)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env(MUSTER_SESSION, session)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        prepared
    };
    let shell = |home| {
        let mut shell = prepared(OsStr::new(SHELL), home);
        shell.arg("-c");
        shell
    };
    let asked = home.clone();
    let Some(Place { home, resolved, program }) = look(move || Place::look(asked, search)).await
    else {
        let mut patient = shell(&home);
        patient.args([OsStr::new(PATIENT), OsStr::from_bytes(command), home.as_os_str()]);
        return spawn(reaper, patient);
    };
    if let Some((words, file)) = words.zip(program) {
        let mut direct = prepared(file.as_os_str(), &home);
        direct.arg0(&words[0]).args(&words[1..]).current_dir(&home);
        // Any shell sets it, and Open MPI believes it; ours is of another directory.
        direct.env("PWD", resolved);
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
    let mut shell = shell(&home);
    shell.arg(OsStr::from_bytes(command)).current_dir(&home);
    spawn(reaper, shell)
}

/// What is there, from a thread of its own; none where it does not say within [`LOOK`].
async fn look<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let looked = async {
        let permit = LOOKS.acquire().await.ok()?;
        let (tell, told) = oneshot::channel();
        let work = move || {
            // Nobody waits any more where this fails.
            let _ = tell.send(look());
            drop(permit);
        };
        thread::Builder::new().name("look".into()).spawn(work).ok()?;
        told.await.ok()
    };
    timeout(LOOK, looked).await.ok().flatten()
}

/// Where a command runs, and what.
struct Place {
    home: PathBuf,
    /// The same without symbolic links.
    resolved: PathBuf,
    /// The file that a shell would start; none where only a shell can say.
    program: Option<PathBuf>,
}

impl Place {
    fn look(home: PathBuf, search: Option<Search>) -> Self {
        let home = if home.is_dir() { home } else { PathBuf::from("/") };
        let resolved = home.canonicalize().unwrap_or_else(|_| home.clone());
        Self { home, resolved, program: search.and_then(Search::find) }
    }
}

/// The files that a program may be, the first one first.
///
/// Looked for here, because the PATH that counts is the command's, and because std forks where it is to look
/// in another than ours.
struct Search(Vec<PathBuf>);

impl Search {
    /// None where only a shell can say.
    fn new(program: &OsStr, env: &[(String, String)]) -> Option<Self> {
        if program.as_bytes().contains(&b'/') {
            return Some(Self(vec![PathBuf::from(program)]));
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
        let directories = std::env::split_paths(&path)
            // What is relative is so to where the command runs.
            .take_while(|directory| directory.is_absolute());
        Some(Self(directories.map(|directory| directory.join(program)).collect()))
    }

    fn find(self) -> Option<PathBuf> {
        let found = self.0.into_iter().find(|file| executable(file))?;
        // The kernel opens these too, while it holds up whoever starts the program.
        if let Some(interpreter) = interpreter(&found) {
            let _ = File::open(interpreter);
        }
        Some(found)
    }
}

fn executable(file: &Path) -> bool {
    // A pipe would hold up whoever opens it.
    file.is_file() && access(file, AccessFlags::X_OK).is_ok()
}

/// What the first line of a script names.
fn interpreter(file: &Path) -> Option<PathBuf> {
    // As much as the kernel looks at (BINPRM_BUF_SIZE).
    let mut start = [0; 256];
    let count = File::open(file).and_then(|mut file| file.read(&mut start)).ok()?;
    let line = start[..count].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let name = line.split(|byte| b" \t".contains(byte)).find(|word| !word.is_empty())?;
    let path = PathBuf::from(OsStr::from_bytes(name));
    path.is_file().then_some(path)
}

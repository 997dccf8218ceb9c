//! The NVML helper: a program inside this program, started without a file where the kernel allows it.
//!
//! A driver in trouble hangs or kills it, and that costs its answer, nothing else. Must not wait
//! longer than [`LIMIT`], nor for the process to be gone: one that hangs in a driver dies when it can.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use flate2::bufread::ZlibDecoder;
use muster_nvml::{Answer, SCHEMA};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::NoAnswer;
use crate::process::reaper::Reaper;
use crate::process::spawn::{Child, SpawnError, spawn};
use crate::process::status::WaitStatus;

// `HELPER`: the program's bytes, where the build was given them.
include!(concat!(env!("OUT_DIR"), "/helper.rs"));

/// How long it may take. A driver that first has to start many GPUs (without its persistence daemon) may
/// take longer, and then the kernel's files have to do.
pub const LIMIT: Duration = Duration::from_secs(5);

/// Bytes of its answer that are read.
const MAX_ANSWER: u64 = 1024 * 1024;

/// Bytes of its complaints that are read.
const MAX_WORDS: u64 = 4096;

/// What it is called in lists of processes.
const NAME: &str = "muster-nvml";

/// Why it gave no answer. Ends nothing: the words become a warning.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The build embedded none.
    #[error("this build of muster has no NVML helper")]
    NotBuilt,
    /// Memory did not take the program, nor did any directory.
    #[error("there is no place for the NVML helper: {0}")]
    NoPlace(#[source] io::Error),
    /// It does not start.
    #[error("failed to {0}")]
    Start(#[from] SpawnError),
    /// It was killed after [`LIMIT`].
    #[error("NVML did not answer in {} s", LIMIT.as_secs())]
    Silent,
    /// It died, or ended without an answer.
    #[error("the NVML helper ended: {status}{words}")]
    Died {
        /// How; unknown where somebody else waited for it.
        status: String,
        /// The last it said, after a colon.
        words: String,
    },
    /// What it said is no answer.
    #[error("the NVML helper's answer cannot be read: {0}")]
    Garbled(#[from] serde_json::Error),
}

/// Asks NVML by way of the helper.
///
/// # Errors
/// Why there is no answer.
pub async fn ask(reaper: &Reaper) -> Result<Answer, NoAnswer> {
    match answer(reaper).await {
        Ok(Answer { failed: Some(why), .. }) => Err(NoAnswer::Unable(why)),
        Ok(answer) if answer.schema == SCHEMA => Ok(answer),
        Ok(answer) => {
            Err(NoAnswer::Failed(format!("the helper answers in form {}", answer.schema)))
        }
        Err(error @ HelperError::NotBuilt) => Err(NoAnswer::Unable(error.to_string())),
        Err(error) => Err(NoAnswer::Failed(error.to_string())),
    }
}

async fn answer(reaper: &Reaper) -> Result<Answer, HelperError> {
    let mut child = start(reaper, HELPER.ok_or(HelperError::NotBuilt)?)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let all = async {
        // Both at once, or a full pipe would hold it up.
        let (answer, words) = tokio::join!(drain(stdout, MAX_ANSWER), drain(stderr, MAX_WORDS));
        (answer, words, (&mut child.exit).await)
    };
    let Ok((answer, words, exited)) = timeout(LIMIT, all).await else {
        reaper.signal(child.id.pid, Signal::SIGKILL);
        return Err(HelperError::Silent);
    };
    match exited {
        Ok(exited) if exited.status == WaitStatus::Exited(0) && !answer.is_empty() => {
            Ok(serde_json::from_slice(&answer)?)
        }
        exited => {
            let words = String::from_utf8_lossy(&words);
            let last = words.lines().map(str::trim).rfind(|line| !line.is_empty());
            Err(HelperError::Died {
                status: exited.map_or_else(|error| error.to_string(), |it| it.status.to_string()),
                words: last.map(|last| format!(": {last}")).unwrap_or_default(),
            })
        }
    }
}

/// Reads to the end, or to the bound: then whoever writes more gets SIGPIPE.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, bound: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read until an error is what there is.
        let _ = pipe.take(bound).read_to_end(&mut bytes).await;
    }
    bytes
}

/// Unpacks the program into `file`, by and by: nowhere is all of it at once.
fn unpack(packed: &[u8], file: &mut File) -> io::Result<()> {
    io::copy(&mut ZlibDecoder::new(packed), file).map(drop)
}

/// From memory; where the kernel, a security module or a missing `/proc` forbids that, from a file.
fn start(reaper: &Reaper, program: &[u8]) -> Result<Child, HelperError> {
    let in_memory = memory(program).map_err(HelperError::NoPlace);
    let started = in_memory.and_then(|file| {
        // The child finds it under the same number: it is closed by what it executes, not before.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(run(reaper, Path::new(&path))?)
    });
    started.or_else(|refused| {
        tracing::debug!(%refused, "the NVML helper does not run from memory");
        from_file(reaper, program, refused)
    })
}

fn run(reaper: &Reaper, path: &Path) -> Result<Child, SpawnError> {
    let mut command = Command::new(path);
    command.arg0(NAME).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(reaper, command)
}

/// A file in memory that may be executed.
fn memory(program: &[u8]) -> io::Result<File> {
    // Linux 6.3 wants to be told that it is to be executed; before, the flag is unknown.
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let create = |flags| memfd_create(NAME, flags);
    let file =
        create(MFdFlags::MFD_CLOEXEC | executable).or_else(|_| create(MFdFlags::MFD_CLOEXEC))?;
    let mut file = File::from(file);
    unpack(program, &mut file)?;
    Ok(file)
}

/// From a file that is gone as soon as it runs, in the first directory that lets it be executed. A
/// place that takes no file is no news where one does not let it run.
fn from_file(
    reaper: &Reaper,
    program: &[u8],
    mut refused: HelperError,
) -> Result<Child, HelperError> {
    for directory in [std::env::temp_dir(), "/dev/shm".into(), "/run".into(), "/var/tmp".into()] {
        let path = directory.join(format!(".{NAME}.{}", std::process::id()));
        if let Err(error) = write(&path, program) {
            tracing::debug!(%error, "the NVML helper cannot be written to {}", path.display());
            continue;
        }
        let started = run(reaper, &path);
        // It runs, or never will; and the file system goes with the container.
        let _ = fs::remove_file(&path);
        match started {
            Ok(child) => return Ok(child),
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

fn write(path: &Path, program: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(path)?;
    unpack(program, &mut file).inspect_err(|_| drop(fs::remove_file(path)))
}

//! The output of a process: from its pipes into two files, and lines found in them.
//!
//! Must not let a process block or fill the disk: the pipes are always emptied, and each file has a limit.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Doing, Result};
use crate::process::Shared;

/// Output of one stream beyond this many bytes is read and thrown away.
const LIMIT: u64 = 512 << 20;
/// How much of a stream's end goes into an error message, in bytes.
const TAIL: u64 = 4096;
/// How much is moved at once, in bytes.
const BUFFER: usize = 1 << 16;
/// What a pipe can hold, in bytes: the kernel's default for fs.pipe-max-size.
const PIPE_MAX: usize = 1 << 20;

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    pub(crate) fn file(self, files: &Path) -> PathBuf {
        let end = match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        };
        let mut name = files.as_os_str().to_owned();
        name.push(".");
        name.push(end);
        name.into()
    }
}

/// How far the two streams have come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Logs {
    written: [u64; 2],
    closed: [bool; 2],
}

impl Logs {
    /// Nothing more can come.
    pub(crate) fn complete(&self) -> bool {
        self.closed == [true, true]
    }
}

/// Makes the two files, so that readers find them from the start.
pub(crate) fn create(files: &Path) -> Result<()> {
    for stream in [Stream::Stdout, Stream::Stderr] {
        let path = stream.file(files);
        File::create(&path).doing(|| format!("make {}", path.display()))?;
    }
    Ok(())
}

/// The pipes of a process, and the way from them into its files.
#[derive(Debug, Clone)]
pub(crate) struct Pipes {
    lanes: Arc<Mutex<Vec<Lane>>>,
    shared: Arc<Shared>,
}

/// Starts the thread that empties the pipes. It ends when both are closed, at the latest with their host.
pub(crate) fn collect(
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    files: &Path,
    shared: Arc<Shared>,
) -> Result<Pipes> {
    let mut lanes = Vec::new();
    for (index, (pipe, stream)) in
        [(stdout, Stream::Stdout), (stderr, Stream::Stderr)].into_iter().enumerate()
    {
        let path = stream.file(files);
        let log = File::options()
            .append(true)
            .open(&path)
            .doing(|| format!("open {}", path.display()))?;
        match pipe {
            Some(pipe) => {
                lanes.push(Lane { index, pipe: Arc::new(File::from(pipe)), log, written: 0 });
            }
            None => shared.update(|logs| logs.closed[index] = true),
        }
    }
    let pipes = Pipes { lanes: Arc::new(Mutex::new(lanes)), shared };
    let collector = pipes.clone();
    thread::Builder::new()
        .name("lab-output".into())
        .spawn(move || while collector.pass(PollTimeout::NONE) {})
        .doing(|| "start a thread".into())?;
    Ok(pipes)
}

impl Pipes {
    /// Moves what was written before this call. One stream says nothing of how far the other has been read.
    pub(crate) fn catch_up(&self) {
        // As much as a pipe holds; one that is written to without end is left at that.
        for _ in 0..PIPE_MAX / BUFFER {
            if !self.pass(PollTimeout::ZERO) {
                break;
            }
        }
    }

    /// Waits for output and moves it; false where none came, or all is closed.
    fn pass(&self, limit: PollTimeout) -> bool {
        let pipes: Vec<_> = self.lanes().iter().map(|lane| Arc::clone(&lane.pipe)).collect();
        if pipes.is_empty() {
            return false;
        }
        let mut fds: Vec<_> =
            pipes.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        // Without a time limit in the thread: it serves others, who each wait with theirs.
        match poll(&mut fds, limit) {
            Err(nix::errno::Errno::EINTR) => return true,
            Ok(1..) => {}
            Ok(_) | Err(_) => return false,
        }
        let mut lanes = self.lanes();
        let mut buffer = [0; BUFFER];
        lanes.retain_mut(|lane| !lane.ready() || lane.pass(&mut buffer, &self.shared));
        !lanes.is_empty()
    }

    fn lanes(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Lane {
    index: usize,
    pipe: Arc<File>,
    log: File,
    written: u64,
}

impl Lane {
    /// Asked under the lock: somebody else may have read what a poll saw.
    fn ready(&self) -> bool {
        let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// Moves what is there; false once the pipe is closed.
    fn pass(&mut self, buffer: &mut [u8], shared: &Shared) -> bool {
        let index = self.index;
        match (&*self.pipe).read(buffer) {
            Ok(0) => {
                shared.update(|logs| logs.closed[index] = true);
                false
            }
            Ok(length) => {
                let room = LIMIT.saturating_sub(self.written).min(length as u64);
                if self.log.write_all(&buffer[..room as usize]).is_ok() {
                    self.written += room;
                }
                let written = self.written;
                shared.update(|logs| logs.written[index] = written);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => true,
            Err(_) => {
                shared.update(|logs| logs.closed[index] = true);
                false
            }
        }
    }
}

/// Reads a stream's file line by line while it grows.
pub(crate) struct Finder {
    file: File,
    partial: Vec<u8>,
}

impl Finder {
    pub(crate) fn new(files: &Path, stream: Stream) -> Result<Self> {
        let path = stream.file(files);
        let file = File::open(&path).doing(|| format!("open {}", path.display()))?;
        Ok(Self { file, partial: Vec::new() })
    }

    /// The next line that is wanted among those not looked at yet. At the end an unfinished line counts too.
    pub(crate) fn find(
        &mut self,
        at_end: bool,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<String>> {
        self.file.read_to_end(&mut self.partial).doing(|| "read a log".into())?;
        let mut rest = self.partial.as_slice();
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&rest[..end]);
            rest = &rest[end + 1..];
            if wanted(&line) {
                let line = line.into_owned();
                self.partial = rest.to_vec();
                return Ok(Some(line));
            }
        }
        self.partial = rest.to_vec();
        if at_end && !self.partial.is_empty() {
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
            return Ok(wanted(&line).then_some(line));
        }
        Ok(None)
    }
}

/// The last bytes of a stream, ending with a newline unless empty.
pub(crate) fn tail(files: &Path, stream: Stream) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(stream.file(files))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut text = read().unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

//! The audit trail: one JSON object a change of state, with the time that each phase took.
//!
//! Must not hold the job up: what cannot be written is left out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::exit::{Class, Explain};
use crate::outcome::Verdict;
use crate::output::clock::{Micros, rfc3339};
use crate::output::stream::write_within;
use crate::text::say;

/// The version of the objects; a field is never renamed or dropped within it.
pub const SCHEMA: &str = "muster.event/1";

/// For a reader to take one of them.
const LIMIT: Duration = Duration::from_millis(500);

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// muster has been started.
    Queued,
    /// Hosts are waited for.
    Waiting,
    /// mpirun has been started.
    Launching,
    /// All ranks run.
    Running,
    /// Something went wrong, or somebody wants an end.
    Failing,
    /// Over.
    Ended,
}

/// Where the objects go.
#[derive(Debug)]
pub struct Journal {
    out: Option<File>,
    begun: Instant,
    phases: Map<String, Value>,
}

/// The events cannot be written where they were asked for.
#[derive(Debug, thiserror::Error)]
#[error("write events to {}: {source}", path.display())]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

impl Explain for JournalError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some("--events takes a file that can be made, or the number of an open descriptor".into())
    }
}

impl Journal {
    /// Opens it, where events were asked for; `begun` is when muster was started.
    ///
    /// # Errors
    /// The file cannot be opened, or the descriptor is not open.
    pub fn open(to: Option<&Path>, begun: Instant) -> Result<Self, JournalError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError { path, source }
        };
        let out = to.map(|path| open(path).map_err(failed(path))).transpose()?;
        Ok(Self { out, begun, phases: Map::new() })
    }

    /// Notes that a phase took so long.
    pub fn took(&mut self, phase: &str, time: Duration) {
        self.phases.insert(format!("{phase}_ms"), milliseconds(time));
    }

    /// Notes that a phase is over by now, counted from the start.
    pub fn reached(&mut self, phase: &str) {
        let time = self.begun.elapsed();
        self.phases.entry(format!("{phase}_ms")).or_insert_with(|| milliseconds(time));
    }

    /// Writes a change of state.
    pub fn state(&mut self, state: State, more: Value) {
        let Some(out) = &mut self.out else { return };
        let now = rfc3339(Micros::from(SystemTime::now()));
        let mut object = json!({
            "schema": SCHEMA,
            "time": String::from_utf8_lossy(&now),
            "elapsed_ms": milliseconds(self.begun.elapsed()),
            "state": state,
        });
        if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
            // What is unknown is absent, as with the ranks of a user's own mpirun line.
            object.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        let written = write_within(out.as_fd(), format!("{object}\n").as_bytes(), LIMIT);
        if let Err(error) = written {
            // What came of this object cannot be taken back, so nothing may follow it.
            self.out = None;
            say(&format!("warning: no more events are written: {error}"));
        }
    }

    /// Writes the last one.
    pub fn ended(&mut self, verdict: &Verdict) {
        self.reached("end");
        let phases = std::mem::take(&mut self.phases);
        let (class, code) = (verdict.class.name(), verdict.code);
        self.state(State::Ended, json!({ "class": class, "code": code, "phases": phases }));
    }
}

fn milliseconds(time: Duration) -> Value {
    json!((time.as_secs_f64() * 1e6).round() / 1e3)
}

fn open(path: &Path) -> io::Result<File> {
    let Some(fd) = path.to_str().and_then(|text| text.parse::<RawFd>().ok()) else {
        // A FIFO that nobody reads is an error, not a wait.
        let flags = nix::libc::O_NONBLOCK;
        return OpenOptions::new().create(true).append(true).custom_flags(flags).open(path);
    };
    // SAFETY: the number is only looked at; a descriptor that is not open is an error.
    let copy = unsafe { nix::libc::fcntl(fd, nix::libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fresh from the kernel, and nobody else's.
    Ok(unsafe { File::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_follow_each_other_in_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut journal = Journal::open(Some(file.path()), Instant::now()).unwrap();
        journal.state(State::Queued, Value::Null);
        journal.state(State::Failing, json!({ "why": "x\ny" }));
        let text = std::fs::read_to_string(file.path()).unwrap();
        let objects: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects[0]["state"], "queued");
        assert_eq!((&objects[1]["schema"], &objects[1]["why"]), (&SCHEMA.into(), &"x\ny".into()));
        assert!(Journal::open(Some(Path::new("987654")), Instant::now()).is_err());
        assert!(Journal::open(Some(Path::new("/no/such/dir/x")), Instant::now()).is_err());
    }

    #[test]
    fn a_pipe_that_nobody_reads_does_not_hold_the_job_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Journal::open(Some(&path), Instant::now()).is_err(), "nobody has it open");
        let _reader = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path);
        let mut journal = Journal::open(Some(&path), Instant::now()).unwrap();
        let long = "x".repeat(1 << 20);
        journal.state(State::Failing, json!({ "why": long }));
        assert!(journal.out.is_none(), "given up");
        journal.state(State::Ended, Value::Null);
    }
}

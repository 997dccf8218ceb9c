//! Where a verdict is told: the last block on stderr, the termination message, the report.
//!
//! Must not change the verdict, nor fail the job because a file cannot be written.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::exit::Class;
use crate::outcome::{Verdict, render, report};
use crate::output::stream::write_within;
use crate::text::say;

/// Where Kubernetes looks for a container's last words, unless it is told otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// For whoever reads a termination message from a pipe.
const LIMIT: Duration = Duration::from_secs(1);

/// The files in which a verdict is told.
#[derive(Debug, Clone)]
pub struct Files {
    /// The termination message; none: where Kubernetes looks, if that can be written.
    pub termination_log: Option<PathBuf>,
    /// The report.
    pub report: Option<PathBuf>,
}

impl Files {
    /// Writes the verdict into them.
    pub fn write(&self, verdict: &Verdict) {
        let message = render::termination(verdict);
        match &self.termination_log {
            Some(path) => complain(path, leave(path, true, &message)),
            // Not there outside of Kubernetes, and not ours to make.
            None => drop(leave(Path::new(TERMINATION_LOG), false, &message)),
        }
        if let Some(path) = &self.report {
            let text = report::json(verdict).map_err(io::Error::other);
            complain(path, text.and_then(|text| replace(path, &text)));
        }
    }
}

/// Tells it on stderr. Of a job that went well there is nothing to tell.
pub fn tell(verdict: &Verdict) {
    if verdict.class == Class::Ok {
        return;
    }
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    say(&render::block(verdict, colour));
}

/// Writes a file, or to whatever else is there, and waits for nobody.
fn leave(path: &Path, make: bool, message: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(make).truncate(true).custom_flags(nix::libc::O_NONBLOCK);
    write_within(options.open(path)?.as_fd(), message.as_bytes(), LIMIT)
}

/// Writes a file so that a reader sees the old one or the new one, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn complain(path: &Path, result: io::Result<()>) {
    if let Err(error) = result {
        say(&format!("warning: the verdict is not in {}: {error}", path.display()));
    }
}

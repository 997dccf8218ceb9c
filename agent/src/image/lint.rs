//! What would keep jobs from running in this image, found while it is built.
//!
//! Judged for the strictest pod: any UID, no passwd entry, no capabilities, a read-only root. A build
//! runs as root, so modes are read and not tried. Must not change anything.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::install::runs;
use crate::config::env::Environment;

mod leftovers;
mod mpi;
mod names;
mod rights;

/// Where operators start sshd.
const SSHD: &str = "/usr/sbin/sshd";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Jobs run, and something is to be known.
    Warning,
    /// Jobs would not run.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What is so.
    pub what: String,
    /// Where.
    #[serde(rename = "where")]
    pub place: Option<PathBuf>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>) -> Self {
        Self { level, what: what.into(), place: None, hint: None }
    }

    fn at(mut self, place: impl Into<PathBuf>) -> Self {
        self.place = Some(place.into());
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The image: a tree of files, and the environment that its containers start with.
#[derive(Debug)]
pub struct Image {
    /// Its root; `/` in a build.
    pub root: PathBuf,
    /// The variables.
    pub env: Environment,
    /// The file of muster itself, as seen from inside.
    pub muster: PathBuf,
}

impl Image {
    /// A path of the image, where it can be read from here.
    fn seen(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The programs of this name on the image's PATH, in its order, and links that lead to nothing. A
    /// file that nobody may run is none: a search of PATH passes over it.
    fn on_path(&self, name: &str) -> Vec<PathBuf> {
        let path = self.env.get("PATH").unwrap_or_default();
        let directories = path.split(':').filter(|directory| directory.starts_with('/'));
        let files = directories.map(|directory| Path::new(directory).join(name));
        let counts = |file: &PathBuf| {
            let seen = self.seen(file);
            runs(&seen) || (seen.is_symlink() && self.led(file).is_none())
        };
        files.filter(counts).collect()
    }

    /// Where links end, as a path of the image; none where they end nowhere.
    fn led(&self, path: &Path) -> Option<PathBuf> {
        let root = self.root.canonicalize().ok()?;
        let end = self.seen(path).canonicalize().ok()?;
        Some(Path::new("/").join(end.strip_prefix(root).ok()?))
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version and commit of muster.
    pub muster: &'static str,
    /// Whether jobs would run.
    pub fine: bool,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

/// Looks at everything.
#[must_use]
pub fn report(image: &Image) -> Report {
    let findings =
        [mpi::look(image), rights::look(image), names::look(image), leftovers::look(image)]
            .concat();
    let fine = findings.iter().all(|finding| finding.level < Level::Error);
    Report { muster: crate::VERSION, fine, findings }
}

impl Report {
    /// For people: a line for each finding, hints below.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let place = finding.place.as_ref().map(|place| format!("{}: ", place.display()));
            let place = place.unwrap_or_default();
            text += &format!("{:8} {place}{}\n", finding.level, finding.what);
            if let Some(hint) = &finding.hint {
                text += &format!("{:8} hint: {hint}\n", "");
            }
        }
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        text + &format!("{errors} errors, {warnings} warnings\n")
    }
}

#[cfg(test)]
mod tests;

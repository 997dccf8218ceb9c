//! How the lines of ranks are shown and kept.
//!
//! Must not look at a line, or at what kind of file stdout is.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;

use super::RankSet;
use super::protocol::Output;
use crate::output::Returns;
use crate::output::split::MAX_LINE;
use crate::output::tag::Format;

/// When to colour tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How the lines of ranks are shown and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where they are shown.
    pub output: Output,
    /// With what tag.
    pub tag: Format,
    /// What the job is called; none: as the launcher's variables say.
    pub job: Option<String>,
    /// Whether with a time.
    pub timestamps: bool,
    /// When in colour.
    pub color: Color,
    /// What becomes of carriage returns; none: live on a terminal, collapsed elsewhere.
    pub returns: Option<Returns>,
    /// Bytes of a line beyond which it is passed on in pieces.
    pub max_line: usize,
    /// Where to keep a file a rank and stream.
    pub log_dir: Option<PathBuf>,
    /// Bytes at which such a file moves aside.
    pub log_max: Option<u64>,
    /// The ranks to show; none: all.
    pub ranks: Option<RankSet>,
    /// Show only so many last lines, and only of a rank that fails.
    pub quiet: Option<usize>,
}

impl Settings {
    /// The flags of `muster rank` that say the same, without those that say what is so anyway.
    #[must_use]
    pub fn flags(&self) -> Vec<OsString> {
        fn word(value: &impl ValueEnum) -> String {
            value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
        }
        let mut flags: Vec<OsString> = Vec::new();
        let mut flag = |name: &str, value: Option<String>| {
            flags.extend(value.map(|value| OsString::from(format!("--{name}={value}"))));
        };
        flag("output", (self.output != Output::Launcher).then(|| word(&self.output)));
        flag("tag", (self.tag != Format::Prefix).then(|| self.tag.clone().into()));
        // No other tag names it, and an mpirun's line is long enough.
        let names_job = matches!(self.tag, Format::Json | Format::Template(_));
        flag("job", self.job.clone().filter(|_| names_job));
        flag("color", (self.color != Color::Auto).then(|| word(&self.color)));
        flag("cr", self.returns.as_ref().map(word));
        flag("max-line", (self.max_line != MAX_LINE).then(|| self.max_line.to_string()));
        flag("log-max", self.log_max.map(|bytes| bytes.to_string()));
        flag("ranks", self.ranks.as_ref().map(ToString::to_string));
        flag("quiet-ranks-until-failure", self.quiet.map(|lines| lines.to_string()));
        if self.timestamps {
            flags.push("--timestamps".into());
        }
        if let Some(directory) = &self.log_dir {
            let mut flag = OsString::from("--log-dir=");
            flag.push(directory);
            flags.push(flag);
        }
        flags
    }
}

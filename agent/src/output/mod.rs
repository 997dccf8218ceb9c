//! Rank output: from the bytes a program writes to lines that know their rank.
//!
//! `split` cuts the bytes into lines, `tag` puts the rank before each (`template`, `json`, `level`,
//! `clock` and `weave` are its parts), `tail` keeps the last ones; all of them are pure and serve the wrapper
//! as well as whoever prints lines that arrived raw. `stream` and `files` write.
//!
//! Must not start a program or know where its bytes come from.

pub mod clock;
pub mod files;
pub mod json;
pub mod level;
pub mod split;
pub mod stream;
pub mod tag;
pub mod tail;
pub mod template;
mod weave;

use serde::{Deserialize, Serialize};

/// One of a program's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// Both, in the order of their descriptors.
    pub const BOTH: [Self; 2] = [Self::Out, Self::Err];

    /// Its place in an array of two.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Out => 0,
            Self::Err => 1,
        }
    }

    /// `stdout` or `stderr`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// Whose lines they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The rank in the world.
    pub rank: u32,
    /// Ranks in all, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// The rank among those on its host, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_rank: Option<u32>,
    /// How many ranks its host has, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_size: Option<u32>,
    /// The host's short name.
    pub host: String,
    /// The job, as its batch system or its launcher calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// What becomes of a carriage return that no newline follows: how programs draw progress bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Returns {
    /// It ends a line, which the next one overwrites: live on a terminal
    Keep,
    /// Only the last state of the line is shown, when the line ends
    Collapse,
}

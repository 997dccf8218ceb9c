//! The way of a rank's lines from its wrapper to whoever shows them, past mpirun.
//!
//! ```text
//! wrapper ─(unix socket)─► desk ─► mux ─(SSH channel)─► mux ─► printer ─► stdout, stderr
//! program ─(its pipe)────►
//! ```
//!
//! `desk` takes the wrappers of one host, `shown` what each of them shows, from its `frames` or, where it lends
//! stdout, from the program's `pipe`, `mux` carries all of it on one channel, `printer` tags and writes.
//! On the launcher's own host, and for the log of a pod, the desk leads to a printer at once.
//! Every queue is bounded: a slow reader slows the ranks, and no line is dropped.
//!
//! Must not judge what a rank did; reports of starts and ends are handed on as they come.

pub mod desk;
mod frames;
pub mod mux;
mod pipe;
pub mod printer;
pub mod roll;
mod shown;
pub mod socket;
mod states;

use bytes::Bytes;

use crate::rank::protocol::{Ended, Hello, Kind};

/// Tells the wrappers of one host apart; never used twice there.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Source(pub u32);

/// Tells the hosts apart whose wrappers one printer serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(pub u64);

/// What a wrapper reports, apart from its lines and never behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The program runs.
    Started(Source, Box<Hello>),
    /// It ended; none: the wrapper was killed and could not say how.
    Ended(Source, Option<Box<Ended>>),
}

impl Report {
    /// Whether it tells of an end that is no success.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Started(..) => false,
            Self::Ended(_, ended) => ended.as_ref().is_none_or(|ended| !ended.status.success()),
        }
    }
}

/// A piece of what one wrapper shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Whose.
    pub source: Source,
    /// What.
    pub part: Part,
}

/// A part of what a wrapper shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A frame as the wrapper sent it, or would have: its hello, always first, or lines.
    Frame(Kind, Bytes),
    /// Nothing more will come.
    Closed,
}

//! Outcome: from what is known of a run to its verdict.
//!
//! ```text
//! facts     what was counted and seen: ends of ranks, events of hosts, signals, statuses
//! rules     which words of which program mean what (data: `rules/*.toml`, `--rules FILE`)
//! line      a line without the launcher's prefix, and whose it is
//! scan      lines -> findings: the earliest lines that a rule knows, bounded
//! classify  facts + findings -> verdict
//! verdict   the verdict itself, and the exit code that it makes
//! render    verdict -> the last block on stderr, the termination message
//! report    verdict -> JSON, after `docs/verdict.schema.json`
//! advice    class -> words: what it means, what to look at, whether to retry
//! ```
//!
//! The order of proof: a counted fact outranks text; a specific cause outranks a generic banner; the
//! earliest first-hand line outranks later ones; what a launcher or another rank did in reaction is
//! never the cause. Where nothing is known, the class is the general one and the words say so.
//!
//! Must not read a file, a clock or the environment: whoever calls hands everything in.

pub mod advice;
pub mod classify;
pub mod facts;
pub mod line;
pub mod render;
pub mod report;
pub mod rules;
pub mod scan;
pub mod verdict;

pub use classify::classify;
pub use facts::Facts;
pub use rules::Rules;
pub use scan::Scanner;
pub use verdict::{ExitPolicy, Verdict};

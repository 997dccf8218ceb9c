//! Rules: which words of which program mean what. Data, in TOML; the built-in ones are in `rules/`.
//!
//! Must not look at a log; `scan` does. The format, for `--rules FILE` too:
//!
//! ```toml
//! [[rule]]
//! name = "cuda-out-of-memory"          # unique; a user's rule replaces a built-in one of its name
//! class = "gpu-oom"                    # as in `muster explain`
//! strength = "cause"                   # see below
//! match = ['CUDA out of memory']       # any of these regular expressions, without prefix or with it
//! unless = ['retrying']                # but none of these
//! follow = ['Node: +(?<host>\S+)']     # looked for in the next 12 lines, to name the culprit
//! before = ['RUNNING AT (?<host>\S+)'] # the same in the last 8 lines
//! witness = true                       # whoever prints the line is not the culprit
//! at_least = 3                         # needs that many lines
//! despite_zero = true                  # counts although mpirun ended with 0
//! yields = true                        # to any other rule that knows the same line
//! recovers = true                      # jobs get over it: not the end if 20 good lines follow
//! until = ['^\w+Error']                # of a note: hides the lines up to this one, 30 at most
//! retry = true                         # if a retry helps where the class says otherwise, or not
//! says = "A rank asked for more device memory than was free."
//! try = ["lower the batch size"]       # the likeliest first
//! examples = ["RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"]
//! ```
//!
//! Groups named `rank`, `local`, `host`, `code` name the culprit and its exit code. Each alternative
//! of a pattern needs four characters of plain text in a row, by which lines are found quickly.
//!
//! Strengths, the weakest first: `note` (harmless, and hides the line from other rules), `echo` (what
//! others did in reaction), `banner` (a launcher's general words), `end` (how a process ended),
//! `likely` (a cause that may be a consequence), `cause`, `proof` (counted by kernel or scheduler).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, MatchKind};
use regex_lite::Regex;

use crate::exit::Class;

mod literal;
mod parse;

pub use parse::{Problem, RulesError};

/// How much a line proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// Harmless.
    Note,
    /// A reaction to a failure elsewhere.
    Echo,
    /// A launcher's general words.
    Banner,
    /// How a process ended.
    End,
    /// A cause, unless it follows from one.
    Likely,
    /// A specific cause.
    Cause,
    /// Counted by the kernel or the scheduler.
    Proof,
}

impl Strength {
    const ALL: [(&str, Self); 7] = [
        ("note", Self::Note),
        ("echo", Self::Echo),
        ("banner", Self::Banner),
        ("end", Self::End),
        ("likely", Self::Likely),
        ("cause", Self::Cause),
        ("proof", Self::Proof),
    ];
}

/// A regular expression, compiled when it is first needed.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: String) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// The expression; None if it is none, which `parse` refuses in a user's file and a test in ours.
    #[must_use]
    pub fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| Regex::new(&self.text).ok()).as_ref()
    }
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// By which verdicts name it.
    pub name: String,
    /// What it means.
    pub class: Class,
    /// How much it proves.
    pub strength: Strength,
    /// Any of these.
    pub patterns: Vec<Pattern>,
    /// None of these.
    pub unless: Vec<Pattern>,
    /// What to look for in the lines that follow.
    pub follow: Vec<Pattern>,
    /// What to look for in the lines before.
    pub before: Vec<Pattern>,
    /// Whether the line's speaker is only a witness.
    pub witness: bool,
    /// Lines needed.
    pub at_least: u32,
    /// Whether it counts although the job ended with 0.
    pub despite_zero: bool,
    /// Whether it makes way for any other rule on the same line.
    pub yields: bool,
    /// Whether jobs get over it.
    pub recovers: bool,
    /// Up to which line a note hides what follows.
    pub until: Vec<Pattern>,
    /// Whether a retry helps, where it differs from what the class says.
    pub retry: Option<bool>,
    /// One sentence.
    pub says: String,
    /// What to do, the likeliest first.
    pub remedies: Vec<String>,
    /// Lines that it knows.
    pub examples: Vec<String>,
}

/// All rules, and the means to find quickly which of them a line concerns.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Arc<Rule>>,
    literals: AhoCorasick,
    /// For each literal: rule and pattern.
    targets: Vec<Vec<(usize, usize)>>,
}

/// The built-in files, by family.
const BUILT_IN: [(&str, &str); 14] = [
    ("kernel.toml", include_str!("rules/kernel.toml")),
    ("slurm.toml", include_str!("rules/slurm.toml")),
    ("kubernetes.toml", include_str!("rules/kubernetes.toml")),
    ("cuda.toml", include_str!("rules/cuda.toml")),
    ("nccl.toml", include_str!("rules/nccl.toml")),
    ("fabric.toml", include_str!("rules/fabric.toml")),
    ("pytorch.toml", include_str!("rules/pytorch.toml")),
    ("horovod.toml", include_str!("rules/horovod.toml")),
    ("loader.toml", include_str!("rules/loader.toml")),
    ("muster.toml", include_str!("rules/muster.toml")),
    ("ssh.toml", include_str!("rules/ssh.toml")),
    ("openmpi.toml", include_str!("rules/openmpi.toml")),
    ("hydra.toml", include_str!("rules/hydra.toml")),
    ("program.toml", include_str!("rules/program.toml")),
];

impl Rules {
    /// The rules that muster comes with.
    ///
    /// # Errors
    /// A built-in file is wrong, which a test rules out.
    pub fn built_in() -> Result<Self, RulesError> {
        Self::with(&[])
    }

    /// The built-in rules below a user's, each file a name and a text.
    ///
    /// # Errors
    /// Every problem of every file, by line.
    pub fn with(files: &[(String, String)]) -> Result<Self, RulesError> {
        let mut rules: Vec<Rule> = Vec::new();
        let mut problems = Vec::new();
        let theirs = files.iter().map(|(name, text)| (name.as_str(), text.as_str(), true));
        let ours = BUILT_IN.iter().map(|(name, text)| (*name, *text, false));
        for (name, text, strict) in theirs.chain(ours) {
            match parse::file(name, text, strict) {
                Ok(found) => {
                    let known = |rule: &Rule| rules.iter().any(|other| other.name == rule.name);
                    let fresh: Vec<Rule> = found.into_iter().filter(|rule| !known(rule)).collect();
                    rules.extend(fresh);
                }
                Err(RulesError::Problems(found)) => problems.extend(found),
                Err(other) => return Err(other),
            }
        }
        if !problems.is_empty() {
            return Err(RulesError::Problems(problems));
        }
        Self::index(rules)
    }

    fn index(rules: Vec<Rule>) -> Result<Self, RulesError> {
        let mut places: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        for (r, rule) in rules.iter().enumerate() {
            for (p, pattern) in rule.patterns.iter().enumerate() {
                for literal in literal::needed(&pattern.text).unwrap_or_default() {
                    places.entry(literal.to_ascii_lowercase()).or_default().push((r, p));
                }
            }
        }
        let (literals, targets): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        let literals = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(literals)
            .map_err(|error| RulesError::TooMany(error.to_string()))?;
        Ok(Self { rules: rules.into_iter().map(Arc::new).collect(), literals, targets })
    }

    /// Every rule, users' first.
    #[must_use]
    pub fn all(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Collects which patterns a line may match: rule and pattern, ascending, each once.
    pub fn candidates(&self, line: &[u8], into: &mut Vec<(usize, usize)>) {
        into.clear();
        for found in self.literals.find_overlapping_iter(line) {
            into.extend_from_slice(&self.targets[found.pattern().as_usize()]);
        }
        into.sort_unstable();
        into.dedup();
    }
}

#[cfg(test)]
mod tests;

//! Hostfiles in every dialect that an MPI job may bring: Open MPI's, PRRTE's, Hydra's, Intel MPI's.
//!
//! Parsing is pure and reports every bad line at once. Must not decide which file to read, nor how
//! many slots a host has whose entry does not say.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::HostSpec;
use super::grammar::{self, Flaw};
use super::roster::{Disagreement, Notation, Place, Roster};
use crate::exit::{Class, Explain};

/// The largest hostfile that is read, in bytes.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The most hosts that a list may have.
pub const MAX_HOSTS: usize = 65_536;
/// The most problems that one error spells out.
pub const MAX_PROBLEMS: usize = 20;

/// Why a list of hosts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostfileError {
    /// The file is missing, a directory, or may not be read.
    #[error("{0}")]
    Unreadable(#[source] io::Error),
    /// Larger than [`MAX_BYTES`].
    #[error("more than {} MiB, which no hostfile needs", MAX_BYTES / 1024 / 1024)]
    TooLarge,
    /// More than [`MAX_HOSTS`].
    #[error("more than {MAX_HOSTS} hosts")]
    TooManyHosts,
    /// Nothing but comments and white space.
    #[error("no host in it")]
    Empty,
    /// Entries that cannot be understood.
    #[error("{0}")]
    Bad(Problems),
}

impl Explain for HostfileError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "make the file readable for the user that this container runs as"
            }
            Self::Unreadable(_) => {
                "mount the file in this container, or name the hosts with --hosts or --hostfile"
            }
            Self::TooLarge | Self::TooManyHosts => "check that this is the hostfile of one job",
            Self::Empty => "list one host a line, such as 'worker-0 slots=4'",
            Self::Bad(_) => {
                "write one host a line: 'host', 'host:4' or 'host slots=4', with max_slots=, \
                 port= or user_name= where needed"
            }
        };
        Some(hint.to_owned())
    }
}

/// Bad entries, in their order; at most [`MAX_PROBLEMS`] are kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// The first ones.
    pub first: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
}

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        if self.first.len() < MAX_PROBLEMS {
            self.first.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.first.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n  " };
            write!(f, "{gap}{problem}")?;
        }
        if self.more > 0 {
            write!(f, "\n  and {} more", self.more)?;
        }
        Ok(())
    }
}

/// One bad entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: '{text}': {fault}")]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The part that is wrong, escaped and cut to a readable length.
    pub text: String,
    /// What is wrong with it.
    pub fault: Fault,
}

impl Problem {
    pub(super) fn new(place: Place, text: &str, fault: impl Into<Fault>) -> Self {
        const LONGEST: usize = 60;
        let mut shown: String = text.chars().take(LONGEST).collect();
        if shown.len() < text.len() {
            shown.push_str("...");
        }
        Self { place, text: shown.escape_debug().to_string(), fault: fault.into() }
    }
}

/// What is wrong with an entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A host, a number or a name that is none.
    #[error(transparent)]
    Flaw(#[from] Flaw),
    /// It contradicts an earlier entry.
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    /// Bytes that are not UTF-8.
    #[error("expected text in UTF-8")]
    NotText,
    /// A word after the host that is no known attribute.
    #[error("expected slots=, max_slots=, port= or user_name=")]
    UnknownAttribute,
    /// One attribute twice on a line, or slots in both notations.
    #[error("expected it once for each line")]
    Repeated,
    /// `max_slots` below `slots`.
    #[error("expected max_slots to be no smaller than slots")]
    MaxBelowSlots,
}

/// Reads and parses a hostfile.
pub fn read(path: &Path) -> Result<Vec<HostSpec>, HostfileError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(HostfileError::Unreadable)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(HostfileError::Unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(HostfileError::TooLarge);
    }
    parse(&bytes)
}

/// Parses the content of a hostfile, of any dialect or a mixture.
pub fn parse(content: &[u8]) -> Result<Vec<HostSpec>, HostfileError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    collect(lines.map(|(index, bytes)| (Place::Line(index + 1), bytes)))
}

/// Parses a list separated by commas, such as the value of `--hosts`: `a,b:4,bob@c`.
pub fn parse_list(list: &str) -> Result<Vec<HostSpec>, HostfileError> {
    let entries = list.split(',').enumerate();
    collect(entries.map(|(index, entry)| (Place::Entry(index + 1), entry.as_bytes())))
}

/// Each piece holds one host or none.
pub(super) fn collect<'t>(
    pieces: impl Iterator<Item = (Place, &'t [u8])>,
) -> Result<Vec<HostSpec>, HostfileError> {
    let mut roster = Roster::default();
    let mut problems = Problems::default();
    for (place, bytes) in pieces {
        match line(place, bytes) {
            Ok(None) => {}
            Ok(Some((notation, spec))) => {
                let name = spec.name.clone();
                if let Err(disagreement) = roster.add(place, notation, spec) {
                    problems.push(Problem::new(place, name.as_str(), disagreement));
                }
            }
            Err(problem) => problems.push(problem),
        }
        if roster.len() > MAX_HOSTS {
            return Err(HostfileError::TooManyHosts);
        }
    }
    if !problems.is_empty() {
        return Err(HostfileError::Bad(problems));
    }
    if roster.len() == 0 {
        return Err(HostfileError::Empty);
    }
    Ok(roster.into_hosts())
}

/// One line: a host with attributes, or nothing.
fn line(place: Place, bytes: &[u8]) -> Result<Option<(Notation, HostSpec)>, Problem> {
    let bad = |text: &str, fault: Fault| Problem::new(place, text, fault);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| bad(&String::from_utf8_lossy(bytes), Fault::NotText))?;
    let code = text.split('#').next().unwrap_or_default();
    // Open MPI's own reader allows blanks around the sign.
    let spaced = code.replace('=', " = ");
    let mut words = spaced.split_whitespace().peekable();
    let Some(host) = words.next() else { return Ok(None) };
    let mut spec = grammar::host(host).map_err(|flaw| bad(host, flaw.into()))?;
    let mut notation = if spec.slots.is_some() { Notation::Colon } else { Notation::Bare };

    while let Some(key) = words.next() {
        if words.next_if_eq(&"=").is_none() {
            return Err(bad(key, Fault::UnknownAttribute));
        }
        let value = words.next_if(|word| *word != "=").unwrap_or_default();
        let shown = format!("{key}={value}");
        let fault = |fault: Fault| bad(&shown, fault);
        let flaw = |flaw: Flaw| bad(&shown, flaw.into());
        let repeated = match key {
            "slots" => {
                notation = Notation::Attribute;
                spec.slots.replace(grammar::slots(value).map_err(flaw)?).is_some()
            }
            "max_slots" | "max-slots" => {
                let bound = grammar::slots(value).map_err(|_| flaw(Flaw::NotMaxSlots))?;
                spec.max_slots.replace(bound).is_some()
            }
            "port" => spec.port.replace(grammar::port(value).map_err(flaw)?).is_some(),
            "user_name" | "user-name" | "username" | "user" => {
                spec.user.replace(grammar::user(value).map_err(flaw)?).is_some()
            }
            _ => return Err(fault(Fault::UnknownAttribute)),
        };
        if repeated {
            return Err(fault(Fault::Repeated));
        }
    }
    match (spec.slots, spec.max_slots) {
        (Some(slots), Some(max)) if max < slots => {
            Err(bad(&format!("max_slots={max}"), Fault::MaxBelowSlots))
        }
        _ => Ok(Some((notation, spec))),
    }
}

#[cfg(test)]
mod tests;

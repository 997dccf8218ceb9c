//! Which ranks to show: `0,4-7`.
//!
//! Must not know how many there are.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::exit::{Class, Explain};

/// A set of ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankSet(Vec<RangeInclusive<u32>>);

/// Why a set of ranks cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read the ranks '{all}': '{part}' is neither a number nor a range such as 4-7")]
pub struct RankSetError {
    all: String,
    part: String,
}

impl Explain for RankSetError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some("write them as in --ranks 0,4-7".to_owned())
    }
}

impl RankSet {
    /// Whether the rank is in it.
    #[must_use]
    pub fn contains(&self, rank: u32) -> bool {
        self.0.iter().any(|range| range.contains(&rank))
    }
}

impl fmt::Display for RankSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}-{}", range.start(), range.end())?;
        }
        Ok(())
    }
}

impl FromStr for RankSet {
    type Err = RankSetError;

    fn from_str(all: &str) -> Result<Self, RankSetError> {
        let range = |part: &str| {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = first.parse().ok()?..=last.parse().ok()?;
            (!range.is_empty()).then_some(range)
        };
        let parts = all.split(',').map(|part| {
            range(part).ok_or_else(|| RankSetError { all: all.to_owned(), part: part.to_owned() })
        });
        parts.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        for (text, inside, outside) in [
            ("0", &[0][..], &[1][..]),
            ("0,4-7", &[0, 4, 7], &[1, 3, 8]),
            ("3-3, 9", &[3, 9], &[2, 4]),
        ] {
            let set: RankSet = text.parse().unwrap();
            assert!(inside.iter().all(|rank| set.contains(*rank)), "{text}");
            assert!(!outside.iter().any(|rank| set.contains(*rank)), "{text}");
        }
        for (text, part) in [("", ""), ("1,", ""), ("7-4", "7-4"), ("a", "a"), ("-1", "-1")] {
            let error = RankSetError { all: text.into(), part: part.into() };
            assert_eq!(text.parse::<RankSet>(), Err(error), "{text}");
        }
    }
}

//! Hosts collected one entry at a time: what it means when a host is listed again.
//!
//! Pure. Must not parse text; knows entries only by their place.
//!
//! The dialects differ, and each is taken at its word: a bare name listed four times has four slots
//! (Open MPI counts, Hydra sums), `host:2` listed twice has four (Hydra sums), `host slots=2` listed
//! twice has two (Open MPI sets). Numbers that contradict each other are nobody's meaning.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;

use super::HostSpec;
use crate::ids::HostName;

/// Where an entry stands in what it was read from; counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    Line(usize),
    /// In a list separated by commas.
    Entry(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Entry(number) => write!(f, "entry {number}"),
        }
    }
}

/// How an entry states its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// Not at all.
    Bare,
    /// `host:N`, Hydra's.
    Colon,
    /// `slots=N`, Open MPI's.
    Attribute,
}

/// Two entries for one host that cannot both be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// Their slots differ, or one states them and the other does not.
    #[error("{now} for a host that has {then} on {place}")]
    Slots {
        /// The earlier entry.
        place: Place,
        /// What it said.
        then: String,
        /// What this one says.
        now: String,
    },
    /// `max_slots`, port or user differ.
    #[error("another {what} than on {place} for the same host")]
    Attribute {
        /// The earlier entry.
        place: Place,
        /// The attribute, in words.
        what: &'static str,
    },
    /// The sum leaves `u32`.
    #[error("more than 4294967295 slots together with {place}")]
    TooMany {
        /// The first entry of the host.
        place: Place,
    },
}

struct Row {
    spec: HostSpec,
    place: Place,
    notation: Notation,
    /// The slots of one entry, which all entries of the host must share.
    each: Option<NonZeroU32>,
}

/// The hosts so far, in the order of their first entries.
#[derive(Default)]
pub(super) struct Roster {
    rows: Vec<Row>,
    index: HashMap<HostName, usize>,
}

impl Roster {
    /// Adds one entry, to its host where that is listed already.
    pub(super) fn add(
        &mut self,
        place: Place,
        notation: Notation,
        spec: HostSpec,
    ) -> Result<(), Disagreement> {
        if let Some(row) = self.index.get(&spec.name).and_then(|at| self.rows.get_mut(*at)) {
            return row.merge(notation, spec);
        }
        self.index.insert(spec.name.clone(), self.rows.len());
        let each = spec.slots;
        self.rows.push(Row { spec, place, notation, each });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn into_hosts(self) -> Vec<HostSpec> {
        self.rows.into_iter().map(|row| row.spec).collect()
    }
}

impl Row {
    fn merge(&mut self, notation: Notation, again: HostSpec) -> Result<(), Disagreement> {
        let place = self.place;
        if (notation, again.slots) != (self.notation, self.each) {
            let (then, now) = (words(self.each), words(again.slots));
            return Err(Disagreement::Slots { place, then, now });
        }
        agree(&mut self.spec.max_slots, again.max_slots, place, "max_slots")?;
        agree(&mut self.spec.port, again.port, place, "port")?;
        agree(&mut self.spec.user, again.user, place, "user")?;
        let step = match notation {
            Notation::Attribute => return Ok(()),
            Notation::Bare => 1,
            Notation::Colon => again.slots.map_or(1, NonZeroU32::get),
        };
        let so_far = self.spec.slots.unwrap_or(NonZeroU32::MIN);
        let sum = so_far.checked_add(step).ok_or(Disagreement::TooMany { place })?;
        self.spec.slots = Some(sum);
        Ok(())
    }
}

fn agree<T: PartialEq>(
    then: &mut Option<T>,
    now: Option<T>,
    place: Place,
    what: &'static str,
) -> Result<(), Disagreement> {
    match (then.as_ref(), now) {
        (_, None) => Ok(()),
        (None, now) => {
            *then = now;
            Ok(())
        }
        (Some(first), Some(second)) if *first == second => Ok(()),
        (Some(_), Some(_)) => Err(Disagreement::Attribute { place, what }),
    }
}

fn words(slots: Option<NonZeroU32>) -> String {
    match slots {
        Some(slots) if slots.get() == 1 => "1 slot".to_owned(),
        Some(slots) => format!("{slots} slots"),
        None => "no slots".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Disagreement, Notation, Place, Roster};
    use crate::discovery::grammar;

    fn slots(entries: &[(Notation, &str)]) -> Result<Option<u32>, Disagreement> {
        let mut roster = Roster::default();
        for (number, (notation, text)) in entries.iter().enumerate() {
            let spec = grammar::host(text).unwrap();
            roster.add(Place::Line(number + 1), *notation, spec)?;
        }
        assert_eq!(roster.len(), 1);
        Ok(roster.into_hosts().remove(0).slots.map(u32::from))
    }

    #[test]
    fn a_host_listed_again() {
        use Notation::{Attribute, Bare, Colon};
        for (entries, expected) in [
            (&[(Bare, "w")][..], None),
            (&[(Bare, "w"); 4][..], Some(4)),
            (&[(Colon, "w:2"); 3][..], Some(6)),
            (&[(Attribute, "w:2"); 3][..], Some(2)),
            (&[(Colon, "w:1")][..], Some(1)),
        ] {
            assert_eq!(slots(entries), Ok(expected), "{entries:?}");
        }
    }

    #[test]
    fn contradictions_name_the_earlier_place() {
        use Notation::{Attribute, Bare, Colon};
        for (entries, message) in [
            (
                &[(Attribute, "w:2"), (Attribute, "w:4")][..],
                "4 slots for a host that has 2 slots on line 1",
            ),
            (&[(Colon, "w:2"), (Colon, "w:1")], "1 slot for a host that has 2 slots on line 1"),
            (&[(Bare, "w"), (Attribute, "w:2")], "2 slots for a host that has no slots on line 1"),
            (&[(Colon, "w:2"), (Bare, "w")], "no slots for a host that has 2 slots on line 1"),
            (&[(Bare, "bob@w"), (Bare, "eve@w")], "another user than on line 1 for the same host"),
            (
                &[(Colon, "w:4294967295"), (Colon, "w:4294967295")],
                "more than 4294967295 slots together with line 1",
            ),
        ] {
            assert_eq!(slots(entries).unwrap_err().to_string(), message);
        }
    }
}

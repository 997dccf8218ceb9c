//! Which users and groups this process can give to a host: all of them as the machine's root, few in a user namespace.
//!
//! Must not change anything: it only reads what the kernel says of this process.

use std::fs;
use std::ops::Range;
use std::sync::OnceLock;

use crate::error::{LabError, Result};

/// The ids that exist in this process's user namespace.
#[derive(Debug)]
pub(crate) struct Ids {
    /// Whether this is a user namespace that lacks some of the machine's ids.
    pub(crate) limited: bool,
    /// Whether supplementary groups can be set.
    pub(crate) set_groups: bool,
    /// Outside, who is root here.
    pub(crate) owner: u32,
    users: Vec<Range<u64>>,
    groups: Vec<Range<u64>>,
}

/// The ids of this process, which do not change while it runs.
pub(crate) fn here() -> &'static Ids {
    static HERE: OnceLock<Ids> = OnceLock::new();
    HERE.get_or_init(|| {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        Ids::parse(
            &read("uid_map").unwrap_or_else(|| ALL.into()),
            &read("gid_map").unwrap_or_else(|| ALL.into()),
            read("setgroups").is_none_or(|word| word.trim() != "deny"),
        )
    })
}

/// The map of the first user namespace; also that of a kernel without any.
const ALL: &str = "0 0 4294967295";

impl Ids {
    fn parse(users: &str, groups: &str, set_groups: bool) -> Self {
        let whole = [(0, 0, u64::from(u32::MAX))];
        let (users, groups) = (lines(users), lines(groups));
        let owner = users.iter().find(|line| line.0 == 0).map_or(0, |line| line.1);
        Self {
            limited: users != whole || groups != whole,
            set_groups,
            owner: u32::try_from(owner).unwrap_or(0),
            users: users.into_iter().map(|(inside, _, count)| inside..inside + count).collect(),
            groups: groups.into_iter().map(|(inside, _, count)| inside..inside + count).collect(),
        }
    }

    /// Fails where a host asks for an id that does not exist here.
    pub(crate) fn check(&self, host: &str, uid: u32, gid: u32) -> Result<()> {
        let has = |ranges: &[Range<u64>], id: u32| {
            ranges.iter().any(|range| range.contains(&u64::from(id)))
        };
        let (kind, id) = if !has(&self.users, uid) {
            ("user", uid)
        } else if !has(&self.groups, gid) {
            ("group", gid)
        } else {
            return Ok(());
        };
        Err(LabError::NoSuchId { host: host.to_owned(), kind, id })
    }
}

/// Lines of a map: the first id inside, the first outside, how many.
fn lines(map: &str) -> Vec<(u64, u64, u64)> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??))
    };
    map.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_root_has_all_ids() {
        let ids = Ids::parse(ALL, ALL, true);
        assert!(!ids.limited);
        assert!(ids.check("w", 64321, 64321).is_ok());
    }

    #[test]
    fn one_mapped_id_is_all_there_is() {
        let ids = Ids::parse("  0  1000  1\n", "  0  1000  1\n", false);
        assert!(ids.limited);
        assert_eq!(ids.owner, 1000);
        assert!(ids.check("w", 0, 0).is_ok());
        let error = ids.check("w", 0, 5).unwrap_err().to_string();
        assert!(error.contains("group 5"), "{error}");
    }

    #[test]
    fn more_ids_can_be_mapped() {
        let ids = Ids::parse("0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 65536\n", true);
        assert!(ids.check("w", 64321, 1000).is_ok());
        assert!(ids.check("w", 65537, 0).is_err());
    }
}

//! Which processes belong to one piece of work.
//!
//! Must not signal them (that is `end`) and must not trust groups or sessions: every rank has its
//! own group under Open MPI and its own session under Hydra, and `prted` starts a session too.

use std::collections::BTreeSet;

use super::tree::{ProcessId, Tree};

/// The processes of one piece of work, among the descendants of this process.
#[derive(Debug, Clone)]
pub struct Scope {
    us: i32,
    everything: bool,
    session: Option<String>,
    spared: Vec<ProcessId>,
    /// What was a member once stays one, also after its parent died and the link is lost.
    known: BTreeSet<ProcessId>,
}

/// The members that a snapshot shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Those that can still run, parents before their children.
    pub alive: Vec<ProcessId>,
    /// The process groups that hold members only.
    pub groups: BTreeSet<i32>,
    /// Whether the look is the whole truth: nothing ended during it that may have left a child
    /// behind, unseen because it started after its place in the list was read.
    pub settled: bool,
}

impl Scope {
    /// These processes and whatever descends from them.
    #[must_use]
    pub fn of(starts: impl IntoIterator<Item = ProcessId>) -> Self {
        Self { known: starts.into_iter().collect(), ..Self::new(false) }
    }

    /// Every descendant of this process.
    #[must_use]
    pub fn all_descendants() -> Self {
        Self::new(true)
    }

    fn new(everything: bool) -> Self {
        let us = nix::unistd::getpid().as_raw();
        Self { us, everything, session: None, spared: Vec::new(), known: BTreeSet::new() }
    }

    /// Adds every descendant of ours that carries `MUSTER_SESSION=<id>`, and what descends from it. A child
    /// inherits the mark through re-parenting and `setsid`, which descent does not survive.
    #[must_use]
    pub fn session(mut self, id: &str) -> Self {
        self.session = Some(id.to_owned());
        self
    }

    /// Leaves these processes, and what descends from them, alone.
    #[must_use]
    pub fn sparing(mut self, spared: Vec<ProcessId>) -> Self {
        self.spared = spared;
        self
    }

    /// The session to look for in environments, where there is one.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Finds the members in a snapshot and remembers them for the next one.
    ///
    /// `in_session` says whether a process carries the mark; it is asked only about descendants of
    /// ours that are not known already.
    pub fn members(
        &mut self,
        tree: &Tree,
        mut in_session: impl FnMut(ProcessId) -> bool,
    ) -> Members {
        let spared = self.spared(tree);
        self.known.retain(|id| tree.find(*id).is_some());
        let mut alive = Vec::new();
        let mut seen = BTreeSet::new();
        let mut settled = tree.vanished() == 0;
        // A start need not descend from us; all other members do.
        let starts: Vec<_> = self.known.iter().filter_map(|id| tree.find(*id)).collect();
        for process in starts.into_iter().chain(tree.descendants(self.us)) {
            settled &= !process.ended();
            let member = self.everything
                || self.known.contains(&process.id)
                || (self.session.is_some() && !process.ended() && in_session(process.id));
            if !member {
                continue;
            }
            for process in std::iter::once(process).chain(tree.descendants(process.id.pid)) {
                let pid = process.id.pid;
                if pid == self.us || spared.contains(&pid) || !seen.insert(pid) {
                    continue;
                }
                self.known.insert(process.id);
                if !process.ended() {
                    alive.push(process.id);
                }
            }
        }
        let groups = tree.groups_within(|process| self.known.contains(&process.id));
        Members { alive, groups, settled }
    }

    fn spared(&self, tree: &Tree) -> BTreeSet<i32> {
        let spared = self.spared.iter().filter_map(|id| tree.find(*id));
        spared
            .flat_map(|process| std::iter::once(process).chain(tree.descendants(process.id.pid)))
            .map(|process| process.id.pid)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::process;
    use super::*;

    fn id(pid: i32) -> ProcessId {
        ProcessId { pid, start: pid.unsigned_abs().into() }
    }

    fn scope(scope: Scope) -> Scope {
        Scope { us: 10, ..scope }
    }

    fn pids(members: &Members) -> BTreeSet<i32> {
        members.alive.iter().map(|id| id.pid).collect()
    }

    fn tree() -> Tree {
        [
            process(10, 1, 10, "muster"),
            process(11, 10, 11, "sh"),
            process(12, 11, 11, "orted"),
            process(13, 12, 13, "rank"),
            process(20, 10, 20, "daemonised"),
            process(21, 20, 20, "rank"),
            process(30, 10, 30, "other-session"),
            process(40, 1, 40, "not-ours"),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn who_belongs() {
        let marked = |id: ProcessId| [20, 40].contains(&id.pid);
        for (what, mut given, expected) in [
            ("starts and their descendants", Scope::of([id(11)]), vec![11, 12, 13]),
            ("a number used again", Scope::of([ProcessId { pid: 11, start: 1 }]), vec![]),
            ("marked", Scope::of([]).session("s"), vec![20, 21]),
            ("both", Scope::of([id(12)]).session("s"), vec![12, 13, 20, 21]),
            ("everything", Scope::all_descendants(), vec![11, 12, 13, 20, 21, 30]),
            (
                "everything but",
                Scope::all_descendants().sparing(vec![id(20)]),
                vec![11, 12, 13, 30],
            ),
            ("never ourselves", Scope::of([id(10)]), vec![11, 12, 13, 20, 21, 30]),
        ] {
            given = scope(given);
            let members = given.members(&tree(), marked);
            assert_eq!(pids(&members), expected.into_iter().collect(), "{what}");
            assert!(members.settled, "{what}");
        }
    }

    #[test]
    fn a_member_stays_one_when_its_parent_dies() {
        let mut scope = scope(Scope::of([id(11)]));
        scope.members(&tree(), |_| false);
        let mut zombie = process(12, 10, 11, "orted");
        zombie.state = b'Z';
        let later: Tree = [
            process(10, 1, 10, "muster"),
            zombie,
            process(13, 10, 13, "rank"),
            process(14, 13, 14, "new"),
            process(15, 10, 11, "stranger"),
        ]
        .into_iter()
        .collect();
        let members = scope.members(&later, |_| false);
        assert_eq!(pids(&members), BTreeSet::from([13, 14]));
        assert_eq!(members.groups, BTreeSet::from([13, 14]), "11 has a stranger in it");
        assert!(!members.settled, "the zombie may have had another child");
    }

    #[test]
    fn environments_are_read_no_more_than_needed() {
        let mut asked = Vec::new();
        scope(Scope::of([id(11)])).session("s").members(&tree(), |id| {
            asked.push(id.pid);
            false
        });
        asked.sort_unstable();
        assert_eq!(asked, [20, 21, 30]);
    }
}

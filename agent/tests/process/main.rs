//! Real processes: the guarding parent, the reaper and the end of whole trees.
//!
//! Each case runs in a process of its own, because forking needs a single thread and because the
//! reaper takes every child's status. This binary is also the program that the cases start; which
//! part it plays is in the environment.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test, only without libtest's harness")]
#![expect(clippy::zombie_processes, reason = "they are what is tested")]

mod children;
mod ending;
mod guard;
mod harness;
mod ranks;
mod resident;
mod shell;
mod terminal;

use harness::{CASE, Case, ROLE};

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        return match role.split_once(':').unwrap_or((&role, "")) {
            ("bomb", _) => ending::bomb(),
            ("shell", _) => terminal::shell(),
            (role, argument) => guard::play(role, argument),
        };
    }
    let cases: Vec<Case> = [
        guard::CASES,
        terminal::CASES,
        children::CASES,
        ending::CASES,
        ranks::CASES,
        resident::CASES,
        shell::CASES,
    ]
    .concat();
    if let Ok(name) = std::env::var(CASE) {
        let case = cases.iter().find(|(known, _)| *known == name);
        return case.map(|(_, run)| run()).unwrap_or_else(|| panic!("no case {name}"));
    }
    harness::run_all(&cases);
}

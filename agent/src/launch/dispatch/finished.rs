//! Whether every rank has ended well, whatever mpirun still waits for.
//!
//! Must not decide what follows.

use std::collections::BTreeSet;

use crate::ids::HostName;
use crate::rank::protocol::{Hello, Output};

/// What wrappers and hosts say of the ranks.
#[derive(Debug, Default)]
pub(super) struct Finished {
    /// Ranks of the job; none: unknown, or mpirun has their lines and is not done before those are read.
    size: Option<u32>,
    well: u32,
    /// Hosts with processes of ranks, wrapped or not: one may have started more of them.
    at_work: BTreeSet<HostName>,
    waits: u32,
}

impl Finished {
    pub(super) fn started(&mut self, hello: &Hello) {
        let size = hello.identity.as_ref().and_then(|identity| identity.size);
        self.size = size.filter(|_| hello.output != Output::Mpirun);
    }

    pub(super) fn ended_well(&mut self) {
        self.well += 1;
    }

    pub(super) fn seen(&mut self, host: &HostName, processes: usize) {
        if processes == 0 {
            self.at_work.remove(host);
        } else {
            self.at_work.insert(host.clone());
        }
    }

    /// Whether all of them have.
    pub(super) fn all(&self) -> bool {
        self.size.is_some_and(|size| self.well >= size) && self.at_work.is_empty()
    }

    /// A wait for mpirun begins.
    pub(super) fn wait(&mut self) {
        self.waits += 1;
    }

    /// A wait is over: whether it was the last to begin, and nothing has changed since.
    pub(super) fn waited(&mut self) -> bool {
        self.waits = self.waits.saturating_sub(1);
        self.waits == 0 && self.all()
    }
}

//! Looks for MPI ranks among the descendants of this process, often while things change and rarely
//! while they don't.
//!
//! Must not signal or judge; what is seen is reported.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::process::ranks::Rank;
use crate::process::{ranks, resident};
use crate::ssh::control::RankSeen;

/// The ranks that one report names, at most.
const MAX_RANKS: usize = 4096;

/// Between two looks: soon after a command was started, then ever slower.
const LOOKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// For one look.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// Reports every changed set of ranks, in the form that `report` gives it, until nobody listens. Each
/// command that was `started` makes it look soon again; before the first there is hardly anything to see.
pub async fn watch<T>(
    mut started: watch::Receiver<()>,
    listener: &mpsc::Sender<T>,
    report: impl Fn(Vec<RankSeen>) -> T,
) {
    let mut last: Vec<RankSeen> = Vec::new();
    let mut pause = LOOKS.1;
    let mut next = Instant::now() + pause;
    let mut look = Look::default();
    let us = nix::unistd::getpid().as_raw();
    loop {
        tokio::select! {
            () = sleep_until(next) => {}
            Ok(()) = started.changed() => {
                pause = LOOKS.0;
                // Not put off by those that follow.
                next = next.min(Instant::now() + pause);
                continue;
            }
            () = listener.closed() => return,
        }
        let now = look.begin(move || ranks::running(Path::new("/proc"), us)).end(LOOK_LIMIT).await;
        let now = now.map_or_else(|| last.clone(), |running| seen(&running));
        if now != last {
            if listener.send(report(now.clone())).await.is_err() {
                return;
            }
            last = now;
        }
        let longer = (pause * 2).min(LOOKS.1);
        if pause < longer && longer == LOOKS.1 {
            // The start is over, and what it needed is not needed any more.
            resident::drop_startup_pages();
        }
        pause = longer;
        next = Instant::now() + pause;
    }
}

fn seen(running: &[Rank]) -> Vec<RankSeen> {
    running
        .iter()
        .take(MAX_RANKS)
        .map(|rank| RankSeen { rank: rank.place.rank, size: rank.place.size, pid: rank.pid })
        .collect()
}

/// The look that has not come back yet. Reading an environment can block as long as a driver holds the
/// process's memory, so there is never more than one thread that does.
#[derive(Default)]
struct Look(Option<JoinHandle<io::Result<Vec<Rank>>>>);

impl Look {
    /// Begins one, unless the last is still under way.
    fn begin(
        &mut self,
        look: impl FnOnce() -> io::Result<Vec<Rank>> + Send + 'static,
    ) -> &mut Self {
        self.0.get_or_insert_with(|| tokio::task::spawn_blocking(look));
        self
    }

    /// The ranks that run, in ascending order; none where it fails or takes longer.
    async fn end(&mut self, limit: Duration) -> Option<Vec<Rank>> {
        let seen = timeout(limit, self.0.as_mut()?).await.ok()?;
        self.0 = None;
        seen.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[tokio::test]
    async fn a_look_that_hangs_is_the_only_one() {
        let moment = Duration::from_millis(1);
        let (driver, hung) = sync_channel::<()>(0);
        let mut look = Look::default();
        let first = move || {
            // Until the driver lets go.
            let _ = hung.recv();
            Err(io::ErrorKind::NotFound.into())
        };
        assert_eq!(look.begin(first).end(moment).await.map(|ranks| ranks.len()), None);
        for _ in 0..3 {
            let second = || panic!("the first is under way");
            assert_eq!(look.begin(second).end(moment).await.map(|ranks| ranks.len()), None);
        }
        drop(driver);
        // What the first was to say, and then room for another.
        assert!(look.end(Duration::from_secs(60)).await.is_none());
        let third = look.begin(|| Ok(Vec::new())).end(Duration::from_secs(60)).await;
        assert_eq!(third.map(|ranks| ranks.len()), Some(0));
    }
}

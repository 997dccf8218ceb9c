//! Looks for MPI ranks among the descendants of this process, often while things change and rarely
//! while they don't.
//!
//! Must not signal or judge; what is seen is reported.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::process::{ranks, resident};
use crate::ssh::control::RankSeen;

/// The ranks that one report names, at most.
const MAX_RANKS: usize = 4096;

/// Between two looks: soon after a command was started, then ever slower.
const LOOKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// For one look.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// Reports every changed set of ranks, in the form that `report` gives it, until nobody listens.
/// `started` makes it look soon again.
pub async fn watch<T>(
    started: &Notify,
    listener: &mpsc::Sender<T>,
    report: impl Fn(Vec<RankSeen>) -> T,
) {
    let mut last: Vec<RankSeen> = Vec::new();
    let mut pause = LOOKS.0;
    loop {
        let now = look(&last).await;
        if now != last {
            if listener.send(report(now.clone())).await.is_err() {
                return;
            }
            last = now;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {
                let longer = (pause * 2).min(LOOKS.1);
                if pause < longer && longer == LOOKS.1 {
                    // The start is over, and what it needed is not needed any more.
                    resident::drop_startup_code();
                }
                pause = longer;
            }
            () = started.notified() => pause = LOOKS.0,
            () = listener.closed() => return,
        }
    }
}

/// The ranks that run now, in ascending order; those of the last look where this one fails.
async fn look(last: &[RankSeen]) -> Vec<RankSeen> {
    let us = nix::unistd::getpid().as_raw();
    // Reading an environment can block as long as a driver holds the process's memory.
    let running = tokio::task::spawn_blocking(move || ranks::running(Path::new("/proc"), us));
    let Ok(Ok(Ok(running))) = timeout(LOOK_LIMIT, running).await else { return last.to_vec() };
    running
        .into_iter()
        .take(MAX_RANKS)
        .map(|rank| RankSeen { rank: rank.place.rank, size: rank.place.size, pid: rank.pid })
        .collect()
}

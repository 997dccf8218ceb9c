//! Signs of life between a launcher and its workers, and what follows for the connection below them.
//!
//! Must not measure; it says how long each end waits.

use std::time::Duration;

use super::wire::KEEPALIVE_MISSES;

/// How often workers give signs of life, and when they are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between two of them.
    pub interval: Duration,
    /// How many in a row may be missing.
    pub misses: u32,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), misses: 3 }
    }
}

impl Heartbeat {
    /// How long a worker may be silent.
    #[must_use]
    pub fn patience(self) -> Duration {
        self.interval.saturating_mul(self.misses)
    }

    /// How long a worker is listened for once more when its time is over: a launcher that was
    /// stopped, or starved, finds its clock run out before it has read what came meanwhile.
    #[must_use]
    pub fn second_look(self) -> Duration {
        (self.patience() / 20).min(Duration::from_millis(500))
    }

    /// Between two keep-alives that a client sends: a silent worker is found by its missing
    /// heartbeats, which say more, and a silent plain SSH server a little later by these.
    #[must_use]
    pub fn client_keepalive(self) -> Duration {
        scale(self.patience(), 110)
    }

    /// Between two keep-alives that a worker sends: it has given its launcher up, and with its orphan
    /// grace soon has cleared up, by the time at which the launcher gives it up.
    #[must_use]
    pub fn worker_keepalive(self) -> Duration {
        scale(self.patience(), 93)
    }
}

/// The interval at which so many percent of `patience` go by until a peer counts as lost: russh gives
/// it up one interval after the last question that may stay unanswered.
fn scale(patience: Duration, percent: u32) -> Duration {
    let intervals = u32::try_from(KEEPALIVE_MISSES + 1).unwrap_or(u32::MAX);
    (patience.saturating_mul(percent) / 100 / intervals).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_peer_is_found_in_the_order_in_which_it_is_explained() {
        let year = Duration::from_secs(366 * 24 * 3600);
        for (interval, misses) in [
            (Duration::from_millis(100), 1),
            (Duration::from_secs(5), 3),
            (Duration::from_secs(60), 3),
            (year, 1),
        ] {
            let heartbeat = Heartbeat { interval, misses };
            let lost = |keepalive: Duration| keepalive * 4;
            let given_up = heartbeat.patience() + heartbeat.second_look();
            assert!(lost(heartbeat.worker_keepalive()) < heartbeat.patience());
            assert!(lost(heartbeat.client_keepalive()) > given_up);
        }
        let endless = Heartbeat { interval: Duration::MAX, misses: u32::MAX };
        assert_eq!(endless.patience(), Duration::MAX);
        assert!(endless.client_keepalive() > year);
    }
}

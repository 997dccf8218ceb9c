//! How long an answer stands: when the same question can have another answer.
//!
//! Pure: must not look at a clock; times are handed in.
//!
//! An answer's time to live says for how long a cache keeps it. Until then a cache gives the same one,
//! so that asking is of no use; and where the answer is "no such name", a question that came too early
//! has put it there. A server without a cache (CoreDNS's `disable`) sends the same time to live with
//! answers that are always fresh. A cache counts it down (RFC 2181 §8, RFC 2308 §5), so the second
//! answer tells which it is.

use std::time::Duration;

/// Between two questions where nothing is cached: at first, and once nothing has changed for long.
/// Not below a second, within which no cache counts down.
const PACE: (Duration, Duration) = (Duration::from_millis(1050), Duration::from_secs(5));

/// Part of the time without a change that the next question may come later.
const PATIENCE: u32 = 10;

/// No answer stands longer: CoreDNS's own bound on what it keeps, and a server's word is not a reason
/// to sleep for an hour.
const LONGEST: Duration = Duration::from_secs(30);

/// A cache counts whole seconds, from its own clock's.
const MARGIN: Duration = Duration::from_millis(50);

/// What the answers to one question told so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    /// The longest time to live so far: that of an answer that was fresh.
    full: Duration,
    /// Whether one was counted down.
    cached: bool,
}

impl Standing {
    /// How long to wait before the question is asked again, after an answer with this time to live.
    /// `same` is for how long the answer has been the same.
    pub fn pause(&mut self, ttl: Duration, same: Duration) -> Duration {
        let ttl = ttl.min(LONGEST);
        self.cached |= ttl < self.full;
        self.full = self.full.max(ttl);
        let pace = (same / PATIENCE).clamp(PACE.0, PACE.1);
        if self.cached { (ttl + MARGIN).max(pace) } else { pace }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server in front of which a cache keeps answers for `kept` seconds, or none does.
    fn asked(ttl: u64, kept: Option<u64>, until: u64) -> Vec<u64> {
        let (mut standing, mut now, mut filled) = (Standing::default(), 0.0, 0.0);
        let mut times = Vec::new();
        while now < until as f64 {
            times.push(now as u64);
            let told = match kept {
                None => ttl,
                Some(kept) => {
                    if now - filled >= kept as f64 {
                        filled = now;
                    }
                    // As CoreDNS does it: whole seconds that have passed are taken off.
                    kept - (now - filled) as u64
                }
            };
            now += standing.pause(Duration::from_secs(told), Duration::ZERO).as_secs_f64();
        }
        times
    }

    #[test]
    fn a_cache_is_asked_again_when_its_answer_runs_out() {
        assert_eq!(asked(30, Some(30), 100), [0, 1, 30, 60, 90]);
        assert_eq!(asked(5, Some(5), 21), [0, 1, 5, 10, 15, 20]);
    }

    #[test]
    fn without_a_cache_the_server_is_asked_every_second() {
        for ttl in [0, 5, 30, 3600] {
            assert_eq!(asked(ttl, None, 6), [0, 1, 2, 3, 4, 5], "{ttl}");
        }
    }

    #[test]
    fn what_has_long_been_the_same_is_asked_for_more_rarely() {
        let mut standing = Standing::default();
        for (same, expected) in [(0, 1050), (10, 1050), (20, 2000), (50, 5000), (600, 5000)] {
            let pause = standing.pause(Duration::from_secs(30), Duration::from_secs(same));
            assert_eq!(pause, Duration::from_millis(expected), "{same}");
        }
    }

    #[test]
    fn no_answer_stands_for_an_hour() {
        let mut standing = Standing::default();
        standing.pause(Duration::from_secs(3600), Duration::ZERO);
        let pause = standing.pause(Duration::from_secs(3500), Duration::ZERO);
        assert!(pause <= LONGEST + MARGIN, "{pause:?}");
    }
}

//! How far the clock of a host is from ours, by one exchange of messages.
//!
//! Must not be believed beyond its bound: half of what the exchange took.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Clocks that differ by more make times of different hosts useless to compare.
pub const TOLERATED: Duration = Duration::from_secs(1);

/// What a host says of its clock with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its time when it sent the answer, microseconds since 1970.
    pub sent_us: u64,
    /// How long it held the question before, microseconds.
    pub held_us: u64,
}

/// The difference of two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// Seconds by which the host's clock is ahead of the launcher's; negative: behind.
    pub seconds: f64,
    /// The truth is within this many seconds of it.
    pub within: f64,
}

impl Stamp {
    /// For an answer that is sent now to a question that came so long ago.
    #[must_use]
    pub fn now(held: Duration) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self { sent_us: us(since), held_us: us(held) }
    }
}

impl ClockOffset {
    /// From the answer to a question that took `round_trip`, and came at `received` of our clock.
    #[must_use]
    pub fn of(stamp: Stamp, received: SystemTime, round_trip: Duration) -> Self {
        let received = received.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let held = Duration::from_micros(stamp.held_us);
        let within = round_trip.saturating_sub(held).as_secs_f64() / 2.0;
        let sent = Duration::from_micros(stamp.sent_us).as_secs_f64();
        Self { seconds: sent - (received.as_secs_f64() - within), within }
    }

    /// Whether the clocks differ by more than is tolerated, for certain.
    #[must_use]
    pub fn is_off(self) -> bool {
        self.seconds.abs() - self.within > TOLERATED.as_secs_f64()
    }
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.seconds < 0.0 { "behind" } else { "ahead" };
        write!(f, "{:.3} s {word} (± {:.3} s)", self.seconds.abs(), self.within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_the_host_held_the_question_is_no_error() {
        let at = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
        let stamp = |sent: f64, held: f64| Stamp {
            sent_us: (sent * 1e6) as u64,
            held_us: (held * 1e6) as u64,
        };
        for (stamp, received, round_trip, seconds, within, off) in [
            // Both ways take 10 ms.
            (stamp(1000.010, 0.0), 1000.020, 0.020, 0.0, 0.010, false),
            (stamp(1003.010, 0.0), 1000.020, 0.020, 3.0, 0.010, true),
            (stamp(997.010, 0.0), 1000.020, 0.020, -3.0, 0.010, true),
            // It looked at its devices for 5 s first.
            (stamp(1005.010, 5.0), 1005.020, 5.020, 0.0, 0.010, false),
            // The way was slow: the truth may be within what is tolerated.
            (stamp(1002.0, 0.0), 1002.0, 4.0, 2.0, 2.0, false),
            // A host that claims to have held it longer than it took proves nothing more.
            (stamp(1000.0, 9.0), 1000.0, 1.0, 0.0, 0.0, false),
        ] {
            let found = ClockOffset::of(stamp, at(received), Duration::from_secs_f64(round_trip));
            assert!((found.seconds - seconds).abs() < 1e-4, "{found:?}");
            assert!((found.within - within).abs() < 1e-4, "{found:?}");
            assert_eq!(found.is_off(), off, "{found:?}");
        }
        let shown = ClockOffset { seconds: -3.0004, within: 0.01 }.to_string();
        assert_eq!(shown, "3.000 s behind (± 0.010 s)");
    }
}

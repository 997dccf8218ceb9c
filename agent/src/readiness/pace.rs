//! How often to say who is missing: soon at first and when something changes, ever more rarely while
//! nothing does.
//!
//! Pure: must not look at a clock; times are handed in.

use std::time::Duration;

/// Before the first line. What is ready within it needs no words.
const FIRST: Duration = Duration::from_secs(1);

/// Between two lines that differ in more than their times.
const CHANGED: Duration = Duration::from_secs(2);

/// Between the first two lines that do not, and the longest.
const UNCHANGED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// What was said last, and when. Times are since the wait began.
#[derive(Debug, Clone)]
pub struct Pace {
    last: Option<(String, Duration)>,
    quiet: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { last: None, quiet: UNCHANGED.0 }
    }
}

impl Pace {
    /// Whether a line about `picture` is to be said now; if so it counts as said.
    pub fn is_due(&mut self, picture: &str, now: Duration) -> bool {
        let (due, quiet) = match &self.last {
            None => (now >= FIRST, UNCHANGED.0),
            Some((last, said)) if last == picture => {
                (now >= *said + self.quiet, (self.quiet * 2).min(UNCHANGED.1))
            }
            Some((_, said)) => (now >= *said + CHANGED, UNCHANGED.0),
        };
        if due {
            self.last = Some((picture.to_owned(), now));
            self.quiet = quiet;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pictures: impl Fn(u64) -> &'static str, until: u64) -> Vec<u64> {
        let mut pace = Pace::default();
        (0..=until)
            .filter(|second| pace.is_due(pictures(*second), Duration::from_secs(*second)))
            .collect()
    }

    #[test]
    fn an_unchanged_picture_is_told_ever_more_rarely() {
        assert_eq!(said(|_| "0/1", 110), [1, 6, 16, 36, 66, 96]);
    }

    #[test]
    fn a_changed_one_is_told_soon_and_starts_anew() {
        let pictures = |second| if second < 17 { "0/2" } else { "1/2" };
        assert_eq!(said(pictures, 35), [1, 6, 16, 18, 23, 33]);
    }

    #[test]
    fn a_restless_one_is_held_back() {
        let pictures = |second| if second % 2 == 0 { "0/2" } else { "1/2" };
        assert_eq!(said(pictures, 10), [1, 4, 7, 10], "3, 6 and 9 look as the line before");
    }
}

//! What all measurements share: turns in rounds, medians, ratios, reading a pipe to its end.
//!
//! Must not know what is measured.

use std::io::{self, Read};
use std::time::Duration;

use crate::Result;

/// What one turn of a contender came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// CPU seconds of everybody who took part.
    pub(crate) cpu: f64,
}

impl Turn {
    /// One that had to be ended: it counts in no median and in no ratio; [`ended`] tells of it.
    pub(crate) const NEVER: Self = Self { wall: f64::INFINITY, cpu: f64::NAN };
}

/// What [`typical`] and [`ratio`] look at.
pub(crate) const WALL: fn(&Turn) -> f64 = |turn| turn.wall;
pub(crate) const CPU: fn(&Turn) -> f64 = |turn| turn.cpu;

/// How many turns contenders get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    /// Those that count.
    pub(crate) count: usize,
    /// Whether each contender has a turn before, which does not count: it fills the caches.
    pub(crate) warm_up: bool,
}

/// The turns of each contender. Within a round each has one, so that what else the machine does meets all; each
/// round begins with another contender.
pub(crate) fn rounds<C>(
    contenders: &[C],
    rounds: Rounds,
    mut turn: impl FnMut(&C) -> Result<Turn>,
) -> Result<Vec<Vec<Turn>>> {
    if rounds.warm_up {
        contenders.iter().try_for_each(|contender| turn(contender).map(drop))?;
    }
    let mut turns = vec![Vec::new(); contenders.len()];
    for round in 0..rounds.count {
        for place in 0..contenders.len() {
            let index = (round + place) % contenders.len();
            turns[index].push(turn(&contenders[index])?);
        }
    }
    Ok(turns)
}

/// How many of the turns did not have to be ended.
pub(crate) fn ended(turns: &[Turn]) -> usize {
    turns.iter().filter(|turn| turn.wall.is_finite()).count()
}

/// The median over a contender's turns that ended.
pub(crate) fn typical(turns: &[Turn], of: fn(&Turn) -> f64) -> f64 {
    median(turns.iter().filter(|turn| turn.wall.is_finite()).map(of).collect())
}

/// How many times as much `one` took as `other`: the median of the ratios of those rounds in which both ended.
pub(crate) fn ratio(one: &[Turn], other: &[Turn], of: fn(&Turn) -> f64) -> f64 {
    let both = one.iter().zip(other);
    let both = both.filter(|(one, other)| one.wall.is_finite() && other.wall.is_finite());
    median(both.map(|(one, other)| of(one) / of(other)).collect())
}

/// Reads to the end, as a fast reader would; how many bytes came.
pub(crate) fn swallow(mut pipe: impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        match pipe.read(&mut buffer)? {
            0 => return Ok(total),
            count => total += count as u64,
        }
    }
}

/// The middle one, or the mean of the two in the middle; zero of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// User and system time of all children that have been waited for.
pub(crate) fn children_cpu() -> nix::Result<Duration> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(
            u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or_default(),
        )
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        assert!((median(vec![4.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 8.0]) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn turns_that_never_ended_do_not_count() {
        let turn = |wall| Turn { wall, cpu: wall };
        let (one, other) = ([turn(2.0), Turn::NEVER, turn(8.0)], [turn(1.0), turn(1.0), turn(2.0)]);
        assert_eq!(ended(&one), 2);
        assert!((typical(&one, CPU) - 5.0).abs() < 1e-9);
        assert!((ratio(&other, &one, WALL) - 0.375).abs() < 1e-9);
    }
}

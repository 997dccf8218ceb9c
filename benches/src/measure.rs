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

/// The turns of each contender. Within a round each has one, so that what else the machine does meets all.
pub(crate) fn rounds<C>(
    contenders: &[C],
    rounds: usize,
    mut turn: impl FnMut(&C) -> Result<Turn>,
) -> Result<Vec<Vec<Turn>>> {
    let mut turns = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (contender, turns) in contenders.iter().zip(&mut turns) {
            turns.push(turn(contender)?);
        }
    }
    Ok(turns)
}

/// The median over a contender's turns.
pub(crate) fn typical(turns: &[Turn], of: fn(&Turn) -> f64) -> f64 {
    median(turns.iter().map(of).collect())
}

/// How many times as much `one` took as `other`: the median of the rounds' ratios.
pub(crate) fn ratio(one: &[Turn], other: &[Turn], of: fn(&Turn) -> f64) -> f64 {
    median(one.iter().zip(other).map(|(one, other)| of(one) / of(other)).collect())
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

/// The middle one; zero of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
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

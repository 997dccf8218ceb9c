//! What all measurements share: reading a pipe to its end, medians.
//!
//! Must not know what is measured.

use std::io::{self, Read};
use std::time::Duration;

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

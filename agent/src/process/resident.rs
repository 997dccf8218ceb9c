//! The pages of memory that hold our own code.
//!
//! Must not touch any that was ever written.

use std::fs;

use nix::libc;

/// Lets go of code that only the start needed. The pages stay in the page cache, which every process of this
/// binary shares, and come back when they are run; but most of a start's never are, and they count as resident
/// for each of many wrappers and agents.
pub fn drop_startup_code() {
    // Where it cannot be read, they stay.
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for (start, length) in maps.lines().filter_map(code) {
        // SAFETY: the range is a mapping of a file that was never writable, so that what comes back is what
        // was there.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Where a line of maps says that a file's code is, and how much of it: address and bytes.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, mode) = (words.next()?, words.next()?);
    if mode != "r-xp" || !words.nth(3)?.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_may_be_run_and_comes_from_a_file() {
        let file = "7f00-8f00 r-xp 00001000 fe:00 4711                    /usr/local/bin/muster";
        assert_eq!(code(file), Some((0x7f00, 0x1000)));
        for line in [
            "7f00-8f00 r--p 00001000 fe:00 4711                    /usr/local/bin/muster",
            "7f00-8f00 rwxp 00001000 fe:00 4711                    /usr/local/bin/muster",
            "7f00-8f00 r-xp 00000000 00:00 0                       [vdso]",
            "7f00-8f00 r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(code(line), None, "{line}");
        }
    }
}

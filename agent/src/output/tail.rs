//! The last lines of an output, within a bound.
//!
//! Must not grow beyond it, whatever is pushed.

use memchr::memrchr;

/// Keeps the end of what is pushed.
#[derive(Debug)]
pub struct Tail {
    lines: usize,
    limit: usize,
    kept: Vec<u8>,
}

impl Tail {
    /// Keeps the last `lines` lines, and of those no more than the last `limit` bytes.
    #[must_use]
    pub fn new(lines: usize, limit: usize) -> Self {
        Self { lines, limit, kept: Vec::new() }
    }

    /// Adds bytes, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.limit)..];
        // Moving the rest down once for each limit's worth of bytes keeps this cheap.
        if self.kept.len() + bytes.len() > 2 * self.limit {
            let spare = (self.kept.len() + bytes.len()).saturating_sub(self.limit);
            self.kept.drain(..spare.min(self.kept.len()));
        }
        self.kept.extend_from_slice(bytes);
    }

    /// The last lines; the first of them is cut where all together are beyond the limit.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let kept = &self.kept[self.kept.len().saturating_sub(self.limit)..];
        let mut from = kept.len();
        let mut ends = 0;
        // The newline that ends the last line does not begin another.
        let mut search = kept.strip_suffix(b"\n").unwrap_or(kept);
        while ends < self.lines {
            ends += 1;
            match memrchr(b'\n', search) {
                Some(at) => {
                    from = at + 1;
                    search = &search[..at];
                }
                None => return if self.lines == 0 { &[] } else { kept },
            }
        }
        &kept[from..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_within_the_limit() {
        for (lines, limit, pushed, kept) in [
            (2, 100, &["a\nb", "c\nd\n", "e"][..], "d\ne"),
            (2, 100, &["a\nb\nc\n"], "b\nc\n"),
            (9, 100, &["a\n", "b"], "a\nb"),
            (1, 4, &["abcdefgh"], "efgh"),
            (2, 4, &["ab\ncd", "\nef", "\n"], "\nef\n"),
            (3, 4, &["1\n2\n3\n4\n5\n6\n7\n"], "6\n7\n"),
            (0, 9, &["a\n"], ""),
            (2, 9, &[], ""),
        ] {
            let mut tail = Tail::new(lines, limit);
            for bytes in pushed {
                tail.push(bytes.as_bytes());
            }
            assert_eq!(std::str::from_utf8(tail.bytes()).unwrap(), kept, "{pushed:?}");
            assert!(tail.kept.len() <= 2 * limit);
        }
    }
}

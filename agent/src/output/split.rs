//! Splitting bytes into lines, however they were cut on the way.
//!
//! Must not read or write: whoever reads fills the space given here. Every byte comes out again
//! once, in order; nothing is added, and no more is held than one line up to its bound.

use memchr::{memchr, memchr2, memrchr, memrchr2};

/// Bytes read at once, at most. More would fall out of the second-level cache before it is tagged.
pub const READ: usize = 128 * 1024;

/// The longest line that is held back until it ends, unless told otherwise.
pub const MAX_LINE: usize = 64 * 1024;

/// How the last line of a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its newline (or its carriage return, where those end lines), which is in the bytes.
    Line,
    /// It goes on: it was cut because it reached the bound.
    Cut,
    /// The program closed its output without ending it.
    Eof,
}

/// What ends a line, and when it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whether a carriage return ends a line as a newline does.
    pub returns: bool,
    /// Bytes of a line, its end not counted, beyond which it is cut; at least [`Rule::LEAST`].
    pub max_line: usize,
}

impl Rule {
    /// The least bound: room for one character of UTF-8, so that cutting always makes headway.
    pub const LEAST: usize = 4;

    fn first_end(self, bytes: &[u8]) -> Option<usize> {
        if self.returns { memchr2(b'\n', b'\r', bytes) } else { memchr(b'\n', bytes) }
    }

    fn last_end(self, bytes: &[u8]) -> Option<usize> {
        if self.returns { memrchr2(b'\n', b'\r', bytes) } else { memrchr(b'\n', bytes) }
    }
}

/// Where to cut a line of more than `max` bytes: there, or before the character that would be split.
fn cut(line: &[u8], max: usize) -> usize {
    let continues = |byte: &u8| byte & 0xc0 == 0x80;
    let back = line[..=max].iter().rev().take(4).take_while(|byte| continues(byte)).count();
    // Four continuation bytes in a row are no UTF-8; then no place is better than another.
    if back < 4 { max - back } else { max }
}

/// Lines that follow each other; all but the last end with their end-of-line byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'b> {
    /// The lines, their ends included. Never empty.
    pub bytes: &'b [u8],
    /// How the last one ended.
    pub end: End,
}

impl<'b> Batch<'b> {
    /// The lines one by one. A line longer than the rule's bound comes in pieces, cut at the same
    /// places as a [`Splitter`] cuts it.
    #[must_use]
    pub fn lines(self, rule: Rule) -> Lines<'b> {
        Lines { rest: self.bytes, end: self.end, rule }
    }
}

/// One line, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'b> {
    /// With the byte that ended it, if one did.
    pub bytes: &'b [u8],
    /// How it ended.
    pub end: End,
}

/// See [`Batch::lines`].
#[derive(Debug, Clone)]
pub struct Lines<'b> {
    rest: &'b [u8],
    end: End,
    rule: Rule,
}

impl Lines<'_> {
    /// What ends them.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }
}

impl<'b> Iterator for Lines<'b> {
    type Item = Line<'b>;

    #[inline]
    fn next(&mut self) -> Option<Line<'b>> {
        if self.rest.is_empty() {
            return None;
        }
        let (length, text, end) = match self.rule.first_end(self.rest) {
            Some(at) => (at + 1, at, End::Line),
            None => (self.rest.len(), self.rest.len(), self.end),
        };
        let (length, end) = if text > self.rule.max_line {
            (cut(self.rest, self.rule.max_line), End::Cut)
        } else {
            (length, end)
        };
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(Line { bytes, end })
    }
}

/// Holds a line until it ends, and gives out whole ones.
#[derive(Debug)]
pub struct Splitter {
    rule: Rule,
    buffer: Box<[u8]>,
    /// What is held: from here …
    start: usize,
    /// … to here.
    end: usize,
    /// No line ends before this.
    searched: usize,
}

impl Splitter {
    /// An empty one.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        let rule = Rule { max_line: rule.max_line.max(Rule::LEAST), ..rule };
        let size = rule.max_line.saturating_mul(2).saturating_add(READ);
        Self { rule, buffer: vec![0; size].into_boxed_slice(), start: 0, end: 0, searched: 0 }
    }

    /// Its rule.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Room for at least one and at most [`READ`] bytes, to be filled from its beginning.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end, self.searched) = (0, 0, 0);
        } else if self.buffer.len() - self.end < READ {
            // At most one line is held here, and a short one but for the longest.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        let room = (self.buffer.len() - self.end).min(READ);
        &mut self.buffer[self.end..self.end + room]
    }

    /// Takes in what was put into the space, and gives it back for whoever wants it unsplit.
    pub fn filled(&mut self, count: usize) -> &[u8] {
        let from = self.end;
        self.end = (self.end + count).min(self.buffer.len());
        &self.buffer[from..self.end]
    }

    /// The lines that have ended, or the beginning of one that is too long. Ask until there are
    /// none, before more is filled in.
    pub fn batch(&mut self) -> Option<Batch<'_>> {
        if let Some(at) = self.rule.last_end(&self.buffer[self.searched..self.end]) {
            let from = self.start;
            self.start = self.searched + at + 1;
            self.searched = self.start;
            return Some(Batch { bytes: &self.buffer[from..self.start], end: End::Line });
        }
        self.searched = self.end;
        let held = &self.buffer[self.start..self.end];
        if held.len() <= self.rule.max_line {
            return None;
        }
        let length = cut(held, self.rule.max_line);
        self.start += length;
        Some(Batch { bytes: &self.buffer[self.start - length..self.start], end: End::Cut })
    }

    /// What is left when the program has closed its output.
    pub fn rest(&mut self) -> Option<Batch<'_>> {
        let bytes = &self.buffer[self.start..self.end];
        (self.start, self.searched) = (self.end, self.end);
        (!bytes.is_empty()).then_some(Batch { bytes, end: End::Eof })
    }

    /// Drops the states of a progress bar that later ones have overwritten, so that a bar that runs
    /// for hours is not cut at the bound. For lines of which only the last state counts.
    pub fn forget_overwritten(&mut self) {
        let held = &self.buffer[self.start..self.end];
        if held.len() <= self.rule.max_line {
            return;
        }
        // The very last return may be followed by the newline that ends the line.
        if let Some(at) = memrchr(b'\r', &held[..held.len() - 1]) {
            self.start += at + 1;
            self.searched = self.searched.max(self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = Vec<(Vec<u8>, End)>;

    fn feed(splitter: &mut Splitter, mut bytes: &[u8], size: usize, seen: &mut Seen) {
        while !bytes.is_empty() {
            let space = splitter.space();
            assert!(!space.is_empty() && space.len() <= READ);
            let count = space.len().min(size).min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            assert_eq!(splitter.filled(count), &bytes[..count]);
            bytes = &bytes[count..];
            let rule = splitter.rule();
            while let Some(batch) = splitter.batch() {
                seen.extend(batch.lines(rule).map(|line| (line.bytes.to_vec(), line.end)));
            }
        }
    }

    fn split(rule: Rule, bytes: &[u8], sizes: &[usize]) -> Seen {
        let mut splitter = Splitter::new(rule);
        let mut seen = Vec::new();
        let mut at = 0;
        for size in sizes.iter().copied().cycle() {
            let next = (at + size).min(bytes.len());
            feed(&mut splitter, &bytes[at..next], size, &mut seen);
            at = next;
            if at == bytes.len() {
                break;
            }
        }
        let rule = splitter.rule();
        if let Some(batch) = splitter.rest() {
            seen.extend(batch.lines(rule).map(|line| (line.bytes.to_vec(), line.end)));
        }
        seen
    }

    fn check(rule: Rule, bytes: &[u8], seen: &Seen) {
        let joined: Vec<u8> = seen.iter().flat_map(|(line, _)| line.clone()).collect();
        assert_eq!(joined, bytes, "every byte once, in order");
        let ends = |byte: &u8| *byte == b'\n' || (rule.returns && *byte == b'\r');
        for (index, (line, end)) in seen.iter().enumerate() {
            assert!(!line.is_empty());
            match end {
                End::Line => {
                    assert!(ends(line.last().unwrap()));
                    assert!(line.len() <= rule.max_line + 1);
                    assert!(!line[..line.len() - 1].iter().any(ends));
                }
                End::Cut => {
                    assert!(!line.iter().any(ends));
                    assert!((rule.max_line - 3..=rule.max_line).contains(&line.len()));
                    assert!(index + 1 < seen.len());
                }
                End::Eof => {
                    assert!(!line.iter().any(ends) && line.len() <= rule.max_line);
                    assert_eq!(index + 1, seen.len());
                }
            }
        }
    }

    /// Bytes in which ends of lines and pieces of UTF-8 are frequent.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            2 => Just(b'\n'),
            1 => Just(b'\r'),
            1 => Just(0),
            4 => any::<u8>(),
            8 => b'a'..=b'z',
            4 => 0x80..=0xbfu8,
            1 => Just(0xe2),
        ];
        prop::collection::vec(byte, 0..400)
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks(
            bytes in bytes(),
            sizes in prop::collection::vec(1usize..50, 1..10),
            returns: bool,
            max_line in 4usize..60,
        ) {
            let rule = Rule { returns, max_line };
            let seen = split(rule, &bytes, &sizes);
            check(rule, &bytes, &seen);
            prop_assert_eq!(&seen, &split(rule, &bytes, &[bytes.len().max(1)]), "chunks do not matter");
        }
    }

    #[test]
    fn lines_and_their_ends() {
        use End::{Cut, Eof, Line};
        let rule = |returns, max_line| Rule { returns, max_line };
        for (rule, bytes, expected) in [
            (
                rule(false, 9),
                "a\nb\r\n\nc",
                vec![("a\n", Line), ("b\r\n", Line), ("\n", Line), ("c", Eof)],
            ),
            (rule(false, 9), "1%\r2%\r3%\n", vec![("1%\r2%\r3%\n", Line)]),
            (rule(true, 9), "1%\r2%\r\n", vec![("1%\r", Line), ("2%\r", Line), ("\n", Line)]),
            (
                rule(false, 4),
                "abcd\nabcde\nabcdefgh",
                vec![("abcd\n", Line), ("abcd", Cut), ("e\n", Line), ("abcd", Cut), ("efgh", Eof)],
            ),
            (rule(false, 4), "aaaä\n", vec![("aaa", Cut), ("ä\n", Line)]),
            (rule(false, 4), "ab€€\n", vec![("ab", Cut), ("€", Cut), ("€\n", Line)]),
        ] {
            for size in 1..=bytes.len() {
                let seen = split(rule, bytes.as_bytes(), &[size]);
                let seen: Vec<_> = seen
                    .iter()
                    .map(|(line, end)| (std::str::from_utf8(line).unwrap(), *end))
                    .collect();
                assert_eq!(seen, expected, "{bytes:?} in chunks of {size}");
            }
        }
    }

    #[test]
    fn lines_far_beyond_the_buffer() {
        let rule = Rule { returns: false, max_line: MAX_LINE };
        let mut bytes = vec![b'x'; 10_000_000];
        bytes.push(b'\n');
        let seen = split(rule, &bytes, &[READ]);
        check(rule, &bytes, &seen);
        assert_eq!(seen.len(), 10_000_000usize.div_ceil(MAX_LINE));
    }

    #[test]
    fn a_long_progress_bar_keeps_its_last_state_only() {
        let mut splitter = Splitter::new(Rule { returns: false, max_line: 10 });
        let mut seen = Vec::new();
        for percent in 0..=99 {
            splitter.forget_overwritten();
            feed(&mut splitter, format!("\r{percent:>2}%").as_bytes(), 4, &mut seen);
        }
        feed(&mut splitter, b"\ndone\n", 4, &mut seen);
        let [(bar, End::Line), (done, End::Line)] = &seen[..] else { panic!("{seen:?}") };
        assert!(bar.ends_with(b"\r99%\n") && bar.len() <= 16, "{bar:?}");
        assert_eq!(done, b"done\n");
    }
}

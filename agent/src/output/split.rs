//! Splitting bytes into lines, however they were cut on the way.
//!
//! Must not read or write: whoever reads fills the space given here. Every byte comes out again
//! once, in order, but for overwritten states of lines where the rule allows it; nothing is added,
//! and no more is held than one line up to its bound.

use memchr::{memchr, memchr2, memrchr, memrchr2};

/// Bytes read at once, at most. Tagged, that still fits into a pipe, whose 64 KiB are all that a writer can hand
/// over without waiting for the reader.
pub const READ: usize = 48 * 1024;

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

/// What a carriage return does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// It is a byte like others.
    Text,
    /// It ends a line as a newline does.
    Ends,
    /// What follows overwrites the line, so of one that would be cut only its last state is kept: a
    /// progress bar that runs for hours makes one line.
    Overwrites,
}

/// What ends a line, and when it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What a carriage return does.
    pub returns: Return,
    /// Bytes of a line, its end not counted, beyond which it is cut; at least [`Rule::LEAST`].
    pub max_line: usize,
}

impl Rule {
    /// The least bound: room for one character of UTF-8, so that cutting always makes headway.
    pub const LEAST: usize = 4;

    fn first_end(self, bytes: &[u8]) -> Option<usize> {
        match self.returns {
            Return::Ends => memchr2(b'\n', b'\r', bytes),
            Return::Text | Return::Overwrites => memchr(b'\n', bytes),
        }
    }

    /// Where the last end of a line is.
    #[must_use]
    pub fn last_end(self, bytes: &[u8]) -> Option<usize> {
        match self.returns {
            Return::Ends => memrchr2(b'\n', b'\r', bytes),
            Return::Text | Return::Overwrites => memrchr(b'\n', bytes),
        }
    }

    /// How many bytes of a line's text can be left out because later ones overwrite them.
    fn overwritten(self, text: &[u8]) -> usize {
        if self.returns != Return::Overwrites || text.len() <= self.max_line {
            return 0;
        }
        // Returns at the very end overwrite nothing yet: the newline that ends the line may follow.
        let end = text.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
        memrchr(b'\r', &text[..end]).map_or(0, |at| at + 1)
    }
}

/// Where to cut a line of more than `max` bytes: there, or before the character that would be split.
#[must_use]
pub fn cut(line: &[u8], max: usize) -> usize {
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

impl<'b> Lines<'b> {
    /// What is left of the batch.
    pub(super) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Leaves out whole lines that somebody else has dealt with.
    pub(super) fn skip_bytes(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }

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
        let (mut length, mut text, mut end) = match self.rule.first_end(self.rest) {
            Some(at) => (at + 1, at, End::Line),
            None => (self.rest.len(), self.rest.len(), self.end),
        };
        if text > self.rule.max_line {
            let past = self.rule.overwritten(&self.rest[..text]);
            self.rest = &self.rest[past..];
            (length, text) = (length - past, text - past);
            if text > self.rule.max_line {
                (length, end) = (cut(self.rest, self.rule.max_line), End::Cut);
            }
        }
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(Line { bytes, end })
    }
}

/// Holds a line until it ends, and gives out whole ones.
#[derive(Debug)]
pub struct Splitter {
    rule: Rule,
    /// As much of it as was needed so far: a rank that writes little costs little.
    buffer: Vec<u8>,
    /// What it may grow to.
    most: usize,
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
        let most = rule.max_line.saturating_mul(2).saturating_add(READ);
        Self { rule, buffer: Vec::new(), most, start: 0, end: 0, searched: 0 }
    }

    /// Its rule.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Whether nothing is held: the next byte begins a line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
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
        let until = (self.end + READ).min(self.most);
        if self.buffer.len() < until {
            self.buffer.resize(until, 0);
        }
        &mut self.buffer[self.end..until]
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
        self.start += self.rule.overwritten(&self.buffer[self.start..self.end]);
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
        let ends = |byte: &u8| *byte == b'\n' || (rule.returns == Return::Ends && *byte == b'\r');
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
            ends: bool,
            max_line in 4usize..60,
        ) {
            let returns = if ends { Return::Ends } else { Return::Text };
            let rule = Rule { returns, max_line };
            let seen = split(rule, &bytes, &sizes);
            check(rule, &bytes, &seen);
            prop_assert_eq!(&seen, &split(rule, &bytes, &[bytes.len().max(1)]), "chunks do not matter");
        }
    }

    /// Whether `shown` is `whole` without some parts, each of which ends with a return.
    fn is_left_of(shown: &[u8], whole: &[u8]) -> bool {
        let states: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\r').collect();
        // The ends in `shown` that the states so far can lead to. A state that was cut before its return came
        // stays with what was shown of it, so any end of it may be missing, too.
        let mut ends = std::collections::BTreeSet::from([0]);
        for state in states {
            let mut next = std::collections::BTreeSet::new();
            for at in ends {
                let same = shown[at..].iter().zip(state).take_while(|(a, b)| a == b).count();
                let most = if state.ends_with(b"\r") { 0 } else { state.len() };
                next.extend((most..=same).map(|length| at + length));
            }
            ends = next;
        }
        ends.contains(&shown.len())
    }

    proptest! {
        #[test]
        fn only_overwritten_states_are_left_out(
            bytes in bytes(),
            sizes in prop::collection::vec(1usize..50, 1..10),
            max_line in 4usize..60,
        ) {
            let rule = Rule { returns: Return::Overwrites, max_line };
            let seen = split(rule, &bytes, &sizes);
            // Cut pieces put together again.
            let mut shown: Vec<Vec<u8>> = vec![Vec::new()];
            for (line, end) in &seen {
                prop_assert!(line.len() <= max_line + 1, "{line:?}");
                shown.last_mut().unwrap().extend(line);
                if *end == End::Line {
                    prop_assert_eq!(line.last(), Some(&b'\n'));
                    shown.push(Vec::new());
                }
            }
            let whole: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
            let shown: Vec<&[u8]> =
                shown.iter().map(Vec::as_slice).filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(shown.len(), whole.len());
            for (shown, whole) in shown.into_iter().zip(whole) {
                let text = |line: &[u8]| line.strip_suffix(b"\n").unwrap_or(line).to_vec();
                let (shown, whole) = (text(shown), text(whole));
                let drawn = |line: &[u8]| {
                    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
                    line[..end].to_vec()
                };
                let (seen, all) = (drawn(&shown), drawn(&whole));
                let last = all.rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
                prop_assert!(is_left_of(&shown, &whole), "{shown:?} of {whole:?}");
                prop_assert!(seen.ends_with(last), "{shown:?} of {whole:?}");
                if whole.len() <= max_line {
                    prop_assert_eq!(shown, whole, "nothing had to go");
                }
            }
        }
    }

    #[test]
    fn lines_and_their_ends() {
        use End::{Cut, Eof, Line};
        use Return::{Ends, Text};
        let rule = |returns, max_line| Rule { returns, max_line };
        for (rule, bytes, expected) in [
            (
                rule(Text, 9),
                "a\nb\r\n\nc",
                vec![("a\n", Line), ("b\r\n", Line), ("\n", Line), ("c", Eof)],
            ),
            (rule(Text, 9), "1%\r2%\r3%\n", vec![("1%\r2%\r3%\n", Line)]),
            (rule(Ends, 9), "1%\r2%\r\n", vec![("1%\r", Line), ("2%\r", Line), ("\n", Line)]),
            (
                rule(Text, 4),
                "abcd\nabcde\nabcdefgh",
                vec![("abcd\n", Line), ("abcd", Cut), ("e\n", Line), ("abcd", Cut), ("efgh", Eof)],
            ),
            (rule(Text, 4), "aaaä\n", vec![("aaa", Cut), ("ä\n", Line)]),
            (rule(Text, 4), "ab€€\n", vec![("ab", Cut), ("€", Cut), ("€\n", Line)]),
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
        let rule = Rule { returns: Return::Text, max_line: MAX_LINE };
        let mut bytes = vec![b'x'; 10_000_000];
        bytes.push(b'\n');
        let seen = split(rule, &bytes, &[READ]);
        check(rule, &bytes, &seen);
        assert_eq!(seen.len(), 10_000_000usize.div_ceil(MAX_LINE));
    }

    #[test]
    fn a_long_progress_bar_keeps_its_last_state_only() {
        for size in 1..40 {
            let mut splitter = Splitter::new(Rule { returns: Return::Overwrites, max_line: 10 });
            let states: String = (0..100).map(|percent| format!("\r{percent:>2}%")).collect();
            let text = format!("before\n{states}\ndone\nwith\r it\n");
            let mut seen = Vec::new();
            feed(&mut splitter, text.as_bytes(), size, &mut seen);
            let lines: Vec<_> =
                seen.iter().map(|(line, end)| (std::str::from_utf8(line).unwrap(), *end)).collect();
            let [before, (bar, End::Line), done, with] = lines[..] else { panic!("{lines:?}") };
            assert_eq!(
                [before, done, with],
                ["before\n", "done\n", "with\r it\n"].map(|line| (line, End::Line))
            );
            assert!(bar.ends_with("99%\n"), "{bar:?}");
        }
    }
}

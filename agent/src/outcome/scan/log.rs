//! A saved log: bytes to lines to findings, and the exit code that a recording tells in its head.
//!
//! Must not read from disk.

use crate::outcome::facts::Culprit;
use crate::outcome::scan::{Finding, MAX_LINE, Scanner, Source};
use crate::process::status::WaitStatus;

/// Cuts a log into lines and gives them to a scanner.
///
/// A log may begin with lines of `# key: value`, written by who recorded it; they are no part of the
/// job's output. `# exit code: N` among them tells how mpirun ended (-N: by signal N).
#[derive(Debug)]
pub struct Log {
    scanner: Scanner,
    /// The line that has no end yet, bounded.
    partial: Vec<u8>,
    lines: u64,
    in_head: bool,
    exit: Option<WaitStatus>,
}

/// What a log held.
#[derive(Debug)]
pub struct Read {
    /// By the order of the lines.
    pub findings: Vec<Finding>,
    /// How mpirun ended, where the head of the log tells.
    pub exit: Option<WaitStatus>,
}

impl Log {
    /// Nothing read yet.
    #[must_use]
    pub fn new(scanner: Scanner) -> Self {
        Self { scanner, partial: Vec::new(), lines: 0, in_head: true, exit: None }
    }

    /// Takes more of the log, cut anywhere. A lone carriage return ends a line as well: it is how
    /// progress bars are drawn, and what follows is the next program's first word.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(at) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
            if self.partial.is_empty() {
                self.line(line, bytes[at] == b'\n');
            } else {
                self.extend(line);
                let whole = std::mem::take(&mut self.partial);
                self.line(&whole, bytes[at] == b'\n');
                self.partial = whole;
                self.partial.clear();
            }
            bytes = rest;
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn line(&mut self, line: &[u8], ended: bool) {
        self.lines += u64::from(ended);
        if line.is_empty() {
            return;
        }
        self.in_head &= line.starts_with(b"# ");
        if self.in_head {
            self.exit = self.exit.or_else(|| exit_code(&String::from_utf8_lossy(line)));
            return;
        }
        let number = self.lines + u64::from(!ended);
        self.scanner.line(&Source::Log { line: number }, &Culprit::default(), line);
    }

    /// The log is at its end.
    #[must_use]
    pub fn finish(mut self) -> Read {
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() {
            self.line(&last, true);
        }
        Read { findings: self.scanner.findings(), exit: self.exit }
    }
}

/// The status that a head line such as `# exit code: 3` tells.
fn exit_code(line: &str) -> Option<WaitStatus> {
    let value = line.strip_prefix("# exit")?.trim_start_matches(" code").trim_start_matches(':');
    let number: i32 = value.split_whitespace().next()?.parse().ok()?;
    Some(status(number))
}

/// The wait status that a number stands for as people write it: -9 is signal 9.
#[must_use]
pub fn status(number: i32) -> WaitStatus {
    if number < 0 {
        WaitStatus::Signaled { signal: number.saturating_neg(), core: false }
    } else {
        WaitStatus::Exited((number & 0xff) as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use proptest::prelude::*;

    use super::*;
    use crate::outcome::rules::Rules;

    static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::built_in().unwrap()));

    fn read(text: &[u8], cuts: usize) -> Read {
        let mut log = Log::new(Scanner::new(Arc::clone(&RULES)));
        for part in text.chunks(cuts.max(1)) {
            log.feed(part);
        }
        log.finish()
    }

    fn names(read: &Read) -> Vec<(&str, &Source)> {
        read.findings.iter().map(|found| (found.rule.name.as_str(), &found.source)).collect()
    }

    #[test]
    fn heads_are_no_output() {
        let read = read(b"# note: CUDA out of memory\n# exit code: -9 (x)\n\nall is well\n", 7);
        assert_eq!(read.exit, Some(WaitStatus::Signaled { signal: 9, core: false }));
        assert_eq!(names(&read), []);
    }

    #[test]
    fn lines_may_be_folded_or_overwritten() {
        let folded = b"prterun noticed that process rank 2 with PID 6307 on node w2 exited on\n\
            signal 11 (Segmentation fault).\n";
        let found = read(folded, 1000);
        assert_eq!(names(&found), [("openmpi-rank-crashed", &Source::Log { line: 2 })]);
        assert_eq!(found.findings[0].culprit.rank, Some(2));
        let bar = b" 99% 1/2\rRuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB\n";
        assert_eq!(names(&read(bar, 3))[0].1, &Source::Log { line: 1 });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..4000), cuts in 1_usize..50,
        ) {
            read(&bytes, cuts);
        }
    }
}

//! Words for people: how muster speaks on stderr, and small matters of text.
//!
//! Must not write its own words to stdout, which belongs to ranks and to data that was asked for.

use std::borrow::Borrow;
use std::io::{IsTerminal as _, Write as _};

use crate::exit::{Class, Explain};

pub mod voice;

/// Says something on stderr, in one write, so that it is not cut by the lines of ranks.
pub fn say(words: &str) {
    let mut lines = String::new();
    for line in words.lines() {
        lines += &format!("muster: {line}\n");
    }
    voice::speak(lines.into_bytes());
}

/// Gives the data that was asked for on stdout. A reader that has gone had what it wanted.
///
/// # Errors
/// Stdout is a file on a full disk, or worse.
pub fn give(data: &str) -> Result<(), OutputError> {
    give_more(data).map(drop)
}

/// The same for data that goes on: whether there is still a reader.
///
/// # Errors
/// As for [`give`].
pub fn give_more(data: &str) -> Result<bool, OutputError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(data.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(OutputError(error)),
    }
}

/// Stdout did not take what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("write to standard output: {0}")]
pub struct OutputError(pub std::io::Error);

impl Explain for OutputError {
    fn class(&self) -> Class {
        Class::LocalResource
    }

    fn hint(&self) -> Option<String> {
        Some("is the disk full that standard output goes to?".into())
    }
}

/// Says why muster ends: the error, its causes, the hint, and the class with its code.
pub fn complain(error: &dyn Explain) {
    let mut words = format!("error: failed to {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some errors tell their cause in their own words already.
        if !words.contains(&text) {
            words += &format!(": {text}");
        }
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        words += &format!("\n{} {hint}", paint("hint:", "36"));
    }
    say(&words);
}

/// The last line: the class and what it means for a retry.
pub fn verdict_line(class: Class) {
    let retry = if class.retryable() { "a retry can help" } else { "a retry will not help" };
    say(&format!("exit code {} ({class}); {retry}", class.code()));
}

/// Colours `words` on a terminal, by an SGR number.
fn paint(words: &str, colour: &str) -> String {
    let wanted = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if wanted { format!("\x1b[{colour}m{words}\x1b[0m") } else { words.to_owned() }
}

/// Columns side by side, two blanks apart; each column is of its cells from the top.
#[must_use]
pub fn columns(columns: &[Vec<String>]) -> String {
    let width = |column: &Vec<String>| column.iter().map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = columns.iter().map(|column| width(column).unwrap_or(0)).collect();
    let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
    let mut text = String::new();
    for row in 0..rows {
        let cells = columns.iter().zip(&widths).map(|(column, &width)| {
            let cell = column.get(row).map_or("", String::as_str);
            format!("{cell:width$}  ")
        });
        text += cells.collect::<String>().trim_end();
        text.push('\n');
    }
    text
}

/// Bytes as people say them: `64 MiB`, `1.5 TiB`, never more than one digit after the point.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / 1024.0, Some(next));
    }
    let shown = format!("{value:.1}");
    format!("{} {}", shown.trim_end_matches(".0"), unit.unwrap_or(&"B"))
}

/// Whether `text` matches `pattern`, in which `*` stands for any run of characters and `?` for one:
/// the patterns of ssh_config(5).
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The first `most` of some words, and how many more there are: `a, b and 3 more`.
#[must_use]
pub fn listed(words: &[impl Borrow<str>], most: usize) -> String {
    match words.split_at_checked(most) {
        Some((first, rest)) if !rest.is_empty() => {
            format!("{} and {} more", first.join(", "), rest.len())
        }
        _ => words.join(", "),
    }
}

/// The same of phrases, which have commas of their own: `a is b, or c; d is e; and 3 more`.
#[must_use]
pub fn phrases(phrases: &[impl Borrow<str>], most: usize) -> String {
    match phrases.split_at_checked(most) {
        Some((first, rest)) if !rest.is_empty() => {
            format!("{}; and {} more", first.join("; "), rest.len())
        }
        _ => phrases.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::{listed, matches, phrases, size};

    #[test]
    fn sizes() {
        for (bytes, words) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (64 << 20, "64 MiB"),
            (85_899_345_920, "80 GiB"),
            (1_649_267_441_664, "1.5 TiB"),
            ((1 << 30) - 1, "1 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(size(bytes), words, "{bytes}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("LC_*", "LC_ALL", true),
            ("LC_*", "LC_", true),
            ("LC_*", "LANG", false),
            ("*", "", true),
            ("", "", true),
            ("", "A", false),
            ("A?C", "ABC", true),
            ("A?C", "AC", false),
            ("*_ARGS*X", "OMPI_ARGS_ARGSX", true),
            ("*A*B", "AAB", true),
            ("*A*B", "ABA", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn long_lists_are_counted() {
        let words = ["a", "b", "c"];
        for (most, expected) in [(0, " and 3 more"), (2, "a, b and 1 more"), (3, "a, b, c")] {
            assert_eq!(listed(&words, most), expected);
        }
        assert_eq!(phrases(&words, 2), "a; b; and 1 more");
        assert_eq!(phrases(&words, 3), "a; b; c");
    }
}

//! The plain text that a regular expression cannot match without.
//!
//! Must err on the side of none: a literal that a match need not hold would hide lines.

use std::iter::Peekable;
use std::str::Chars;

/// The shortest piece that finds lines quickly enough, bytes.
pub(super) const SHORTEST: usize = 4;

/// Pieces of plain text of which every match holds at least one: the longest outside of brackets,
/// or those of a group's alternatives. None where some match may hold nothing so long.
pub(super) fn needed(pattern: &str) -> Option<Vec<String>> {
    alternatives(&mut pattern.chars().peekable())
}

/// Reads alternatives up to the end or to an unmatched parenthesis.
fn alternatives(chars: &mut Peekable<Chars<'_>>) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut complete = true;
    loop {
        let (found, more) = sequence(chars);
        match found {
            Some(found) => all.extend(found),
            None => complete = false,
        }
        if !more {
            return complete.then_some(all);
        }
    }
}

/// What is best to search one alternative by.
#[derive(Default)]
struct Best {
    pieces: Option<Vec<String>>,
    run: String,
}

impl Best {
    fn offer(&mut self, pieces: Vec<String>) {
        let shortest = |pieces: &[String]| pieces.iter().map(String::len).min().unwrap_or(0);
        let worth = shortest(&pieces);
        if worth >= SHORTEST && self.pieces.as_deref().is_none_or(|best| worth > shortest(best)) {
            self.pieces = Some(pieces);
        }
    }

    /// The run of plain text ends here.
    fn close(&mut self) {
        let run = std::mem::take(&mut self.run);
        self.offer(vec![run]);
    }
}

/// Reads one alternative; says whether another follows.
fn sequence(chars: &mut Peekable<Chars<'_>>) -> (Option<Vec<String>>, bool) {
    let mut best = Best::default();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(plain) if !plain.is_alphanumeric() => best.run.push(plain),
                _ => best.close(),
            },
            '(' => {
                best.close();
                skip_name(chars);
                let inside = alternatives(chars);
                if let (Some(inside), false) = (inside, optional(chars)) {
                    best.offer(inside);
                }
            }
            '[' => {
                best.close();
                skip_class(chars);
            }
            '?' | '*' | '{' => {
                // What stands before it may be missing.
                best.run.pop();
                best.close();
                if char == '{' {
                    chars.by_ref().find(|char| *char == '}');
                }
            }
            '|' | ')' => {
                best.close();
                return (best.pieces, char == '|');
            }
            '.' | '^' | '$' | '+' => best.close(),
            plain => best.run.push(plain),
        }
    }
    best.close();
    (best.pieces, false)
}

/// Whether what was just read may be missing.
fn optional(chars: &mut Peekable<Chars<'_>>) -> bool {
    chars.peek().is_some_and(|next| matches!(next, '?' | '*' | '{'))
}

/// Skips `?:`, `?<name>` or `?i` at the start of a group.
fn skip_name(chars: &mut Peekable<Chars<'_>>) {
    if chars.next_if_eq(&'?').is_none() {
        return;
    }
    if chars.next_if_eq(&'<').is_some() || chars.next_if_eq(&'P').is_some() {
        chars.by_ref().find(|char| *char == '>');
    } else {
        while chars.next_if(|char| char.is_ascii_lowercase() || *char == '-').is_some() {}
        chars.next_if_eq(&':');
    }
}

/// Skips to the end of the character class whose bracket was just read.
fn skip_class(chars: &mut Peekable<Chars<'_>>) {
    chars.next_if_eq(&'^');
    // A bracket that comes first stands for itself.
    chars.next_if_eq(&']');
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                chars.next();
            }
            ']' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn literals() {
        for (pattern, literals) in [
            ("out of memory", Some(vec!["out of memory"])),
            ("(?:CUDA|HIP) out of memory", Some(vec![" out of memory"])),
            ("exited on signal (?<n>[0-9]+) [(]", Some(vec!["exited on signal "])),
            (r"^\[cli_\d+\]: aborting", Some(vec!["]: aborting"])),
            ("colou?r here", Some(vec!["r here"])),
            ("alpha|beta5", Some(vec!["alpha", "beta5"])),
            ("alpha|bet", None),
            ("ab+cdef", Some(vec!["cdef"])),
            ("[]a]text[^]]", Some(vec!["text"])),
            (r"(a(b)[)]\))tail", Some(vec!["tail"])),
            ("a (?:disk|card) b", Some(vec!["disk", "card"])),
            ("a (?:disk|card)? b", None),
            (r"(?i)(?<x>rank|proc) *\d", Some(vec!["rank", "proc"])),
            ("a((?:left|right) b|x)", None),
            ("x{2,3}", None),
            ("", None),
        ] {
            let expected = literals.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(needed(pattern), expected, "{pattern}");
        }
    }
}

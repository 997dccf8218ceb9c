//! The plain text that a regular expression cannot match without.
//!
//! Must err on the side of none: a literal that a match need not hold would hide lines.

/// The shortest piece that finds lines quickly enough, bytes.
pub(super) const SHORTEST: usize = 4;

/// For each alternative of the expression the longest run of plain text outside of groups; None
/// where one has none that is long enough.
pub(super) fn needed(pattern: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut longest = String::new();
    let mut run = String::new();
    let mut chars = pattern.chars().peekable();
    let close = |run: &mut String, longest: &mut String| {
        if run.len() > longest.len() {
            *longest = std::mem::take(run);
        }
        run.clear();
    };
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(plain) if !plain.is_alphanumeric() => run.push(plain),
                _ => close(&mut run, &mut longest),
            },
            '(' => {
                close(&mut run, &mut longest);
                skip_group(&mut chars);
            }
            '[' => {
                close(&mut run, &mut longest);
                skip_class(&mut chars);
            }
            '?' | '*' | '{' => {
                // What stands before it may be missing.
                run.pop();
                close(&mut run, &mut longest);
                if char == '{' {
                    chars.by_ref().find(|char| *char == '}');
                }
            }
            '|' => {
                close(&mut run, &mut longest);
                all.push(std::mem::take(&mut longest));
            }
            '.' | '^' | '$' | '+' => close(&mut run, &mut longest),
            plain => run.push(plain),
        }
    }
    close(&mut run, &mut longest);
    all.push(longest);
    all.iter().all(|literal| literal.len() >= SHORTEST).then_some(all)
}

/// Skips to the end of the group whose parenthesis was just read.
fn skip_group(chars: &mut impl Iterator<Item = char>) {
    let mut depth = 1;
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                chars.next();
            }
            '[' => skip_class(chars),
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// Skips to the end of the character class whose bracket was just read.
fn skip_class(chars: &mut impl Iterator<Item = char>) {
    let mut first = true;
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                chars.next();
            }
            '^' if first => continue,
            // A bracket that comes first stands for itself.
            ']' if !first => return,
            _ => {}
        }
        first = false;
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
            ("x{2,3}", None),
            ("", None),
        ] {
            let expected = literals.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(needed(pattern), expected, "{pattern}");
        }
    }
}

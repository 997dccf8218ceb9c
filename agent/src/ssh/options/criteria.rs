//! The criteria of a `Match` line of ssh_config(5).
//!
//! Must not run anything or look at the network; what needs that is refused where it would decide.

use crate::text::matches;

/// What `Match` asks about.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The host to dial, with what `HostName` made of it so far.
    pub host: &'a str,
    /// The host as the command line has it.
    pub original: &'a str,
    /// Who to be there.
    pub user: &'a str,
    /// Who we are here.
    pub local_user: &'a str,
    /// `-P` or `Tag`; empty where neither is given.
    pub tag: &'a str,
    /// Whether the configuration is read for the second time, as `final` has it.
    pub again: bool,
}

/// Whether the block below a `Match` with these words counts.
///
/// # Errors
/// Why the line cannot be followed: a word that is no criterion, or that needs a value; or one that
/// muster does not judge by, where all others hold.
pub(super) fn hold(words: &[String], facts: &Facts<'_>) -> Result<bool, String> {
    let mut words = words.iter().map(String::as_str).peekable();
    let (mut holds, mut beyond) = (true, None);
    while let Some(word) = words.next() {
        // `host=w1`, `host = w1` and `host w1` say the same; in a value `=` means nothing.
        let (word, mut beside) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, words.next_if(|next| next.starts_with('=')).map(|next| &next[1..])),
        };
        beside = beside.filter(|value| !value.is_empty());
        let (name, wanted) = match word.strip_prefix('!') {
            Some(name) => (name.to_ascii_lowercase(), false),
            None => (word.to_ascii_lowercase(), true),
        };
        let mut value = || {
            beside
                .take()
                .or_else(|| words.next())
                .ok_or_else(|| format!("Match {name} needs a value"))
        };
        let is = match name.as_str() {
            "all" if value().is_ok() => {
                return Err("nothing may follow Match all".to_owned());
            }
            "all" => true,
            "canonical" | "final" => facts.again,
            "exec" | "localnetwork" | "command" | "version" | "sessiontype" => {
                value()?;
                beyond.get_or_insert(format!(
                    "Match {name} cannot be honoured: muster judges by host, originalhost, user, \
                     localuser and tagged alone"
                ));
                continue;
            }
            "host" => is_listed(facts.host, value()?, true),
            "originalhost" => is_listed(facts.original, value()?, true),
            "user" => is_listed(facts.user, value()?, false),
            "localuser" => is_listed(facts.local_user, value()?, false),
            "tagged" => is_listed(facts.tag, value()?, false),
            _ => return Err(format!("ssh has no criterion {word} for Match")),
        };
        holds &= is == wanted;
    }
    match beyond {
        // Where another one says no, it does not matter.
        Some(problem) if holds => Err(problem),
        _ => Ok(holds),
    }
}

/// Whether a list of patterns with commas between has the text, and none with a `!` before it does
/// (ssh_config(5), PATTERNS). Host names are the same in capitals.
pub(super) fn is_listed(text: &str, patterns: &str, caseless: bool) -> bool {
    let fold = |text: &str| if caseless { text.to_ascii_lowercase() } else { text.to_owned() };
    let text = fold(text);
    let mut listed = false;
    for pattern in patterns.split(',').map(fold) {
        match pattern.strip_prefix('!') {
            Some(other) if matches(other, &text) => return false,
            Some(_) => {}
            None => listed |= matches(&pattern, &text),
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(line: &str) -> Result<bool, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let (host, original) = ("w1.svc", "w1");
        let facts =
            Facts { host, original, user: "ann", local_user: "me", tag: "fast", again: false };
        hold(&words, &facts)
    }

    #[test]
    fn what_holds() {
        for (line, expected) in [
            ("all", true),
            ("host w1.svc all", true),
            ("!all", false),
            ("host w1.svc", true),
            ("host=w1.svc", true),
            ("host = w1.svc", true),
            ("host= w1.svc", true),
            ("host =w1.svc", true),
            ("host w2 exec x=1", false),
            ("Host W1.*", true),
            ("host w1", false),
            ("!host w1", true),
            ("host a,*.svc", true),
            ("host !w1.*,*", false),
            ("host !w2.*", false),
            ("originalhost w1", true),
            ("originalhost w1 user bob", false),
            ("originalhost w1 user ann,bob localuser me tagged f*", true),
            ("user ANN", false),
            ("!localuser root", true),
            // Another criterion has decided.
            ("host w2 exec x", false),
            ("exec x host w2", false),
            ("final all", false),
            ("!canonical", true),
        ] {
            assert_eq!(judged(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_muster_cannot_tell_is_refused_where_it_decides() {
        for (line, words) in [
            ("exec x", "Match exec cannot be honoured"),
            ("host w1.svc !exec x", "Match exec cannot be honoured"),
            ("localnetwork 10.0.0.0/8", "Match localnetwork cannot be honoured"),
            ("host", "Match host needs a value"),
            ("bogus x", "ssh has no criterion bogus for Match"),
            ("all host w1", "nothing may follow Match all"),
        ] {
            let problem = judged(line).unwrap_err();
            assert!(problem.starts_with(words), "{line}: {problem}");
        }
    }
}

//! OpenSSH's configuration syntax, which ssh_config(5), sshd_config(5) and `-o` share.
//!
//! Must not know a keyword.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::time::Duration;

use crate::text::matches;

/// No configuration of a container is longer.
const MAX_BYTES: u64 = 1024 * 1024;

/// `Include` inside `Include`, at most, as in OpenSSH.
pub const MAX_DEPTH: usize = 16;

/// One setting as it stands in a line or behind `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The keyword as written; OpenSSH does not care for its case.
    pub name: String,
    /// Its values, without quotes; none where a quote is not closed.
    pub values: Option<Vec<String>>,
}

/// A path as a configuration has it, with a leading `~/` for `home` and a `%` and the character behind it
/// for what `value` says of that: ssh_config(5) and sshd_config(5), TOKENS. `%%` is a `%` in both.
///
/// # Errors
/// Those of `value`, which is asked of no character where the text ends with a `%`.
pub fn expand<'v, E>(
    text: &str,
    home: &str,
    value: impl Fn(Option<char>) -> Result<Cow<'v, str>, E>,
) -> Result<String, E> {
    let mut expanded = String::new();
    let mut rest = text;
    if let Some(tail) = text.strip_prefix("~/") {
        expanded = format!("{}/", home.trim_end_matches('/'));
        rest = tail;
    }
    while let Some((before, after)) = rest.split_once('%') {
        expanded += before;
        let mut chars = after.chars();
        match chars.next() {
            Some('%') => expanded.push('%'),
            token => expanded += &value(token)?,
        }
        rest = chars.as_str();
    }
    Ok(expanded + rest)
}

/// Reads `Keyword value…`, `Keyword=value` or `Keyword = "value"`; none for blanks and comments.
#[must_use]
pub fn setting(line: &str) -> Option<Setting> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let values = words(rest.strip_prefix('=').unwrap_or(rest));
    Some(Setting { name: name.to_owned(), values })
}

/// Splits at white space, except inside quotes, up to a word that begins a comment; `None` where a
/// quote is not closed. A backslash stands for itself, but before quotes, another one, and a space
/// outside of quotes.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escapes =
            |next: &char| matches!(next, '"' | '\'' | '\\') || (quote, *next) == (None, ' ');
        match c {
            '#' if quote.is_none() && word.is_none() => break,
            '\\' => word.get_or_insert_default().push(chars.next_if(escapes).unwrap_or(c)),
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            _ if quote == Some(c) => quote = None,
            _ if c.is_whitespace() && quote.is_none() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Seconds, or sums such as `1h30m` (sshd_config(5), "time formats").
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(end);
        let (unit, tail) = match tail.chars().next().map(|c| c.to_ascii_lowercase()) {
            None => (1, tail),
            Some('s') => (1, &tail[1..]),
            Some('m') => (60, &tail[1..]),
            Some('h') => (3_600, &tail[1..]),
            Some('d') => (86_400, &tail[1..]),
            Some('w') => (604_800, &tail[1..]),
            Some(_) => return None,
        };
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_secs(total))
}

/// The text of a configuration file. Comments may have any bytes, as in OpenSSH.
///
/// # Errors
/// It cannot be read, a setting is not UTF-8, or it is no configuration by its length.
pub fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if read as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("longer than {MAX_BYTES} bytes")));
    }
    let lossy = |error: FromUtf8Error| -> io::Result<String> {
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let odd = |line: &str| match setting(line) {
            Some(Setting { name, values: Some(values) }) => {
                values.iter().chain([&name]).any(|word| word.contains(char::REPLACEMENT_CHARACTER))
            }
            Some(Setting { values: None, .. }) => true,
            None => false,
        };
        match text.lines().position(odd) {
            None => Ok(text),
            Some(index) => {
                let words = format!("line {} is not UTF-8 text", index + 1);
                Err(io::Error::new(io::ErrorKind::InvalidData, words))
            }
        }
    };
    String::from_utf8(bytes).or_else(lossy)
}

/// The files that an `Include` pattern names, in the order of their names; `*` and `?` may stand in
/// any part of the path. A relative one begins at `base`.
#[must_use]
pub fn included(pattern: &Path, base: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in base.join(pattern).components().skip(1) {
        let part = part.as_os_str().to_string_lossy();
        if !part.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(part.as_ref()));
            continue;
        }
        let mut next: Vec<PathBuf> = Vec::new();
        for directory in &found {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            // As in a shell, hidden files are named on purpose or not at all.
            let names = names
                .filter(|name| matches(&part, name))
                .filter(|name| part.starts_with('.') || !name.starts_with('.'));
            next.extend(names.map(|name| directory.join(name)));
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.is_file());
    found
}

/// An `-o` with each word in a program of OpenSSH's that may be a keyword.
#[cfg(test)]
pub(super) fn options_in(program: &str) -> Vec<String> {
    let program = std::fs::read(program).unwrap();
    let words = program.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    let is_name = |word: &&str| {
        word.len() > 2
            && word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    words.filter(is_name).map(|word| format!("-o{word}=x")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, name, values) in [
            ("Port 22", "Port", Some(&["22"][..])),
            ("  pORT  =  \"2222\" ", "pORT", Some(&["2222"])),
            ("Port=22", "Port", Some(&["22"])),
            ("SetEnv A=1 \"B=x y\"", "SetEnv", Some(&["A=1", "B=x y"])),
            ("UsePAM no # not here", "UsePAM", Some(&["no"])),
            ("User a#b", "User", Some(&["a#b"])),
            ("User \"# a\"", "User", Some(&["# a"])),
            ("User \"a", "User", None),
            ("Port", "Port", Some(&[])),
            ("Host \"\"", "Host", Some(&[""])),
        ] {
            let values =
                values.map(|values| values.iter().map(|value| (*value).to_owned()).collect());
            let expected = Setting { name: name.to_owned(), values };
            assert_eq!(setting(line), Some(expected), "{line}");
        }
        for line in ["", "   ", "# Port 22", "\t#"] {
            assert_eq!(setting(line), None, "{line:?}");
        }
    }

    /// Both ends of OpenSSH read quotes and backslashes alike.
    #[test]
    fn quotes_and_backslashes_are_those_of_openssh() {
        let dir = tempfile::tempdir().unwrap();
        let (file, key) = (dir.path().join("config"), dir.path().join("key"));
        let mut keygen = std::process::Command::new("ssh-keygen");
        let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        for values in [
            r"'A=x y' 'B=1'",
            r#""A=x y" B=\ z"#,
            r#""A=a\"b" 'B=a\'b'"#,
            r#"A="it's" B='say "a"'"#,
            r"A=a\\b B=a\xb",
            r#"'A=x\ y' "B=x\ y""#,
            r"A=a'b c'd B=e\'f",
            r"'A=#b' #c'",
            r"A=a#b",
            r"A=b\",
            r"'A=b",
            r#"A='b""#,
        ] {
            let line = format!("SetEnv {values}");
            std::fs::write(&file, &line).unwrap();
            let ours = setting(&line).unwrap().values;
            let mut client = std::process::Command::new("ssh");
            let mut server = std::process::Command::new("/usr/sbin/sshd");
            client.args(["-G", "w1", "-F"]).arg(&file);
            server.arg("-Th").arg(&key).arg("-f").arg(&file);
            for mut openssh in [client, server] {
                let output = openssh.output().unwrap();
                let told = String::from_utf8(output.stdout).unwrap();
                let told = told.lines().filter_map(|line| line.strip_prefix("setenv "));
                let told: Vec<String> = told.map(str::to_owned).collect();
                let told = output.status.success().then_some(told);
                assert_eq!(ours, told, "{line}: {openssh:?}");
            }
        }
    }

    #[test]
    fn times() {
        for (text, seconds) in [
            ("10", Some(10)),
            ("1m30s", Some(90)),
            ("1M", Some(60)),
            ("1h1", Some(3601)),
            ("2w", Some(1_209_600)),
            ("", None),
            ("x", None),
            ("5y", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("99999999999999999w", None),
        ] {
            assert_eq!(duration(text), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn includes_are_found_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("b.d/x.conf")).unwrap();
        std::fs::create_dir_all(at("a.d")).unwrap();
        for name in ["b.d/2.conf", "b.d/1.conf", "b.d/3.txt", "b.d/.h.conf", "a.d/9.conf"] {
            std::fs::write(at(name), "").unwrap();
        }
        let found = |pattern: &str| -> Vec<PathBuf> { included(Path::new(pattern), dir.path()) };
        assert_eq!(found("b.d/*.conf"), [at("b.d/1.conf"), at("b.d/2.conf")]);
        assert_eq!(found("?.d/*.conf"), [at("a.d/9.conf"), at("b.d/1.conf"), at("b.d/2.conf")]);
        assert_eq!(found("b.d/3.txt"), [at("b.d/3.txt")]);
        assert!(found("none/*").is_empty());
        assert!(found("b.d").is_empty());
        let whole = at("a.d/*").display().to_string();
        assert_eq!(found(&whole), [at("a.d/9.conf")]);
    }

    #[test]
    fn a_file_of_any_length_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("long");
        std::fs::write(&long, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
        assert!(read(&long).unwrap_err().to_string().contains("longer than"));
        assert!(read(dir.path()).is_err());
    }

    #[test]
    fn comments_may_have_any_bytes_and_settings_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        std::fs::write(&file, b"# caf\xe9\nPort 5 # caf\xe9\n").unwrap();
        let text = read(&file).unwrap();
        let settings: Vec<Setting> = text.lines().filter_map(setting).collect();
        assert_eq!(settings, [setting("Port 5").unwrap()]);
        for bytes in [&b"\xff\xfe"[..], b"Port 5\nUser caf\xe9\n", b"U\xe9 x\n"] {
            std::fs::write(&file, bytes).unwrap();
            let error = read(&file).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().ends_with("is not UTF-8 text"), "{error}");
        }
    }
}

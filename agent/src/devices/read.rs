//! Reading the kernel's small files: every reading has a bound, and a file that is missing, of
//! another kind or of another form is no answer instead of an error.
//!
//! Must not trust a tree: with `--root` it is whatever somebody recorded, or made up.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

/// Bytes of a file that are read.
const MAX_TEXT: u64 = 1024 * 1024;

/// Characters of a value that is one line.
const MAX_LINE: usize = 128;

/// Entries of a directory that are looked at.
const MAX_NAMES: usize = 4096;

/// The beginning of a file.
pub(super) fn text(path: &Path) -> Option<String> {
    // A device is not to be woken by opening it, and a pipe has nothing to tell.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A value that is one line, without the blanks around it; `None` where it is empty.
pub(super) fn line(path: &Path) -> Option<String> {
    tidy(text(path)?.lines().next()?)
}

/// A value as it may be shown: of printable characters, and not too many of them.
pub(super) fn tidy(value: &str) -> Option<String> {
    let value = value.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let value: String = value.chars().take(MAX_LINE).collect();
    Some(value.replace(char::is_control, "\u{fffd}")).filter(|value| !value.is_empty())
}

/// A number in decimal, or in hexadecimal after `0x`.
pub(super) fn number<T: FromStr + TryFrom<u64>>(path: &Path) -> Option<T> {
    parse(&line(path)?)
}

/// The number that a word is; see [`number`].
pub(super) fn parse<T: FromStr + TryFrom<u64>>(word: &str) -> Option<T> {
    match word.strip_prefix("0x") {
        Some(digits) => T::try_from(u64::from_str_radix(digits, 16).ok()?).ok(),
        None => word.parse().ok(),
    }
}

/// The value after a name at the start of a line, up to the next blank.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next()? == name { words.next() } else { None }
    })
}

/// The names in a directory, `mlx5_2` before `mlx5_10`.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .take(MAX_NAMES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.len() <= MAX_LINE && !name.contains(char::is_control))
        .collect();
    names.sort_by(|a, b| compare(a, b));
    names
}

/// Digits count as the number that they are.
fn compare(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| {
        let stem = text.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let number = text[stem.len()..].parse::<u64>().unwrap_or(0);
        (stem, number)
    };
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

/// The last name of the path that a link leads to, e.g. the driver behind `device/driver`.
pub(super) fn target(link: &Path) -> Option<String> {
    // Not through canonicalize: what it leads to may not have been recorded.
    let path = fs::read_link(link).ok()?;
    tidy(path.file_name()?.to_str()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn nothing_that_a_tree_may_hold_does_harm() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::write(path("huge"), vec![b'9'; 4 << 20]).unwrap();
        fs::write(path("binary"), b"\xff\xfe\0\x1b[31m\nsecond").unwrap();
        fs::write(path("empty"), "").unwrap();
        fs::write(path("blank"), " \n\n").unwrap();
        fs::write(path("padded"), "\t 4: ACTIVE  \n\n").unwrap();
        fs::create_dir(path("directory")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        symlink("loop", path("loop")).unwrap();
        for (name, expected) in [
            ("missing", None),
            ("empty", None),
            ("blank", None),
            ("directory", None),
            ("pipe", None),
            ("loop", None),
            ("padded", Some("4: ACTIVE")),
            ("binary", Some("\u{fffd}\u{fffd}\u{fffd}\u{fffd}[31m")),
        ] {
            assert_eq!(line(&path(name)).as_deref(), expected, "{name}");
        }
        assert_eq!(line(&path("huge")).map(|line| line.len()), Some(MAX_LINE));
        assert_eq!(number::<u32>(&path("huge")), None);
        assert_eq!(names(&path("huge")), [""; 0]);
    }

    #[test]
    fn numbers() {
        for (word, value) in [
            ("17", Some(17_u16)),
            ("0x10de", Some(0x10de)),
            ("0x10000", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(parse::<u16>(word), value, "{word}");
        }
        assert_eq!(parse::<i32>("-1"), Some(-1));
    }

    #[test]
    fn names_count() {
        let home = tempfile::tempdir().unwrap();
        for name in ["mlx5_10", "mlx5_2", "bnxt_re0", "7", "11"] {
            fs::write(home.path().join(name), "").unwrap();
        }
        assert_eq!(names(home.path()), ["7", "11", "bnxt_re0", "mlx5_2", "mlx5_10"]);
    }
}

//! Reads a command line that any shell would only split into words, so that none need be started for it.
//!
//! Must not guess: whatever a shell might do more for is a line for the shell.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// What dash, bash, BusyBox or ksh do themselves, or read as part of their language, as far as letters
/// name it.
const OF_SHELLS: &str = "\
    alias bg bind break builtin caller case cd chdir command compgen complete compopt continue \
    coproc declare dirs disown do done echo elif else enable esac eval exec exit export false fc \
    fg fi for function getopts global hash help history if in jobs kill let local logout mapfile \
    popd print printf pushd pwd read readarray readonly rename return select set shift shopt \
    source suspend test then time times trap true type typeset ulimit umask unalias unset until \
    wait whence while";

/// The words of `line`, the program first; none where it is for a shell, or is empty.
///
/// Quotes are understood where nothing in them is special (POSIX, Shell Command Language, 2.2), and
/// outside of them only bytes that mean nothing to any shell.
#[must_use]
pub fn words(line: &[u8]) -> Option<Vec<OsString>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    for &byte in line {
        match (quote, byte) {
            (None, b' ' | b'\t') => words.extend(word.take()),
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                // Also where it stays empty.
                word.get_or_insert_default();
            }
            (Some(open), _) if byte == open => quote = None,
            (None, _) if harmless(byte) => word.get_or_insert_default().push(byte),
            (Some(open), b' '..=b'~') if open == b'\'' || !b"$`\\".contains(&byte) => {
                word.get_or_insert_default().push(byte);
            }
            _ => return None,
        }
    }
    words.extend(word);
    if quote.is_some() || !program(words.first()?) {
        return None;
    }
    Some(words.into_iter().map(OsString::from_vec).collect())
}

fn harmless(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte)
}

/// Whether this can only be the name of a file: no assignment, and nothing that shells have of their own.
fn program(word: &[u8]) -> bool {
    let name = || {
        word.first().is_some_and(u8::is_ascii_alphanumeric)
            && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(byte))
            && !OF_SHELLS.split(' ').any(|known| known.as_bytes() == word)
    };
    word.starts_with(b"/") || name()
}

#[cfg(test)]
mod tests;

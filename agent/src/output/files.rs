//! One file a rank and stream, byte for byte what the program wrote, within a bound if one is set.
//!
//! Must not cost the program anything when a disk is full: that is said once, and the rest of the
//! output goes on to wherever else it goes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use memchr::memrchr;

use super::Stream;

/// A file that moves aside when it has reached its bound: `NAME` becomes `NAME.1`, which the one
/// before it is lost for. So at most twice the bound is on the disk.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    length: u64,
    bound: Option<u64>,
}

impl RotatingFile {
    /// Opens it for appending: what an earlier attempt of the job has left stays.
    ///
    /// # Errors
    /// The file cannot be made or opened, or has a reader who may keep the program waiting.
    pub fn open(path: PathBuf, bound: Option<u64>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // A pipe would be waited for until somebody reads it.
        options.append(true).create(true).custom_flags(nix::libc::O_NONBLOCK);
        let opened = options.open(&path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => {
                return Err(not_a_file());
            }
            opened => opened?,
        };
        if metadata.file_type().is_fifo() {
            return Err(not_a_file());
        }
        let length = metadata.len();
        Ok(Self { path, file, length, bound })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends. Where the bound is reached, a file ends with the last whole line that fits.
    ///
    /// # Errors
    /// As of write(2) and rename(2).
    pub fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some(bound) = self.bound {
            let room = bound.saturating_sub(self.length);
            if bytes.len() as u64 <= room {
                break;
            }
            #[expect(clippy::cast_possible_truncation, reason = "less than the length of bytes")]
            let fitting = &bytes[..room as usize];
            let now = match memrchr(b'\n', fitting) {
                Some(at) => at + 1,
                // One line beyond the bound is cut; otherwise the new file begins with it.
                None if self.length == 0 => fitting.len().max(1),
                None => 0,
            };
            self.append(&bytes[..now])?;
            bytes = &bytes[now..];
            self.rotate()?;
        }
        self.append(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        std::fs::rename(&self.path, aside)?;
        *self = Self::open(self.path.clone(), self.bound)?;
        Ok(())
    }
}

fn not_a_file() -> io::Error {
    io::Error::other("it is a pipe or a socket, expected a file")
}

/// The name of a rank's file: `rank.000003.out`.
#[must_use]
pub fn name(rank: u32, stream: Stream) -> String {
    let ending = match stream {
        Stream::Out => "out",
        Stream::Err => "err",
    };
    format!("rank.{rank:06}.{ending}")
}

/// Both files of a rank in `directory`, which is made if need be.
///
/// # Errors
/// The path at fault, and why.
pub fn open(
    directory: &Path,
    names: [String; 2],
    bound: Option<u64>,
) -> Result<[RotatingFile; 2], (PathBuf, io::Error)> {
    std::fs::create_dir_all(directory).map_err(|error| (directory.to_owned(), error))?;
    let open = |name: String| {
        let path = directory.join(name);
        RotatingFile::open(path.clone(), bound).map_err(|error| (path, error))
    };
    let [out, err] = names;
    Ok([open(out)?, open(err)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_move_aside_at_line_ends() {
        for (bound, writes, aside, current) in [
            (None, &["abc\n", "def\n"][..], None, "abc\ndef\n"),
            (Some(8), &["abc\n", "def\n"], None, "abc\ndef\n"),
            (Some(8), &["abc\n", "def\nghi\n"], Some("abc\ndef\n"), "ghi\n"),
            (Some(6), &["abc\ndef\nghi\n"], Some("def\n"), "ghi\n"),
            (Some(6), &["abc\nde", "f\n"], Some("abc\nde"), "f\n"),
            (Some(4), &["0123456789\n"], Some("4567"), "89\n"),
            (Some(1), &["ab"], Some("a"), "b"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name(3, Stream::Out));
            assert!(path.ends_with("rank.000003.out"));
            let mut file = RotatingFile::open(path.clone(), bound).unwrap();
            for bytes in writes {
                file.write_all(bytes.as_bytes()).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), current, "{bound:?} {writes:?}");
            let old = std::fs::read_to_string(directory.path().join("rank.000003.out.1")).ok();
            assert_eq!(old.as_deref(), aside, "{bound:?} {writes:?}");
        }
    }

    #[test]
    fn a_pipe_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name(0, Stream::Out));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for _ in 0..2 {
            let error = RotatingFile::open(path.clone(), None).unwrap_err();
            assert_eq!(error.to_string(), "it is a pipe or a socket, expected a file");
            // Now with a reader.
            let mut options = OpenOptions::new();
            let reader = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path);
            std::mem::forget(reader.unwrap());
        }
    }

    #[test]
    fn a_second_attempt_appends() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let names = Stream::BOTH.map(|stream| name(0, stream));
            let [mut out, _] = open(&directory.path().join("logs"), names, None).unwrap();
            out.write_all(b"a\n").unwrap();
        }
        let text = std::fs::read_to_string(directory.path().join("logs/rank.000000.out")).unwrap();
        assert_eq!(text, "a\na\n");
    }
}

//! The file that says which process to signal, as sshd writes it.
//!
//! Must not keep a worker from serving: nobody needs the file to use it.

use std::fs;
use std::path::PathBuf;

use crate::text::say;

/// A file with a process number, gone when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    content: String,
}

impl PidFile {
    /// Writes the number of the process that passes signals on to this one; says so where it cannot.
    #[must_use]
    pub fn write(path: PathBuf) -> Self {
        Self::with(path, nix::unistd::getppid().as_raw())
    }

    fn with(path: PathBuf, pid: i32) -> Self {
        let content = format!("{pid}\n");
        if let Err(error) = fs::write(&path, &content) {
            say(&format!("no PidFile: failed to write {}: {error}", path.display()));
        }
        Self { path, content }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another server may have written its own since.
        if fs::read_to_string(&self.path).is_ok_and(|found| found == self.content) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_its_writer_and_nobody_elses_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sshd.pid");
        let file = PidFile::with(path.clone(), 17);
        assert_eq!(fs::read_to_string(&path).unwrap(), "17\n");
        drop(file);
        assert!(!path.exists());

        let file = PidFile::with(path.clone(), 17);
        fs::write(&path, "18\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "18\n");
        drop(PidFile::with(dir.path().join("none/sshd.pid"), 17));
    }
}

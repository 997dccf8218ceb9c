//! Trees of files for the readers' tests.

use std::fs;

use super::host::Roots;

/// A machine that has these files, and nothing else. It is gone with the directory.
pub(super) fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots) {
    let home = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let roots = Roots::below(home.path());
    (home, roots)
}

//! Trees of files for the readers' tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

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

/// A machine of `tests/fixtures/sysfs`, in the form that `tests/devices.rs` tells.
pub(crate) fn fixture(name: &str) -> (tempfile::TempDir, Roots) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/sysfs");
    let manifest = fs::read_to_string(fixtures.join(name).join("tree.txt")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut directory = PathBuf::new();
    for line in manifest.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(inside) = line.strip_prefix('[') {
            directory = home.path().join(inside.strip_suffix(']').unwrap());
            continue;
        }
        let (file, rest) = line.split_once(' ').unwrap();
        let path = directory.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match rest.split_once(' ').unwrap_or((rest, "")) {
            ("=", text) => {
                fs::write(path, text.replace("\\n", "\n").replace("\\t", "\t") + "\n").unwrap();
            }
            ("->", target) => symlink(target, path).unwrap(),
            (_, _) => fs::create_dir(path).unwrap(),
        }
    }
    let roots = Roots::below(home.path());
    (home, roots)
}

//! Tells the binary its commit, for `--version`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=MUSTER_COMMIT");
    println!("cargo:rerun-if-changed=../.git/HEAD");
    println!("cargo:rerun-if-changed=../.git/logs/HEAD");
    let given = std::env::var("MUSTER_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo:rustc-env=MUSTER_VERSION={version} ({commit})");
}

/// An image is often built from an export without `.git`; then `MUSTER_COMMIT` may say it.
fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| commit.trim().to_owned())
}

//! Runs the machine's own small tools (`ip`, `tc`, `openssl`, `ssh-keygen`) in the calling thread's namespaces.
//!
//! Must not run anything a test is about; that is what hosts are for.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::error::{Doing, LabError, Result};

/// No tool of ours takes longer than this, in seconds.
const LIMIT: &str = "60";

/// Runs a tool to its end, its stdin fed from `input`; returns its stdout.
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, args: &[A], input: &str) -> Result<String> {
    let shown = || {
        let words: Vec<_> = args.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        format!("{program} {}", words.join(" "))
    };
    let mut child = Command::new("timeout")
        .arg(LIMIT)
        .arg(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| format!("start `{}`", shown()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that has read enough may be gone already: its exit status tells, not this write.
        let _ = stdin.write_all(input.as_bytes());
    }
    let Output { status, stdout, stderr } =
        child.wait_with_output().doing(|| format!("wait for `{}`", shown()))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    Err(LabError::Tool {
        command: shown(),
        detail: format!("{status}: {}", String::from_utf8_lossy(&stderr).trim()),
    })
}

/// `ip -batch`: one process for many changes.
pub(crate) fn ip(lines: &str) -> Result<()> {
    run("ip", &["-batch", "-"], lines).map(drop)
}

/// `tc -batch`: the same for traffic rules.
pub(crate) fn tc(lines: &str) -> Result<()> {
    run("tc", &["-batch", "-"], lines).map(drop)
}

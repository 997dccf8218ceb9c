//! What somebody sees who watches a rank on a terminal.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::rank;

/// A terminal that a program believes to be its own, and its other end.
fn on_terminal(command: &mut Command) -> fs::File {
    let ends = nix::pty::openpty(None, None).unwrap();
    let terminal = || Stdio::from(ends.slave.try_clone().unwrap());
    command.stdin(terminal()).stdout(terminal()).stderr(terminal());
    // SAFETY: setsid and ioctl are plain system calls.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            let error = nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0);
            if error < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    fs::File::from(ends.master)
}

/// Reads until this much has come; without it, until the test's own time is up.
fn read_until(terminal: &mut fs::File, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut piece = [0; 1000];
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let mut ready = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(terminal),
            nix::poll::PollFlags::POLLIN,
        )];
        let ready = nix::poll::poll(&mut ready, 20_000u16);
        let seen_so_far = String::from_utf8_lossy(&seen);
        assert_eq!(ready, Ok(1), "{wanted:?} is not in {seen_so_far:?}");
        let count = terminal.read(&mut piece).unwrap();
        seen.extend(&piece[..count]);
    }
    String::from_utf8(seen).unwrap()
}

#[test]
fn untagged_prompts_and_bars_pass_at_once_on_a_terminal() {
    let script = "printf '\\r1%%'; read x; printf 'Prompt> ' >&2; read x; echo \"got $x\"";
    for (flags, ranked) in [(&["--tag=none"][..], true), (&[], false)] {
        let mut command = rank(flags, script);
        if !ranked {
            command.env_remove("PMI_RANK");
        }
        let mut terminal = on_terminal(&mut command);
        let mut child = command.spawn().unwrap();
        read_until(&mut terminal, "\r1%");
        terminal.write_all(b"\n").unwrap();
        read_until(&mut terminal, "Prompt> ");
        terminal.write_all(b"it\n").unwrap();
        read_until(&mut terminal, "got it\r\n");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn tags_have_colours_and_bars_live_on_a_terminal() {
    let script = "printf '1%%\\r'; read x; printf '2%%\\n'";
    let mut command = rank(&["--tag=short"], script);
    let mut terminal = on_terminal(command.env_remove("NO_COLOR"));
    let mut child = command.spawn().unwrap();
    read_until(&mut terminal, "\x1b[35m[ 3]\x1b[0m 1%\r");
    terminal.write_all(b"\n").unwrap();
    read_until(&mut terminal, "\x1b[35m[ 3]\x1b[0m 2%\r\n");
    assert!(child.wait().unwrap().success());
}

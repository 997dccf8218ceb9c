//! The least that a remote-shell agent can cost: hands its own descriptors and the command to a server in the
//! other host over a unix socket, and waits. No network, no crypto, no copy of a byte.
//!
//! Must not be used for anything but to have a floor to compare with.

use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::Result;

/// The name under which this program is an agent.
pub(crate) const AGENT: &str = "floor-agent";

/// The variable with the directory of the servers' sockets, which all hosts see.
pub(crate) const SOCKETS: &str = "BENCH_FLOOR";

/// Of a command line, more than any MPI's.
const LONGEST: usize = 64 * 1024;

fn socket(dir: &Path, host: &str) -> PathBuf {
    dir.join(format!("{}.floor", host.split('.').next().unwrap_or_default()))
}

/// Runs a command on the host: the arguments are those of ssh.
pub(crate) fn agent() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let host = loop {
        match words.next().ok_or("no host")?.as_str() {
            "-o" => drop(words.next()),
            option if option.starts_with('-') => {}
            host => break host.to_owned(),
        }
    };
    let command = words.collect::<Vec<_>>().join(" ");
    let dir = std::env::var_os(SOCKETS).ok_or("no directory of sockets")?;
    let mut server = UnixStream::connect(socket(Path::new(&dir), &host))?;
    let fds: [RawFd; 3] = [0, 1, 2];
    let (bytes, fds) = ([IoSlice::new(command.as_bytes())], [ControlMessage::ScmRights(&fds)]);
    sendmsg::<()>(server.as_raw_fd(), &bytes, &fds, MsgFlags::empty(), None)?;
    let mut code = [0];
    server.read_exact(&mut code)?;
    Ok(code[0].into())
}

/// Flags of `bench floor-serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of sockets
    dir: PathBuf,
}

/// Serves agents until killed.
pub(crate) fn serve(args: &Args) -> Result<()> {
    let name = nix::unistd::gethostname()?;
    let listener = UnixListener::bind(socket(&args.dir, &name.to_string_lossy()))?;
    println!("READY");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // The agent fails when its server hangs up without a word, and says so.
            if let Err(error) = attend(stream) {
                eprintln!("floor: {error}");
            }
        });
    }
    Ok(())
}

fn attend(mut agent: UnixStream) -> Result<()> {
    let mut bytes = vec![0; LONGEST];
    let mut space = nix::cmsg_space!([RawFd; 3]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(agent.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    for message in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = message {
            // SAFETY: the kernel has just made them for us.
            fds.extend(received.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    let mut stdio = fds.into_iter().map(Stdio::from);
    let mut next = || stdio.next().ok_or("too few descriptors");
    let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let mut command = command(&line);
    let mut child = command.stdin(next()?).stdout(next()?).stderr(next()?).spawn()?;
    // It holds our copies of the agent's descriptors.
    drop(command);
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255);
    Ok(agent.write_all(&[code])?)
}

/// Without a shell where the line needs none.
fn command(line: &str) -> Command {
    let plain = |c: char| c.is_ascii_alphanumeric() || " ./:-_=,@%+".contains(c);
    if line.chars().all(plain) {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        return command;
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    command
}

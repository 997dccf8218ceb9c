//! perf: what it sees of the lab's processes while something runs.
//!
//! Must not leave perf running, nor what it wrote.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::family::Family;
use crate::Result;

/// For perf to begin: it looks at all processes first.
const BEGIN_MS: u16 = 20_000;

/// Records these events while `run` does its work; then tells each, by the line that `perf script` gives of it with
/// these fields.
pub(super) fn watch(
    events: &[&str],
    fields: &str,
    run: impl FnOnce() -> Result<()>,
    event: impl FnMut(&Family, &str),
) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("bench-perf-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let told = Perf::begin(&dir, events).and_then(|perf| {
        let ran = run();
        let file = perf.end()?;
        ran?;
        tell(&file, fields, event)
    });
    // What perf wrote is of no use to anybody else.
    let _ = std::fs::remove_dir_all(&dir);
    told
}

struct Perf {
    child: Child,
    data: PathBuf,
}

impl Perf {
    fn begin(dir: &Path, events: &[&str]) -> Result<Self> {
        let [data, tell, ack] = ["data", "tell", "ack"].map(|name| dir.join(name));
        for fifo in [&tell, &ack] {
            // One of the last record.
            let _ = std::fs::remove_file(fifo);
            mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        // Both ways, so that neither waits for perf to open its end.
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
        let (mut tell_end, ack_end) = (open(&tell)?, open(&ack)?);
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-a"]).args(events).args(["-D", "-1", "-o"]).arg(&data);
        command.arg(format!("--control=fifo:{},{}", tell.display(), ack.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(missing)?;
        let mut perf = Self { child, data };
        tell_end.write_all(b"enable\n")?;
        match perf.acknowledged(ack_end) {
            Ok(()) => Ok(perf),
            Err(error) => {
                let _ = perf.child.kill();
                let _ = perf.child.wait();
                Err(error)
            }
        }
    }

    fn acknowledged(&mut self, mut ack: File) -> Result<()> {
        let mut fds = [PollFd::new(ack.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(BEGIN_MS))? == 0 {
            return Err("perf does not begin: is it allowed to sample all CPUs? \
                        hint: run as root, and see /proc/sys/kernel/perf_event_paranoid"
                .into());
        }
        // The first letter of "ack" says it all.
        Ok(ack.read_exact(&mut [0])?)
    }

    fn end(mut self) -> Result<PathBuf> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGINT)?;
        self.child.wait()?;
        Ok(self.data)
    }
}

pub(super) fn missing(error: std::io::Error) -> String {
    format!("perf: {error}; hint: apt-get install linux-perf")
}

/// Has perf tell its events, in the order of time.
fn tell(data: &Path, fields: &str, mut event: impl FnMut(&Family, &str)) -> Result<()> {
    let mut command = Command::new("perf");
    command.args(["script", "--no-inline", "--show-task-events", "--show-lost-events", "-i"]);
    command.arg(data).args(["-F", fields]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(missing)?;
    let mut family = Family::new(std::process::id());
    let mut lost = false;
    for line in BufReader::new(child.stdout.take().ok_or("no stdout")?).lines() {
        let line = line?;
        match line.split_once("PERF_RECORD_") {
            Some((_, record)) if record.starts_with("LOST") => lost = true,
            Some((when, task)) => family.learn(task, when.trim_end().ends_with(" 0.000000:")),
            None => event(&family, &line),
        }
    }
    match child.wait()?.success() {
        _ if lost => Err("perf lost events; hint: run it when the machine has less to do".into()),
        true => Ok(()),
        false => Err("perf script failed".into()),
    }
}

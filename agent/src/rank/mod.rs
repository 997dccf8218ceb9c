//! The wrapper of one rank: starts the program, passes its lines on with the rank before them, and
//! ends as the program ended.
//!
//! Synchronous and small: one thread, no runtime, nothing kept for each line. Must not change what
//! the program sees but for its GPUs, and must not wait for anybody but the readers of its output and,
//! before the start, for the worker's word on GPUs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use crate::config::env::Environment;
use crate::config::variables::{MUSTER_RANK_SOCKET, TORCHELASTIC_ERROR_FILE};
use crate::exit::{Class, Explain, Failure};
use crate::output::clock::Micros;
use crate::output::files::{self, RotatingFile};
use crate::output::tag::{Format, Style, Tagger};
use crate::output::{Identity, Returns, Stream, json};
use crate::process::resident;
use crate::process::status::WaitStatus;
use crate::process::usage::Usage;
use crate::text::say;

mod child;
pub mod gpus;
mod identity;
mod link;
mod outlet;
pub mod protocol;
mod pump;
mod ranks;
mod settings;
mod signals;

pub use ranks::{RankSet, RankSetError};
pub use settings::{Color, Settings};

use child::{Program, end_as};
use gpus::GpuBind;
use link::Link;
use outlet::{Outlet, Ways};
use protocol::{Carries, Ended, Hello, Output};
use pump::Exit;
use signals::Signals;

/// Bytes of an error file of PyTorch's that are read.
const ELASTIC: u64 = 64 * 1024;

/// Why a program was not run.
#[derive(Debug, thiserror::Error)]
enum RankError {
    #[error("prepare to forward signals: {0}")]
    Signals(#[source] io::Error),
    #[error("keep the rank's output in {}: {source}", path.display())]
    Files { path: PathBuf, source: io::Error },
}

impl Explain for RankError {
    fn class(&self) -> Class {
        match self {
            Self::Signals(_) => Class::Internal,
            Self::Files { .. } => Class::LocalResource,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Signals(_) => None,
            Self::Files { .. } => Some(
                "--log-dir must be writable on every host, and hold nothing else by the names of its files; \
                 it is made where it is missing"
                    .into(),
            ),
        }
    }
}

/// How a rank ended.
#[derive(Debug)]
pub struct Finished {
    /// Who it was, where that is known.
    pub hello: Hello,
    /// How.
    pub ended: Ended,
    /// Whether a worker has been told; otherwise nobody will explain it but us.
    pub told: bool,
}

impl Finished {
    /// Says in one line how it ended. A wrapper is alone: who failed first, and why, the lines of all ranks
    /// tell. Without a rank it is like any program, whose shell says it.
    pub fn tell(&self) {
        let Some(of) = &self.hello.identity else { return };
        let words = format!("rank {} on {} ended: {}", of.rank, of.host, self.ended.status);
        if self.hello.style.format != Format::Json {
            return say(&words);
        }
        let (mut head, mut line) = (Vec::new(), Vec::new());
        json::head(of, Stream::Err, self.ended.time, &mut head);
        let message = format!("muster: {words}");
        json::line(&head, message.as_bytes(), message.as_bytes(), None, &mut line);
        // Where nobody reads it, nobody wants it.
        let _ = io::stderr().write_all(&line);
    }

    /// Ends this process as the program ended.
    #[must_use]
    pub fn end(&self) -> ExitCode {
        end_as(self.ended.status)
    }
}

/// Runs the program to its end, bound to GPUs as `wish` says; none: nobody has said anything.
///
/// # Errors
/// The program could not be started, or its output could not be kept as asked.
pub fn run(
    settings: &Settings,
    wish: Option<GpuBind>,
    words: &[OsString],
    env: &Environment,
) -> Result<Finished, Failure> {
    // What read the flags counts no more.
    resident::drop_startup_pages();
    let identity = identity::find(env, settings.job.as_deref(), &hostname());
    if identity.is_none() {
        say("warning: no rank in the environment (of Open MPI, MPICH, Intel MPI, MVAPICH2, PALS, \
             PMIx, Flux or Slurm); the program's lines stay untagged");
    }
    let style = style(settings, identity.is_some(), env);
    let tagger = Tagger::new(identity.clone().unwrap_or_default(), style.clone())?;
    // Before the signals are held back: the worker, or a file system, may take its time.
    let variables = gpus::bind(wish, identity.as_ref(), env);
    let files = open_files(settings, identity.as_ref());
    let signals = Signals::install().map_err(RankError::Signals)?;
    let start = |files| Ok((files, Program::start(words, &variables, &signals)?));
    let prepared: Result<_, Failure> = files.map_err(Failure::from).and_then(start);

    let pid = prepared.as_ref().ok().map(|(_, program)| program.pid.as_raw());
    let hello = hello(settings, identity, style, words, pid);
    let reports = link(&hello, &[], env);
    let (files, program) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            if let Some(reports) = reports {
                reports.end(&not_started(&failure));
            }
            return Err(failure);
        }
    };
    let lines = reports.as_ref().and_then(|_| lines(settings, &hello, &program, env));
    let shown = hello.shown || lines.is_some();
    let mut outlet =
        Outlet::new(tagger, Ways { reports, lines, shown, quiet: settings.quiet, files });
    resident::drop_startup_pages();
    let exit = pump::run(program, &signals, &mut outlet, |exit, outlet| {
        let mut ended = ended(exit, env);
        if ended.failed_by_itself() {
            outlet.report(&mut ended);
        }
    });
    let mut ended = ended(&exit, env);
    outlet.end(&mut ended);
    Ok(Finished { hello, ended, told: outlet.has_reports() })
}

/// What a worker is told first; no `pid`: the program was not started.
fn hello(
    settings: &Settings,
    identity: Option<Identity>,
    style: Style,
    words: &[OsString],
    pid: Option<i32>,
) -> Hello {
    let wrapper = std::process::id().cast_signed();
    let rank = identity.as_ref().map(|identity| identity.rank);
    let shown = settings.ranks.as_ref().zip(rank).is_none_or(|(set, rank)| set.contains(rank));
    Hello {
        version: 1,
        carries: Carries::Reports,
        time: Micros::from(SystemTime::now()),
        identity,
        pid: pid.unwrap_or(wrapper),
        wrapper,
        command: command(words),
        output: settings.output,
        shown,
        lends: false,
        style,
    }
}

/// A connection to the worker, where there is one; the pipes are for it to read when we are killed.
fn link(hello: &Hello, pipes: &[RawFd], env: &Environment) -> Option<Link> {
    Link::open(env.non_empty(MUSTER_RANK_SOCKET)?, hello, pipes).ok()
}

/// The connection for the program's lines, where the worker is to show them.
fn lines(settings: &Settings, hello: &Hello, program: &Program, env: &Environment) -> Option<Link> {
    let by_worker = settings.output != Output::Mpirun && hello.identity.is_some();
    let in_pod = matches!(settings.output, Output::Pod | Output::Both);
    // A connection that is closed again would tell the worker that we are killed: it reads the pipes then.
    if !by_worker || !(hello.shown || in_pod) {
        return None;
    }
    let lends = settings.quiet.is_none() && settings.log_dir.is_none();
    let hello = Hello { carries: Carries::Lines, lends, ..hello.clone() };
    link(&hello, &program.pipes.each_ref().map(AsRawFd::as_raw_fd), env)
}

/// How a program ended just now, but for what it said.
fn ended(exit: &Exit, env: &Environment) -> Ended {
    Ended {
        time: Micros::from(SystemTime::now()),
        status: exit.status,
        told: signals::told(exit.status),
        wall_us: u64::try_from(exit.wall.as_micros()).unwrap_or(u64::MAX),
        usage: exit.usage,
        stderr: String::new(),
        elastic: (!exit.status.success()).then(|| elastic(env)).flatten(),
    }
}

/// The end of a program that was not started: the code with which we end, and no time that it took.
fn not_started(failure: &Failure) -> Ended {
    Ended {
        time: Micros::from(SystemTime::now()),
        status: WaitStatus::Exited(failure.error().class().code()),
        told: None,
        wall_us: 0,
        usage: Usage::default(),
        stderr: format!("failed to {}", failure.error()),
        elastic: None,
    }
}

/// What PyTorch's elastic agent keeps of the exception that ended its worker.
fn elastic(env: &Environment) -> Option<String> {
    let file = File::open(env.non_empty(TORCHELASTIC_ERROR_FILE)?).ok()?;
    let mut text = String::new();
    file.take(ELASTIC).read_to_string(&mut text).ok().filter(|read| *read > 0)?;
    Some(text)
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|_| "localhost".to_owned())
}

fn open_files(
    settings: &Settings,
    identity: Option<&Identity>,
) -> Result<[Option<RotatingFile>; 2], RankError> {
    let Some(directory) = &settings.log_dir else { return Ok([None, None]) };
    let names = Stream::BOTH.map(|stream| match identity {
        Some(identity) => files::name(identity.rank, stream),
        // Programs without a rank must not share a file.
        None => format!("{}.{}.{}", hostname(), std::process::id(), stream.name()),
    });
    let opened = files::open(directory, names, settings.log_max);
    opened.map(|files| files.map(Some)).map_err(|(path, source)| RankError::Files { path, source })
}

/// How lines look, where nothing is known that a tag could say: as they are.
fn style(settings: &Settings, ranked: bool, env: &Environment) -> Style {
    let terminal = on_terminal();
    let format = if ranked { settings.tag.clone() } else { Format::None };
    let keep = terminal || format == Format::None;
    Style {
        color: match settings.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && env.non_empty("NO_COLOR").is_none(),
        },
        timestamps: settings.timestamps,
        returns: settings.returns.unwrap_or(if keep { Returns::Keep } else { Returns::Collapse }),
        max_line: settings.max_line,
        format,
    }
}

/// Whether somebody watches our stdout on a terminal.
pub fn on_terminal() -> bool {
    is_own_terminal(io::stdout().as_fd())
}

/// Whether it is the session's own terminal. Open MPI gives its ranks pseudo-terminals of its own, which lead
/// into pipes; they are nobody's controlling terminal.
fn is_own_terminal(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: tcgetsid touches no memory.
    fd.is_terminal() && unsafe { nix::libc::tcgetsid(fd.as_raw_fd()) } != -1
}

fn command(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let mut command = words.join(" ");
    command.truncate(command.floor_char_boundary(4096));
    command
}

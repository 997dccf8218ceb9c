//! `muster sshd`, also by the name sshd.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args as _, FromArgMatches as _};

use super::{block_on, fail};
use crate::cli::{self, WorkerArgs, unset_is_empty};
use crate::config::env::Environment;
use crate::discovery::dns::Resolver;
use crate::discovery::lookup::Lookup as _;
use crate::exit::{Class, Failure};
use crate::ids::HostName;
use crate::process::{background, guard};
use crate::ssh::sshd_options::{Request, SshdOptions, parse};
use crate::text::{give, say};
use crate::worker::Settings;
use crate::worker::as_sshd::{AsSshdError, access, addresses};
use crate::worker::hello::hello;
use crate::worker::run::{Config, run as serve};

/// The name by which the binary is a worker.
const NAME: &str = "sshd";

/// sshd's words, where the process was started as it: by name, or as `muster sshd`.
///
/// Found before clap reads anything: -h takes a value here.
pub(super) fn as_sshd(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (program, words) = arguments.split_first()?;
    if Path::new(program).file_name().and_then(OsStr::to_str)? == NAME {
        return Some(words.to_vec());
    }
    let (first, words) = words.split_first()?;
    (first == NAME).then(|| words.to_vec())
}

/// Serves until told to stop.
pub(super) fn run(words: Vec<OsString>) -> ExitCode {
    let usual = match usual() {
        Ok(usual) => usual,
        Err(error) => return super::usage(&error),
    };
    let result = parse(words, nix::unistd::geteuid().is_root()).map_err(Failure::from);
    let result = result.and_then(|request| match request {
        Request::Help => help(),
        Request::Version => {
            // On stderr, as sshd's own.
            say(&format!("{}, in place of sshd", crate::VERSION));
            Ok(Class::Ok)
        }
        Request::Serve(options) => serve_as(*options, usual),
    });
    ExitCode::from(result.map_or_else(|failure| fail(&failure), Class::code))
}

fn help() -> Result<Class, Failure> {
    let mut cli = cli::definition();
    let help = cli.find_subcommand_mut(NAME).map(clap::Command::render_long_help);
    give(&help.map(|help| help.to_string()).unwrap_or_default())?;
    Ok(Class::Ok)
}

/// What `muster worker` would do: its defaults, and what the environment says; but for the port, which
/// is sshd's own affair.
fn usual() -> Result<WorkerArgs, clap::Error> {
    let command = unset_is_empty(WorkerArgs::augment_args(clap::Command::new(NAME)));
    let command = command.mut_arg("port", |port| port.env(None));
    WorkerArgs::from_arg_matches(&command.try_get_matches_from([NAME])?)
}

/// The addresses of a host by which sshd is to listen.
fn looked_up(host: &str) -> Result<Vec<IpAddr>, Failure> {
    let wrong = |source| AsSshdError::Name { name: host.to_owned(), source }.into();
    let name = HostName::from(host);
    block_on(async { Resolver::from_system().lookup(&name).await.map_err(wrong) })
}

fn serve_as(options: SshdOptions, usual: WorkerArgs) -> Result<Class, Failure> {
    let env = Environment::from_process();
    let (addresses, needs) = addresses(&options, &env, looked_up)?;
    let (access, notes) = access(&options, &env)?;
    if !options.quiet {
        notes.iter().for_each(|note| say(&format!("sshd: {note}")));
        say(&options.without_effect());
    }
    if options.check {
        return Ok(Class::Ok);
    }
    let background = match options.foreground {
        true => None,
        false => Some(background::enter(options.stderr)?),
    };
    super::log_to_stderr(u8::from(options.debug));
    let guarded = guard::enter()?;
    let config = Config {
        addresses,
        needs,
        access,
        pid_file: options.pid_file,
        background,
        hello: hello(&env),
        settings: Settings {
            accept_env: [usual.accept_env, options.accept_env].concat(),
            set_env: options.set_env,
            orphan_grace: usual.orphan_grace,
            grace: usual.grace,
            heartbeat: usual.heartbeat.into(),
        },
    };
    block_on(serve(config, guarded))
}

//! What `muster launch` and `muster wait` are to do, from flags and environment.
//!
//! Must not touch the network. Every problem that the user can mend is found before the first one is
//! told.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::env::Environment;
use crate::cli::{HostArgs, LaunchArgs, ReachArgs};
use crate::devices::mpirun;
use crate::devices::own::OwnHost;
use crate::devices::own::user_name;
use crate::devices::require::Requirements;
use crate::discovery::operator::Machine;
use crate::discovery::{HostFlags, HostList, Hosts};
use crate::exit::{Class, Explain, Failure};
use crate::fabric::Wanted;
use crate::outcome::Rules;
use crate::plan::{Mpirun, Work};
use crate::rank;
use crate::rank::gpus::GpuBind;
use crate::readiness::wait::Patience;
use crate::ssh::client::Login;
use crate::ssh::heartbeat::Heartbeat;
use crate::ssh::keys;

/// How the hosts are reached.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The port of hosts whose hostfile line names none.
    pub port: u16,
    /// With what to log in.
    pub login: Login,
    /// How long to wait for what.
    pub patience: Patience,
}

/// A launch, resolved.
#[derive(Debug, Clone)]
pub struct LaunchConfig {
    /// Who the hosts are, and who says so.
    pub hosts: Hosts,
    /// How they are reached; none where there are none.
    pub reach: Option<Reach>,
    /// Ranks asked for.
    pub ranks: Option<std::num::NonZeroU32>,
    /// Slots of hosts whose hostfile line says nothing.
    pub slots: Option<std::num::NonZeroU32>,
    /// What to run.
    pub work: Work,
    /// With what.
    pub mpirun: Mpirun,
    /// How the lines of ranks are shown and kept.
    pub output: rank::Settings,
    /// How ranks are bound to GPUs; none: nobody has said anything.
    pub gpu_bind: Option<GpuBind>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// When a worker counts as lost.
    pub heartbeat: Heartbeat,
    /// After what time without progress the job has stalled.
    pub stall: Option<Duration>,
    /// What lines mean.
    pub rules: Arc<Rules>,
    /// Which network to use.
    pub fabric: Wanted,
    /// What every host must have.
    pub require: Option<Requirements>,
    /// Start nothing.
    pub dry_run: bool,
    /// Print the dry run as JSON.
    pub json: bool,
    /// This machine.
    pub own: OwnHost,
    /// The environment.
    pub env: Environment,
}

/// Everything that is wrong with flags and environment.
#[derive(Debug)]
pub struct Problems(Vec<Failure>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\nand to ")?;
            }
            write!(f, "{}", problem.error())?;
        }
        Ok(())
    }
}

impl Error for Problems {}

impl Explain for Problems {
    /// The problems' own class where they agree.
    fn class(&self) -> Class {
        let mut classes = self.0.iter().map(|problem| problem.error().class());
        let first = classes.next().unwrap_or(Class::Config);
        if classes.all(|class| class == first) { first } else { Class::Config }
    }

    fn hint(&self) -> Option<String> {
        let hints: Vec<String> =
            self.0.iter().filter_map(|problem| problem.error().hint()).collect();
        (!hints.is_empty()).then(|| hints.join("\n      "))
    }
}

impl Problems {
    /// Notes the problem, if it is one.
    fn note<T>(&mut self, result: Result<T, impl Into<Failure>>) -> Option<T> {
        result.map_err(|error| self.0.push(error.into())).ok()
    }
}

/// Resolves the flags of `muster launch`.
///
/// # Errors
/// All problems at once.
pub fn launch(args: LaunchArgs, env: Environment, own: OwnHost) -> Result<LaunchConfig, Problems> {
    let mut problems = Problems(Vec::new());
    let hosts = problems.note(hosts(&args.hosts, &env, &own.hostname));
    let work = problems.note(Work::parse(args.command));
    let remote = hosts.as_ref().is_some_and(|hosts| hosts.list != HostList::Local);
    let heartbeat = args.watch.heartbeat.into();
    let reach = if remote { problems.note(reach(&args.reach, heartbeat, &env)) } else { None };
    // In form 2 the line's first word is the launcher.
    let named = match &work {
        Some(Work::MpirunLine(line)) => line.first().map(PathBuf::from),
        Some(Work::Program(_)) | None => args.mpirun,
    };
    let found = mpirun::find(named.as_deref(), env.get("PATH").map(AsRef::as_ref));
    let mpirun = problems.note(found.and_then(|path| mpirun::identify(&path)));
    let rules = problems.note(rules(&args.verdict.rules));
    match (hosts, work, mpirun, rules) {
        (Some(hosts), Some(work), Some(mpirun), Some(rules)) if problems.0.is_empty() => {
            Ok(LaunchConfig {
                hosts,
                reach,
                ranks: args.ranks,
                slots: args.slots,
                work,
                mpirun,
                output: args.output.into(),
                gpu_bind: args.bind.gpu_bind,
                grace: args.watch.grace,
                heartbeat,
                stall: args.watch.stall_timeout,
                rules: Arc::new(rules),
                fabric: args.fabric,
                require: args.require,
                dry_run: args.dry_run,
                json: args.json,
                own,
                env,
            })
        }
        _ => Err(problems),
    }
}

/// The built-in rules, and those in the user's files before them.
///
/// # Errors
/// A file cannot be read or understood.
pub fn rules(files: &[PathBuf]) -> Result<Rules, Failure> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| UnreadRules { path: path.clone(), source })?;
        Ok((path.display().to_string(), text))
    };
    let texts = files.iter().map(read).collect::<Result<Vec<_>, UnreadRules>>()?;
    Ok(Rules::with(&texts)?)
}

/// A file of rules cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the rules in {}: {source}", path.display())]
struct UnreadRules {
    path: PathBuf,
    source: std::io::Error,
}

impl Explain for UnreadRules {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some("--rules takes a file as `muster explain --help` shows it".into())
    }
}

/// Resolves the flags of `muster wait`.
///
/// # Errors
/// All problems at once.
pub fn wait(
    host_args: &HostArgs,
    reach_args: &ReachArgs,
    env: &Environment,
    own: &OwnHost,
) -> Result<(Hosts, Reach), Problems> {
    let mut problems = Problems(Vec::new());
    let hosts = problems.note(hosts(host_args, env, &own.hostname));
    if hosts.as_ref().is_some_and(|hosts| hosts.list == HostList::Local) {
        problems.note::<()>(Err(NoHosts));
    }
    let reach = problems.note(reach(reach_args, Heartbeat::default(), env));
    hosts.zip(reach).filter(|_| problems.0.is_empty()).ok_or(problems)
}

/// There is nobody to wait for.
#[derive(Debug, thiserror::Error)]
#[error("find hosts to wait for: no flag, variable or hostfile names any")]
struct NoHosts;

impl Explain for NoHosts {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some(
            "name them with --hosts, --hostfile or --service, or mount the operator's hostfile here"
                .into(),
        )
    }
}

/// Who the hosts are.
///
/// # Errors
/// The flags, or the hostfile that the environment names, cannot be followed.
pub fn hosts(
    args: &HostArgs,
    env: &Environment,
    hostname: &str,
) -> Result<Hosts, crate::discovery::SourceError> {
    let HostArgs { hosts, hostfile, service, workers, pattern } = args.clone();
    let flags = HostFlags { hosts, hostfile, service, workers, pattern };
    crate::discovery::resolve(&flags, &Machine { env, hostname, root: Path::new("/") })
}

fn reach(
    args: &ReachArgs,
    heartbeat: Heartbeat,
    env: &Environment,
) -> Result<Reach, keys::KeyError> {
    let key = keys::find(&keys::directories(args.key_dir.as_deref(), env))?;
    let (user, host_keys, host) = (user_name(env), args.host_key, String::new());
    let login = Login { key, user, host_keys, host, heartbeat };
    let patience = Patience { total: args.wait_timeout, ..Patience::default() };
    Ok(Reach { port: args.port, login, patience })
}

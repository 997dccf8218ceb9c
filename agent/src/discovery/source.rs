//! Where the list of hosts comes from: flags, then the environment, then well-known files.
//!
//! The first source that says anything is the only one asked, and the result names it. Must not touch
//! the network; files are looked up below the machine's root.

mod environment;

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::HostSpec;
use super::grammar::{self, Flaw};
use super::hostfile::{self, HostfileError};
use super::operator::{self, Machine, Operator};
use super::service::{self, PatternError, Service};
use crate::exit::{Class, Explain};
use crate::ids::HostName;

/// The flags that name hosts, as given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFlags {
    /// `--hosts a,b:4`.
    pub hosts: Option<String>,
    /// `--hostfile FILE`.
    pub hostfile: Option<PathBuf>,
    /// `--service NAME`.
    pub service: Option<String>,
    /// `--workers N`, with `--service`.
    pub workers: Option<NonZeroU32>,
    /// `--pattern 'pi-worker-{i}'`, with `--service`.
    pub pattern: Option<String>,
}

/// The hosts of the job, as far as they are known without DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostList {
    /// Nobody named hosts: this machine alone.
    Local,
    /// Known by name, in the order given; at least one.
    Named(Vec<HostSpec>),
    /// Known to DNS alone. At each attempt readiness looks up the Service and gives the addresses to
    /// [`service::members`], until that returns the hosts.
    FromService(Service),
}

/// What told the hosts; as text, what stands after "hosts from".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `--hosts`.
    HostsFlag,
    /// `--hostfile`, and its value.
    HostfileFlag(PathBuf),
    /// `--service`, and the pattern of its names where there is one.
    ServiceFlag {
        /// Its value.
        service: HostName,
        /// E.g. `pi-worker-{i}`.
        pattern: Option<String>,
    },
    /// A variable that holds the path of a hostfile.
    FileVariable {
        /// The variable.
        name: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// A variable that holds the hosts themselves.
    ListVariable(String),
    /// A file in its usual place that no variable named.
    File(PathBuf),
    /// Nothing.
    Nothing,
}

impl Source {
    /// Whether a flag of muster named the hosts, which then outrank every variable.
    #[must_use]
    pub const fn is_flag(&self) -> bool {
        match self {
            Self::HostsFlag | Self::HostfileFlag(_) | Self::ServiceFlag { .. } => true,
            Self::FileVariable { .. } | Self::ListVariable(_) | Self::File(_) | Self::Nothing => {
                false
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostsFlag => f.write_str("--hosts"),
            Self::HostfileFlag(path) => write!(f, "{} (--hostfile)", path.display()),
            Self::ServiceFlag { service, pattern: Some(pattern) } => {
                write!(f, "{pattern}.{service} (--service)")
            }
            Self::ServiceFlag { service, pattern: None } => {
                write!(f, "the addresses of {service} (--service)")
            }
            Self::FileVariable { name, path } => write!(f, "{} ({name})", path.display()),
            Self::ListVariable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Nothing => f.write_str("nothing: this machine alone"),
        }
    }
}

/// The hosts and what told them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Who they are.
    pub list: HostList,
    /// How we know.
    pub source: Source,
}

/// A flag that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagProblem {
    /// Two answers to one question.
    #[error("{0} and {1} both name the hosts")]
    Both(&'static str, &'static str),
    /// A flag that means something only beside another.
    #[error("{0} needs {1}")]
    Needs(&'static str, &'static str),
    /// `--service` is no name.
    #[error("--service '{0}': {1}")]
    Service(String, Flaw),
    /// `--pattern` makes no names.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Why there is no list of hosts.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The flags; all their problems.
    #[error("follow the flags: {}", join(.0))]
    Flags(Vec<FlagProblem>),
    /// The source was found, but cannot be read or understood.
    #[error("read hosts from {source_of_hosts}: {error}")]
    Unusable {
        /// Which one.
        source_of_hosts: Source,
        /// What is wrong with it.
        #[source]
        error: HostfileError,
    },
    /// `SM_HOSTS` is no JSON list of names.
    #[error("read hosts from {name}: expected a JSON list of host names: {error}")]
    NotJson {
        /// The variable.
        name: &'static str,
        /// Where it stops being one.
        #[source]
        error: serde_json::Error,
    },
    /// Several lists, and nothing tells which is meant.
    #[error("choose between the hosts of {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// There are other hosts, but the platform lists them nowhere.
    #[error("find the hosts of this job: {operator} says it has {nodes} nodes, but lists none")]
    Unlisted {
        /// The platform.
        operator: Operator,
        /// How many it says there are.
        nodes: u32,
    },
}

fn join(problems: &[FlagProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}

impl Explain for SourceError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Flags(_) => {
                "name the hosts in one way: --hosts a,b:4, or --hostfile FILE, or --service NAME \
                 --workers N [--pattern 'worker-{i}']"
            }
            Self::Unusable { error, .. } => return error.hint(),
            Self::NotJson { .. } | Self::Unlisted { .. } => {
                "name the hosts with --hosts or --hostfile"
            }
            Self::Ambiguous(_) => {
                "name the hosts with --hosts, or one of the files with --hostfile"
            }
        };
        Some(hint.to_owned())
    }
}

/// Finds the hosts. The order: `--hosts`, `--hostfile` or `--service`; the MPI families' hostfile
/// variables; `/etc/mpi/hostfile`; Volcano's lists; SageMaker's; Azure Batch's; this machine alone.
pub fn resolve(flags: &HostFlags, machine: &Machine<'_>) -> Result<Hosts, SourceError> {
    if let Some(hosts) = from_flags(flags, machine)? {
        return Ok(hosts);
    }
    for look in environment::IN_ORDER {
        if let Some(hosts) = look(machine)? {
            return Ok(hosts);
        }
    }
    environment::unlisted(machine)?;
    Ok(Hosts { list: HostList::Local, source: Source::Nothing })
}

type Answer = Result<Option<Hosts>, SourceError>;

fn named(source: Source, hosts: Result<Vec<HostSpec>, HostfileError>) -> Answer {
    match hosts {
        Ok(hosts) => Ok(Some(Hosts { list: HostList::Named(hosts), source })),
        Err(error) => Err(SourceError::Unusable { source_of_hosts: source, error }),
    }
}

fn from_flags(flags: &HostFlags, machine: &Machine<'_>) -> Answer {
    let HostFlags { hosts, hostfile, service, workers, pattern } = flags;
    let mut problems = Vec::new();
    let ways = [
        ("--hosts", hosts.is_some()),
        ("--hostfile", hostfile.is_some()),
        ("--service", service.is_some()),
    ];
    let mut given = ways.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag);
    if let Some(first) = given.next() {
        problems.extend(given.map(|other| FlagProblem::Both(first, other)));
    }
    for (flag, present) in [("--workers", workers.is_some()), ("--pattern", pattern.is_some())] {
        if present && service.is_none() {
            problems.push(FlagProblem::Needs(flag, "--service"));
        }
    }
    let from_service = match (service, workers) {
        (Some(_), None) => {
            problems.push(FlagProblem::Needs("--service", "--workers"));
            None
        }
        (Some(service), Some(workers)) => {
            by_service(service, *workers, pattern.as_deref(), machine)
                .map_err(|problem| problems.push(problem))
                .ok()
        }
        (None, _) => None,
    };
    if !problems.is_empty() {
        return Err(SourceError::Flags(problems));
    }
    if let Some(list) = hosts {
        return named(Source::HostsFlag, hostfile::parse_list(list));
    }
    if let Some(path) = hostfile {
        let read = hostfile::read(&machine.locate(path));
        return named(Source::HostfileFlag(path.clone()), read);
    }
    Ok(from_service)
}

fn by_service(
    service: &str,
    workers: NonZeroU32,
    pattern: Option<&str>,
    machine: &Machine<'_>,
) -> Result<Hosts, FlagProblem> {
    let name = grammar::name(service)
        .map_err(|flaw| FlagProblem::Service(service.escape_debug().to_string(), flaw))?;
    let name = HostName::from(name);
    let own = || service::default_pattern(&operator::detect(machine));
    let pattern = pattern.map(str::to_owned).or_else(own);
    let list = match &pattern {
        Some(pattern) => HostList::Named(service::names(pattern, &name, workers)?),
        None => HostList::FromService(Service { name: name.clone(), workers }),
    };
    Ok(Hosts { list, source: Source::ServiceFlag { service: name, pattern } })
}

#[cfg(test)]
mod tests;

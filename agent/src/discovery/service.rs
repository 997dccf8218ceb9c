//! Hosts of a headless Service: names by a pattern, or its address records where nothing tells names.
//!
//! Pure. Must not ask DNS: readiness does, and hands the answer to [`members`].

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::HostSpec;
use super::grammar;
use super::hostfile::MAX_HOSTS;
use super::operator::{Operator, Surroundings};
use crate::ids::HostName;

/// Where a pattern has the index.
pub const INDEX: &str = "{i}";

/// The hosts of a Service whose names only DNS knows: what readiness must find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The Service's name, as the user gave it.
    pub name: HostName,
    /// How many hosts must be behind it.
    pub workers: NonZeroU32,
}

/// Why names cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Without an index all names would be one.
    #[error("--pattern '{0}' does not say where the index goes")]
    NoIndex(String),
    /// The result is no host name.
    #[error("'{name}', made from --pattern and --service, is no host name: {flaw}")]
    NotAHost {
        /// The first name made.
        name: String,
        /// What is wrong with it.
        flaw: grammar::Flaw,
    },
    /// More than [`MAX_HOSTS`].
    #[error("--workers {0} is more than {MAX_HOSTS} hosts")]
    TooMany(NonZeroU32),
}

/// The pattern by which this pod's own name tells its peers' names, e.g. `pi-worker-{i}`.
///
/// mpi-operator: launcher `<job>-launcher`, workers `<job>-worker-<i>`. Trainer: launcher
/// `<job>-launcher-0-0`, workers `<job>-node-0-<i>`. Indexed Job and JobSet: `<prefix>-<i>`, this pod
/// among them. None elsewhere.
#[must_use]
pub fn default_pattern(surroundings: &Surroundings) -> Option<String> {
    let Surroundings { operator, job, peers, .. } = surroundings;
    match operator {
        Operator::MpiOperator => Some(format!("{}-worker-{INDEX}", job.as_ref()?)),
        Operator::Trainer => Some(format!("{}-node-0-{INDEX}", job.as_ref()?)),
        Operator::JobSet | Operator::IndexedJob => Some(format!("{}-{INDEX}", peers.as_ref()?)),
        Operator::Volcano
        | Operator::AwsBatch
        | Operator::SageMaker
        | Operator::AzureBatch
        | Operator::None => None,
    }
}

/// `<pattern with 0..workers>.<service>`, in the order of the index.
pub fn names(
    pattern: &str,
    service: &HostName,
    workers: NonZeroU32,
) -> Result<Vec<HostSpec>, PatternError> {
    if !pattern.contains(INDEX) {
        return Err(PatternError::NoIndex(pattern.to_owned()));
    }
    if workers.get() as usize > MAX_HOSTS {
        return Err(PatternError::TooMany(workers));
    }
    let spec = |index: u32| {
        let name = format!("{}.{service}", pattern.replace(INDEX, &index.to_string()));
        grammar::name(&name)
            .map_err(|flaw| PatternError::NotAHost { name: name.clone(), flaw })
            .map(|name| HostSpec::named(HostName::from(name)))
    };
    (0..workers.get()).map(spec).collect()
}

/// The hosts behind a Service's addresses, or how many there are while too few are.
///
/// A dual-stack pod has an address of each family and must not count twice: IPv4 counts, unless there
/// is none. In ascending order, so that ranks keep their hosts from one start to the next as far as
/// addresses do. Where more answer than are wanted, this machine (`own`) is left out first, since a
/// job's Service often selects its launcher too.
pub fn members(
    service: &Service,
    answer: &[IpAddr],
    own: &[IpAddr],
) -> Result<Vec<HostSpec>, usize> {
    let wanted = service.workers.get() as usize;
    let any_v4 = answer.iter().any(IpAddr::is_ipv4);
    let mut hosts: Vec<IpAddr> =
        answer.iter().copied().filter(|address| address.is_ipv4() == any_v4).collect();
    hosts.sort_unstable();
    hosts.dedup();
    if hosts.len() > wanted {
        hosts.retain(|address| !own.contains(address));
    }
    if hosts.len() < wanted {
        return Err(hosts.len());
    }
    hosts.truncate(wanted);
    let spec = |address: &IpAddr| HostSpec::named(HostName::from(address.to_string()));
    Ok(hosts.iter().map(spec).collect())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    use super::{PatternError, Service, members, names};
    use crate::discovery::HostSpec;
    use crate::discovery::grammar::Flaw;

    fn count(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn spelled(hosts: &[HostSpec]) -> Vec<&str> {
        hosts.iter().map(|host| host.name.as_str()).collect()
    }

    #[test]
    fn names_by_pattern() {
        let hosts = names("pi-worker-{i}", &"pi".into(), count(11)).unwrap();
        assert_eq!(hosts.len(), 11);
        assert_eq!(hosts[0].name.as_str(), "pi-worker-0.pi");
        assert_eq!(hosts[10].name.as_str(), "pi-worker-10.pi");
        assert_eq!(
            names("pi-worker", &"pi".into(), count(1)),
            Err(PatternError::NoIndex("pi-worker".to_owned()))
        );
        assert_eq!(
            names("pi {i}", &"pi".into(), count(1)),
            Err(PatternError::NotAHost { name: "pi 0.pi".to_owned(), flaw: Flaw::NotAHost })
        );
        assert!(matches!(
            names("w-{i}", &"pi".into(), count(u32::MAX)),
            Err(PatternError::TooMany(_))
        ));
    }

    #[test]
    fn members_of_a_service() {
        let parse = |list: &[&str]| -> Vec<IpAddr> {
            list.iter().map(|address| address.parse().unwrap()).collect()
        };
        let service = Service { name: "pi".into(), workers: count(2) };
        for (answer, own, expected) in [
            (&[][..], &[][..], Err(0)),
            (&["10.0.0.9"], &[], Err(1)),
            (&["10.0.0.10", "10.0.0.9"], &[], Ok(&["10.0.0.9", "10.0.0.10"][..])),
            (&["10.0.0.9", "10.0.0.9"], &[], Err(1)),
            // dual stack: four addresses are two hosts
            (&["fd77::2", "10.0.0.2", "fd77::1", "10.0.0.1"], &[], Ok(&["10.0.0.1", "10.0.0.2"])),
            (&["fd77::2", "fd77::1"], &[], Ok(&["fd77::1", "fd77::2"])),
            // the launcher is behind the same Service, or is one of the workers
            (&["10.0.0.1", "10.0.0.2", "10.0.0.3"], &["10.0.0.1"], Ok(&["10.0.0.2", "10.0.0.3"])),
            (&["10.0.0.1", "10.0.0.2"], &["10.0.0.1"], Ok(&["10.0.0.1", "10.0.0.2"])),
            (&["10.0.0.1", "10.0.0.2", "10.0.0.3"], &[], Ok(&["10.0.0.1", "10.0.0.2"])),
        ] {
            let found = members(&service, &parse(answer), &parse(own));
            let found = found.as_deref().map(spelled).map_err(|found| *found);
            assert_eq!(found, expected.map(<[&str]>::to_vec), "{answer:?} without {own:?}");
        }
    }
}

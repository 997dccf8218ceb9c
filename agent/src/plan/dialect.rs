//! The hostfile in the words of each MPI family.
//!
//! Must not decide slots or write the file. Names stay as they were given, because mpirun hands
//! them to the remote-shell agent as the hostfile has them.

use std::ffi::OsString;
use std::net::Ipv6Addr;

use super::error::PlanError;
use super::{Family, PlanHost};

/// The text of the hostfile.
///
/// Measured on Open MPI 4.1.4 and 5.0.11, MPICH 4.0.2 and 5.0.2, Intel MPI 2021.18: only PRRTE takes
/// an IPv6 address for a name. ORTE refuses the colons, MPICH cuts the name at the first one, and
/// Intel takes `:N` behind it for a part of the name.
///
/// # Errors
/// For a name that the family cannot read, or that would break its line.
pub fn hostfile(family: Family, hosts: &[PlanHost]) -> Result<String, PlanError> {
    let mut text = String::new();
    for host in hosts {
        let name = host.name.as_str();
        let literal = name.parse::<Ipv6Addr>().is_ok();
        if literal && family != Family::OpenMpi5 {
            return Err(PlanError::Ipv6Literal { host: host.name.clone(), family });
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !literal && (name.is_empty() || name.starts_with('-') || !name.chars().all(plain)) {
            return Err(PlanError::BadName { host: host.name.clone() });
        }
        let line = match family {
            Family::OpenMpi4 | Family::OpenMpi5 => format!("{name} slots={}\n", host.slots),
            Family::Mpich | Family::IntelMpi => format!("{name}:{}\n", host.slots),
        };
        text.push_str(&line);
    }
    Ok(text)
}

/// The option that names the hostfile; it outranks every variable (tried on all five installs).
///
/// Intel's `-f` and `I_MPI_HYDRA_HOST_FILE` ignore `:N`; `-machinefile` honours it, even over
/// `I_MPI_PERHOST`.
#[must_use]
pub const fn hostfile_option(family: Family) -> &'static str {
    match family {
        Family::OpenMpi4 | Family::OpenMpi5 => "--hostfile",
        Family::Mpich => "-f",
        Family::IntelMpi => "-machinefile",
    }
}

/// The words between mpirun and the program, for form 1.
#[must_use]
pub fn options(family: Family, hostfile: Option<&str>, ranks: u32) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    if let Some(path) = hostfile {
        words.extend([hostfile_option(family).into(), path.into()]);
    }
    words.extend(["-n".into(), ranks.to_string().into()]);
    words
}

#[cfg(test)]
mod tests {
    use super::{Family, PlanError, PlanHost, hostfile};

    fn host(name: &str, slots: u32) -> PlanHost {
        PlanHost { name: name.into(), slots, slots_from: "hostfile".into(), cpus: None }
    }

    #[test]
    fn each_family_reads_its_own_words() {
        let hosts = [host("w-1.job.ns.svc", 2), host("10.0.0.7", 1)];
        let open = "w-1.job.ns.svc slots=2\n10.0.0.7 slots=1\n";
        let hydra = "w-1.job.ns.svc:2\n10.0.0.7:1\n";
        for (family, expected) in [
            (Family::OpenMpi4, open),
            (Family::OpenMpi5, open),
            (Family::Mpich, hydra),
            (Family::IntelMpi, hydra),
        ] {
            assert_eq!(hostfile(family, &hosts).unwrap(), expected);
        }
    }

    #[test]
    fn names_that_would_be_misread_are_refused() {
        for name in ["", "a b", "a:2", "a#b", "-oProxyCommand=x", "a\nb", "[fd77::3]", "bob@a"] {
            for family in [Family::OpenMpi4, Family::OpenMpi5, Family::Mpich, Family::IntelMpi] {
                let refused = hostfile(family, &[host(name, 1)]);
                assert!(matches!(refused, Err(PlanError::BadName { .. })), "{name:?}");
            }
        }
    }

    #[test]
    fn only_prrte_takes_an_ipv6_address() {
        assert_eq!(hostfile(Family::OpenMpi5, &[host("fd77::3", 2)]).unwrap(), "fd77::3 slots=2\n");
        for family in [Family::OpenMpi4, Family::Mpich, Family::IntelMpi] {
            let refused = hostfile(family, &[host("fd77::3", 2)]);
            assert!(matches!(refused, Err(PlanError::Ipv6Literal { .. })), "{family}");
        }
    }
}

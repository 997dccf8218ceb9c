//! Which MPI an `mpirun` is, told from the words it prints for `--version`.
//!
//! Must not run it: `devices::mpirun` does, and hands the text here.

use std::fmt;

use super::Family;

impl Family {
    /// Its name in sentences.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::OpenMpi4 => "Open MPI 4",
            Self::OpenMpi5 => "Open MPI 5",
            Self::Mpich => "MPICH",
            Self::IntelMpi => "Intel MPI",
        }
    }

    /// The program that it starts on every host.
    #[must_use]
    pub const fn daemon(self) -> &'static str {
        match self {
            Self::OpenMpi4 => "orted",
            Self::OpenMpi5 => "prted",
            Self::Mpich => "hydra_pmi_proxy",
            Self::IntelMpi => "hydra_bstrap_proxy",
        }
    }

    /// Whether a remote command starts that program: by its name, wherever it lies, or under another name (a
    /// site's wrapper, `orte_launch_agent`) by an option that mpirun gives to every daemon.
    #[must_use]
    pub fn starts_daemon(self, command: &str) -> bool {
        let options: &[&str] = match self {
            Self::OpenMpi4 | Self::OpenMpi5 => &["ess_base_vpid"],
            Self::Mpich => &["--control-port"],
            // The second one before 2019, of `pmi_proxy`.
            Self::IntelMpi => &["--upstream-host", "--control-port"],
        };
        let assigns =
            |word: &&str| word.split_once('=').is_some_and(|(name, _)| !name.contains('/'));
        command.split([';', '&', '|', '(', ')', '\n']).any(|simple| {
            let words = simple.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
            let mut words = words.skip_while(assigns);
            let program = words.next().and_then(|word| word.rsplit('/').next());
            program == Some(self.daemon()) || words.any(|word| options.contains(&word))
        })
    }

    /// True for the two whose launcher is Hydra.
    #[must_use]
    pub const fn is_hydra(self) -> bool {
        matches!(self, Self::Mpich | Self::IntelMpi)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// Family and version, from what `mpirun --version` wrote to stdout and stderr together.
///
/// Open MPI prints `NAME (PROJECT) VERSION`, where the project is `Open MPI` under the name mpirun
/// (and mpiexec from 5 on), `OpenRTE` under Open MPI 4's other names, and `PRRTE` for prterun,
/// whose version is PRRTE's own. Hydra prints its build details, Intel's a sentence.
#[must_use]
pub fn recognise(said: &str) -> Option<(Family, String)> {
    said.lines().find_map(intel).or_else(|| hydra(said)).or_else(|| said.lines().find_map(open_mpi))
}

fn intel(line: &str) -> Option<(Family, String)> {
    let (_, rest) = line.split_once("Intel(R) MPI Library")?;
    let (_, rest) = rest.split_once("Version ")?;
    let version = rest.split(" Build").next().unwrap_or(rest).trim();
    (!version.is_empty()).then(|| (Family::IntelMpi, version.to_owned()))
}

fn hydra(said: &str) -> Option<(Family, String)> {
    let (_, details) = said.split_once("HYDRA build details:")?;
    let version = details.lines().find_map(|line| line.trim().strip_prefix("Version:"))?.trim();
    (!version.is_empty()).then(|| (Family::Mpich, version.to_owned()))
}

fn open_mpi(line: &str) -> Option<(Family, String)> {
    let (_, rest) = line.split_once('(')?;
    let (project, rest) = rest.split_once(')')?;
    let version = rest.split_whitespace().next()?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    let family = match project {
        "Open MPI" if major >= 5 => Family::OpenMpi5,
        "Open MPI" | "OpenRTE" => Family::OpenMpi4,
        "PRRTE" => Family::OpenMpi5,
        _ => return None,
    };
    Some((family, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Family, recognise};

    #[test]
    fn a_daemon_is_told_from_other_commands() {
        let (four, five) = (Family::OpenMpi4, Family::OpenMpi5);
        for (family, command) in [
            (four, " orted -mca ess \"env\" -mca ess_base_jobid \"1\" -mca ess_base_vpid 1"),
            (four, "   PATH=/usr/bin:$PATH ; export PATH ;  /usr/bin/orted -mca ess \"env\""),
            (four, "( test ! -r ./.profile || . ./.profile; orted -mca ess env )"),
            (four, "PATH=/usr/bin orted"),
            (four, "nice /site/my-daemon -mca ess \"env\" -mca ess_base_vpid 2"),
            (five, "PRTE_PREFIX=/p;export PRTE_PREFIX;/p/bin/prted --prtemca ess \"env\""),
            (five, "/site/start --prtemca ess_base_vpid 1"),
            (Family::Mpich, "\"/usr/bin/hydra_pmi_proxy\" --control-port w0:40291 --rmk user"),
            (Family::Mpich, "/site/proxy --control-port w0:40291"),
            (Family::IntelMpi, "/p/bin//hydra_bstrap_proxy --upstream-host w0 -p 5"),
            (Family::IntelMpi, "/p/bin/pmi_proxy --control-port w0:40291 --pmi-connect alltoall"),
        ] {
            assert!(family.starts_daemon(command), "{family}: {command}");
        }
        for command in [
            "",
            "true",
            "exit 3",
            "echo $SHELL",
            "which orted prted hydra_pmi_proxy hydra_bstrap_proxy",
            "ls /usr/bin/orted",
            "my_orted",
        ] {
            for family in [four, five, Family::Mpich, Family::IntelMpi] {
                assert!(!family.starts_daemon(command), "{family}: {command}");
            }
        }
    }

    #[test]
    fn recognises_what_real_installs_print() {
        for (said, expected) in [
            (
                "mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n",
                Some((Family::OpenMpi4, "4.1.4")),
            ),
            ("mpirun.openmpi (OpenRTE) 4.1.4\n", Some((Family::OpenMpi4, "4.1.4"))),
            ("mpiexec (OpenRTE) 4.1.4\n", Some((Family::OpenMpi4, "4.1.4"))),
            ("mpirun (Open MPI) 4.1.7rc1\n", Some((Family::OpenMpi4, "4.1.7rc1"))),
            ("mpirun (Open MPI) 3.1.6\n", Some((Family::OpenMpi4, "3.1.6"))),
            ("mpirun (Open MPI) 5.0.11\n", Some((Family::OpenMpi5, "5.0.11"))),
            ("mpiexec (Open MPI) 5.0.11\n", Some((Family::OpenMpi5, "5.0.11"))),
            ("prterun (PRRTE) 3.0.14\n", Some((Family::OpenMpi5, "3.0.14"))),
            (
                "HYDRA build details:\n    Version:                                 4.0.2\n    \
                 Release Date:                            Thu Apr  7 12:34:45 CDT 2022\n    \
                 CC:  gcc  -Wl,-z,relro\n    Configure options:  '--with-device=ch4:ucx'\n",
                Some((Family::Mpich, "4.0.2")),
            ),
            (
                "Intel(R) MPI Library for Linux* OS, Version 2021.18.1 Build 20260626 (id: b44796a)\n\
                 Copyright 2003-2026, Intel Corporation.\n",
                Some((Family::IntelMpi, "2021.18.1")),
            ),
            (
                "Intel(R) MPI Library for Linux* OS, Version 2019 Update 9 Build 20200923\n",
                Some((Family::IntelMpi, "2019 Update 9")),
            ),
            ("a warning first (of any kind)\nmpirun (Open MPI) 5.0.11\n", {
                Some((Family::OpenMpi5, "5.0.11"))
            }),
            ("", None),
            ("bash: mpirun: command not found\n", None),
            ("mpirun (some other thing) 1.2.3\n", None),
            ("HYDRA build details:\n", None),
        ] {
            let expected = expected.map(|(family, version)| (family, version.to_owned()));
            assert_eq!(recognise(said), expected, "{said:?}");
        }
    }
}

//! The MPI installs that tests/setup puts on the machine, as data.
//!
//! Must not run anything: a host with [`crate::HostSpec::mpi`] does.

use std::env;
use std::path::PathBuf;

use crate::error::{LabError, Result};

/// One of the five MPI installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Install {
    /// Open MPI 4.1 from Debian.
    OpenMpi4,
    /// Open MPI 5.0 (PRRTE 3) from PyPI.
    OpenMpi5,
    /// MPICH 4.0 (ch4:ucx) from Debian.
    Mpich4,
    /// MPICH 5.0 from PyPI.
    Mpich5,
    /// Intel MPI 2021 from PyPI.
    IntelMpi,
}

/// The programs of Debian's Open MPI that a host of another MPI must not have.
const OPEN_MPI_4: &[&str] = &[
    "/usr/bin/mpirun.openmpi",
    "/usr/bin/mpiexec.openmpi",
    "/usr/bin/orted",
    "/usr/bin/orterun",
    "/usr/bin/ompi_info",
    "/usr/bin/oshrun",
];

/// The same of Debian's MPICH.
const MPICH_4: &[&str] = &[
    "/usr/bin/mpirun.mpich",
    "/usr/bin/mpiexec.mpich",
    "/usr/bin/mpiexec.hydra",
    "/usr/bin/hydra_pmi_proxy",
    "/usr/bin/hydra_nameserver",
    "/usr/bin/hydra_persist",
    "/usr/bin/mpichversion",
    "/usr/bin/mpivars",
];

/// The names that Debian's alternatives point at one of its two MPIs.
const LINKS: [&str; 2] = ["/usr/bin/mpirun", "/usr/bin/mpiexec"];

impl Install {
    /// All of them, oldest first within a family.
    pub const ALL: [Self; 5] =
        [Self::OpenMpi4, Self::OpenMpi5, Self::Mpich4, Self::Mpich5, Self::IntelMpi];

    /// A short name, also its directory in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenMpi4 => "openmpi4",
            Self::OpenMpi5 => "openmpi5",
            Self::Mpich4 => "mpich4",
            Self::Mpich5 => "mpich5",
            Self::IntelMpi => "intelmpi",
        }
    }

    /// Whether mpirun starts its daemons by Hydra (MPICH, Intel MPI) rather than ORTE or PRRTE.
    pub fn is_hydra(self) -> bool {
        matches!(self, Self::Mpich4 | Self::Mpich5 | Self::IntelMpi)
    }

    /// The directory of mpirun; in a host of this install it is the one that PATH finds.
    pub fn bin(self) -> PathBuf {
        match self {
            Self::OpenMpi4 | Self::Mpich4 => PathBuf::from("/usr/bin"),
            Self::OpenMpi5 | Self::Mpich5 | Self::IntelMpi => cache().join(self.name()).join("bin"),
        }
    }

    /// The path of mpirun inside a host of this install.
    pub fn mpirun(self) -> PathBuf {
        self.bin().join("mpirun")
    }

    /// A compiled test program (`pi`, `ranks`) for this install; the same path in and outside hosts.
    pub fn program(self, name: &str) -> PathBuf {
        cache().join("bin").join(self.name()).join(name)
    }

    /// Fails with a hint where tests/setup has not run.
    pub fn check(self) -> Result<()> {
        let mpirun = match self {
            Self::OpenMpi4 => PathBuf::from("/usr/bin/mpirun.openmpi"),
            Self::Mpich4 => PathBuf::from("/usr/bin/mpirun.mpich"),
            _ => self.mpirun(),
        };
        match [mpirun, self.program("ranks"), self.program("pi")]
            .into_iter()
            .find(|path| !path.exists())
        {
            Some(missing) => Err(LabError::Setup { missing }),
            None => Ok(()),
        }
    }

    /// What an image of this MPI would set: PATH, library path, and what makes it dependable in the lab.
    pub fn environment(self) -> Vec<(String, String)> {
        let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut env = Vec::new();
        let mut set = |name: &str, value: String| env.push((name.to_owned(), value));
        if !matches!(self, Self::OpenMpi4 | Self::Mpich4) {
            let home = cache().join(self.name());
            set("PATH", format!("{}:{system}", home.join("bin").display()));
            set("LD_LIBRARY_PATH", home.join("lib").display().to_string());
        }
        for (name, value) in self.extra() {
            set(name, (*value).to_owned());
        }
        env
    }

    /// Settings beyond the paths, each with its reason.
    fn extra(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // Images that run as root set the first two; mpirun refuses root without them. The third because all hosts
            // of a lab share the machine's cores, which each rank would otherwise keep busy while it waits.
            Self::OpenMpi4 | Self::OpenMpi5 => &[
                ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
                ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
                ("OMPI_MCA_mpi_yield_when_idle", "1"),
            ],
            // Nothing helps Debian's MPICH 4.0, whose MPI_Finalize hangs between hosts; see tests/programs/mpich4_finalize.c,
            // which tests/setup links into the programs of that install. Other programs for it do hang.
            Self::Mpich4 | Self::Mpich5 | Self::IntelMpi => &[],
        }
    }

    /// Programs of the machine's other installs, which a host of this one must not have.
    pub(crate) fn foreign(self) -> impl Iterator<Item = &'static str> {
        let open_mpi = if self == Self::OpenMpi4 { &[][..] } else { OPEN_MPI_4 };
        let mpich = if self == Self::Mpich4 { &[][..] } else { MPICH_4 };
        let links = if self.links().next().is_some() { &[][..] } else { &LINKS };
        open_mpi.iter().chain(mpich).chain(links).copied()
    }

    /// Links to set inside a host: where mpirun and mpiexec lead.
    pub(crate) fn links(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let targets: &[&str] = match self {
            Self::OpenMpi4 => &["mpirun.openmpi", "mpiexec.openmpi"],
            Self::Mpich4 => &["mpirun.mpich", "mpiexec.mpich"],
            Self::OpenMpi5 | Self::Mpich5 | Self::IntelMpi => &[],
        };
        LINKS.into_iter().zip(targets.iter().copied())
    }
}

/// Where tests/setup keeps the installs and the compiled programs.
pub fn cache() -> PathBuf {
    match (env::var_os("MUSTER_CACHE"), env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache/muster"),
        (None, None) => PathBuf::from("/root/.cache/muster"),
    }
}

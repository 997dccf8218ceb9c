//! Which interfaces the files of Open MPI's and PRRTE's parameters name or leave out.
//!
//! Images have them there: `btl_tcp_if_exclude = lo,docker0`. Open MPI refuses an include beside an
//! exclude, wherever each is set. Must not read more: what distributions put there as defaults, such as
//! `pml = ^ucx`, is nobody's wish.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes of a file that are read.
const LONGEST: u64 = 64 * 1024;

/// Where distributions move the file to.
const MOVED: [&str; 2] =
    ["/etc/openmpi/openmpi-mca-params.conf", "/etc/openmpi-x86_64/openmpi-mca-params.conf"];

/// The variables that say the same as the files, by which the host's launcher and daemons go.
///
/// The installation's files are looked for below the parent of the launcher's directory, the user's
/// own in the home directory; the user's win.
#[must_use]
pub fn interfaces(mpirun: Option<&Path>, home: Option<&Path>) -> BTreeMap<String, String> {
    let real = mpirun.and_then(|path| path.canonicalize().ok());
    let prefixes = [mpirun, real.as_deref()].into_iter().flatten();
    let prefixes = prefixes.filter_map(|path| Some(path.parent()?.parent()?.join("etc")));
    let mut files: Vec<(&str, PathBuf)> = MOVED.map(|path| ("OMPI_MCA_", path.into())).into();
    for etc in prefixes {
        files.push(("OMPI_MCA_", etc.join("openmpi-mca-params.conf")));
        files.push(("PRTE_MCA_", etc.join("prte-mca-params.conf")));
    }
    if let Some(home) = home {
        files.push(("OMPI_MCA_", home.join(".openmpi/mca-params.conf")));
        files.push(("PRTE_MCA_", home.join(".prte/mca-params.conf")));
    }
    let mut found = BTreeMap::new();
    for (prefix, file) in files {
        let mut text = String::new();
        let read = File::open(file).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
        if read.is_ok() {
            found.extend(parse(&text).map(|(name, value)| (format!("{prefix}{name}"), value)));
        }
    }
    found
}

/// Lines of the form `name = value`; a `#` begins a remark.
fn parse(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split('#').next()?.split_once('=')?;
        let name = name.trim();
        let of_interfaces = name.ends_with("_if_include") || name.ends_with("_if_exclude");
        of_interfaces.then(|| (name, value.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_users_file_wins() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str, text: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        at("opt/bin/mpirun", "");
        at(
            "opt/etc/openmpi-mca-params.conf",
            "# btl_tcp_if_include = eth9\npml = ^ucx\n btl_tcp_if_exclude = lo,docker0 # why\n\
             oob_tcp_if_exclude=lo\nnonsense\n",
        );
        at("opt/etc/prte-mca-params.conf", "prte_if_exclude = docker0\n");
        at("user/.openmpi/mca-params.conf", "oob_tcp_if_exclude = virbr0\n");
        let mpirun = home.path().join("opt/bin/mpirun");
        let found = interfaces(Some(&mpirun), Some(&home.path().join("user")));
        let found: Vec<String> = found
            .iter()
            .filter(|(name, _)| !name.contains("include"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            found,
            [
                "OMPI_MCA_btl_tcp_if_exclude=lo,docker0",
                "OMPI_MCA_oob_tcp_if_exclude=virbr0",
                "PRTE_MCA_prte_if_exclude=docker0",
            ]
        );
        assert_eq!(interfaces(None, None).get("OMPI_MCA_pml"), None);
    }
}

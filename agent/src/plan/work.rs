//! What the user typed after `--`: a program, or an mpirun line of their own.
//!
//! Must not change an mpirun line; it is only read, and where its meaning is not certain, not even
//! that.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::error::PlanError;
use super::{Family, Work};

/// Commands whose arguments are an mpirun line already.
///
/// `prun` and `mpiexec.gforker` are not here: one needs a running DVM, the other only forks.
const LAUNCHERS: [&str; 9] = [
    "mpirun",
    "mpiexec",
    "mpiexec.hydra",
    "mpirun.openmpi",
    "mpiexec.openmpi",
    "mpirun.mpich",
    "mpiexec.mpich",
    "orterun",
    "prterun",
];

impl Work {
    /// Tells the two forms apart by the last component of the first word.
    ///
    /// # Errors
    /// When nothing was given, or an option stands where the program should.
    pub fn parse(args: Vec<OsString>) -> Result<Self, PlanError> {
        let first = args.first().ok_or(PlanError::NothingToRun)?;
        if first.is_empty() {
            return Err(PlanError::NothingToRun);
        }
        if first.as_encoded_bytes().starts_with(b"-") {
            return Err(PlanError::OptionForProgram(first.to_string_lossy().into_owned()));
        }
        let name = Path::new(first).file_name().and_then(OsStr::to_str).unwrap_or_default();
        if LAUNCHERS.contains(&name) { Ok(Self::MpirunLine(args)) } else { Ok(Self::Program(args)) }
    }

    /// The words, `argv[0]` first.
    #[must_use]
    pub fn args(&self) -> &[OsString] {
        match self {
            Self::Program(args) | Self::MpirunLine(args) => args,
        }
    }
}

/// Options that leave the placement alone, and how many words follow each.
const HARMLESS: [(&str, usize); 17] = [
    ("-x", 1),
    ("-mca", 2),
    ("-prtemca", 2),
    ("-pmixmca", 2),
    ("-omca", 2),
    ("-allow-run-as-root", 0),
    ("-report-bindings", 0),
    ("-tag-output", 0),
    ("-q", 0),
    ("-wdir", 1),
    ("-genv", 2),
    ("-env", 2),
    ("-genvall", 0),
    ("-envall", 0),
    ("-l", 0),
    ("-prepend-rank", 0),
    ("-print-all-exitcodes", 0),
];

/// The ranks that an mpirun line starts, where it certainly fills the hosts slot by slot.
///
/// Certain means: one program, `-n` or a synonym once, and nothing but options known to leave hosts
/// and mapping alone. Any other word makes the answer none, because a wrong expectation would fail
/// a healthy job.
#[must_use]
pub(super) fn ranks_by_slot(line: &[OsString], family: Family) -> Option<u32> {
    let words: Vec<&str> = line.iter().skip(1).map(|word| word.to_str()).collect::<Option<_>>()?;
    if words.contains(&":") {
        return None;
    }
    let mut ranks = None;
    let mut rest = words.as_slice();
    loop {
        let (option, after) = rest.split_first()?;
        if !option.starts_with('-') {
            return ranks;
        }
        let single = option.strip_prefix('-').filter(|o| o.starts_with('-')).unwrap_or(option);
        if is_count(single, family) {
            let (count, after) = after.split_first()?;
            if ranks.replace(count.parse().ok().filter(|n| *n > 0)?).is_some() {
                return None;
            }
            rest = after;
        } else {
            let (_, values) = HARMLESS.iter().find(|(name, _)| *name == single)?;
            if single.ends_with("mca") && after.first().is_none_or(|name| moves_ranks(name)) {
                return None;
            }
            rest = after.get(*values..)?;
        }
    }
}

fn is_count(option: &str, family: Family) -> bool {
    matches!(option, "-n" | "-np") || (option == "-c" && !family.is_hydra())
}

/// Whether a parameter given by `--mca` can change which host a rank starts on.
fn moves_ranks(parameter: &str) -> bool {
    ["rmaps", "ras", "orte_", "prte_", "hwloc", "plm", "schizo"]
        .iter()
        .any(|prefix| parameter.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::{Family, OsString, Work, ranks_by_slot};

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn the_first_word_tells_the_form() {
        for (line, mpirun) in [
            ("mpirun -n 4 ./a.out", true),
            ("/opt/intel/bin/mpiexec.hydra -n 4 ./a.out", true),
            ("/usr/bin/mpiexec.mpich ./a.out", true),
            ("orterun ./a.out", true),
            ("prterun ./a.out", true),
            ("./train mpirun", false),
            ("python3 train.py", false),
            ("/opt/mpirun/train", false),
            ("prun ./a.out", false),
        ] {
            let work = Work::parse(words(line)).unwrap();
            assert_eq!(matches!(work, Work::MpirunLine(_)), mpirun, "{line}");
            assert_eq!(work.args(), words(line));
        }
    }

    #[test]
    fn nothing_and_options_are_refused() {
        assert!(Work::parse(Vec::new()).is_err());
        assert!(Work::parse(vec![OsString::new()]).is_err());
        assert!(Work::parse(words("-n 4 ./a.out")).is_err());
    }

    #[test]
    fn a_rank_count_is_taken_only_where_it_is_certain() {
        use Family::{Mpich, OpenMpi4, OpenMpi5};
        for (line, family, expected) in [
            ("mpirun -n 4 ./a.out", OpenMpi4, Some(4)),
            ("mpirun --np 4 ./a.out -n 7", OpenMpi5, Some(4)),
            ("mpirun -c 4 ./a.out", OpenMpi4, Some(4)),
            ("mpirun -c 4 ./a.out", Mpich, None),
            ("mpirun -x A --mca btl self,tcp -np 8 ./a.out", OpenMpi4, Some(8)),
            ("mpiexec -genv A 1 -n 8 ./a.out", Mpich, Some(8)),
            ("mpirun ./a.out", OpenMpi4, None),
            ("mpirun -n 0 ./a.out", OpenMpi4, None),
            ("mpirun -n four ./a.out", OpenMpi4, None),
            ("mpirun -n 4 -n 4 ./a.out", OpenMpi4, None),
            ("mpirun -n 4", OpenMpi4, None),
            ("mpirun -n", OpenMpi4, None),
            ("mpirun -n 4 --map-by node ./a.out", OpenMpi4, None),
            ("mpirun -n 4 --bind-to core ./a.out", OpenMpi5, None),
            ("mpirun -n 4 --host a,b ./a.out", OpenMpi4, None),
            ("mpirun --hostfile h -n 4 ./a.out", OpenMpi4, None),
            ("mpirun --mca rmaps_base_mapping_policy node -n 4 ./a.out", OpenMpi4, None),
            ("mpiexec -ppn 1 -n 4 ./a.out", Mpich, None),
            ("mpirun -n 2 ./a.out : -n 2 ./b.out", OpenMpi4, None),
        ] {
            assert_eq!(ranks_by_slot(&words(line), family), expected, "{line} {family}");
        }
    }
}

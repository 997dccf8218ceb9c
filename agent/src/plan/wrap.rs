//! The words of mpirun's command line, with the wrapper of ranks before their program.
//!
//! Must not guess: an mpirun line in which the program cannot be told for certain stays as it is, and
//! that is said.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::job::Job;
use super::settings::Settings;
use super::{Family, Work, dialect};

/// Hydra's options, and how many words follow each. From the help of MPICH 5.0 and Intel MPI 2021.18;
/// MPICH 4's are among them.
const HYDRA: &[(usize, &[&str])] = &[
    (
        0,
        &[
            "genvnone",
            "genvall",
            "envnone",
            "envall",
            "enable-x",
            "disable-x",
            "disable-auto-cleanup",
            "disable-hostname-propagation",
            "hybrid-hosts",
            "pmi-port",
            "prepend-rank",
            "l",
            "print-all-exitcodes",
            "print-rank-map",
            "profile",
            "skip-launch-node",
            "nolocal",
            "verbose",
            "v",
            "silent-abort",
            "prepend-timestamp",
            "prot",
        ],
    ),
    (
        1,
        &[
            "genvlist",
            "f",
            "hostfile",
            "machinefile",
            "machine",
            "hosts",
            "host",
            "hosts-group",
            "rankmap",
            "wdir",
            "envlist",
            "n",
            "np",
            "memory-alloc-kinds",
            "launcher",
            "launcher-exec",
            "bootstrap",
            "bootstrap-exec",
            "rmk",
            "topolib",
            "bind-to",
            "map-by",
            "membind",
            "demux",
            "errfile-pattern",
            "outfile-pattern",
            "prepend-pattern",
            "gpus-per-proc",
            "iface",
            "localhost",
            "nameserver",
            "order-nodes",
            "ppn",
            "perhost",
            "usize",
            "s",
            "cpu-bind",
        ],
    ),
    (2, &["genv", "env"]),
];

/// The command line. Open MPI takes the wrapper in a variable instead, so that the user's own line
/// stays as it is.
pub(super) fn argv(job: &Job<'_>, settings: &mut Settings<'_>) -> Vec<OsString> {
    let request = job.request;
    let family = request.mpirun.family;
    let mut argv = vec![OsString::from(&request.mpirun.path)];
    match &request.work {
        Work::Program(program) => {
            let ranks = job.ranks.unwrap_or(1);
            argv.extend(dialect::options(family, job.hostfile.as_deref(), ranks));
            if !is_wrapped(program) {
                argv.extend(request.wrapper.iter().cloned());
            }
            argv.extend(program.iter().cloned());
        }
        Work::MpirunLine(line) => {
            let words = line.get(1..).unwrap_or_default();
            let places = if request.wrapper.is_empty() || is_wrapped(words) {
                Vec::new()
            } else {
                places(words, family, &request.wrapper, settings)
            };
            for (at, word) in words.iter().enumerate() {
                if places.contains(&at) {
                    argv.extend(request.wrapper.iter().cloned());
                }
                argv.push(word.clone());
            }
        }
    }
    argv
}

/// Whether the user has put a wrapper there.
fn is_wrapped(words: &[OsString]) -> bool {
    let is_muster = |word: &OsStr| Path::new(word).file_name().is_some_and(|n| n == "muster");
    words.windows(2).any(|pair| is_muster(&pair[0]) && pair[1] == "rank")
}

/// Before which words of a user's own line the wrapper belongs.
fn places(
    words: &[OsString],
    family: Family,
    wrapper: &[OsString],
    settings: &mut Settings<'_>,
) -> Vec<usize> {
    let variable = match family {
        Family::OpenMpi4 => "OMPI_MCA_orte_fork_agent",
        Family::OpenMpi5 => "PRTE_MCA_odls_base_exec_agent",
        Family::Mpich | Family::IntelMpi => {
            return programs(words).unwrap_or_else(|| {
                settings.note(
                    "the ranks' lines stay untagged: where the program begins in the mpirun line \
                     is not certain; write `muster rank --` before it",
                );
                Vec::new()
            });
        }
    };
    // Both split the value at blanks, and know no quotes.
    let texts: Option<Vec<&str>> = wrapper.iter().map(|word| word.to_str()).collect();
    match texts.filter(|words| !words.iter().any(|word| word.contains(char::is_whitespace))) {
        Some(wrapper) => {
            let reason = "starts each rank in a wrapper, which tags its lines";
            if !settings.want(variable, wrapper.join(" "), reason) {
                settings.note(format!("the ranks' lines stay untagged: {variable} is set already"));
            }
        }
        None => settings.note(
            "the ranks' lines stay untagged: Open MPI's variable for it takes no blanks, which the \
             output flags have; write `muster rank --` before the program",
        ),
    }
    Vec::new()
}

/// Where the programs stand in Hydra's line, one for each part between colons; none: not certain.
fn programs(words: &[OsString]) -> Option<Vec<usize>> {
    let mut places = Vec::new();
    let mut at = 0;
    loop {
        let word = words.get(at)?.to_str()?;
        match word.strip_prefix('-') {
            Some(option) => {
                let option = option.strip_prefix('-').unwrap_or(option);
                let known = HYDRA.iter().find(|(_, names)| names.contains(&option));
                at += 1 + known.map(|(values, _)| *values)?;
            }
            None => {
                places.push(at);
                match words[at..].iter().position(|word| word == ":") {
                    Some(colon) => at += colon + 1,
                    None => return Some(places),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OsString, is_wrapped, programs};

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn programs_are_found_where_that_is_certain() {
        for (line, expected) in [
            ("-n 4 ./app -n 7", Some(vec![2])),
            ("./app", Some(vec![0])),
            ("-genv A B --envall -ppn 2 -n 4 python3 x.py : -n 1 ./b", Some(vec![8, 13])),
            ("-n 4", None),
            ("-n", None),
            ("-n 4 -configfile f", None),
            ("-gtool x ./app", None),
            ("-n 2 ./app :", None),
        ] {
            assert_eq!(programs(&words(line)), expected, "{line}");
        }
    }

    #[test]
    fn a_wrapper_of_the_users_own_is_seen() {
        assert!(is_wrapped(&words("-n 4 /opt/muster rank --tag=json -- ./app")));
        assert!(!is_wrapped(&words("-n 4 ./muster worker rank")));
    }
}

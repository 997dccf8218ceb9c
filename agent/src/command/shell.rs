//! `muster completions` and `muster man`, from the one definition of the command line.

use std::fmt::Write as _;

use clap_mangen::Man;

use crate::cli::{self, CompletionsArgs, ManArgs};
use crate::config::variables::{ALL, Variable};
use crate::exit::{Class, Explain, Failure};
use crate::text::{OutputError, give};

/// Prints a completion script.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Class, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::definition(), "muster", &mut script);
    give(&String::from_utf8_lossy(&script))?;
    Ok(Class::Ok)
}

/// There is no such manual page.
#[derive(Debug, thiserror::Error)]
#[error("print a manual page: there is no subcommand '{0}'")]
struct NoPage(String);

impl Explain for NoPage {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some("muster --help lists the subcommands".into())
    }
}

/// Prints a manual page.
pub(super) fn man(args: &ManArgs) -> Result<Class, Failure> {
    let mut cli = cli::definition();
    cli.build();
    let page = match &args.subcommand {
        None => cli,
        Some(name) => match cli.find_subcommand(name) {
            Some(found) => found.clone().display_name(format!("muster-{name}")),
            None => return Err(NoPage(name.clone()).into()),
        },
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text).map_err(OutputError)?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if args.subcommand.is_none() {
        text += &environment();
    }
    give(&text)?;
    Ok(Class::Ok)
}

/// The manual's section on variables.
fn environment() -> String {
    let mut section = String::from(".SH ENVIRONMENT\n");
    for Variable { name, set_by, usage, purpose } in ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(
            section,
            ".TP\n\\fB{name}\\fR\nSet by {set_by}; muster {} it: {}.",
            usage.word(),
            purpose.replace('-', "\\-")
        );
    }
    section += ".PP\nWhat a launch sets beside these to drive one MPI family, \\fBmuster launch \\-\\-dry\\-run\\fR \
                shows. A rank is known by what its own MPI sets, such as OMPI_COMM_WORLD_RANK or \
                PMI_RANK.\n";
    section
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::variables::is_known;

    #[test]
    fn every_flag_s_variable_is_in_the_table() {
        let cli = cli::definition();
        let flags = cli.get_subcommands().flat_map(clap::Command::get_arguments);
        let names = flags.filter_map(|flag| flag.get_env()?.to_str());
        let unknown: Vec<&str> = names.filter(|name| !is_known(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(environment().contains("\n\\fBMUSTER_PORT\\fR\n"));
    }
}

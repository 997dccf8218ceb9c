//! `muster completions` and `muster man`, from the one definition of the command line.

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::exit::{Class, Explain, Failure};
use crate::text::{OutputError, give};

/// Prints a completion script.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Class, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "muster", &mut script);
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
    let mut cli = Cli::command();
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
    give(&String::from_utf8_lossy(&text))?;
    Ok(Class::Ok)
}

//! `muster completions` and `muster man`, from the one definition of the command line.

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::exit::{Class, Explain, Failure};

/// Prints a completion script.
pub(super) fn completions(args: &CompletionsArgs) -> u8 {
    clap_complete::generate(args.shell, &mut Cli::command(), "muster", &mut std::io::stdout());
    Class::Ok.code()
}

/// Why there is no manual page.
#[derive(Debug, thiserror::Error)]
enum ManError {
    #[error("print a manual page: there is no subcommand '{0}'")]
    Unknown(String),
    #[error("print a manual page: {0}")]
    Write(#[from] std::io::Error),
}

impl Explain for ManError {
    fn class(&self) -> Class {
        match self {
            Self::Unknown(_) => Class::Config,
            Self::Write(_) => Class::LocalResource,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("muster --help lists the subcommands".into()),
            Self::Write(_) => None,
        }
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
            None => return Err(ManError::Unknown(name.clone()).into()),
        },
    };
    Man::new(page).render(&mut std::io::stdout()).map_err(ManError::Write)?;
    Ok(Class::Ok)
}

//! `muster completions` and `muster man`.

use clap::Args;

/// Flags of `muster completions`.
#[derive(Debug, Args)]
#[command(
    about = "Print a completion script for a shell",
    long_about = None,
    after_help = "Examples:\n  \
        muster completions bash > /etc/bash_completion.d/muster\n  \
        muster completions fish > ~/.config/fish/completions/muster.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Flags of `muster man`.
#[derive(Debug, Args)]
#[command(
    about = "Print the manual page, of muster or of a subcommand",
    long_about = None,
    after_help = "Examples:\n  \
        muster man | man -l -\n  \
        muster man launch > /usr/local/share/man/man1/muster-launch.1")]
pub struct ManArgs {
    /// The subcommand; none = muster itself
    pub subcommand: Option<String>,
}

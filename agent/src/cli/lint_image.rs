//! `muster lint-image`.

use clap::{Args, ValueEnum};

/// Flags of `muster lint-image`.
#[derive(Debug, Args)]
#[command(
    about = "Check, while an image is built, that jobs will run in it",
    long_about = "Checks, while an image is built, that jobs will run in it: that an MPI is there with \
        its daemon and libraries, that any UID can run it, /bin/sh and muster with a read-only root and \
        no capabilities, \
        that the names ssh and sshd lead where they should and that muster can do what their \
        configuration says, that the job's key can be reached, and what OpenSSH has left.\n\nEnds with 89 where something would break; warnings do not count. \
        Prints each finding with its place and what to do.",
    after_help = "Examples:\n  \
        RUN muster install && muster lint-image   # the last line of a Dockerfile\n  \
        muster lint-image --format json"
)]
pub struct LintImageArgs {
    /// How to print it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: LintFormat,
}

/// How to print findings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LintFormat {
    /// For people
    #[default]
    Text,
    /// For machines: {muster, fine, findings: [{level, what, where, hint}]}
    Json,
}

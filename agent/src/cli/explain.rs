//! `muster explain`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::outcome::ExitPolicy;

/// Flags of `muster explain`.
#[derive(Debug, Args)]
#[command(
    about = "Explain an exit code, or how a job ended from its log",
    long_about = "Explains an exit code or a class of endings; without any, prints the whole table.\n\n\
        With --log it reads the saved output of a job and says how it ended: the class, who failed \
        first, the lines that prove it, and what to do. It ends with 0 whatever the job did; the \
        class is in what it prints.",
    after_help = "Examples:\n  \
        muster explain                                # all codes and classes\n  \
        muster explain 172                            # or: muster explain worker-lost\n  \
        muster explain --log job.log\n  \
        kubectl logs job/pi-launcher | muster explain --log - --format json\n  \
        muster explain --log job.log --status 255 --rules ours.toml\n\n\
        A rule of your own (TOML; any number of them in a file):\n  \
        [[rule]]\n  \
        name = \"solver-diverged\"\n  \
        class = \"app-error\"\n  \
        strength = \"cause\"            # note, echo, banner, end, likely, cause or proof\n  \
        match = ['rank (?<rank>\\d+): residual is NaN']\n  \
        says = \"The solver diverged.\"\n  \
        try = [\"halve the time step\"]"
)]
pub struct ExplainArgs {
    /// A code such as 172, or a class such as worker-lost
    #[arg(value_name = "CODE|CLASS", conflicts_with = "log")]
    pub word: Option<String>,
    /// The saved output of a job, both streams; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The exit code of mpirun, where it is known; -9 stands for signal 9
    #[arg(long, value_name = "N", requires = "log", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-64..256))]
    pub status: Option<i32>,
    /// More rules, which come before the built-in ones; may be given again
    #[arg(long, value_name = "FILE", requires = "log")]
    pub rules: Vec<PathBuf>,
    /// Whose exit code the verdict has
    #[arg(long, value_name = "WHOSE", requires = "log", value_enum, default_value_t)]
    pub exit_code: ExitPolicy,
    /// How to print it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For machines: a log's verdict (schema muster.verdict/1)
    Json,
    /// The table, for a README
    Markdown,
}

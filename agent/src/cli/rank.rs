//! `muster rank`, and the flags about the output of ranks.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::output::Returns;
use crate::output::tag::Format;
use crate::rank::gpus::GpuBind;
use crate::rank::protocol::Output;
use crate::rank::{Color, RankSet, Settings};

/// How the lines of ranks are shown and kept.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Where the lines are shown
    #[arg(long, value_enum, default_value_t = Output::Launcher, value_name = "WHERE")]
    pub output: Output,
    /// What stands before each line: prefix ([rank 3|worker-1]), short ([3]), json, none, or a
    /// template such as '{rank}/{size} {host}: '. Its fields: rank, size, local_rank, local_size, host,
    /// job, stream, time, level; {rank:4} is four characters wide or more, {{ is a brace
    #[arg(long, default_value = "prefix", value_name = "FORMAT")]
    pub tag: Format,
    /// What the job is called in JSON lines and templates [default: as the operator, the batch system or the
    /// launcher calls it]
    #[arg(long, env = "MUSTER_JOB", value_name = "NAME")]
    pub job: Option<String>,
    /// Put the time before the tag: UTC, microseconds, taken where the rank runs
    #[arg(long)]
    pub timestamps: bool,
    /// Colour tags by rank
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// Progress bars: keep their carriage returns, or collapse them to the last state of the line
    /// [default: keep on a terminal and with --tag=none, else collapse]
    #[arg(long = "cr", value_enum, value_name = "WHAT")]
    pub returns: Option<Returns>,
    /// Pass a line on in pieces when it is longer than this
    #[arg(long, default_value = "64KiB", value_name = "SIZE", value_parser = line_size)]
    pub max_line: usize,
    /// Keep every rank's output, byte for byte, in DIR/rank.000003.out and .err
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Move such a file aside (to .1, one is kept) when it has reached this size [default: never]
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "log_dir")]
    pub log_max: Option<u64>,
    /// Show only these ranks; the others still go to --log-dir and to --output=pod
    #[arg(long = "ranks", value_name = "LIST")]
    pub shown_ranks: Option<RankSet>,
    /// Show nothing, but the last N lines of a rank that fails (64 KiB of each stream at most)
    #[arg(long = "quiet-ranks-until-failure", value_name = "N", num_args = 0..=1,
          require_equals = true, default_missing_value = "50")]
    pub quiet: Option<usize>,
}

impl From<OutputArgs> for Settings {
    fn from(args: OutputArgs) -> Self {
        Self {
            output: args.output,
            tag: args.tag,
            job: args.job,
            timestamps: args.timestamps,
            color: args.color,
            returns: args.returns,
            max_line: args.max_line,
            log_dir: args.log_dir,
            log_max: args.log_max,
            ranks: args.shown_ranks,
            quiet: args.quiet,
        }
    }
}

/// How ranks are bound to devices.
#[derive(Debug, Clone, Args)]
pub struct BindArgs {
    /// How ranks are bound to the GPUs of their host; not at all where CUDA_VISIBLE_DEVICES,
    /// ROCR_VISIBLE_DEVICES or the like is set already [default: auto]
    #[arg(long, env = "MUSTER_GPU_BIND", value_enum, value_name = "HOW")]
    pub gpu_bind: Option<GpuBind>,
}

/// Flags of `muster rank`.
#[derive(Debug, Args)]
#[command(
    about = "Run one rank of an MPI job and put its number before every line",
    long_about = "Runs one rank of an MPI job and puts its number before every line that it prints.\n\n\
        The rank is found in the environment of Open MPI, MPICH, Intel MPI, MVAPICH2, PALS, Flux or \
        Slurm, as listed below. Ends as the program ends: with its exit code, or by the same signal.\n\n\
        The rank sees its own share of the host's GPUs or MIG instances (CUDA_VISIBLE_DEVICES, \
        ROCR_VISIBLE_DEVICES), unless somebody has chosen already. CPUs are left to mpirun.",
    override_usage = "muster rank [OPTIONS] [--] PROGRAM [ARGUMENT]...",
    after_help = "The rank is the number in the first of these variables that has one:\n  \
        OMPI_COMM_WORLD_RANK, MV2_COMM_WORLD_RANK, PALS_RANKID, PMIX_RANK, PMI_RANK,\n  \
        FLUX_TASK_RANK, SLURM_PROCID\n\n\
        Examples:\n  \
        mpirun -n 4 muster rank -- ./app\n  \
        srun -n 4 muster rank --tag=json -- ./app\n  \
        mpirun -n 4 muster rank --tag='{rank}/{size} {host}: ' --timestamps -- ./app\n  \
        mpirun -n 64 muster rank --ranks 0 --log-dir /scratch/logs -- ./app\n  \
        mpirun -n 8 muster rank --gpu-bind=round-robin -- ./app   # a GPU each, by local rank"
)]
pub struct RankArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub output: OutputArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub bind: BindArgs,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// The bound of a line: what is held in memory.
fn line_size(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    let fits = usize::try_from(bytes).ok().filter(|bytes| (64..=16 << 20).contains(bytes));
    fits.ok_or_else(|| "a line may be held up to a size from 64 bytes to 16 MiB".to_owned())
}

/// Bytes: `65536`, `64k`, `64KiB`, `1M`, `2GiB`; all of them powers of 1,024.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("a size is a number with k, M, G or T, such as 64KiB".to_owned()),
    };
    if number.is_empty() {
        return Err("a size begins with a number".to_owned());
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    let bytes = bytes.filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "a size must be more than nothing and fit 64 bits".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::{RankArgs, Settings, line_size, size};
    use crate::output::template::FIELDS;
    use crate::process::ranks::TABLE;

    #[test]
    fn settings_go_through_flags_and_back() {
        let read = |words: Vec<std::ffi::OsString>| {
            let words = ["rank".into()].into_iter().chain(words).chain(["--".into(), "app".into()]);
            let matches = RankArgs::augment_args(clap::Command::new("rank"))
                .try_get_matches_from(words)
                .unwrap();
            Settings::from(RankArgs::from_arg_matches(&matches).unwrap().output)
        };
        for flags in [
            &[][..],
            &[
                "--output=pod",
                "--tag=json",
                "--job=a b",
                "--timestamps",
                "--color=never",
                "--cr=keep",
            ],
            &["--tag={rank} {host}: ", "--ranks=0,4-7", "--quiet-ranks-until-failure"],
            &["--max-line=1M", "--log-dir=a b", "--log-max=2G", "--quiet-ranks-until-failure=3"],
        ] {
            let settings = read(flags.iter().map(Into::into).collect());
            assert_eq!(read(settings.flags()), settings, "{flags:?}");
        }
    }

    #[test]
    fn the_help_lists_fields_and_variables() {
        let mut command = RankArgs::augment_args(clap::Command::new("rank"));
        let help = command.render_long_help().to_string();
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let fields = FIELDS.map(|(name, _)| name).join(", ");
        assert!(words.contains(&fields), "{words}");
        let variables = TABLE.map(|names| names.rank).join(", ");
        assert!(words.contains(&variables), "{words}");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("65536", Some(65536)),
            ("64k", Some(65536)),
            ("64KiB", Some(65536)),
            ("1 MB", Some(1 << 20)),
            ("2G", Some(2 << 30)),
            ("0", None),
            ("k", None),
            ("1x", None),
            ("-1", None),
            ("99999999999T", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
        assert_eq!(line_size("1k"), Ok(1024));
        assert!(line_size("63").is_err() && line_size("17M").is_err());
    }
}

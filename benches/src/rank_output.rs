//! Claim: a rank's wrapper tags lines at the speed of a pipe, and costs next to nothing to start.
//!
//! Must not measure mpirun or the network; the whole way is another claim.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{Turn, children_cpu, median, ratio, rounds, swallow, typical};
use crate::{Common, Result, own_path};

/// Flags of `bench rank-output`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Megabytes that the generator writes in each turn
    #[arg(long)]
    pub(crate) megabytes: Option<u64>,
    /// Starts that each contender gets
    #[arg(long)]
    pub(crate) starts: Option<usize>,
}

const TAGGER: &str = include_str!("tagger.py");

/// One way from the generator to the reader.
struct Contender {
    name: &'static str,
    command: Option<Vec<String>>,
}

/// Measures and gives the tables.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let muster = args.common.muster()?;
    let python = std::env::temp_dir().join(format!("muster-bench-{}.py", std::process::id()));
    fs::write(&python, TAGGER)?;
    let result = tables(args, &muster, &python);
    fs::remove_file(&python)?;
    result
}

fn tables(args: &Args, muster: &str, python: &Path) -> Result<String> {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    let contenders = [
        Contender { name: "`cat`, untagged", command: None },
        Contender { name: "`muster rank`", command: words(&[muster, "rank", "--"]) },
        Contender {
            name: "`muster rank --tag=json`",
            command: words(&[muster, "rank", "--tag=json", "--"]),
        },
        Contender {
            name: "`muster rank --tag=none`",
            command: words(&[muster, "rank", "--tag=none", "--"]),
        },
        Contender {
            name: "20 lines of Python",
            command: words(&["python3", &python.display().to_string()]),
        },
    ];
    let mut text = String::new();
    writeln!(
        text,
        "| line | contender | lines/s | input MB/s | of `cat` | CPU s / million lines |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for length in [64, 1024] {
        let megabytes = args.megabytes.unwrap_or(if args.common.quick { 10 } else { 320 });
        let lines = megabytes * 1_000_000 / length as u64;
        let turns =
            rounds(&contenders, args.common.rounds(7), |contender| turn(contender, lines, length))?;
        for (contender, own) in contenders.iter().zip(&turns) {
            let wall = typical(own, |turn| turn.wall);
            let of_cat = ratio(&turns[0], own, |turn| turn.wall);
            let lines = lines as f64;
            writeln!(
                text,
                "| {length} B | {} | {:.2} M | {:.0} | {:.0} % | {:.3} |",
                contender.name,
                lines / wall / 1e6,
                lines * length as f64 / wall / 1e6,
                of_cat * 100.0,
                typical(own, |turn| turn.cpu) / lines * 1e6,
            )?;
        }
    }
    start_up(&mut text, args, muster)?;
    memory(&mut text, muster)?;
    Ok(text)
}

/// The generator's words.
fn generator(lines: u64, length: usize) -> Vec<String> {
    vec![own_path(), "generate".into(), lines.to_string(), length.to_string()]
}

fn command(words: &[String]) -> Result<Command> {
    let (program, arguments) = words.split_first().ok_or("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.env("PMI_RANK", "3").env("PMI_SIZE", "16").env_remove("MUSTER_RANK_SOCKET");
    for name in ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"] {
        command.env_remove(name);
    }
    Ok(command)
}

fn turn(contender: &Contender, lines: u64, length: usize) -> Result<Turn> {
    let mut words = contender.command.clone().unwrap_or_default();
    words.extend(generator(lines, length));
    let cpu_before = children_cpu()?;
    let begun = Instant::now();
    let mut started = command(&words)?.stdout(Stdio::piped()).spawn()?;
    let stdout = started.stdout.take().ok_or("no stdout")?;
    let mut all = vec![started];
    let bytes = if contender.command.is_some() {
        swallow(stdout)?
    } else {
        let mut cat = Command::new("cat").stdin(stdout).stdout(Stdio::piped()).spawn()?;
        let stdout = cat.stdout.take().ok_or("no stdout")?;
        all.push(cat);
        swallow(stdout)?
    };
    let wall = begun.elapsed().as_secs_f64();
    for mut child in all {
        if !child.wait()?.success() {
            return Err(format!("{} failed", contender.name).into());
        }
    }
    if bytes < lines * length as u64 {
        return Err(format!("{} lost lines", contender.name).into());
    }
    Ok(Turn { wall, cpu: (children_cpu()? - cpu_before).as_secs_f64() })
}

fn start_up(text: &mut String, args: &Args, muster: &str) -> Result<()> {
    let time = |words: &[String]| -> Result<f64> {
        let mut command = command(words)?;
        let begun = Instant::now();
        command.stdout(Stdio::null()).status()?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    };
    let bare = vec!["/bin/true".to_owned()];
    let wrapped = ["rank", "--", "/bin/true"].map(str::to_owned);
    let wrapped: Vec<String> = std::iter::once(muster.to_owned()).chain(wrapped).collect();
    let (mut alone, mut more) = (Vec::new(), Vec::new());
    let starts = args.starts.unwrap_or(if args.common.quick { 10 } else { 300 });
    for _ in 0..starts {
        let bare = time(&bare)?;
        alone.push(bare);
        more.push(time(&wrapped)? - bare);
    }
    writeln!(text, "\n| start | ms |\n|---|---|")?;
    writeln!(text, "| `true` | {:.2} |", median(alone))?;
    writeln!(text, "| `muster rank -- true`, more than that | {:.2} |", median(more))?;
    Ok(())
}

/// The wrapper's peak while it waits for a program that has printed a million lines.
fn memory(text: &mut String, muster: &str) -> Result<()> {
    writeln!(text, "\n| resident, peak | KiB |\n|---|---|")?;
    let own = own_path();
    for tag in ["prefix", "json"] {
        let script = format!("'{own}' generate 1000000 64; echo READY >&2; read x");
        let words = [muster, "rank", &format!("--tag={tag}"), "--", "sh", "-c", &script];
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut command = command(&words)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let reader = std::thread::spawn(move || swallow(stdout).map_err(|error| error.to_string()));
        let peak = peak_when_ready(&mut child)?;
        child.stdin.take().ok_or("no stdin")?.write_all(b"\n")?;
        child.wait()?;
        reader.join().map_err(|_| "the reader died")??;
        writeln!(text, "| `muster rank --tag={tag}` after a million lines | {peak} |")?;
    }
    Ok(())
}

fn peak_when_ready(child: &mut Child) -> Result<String> {
    let mut stderr = child.stderr.take().ok_or("no stderr")?;
    let mut said = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    while !said.ends_with(b"READY\n") && !said.ends_with(b"READY\"}\n") {
        let mut byte = [0];
        if stderr.read(&mut byte)? == 0 || Instant::now() > until {
            return Err("the program did not come so far".into());
        }
        said.push(byte[0]);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(peak.ok_or("no VmHWM")?.trim().trim_end_matches(" kB").to_owned())
}

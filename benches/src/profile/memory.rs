//! What a launcher has allocated for each of its workers, block by block, at the moment it has most.
//!
//! Every call of the allocator is seen by perf, through probes at the functions that all of Rust calls. Must not
//! leave a probe behind.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::process::{Command, Output};

use super::{Args, perf};
use crate::Result;
use crate::rendezvous::Crowd;

/// Group of the probes.
const GROUP: &str = "bench_muster";

/// Probes: the name of the event, to which perf adds `__return`, the end of the function's name, what it tells. All memory comes from `malloc` and goes to
/// `free`; the others, where the compiler has not dissolved them in their callers, tell who asks. The allocator itself, being one static, is
/// no argument of its functions.
const PROBES: [(&str, &str, &str); 6] = [
    ("alloc", "__rustc::__rust_alloc", "caller=+0(%sp):x64"),
    ("alloc_zeroed", "__rustc::__rust_alloc_zeroed", "caller=+0(%sp):x64"),
    ("realloc", "__rustc::__rust_realloc", "caller=+0(%sp):x64"),
    ("malloc", "::Dlmalloc<A>::malloc", "size=%di:u64 caller=+0(%sp):x64"),
    ("given__return", "::Dlmalloc<A>::malloc%return", "at=$retval:x64"),
    ("free", "::Dlmalloc<A>::free", "at=%di:x64"),
];

/// The process that is looked at.
const LAUNCHER: &str = "`muster launch`";

/// Blocks of a size that fewer workers than this have, each, are no worker's.
const FEW: f64 = 0.5;

/// Blocks of less than so many KB for each worker are added up.
const SMALL: f64 = 1.0;

/// Characters of a function's name.
const WIDTH: usize = 100;

/// Measures and gives the table.
pub(super) fn measure(args: &Args) -> Result<String> {
    let workers = args.hosts(250);
    let muster = args.common.muster()?;
    let symbols = Symbols::of(&muster)?;
    let crowd = Crowd::up(&args.common, &[workers])?;
    let probes = Probes::set(&muster, &symbols)?;
    let mut heap = Heap::default();
    // As much as a CPU's share of the events of a burst.
    let events = ["-e", &format!("{GROUP}:*"), "-m", "4096"];
    let run = || crowd.turn(workers).map(drop);
    perf::watch(&events, "comm,pid,tid,time,event,trace", run, |family, line| {
        if let Some((pid, thread, call)) = read(line)
            && family.name(pid).as_deref() == Some(LAUNCHER)
        {
            heap.learn(thread, call);
        }
    })?;
    drop(probes);
    heap.table(workers, &symbols)
}

/// The functions of a binary.
struct Symbols {
    /// By where they are.
    functions: BTreeMap<u64, String>,
    /// The probed function of each of [`PROBES`], mangled, and where it is.
    probed: Vec<(String, u64)>,
}

impl Symbols {
    fn of(muster: &str) -> Result<Self> {
        let mangled: HashMap<_, _> = functions(&said("nm", &[muster])?).collect();
        let functions: BTreeMap<_, _> = functions(&said("nm", &["-C", muster])?).collect();
        let find = |(_, end, _): &(&str, &str, &str)| {
            let end = end.trim_end_matches("%return");
            let (address, _) = functions.iter().find(|(_, name)| name.ends_with(end))?;
            Some((mangled.get(address)?.clone(), *address))
        };
        let probed = PROBES.iter().map(find).collect::<Option<_>>().ok_or_else(|| {
            format!(
                "{muster} has no symbols of its allocator; hint: build one that has, and give it by --muster: \
                 CARGO_PROFILE_RELEASE_STRIP=none cargo build --release --target x86_64-unknown-linux-musl \
                 -p muster --target-dir target/symbols"
            )
        })?;
        Ok(Self { functions, probed })
    }

    /// The function that an address is within.
    fn function(&self, address: u64) -> &str {
        let found = self.functions.range(..=address).next_back();
        found.map_or("unknown", |(_, name)| name.as_str())
    }
}

/// Addresses and names, of lines of nm like `0000000000001000 t name`.
fn functions(text: &str) -> impl Iterator<Item = (u64, String)> {
    text.lines().filter_map(|line| {
        let (address, rest) = line.split_once(' ')?;
        let name = rest.strip_prefix(['t', 'T'])?.trim_start();
        Some((u64::from_str_radix(address, 16).ok()?, name.to_owned()))
    })
}

/// Probes, until they are dropped.
struct Probes;

impl Probes {
    fn set(muster: &str, symbols: &Symbols) -> Result<Self> {
        // Those of an earlier run that was killed.
        Self::remove();
        let probes = Self;
        for ((name, end, arguments), (symbol, _)) in PROBES.iter().zip(&symbols.probed) {
            let at = if end.ends_with("%return") { "%return" } else { "" };
            let name = name.trim_end_matches("__return");
            let probe = format!("{GROUP}:{name}={symbol}{at} {arguments}");
            said("perf", &["probe", "-q", "-x", muster, "--no-demangle", "-a", &probe])?;
        }
        Ok(probes)
    }

    fn remove() {
        // There may be none.
        let _ = Command::new("perf").args(["probe", "-q", "-d", &format!("{GROUP}:*")]).output();
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        Self::remove();
    }
}

/// What a tool says on stdout.
fn said(tool: &str, arguments: &[&str]) -> Result<String> {
    let output: Output = Command::new(tool)
        .args(arguments)
        .output()
        .map_err(|error| format!("{tool}: {error}; hint: apt-get install binutils linux-perf"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{tool} {}: {}", arguments.join(" "), why.trim_end()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Who calls: which of [`PROBES`] saw it, where that one's function is in memory, and where it returns to.
type Caller = (usize, u64, u64);

/// What a probe tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Somebody asks for memory.
    Asks(Caller),
    /// So many bytes are looked for; known to be for who asked, or for the caller.
    Wanted(u64, Caller),
    /// A block is given, at this address.
    Given(u64),
    Free(u64),
}

/// Process, thread and call of a line like `comm 12/13 1.5: bench_muster:malloc: (7f00) size=64 caller=0x7f10`.
fn read(line: &str) -> Option<(u32, u32, Call)> {
    let (who, what) = line.split_once(&format!(" {GROUP}:"))?;
    let (pid, thread) = who.split_whitespace().rev().nth(1)?.split_once('/')?;
    let (name, what) = what.split_once(": (")?;
    let (at, arguments) = what.split_once(") ")?;
    let index = PROBES.iter().position(|(probe, ..)| *probe == name)?;
    let argument = |name: &str| {
        let mut words = arguments.split_whitespace().filter_map(|word| word.split_once('='));
        Some(words.find(|(key, _)| *key == name)?.1)
    };
    let address = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let caller = || Some((index, address(at)?, address(argument("caller")?)?));
    let call = match name {
        "malloc" => Call::Wanted(argument("size")?.parse().ok()?, caller()?),
        "given__return" => Call::Given(address(argument("at")?)?),
        "free" => Call::Free(address(argument("at")?)?),
        _ => Call::Asks(caller()?),
    };
    Some((pid.parse().ok()?, thread.parse().ok()?, call))
}

/// What is allocated.
#[derive(Debug, Default)]
struct Heap {
    /// What threads are in the middle of.
    asks: HashMap<u32, Caller>,
    wanted: HashMap<u32, (u64, Caller)>,
    /// Blocks by address: their size, and who asked.
    blocks: HashMap<u64, (u64, Caller)>,
    bytes: u64,
    /// The same when there were most bytes.
    most: (u64, HashMap<u64, (u64, Caller)>),
}

impl Heap {
    fn learn(&mut self, thread: u32, call: Call) {
        match call {
            Call::Asks(caller) => {
                self.asks.insert(thread, caller);
            }
            Call::Wanted(size, caller) => {
                let asks = self.asks.remove(&thread).unwrap_or(caller);
                self.wanted.insert(thread, (size, asks));
            }
            Call::Given(at) => {
                if let Some(block) = self.wanted.remove(&thread) {
                    self.bytes += block.0;
                    self.blocks.insert(at, block);
                }
            }
            Call::Free(at) => {
                let size = self.blocks.remove(&at).map_or(0, |(size, _)| size);
                self.bytes = self.bytes.saturating_sub(size);
            }
        }
        // Copied when there is a thirty-second more, not at each call.
        if self.bytes > self.most.0 + self.most.0 / 32 {
            self.most = (self.bytes, self.blocks.clone());
        }
    }

    /// The blocks that workers have each, the largest part first.
    fn table(&self, workers: usize, symbols: &Symbols) -> Result<String> {
        let (bytes, blocks) = &self.most;
        let mut kinds: HashMap<_, usize> = HashMap::new();
        for (size, caller) in blocks.values() {
            *kinds.entry((*size, symbols.caller(*caller))).or_default() += 1;
        }
        let each = |bytes: u64| bytes as f64 / 1e3 / workers as f64;
        let mut rows: Vec<_> = kinds
            .into_iter()
            .map(|((size, function), count)| (each(size * count as u64), size, count, function))
            .collect();
        rows.sort_by(|one, other| other.0.total_cmp(&one.0));
        let mut text = format!("{workers} workers, at the moment of most:\n\n");
        writeln!(text, "| bytes of a block | blocks a worker | KB a worker | allocated in |")?;
        writeln!(text, "|---|---|---|---|")?;
        let mut rest = each(*bytes);
        for (kb, size, count, function) in rows {
            let count = count as f64 / workers as f64;
            if count >= FEW && kb >= SMALL {
                rest -= kb;
                writeln!(text, "| {size} | {count:.1} | {kb:.1} | `{function}` |")?;
            }
        }
        writeln!(text, "| smaller ones, and the launcher's own | | {rest:.1} | |")?;
        writeln!(text, "| together | | {:.1} | |", each(*bytes))?;
        Ok(text)
    }
}

impl Symbols {
    /// The function that a call comes from. The binary lies anywhere in memory.
    fn caller(&self, (probe, at, caller): Caller) -> String {
        let address = self.probed.get(probe).map_or(0, |(_, address)| *address);
        // The last byte of the call is before where it returns to.
        let inside = caller.wrapping_sub(at).wrapping_add(address).wrapping_sub(1);
        self.function(inside).replace('|', "/").chars().take(WIDTH).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        let line = " tokio-rt worker 12/13 7.1: bench_muster:malloc: (7f00) size=64 caller=0x7f10";
        assert_eq!(read(line), Some((12, 13, Call::Wanted(64, (3, 0x7f00, 0x7f10)))));
        let line = "  muster 7/7 1.2: bench_muster:given__return: (7f31 <- 7f00) at=0x7fff";
        assert_eq!(read(line), Some((7, 7, Call::Given(0x7fff))));
    }

    #[test]
    fn what_was_there_at_the_most_counts() {
        let mut heap = Heap::default();
        // 0x20 in memory is 0x120 in the binary.
        for at in [1, 2] {
            heap.learn(1, Call::Asks((0, 0x10, 0x20)));
            heap.learn(1, Call::Wanted(5000, (3, 0x50, 0x60)));
            heap.learn(1, Call::Given(at));
        }
        heap.learn(1, Call::Free(2));
        let functions = [(0x100, "inside".to_owned()), (0x11f, "caller".to_owned())].into();
        let probed = vec![("alloc".to_owned(), 0x110)];
        let table = heap.table(1, &Symbols { functions, probed }).unwrap();
        assert!(table.contains("| 5000 | 2.0 | 10.0 | `caller` |"), "{table}");
        assert!(table.contains("| together | | 10.0 | |"), "{table}");
    }
}

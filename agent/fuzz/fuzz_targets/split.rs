//! Any bytes in any chunks, under any rule: nothing is lost but overwritten states where the rule leaves them
//! out, nothing is added or reordered, and every style tags them without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::output::clock::Micros;
use muster::output::split::{Batch, Return, Rule, Splitter};
use muster::output::tag::{Format, Style, Tagger};
use muster::output::{Identity, Returns, Stream};

const FORMATS: [&str; 4] = ["prefix", "json", "none", "{level} {rank:4}|"];

fuzz_target!(|input: (u8, u8, u8, Vec<Vec<u8>>)| {
    let (max_line, choice, format, chunks) = input;
    let max_line = usize::from(max_line) + Rule::LEAST;
    let returns = match (choice & 1, choice & 16) {
        (0, 0) => Return::Text,
        (0, _) => Return::Overwrites,
        _ => Return::Ends,
    };
    let style = Style {
        format: FORMATS[usize::from(format) % FORMATS.len()].parse::<Format>().unwrap(),
        timestamps: choice & 2 != 0,
        color: choice & 4 != 0,
        returns: if choice & 8 == 0 { Returns::Keep } else { Returns::Collapse },
        max_line,
    };
    let mut tagger = Tagger::new(Identity::default(), style).unwrap();
    let mut splitter = Splitter::new(Rule { returns, max_line });
    let mut seen = Vec::new();
    let mut see = |batch: Batch<'_>| {
        seen.extend_from_slice(batch.bytes);
        let mut out = Vec::new();
        let mut tagging = tagger.tag(batch, Stream::Out, Micros(0));
        while tagging.write(out.len() + 100, &mut out) {}
    };
    for mut chunk in chunks.iter().map(Vec::as_slice) {
        while !chunk.is_empty() {
            let space = splitter.space();
            let count = space.len().min(chunk.len());
            space[..count].copy_from_slice(&chunk[..count]);
            splitter.filled(count);
            chunk = &chunk[count..];
            while let Some(batch) = splitter.batch() {
                see(batch);
            }
        }
    }
    if let Some(batch) = splitter.rest() {
        see(batch);
    }
    let whole = chunks.concat();
    if returns != Return::Overwrites {
        assert_eq!(seen, whole);
        return;
    }
    // Each line ends with its last state; pieces that were cut before may stand in front of it. The property of
    // the splitter's own tests looks closer.
    let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').map(drawn).collect::<Vec<_>>();
    let (seen, whole) = (lines(&seen), lines(&whole));
    assert_eq!(seen.len(), whole.len());
    for (seen, whole) in seen.iter().zip(&whole) {
        let last = whole.rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
        assert!(seen.ends_with(last), "{seen:?} of {whole:?}");
    }
});

/// The line without returns at its end, which overwrite nothing.
fn drawn(line: &[u8]) -> Vec<u8> {
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
    line[..end].to_vec()
}

//! Any bytes in any chunks, under any rule: nothing is lost, added or reordered, and every style
//! tags them without a panic.

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
    let returns = [Return::Text, Return::Ends][usize::from(choice & 1)];
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
    assert_eq!(seen, chunks.concat());
});

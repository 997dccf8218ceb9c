use std::io::Write as _;

use proptest::prelude::*;
use tokio::runtime::Builder;

use super::*;
use crate::output::split::{Batch, Return, Splitter};
use crate::rank::protocol::{Frame, Kind, read_payload};

const LIMIT: Duration = Duration::from_secs(10);

fn pipe(rule: Rule) -> (std::io::PipeWriter, Pipe) {
    let (from, to) = std::io::pipe().unwrap();
    (to, Pipe::open(from.into(), Stream::Out, rule).unwrap())
}

fn batch(payload: &Bytes) -> (Vec<u8>, End) {
    match read_payload(Kind::Stdout, payload).unwrap() {
        Frame::Output(Stream::Out, time, Batch { bytes, end }) => {
            assert!(time > Micros(0));
            (bytes.to_vec(), end)
        }
        other => panic!("{other:?}"),
    }
}

async fn next(pipe: &mut Pipe) -> Option<(Vec<u8>, End)> {
    tokio::time::timeout(LIMIT, pipe.next()).await.unwrap().as_ref().map(batch)
}

async fn all(pipe: &mut Pipe) -> Vec<(Vec<u8>, End)> {
    let mut seen = Vec::new();
    while let Some(batch) = next(pipe).await {
        seen.push(batch);
    }
    seen
}

/// The lines of batches, as whoever prints them sees them.
fn lines(batches: &[(Vec<u8>, End)], rule: Rule) -> Vec<(Vec<u8>, End)> {
    let batches = batches.iter().map(|(bytes, end)| Batch { bytes, end: *end });
    batches
        .flat_map(|batch| batch.lines(rule))
        .map(|line| (line.bytes.to_vec(), line.end))
        .collect()
}

fn by_splitter(bytes: &[u8], rule: Rule) -> Vec<(Vec<u8>, End)> {
    let (mut splitter, mut seen) = (Splitter::new(rule), Vec::new());
    splitter.space()[..bytes.len()].copy_from_slice(bytes);
    splitter.filled(bytes.len());
    while let Some(batch) = splitter.batch() {
        seen.push((batch.bytes.to_vec(), batch.end));
    }
    seen.extend(splitter.rest().map(|batch| (batch.bytes.to_vec(), batch.end)));
    lines(&seen, rule)
}

proptest! {
    #[test]
    fn cut_where_a_splitter_cuts(
        chunks in prop::collection::vec(prop::collection::vec(
            prop_oneof![1 => Just(b'\n'), 1 => Just(b'\r'), 6 => b'a'..=b'e', 2 => 0x80..=0xbfu8], 1..60,
        ), 0..12),
        ends: bool,
        max_line in 4usize..60,
    ) {
        let returns = if ends { Return::Ends } else { Return::Text };
        let rule = Rule { returns, max_line };
        let seen = Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (mut to, mut pipe) = pipe(rule);
            let mut seen = Vec::new();
            for chunk in &chunks {
                to.write_all(chunk).unwrap();
                // A read that is given up loses nothing.
                while let Ok(Some(payload)) =
                    tokio::time::timeout(Duration::ZERO, pipe.next()).await
                {
                    seen.push(batch(&payload));
                }
            }
            drop(to);
            seen.extend(all(&mut pipe).await);
            seen
        });
        prop_assert_eq!(lines(&seen, rule), by_splitter(&chunks.concat(), rule));
    }
}

const RULE: Rule = Rule { returns: Return::Text, max_line: 64 * 1024 };

#[tokio::test]
async fn much_comes_whole_and_in_order() {
    let (mut to, mut pipe) = pipe(RULE);
    let text: String = (0..200_000).map(|i| format!("line {i}\n")).collect();
    let expected = text.clone().into_bytes();
    let writer = std::thread::spawn(move || to.write_all(text.as_bytes()).unwrap());
    let seen = all(&mut pipe).await;
    writer.join().unwrap();
    assert!(seen.iter().all(|(bytes, end)| *end == End::Line && bytes.ends_with(b"\n")));
    let seen: Vec<u8> = seen.into_iter().flat_map(|(bytes, _)| bytes).collect();
    assert!(seen == expected);
}

#[tokio::test]
async fn a_long_line_needs_no_frame_for_each_of_its_pieces() {
    let rule = Rule { returns: Return::Text, max_line: Rule::LEAST };
    let (mut to, mut pipe) = pipe(rule);
    let line = [b'x'; 40_000];
    to.write_all(&line).unwrap();
    drop(to);
    let seen = all(&mut pipe).await;
    assert_eq!(seen.len(), 2, "the pieces that one read had, and the rest");
    assert_eq!(lines(&seen, rule), by_splitter(&line, rule));
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_read_and_children_get_their_time() {
    let (mut to, mut pipe) = pipe(RULE);
    to.write_all(b"its own\nhalf").unwrap();
    pipe.finish(Duration::from_secs(1));
    assert_eq!(next(&mut pipe).await, Some((b"its own\n".to_vec(), End::Line)));
    to.write_all(b" and a child's\n").unwrap();
    assert_eq!(next(&mut pipe).await, Some((b"half and a child's\n".to_vec(), End::Line)));
    to.write_all(b"late").unwrap();
    let before = Instant::now();
    // It goes on holding the pipe.
    assert_eq!(next(&mut pipe).await, Some((b"late".to_vec(), End::Eof)));
    assert!(before.elapsed() <= Duration::from_millis(1100), "{:?}", before.elapsed());
    assert_eq!(next(&mut pipe).await, None);
}

#[tokio::test]
async fn a_child_that_never_stops_writing_is_not_followed_for_ever() {
    let (to, mut pipe) = pipe(RULE);
    let writer = std::thread::spawn(move || {
        let mut to = to;
        // Until its reader is gone.
        while to.write_all(&[b'y', b'\n'].repeat(1000)).is_ok() {}
    });
    assert!(next(&mut pipe).await.is_some());
    pipe.finish(Duration::from_millis(50));
    let seen = tokio::time::timeout(LIMIT, all(&mut pipe)).await.unwrap();
    assert!(seen.len() > 1);
    drop(pipe);
    writer.join().unwrap();
}

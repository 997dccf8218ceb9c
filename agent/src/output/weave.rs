//! The hot path: the same tag before each line, copied in blocks of a fixed size.
//!
//! Must not decide anything about a line: where one needs a closer look (it is too long, or the
//! input ends inside it), it is left for others. Must be quick in a build for size, too: memchr
//! searches, and a block is copied as one value.

use std::mem::MaybeUninit;

use memchr::memchr;

/// Bytes that are copied together; a longer tag is left to others.
const BLOCK: usize = 64;

/// Room is made for so much at most, whatever the limit.
const MOST: usize = 1024 * 1024;

/// Appends `lines` to `out`, `head` before each, until `out` holds `limit` bytes or more; returns how
/// many bytes of `lines` are done, always whole lines. Ends early at a line whose text is longer
/// than `max_line`, and less than 64 bytes before the end of `lines`.
pub(super) fn weave(
    head: &[u8],
    lines: &[u8],
    max_line: usize,
    limit: usize,
    out: &mut Vec<u8>,
) -> usize {
    let mut padded = [0; BLOCK];
    let Some(place) = padded.get_mut(..head.len()) else { return 0 };
    place.copy_from_slice(head);
    let limit = limit.min(out.len().saturating_add(MOST));
    // The last line may begin just below the limit; no line is longer than there is input.
    let room = limit.saturating_sub(out.len()) + max_line.min(lines.len()) + 3 * BLOCK;
    out.reserve(room);
    let before = out.len();
    let spare = &mut out.spare_capacity_mut()[..room];
    let (mut done, mut written) = (0, 0);
    while before + written < limit {
        let rest = &lines[done..];
        let Some(text) = memchr(b'\n', rest).filter(|text| *text <= max_line) else { break };
        // Copied up to the end of the block in which it ends, which has to be there.
        let (blocks, _) = rest.as_chunks::<BLOCK>();
        let Some(blocks) = blocks.get(..=text / BLOCK) else { break };
        put(spare, written, &padded);
        let mut to = written + head.len();
        for block in blocks {
            put(spare, to, block);
            to += BLOCK;
        }
        done += text + 1;
        written += head.len() + text + 1;
    }
    // SAFETY: the first `written` bytes of the spare capacity were put there, without gaps: each
    // tag and block begins where the used part of the one before it ends.
    unsafe { out.set_len(before + written) };
    done
}

#[inline]
fn put(spare: &mut [MaybeUninit<u8>], at: usize, block: &[u8; BLOCK]) {
    let place = spare[at..at + BLOCK].as_mut_ptr();
    // SAFETY: the slice has just been found to hold a whole block, and bytes need no alignment.
    unsafe { place.cast::<[u8; BLOCK]>().write(*block) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_the_plain_way_does(
            lengths in prop::collection::vec(0usize..200, 0..40),
            head in prop::collection::vec(any::<u8>(), 0..BLOCK + 2),
            max_line in 4usize..300,
            limit in 0usize..4000,
            already in 0usize..100,
        ) {
            let lines: Vec<u8> =
                lengths.iter().flat_map(|length| [vec![b'a'; *length], vec![b'\n']].concat()).collect();
            let mut out = vec![7; already];
            let done = weave(&head, &lines, max_line, limit, &mut out);
            prop_assert!(done == 0 || lines[done - 1] == b'\n');
            let expected: Vec<u8> = lines[..done]
                .split_inclusive(|byte| *byte == b'\n')
                .flat_map(|line| [&head[..], line].concat())
                .collect();
            prop_assert_eq!(&out[already..], &expected[..]);
            // It went on as far as it may.
            let next = lines[done..].split(|byte| *byte == b'\n').next().unwrap_or_default();
            prop_assert!(
                out.len() >= limit
                    || lines.len() - done < BLOCK + next.len() + 1
                    || next.len() > max_line
                    || head.len() > BLOCK
            );
        }
    }
}

//! The hot path: the same tag before each line, copied and searched in one pass.
//!
//! Must not decide anything about a line: where one needs a closer look (it is too long, or the
//! input ends inside it), it is left for others. Needs no instructions beyond the baseline of the
//! target; the compiler turns the fixed-size loops into vector code.

use std::mem::MaybeUninit;

/// Bytes that are looked at together; a longer tag is left to others.
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
        let (mut at, mut to) = (done, written + head.len());
        put(spare, written, &padded);
        // Blocks without an end, then one with it.
        let length = loop {
            let Some(block) = lines[at..].first_chunk::<BLOCK>() else { break None };
            if at - done > max_line {
                break None;
            }
            put(spare, to, block);
            match newline(block) {
                None => (at, to) = (at + BLOCK, to + BLOCK),
                Some(offset) => break Some(at + offset + 1 - done),
            }
        };
        match length {
            Some(length) if length - 1 <= max_line => {
                done += length;
                written += head.len() + length;
            }
            Some(_) | None => break,
        }
    }
    // SAFETY: the first `written` bytes of the spare capacity were put there, without gaps: each
    // tag and block begins where the used part of the one before it ends.
    unsafe { out.set_len(before + written) };
    done
}

#[inline]
fn put(spare: &mut [MaybeUninit<u8>], at: usize, block: &[u8; BLOCK]) {
    spare[at..at + BLOCK].write_copy_of_slice(block);
}

/// Where the first newline is.
#[inline]
fn newline(block: &[u8; BLOCK]) -> Option<usize> {
    let any = block.iter().fold(0, |any, byte| any | u8::from(*byte == b'\n'));
    if any == 0 {
        return None;
    }
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let (words, _) = block.as_chunks::<8>();
    words.iter().enumerate().find_map(|(index, bytes)| {
        let word = u64::from_le_bytes(*bytes) ^ (ONES * u64::from(b'\n'));
        // The lowest bit that is set belongs to the first newline; higher ones may be wrong.
        let zero = word.wrapping_sub(ONES) & !word & HIGH;
        (zero != 0).then(|| index * 8 + zero.trailing_zeros() as usize / 8)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn newlines_are_found_wherever_they_are() {
        for at in 0..BLOCK {
            for other in [b'x', b'\n', 0x0b, 0x8a, 0] {
                let mut block = [b'x'; BLOCK];
                block[at] = b'\n';
                block[at + 1..].fill(other);
                assert_eq!(newline(&block), Some(at));
            }
        }
        assert_eq!(newline(&[0x0b; BLOCK]), None);
    }

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

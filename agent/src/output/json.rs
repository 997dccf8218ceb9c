//! JSON strings out of bytes that may not be text.
//!
//! Must not lose a byte: what is not UTF-8 can be had back from [`latin1`].

use super::Stream;
use super::clock::{Micros, rfc3339};
use super::{Identity, level};

/// For each byte, whether it stands for itself inside a JSON string (as part of UTF-8, if need be).
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[0x7f] = false;
    plain
};

const HEX: &[u8; 16] = b"0123456789abcdef";

fn escape(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\t' => out.extend_from_slice(b"\\t"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\n' => out.extend_from_slice(b"\\n"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Where the first byte is that does not stand for itself.
fn first_special(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // Whether a byte of the word is zero, and may also say so of one above a zero byte: that costs a
    // look at the bytes, no more. Bytes from 0x80 on are plain, and never look like less than 0x20.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, _) = text.as_chunks::<8>();
    let plain = words.iter().take_while(|bytes| {
        let word = u64::from_le_bytes(**bytes);
        let below = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let other = [b'"', b'\\', 0x7f].map(|byte| zero(word ^ (ONES * u64::from(byte))));
        below | other[0] | other[1] | other[2] == 0
    });
    let from = plain.count() * 8;
    text[from..].iter().position(|byte| !PLAIN[usize::from(*byte)]).map(|at| from + at)
}

/// Appends the inside of a JSON string, of bytes that are UTF-8.
fn utf8(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = first_special(text) {
        out.extend_from_slice(&text[..at]);
        escape(text[at], out);
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

/// Appends the inside of a JSON string. What is not UTF-8 becomes U+FFFD; says whether that was so.
pub fn text(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    if std::str::from_utf8(bytes).is_ok() {
        utf8(bytes, out);
        return false;
    }
    for chunk in bytes.utf8_chunks() {
        utf8(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    true
}

/// Appends the inside of a JSON string in which each character is one byte: U+0000 to U+00FF.
/// Encoding the string as Latin-1 gives the bytes back, whatever they were.
pub fn latin1(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            0x80.. => out.extend([0xc0 | (byte >> 6), 0x80 | (byte & 0x3f)]),
            _ if PLAIN[usize::from(*byte)] => out.push(*byte),
            _ => escape(*byte, out),
        }
    }
}

/// What the lines of one batch have in common: the object up to its level.
pub fn head(of: &Identity, stream: Stream, time: Micros, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(&rfc3339(time));
    out.push(b'"');
    if let Some(job) = &of.job {
        word("job", job, out);
    }
    number("rank", of.rank, out);
    for (name, value) in
        [("size", of.size), ("local_rank", of.local_rank), ("local_size", of.local_size)]
    {
        if let Some(value) = value {
            number(name, value, out);
        }
    }
    word("host", &of.host, out);
    word("stream", stream.name(), out);
}

fn key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn word(name: &str, value: &str, out: &mut Vec<u8>) {
    key(name, out);
    out.push(b'"');
    utf8(value.as_bytes(), out);
    out.push(b'"');
}

fn number(name: &str, value: u32, out: &mut Vec<u8>) {
    key(name, out);
    out.extend_from_slice(value.to_string().as_bytes());
}

/// One line's object: the head, the level if the line names one, and the message. `raw` is the whole
/// line where `message` is only what is left to see of it. `end` says how a line ended that did not
/// end as lines do.
pub fn line(head: &[u8], message: &[u8], raw: &[u8], end: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(head);
    if let Some(level) = level::detect(message) {
        word("level", level.name(), out);
    }
    out.extend_from_slice(b",\"msg\":\"");
    let replaced = text(message, out);
    out.push(b'"');
    if replaced || raw.len() != message.len() {
        out.extend_from_slice(b",\"raw\":\"");
        latin1(raw, out);
        out.push(b'"');
    }
    if let Some(end) = end {
        word("end", end, out);
    }
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn object(message: &[u8], raw: &[u8]) -> Value {
        let of = Identity {
            rank: 3,
            size: Some(8),
            local_rank: Some(1),
            host: "worker-1".into(),
            job: Some("a \"job\"".into()),
            ..Identity::default()
        };
        let (mut start, mut out) = (Vec::new(), Vec::new());
        head(&of, Stream::Err, Micros(1_735_787_045_678_901), &mut start);
        line(&start, message, raw, None, &mut out);
        assert_eq!(out.pop(), Some(b'\n'));
        assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn one_object_a_line() {
        assert_eq!(
            object(b"ERROR: \"x\"\t\0\x7f\\ \xc3\xa4", b"ERROR: \"x\"\t\0\x7f\\ \xc3\xa4"),
            serde_json::json!({
                "time": "2025-01-02T03:04:05.678901Z", "job": "a \"job\"", "rank": 3, "size": 8,
                "local_rank": 1, "host": "worker-1", "stream": "stderr", "level": "error",
                "msg": "ERROR: \"x\"\t\0\u{7f}\\ ä",
            })
        );
        let collapsed = object(b"2%", b"1%\r2%");
        assert_eq!((&collapsed["msg"], &collapsed["raw"]), (&"2%".into(), &"1%\r2%".into()));
        let noise = object(b"a\xff\xe2\x82z", b"a\xff\xe2\x82z");
        assert_eq!(noise["msg"], "a\u{fffd}\u{fffd}z");
        assert_eq!(noise["raw"], "a\u{ff}\u{e2}\u{82}z");
    }

    proptest! {
        #[test]
        fn every_byte_can_be_had_back(bytes: Vec<u8>) {
            let object = object(&bytes, &bytes);
            let message = object["msg"].as_str().unwrap();
            match object.get("raw") {
                Some(raw) => {
                    let raw: Vec<u8> = raw.as_str().unwrap().chars()
                        .map(|char| u8::try_from(u32::from(char)).unwrap()).collect();
                    prop_assert_eq!(raw, bytes);
                }
                None => prop_assert_eq!(message.as_bytes(), &bytes[..]),
            }
        }
    }
}

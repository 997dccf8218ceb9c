//! How serious a line says it is, read from the shapes that common loggers give their lines.
//!
//! Must not guess: a word such as "error" inside a sentence says nothing. A line of no known shape
//! has no level.

/// What a line says of itself, least serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Finer than debugging.
    Trace,
    /// For debugging.
    Debug,
    /// All is well.
    Info,
    /// Worth a look.
    Warning,
    /// Something failed.
    Error,
    /// The program cannot go on.
    Fatal,
}

impl Level {
    /// As it stands in JSON and templates.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    fn of_word(word: &[u8]) -> Option<Self> {
        WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, level)| *level)
    }
}

const WORDS: [(&[u8], Level); 10] = [
    (b"TRACE", Level::Trace),
    (b"DEBUG", Level::Debug),
    (b"INFO", Level::Info),
    (b"NOTICE", Level::Info),
    (b"WARN", Level::Warning),
    (b"WARNING", Level::Warning),
    (b"ERROR", Level::Error),
    (b"FATAL", Level::Fatal),
    (b"CRITICAL", Level::Fatal),
    (b"SEVERE", Level::Error),
];

/// No header is longer; what comes later is the message.
const HEADER: usize = 200;

/// Fields of a header that starts with a time, what closes them counted; `date time - logger - LEVEL` has four
/// after its time.
const HEADER_FIELDS: usize = 8;

/// The level that a line names, if it has one of the known shapes.
#[must_use]
pub fn detect(line: &[u8]) -> Option<Level> {
    let line = &line[..line.len().min(HEADER)];
    let line = without_colours(line);
    let line = line.trim_ascii_start();
    json(line)
        .or_else(|| glog(line))
        .or_else(|| leading_word(line))
        .or_else(|| nccl(line))
        .or_else(|| bracketed(line))
        .or_else(|| after_time(line))
}

/// Drops an SGR sequence at the beginning: loggers colour the level word.
fn without_colours(mut line: &[u8]) -> &[u8] {
    while let Some(rest) = line.strip_prefix(b"\x1b[") {
        match rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b';')) {
            Some(at) if rest[at] == b'm' => line = &rest[at + 1..],
            _ => break,
        }
    }
    line
}

/// `{"level":"error",…}`, with the names that zap, pino, structlog, logrus and Google Cloud use.
fn json(line: &[u8]) -> Option<Level> {
    let mut rest = line.strip_prefix(b"{")?;
    // Objects and lists inside say nothing about the line.
    let mut depth = 1u32;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1).filter(|depth| *depth > 0)?,
            b'"' => {
                let (name, after) = string(rest)?;
                rest = after.trim_ascii_start();
                let Some(value) = rest.strip_prefix(b":") else { continue };
                if depth == 1 && matches!(name, b"level" | b"levelname" | b"severity") {
                    let value = value.trim_ascii_start().strip_prefix(b"\"")?;
                    return Level::of_word(string(value)?.0);
                }
            }
            _ => {}
        }
    }
    None
}

/// The inside of a JSON string, up to its closing quote, and what follows that.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some((&text[..at], &text[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// `E0102 03:04:05.678901 123 file.cc:12] …`; PyTorch puts it into brackets, after its rank.
fn glog(mut line: &[u8]) -> Option<Level> {
    if let Some(rest) = line.strip_prefix(b"[rank") {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        line = rest[digits..].strip_prefix(b"]:")?;
    }
    line = line.strip_prefix(b"[").unwrap_or(line);
    let level = match line.first()? {
        b'I' => Level::Info,
        b'W' => Level::Warning,
        b'E' => Level::Error,
        b'F' => Level::Fatal,
        _ => return None,
    };
    // Month and day, with a year before them where glog is told so.
    let digits = line[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let time = line[1 + digits..].strip_prefix(b" ")?;
    let clock = time.len() >= 8 && time[2] == b':' && time[5] == b':' && time[0].is_ascii_digit();
    (matches!(digits, 4 | 8) && clock).then_some(level)
}

/// `ERROR: …`, and Python's default `ERROR:logger:…`.
fn leading_word(line: &[u8]) -> Option<Level> {
    let end = line.iter().take(10).position(|byte| *byte == b':')?;
    Level::of_word(&line[..end])
}

/// `host:123:456 [0] NCCL INFO …`, and a warning with its place in the source:
/// `host:123:456 [0] include/socket.h:403 NCCL WARN …`; a time may stand before either.
fn nccl(line: &[u8]) -> Option<Level> {
    let at = memchr::memmem::find(line, b" NCCL ")?;
    let (head, words) = (&line[..at], &line[at + b" NCCL ".len()..]);
    let after = memchr::memrchr(b']', head)? + 1;
    let device = head[..after - 1].rsplit(|byte| *byte == b'[').next()?;
    let number = !device.is_empty() && device.iter().all(|byte| matches!(byte, b'-' | b'0'..=b'9'));
    let place = head[after..].trim_ascii();
    if !number || !(place.is_empty() || is_source(place)) {
        return None;
    }
    capitals(words.split(u8::is_ascii_whitespace).next()?)
}

/// `include/socket.h:403`.
fn is_source(word: &[u8]) -> bool {
    let digits = word.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let file = word[..word.len() - digits].strip_suffix(b":");
    digits > 0
        && file.is_some_and(|file| !file.is_empty() && !file.iter().any(u8::is_ascii_whitespace))
}

/// `[ERROR] …`, also after other brackets: `[2025-01-02 03:04:05,678] [ERROR] [engine.py:1] …`.
fn bracketed(mut line: &[u8]) -> Option<Level> {
    while let Some(rest) = line.strip_prefix(b"[") {
        let end = rest.iter().position(|byte| *byte == b']')?;
        if let Some(level) = Level::of_word(rest[..end].trim_ascii()) {
            return Some(level);
        }
        line = rest[end + 1..].trim_ascii_start();
    }
    None
}

/// A time first, then the level in capitals. Between them may stand what is in brackets, one word that ` - `
/// or ` | ` closes, and a place in the source with what UCX calls its component; no other words.
fn after_time(line: &[u8]) -> Option<Level> {
    let mut rest = time(line.strip_prefix(b"[").unwrap_or(line))?;
    for _ in 0..HEADER_FIELDS {
        rest = without_colours(rest.trim_ascii_start());
        if let Some(after) = rest.strip_prefix(b"[") {
            let end = memchr::memchr(b']', after)?;
            if let Some(level) = capitals(after[..end].trim_ascii()) {
                return Some(level);
            }
            rest = &after[end + 1..];
            continue;
        }
        if let Some((b'|' | b'-' | b']', after)) = rest.split_first() {
            rest = after;
            continue;
        }
        let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'|' | b']' | b'\x1b');
        let (word, after) = rest.split_at(rest.iter().position(ends).unwrap_or(rest.len()));
        if let Some(level) = capitals(word.strip_suffix(b":").unwrap_or(word)) {
            return Some(level);
        }
        let next = after.trim_ascii_start();
        rest = if is_source(word) {
            next.strip_prefix(b"UCX ").unwrap_or(next)
        } else if next.starts_with(b"- ") || next.starts_with(b"|") {
            next
        } else {
            return None;
        };
    }
    None
}

/// What follows a time: a date and a clock, a clock alone, or seconds since 1970 with a fraction.
fn time(line: &[u8]) -> Option<&[u8]> {
    let of = |pattern: &[u8], line: &[u8]| {
        let same = |(wanted, byte): (&u8, &u8)| match wanted {
            b'0' => byte.is_ascii_digit(),
            b'T' => matches!(byte, b'T' | b' ' | b'_'),
            b'-' => matches!(byte, b'-' | b'/'),
            wanted => wanted == byte,
        };
        line.len() >= pattern.len() && pattern.iter().zip(line).all(same)
    };
    let known = [&b"0000-00-00T00:00:00"[..], b"00-00-00T00:00:00", b"00:00:00", b"0000000000."];
    let length = known.into_iter().find(|pattern| of(pattern, line))?.len();
    let more = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b',' | b':' | b'+' | b'-' | b'Z');
    let rest = &line[length..];
    let rest = &rest[rest.iter().take_while(|byte| more(byte)).count()..];
    // Whose clock it is may be a word of its own.
    if of(b" +0000", rest) {
        return Some(&rest[6..]);
    }
    Some(rest.strip_prefix(b" UTC").unwrap_or(rest))
}

fn capitals(word: &[u8]) -> Option<Level> {
    if word.iter().all(u8::is_ascii_uppercase) { Level::of_word(word) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for (line, level) in [
            ("ERROR: no such file", Some("error")),
            ("error: expected ';'", Some("error")),
            ("Warning: deprecated", Some("warning")),
            ("ERROR:root:it failed", Some("error")),
            ("CRITICAL:app.core:gone", Some("fatal")),
            ("2025-01-02 03:04:05,678 - train - WARNING - slow", Some("warning")),
            ("2025-01-02 03:04:05,678 INFO train: step 3", Some("info")),
            ("2025-01-02T03:04:05.678Z  WARN app::io: retry", Some("warning")),
            ("[2025-01-02T03:04:05Z ERROR app] gone", Some("error")),
            ("2025-01-02 03:04:05.678 | DEBUG    | m:f:1 - x", Some("debug")),
            ("[2025-01-02 03:04:05,678] [INFO] [engine.py:100:init] x", Some("info")),
            ("[WARNING] careful", Some("warning")),
            ("\x1b[31mERROR\x1b[0m: x", None),
            ("\x1b[31mERROR: x\x1b[0m", Some("error")),
            ("E0102 03:04:05.678901 123 file.cc:12] x", Some("error")),
            ("I20250102 03:04:05.678901 123 file.cc:12] x", Some("info")),
            ("[W1102 12:34:56.789 TCPStore.cpp:1] x", Some("warning")),
            ("[rank0]:[E1102 12:34:56.789 ProcessGroupNCCL.cpp:1] x", Some("error")),
            ("pi-worker-0:12:34 [0] NCCL WARN Call to connect failed", Some("warning")),
            ("pi-worker-0:12:34 [0] NCCL INFO Bootstrap", Some("info")),
            (
                "w-0:12:34 [0] include/socket.h:403 NCCL WARN Connect to 10.0.0.1 failed",
                Some("warning"),
            ),
            ("[2025-01-02 03:04:05] w-0:12:34 [1] init.cc:403 NCCL WARN x", Some("warning")),
            ("w-0:12:34 [0] we saw NCCL WARN twice", None),
            ("see [here] NCCL WARN", None),
            ("[1700000000.123456] [w0:1:0] ucp_worker.c:1855 UCX  ERROR x", Some("error")),
            (r#"{"ts":1,"level":"error","msg":"x"}"#, Some("error")),
            (r#"{"severity": "WARNING"}"#, Some("warning")),
            ("12:34:56 ERROR x", Some("error")),
            ("an ERROR: in the middle", None),
            ("no error here", None),
            ("errors: 3", None),
            ("E0102 is a room", None),
            ("Everything", None),
            ("loss 0.5 INFO", None),
            ("2025 ERROR", None),
            ("2025-01-02 the error rate is 3", None),
            ("2025-01-02 visit our INFO desk", None),
            ("2025-01-02 03:04:05 visit our INFO desk", None),
            ("2025-01-02 03:04:05 - visit our - INFO desk", None),
            ("12:30 INFO desk", None),
            ("2025-01-02 03:04:05.678 UTC [12] ERROR:  relation", Some("error")),
            ("2025-01-02 03:04:05,678 [main] INFO  com.foo - x", Some("info")),
            ("25/01/02 03:04:05 WARN TaskSetManager: x", Some("warning")),
            ("2025-01-02 03:04:05,678 train.py:12 ERROR x", Some("error")),
            ("2025-01-02 03:04:05 \x1b[32mINFO\x1b[0m x", Some("info")),
            (r#"{"msg":"x","ctx":{"level":"error"}}"#, None),
            (r#"{"ctx":{"level":"error"},"level":"info"}"#, Some("info")),
            (r#"{"msg":"\"level\":\"error\"","l":["level"]}"#, None),
            (r#"{"msg":"a \" b","level": "warn"}"#, Some("warning")),
            (r#"{"level":30,"msg":"x"}"#, None),
            (r#"{"level"#, None),
            ("{\"msg\":\"level\"}", None),
            ("[0] x", None),
            ("[unclosed", None),
            ("", None),
        ] {
            assert_eq!(detect(line.as_bytes()).map(Level::name), level, "{line}");
        }
    }
}

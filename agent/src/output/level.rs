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

/// Words of a header that starts with a time; `date time - logger - LEVEL` has six.
const HEADER_WORDS: usize = 8;

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
    if !line.starts_with(b"{") {
        return None;
    }
    [&b"\"level\""[..], b"\"levelname\"", b"\"severity\""].into_iter().find_map(|name| {
        let at = memchr::memmem::find(line, name)?;
        let value = line[at + name.len()..].trim_ascii_start().strip_prefix(b":")?;
        let value = value.trim_ascii_start().strip_prefix(b"\"")?;
        Level::of_word(value.split(|byte| *byte == b'"').next()?)
    })
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

/// `host:123:456 [0] NCCL WARN …`.
fn nccl(line: &[u8]) -> Option<Level> {
    let at = memchr::memchr(b']', line)?;
    let words = line[at + 1..].strip_prefix(b" NCCL ")?;
    capitals(words.split(u8::is_ascii_whitespace).next()?)
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

/// A time first, then the level in capitals among the words that follow.
fn after_time(line: &[u8]) -> Option<Level> {
    let start = line.strip_prefix(b"[").unwrap_or(line);
    let digits = start.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after = start.get(digits)?;
    // A date, a clock, or seconds since 1970.
    let time = matches!((digits, after), (4, b'-' | b'/') | (2, b':') | (10, b'.'));
    if !time {
        return None;
    }
    let words = line.split(|byte| byte.is_ascii_whitespace() || matches!(byte, b'|' | b'[' | b']'));
    let words = words.map(without_colours).filter(|word| !word.is_empty());
    words.take(HEADER_WORDS).find_map(|word| {
        let word = word.split(|byte| matches!(byte, b':' | b'\x1b')).next()?;
        capitals(word)
    })
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
            ("{\"msg\":\"level\"}", None),
            ("[0] x", None),
            ("[unclosed", None),
            ("", None),
        ] {
            assert_eq!(detect(line.as_bytes()).map(Level::name), level, "{line}");
        }
    }
}

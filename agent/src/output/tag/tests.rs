use super::super::split::Splitter;
use super::*;

const TIME: Micros = Micros(1_735_787_045_678_901);

fn identity(rank: u32, size: Option<u32>) -> Identity {
    Identity { rank, size, local_rank: Some(1), host: "worker-1".into(), ..Identity::default() }
}

fn style(format: &str) -> Style {
    Style {
        format: format.parse().unwrap(),
        timestamps: false,
        color: false,
        returns: Returns::Collapse,
        max_line: 16,
    }
}

/// What comes out of `bytes` that arrive in chunks of `size`.
fn tagged(of: &Identity, style: &Style, bytes: &[u8], size: usize) -> String {
    let mut tagger = Tagger::new(of.clone(), style.clone()).unwrap();
    let mut splitter = Splitter::new(style.rule());
    let mut out = Vec::new();
    let mut write = |batch: Batch<'_>, out: &mut Vec<u8>| {
        let mut tagging = tagger.tag(batch, Stream::Out, TIME);
        // The least limit there is: one line at a time.
        let mut limit = 1;
        while tagging.write(limit, out) {
            limit = out.len() + 1;
        }
    };
    for chunk in bytes.chunks(size) {
        splitter.space()[..chunk.len()].copy_from_slice(chunk);
        splitter.filled(chunk.len());
        while let Some(batch) = splitter.batch() {
            write(batch, &mut out);
        }
    }
    if let Some(batch) = splitter.rest() {
        write(batch, &mut out);
    }
    String::from_utf8(out).unwrap()
}

fn check(of: &Identity, style: &Style, bytes: &str, expected: &str) {
    for size in 1..=bytes.len() {
        let out = tagged(of, style, bytes.as_bytes(), size);
        assert_eq!(out, expected, "{bytes:?} as {:?} in chunks of {size}", style.format);
    }
}

#[test]
fn formats() {
    let of = identity(3, Some(16));
    for (format, expected) in [
        ("prefix", "[rank  3|worker-1] a\n[rank  3|worker-1] \n[rank  3|worker-1] b\n"),
        ("short", "[ 3] a\n[ 3] \n[ 3] b\n"),
        ("none", "a\n\nb"),
        ("{rank}/{size} {host}: ", "3/16 worker-1: a\n3/16 worker-1: \n3/16 worker-1: b\n"),
        (
            "{local_rank:3} {local_size} {job} {stream:7}|",
            "  1 ? ? stdout |a\n  1 ? ? stdout |\n  1 ? ? stdout |b\n",
        ),
        ("<{level:5}> ", "<-    > a\n<-    > \n<-    > b\n"),
    ] {
        check(&of, &style(format), "a\n\nb", expected);
    }
    check(&of, &style("{level}: "), "ERROR: x\nfine\n", "error: ERROR: x\n-: fine\n");
    let timed = Style { timestamps: true, ..style("short") };
    check(&of, &timed, "a\n", "2025-01-02T03:04:05.678901Z [ 3] a\n");
    check(
        &of,
        &Style { timestamps: true, ..style("none") },
        "a",
        "2025-01-02T03:04:05.678901Z a\n",
    );
    check(&of, &style("{time} "), "a\n", "2025-01-02T03:04:05.678901Z a\n");
    let coloured = Style { color: true, ..style("prefix") };
    check(&of, &coloured, "a\n", "\x1b[35m[rank  3|worker-1]\x1b[0m a\n");
}

#[test]
fn tags_are_as_wide_as_the_last_ranks() {
    for (rank, size, tag) in [
        (0, Some(1), "[0] "),
        (0, Some(10), "[0] "),
        (0, Some(11), "[ 0] "),
        (7, Some(1000), "[  7] "),
        (12, None, "[12] "),
        (12, Some(0), "[12] "),
    ] {
        check(&identity(rank, size), &style("short"), "a\n", &format!("{tag}a\n"));
    }
}

#[test]
fn carriage_returns() {
    let bar = "\r 1%\r 50%\r100%\n1%\r2%\r\nend\r\n\r\r\n";
    let keep = |format| Style { returns: Returns::Keep, ..style(format) };
    let of = identity(3, Some(4));
    for (style, expected) in [
        (style("short"), "[3] 100%\n[3] 2%\n[3] end\n[3] \n"),
        (style("none"), "100%\n2%\nend\n\n"),
        (
            keep("short"),
            "[3] \r[3]  1%\r[3]  50%\r[3] 100%\n[3] 1%\r[3] 2%\r\n[3] end\r\n[3] \r[3] \r\n",
        ),
        (keep("none"), bar),
    ] {
        check(&of, &style, bar, expected);
    }
}

#[test]
fn lines_without_end() {
    let long = "0123456789abcdefg\nhijklm";
    let of = identity(0, Some(2));
    check(
        &of,
        &style("short"),
        long,
        &format!("[0] 0123456789abcdef{CUT_MARK}\n[0] g\n[0] hijklm\n"),
    );
    check(&of, &style("none"), long, long);
    let json = tagged(&of, &style("json"), long.as_bytes(), 5);
    let ends: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ends: Vec<_> =
        ends.iter().map(|line| (line["msg"].as_str(), line["end"].as_str())).collect();
    assert_eq!(
        ends,
        [(Some("0123456789abcdef"), Some("cut")), (Some("g"), None), (Some("hijklm"), Some("eof"))]
    );
}

#[test]
fn json_shows_the_last_state_and_keeps_the_line() {
    let bar = "1%\r2%\r\n";
    let of = identity(3, None);
    let head = r#"{"time":"2025-01-02T03:04:05.678901Z","rank":3,"local_rank":1,"host":"worker-1","stream":"stdout","#;
    check(&of, &style("json"), bar, &format!("{head}\"msg\":\"2%\",\"raw\":\"1%\\r2%\\r\"}}\n"));
    let keep = Style { returns: Returns::Keep, ..style("json") };
    check(
        &of,
        &keep,
        bar,
        &format!(
            "{head}\"msg\":\"1%\",\"end\":\"return\"}}\n{head}\"msg\":\"2%\",\"end\":\"return\"}}\n\
             {head}\"msg\":\"\"}}\n"
        ),
    );
}

#[test]
fn json_with_every_state_gives_every_byte_back() {
    let keep = Style { returns: Returns::Keep, ..style("json") };
    for text in ["a\r\nb\r\n1\r2\r\n", "a\nb\r", "\r\r\n\n", "0123456789abcdefghij\rk", "a\r\nb\n"]
    {
        for size in 1..=text.len() {
            let out = tagged(&identity(0, None), &keep, text.as_bytes(), size);
            let back: String = out
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                .map(|line| {
                    let end = match line["end"].as_str() {
                        None => "\n",
                        Some("return") => "\r",
                        Some("cut" | "eof") => "",
                        Some(end) => panic!("{end}"),
                    };
                    line["msg"].as_str().unwrap().to_owned() + end
                })
                .collect();
            assert_eq!(back, text, "in chunks of {size}");
        }
    }
}

#[test]
fn formats_are_read_and_written() {
    for text in ["prefix", "short", "json", "none", "{rank}: "] {
        let format: Format = text.parse().unwrap();
        assert_eq!(String::from(format.clone()), text);
        let json = serde_json::to_string(&format).unwrap();
        assert_eq!(serde_json::from_str::<Format>(&json).unwrap(), format);
    }
    assert_eq!(
        "prefx".parse::<Format>().unwrap_err().to_string(),
        "tag lines by 'prefx': no format has that name, and a template needs a {field}"
    );
    assert!(matches!("{rnk}".parse::<Format>(), Err(FormatError::Template(_))));
}

#[test]
fn many_lines_at_once() {
    // Long enough for the quick way; some beyond the bound, and one that does not end.
    let style = Style { max_line: 1000, ..style("short") };
    let of = identity(3, None);
    let lengths = (0..300usize).map(|i| i * 7 % 90).chain([1000, 1001, 5, 2500, 0, 80]);
    let text: String = lengths.map(|length| format!("{}\n", "x".repeat(length))).collect();
    let text = text + &"y".repeat(500);
    let mut expected = String::new();
    for line in text.lines() {
        let mut rest = line;
        while rest.len() > 1000 {
            expected += &format!("[3] {}{CUT_MARK}\n", &rest[..1000]);
            rest = &rest[1000..];
        }
        expected += &format!("[3] {rest}\n");
    }
    for size in [1, 100, 4000, 100_000] {
        assert!(tagged(&of, &style, text.as_bytes(), size) == expected, "in chunks of {size}");
    }
    let mut tagger = Tagger::new(of, style).unwrap();
    let batch = Batch { bytes: text.as_bytes(), end: End::Eof };
    let mut out = Vec::new();
    let mut tagging = tagger.tag(batch, Stream::Out, TIME);
    while tagging.write(out.len() + 3000, &mut out) {}
    assert!(out == expected.as_bytes());
}

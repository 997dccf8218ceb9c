//! What hostfiles may say, and what is said about those that may not.

use std::io::Write as _;

use super::{HostfileError, MAX_BYTES, MAX_HOSTS, parse, parse_list, read};
use crate::discovery::HostSpec;
use crate::exit::{Class, Explain as _};

/// One host as a line, so that tables stay readable: `name slots max port user`.
fn brief(hosts: &[HostSpec]) -> Vec<String> {
    fn or_dash<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }
    let line = |host: &HostSpec| {
        let HostSpec { name, slots, max_slots, port, user } = host;
        let user = or_dash(user.clone());
        let (slots, max, port) = (or_dash(*slots), or_dash(*max_slots), or_dash(*port));
        format!("{name} {slots} {max} {port} {user}")
    };
    hosts.iter().map(line).collect()
}

#[test]
fn every_dialect() {
    for (text, expected) in [
        ("a slots=4\nb slots=2\n", &["a 4 - - -", "b 2 - - -"][..]),
        ("a:4\nb:2", &["a 4 - - -", "b 2 - - -"]),
        ("a\nb", &["a - - - -", "b - - - -"]),
        ("a slots=4 max_slots=8 port=2222 user_name=bob", &["a 4 8 2222 bob"]),
        ("a max-slots=8 username=bob", &["a - 8 - bob"]),
        ("a slots = 4  max_slots =8 port= 22", &["a 4 8 22 -"]),
        ("bob@a:3 port=2222", &["a 3 - 2222 bob"]),
        ("# head\r\n\r\n  a \t slots=4 # why\r\n\t\n#b\r\n", &["a 4 - - -"]),
        (
            "[fd77::1]:4\nfd77::2\nfd77::3 slots=2",
            &["fd77::1 4 - - -", "fd77::2 - - - -", "fd77::3 2 - - -"],
        ),
        ("a\nb\na\na\na", &["a 4 - - -", "b - - - -"]),
        ("a:1\nb:1\na:1\nb:1", &["a 2 - - -", "b 2 - - -"]),
        ("a slots=2\na slots=2", &["a 2 - - -"]),
        ("a\nA", &["a - - - -", "A - - - -"]),
        ("\u{feff}a slots=1", &["a 1 - - -"]),
        (
            "pi-launcher.pi.default.svc slots=1\npi-worker-0.pi.default.svc slots=1\n",
            &["pi-launcher.pi.default.svc 1 - - -", "pi-worker-0.pi.default.svc 1 - - -"],
        ),
    ] {
        assert_eq!(brief(&parse(text.as_bytes()).unwrap()), expected, "{text:?}");
    }
}

#[test]
fn lists_share_the_grammar() {
    let hosts = parse_list("a, b:4,bob@c,,[fd77::1]:2").unwrap();
    assert_eq!(brief(&hosts), ["a - - - -", "b 4 - - -", "c - - - bob", "fd77::1 2 - - -"]);
    let error = parse_list("a,b:0,a:2").unwrap_err();
    assert_eq!(
        error.to_string(),
        "entry 2: 'b:0': expected a number of slots from 1 to 4294967295\n  \
         entry 3: 'a': 2 slots for a host that has no slots on entry 1"
    );
}

#[test]
fn all_bad_lines_are_reported_at_once() {
    let error = parse(
        b"a slots=0\nb slots=-1\nc slots=99999999999\nd slots=\ne cores=4\nf 4\n-x\n\xff\xfe\n\
          g port=70000\nh user_name=-l\ni:4 slots=4\nj slots=4 max_slots=2\nk slots=2\nk slots=4\n\
          good slots=1\nevil\x1b[2J\nl slots 4\nm =4\n",
    )
    .unwrap_err();
    assert_eq!(error.class(), Class::Config);
    assert!(error.hint().unwrap().contains("host slots=4"));
    let expected = [
        "line 1: 'slots=0': expected a number of slots from 1 to 4294967295",
        "line 2: 'slots=-1': expected a number of slots from 1 to 4294967295",
        "line 3: 'slots=99999999999': expected a number of slots from 1 to 4294967295",
        "line 4: 'slots=': expected a number of slots from 1 to 4294967295",
        "line 5: 'cores=4': expected slots=, max_slots=, port= or user_name=",
        "line 6: '4': expected slots=, max_slots=, port= or user_name=",
        "line 7: '-x': expected a host name of letters, digits, '-', '_' and '.', or an IP address",
        "line 8: '\u{fffd}\u{fffd}': expected text in UTF-8",
        "line 9: 'port=70000': expected a port from 1 to 65535",
        "line 10: 'user_name=-l': expected a user name of letters, digits, '.', '_', '-', not \
         starting with '-'",
        "line 11: 'slots=4': expected it once for each line",
        "line 12: 'max_slots=2': expected max_slots to be no smaller than slots",
        "line 14: 'k': 4 slots for a host that has 2 slots on line 13",
        "line 16: 'evil\\u{1b}[2J': expected a host name of letters, digits, '-', '_' and '.', or \
         an IP address",
        "line 17: 'slots': expected slots=, max_slots=, port= or user_name=",
        "line 18: '=': expected slots=, max_slots=, port= or user_name=",
    ];
    assert_eq!(error.to_string(), expected.join("\n  "));
}

#[test]
fn long_reports_are_cut() {
    let error = parse("w slots=0\n".repeat(100).as_bytes()).unwrap_err();
    assert!(error.to_string().ends_with("\n  and 80 more"), "{error}");
    let error = parse("x".repeat(10_000).as_bytes()).unwrap_err();
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn nothing_in_it() {
    for text in ["", "\n\n", "# only words\n", "\r\n \t"] {
        assert!(matches!(parse(text.as_bytes()), Err(HostfileError::Empty)), "{text:?}");
    }
    assert!(matches!(parse_list(" ,"), Err(HostfileError::Empty)));
}

#[test]
fn sizes_are_bounded() {
    let many: String = (0..=MAX_HOSTS).map(|index| format!("w-{index}\n")).collect();
    assert!(matches!(parse(many.as_bytes()), Err(HostfileError::TooManyHosts)));
    let exactly = many.rsplit_once("w-").unwrap().0;
    assert_eq!(parse(exactly.as_bytes()).unwrap().len(), MAX_HOSTS);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostfile");
    let mut file = std::fs::File::create(&path).unwrap();
    writeln!(file, "w-0").unwrap();
    file.set_len(MAX_BYTES + 1).unwrap();
    assert!(matches!(read(&path), Err(HostfileError::TooLarge)));
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none"), folder.path().to_owned()] {
        let error = read(&path).unwrap_err();
        assert!(matches!(error, HostfileError::Unreadable(_)), "{error}");
        assert!(error.hint().is_some());
    }
}

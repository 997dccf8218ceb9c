use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

fn read(line: &str) -> Option<Vec<String>> {
    let words = words(line.as_bytes())?.into_iter();
    Some(words.map(|word| word.into_string().unwrap()).collect())
}

#[test]
fn what_the_launchers_send() {
    // Open MPI 4, MPICH and Intel MPI, shortened.
    for (line, words) in [
        (
            r#" orted -mca ess "env" -mca orte_hnp_uri "1;tcp://10.0.0.1:4" -mca plm "rsh" --tree-spawn"#,
            "orted|-mca|ess|env|-mca|orte_hnp_uri|1;tcp://10.0.0.1:4|-mca|plm|rsh|--tree-spawn",
        ),
        (
            r#""/usr/bin/hydra_pmi_proxy" --control-port w0:40291 --rmk user --pgid 0"#,
            "/usr/bin/hydra_pmi_proxy|--control-port|w0:40291|--rmk|user|--pgid|0",
        ),
        (
            "/opt/intel/bin//hydra_bstrap_proxy --upstream-host w0 --tree-width 16",
            "/opt/intel/bin//hydra_bstrap_proxy|--upstream-host|w0|--tree-width|16",
        ),
        ("a ''\t\"\"'$x'\"'\" ", "a||$x'"),
        ("'/a b/c' a=b A='b c'd", "/a b/c|a=b|A=b cd"),
    ] {
        let words: Vec<String> = words.split('|').map(str::to_owned).collect();
        assert_eq!(read(line), Some(words), "{line}");
    }
}

#[test]
fn what_is_for_a_shell() {
    for line in [
        "",
        " ",
        "''",
        "PATH=/usr/bin:$PATH ; export PATH ; /usr/bin/orted",
        "PRTE_PREFIX=/opt;export PRTE_PREFIX;/opt/bin/prted",
        "( test ! -r ./.profile || . ./.profile; orted )",
        "A=1 orted",
        "'A=1' orted",
        "bin/orted",
        "./orted",
        "-orted",
        "%1",
        "cd /tmp",
        "'cd' /tmp",
        ". file",
        "'['",
        "orted $x",
        "orted \"$x\"",
        "orted `x`",
        "orted \"`x`\"",
        "orted a\\ b",
        "orted \"a\\b\"",
        "orted > x",
        "orted 2>x",
        "orted < x",
        "orted &",
        "orted | cat",
        "orted *",
        "orted ?",
        "orted [a]",
        "orted ~",
        "orted {a,b}",
        "orted # x",
        "orted\ntrue",
        "orted 'a\nb'",
        "orted \"a",
        "orted 'a",
        "orted é",
        "orted \0",
    ] {
        assert_eq!(read(line), None, "{line:?}");
    }
}

fn said(shell: &str, script: &OsStr) -> Vec<u8> {
    let mut shell = Command::new(shell);
    shell.arg("-c").arg(script).env_clear().current_dir("/").stdin(Stdio::null());
    let output = shell.output().unwrap();
    assert!(output.stderr.is_empty(), "{script:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The shells of this machine that may be a /bin/sh.
fn shells() -> impl Iterator<Item = &'static str> {
    ["/bin/sh", "/bin/dash", "/bin/bash"].into_iter().filter(|sh| std::path::Path::new(sh).exists())
}

#[test]
fn nothing_that_a_shell_does_itself_is_started() {
    let of_bash = "type compgen >/dev/null 2>&1 && compgen -b -k; true";
    let mut names: Vec<String> = Vec::new();
    for shell in shells().filter(|shell| shell.ends_with("bash")) {
        let said = String::from_utf8(said(shell, OsStr::new(of_bash))).unwrap();
        names.extend(said.lines().map(str::to_owned));
        assert!(names.len() > 50, "{names:?}");
    }
    // What is no file anywhere and still known, of all that is a program or a word of any shell.
    names.extend(OF_SHELLS.split(' ').map(str::to_owned));
    assert!(names.iter().all(|name| read(name).is_none()), "{names:?}");
    for directory in ["/bin", "/usr/bin"] {
        let files = std::fs::read_dir(directory).unwrap().flatten();
        names.extend(files.filter_map(|file| file.file_name().into_string().ok()));
    }
    names.retain(|name| read(name).is_some());
    names.sort();
    names.dedup();
    assert!(names.contains(&"ls".to_owned()));
    // No argument may have more than 128 KiB (execve(2)), and no file's name more than 255 bytes.
    for (shell, names) in shells().flat_map(|shell| names.chunks(500).map(move |of| (shell, of))) {
        let names = names.join(" ");
        let known = format!("PATH=/none; type {names} 2>/dev/null | /bin/grep -v 'not found'");
        assert_eq!(String::from_utf8(said(shell, OsStr::new(&known))).unwrap(), "", "{shell}");
    }
}

/// Pieces of command lines: most mean nothing, any may.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        8 => "[a-z0-9%+,./:=@_-]{1,4}".prop_map(String::into_bytes),
        4 => Just(b" ".to_vec()),
        1 => Just(b"\t".to_vec()),
        2 => "\"[ -~]{0,4}\"".prop_map(String::into_bytes),
        2 => "'[ -~]{0,4}'".prop_map(String::into_bytes),
        1 => prop::collection::vec(1..=255u8, 1),
    ];
    prop::collection::vec(pieces, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_plain_line_is_what_a_shell_makes_of_it(line in line()) {
        let Some(words) = words(&[b"p ", line.as_slice()].concat()) else { return Ok(()) };
        let expected: Vec<u8> =
            words[1..].iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        // A marker, because printf without words still prints once.
        let script = [br"printf '%s\0' first ", line.as_slice()].concat();
        for shell in shells() {
            let said = said(shell, OsStr::from_bytes(&script));
            prop_assert_eq!(said.strip_prefix(b"first\0"), Some(&expected[..]), "{}", shell);
        }
    }
}

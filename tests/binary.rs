//! Promise: muster is one file that needs no other, small, and explains itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lab::{Cmd, Host, HostSpec, Lab, Output};
use muster_tests::{LONG, muster};

/// The most that a release may weigh, a little above what it does, so that a heavy crate is seen when it comes; and
/// what builds for work in between may.
const RELEASE: usize = 8_500_000;
const OTHER: usize = 40_000_000;

const SUBCOMMANDS: [&str; 11] = [
    "launch",
    "worker",
    "rsh",
    "sshd",
    "hosts",
    "wait",
    "devices",
    "install",
    "lint-image",
    "completions",
    "man",
];

fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    let bytes = &bytes[at..at + length];
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[test]
fn it_is_static_and_small() {
    let elf = std::fs::read(muster()).unwrap();
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "64 bits, little endian");
    assert_eq!(number(&elf, 16, 2), 3, "ET_DYN: loaded at any address");
    let (table, size, count) = (number(&elf, 32, 8), number(&elf, 54, 2), number(&elf, 56, 2));
    let headers = (0..count).map(|index| table + index * size);
    let mut dynamic = false;
    for header in headers {
        let kind = number(&elf, header, 4);
        assert_ne!(kind, 3, "PT_INTERP: it needs a loader");
        if kind == 2 {
            dynamic = true;
            let (start, length) = (number(&elf, header + 8, 8), number(&elf, header + 32, 8));
            let tags = elf[start..start + length].chunks(16);
            let tags: Vec<usize> = tags.map(|entry| number(entry, 0, 8)).collect();
            assert!(!tags.contains(&1), "DT_NEEDED: it needs a library");
        }
    }
    assert!(dynamic, "PT_DYNAMIC: it can be relocated");
    let is_release = muster().parent().unwrap().ends_with("release");
    let limit = if is_release { RELEASE } else { OTHER };
    assert!(elf.len() < limit, "{} bytes", elf.len());
}

fn host(lab: &Lab) -> Host {
    lab.boot_idle([HostSpec::new("h")]).unwrap().remove(0)
}

fn run(host: &Host, line: &str) -> Output {
    let line = format!("muster() {{ {} \"$@\"; }}\n{line}", muster().display());
    host.run(Cmd::new("bash").args(["-c", &line]).as_lab(), LONG).unwrap()
}

#[test]
fn it_runs_where_there_is_no_other_file() {
    let lab = Lab::new().unwrap();
    let host = host(&lab);
    let binary = muster().display().to_string();
    let output = run(
        &host,
        &format!(
            "mkdir /tmp/root; cp {binary} /tmp/root/m; cd /tmp/root\n\
             empty='env -i /usr/sbin/chroot /tmp/root /m'\n\
             $empty --version && $empty launch --help | head -n 1 && $empty man >/dev/null; echo $?\n\
             $empty worker; echo $?; ls /tmp/root"
        ),
    );
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0].starts_with("muster 0."), "{output:?}");
    assert!(lines[0].ends_with(')'), "with the commit: {output:?}");
    assert!(lines[1].starts_with("Finds the workers"), "{output:?}");
    assert_eq!(lines[2..], ["0", "88", "m"], "{output:?}");
    assert!(output.stderr.contains("failed to find the job's key"), "{output:?}");
}

#[test]
fn each_subcommand_has_help_with_examples_and_a_page() {
    let lab = Lab::new().unwrap();
    let host = host(&lab);
    for name in SUBCOMMANDS.into_iter().map(Some).chain([None]) {
        let name = name.unwrap_or_default();
        let output = run(&host, &format!("muster {name} --help"));
        assert!(output.success() && output.stderr.is_empty(), "{name}: {output:?}");
        // The first paragraph says more than the list of subcommands does. (rsh and sshd read -h as OpenSSH.)
        let help = if ["rsh", "sshd"].contains(&name) { "--help" } else { "-h" };
        let short = run(&host, &format!("muster {name} {help} | head -n 1"));
        let long = !["completions", "man", "", "rsh", "sshd"].contains(&name);
        assert_eq!(!output.stdout.starts_with(short.stdout.trim_end()), long, "{name}: {short:?}");
        let (_, examples) = output.stdout.split_once("\nExamples:\n").unwrap();
        assert!(examples.contains("muster"), "{name}: {examples}");
        assert!(output.stdout.lines().all(|line| line.chars().count() <= 100), "{name}");

        let page = run(&host, &format!("muster man {name}"));
        assert!(page.stdout.contains("\n.SH NAME\n"), "{name}: {page:?}");
        assert!(page.stdout.contains("\n.TH muster"), "{name}: {page:?}");
        // Where groff is, it must have nothing to say but that long words leave gaps.
        let warnings = run(
            &host,
            &format!(
                "! command -v groff >/dev/null || muster man {name} | groff -man -Tutf8 -ww -W break -z 2>&1"
            ),
        );
        assert_eq!(warnings.stdout, "", "{name}");
    }
    let unknown = run(&host, "muster man nonsense");
    assert_eq!(unknown.code(), 89, "{unknown:?}");
}

/// Of what a launch runs, rank alone has nothing more to say.
#[test]
fn muster_log_is_read_by_who_has_more_to_say() {
    let lab = Lab::new().unwrap();
    let host = host(&lab);
    for words in ["hosts --hosts localhost", "worker", "rsh localhost true"] {
        let output = run(&host, &format!("MUSTER_LOG=loud muster {words}"));
        assert!(output.stderr.contains("warning: MUSTER_LOG=loud means nothing"), "{output:?}");
    }
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let lab = Lab::new().unwrap();
    let host = host(&lab);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&host, &format!("muster completions {shell}"));
        assert!(SUBCOMMANDS.iter().all(|name| script.stdout.contains(name)), "{shell}");
        let parse = format!("! command -v {shell} || muster completions {shell} | {shell} -n");
        let parsed = run(&host, &parse);
        assert!(parsed.success() && parsed.stderr.is_empty(), "{shell}: {parsed:?}");
    }
    // bash is there, and completes.
    let complete = run(
        &host,
        "source <(muster completions bash) && COMP_WORDS=(muster la) COMP_CWORD=1 && \
         _muster muster la muster && echo ${COMPREPLY[@]}",
    );
    assert_eq!(complete.stdout, "launch\n", "{complete:?}");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let lab = Lab::new().unwrap();
    let host = host(&lab);
    for words in ["man", "completions bash", "--help", "rsh --help", "hosts --hosts localhost"] {
        let line = format!("set -o pipefail; muster {words} | true; echo $?");
        for _ in 0..5 {
            let output = run(&host, &line);
            assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("0\n", ""), "{words}");
        }
    }
    let output = run(&host, "muster man >/dev/full");
    assert_eq!(output.code(), 91, "{output:?}");
    assert!(output.stderr.contains("failed to write to standard output: No space"), "{output:?}");
}

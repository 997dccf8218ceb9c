//! Promise: whatever a stranger or a careless peer sends, a worker keeps serving the others and stays small.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use lab::{Cmd, KeyKind, Signal};
use muster_tests::{LONG, Pair};

/// What a worker may keep in memory whatever happens, in kB.
const MOST: u64 = 64 * 1024;

fn connect(pair: &Pair) -> TcpStream {
    let address = SocketAddr::from((pair.worker.address(), 2222));
    let stream = pair.client.in_network(|| TcpStream::connect(address)).unwrap().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

fn serves(pair: &Pair, what: &str) {
    let output = pair.sh("echo hello | ssh $w cat; rsh $w 'exit 3'");
    assert_eq!((output.stdout.as_str(), output.code()), ("hello\n", 3), "{what}: {output:?}");
    // The most that any of muster's own processes there has had in memory so far.
    let peaks = "grep -h VmHWM $(grep -l muster /proc/[0-9]*/comm | sed s/comm/status/)";
    let output = pair.worker.run(Cmd::sh(peaks).as_lab(), LONG).unwrap();
    let peaks: Vec<u64> =
        output.stdout.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(peaks.len() >= 2, "the guard and the worker: {output:?}");
    assert!(peaks.iter().all(|peak| *peak < MOST), "{what}: {peaks:?} kB");
    assert_eq!(pair.server.ended(), None, "{what}");
}

/// Writes until all is written or the worker has had enough.
fn push(stream: &mut TcpStream, data: &[u8]) {
    match stream.write_all(data) {
        Ok(()) => {}
        Err(error) => {
            let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(gone.contains(&error.kind()), "{error}");
        }
    }
}

/// Reads until the worker closes.
fn drain(stream: &mut TcpStream) {
    let mut buffer = vec![0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the worker did not close: {error}"),
        }
    }
}

#[test]
fn strangers() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    serves(&pair, "before");

    let idle: Vec<TcpStream> = (0..200).map(|_| connect(&pair)).collect();
    serves(&pair, "with 200 idle connections");

    let mut seed = 1_u32;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    for (what, data) in [
        ("zeroes", vec![0; 100_000]),
        ("noise", noise(100_000)),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: w0\r\n\r\n".repeat(1000)),
        ("a banner of 10 MB", b"x".repeat(10_000_000)),
        ("a banner of 10 MB in lines", b"hello\r\n".repeat(10_000_000 / 7)),
        ("noise for a handshake", [b"SSH-2.0-x\r\n".to_vec(), noise(100_000)].concat()),
        ("a packet of 4 GiB", b"SSH-2.0-x\r\n\xff\xff\xff\xff\x04".to_vec()),
        ("a packet with too much padding", b"SSH-2.0-x\r\n\0\0\0\x08\xffabcdefg".to_vec()),
    ] {
        let mut stream = connect(&pair);
        push(&mut stream, &data);
        drain(&mut stream);
        serves(&pair, what);
    }
    // Half a handshake is kept for as long as a login may take, and hinders nobody.
    let half: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = connect(&pair);
            push(&mut stream, b"SSH-2.0-x\r\n\0\0\x02\0\x04\x14");
            stream
        })
        .collect();
    serves(&pair, "with half handshakes");
    drop((idle, half));
    serves(&pair, "after all");
}

#[test]
fn a_stranger_has_twenty_seconds() {
    let pair = Pair::start(KeyKind::Ed25519);
    let mut silent = connect(&pair);
    let mut greeting = connect(&pair);
    push(&mut greeting, b"SSH-2.0-x\r\n");
    for stream in [&mut silent, &mut greeting] {
        drain(stream);
    }
    serves(&pair, "after both");
}

#[test]
fn careless_holders_of_the_key() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    // Somebody who does not read what he asked for, and somebody who is not read.
    for with in ["ssh", "rsh"] {
        let line = format!(
            "{with} $w 'echo up; head -c 67108864 /dev/zero' | {{ head -c 3; sleep 1000; }}"
        );
        let slow = pair.client.spawn(pair.line(&line)).unwrap();
        slow.wait_for_line("up", LONG).unwrap();
        let line = format!("{with} $w 'echo up; exec sleep 1000' </dev/zero");
        let unread = pair.client.spawn(pair.line(&line)).unwrap();
        unread.wait_for_line("up", LONG).unwrap();
        serves(&pair, with);
        slow.signal_group(Signal::SIGKILL);
        unread.signal_group(Signal::SIGKILL);
        pair.worker.wait_until_gone("sleep 1000", LONG).unwrap();
        serves(&pair, with);
    }
    // Control channels whose frames are too long, are no messages, or never end.
    for frame in [r"\377\377\377\377", r"\000\000\000\004nope", r"\000\000\000\002{}", ""] {
        let line =
            format!("{{ printf '{frame}'; head -c 20000000 /dev/zero; }} | ssh -s $w muster/1");
        drop(pair.sh(&line));
        serves(&pair, frame);
    }
    let output = pair.sh("ssh -s $w muster/2");
    assert_eq!(output.code(), 255, "{output:?}");
    // More commands than a connection may have at a time are refused at once. (No proxy, so
    // that ssh does not make a connection of its own instead.)
    let output = pair.sh("mux='-o ControlPath=/tmp/mux -o ControlPersist=300'; mkfifo /tmp/f; exec 9<>/tmp/f\n\
         ssh $mux -o ControlMaster=yes $w true 2>/dev/null\n\
         for i in $(seq 300); do\n\
           { ssh $mux -o ProxyCommand=false $w 'exec sleep 1000' </dev/null >/dev/null 2>&1; echo x >&9; } &\n\
         done\n\
         head -n 44 <&9 | wc -l; ssh $mux -O exit $w 2>/dev/null; wait");
    assert_eq!(output.stdout, "44\n", "{output:?}");
    pair.worker.wait_until_gone("sleep 1000", LONG).unwrap();
    serves(&pair, "after 300 channels");
}

#[test]
fn output_that_is_not_read_waits_where_it_comes_from() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    let output = pair.sh("rsh $w 'head -c 500000000 /dev/zero' | {\n\
         head -c 1 >/dev/null; sleep 3; grep VmHWM /proc/$(pgrep -n -x muster)/status >&2; wc -c; }");
    assert_eq!(output.stdout, "499999999\n", "{output:?}");
    let peak = output.stderr.split_whitespace().nth(1).and_then(|kib| kib.parse::<u32>().ok());
    assert!(peak.unwrap() < 40_000, "{output:?}");
}

#[test]
fn nobody_reads_what_a_worker_says() {
    let pair = Pair::start(KeyKind::Ed25519);
    // Its own streams closed, as by a log collector that died: here a worker on another port.
    let line = format!(
        "{{ {} -v worker --port 2223 2>&1; echo $? >/tmp/code; }} | head -n 1",
        muster_tests::muster().display()
    );
    let server = pair.worker.spawn(Cmd::sh(line)).unwrap();
    server.wait_for_line("READY", LONG).unwrap();
    let gone = |all: &[lab::ProcessInfo]| all.iter().all(|info| info.cmdline != "head -n 1");
    pair.worker.wait_for_processes("the end of head", LONG, gone).unwrap();
    for _ in 0..3 {
        let output = pair.sh("rsh -p 2223 $w 'echo fine'");
        assert_eq!(output.stdout, "fine\n", "{output:?}");
    }
}

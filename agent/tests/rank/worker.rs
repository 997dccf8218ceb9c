//! What a wrapper says to the worker of its host, and asks of it.

use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster::output::Stream;
use muster::output::split::End;
use muster::process::status::WaitStatus;
use muster::process::usage::Usage;
use muster::rank::gpus::{Answer, Ask, GpuBind};
use muster::rank::protocol::{Carries, Frame, HEADER, Kind, read_header, read_payload, report};

use super::{rank, text, wait_for};

/// Everything that a wrapper says on one of its connections.
struct Heard {
    output: Vec<(Stream, Vec<u8>, End)>,
    ended: Option<muster::rank::protocol::Ended>,
    hello: muster::rank::protocol::Hello,
}

/// The next connection of a wrapper. Neither it nor what comes over it is waited for for ever.
fn accept(listener: &UnixListener) -> UnixStream {
    wait_for(listener);
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// The reports and the lines of one wrapper.
fn listen(listener: &UnixListener) -> (Heard, Heard) {
    let (reports, lines) = (accept(listener), accept(listener));
    let lines = std::thread::spawn(move || hear(lines));
    let reports = hear(reports);
    let lines = lines.join().unwrap();
    assert_eq!((reports.hello.carries, lines.hello.carries), (Carries::Reports, Carries::Lines));
    (reports, lines)
}

fn hear(mut socket: UnixStream) -> Heard {
    let (mut output, mut ended, mut hello) = (Vec::new(), None, None);
    let mut header = [0; HEADER];
    while socket.read_exact(&mut header).is_ok() {
        let (kind, length) = read_header(header).unwrap();
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).unwrap();
        match read_payload(kind, &payload).unwrap() {
            Frame::Hello(first) => hello = Some(*first),
            Frame::Output(stream, _, batch) => {
                output.push((stream, batch.bytes.to_vec(), batch.end))
            }
            Frame::End(last) => ended = Some(*last),
            Frame::Ask(_) | Frame::Answer(_) | Frame::Word(_) => {
                unreachable!("a question on this connection, or an answer to no offer")
            }
        }
    }
    Heard { output, ended, hello: hello.unwrap() }
}

#[test]
fn the_worker_hears_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    // dd has 64 MiB resident, and fills them in the kernel.
    let script = "echo out; i=0; while [ $i -lt 60 ]; do echo err $i >&2; i=$((i+1)); done; \
                  dd if=/dev/zero of=/dev/null bs=64M count=4 status=none; \
                  i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; \
                  printf half; kill -USR2 $$";
    let child = rank(&["--tag=json"], script).env("MUSTER_RANK_SOCKET", &path).spawn().unwrap();
    let (reports, heard) = listen(&listener);
    let output = child.wait_with_output().unwrap();
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    let identity = heard.hello.identity.unwrap();
    assert_eq!((identity.rank, identity.host.as_str()), (3, "w1"));
    let of = |stream: Stream| {
        let mine = heard.output.iter().filter(|(from, ..)| *from == stream);
        mine.flat_map(|(_, bytes, _)| bytes.clone()).collect::<Vec<u8>>()
    };
    assert_eq!(text(&of(Stream::Out)), "out\nhalf");
    assert_eq!(text(&of(Stream::Err)).lines().count(), 60);
    assert!(heard.output.iter().any(|(_, bytes, end)| bytes == b"half" && *end == End::Eof));
    let ended = reports.ended.unwrap();
    assert_eq!(ended.status, WaitStatus::Signaled { signal: 12, core: false });
    assert_eq!(
        ended.stderr.lines().collect::<Vec<_>>(),
        (10..60).map(|i| format!("err {i}")).collect::<Vec<_>>()
    );
    let Usage { user_us, system_us, max_rss_kib, .. } = ended.usage;
    assert!(user_us > 5_000 && system_us > 5_000 && max_rss_kib > 64 * 1024, "{ended:?}");
    assert!(ended.wall_us > 10_000, "{ended:?}");
}

/// Listens at an abstract name as another user would.
fn stranger(name: &str) -> UnixListener {
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let listen = move || {
        // SAFETY: numbers alone are passed. The system call itself, which changes this thread alone.
        let result = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, -1, 65534, -1) };
        assert_eq!(result, 0, "needs root");
        UnixListener::bind_addr(&address).unwrap()
    };
    std::thread::spawn(listen).join().unwrap()
}

#[test]
fn another_users_socket_is_no_worker() {
    let name = format!("muster-test-stranger-{}", std::process::id());
    let listener = stranger(&name);
    let output = rank(&["--tag=short"], "echo secret")
        .env("MUSTER_RANK_SOCKET", format!("@{name}"))
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "[ 3] secret\n");
    listener.set_nonblocking(true).unwrap();
    while let Ok((mut said, _)) = listener.accept() {
        let mut heard = Vec::new();
        said.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty(), "{}", text(&heard));
    }
}

#[test]
fn the_engines_socket_is_for_mpirun_alone() {
    let output = rank(&["--tag=none"], "echo ${MUSTER_SOCKET-none}")
        .env("MUSTER_SOCKET", "/run/m/sock")
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "none\n");
}

/// The wrapper of the second of two ranks on a host, whose program says what it sees.
fn asking(flags: &[&str], path: &std::path::Path) -> Command {
    let script = "echo ${CUDA_VISIBLE_DEVICES-all} ${UCX_NET_DEVICES-any}";
    let mut command = rank(&[&["--tag=none", "--output=mpirun"], flags].concat(), script);
    for name in ["CUDA_VISIBLE_DEVICES", "UCX_NET_DEVICES", "MUSTER_GPU_BIND"] {
        command.env_remove(name);
    }
    command.env("MPI_LOCALRANKID", "1").env("MPI_LOCALNRANKS", "2").env("MUSTER_RANK_SOCKET", path);
    command
}

/// Answers the question on a connection, as a worker would that has this for the rank.
fn answer(mut socket: UnixStream, set: &[(&str, &str)]) -> Ask {
    let mut header = [0; HEADER];
    socket.read_exact(&mut header).unwrap();
    let (kind, length) = read_header(header).unwrap();
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).unwrap();
    let Frame::Ask(ask) = read_payload(kind, &payload).unwrap() else {
        unreachable!("no question")
    };
    let set = set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let told = Answer { set, ..Answer::default() };
    socket.write_all(&report(Kind::Answer, &told).unwrap()).unwrap();
    ask
}

#[test]
fn the_worker_tells_a_rank_its_gpus() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let own = [("CUDA_VISIBLE_DEVICES", "GPU-b"), ("UCX_NET_DEVICES", "mlx5_1:1")];
    for (flags, ucx, expected, bind) in [
        (&[][..], None, "GPU-b mlx5_1:1\n", GpuBind::Auto),
        (&["--gpu-bind=numa"], Some("mlx5_0:1"), "GPU-b mlx5_0:1\n", GpuBind::Numa),
    ] {
        let mut command = asking(flags, &path);
        command.envs(ucx.map(|device| ("UCX_NET_DEVICES", device)));
        let child = command.spawn().unwrap();
        let ask = answer(accept(&listener), &own);
        assert_eq!((ask.bind, ask.local_rank, ask.local_size), (bind, 1, Some(2)));
        assert!(ask.cpus.is_some_and(|cpus| cpus.starts_with(|c: char| c.is_ascii_digit())));
        hear(accept(&listener));
        let output = child.wait_with_output().unwrap();
        assert_eq!((text(&output.stdout), text(&output.stderr)), (expected, ""));
    }
    // Nobody is asked where somebody has chosen: the first to connect are the reports.
    for (name, flag) in [("CUDA_VISIBLE_DEVICES", "--gpu-bind=auto"), ("X", "--gpu-bind=none")] {
        let child = asking(&[flag], &path).env(name, "7").spawn().unwrap();
        let heard = hear(accept(&listener));
        assert_eq!(heard.hello.carries, Carries::Reports);
        let expected = if name == "X" { "all any\n" } else { "7 any\n" };
        assert_eq!(text(&child.wait_with_output().unwrap().stdout), expected);
    }
    // A worker of another version closes the connection; the program runs as it would without one.
    let child = asking(&[], &path).spawn().unwrap();
    drop(accept(&listener));
    hear(accept(&listener));
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn a_worker_that_does_not_answer_holds_a_rank_up_for_a_limited_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let begun = Instant::now();
    let child = asking(&[], &path).env("PMI_RANK", "0").spawn().unwrap();
    let silent = accept(&listener);
    hear(accept(&listener));
    let output = child.wait_with_output().unwrap();
    drop(silent);
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(text(&output.stdout), "all any\n");
    assert!(text(&output.stderr).contains("did not answer in time"), "{output:?}");
}

#[test]
fn reports_alone_go_to_the_worker_when_mpirun_or_nobody_has_the_lines() {
    for (flag, expected) in [("--output=mpirun", "out\n"), ("--ranks=0", "")] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut command = rank(&[flag, "--tag=none"], "echo out; echo why >&2; exit 9");
        let child = command.env("MUSTER_RANK_SOCKET", &path).spawn().unwrap();
        let heard = hear(accept(&listener));
        assert!(heard.output.is_empty());
        assert_eq!(heard.ended.unwrap().stderr, "why\n");
        assert_eq!(text(&child.wait_with_output().unwrap().stdout), expected);
        // A worker that got the program's pipes and then nothing more would read them itself.
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[test]
fn without_a_worker_lines_go_where_they_always_went() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let output = rank(&["--tag=none"], "echo a").env("MUSTER_RANK_SOCKET", &path).output().unwrap();
    assert_eq!(text(&output.stdout), "a\n");
    // One that goes away in the middle hands over to the wrapper's own stdout.
    let listener = UnixListener::bind(&path).unwrap();
    let script = "echo a; read x; i=0; while [ $i -lt 1000 ]; do echo $i; i=$((i+1)); done";
    let mut command = rank(&["--tag=short"], script);
    let mut child = command.env("MUSTER_RANK_SOCKET", &path).stdin(Stdio::piped()).spawn().unwrap();
    let (reports, mut socket) = (accept(&listener), accept(&listener));
    let mut seen = Vec::new();
    while !seen.ends_with(b"a\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    drop((reports, socket));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let expected: String = (0..1000).map(|i| format!("[ 3] {i}\n")).collect();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), expected);
}

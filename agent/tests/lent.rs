//! Real wrappers that lend their program's stdout to a real desk: every byte arrives, whoever ends first.
//!
//! Apart from the tests of the wrapper alone: a desk's reaper takes the children of its whole process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use muster::output::Stream;
use muster::process::reaper::Reaper;
use muster::rank::protocol::{Frame, Kind, read_payload};
use muster::relay::desk::{Outlets, serve};
use muster::relay::printer::Print;
use muster::relay::socket::RankSocket;
use muster::relay::{Origin, Part, Report};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);

/// Repeats what it is told, until it is told something else.
const ECHO: &str = "while read x && [ $x = more ]; do echo more; done";

struct Desk {
    pieces: mpsc::Receiver<Print>,
    reports: mpsc::Receiver<Report>,
    serving: JoinHandle<()>,
    _open: watch::Sender<bool>,
}

/// All that one wrapper has shown.
#[derive(Default)]
struct Shown {
    out: Vec<u8>,
    err: Vec<u8>,
    closed: bool,
}

impl Desk {
    /// A desk whose queue has room for so many pieces, and the name of its socket.
    fn open(room: usize) -> (Self, String) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("@muster-lent-{}-{next}", std::process::id());
        let socket = RankSocket::bind(&name, "spare").unwrap();
        let (launcher, pieces) = mpsc::channel(room);
        let (told, reports) = mpsc::channel(8);
        let (open, closing) = watch::channel(false);
        let outlets = Outlets {
            origin: Origin(0),
            roll: Arc::default(),
            reaper: Reaper::start().unwrap(),
            reports: told,
            launcher,
            pod: None,
            gpus: Arc::default(),
        };
        let serving = tokio::spawn(serve(socket, outlets, closing));
        (Self { pieces, reports, serving, _open: open }, name)
    }

    /// The next piece, added to what is there.
    async fn next(&mut self, shown: &mut Shown) {
        let Some(Print::Piece(_, piece)) = timeout(LIMIT, self.pieces.recv()).await.unwrap() else {
            panic!("the desk is gone")
        };
        let (kind, payload) = match &piece.part {
            Part::Closed => return shown.closed = true,
            Part::Frame(Kind::Hello, _) => return,
            Part::Frame(kind, payload) => (*kind, payload),
        };
        let Ok(Frame::Output(stream, _, batch)) = read_payload(kind, payload) else { panic!() };
        match stream {
            Stream::Out => shown.out.extend(batch.bytes),
            Stream::Err => shown.err.extend(batch.bytes),
        }
    }

    /// A wrapper that has lent the stdout of a program, which then runs this script. Nothing of it has been
    /// shown yet.
    async fn lent(room: usize, script: &str) -> (Self, Child) {
        let (mut desk, name) = Self::open(room);
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(["rank", "--tag=short", "--", "sh", "-c", &format!("{ECHO}; {script}")]);
        for name in ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID", "MUSTER_JOB"] {
            command.env_remove(name);
        }
        command.env("PMI_RANK", "3").env("PMI_SIZE", "4").env("PMI_HOSTNAME", "w1");
        command.env("MUSTER_RANK_SOCKET", name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Until lines arrive that the wrapper has not read.
        let mut before = None;
        while before != Some(read_by(&child)) {
            before = Some(read_by(&child));
            child.stdin.as_mut().unwrap().write_all(b"more\n").unwrap();
            let mut shown = Shown::default();
            while shown.out.is_empty() {
                desk.next(&mut shown).await;
            }
            assert_eq!(shown.out, b"more\n");
        }
        let started = timeout(LIMIT, desk.reports.recv()).await.unwrap();
        assert!(matches!(started, Some(Report::Started(..))));
        (desk, child)
    }

    async fn all(&mut self) -> Shown {
        let mut shown = Shown::default();
        while !shown.closed {
            self.next(&mut shown).await;
        }
        shown
    }

    async fn ended(&mut self) -> Option<Report> {
        timeout(LIMIT, self.reports.recv()).await.unwrap()
    }
}

/// Bytes that a process has read so far (proc(5)), from anything but sockets.
fn read_by(child: &Child) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// Tells the program to leave the echo.
fn go(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
}

/// Everything on a pipe of the wrapper, to its end.
async fn read(mut pipe: impl std::io::Read + Send + 'static) -> String {
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    });
    timeout(LIMIT, reading).await.unwrap().unwrap()
}

fn numbers(last: u32) -> String {
    (1..=last).map(|number| format!("{number}\n")).collect()
}

#[tokio::test]
async fn everything_arrives_before_a_good_end_is_told() {
    let (mut desk, mut child) = Desk::lent(64, "seq 1 20000; echo why >&2; printf half").await;
    go(&mut child);
    let shown = desk.all().await;
    assert_eq!(String::from_utf8(shown.out).unwrap(), numbers(20000) + "half");
    assert_eq!(shown.err, b"why\n");
    let Some(Report::Ended(_, Some(ended))) = desk.ended().await else { panic!() };
    assert_eq!((ended.status.shell_code(), ended.stderr.as_str()), (0, "why\n"));
    assert_eq!(read(child.stdout.take().unwrap()).await, "", "nothing goes another way");
}

#[tokio::test]
async fn a_failure_is_told_though_nobody_reads() {
    let (mut desk, mut child) = Desk::lent(1, "seq 1 20000; echo why >&2; exit 3").await;
    go(&mut child);
    let Some(Report::Ended(_, Some(ended))) = desk.ended().await else { panic!() };
    assert_eq!((ended.status.shell_code(), ended.stderr.as_str()), (3, "why\n"));
    let shown = desk.all().await;
    assert!(shown.out == numbers(20000).into_bytes());
    assert_eq!(shown.err, b"why\n");
}

#[tokio::test]
async fn a_failure_is_told_though_stderr_is_stuck() {
    // As much as anybody takes, until nobody takes any more.
    let fill = "seq 1 60000 | dd of=/dev/fd/3 oflag=nonblock bs=4k 3>&2 2>/dev/null";
    let script = format!("for i in 1 2 3 4 5; do {fill}; sleep 0.1; done; exit 3");
    let (mut desk, mut child) = Desk::lent(1, &script).await;
    go(&mut child);
    let Some(Report::Ended(_, Some(ended))) = desk.ended().await else { panic!() };
    assert_eq!(ended.status.shell_code(), 3);
    let shown = desk.all().await;
    assert!(shown.err.len() > 100 * 1024, "{}", shown.err.len());
    let last = ended.stderr.as_bytes();
    assert!(last.len() > 50 && shown.err.ends_with(last), "{:?}", ended.stderr);
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_the_program_up() {
    let (mut desk, mut child) = Desk::lent(1, "seq 1 400000").await;
    go(&mut child);
    let early = timeout(Duration::from_millis(300), desk.reports.recv()).await;
    assert!(early.is_err(), "2.7 MB are nowhere: {early:?}");
    let shown = desk.all().await;
    assert!(shown.out == numbers(400_000).into_bytes());
    assert!(matches!(desk.ended().await, Some(Report::Ended(_, Some(_)))));
}

#[tokio::test]
async fn what_was_written_before_the_wrapper_was_killed_arrives() {
    let script = "seq 1 9000; echo why >&2; printf half; kill -9 $PPID; exec sleep 60";
    let (mut desk, mut child) = Desk::lent(64, script).await;
    go(&mut child);
    let shown = desk.all().await;
    assert_eq!(String::from_utf8(shown.out).unwrap(), numbers(9000) + "half");
    assert_eq!(shown.err, b"why\n");
    assert!(matches!(desk.ended().await, Some(Report::Ended(..))));
}

#[tokio::test]
async fn children_that_are_left_are_heard_for_a_while_and_hold_nobody_up() {
    let script =
        "{ while kill -0 $$ 2>/dev/null; do :; done; echo late; exec sleep 20; } & echo now";
    let (mut desk, mut child) = Desk::lent(64, script).await;
    go(&mut child);
    let shown = timeout(Duration::from_secs(10), desk.all()).await.unwrap();
    assert_eq!(shown.out, b"now\nlate\n");
    assert!(matches!(desk.ended().await, Some(Report::Ended(_, Some(_)))));
}

#[tokio::test]
async fn a_worker_that_dies_leaves_the_rest_to_the_wrapper() {
    let (desk, mut child) = Desk::lent(64, "seq 1 9000; printf half; echo why >&2").await;
    desk.serving.abort();
    assert!(desk.serving.await.unwrap_err().is_cancelled());
    go(&mut child);
    let expected: String =
        numbers(9000).lines().chain(["half"]).map(|line| format!("[3] {line}\n")).collect();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (out, err) = tokio::join!(read(out), read(err));
    assert_eq!(out, expected);
    assert_eq!(err, "[3] why\n");
}

#[tokio::test]
async fn a_program_that_nobody_hears_gets_a_broken_pipe() {
    let (desk, mut child) = Desk::lent(64, "exec yes").await;
    drop(child.stdout.take());
    // Nobody takes the next piece, and the wrapper's own reader is gone.
    drop(desk.pieces);
    go(&mut child);
    // Its end closes stderr.
    assert_eq!(read(child.stderr.take().unwrap()).await, "");
    drop(desk.serving);
}

//! Promise: workers may come in any order and move while they are waited for; the log says who is missing
//! and why; one that never comes ends the wait in time, by name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::dns::{Dns, Query, RecordType};
use lab::{Cmd, Host, Install, KeyKind, KeyPair, Lab, MpiJob, Output, Proc, Signal};
use muster_tests::{Cluster, LONG, over_sshd, ranks_by_host, run_muster};

/// An address in the lab's network at which nobody is.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 77, 99, 9);

/// A job whose workers are scheduled, but not up.
struct Scene {
    lab: Lab,
    workers: Vec<Host>,
    launcher: Host,
    key: KeyPair,
}

fn scene(job: &MpiJob) -> Scene {
    let lab = Lab::new().unwrap();
    let workers = lab.add_all(job.all_workers()).unwrap();
    let launcher = lab.boot_idle([job.launcher()]).unwrap().remove(0);
    launcher.publish().unwrap();
    Scene { lab, workers, launcher, key: job.key_pair().clone() }
}

fn serve(worker: &Host) -> Arc<Proc> {
    let server = worker.boot(run_muster(["worker"])).unwrap();
    server.wait_for_line("READY", LONG).unwrap();
    server
}

fn come_up(worker: &Host) -> Arc<Proc> {
    let server = serve(worker);
    worker.publish().unwrap();
    server
}

fn ranks_hello() -> Cmd {
    let program = Install::OpenMpi4.program("ranks").display().to_string();
    run_muster(["launch", "--", &program, "hello"])
}

fn assert_job_ran(output: &Output, hosts: usize) {
    assert!(output.success(), "{output:?}");
    assert_eq!(ranks_by_host(&output.stdout, hosts).len(), hosts, "{output:?}");
}

#[test]
fn the_job_starts_when_the_last_worker_is_ready() {
    let scene = scene(&MpiJob::new("pi", Install::OpenMpi4, 4).unwrap());
    let [first, slow, moved, last] = &scene.workers[..] else { panic!("four workers") };
    let dns = scene.lab.dns();
    // The node of this one is gone, but DNS still has its address.
    dns.publish(&moved.full_name(), NOBODY).unwrap();

    let launch = scene.launcher.spawn(ranks_hello()).unwrap();
    let says = |words: &str| launch.wait_for_line(words, LONG).unwrap();
    let line = says("0/4 workers ready; pi-worker-0: no DNS record yet (");
    assert!(line.contains(" s); pi-worker-1: no DNS record yet ("), "how long: {line}");

    come_up(first);
    says("1/4 workers ready");
    slow.publish().unwrap();
    slow.boot_idle().unwrap();
    says("pi-worker-1: connection refused (");
    says("pi-worker-2: Host is unreachable");
    slow.kill().unwrap();
    serve(slow);
    says("2/4 workers ready");
    serve(moved);
    dns.change(&moved.full_name(), moved.address()).unwrap();
    says("3/4 workers ready; pi-worker-3: no DNS record yet (");
    assert!(!launch.stdout_so_far().contains("hello"), "started too early: {}", launch.tail());

    come_up(last);
    assert_job_ran(&launch.output(LONG).unwrap(), 4);
    let stderr = launch.stderr_so_far();
    let at = |words: &str| stderr.find(words).unwrap_or_else(|| panic!("no {words:?}: {stderr}"));
    let order = ["0/4", "1/4", "2/4", "3/4", "4/4"].map(at);
    assert!(order.is_sorted(), "{stderr}");
}

#[test]
fn a_worker_that_moves_after_it_was_ready_is_found_at_its_new_address() {
    let scene = scene(&MpiJob::new("pi", Install::OpenMpi4, 2).unwrap());
    let [moving, late] = &scene.workers[..] else { panic!("two workers") };
    come_up(moving);
    let launch = scene.launcher.spawn(ranks_hello()).unwrap();
    launch.wait_for_line("1/2 workers ready", LONG).unwrap();

    moving.kill().unwrap();
    moving.withdraw().unwrap();
    launch.wait_for_line("0/2 workers ready; pi-worker-0: ", LONG).unwrap();
    moving.move_to(Ipv4Addr::new(10, 77, 50, 5)).unwrap();
    come_up(moving);
    come_up(late);
    assert_job_ran(&launch.output(LONG).unwrap(), 2);
}

/// Runs a launch that must give up on the second of two workers.
fn gives_up(scene: &Scene, code: i32, words: &[&str]) {
    come_up(&scene.workers[0]);
    let command = run_muster(["launch", "--wait-timeout", "5s", "--", "true"]);
    let output = scene.launcher.run(command, LONG).unwrap();
    assert_eq!(output.code(), code, "{output:?}");
    assert!(output.elapsed < LONG / 3, "{output:?}");
    for words in words.iter().chain(&["1/2 ready", "hint: ", "pi-worker-1"]) {
        assert!(output.stderr.contains(words), "{words:?} in {}", output.stderr);
    }
}

fn two_workers() -> Scene {
    scene(&MpiJob::new("pi", Install::OpenMpi4, 2).unwrap())
}

#[test]
fn a_name_that_never_appears_is_170() {
    gives_up(&two_workers(), 170, &["pi-worker-1.pi.default.svc: no DNS record", "pod is Ready"]);
}

#[test]
fn a_worker_that_refuses_is_171() {
    let scene = two_workers();
    scene.workers[1].boot_idle().unwrap();
    scene.workers[1].publish().unwrap();
    gives_up(&scene, 171, &["pi-worker-1.pi.default.svc: connection refused", "muster worker"]);
}

#[test]
fn a_worker_that_is_silent_is_171() {
    let scene = two_workers();
    serve(&scene.workers[1]);
    scene.workers[1].publish().unwrap();
    scene.workers[1].cut().unwrap();
    gives_up(&scene, 171, &["pi-worker-1.pi.default.svc: no answer yet", "firewall"]);
}

#[test]
fn another_jobs_key_is_88() {
    let job = MpiJob::new("pi", Install::OpenMpi4, 2).unwrap();
    let other = job.clone().key(KeyPair::generate(KeyKind::EcdsaP521).unwrap());
    let lab = Lab::new().unwrap();
    let workers = lab.add_all([job.worker(0), other.worker(1)]).unwrap();
    let launcher = lab.boot_idle([job.launcher()]).unwrap().remove(0);
    let scene = Scene { lab, workers, launcher, key: job.key_pair().clone() };
    come_up(&scene.workers[1]);
    gives_up(&scene, 88, &["pi-worker-1.pi.default.svc: wrong host key"]);
}

/// Answers whoever connects to the second worker's port; must not outlive the test's process.
fn answer_with(scene: &Scene, greeting: &'static str) {
    let worker = &scene.workers[1];
    worker.boot_idle().unwrap();
    worker.publish().unwrap();
    let listener = worker.in_network(|| TcpListener::bind("0.0.0.0:2222").unwrap()).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(greeting.as_bytes());
        }
    });
}

#[test]
fn something_else_on_the_port_is_171() {
    let scene = two_workers();
    answer_with(&scene, "HTTP/1.1 400 Bad Request\r\n\r\n");
    gives_up(&scene, 171, &["pi-worker-1.pi.default.svc: closed the connection", "--port"]);
}

#[test]
fn a_port_that_closes_at_once_is_171() {
    let scene = two_workers();
    answer_with(&scene, "");
    gives_up(&scene, 171, &["pi-worker-1.pi.default.svc: closed the connection", "--port"]);
}

#[test]
fn sigterm_ends_the_wait_at_once() {
    let scene = two_workers();
    let launch = scene.launcher.spawn(run_muster(["launch", "--", "true"])).unwrap();
    launch.wait_for_line("0/2 workers ready", LONG).unwrap();
    launch.signal(Signal::SIGTERM);
    let status = launch.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(lab::code(status), 143, "{}", launch.tail());
}

/// What was asked before this moment, a line each.
fn asked(dns: &Dns, from: &Host, before: Instant) -> Vec<String> {
    let from = IpAddr::from(from.address());
    let is_theirs = |query: &Query| query.from == from && query.when < before;
    let queries = dns.queries().into_iter().filter(is_theirs);
    queries.map(|query| format!("{} {}", query.name, query.kind)).collect()
}

fn for_workers(asked: &[String]) -> Vec<&String> {
    asked.iter().filter(|question| question.starts_with("pi-worker-")).collect()
}

/// What a wait for all workers has asked: pointer records, one way of saying it each, and the rest.
fn asked_by_wait(lab: &Lab, launcher: &Host) -> (usize, Vec<String>) {
    lab.dns().clear_queries();
    let output = launcher.run(run_muster(["wait"]), LONG).unwrap();
    assert!(output.success(), "{output:?}");
    let asked: BTreeSet<String> = asked(lab.dns(), launcher, Instant::now()).into_iter().collect();
    let (pointers, rest): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|question| question.ends_with(" PTR"));
    (pointers.len(), rest)
}

#[test]
fn dns_is_asked_for_the_service_alone_where_workers_say_who_they_are() {
    let cluster = Cluster::start(&MpiJob::new("pi", Install::OpenMpi4, 8).unwrap());
    let (pointers, rest) = asked_by_wait(&cluster.lab, &cluster.launcher);
    assert_eq!(rest, ["pi.default.svc.cluster.local A"]);
    // One to prove the Service, one for the launcher, which is behind it too, and one for each worker whose
    // hello took a second on a busy machine; there are nine addresses.
    assert!((1..9).contains(&pointers), "{pointers} of 9");
}

#[test]
fn dns_tells_whose_an_address_is_where_a_plain_sshd_is() {
    let job = MpiJob::new("pi", Install::OpenMpi4, 2).unwrap();
    let (lab, _workers, launcher) = over_sshd(&job);
    let (pointers, rest) = asked_by_wait(&lab, &launcher);
    assert_eq!((pointers, for_workers(&rest)), (2, Vec::new()), "{rest:?}");
}

#[test]
fn dns_tells_whose_an_address_is_where_a_host_is_called_otherwise() {
    let job = MpiJob::new("pi", Install::OpenMpi4, 2).unwrap();
    let lab = Lab::new().unwrap();
    // As under hostNetwork: the host name is not the pod's.
    let workers = lab.add_all([job.worker(0), job.worker(7)]).unwrap();
    let launcher = lab.boot_idle([job.launcher()]).unwrap().remove(0);
    come_up(&workers[0]);
    serve(&workers[1]);
    let name = job.worker(1).full_name();
    lab.dns().publish(&name, workers[1].address()).unwrap();
    let (pointers, rest) = asked_by_wait(&lab, &launcher);
    assert_eq!((pointers, for_workers(&rest)), (2, Vec::new()), "{rest:?}");
}

/// Connections that others have open to its port 2222, whose state in the kernel's tables is 01.
fn visitors(host: &Host) -> usize {
    let tables = host.run(Cmd::sh("cat /proc/net/tcp /proc/net/tcp6"), LONG).unwrap().stdout;
    let is_visitor = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|local| local.ends_with(":08AE")) && words.get(3) == Some(&"01")
    };
    tables.lines().filter(is_visitor).count()
}

/// How often others have connected to it so far: PassiveOpens, the seventh word of the second of two lines.
fn visits(host: &Host) -> usize {
    let visits = "awk '$1 == \"Tcp:\" && ++n == 2 { print $7 }' /proc/net/snmp";
    host.run(Cmd::sh(visits), LONG).unwrap().stdout.trim().parse().unwrap()
}

fn wait_until_visited_and_left(host: &Host) {
    let deadline = Instant::now() + LONG;
    loop {
        let seen = (visits(host), visitors(host));
        if seen.0 > 0 && seen.1 == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "(visits, visitors): {seen:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_pod_of_the_service_that_is_not_of_the_job_is_left_again() {
    let scene = two_workers();
    let job = MpiJob::new("pi", Install::OpenMpi4, 8).unwrap();
    let spec = job.key(scene.key.clone()).worker(7);
    let stranger = scene.lab.add_all([spec]).unwrap().remove(0);
    come_up(&stranger);
    come_up(&scene.workers[0]);
    assert_eq!(visits(&stranger), 0);
    let launch = scene.launcher.spawn(ranks_hello()).unwrap();
    wait_until_visited_and_left(&stranger);
    launch.wait_for_line("1/2 workers ready; pi-worker-1: no DNS record yet", LONG).unwrap();
    come_up(&scene.workers[1]);
    assert_job_ran(&launch.output(LONG).unwrap(), 2);
    assert_eq!(visitors(&stranger), 0);
}

#[test]
fn names_that_come_late_are_found_past_a_cache_that_keeps_their_absence() {
    let scene = scene(&MpiJob::new("pi", Install::OpenMpi4, 4).unwrap());
    let dns = scene.lab.dns();
    // Longer than the test: a name that is asked for too early is not found.
    dns.cache_negative(Some(LONG * 10));
    dns.cache_positive(Some(Duration::from_secs(2)));
    dns.clear_queries();
    // A name of a worker is asked for once it has been missing for 30 s, which this may take on a busy machine.
    let too_early = Instant::now() + Duration::from_secs(30);
    let wait = scene.launcher.spawn(run_muster(["wait"])).unwrap();
    for (index, worker) in scene.workers.iter().enumerate() {
        wait.wait_for_line(&format!("{index}/4 workers ready"), LONG).unwrap();
        come_up(worker);
    }
    assert!(wait.output(LONG).unwrap().success(), "{}", wait.tail());
    assert_eq!(for_workers(&asked(dns, &scene.launcher, too_early)), [""; 0]);
}

#[test]
fn a_service_that_comes_after_the_launcher_is_found() {
    let lab = Lab::new().unwrap();
    let job = MpiJob::new("pi", Install::OpenMpi4, 1).unwrap();
    let worker = lab.add_all(job.all_workers()).unwrap().remove(0);
    let launcher = lab.boot_idle([job.launcher()]).unwrap().remove(0);
    lab.dns().cache_negative(Some(Duration::from_secs(4)));
    let wait = launcher.spawn(run_muster(["wait"])).unwrap();
    wait.wait_for_line("0/1 workers ready; pi-worker-0: no DNS record yet", LONG).unwrap();
    come_up(&worker);
    assert!(wait.output(LONG).unwrap().success(), "{}", wait.tail());
}

#[test]
fn hosts_are_found_by_their_names_where_no_address_tells_its_own() {
    let scene = scene(&MpiJob::new("pi", Install::OpenMpi4, 2).unwrap());
    scene.lab.dns().fail(RecordType::PTR, true);
    let wait = scene.launcher.spawn(run_muster(["wait"])).unwrap();
    come_up(&scene.workers[0]);
    wait.wait_for_line("1/2 workers ready; pi-worker-1: no DNS record yet", LONG).unwrap();
    come_up(&scene.workers[1]);
    assert!(wait.output(LONG).unwrap().success(), "{}", wait.tail());
}

#[test]
fn hosts_are_found_once_dns_answers_again() {
    let scene = scene(&MpiJob::new("pi", Install::OpenMpi4, 1).unwrap());
    let dns = scene.lab.dns();
    come_up(&scene.workers[0]);
    dns.fail(RecordType::A, true);
    let wait = scene.launcher.spawn(run_muster(["wait"])).unwrap();
    wait.wait_for_line("0/1 workers ready; pi-worker-0: name server 10.77.0.1:53 failed", LONG)
        .unwrap();
    dns.pause();
    wait.wait_for_line("no answer within", LONG).unwrap();
    dns.fail(RecordType::A, false);
    dns.resume();
    assert!(wait.output(LONG).unwrap().success(), "{}", wait.tail());
}

#[test]
fn a_remote_shell_asks_again_where_dns_fails_and_says_so_in_the_end() {
    let scene = scene(&MpiJob::new("pi", Install::OpenMpi4, 1).unwrap());
    let dns = scene.lab.dns();
    come_up(&scene.workers[0]);
    let name = scene.workers[0].full_name();
    let rsh = |limit: &str| {
        let limit = format!("-oConnectTimeout={limit}");
        run_muster(["rsh", &limit, &name, "echo", "here"])
    };
    dns.fail(RecordType::A, true);
    let failed = scene.launcher.run(rsh("2"), LONG).unwrap();
    assert_eq!(failed.code(), 255, "{failed:?}");
    assert!(failed.stderr.contains("name server 10.77.0.1:53 failed"), "{failed:?}");
    assert!(!failed.stderr.contains("no such name (asked"), "{failed:?}");

    dns.clear_queries();
    let shell = scene.launcher.spawn(rsh("60")).unwrap();
    dns.wait_for_query(&name, LONG).unwrap();
    dns.fail(RecordType::A, false);
    assert_eq!(shell.output(LONG).unwrap().stdout, "here\n");
}

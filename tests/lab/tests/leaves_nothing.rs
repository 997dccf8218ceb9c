//! A lab leaves nothing behind: not when it is dropped, not when its process is killed.
//!
//! The tests run one after another in one process, as each looks at the whole machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Cmd, HostSpec, Lab};

const CHILD: &str = "LAB_TEST_CRASH";
const SOON: Duration = Duration::from_secs(10);

/// What a lab with this id has on the machine at this moment, in words.
fn traces(id: &str, namespaces: &[u64]) -> Vec<String> {
    let mut found = Vec::new();
    for hierarchy in ["", "memory", "cpu"] {
        let path = Path::new("/sys/fs/cgroup").join(hierarchy).join(format!("muster-lab-{id}"));
        if path.exists() {
            found.push(path.display().to_string());
        }
    }
    let home = Path::new("/var/tmp/muster-lab");
    found.extend(
        [home.join(id), home.join(format!("{id}.lock"))]
            .iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string()),
    );
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(tasks) = fs::read_dir(process.path().join("task")) else { continue };
        for task in tasks.flatten() {
            for kind in ["net", "mnt", "pid"] {
                let path = task.path().join("ns").join(kind);
                if fs::metadata(&path).is_ok_and(|meta| namespaces.contains(&meta.ino())) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    found
}

fn wait_for_no_traces(id: &str, namespaces: &[u64]) {
    let until = Instant::now() + SOON;
    loop {
        let found = traces(id, namespaces);
        if found.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left behind: {found:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn namespaces(pids: impl IntoIterator<Item = i32>) -> Vec<u64> {
    let mut found = Vec::new();
    for pid in pids {
        for kind in ["net", "mnt", "pid"] {
            found.push(fs::metadata(format!("/proc/{pid}/ns/{kind}")).unwrap().ino());
        }
    }
    let own: Vec<_> = ["net", "mnt", "pid"]
        .map(|kind| fs::metadata(format!("/proc/self/ns/{kind}")).unwrap().ino())
        .into();
    assert!(
        found.iter().all(|namespace| !own.contains(namespace)),
        "every namespace is the host's own"
    );
    found
}

fn links() -> String {
    let output = Command::new("ip").args(["-o", "link"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn busy_lab() -> Lab {
    let lab = Lab::new().unwrap();
    let hosts =
        lab.boot_idle((0..3).map(|i| HostSpec::new(format!("w{i}")).user(1000, 1000))).unwrap();
    for host in &hosts {
        let busy = host.spawn(Cmd::sh(
            "setsid sleep 1001 & setsid sh -c 'trap \"\" TERM; sleep 1002' & echo READY; wait",
        ));
        busy.unwrap().wait_for_line("READY", SOON).unwrap();
    }
    lab
}

fn id_of(lab: &Lab) -> String {
    lab.dir().file_name().unwrap().to_str().unwrap().to_owned()
}

fn pids_of(lab: &Lab) -> Vec<i32> {
    lab.hosts().iter().flat_map(|host| host.processes()).map(|info| info.outer.as_raw()).collect()
}

#[test]
fn after_a_drop_and_after_a_crash() {
    let before = links();
    let lab = busy_lab();
    let (id, pids) = (id_of(&lab), pids_of(&lab));
    assert!(pids.len() >= 12, "{pids:?}");
    let held = namespaces(pids);
    assert!(!traces(&id, &held).is_empty(), "this test can see a lab");
    assert_eq!(links(), before, "a lab does not touch the machine's network");
    drop(lab);
    wait_for_no_traces(&id, &held);
    assert_eq!(links(), before);

    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_lab_in_a_process_that_will_be_killed", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
    let ready = loop {
        let mut line = String::new();
        assert!(
            std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0,
            "the child ended early"
        );
        if let Some((_, ready)) = line.split_once("READY ") {
            break ready.trim().to_owned();
        }
    };
    let (id, pids) = ready.split_once(' ').unwrap();
    let held = namespaces(pids.split(',').map(|pid| pid.parse().unwrap()));
    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + SOON;
    while traces(id, &held).iter().any(|trace| trace.starts_with("/proc")) {
        assert!(Instant::now() < until, "left behind: {:#?}", traces(id, &held));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        Path::new("/var/tmp/muster-lab").join(id).exists(),
        "a killed process cannot remove its files"
    );
    drop(Lab::new().unwrap());
    wait_for_no_traces(id, &held);
}

#[test]
#[ignore = "runs only as the child of the test above"]
fn a_lab_in_a_process_that_will_be_killed() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let lab = busy_lab();
    let pids: Vec<_> = pids_of(&lab).iter().map(ToString::to_string).collect();
    println!("READY {} {}", id_of(&lab), pids.join(","));
    std::thread::park_timeout(Duration::from_secs(60));
}

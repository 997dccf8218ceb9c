//! Promise: `muster devices` tells what a host has and what of it can be used, on machines of every kind,
//! and no driver in trouble holds it up for longer than its limit.
//!
//! The machines are files written after the kernel's ABI, one `tree.txt` each under `fixtures/sysfs`; NVML is a
//! stub (`programs/nvml_stub.c`). No real GPU and no RDMA hardware was at hand. `MUSTER_SNAPSHOTS=write` writes
//! what is expected anew, to be read before it is committed.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use flate2::read::ZlibDecoder;
use lab::{Install, KeyKind, MpiJob};
use muster_tests::{Cluster, LONG, Pair, compile_nvml_stub, muster, run_muster};
use object::read::elf::{ElfFile64, FileHeader as _, SectionHeader as _};
use serde_json::{Value, json};
use tempfile::TempDir;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/sysfs");

/// What the helper may take, and what a busy machine adds.
const LIMIT: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(20);

/// Makes the files that a `tree.txt` lists: `name = content` with `\n` and `\t`, `name -> target` for a link,
/// `name !` for a file that does not read, all below the last `[directory]`.
fn plant(manifest: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let mut directory = PathBuf::new();
    for line in manifest.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            directory = home.path().join(name.strip_suffix(']').unwrap());
            continue;
        }
        let (name, rest) = line.split_once(' ').unwrap();
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let (sign, value) = rest.split_once(' ').unwrap_or((rest, ""));
        match sign {
            "=" => {
                let text = value.replace("\\n", "\n").replace("\\t", "\t");
                fs::write(path, text + "\n").unwrap();
            }
            "->" => symlink(value, path).unwrap(),
            "!" => fs::create_dir(path).unwrap(),
            _ => panic!("no sign in {line:?}"),
        }
    }
    home
}

/// `muster devices` with nothing in its environment but a path.
fn devices(words: &[&str]) -> Command {
    let mut command = Command::new(muster());
    command
        .arg("devices")
        .args(words)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

fn text(output: Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The report as JSON, which agrees with the schema.
fn report(command: &mut Command) -> Value {
    let report = text(command.args(["--format", "json"]).output().unwrap());
    assert!(report.len() < 64 * 1024, "{} bytes", report.len());
    let report = serde_json::from_str(&report).unwrap();
    let schema = include_str!("../agent/docs/devices.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let wrong: Vec<String> = schema
        .iter_errors(&report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert_eq!(wrong, [""; 0], "{report:#}");
    report
}

/// Compares with what was written before.
fn is_as_before(file: &Path, found: &str) {
    if std::env::var_os("MUSTER_SNAPSHOTS").is_some_and(|value| value == "write") {
        fs::write(file, found).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(found, expected, "{}", file.display());
}

fn machine(name: &str) -> TempDir {
    plant(&fs::read_to_string(Path::new(FIXTURES).join(name).join("tree.txt")).unwrap())
}

#[test]
fn every_machine_is_told_as_before() {
    let mut seen = 0;
    for entry in fs::read_dir(FIXTURES).unwrap() {
        let machine = entry.unwrap().path();
        let tree = plant(&fs::read_to_string(machine.join("tree.txt")).unwrap());
        let root = ["--root", tree.path().to_str().unwrap()];
        is_as_before(&machine.join("table.txt"), &text(devices(&root).output().unwrap()));
        report(&mut devices(&root));
        seen += 1;
    }
    assert!(seen >= 8, "{seen} machines");
    // The other forms, once each.
    let tree = machine("mlx5-roce");
    let root = ["--root", tree.path().to_str().unwrap()];
    let json = format!("{:#}\n", report(&mut devices(&root)));
    is_as_before(&Path::new(FIXTURES).join("mlx5-roce/report.json"), &json);
    let tree = machine("mi250");
    let words = ["--root", tree.path().to_str().unwrap(), "--format", "prometheus"];
    let metrics = text(devices(&words).output().unwrap());
    is_as_before(&Path::new(FIXTURES).join("mi250/metrics.txt"), &metrics);
}

/// The files of a tree, no links and no directories.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let below = |entry: fs::DirEntry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => files(&entry.path()),
        kind if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    };
    entries.flat_map(below).collect()
}

#[test]
fn any_file_may_be_missing() {
    for name in ["mlx5-roce", "mi250"] {
        let tree = machine(name);
        for file in files(tree.path()) {
            let text = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            let output = devices(&["--root", tree.path().to_str().unwrap()]).output().unwrap();
            assert!(output.status.success(), "{}: {output:?}", file.display());
            fs::write(&file, text).unwrap();
        }
    }
}

/// Puts something else where a file was.
type Turn<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn any_file_may_be_anything() {
    let garbage: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let endless = "9".repeat(100_000);
    let turns: [Turn<'_>; 5] = [
        ("garbage", &|file| fs::write(file, &garbage).unwrap()),
        ("digits", &|file| fs::write(file, &endless).unwrap()),
        ("a loop", &|file| symlink(file.file_name().unwrap(), file).unwrap()),
        ("a pipe", &|file| {
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        }),
        ("a device", &|file| symlink("/dev/zero", file).unwrap()),
    ];
    for name in ["mlx4", "mlx5-roce", "mi250", "no-rdma"] {
        for (what, turn) in &turns {
            let tree = machine(name);
            for file in files(tree.path()) {
                fs::remove_file(&file).unwrap();
                turn(&file);
            }
            let told = report(&mut devices(&["--root", tree.path().to_str().unwrap()]));
            assert_eq!(told["schema"], "muster-devices/1", "{name}, {what}");
        }
    }
}

#[test]
fn each_gpu_of_a_dgx_has_its_own_nic() {
    let tree = machine("dgx");
    let report = report(&mut devices(&["--root", tree.path().to_str().unwrap()]));
    let gpus = report["gpus"]["devices"].as_array().unwrap();
    assert_eq!(gpus.len(), 8, "the NVLink switch is none");
    for (index, gpu) in gpus.iter().enumerate() {
        assert_eq!(gpu["numa"], index / 4);
        assert_eq!(gpu["nics"][format!("mlx5_{index}")], "PIX");
        let (near, far) = (format!("mlx5_{}", index ^ 1), format!("mlx5_{}", index ^ 4));
        assert_eq!((&gpu["nics"][near], &gpu["nics"][far]), (&json!("NODE"), &json!("SYS")));
    }
    assert_eq!(gpus[5]["xid"]["number"], 94);
}

#[test]
fn this_machine_is_told_too() {
    let report = report(&mut devices(&[]));
    let lo = &report["interfaces"].as_array().unwrap()[0];
    assert_eq!((&lo["name"], &lo["kind"]), (&json!("lo"), &json!("loopback")));
    let cpus = report["cpus"]["usable"].as_f64().unwrap();
    assert!(cpus > 0.0 && report["limits"]["nofile"] != Value::Null, "{report:#}");
    if !Path::new("/dev/nvidiactl").exists() && !Path::new("/dev/kfd").exists() {
        let table = text(devices(&[]).output().unwrap());
        assert!(table.contains("\nno RDMA devices\n\nno GPUs\n"), "{table}");
    }
}

#[test]
fn a_directory_without_a_machine_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let output = devices(&["--root", empty.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(89), "{output:?}");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("it has neither proc nor sys\nmuster: hint: "), "{words}");
}

#[test]
fn watching_goes_on_until_nobody_reads() {
    let mut child =
        devices(&["--watch", "100ms", "--format", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    for _ in 0..3 {
        let report: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(report["schema"], "muster-devices/1");
    }
    drop(lines);
    assert!(child.wait().unwrap().success());
}

/// Compiles the stub of NVML into a directory, where the loader finds it.
fn stub(flags: &[&str]) -> TempDir {
    // Not below /tmp, which one of the tests makes unusable.
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    compile_nvml_stub(home.path(), flags);
    home
}

fn with_nvml(stub: &TempDir, mode: &str) -> Command {
    let mut command = devices(&[]);
    command.env("LD_LIBRARY_PATH", stub.path()).env("NVML_STUB", mode);
    command
}

#[test]
fn nvml_tells_by_way_of_the_helper() {
    let (stub, old) = (stub(&[]), stub(&["-DOLD"]));
    let told = report(&mut with_nvml(&stub, "gpus"));
    let gpus = &told["gpus"];
    assert_eq!(
        (&gpus["nvml"], &gpus["driver"], &gpus["cuda"]),
        (&json!(true), &json!("535.104.05"), &json!("12.2"))
    );
    let first = &gpus["devices"][0];
    assert_eq!(gpus["devices"].as_array().unwrap().len(), 8);
    assert_eq!(first["pci"], "0000:1b:00.0");
    assert_eq!(first["memory_total"], 80_u64 << 30);
    assert_eq!(
        (&first["mig"], &first["compute_mode"]),
        (&json!(false), &json!("exclusive-process"))
    );
    assert_eq!(first["processes"], json!([{ "pid": 4242, "memory": 1_u64 << 30 }]));
    assert_eq!(first["peers"][0], json!({ "index": 1, "links": 1, "level": "NODE" }));
    assert_eq!(first["peers"][6], json!({ "index": 7, "links": 0, "level": "SYS" }));
    assert_eq!((&first["switch_links"], &first["usable"]), (&json!(17), &json!(true)));
    assert_eq!(gpus["devices"][7]["ecc"]["uncorrected"], 2);

    let told = report(&mut with_nvml(&stub, "mig"));
    let instances = &told["gpus"]["devices"][0]["instances"];
    assert_eq!(instances[1]["uuid"], "MIG-5717b000-0000-0000-0000-000000000001");
    assert_eq!(instances[1]["memory_total"], 40_u64 << 30);

    let told = report(&mut with_nvml(&stub, "lost"));
    let lost = &told["gpus"]["devices"][1];
    assert_eq!(lost["usable"], false);
    assert!(lost["why_not"].as_str().unwrap().contains("fell off the bus"), "{lost}");

    // What an old driver does not know is missing, and nothing else is.
    let told = report(&mut with_nvml(&old, "gpus"));
    let first = &told["gpus"]["devices"][0];
    assert_eq!(first["memory_total"], 80_u64 << 30, "by the first form of the question");
    assert_eq!(first["processes"].as_array().unwrap().len(), 1);
    assert_eq!(first["mig"], Value::Null);
    assert_eq!(first["unknown"]["mig"], "this driver is too old to say");

    let chosen = report(
        with_nvml(&stub, "gpus")
            .env("CUDA_VISIBLE_DEVICES", "3,GPU-5717b000-0000-0000-0000-000000000005"),
    );
    let usable =
        chosen["gpus"]["devices"].as_array().unwrap().iter().filter(|gpu| gpu["usable"] == true);
    let usable: Vec<u64> = usable.map(|gpu| gpu["index"].as_u64().unwrap()).collect();
    assert_eq!(usable, [3, 5]);
}

#[test]
fn a_driver_in_trouble_costs_a_warning_and_no_more_than_the_limit() {
    let stub = stub(&[]);
    for (mode, part, at_least) in [
        ("hang", "NVML did not answer in 5 s", LIMIT),
        ("crash", "the NVML helper ended: killed by SIGSEGV", Duration::ZERO),
    ] {
        let begun = Instant::now();
        let told = report(&mut with_nvml(&stub, mode));
        let took = begun.elapsed();
        assert!(took >= at_least && took < at_least + SLACK, "{mode}: {took:?}");
        let why = told["gpus"]["why_no_nvml"].as_str().unwrap();
        assert!(why.contains(part), "{mode}: {why}");
        assert!(told["warnings"][0].as_str().unwrap().contains(part), "{mode}: {told:#}");
    }
    // Where there is no GPU either, a library that came with the image is no trouble.
    let told = report(&mut with_nvml(&stub, "broken"));
    assert_eq!(
        (&told["gpus"]["devices"], &told["gpus"]["why_no_nvml"]),
        (&json!([]), &Value::Null)
    );
}

#[test]
fn a_launcher_that_was_blinded_expects_no_gpu() {
    let stub = stub(&[]);
    let mut blinded = with_nvml(&stub, "hang");
    let output =
        blinded.env("NVIDIA_VISIBLE_DEVICES", "").env("NVIDIA_DRIVER_CAPABILITIES", "").output();
    let table = text(output.unwrap());
    assert!(table.contains("\nGPUs: none, as expected"), "{table}");
    assert!(!table.contains("warning: NVML"), "{table}");
}

#[test]
fn the_helper_runs_where_memory_may_not_be_executed() {
    let stub = stub(&[]);
    let run = |line: &str| {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            &format!("{line}; exec \"$0\" devices --format json"),
        ]);
        command.arg(muster()).env("LD_LIBRARY_PATH", stub.path());
        let told: Value = serde_json::from_str(&text(command.output().unwrap())).unwrap();
        told["gpus"].clone()
    };
    // Without /proc a file in memory has no path.
    let hidden = "mount -t tmpfs none /proc";
    assert_eq!(run(hidden)["nvml"], true);
    let nowhere = "for d in /tmp /dev/shm /run /var/tmp; do mount -t tmpfs -o noexec none $d; done";
    let refused = run(&format!("{nowhere}; {hidden}"));
    assert_eq!((&refused["nvml"], &refused["devices"]), (&json!(false), &json!([])));
    let why = refused["why_no_nvml"].as_str().unwrap();
    assert!(why.contains("permission denied"), "{why}");
}

#[test]
fn a_hung_driver_does_not_keep_a_worker_from_its_job() {
    let stub = stub(&[]);
    let job = MpiJob::new("pi", Install::OpenMpi4, 1).unwrap();
    let library = stub.path().display().to_string();
    let cluster = Cluster::start_with(&job, |spec| {
        spec.env("LD_LIBRARY_PATH", &library).env("NVML_STUB", "hang")
    });
    let output = cluster.launcher.run(run_muster(["wait"]), LONG).unwrap();
    assert!(output.success(), "{output:?}");
    assert!(output.elapsed < LIMIT + SLACK, "{output:?}");
}

#[test]
fn a_worker_s_hello_tells_its_devices() {
    let pair = Pair::start(KeyKind::EcdsaP521);
    // The first frame of the control channel is the hello; then the channel is closed.
    let output = pair.sh("mkfifo /tmp/open; sleep 60 >/tmp/open & keeper=$!\n\
         ssh -s $w muster/1 </tmp/open | { dd bs=64K count=1 2>/dev/null; kill $keeper; }");
    let (_length, hello) = output.stdout.split_at(output.stdout.find('{').unwrap());
    let hello: Value = serde_json::from_str(hello).unwrap();
    let devices = &hello["devices"];
    assert_eq!((&hello["type"], &hello["hostname"]), (&json!("hello"), &devices["hostname"]));
    assert_eq!(
        (&devices["schema"], &devices["own_name"]),
        (&json!("muster-devices/1"), &Value::Null)
    );
    let address = pair.worker.address().to_string();
    let here = |interface: &Value| interface["addresses"].to_string().contains(&address);
    assert!(devices["interfaces"].as_array().unwrap().iter().any(here), "{hello:#}");
}

/// The helper as it lies in the binary: packed by zlib, whose streams begin with these two bytes.
fn helper(binary: &[u8]) -> Vec<u8> {
    let starts = (0..binary.len()).filter(|at| binary[*at..].starts_with(b"\x78\xda"));
    let mut programs = starts.filter_map(|at| {
        let (mut head, mut elf) = ([0; 4], Vec::new());
        ZlibDecoder::new(&binary[at..]).read_exact(&mut head).ok()?;
        (head == *b"\x7fELF").then_some(())?;
        ZlibDecoder::new(&binary[at..]).read_to_end(&mut elf).ok()?;
        Some(elf)
    });
    programs
        .next()
        .expect("the binary has no helper: build it with MUSTER_NVML_HELPER=$(agent/nvml/build)")
}

#[test]
fn the_helper_asks_for_nothing_newer_than_glibc_2_28() {
    let binary = fs::read(muster()).unwrap();
    let elf = helper(&binary);
    let elf = elf.as_slice();
    let file = ElfFile64::<object::Endianness>::parse(elf).unwrap();
    let endian = file.endian();
    let sections = file.elf_header().sections(endian, elf).unwrap();
    let mut versions = Vec::new();
    let mut libraries = Vec::new();
    for section in sections.iter() {
        let Some((mut needed, link)) = section.gnu_verneed(endian, elf).unwrap() else { continue };
        let strings = sections.strings(endian, elf, link).unwrap();
        while let Some((library, mut names)) = needed.next().unwrap() {
            let name = library.file(endian, strings).unwrap();
            libraries.push(String::from_utf8_lossy(name).into_owned());
            while let Some(name) = names.next().unwrap() {
                let name =
                    String::from_utf8_lossy(name.name(endian, strings).unwrap()).into_owned();
                versions.push(name);
            }
        }
    }
    assert!(libraries.iter().any(|library| library == "libc.so.6"), "{libraries:?}");
    for version in versions {
        let minor = version.strip_prefix("GLIBC_2.").unwrap_or_else(|| panic!("{version}"));
        let minor: u32 = minor.split('.').next().unwrap().parse().unwrap();
        assert!(minor <= 28, "{version}");
    }
}

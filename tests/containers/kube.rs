//! The Indexed Job of `examples/`, its Pods played by `podman kube play` as a kubelet would run them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use lab::{Install, KeyKind, KeyPair, Lab, Pods};
use muster_tests::LONG;

use crate::site;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/indexed-job/job.yaml");
const PODS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/pods.py");

#[test]
fn an_indexed_job() {
    if !site::ready() {
        return;
    }
    let lab = Lab::new().unwrap();
    let pods = Pods::new(&lab).unwrap();
    let secret = lab.shared_dir().join("secret");
    let key = KeyPair::generate(KeyKind::Ed25519).unwrap();
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("id_ed25519"), key.private).unwrap();
    // Podman knows no fsGroup, which would make this 0440 for the group.
    std::fs::set_permissions(secret.join("id_ed25519"), std::fs::Permissions::from_mode(0o444))
        .unwrap();

    let made = Command::new(lab::mpi::cache().join("manifests/bin/python"))
        .args([PODS, MANIFEST, &pods.prefix(), "localhost/muster-test/openmpi-worker"])
        .arg(&secret)
        .arg(Install::OpenMpi4.program("pi"))
        .arg(lab::GATEWAY.to_string())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let manifests = String::from_utf8(made.stdout).unwrap();
    // The launcher, index 0, comes last here, so that all names are there when it looks: nothing depends on it.
    let mut played = Vec::new();
    for (index, manifest) in manifests.lines().enumerate().collect::<Vec<_>>().into_iter().rev() {
        let (name, file) = (format!("pi-{index}"), lab.shared_dir().join(format!("{index}.json")));
        std::fs::write(&file, manifest).unwrap();
        let pod = pods.play(&file, &name, "node").unwrap();
        let full = format!("{name}.pi.default.svc.cluster.local");
        lab.dns().publish(&full, pod.address()).unwrap();
        played.push(pod);
    }
    let launcher = played.pop().unwrap();
    for worker in &played {
        worker.process.wait_for_line("READY", LONG).unwrap();
    }
    let code = launcher.exit_code().unwrap();
    let output = launcher.output(LONG).unwrap();
    assert_eq!(code, "0", "{output:?}");
    assert!(output.stdout.contains("pi is 3.14159265"), "{output:?}");
    for index in 0..4 {
        assert_eq!(
            output.stdout.matches(&format!("of 8 on pi-{index}\n")).count(),
            2,
            "{output:?}"
        );
    }
}

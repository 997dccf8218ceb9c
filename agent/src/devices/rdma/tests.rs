//! What the kernel's words mean, and that no tree brings the reader down.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn rates() {
    for (text, rate, width) in [
        ("100 Gb/sec (4X EDR)", Some(100.0), Some("4X EDR")),
        ("2.5 Gb/sec (1X SDR)", Some(2.5), Some("1X SDR")),
        ("400 Gb/sec (4X NDR)  ", Some(400.0), Some("4X NDR)")),
        ("25", Some(25.0), None),
        ("inf Gb/sec", None, None),
        ("", None, None),
    ] {
        let width = width.map(|width: &str| width.trim_end_matches(')'));
        let (found, told) = parse_rate(text.trim());
        assert_eq!((found, told.as_deref()), (rate, width), "{text}");
    }
}

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let home = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = home.path().join("sys/class").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Self(home)
    }

    fn read(&self) -> Rdma {
        super::read(&Roots::below(self.0.path()), Limits::default(), None)
    }
}

#[test]
fn what_is_not_there_is_unknown() {
    assert_eq!(Tree::new(&[]).read(), Rdma::default());
    let bare = Tree::new(&[("infiniband/mlx5_0/ports/1/state", b"4: ACTIVE\n")]).read();
    let port = Port { number: 1, state: Some("ACTIVE".into()), ..Port::default() };
    let expected = RdmaDevice {
        name: "mlx5_0".into(),
        ports: vec![port],
        usable: true,
        ..RdmaDevice::default()
    };
    assert_eq!(bare.devices, [expected], "no device, no driver, no GIDs, no /dev");
}

#[test]
fn empty_gids_and_those_that_do_not_read_are_left_out() {
    let zero = b"0000:0000:0000:0000:0000:0000:0000:0000\n";
    let tree = Tree::new(&[
        ("infiniband/rxe0/ports/1/gids/0", b"fe80:0000:0000:0000:0000:00ff:fe00:0001\n"),
        ("infiniband/rxe0/ports/1/gids/1", zero),
        ("infiniband/rxe0/ports/1/gids/10", b"0000:0000:0000:0000:0000:ffff:0a00:0005\n"),
        ("infiniband/rxe0/ports/1/gid_attrs/types/10", b"RoCE v2\n"),
        ("infiniband/rxe0/ports/1/gid_attrs/ndevs/0/in_the_way", b""),
        ("infiniband/rxe0/ports/1/gids/2/in_the_way", b""),
    ]);
    let device = &tree.read().devices[0];
    assert_eq!(device.driver.as_deref(), Some("rxe"));
    let gids = &device.ports[0].gids;
    assert_eq!(gids.iter().map(|gid| gid.index).collect::<Vec<_>>(), [0, 10]);
    assert_eq!(gids[1].kind.as_deref(), Some("RoCE v2"));
    assert_eq!((&gids[0].kind, &gids[0].netdev), (&None, &None));
}

#[test]
fn a_hostile_tree_is_bounded() {
    let huge = vec![b'7'; 2 << 20];
    let tree = Tree::new(&[
        ("infiniband/a/fw_ver", &huge),
        ("infiniband/a/ports/1/state", b"\xff\xff\0\x1b]0;x\x07\n"),
        ("infiniband/a/ports/1/rate", &huge),
        ("infiniband/a/ports/99999999999/state", b"4: ACTIVE"),
        ("infiniband/a/node_type", b""),
    ]);
    let class = tree.0.path().join("sys/class/infiniband");
    symlink("loop", class.join("loop")).unwrap();
    symlink("../../../../../../../../", class.join("a/device")).unwrap();
    for number in 0..200 {
        let gids = class.join("a/ports/1/gids");
        fs::create_dir_all(&gids).unwrap();
        fs::write(gids.join(number.to_string()), &huge[..4096]).unwrap();
        fs::create_dir_all(class.join(format!("b{number}"))).unwrap();
    }
    let found = tree.read();
    assert_eq!(found.devices.len(), MAX_DEVICES);
    let hostile = &found.devices[0];
    assert_eq!(hostile.ports.len(), 1);
    assert_eq!(hostile.ports[0].gids.len(), MAX_GIDS);
    let state = hostile.ports[0].state.as_ref().unwrap();
    assert!(!state.contains(char::is_control), "{state:?}");
    assert!(hostile.firmware.as_ref().unwrap().len() <= 128);
}

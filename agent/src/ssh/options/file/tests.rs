//! Files as people have them, and what OpenSSH makes of them.

use std::ffi::OsString;
use std::time::Duration;

use super::*;
use crate::ssh::options::{Family, parse};

struct Files(tempfile::TempDir);

impl Files {
    fn new(user: &str, system: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("home/.ssh/more")).unwrap();
        std::fs::create_dir_all(dir.path().join("etc/d")).unwrap();
        std::fs::write(dir.path().join("home/.ssh/config"), user).unwrap();
        std::fs::write(dir.path().join("etc/ssh_config"), system).unwrap();
        Self(dir)
    }

    fn add(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn options(&self, words: &[&str]) -> Result<RshOptions, ConfigError> {
        let options = parse(words.iter().map(OsString::from)).unwrap();
        let home = self.0.path().join("home").display().to_string();
        let env: Environment = [("HOME", home)].into_iter().collect();
        complete_from(&options, &env, &self.0.path().join("etc"))
    }
}

#[test]
fn the_first_value_counts_and_the_command_line_comes_first() {
    let files = Files::new(
        "Host w1 w2\n  Port 2200\n  User ann\n  IdentityFile ~/.ssh/one\n\
         Host w*\n  Port 2300\n  User bob\n  ConnectTimeout 5\n  IdentityFile ~/.ssh/two\n\
         Host *\n  HostName %h.svc\n",
        "ConnectTimeout 9\nConnectionAttempts 7\nStrictHostKeyChecking no\nSendEnv LANG LC_*\n",
    );
    let options = files.options(&["w1", "c"]).unwrap();
    assert_eq!((options.port, options.user.as_deref()), (Some(2200), Some("ann")));
    assert_eq!(options.host_name.as_deref(), Some("w1.svc"));
    assert_eq!(options.connect_timeout.flatten(), Some(Duration::from_secs(5)));
    assert_eq!(options.connection_attempts, Some(7));
    assert_eq!(options.identity, ["~/.ssh/one", "~/.ssh/two"].map(PathBuf::from));
    assert_eq!(options.send_env, ["LANG", "LC_*"]);
    assert_eq!(options.ignored.len(), 1);

    let options = files.options(&["w3", "c"]).unwrap();
    assert_eq!((options.port, options.user.as_deref()), (Some(2300), Some("bob")));
    let options = files
        .options(&["-p1", "-oConnectTimeout=none", "-oHostName=a", "-i/k", "eve@w1", "c"])
        .unwrap();
    assert_eq!((options.port, options.user.as_deref()), (Some(1), Some("eve")));
    assert_eq!(options.connect_timeout, Some(None));
    assert_eq!(options.host_name.as_deref(), Some("a"));
    assert_eq!(options.identity[0], Path::new("/k"));
    assert_eq!(files.options(&["other", "c"]).unwrap().port, None);
}

#[test]
fn addresses_and_words_are_those_of_the_first_place() {
    let files =
        Files::new("AddressFamily any\nLogLevel DEBUG\n", "AddressFamily inet\nLogLevel INFO\n");
    let options = files.options(&["w1", "c"]).unwrap();
    assert_eq!((options.family, options.verbose), (Some(None), Some(1)));
    let options = files.options(&["-q6", "w1", "c"]).unwrap();
    assert_eq!((options.family.flatten(), options.verbose), (Some(Family::V6), Some(0)));
}

#[test]
fn which_hosts_a_block_is_about() {
    for (patterns, host, expected) in [
        ("w1", "w1", true),
        ("W1", "w1", true),
        ("w?", "w1", true),
        ("w?", "w10", false),
        ("*.svc", "w1.pi.svc", true),
        ("!w1 *", "w1", false),
        ("* !w1", "w1", false),
        ("* !w1", "w2", true),
        ("!w1", "w2", false),
        ("10.0.0.*", "10.0.0.7", true),
    ] {
        let files = Files::new(&format!("Host {patterns}\nPort 7\n"), "");
        let port = files.options(&[host, "c"]).unwrap().port;
        assert_eq!(port.is_some(), expected, "{patterns} {host}");
    }
}

#[test]
fn which_files_are_read() {
    let files = Files::new("Include more/*\nPort 1\n", "Port 2\n");
    assert_eq!(files.options(&["w1", "c"]).unwrap().port, Some(1));
    files.add("home/.ssh/more/a", "Host other\nPort 5\nHost w2\nPort 6\n");
    assert_eq!(files.options(&["w1", "c"]).unwrap().port, Some(1));
    assert_eq!(files.options(&["w2", "c"]).unwrap().port, Some(6));
    files.add("etc/alone", "User ann\n");
    let alone = files.0.path().join("etc/alone").display().to_string();
    let options = files.options(&["-F", &alone, "w1", "c"]).unwrap();
    assert_eq!((options.port, options.user.as_deref()), (None, Some("ann")));
    assert_eq!(files.options(&["-Fnone", "w1", "c"]).unwrap().port, None);
    assert_eq!(files.options(&["-F/dev/null", "w1", "c"]).unwrap().port, None);
    let error = files.options(&["-F", "/no/such", "w1", "c"]).unwrap_err();
    assert_eq!(error.to_string(), "read /no/such: No such file or directory (os error 2)");
    // A block that is not read includes nothing.
    let files = Files::new("Host other\nInclude more/*\n", "");
    files.add("home/.ssh/more/a", "Port 5\n");
    assert_eq!(files.options(&["w1", "c"]).unwrap().port, None);
    let files = Files::new("Include config\n", "");
    assert!(files.options(&["w1", "c"]).unwrap_err().to_string().contains("too deep"));
}

#[test]
fn blocks_of_match_count_where_openssh_has_them_count() {
    for text in [
        "Match host localhost\nPort 2200\nMatch all\nPort 7\n",
        "Match host w1\nPort 5\nMatch host w2\nPort 6\n",
        "Match host=W?\nPort 5\n",
        "Match !host w1\nPort 5\n",
        "Match host !w1,*\nPort 5\n",
        "Host w1\nHostName w9\nMatch host w1\nPort 5\nMatch host w9\nPort 6\n",
        "Host w1\nHostName w9\nMatch originalhost w1 user ann\nPort 5\n",
        "Host w1\nUser bob\nMatch user bob\nPort 5\n",
        "Match user bob\nPort 5\nHost *\nUser bob\n",
        "Port 4\nMatch originalhost w1\nPort 5\n",
        "Match host w1 all\nPort 5\n",
        "Match all host w1\nPort 5\n",
        "Match !all\nPort 5\n",
        "Match final all\nPort 5\nHost *\nUser ann\n",
        "Match final host w2\nPort 5\nMatch all\nPort 6\n",
        "Match canonical\nPort 5\n",
        "Match !final originalhost w1\nPort 5\n",
        "Host w1\nHostName w9\nHost w9\nPort 5\nMatch final user zoe\nPort 6\n",
        "Match host w8 exec true\nPort 5\n",
        "Match host w8 exec \"test x=1\"\nPort 5\n",
        "Match host w8 exec=\"test x=1\"\nPort 5\n",
        "Match host = w1\nPort 5\n",
        "Match host= w1\nPort 5\n",
        "Match host =w1\nPort 5\n",
    ] {
        for words in [&["w1"][..], &["w2"], &["-lann", "w1"], &["-oHostName=w9", "w1"]] {
            let files = Files::new(text, "");
            let config = files.0.path().join("home/.ssh/config").display().to_string();
            let mut ssh = std::process::Command::new("ssh");
            let ssh = ssh.args(["-G", "-F", &config]).args(words).output().unwrap();
            let told = String::from_utf8(ssh.stdout).unwrap();
            let told = told.lines().find_map(|line| line.strip_prefix("port "));
            let found = files.options(&[words, &["c"]].concat());
            assert_eq!(found.is_ok(), ssh.status.success(), "{text}{words:?}: {found:?}");
            let found = found.ok().map(|options| options.port.unwrap_or(22).to_string());
            assert_eq!(found.as_deref(), told, "{text}{words:?}");
        }
    }
    let files = Files::new("Tag fast\nMatch tagged slow\nPort 5\nMatch tagged fast\nPort 6\n", "");
    assert_eq!(files.options(&["w1", "c"]).unwrap().port, Some(6));
    assert_eq!(files.options(&["-P", "slow", "w1", "c"]).unwrap().port, Some(5));
    let files = Files::new("Match exec true\nPort 5\n", "");
    let error = files.options(&["w1", "c"]).unwrap_err().to_string();
    assert!(error.contains("/.ssh/config line 1: Match exec cannot be honoured: "), "{error}");
}

#[test]
fn what_is_wrong_names_its_line() {
    for (text, words) in [
        ("Port x", "line 2: Port takes a port from 1 to 65535, not \"x\""),
        ("Port", "line 2: Port needs a value"),
        ("User \"a", "line 2: User takes a value with its quotes closed"),
        ("Host", "line 2: Host needs a value"),
        ("Bogus 1", "line 2: ssh has no setting Bogus"),
        ("ProxyJump gate", "line 2: ProxyJump cannot be honoured: muster dials hosts directly"),
    ] {
        let files = Files::new(&format!("\n{text}\n"), "");
        let error = files.options(&["w1", "c"]).unwrap_err();
        assert!(error.to_string().contains("/.ssh/config "), "{error}");
        assert!(error.to_string().contains(words), "{text}: {error}");
        assert!(error.hint().is_some());
    }
    let files = Files::new("IgnoreUnknown bog*\nBogus 1\nHost gate\nProxyJump gate\n", "");
    files.options(&["w1", "c"]).unwrap();
}

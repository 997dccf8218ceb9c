//! What mpirun really calls, and what ssh(1) does with the odd cases.

use super::*;
use crate::ssh::config_text::options_in;

fn parsed(words: &[&str]) -> Result<RshOptions, OptionsError> {
    parse(words.iter().map(OsString::from))
}

fn fine(words: &[&str]) -> RshOptions {
    parsed(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

#[test]
fn the_lines_of_five_mpi_families() {
    for (family, words, host, command) in [
        (
            "Open MPI 4",
            &[
                "w1",
                " orted",
                "-mca",
                "ess",
                "\"env\"",
                "-mca",
                "orte_hnp_uri",
                "\"1.0;tcp://10.0.0.1:4\"",
                "--tree-spawn",
            ][..],
            "w1",
            " orted -mca ess \"env\" -mca orte_hnp_uri \"1.0;tcp://10.0.0.1:4\" --tree-spawn",
        ),
        (
            "Open MPI 4 as ssh, with a prefix",
            &["-x", "w1", "   PATH=/usr/bin:$PATH ; export PATH ;  /usr/bin/orted", "-mca", "ess"],
            "w1",
            "   PATH=/usr/bin:$PATH ; export PATH ;  /usr/bin/orted -mca ess",
        ),
        (
            "Open MPI 5",
            &[
                "-x",
                "w2",
                "PRTE_PREFIX=/p;export PRTE_PREFIX;/p/bin/prted",
                "--prtemca",
                "ess",
                "\"env\"",
            ],
            "w2",
            "PRTE_PREFIX=/p;export PRTE_PREFIX;/p/bin/prted --prtemca ess \"env\"",
        ),
        (
            "MPICH 4 and 5",
            &[
                "-x",
                "-p",
                "2222",
                "w3",
                "\"/usr/bin/hydra_pmi_proxy\"",
                "--control-port",
                "w0:40291",
                "--rmk",
                "user",
                "--launcher-exec",
                "/muster rsh",
            ],
            "w3",
            "\"/usr/bin/hydra_pmi_proxy\" --control-port w0:40291 --rmk user --launcher-exec /muster rsh",
        ),
        (
            "Intel MPI",
            &[
                "-q",
                "-p",
                "2222",
                "-x",
                "w4",
                "/p/bin//hydra_bstrap_proxy",
                "--upstream-host",
                "w0",
                "-p",
                "5",
            ],
            "w4",
            "/p/bin//hydra_bstrap_proxy --upstream-host w0 -p 5",
        ),
        ("shell probe", &["w5", "echo $SHELL"], "w5", "echo $SHELL"),
    ] {
        let options = fine(words);
        assert_eq!(options.host.as_str(), host, "{family}");
        assert_eq!(options.command, command, "{family}");
    }
}

#[test]
fn options_may_follow_the_host() {
    let options = fine(&["bob@w1", "-p", "2222", "orted", "-p", "x"]);
    assert_eq!((options.user.as_deref(), options.port), (Some("bob"), Some(2222)));
    assert_eq!(options.command, "orted -p x");
}

#[test]
fn ports_and_users() {
    for (words, user, port) in [
        (&["-p2222", "w1", "c"][..], None, Some(2222)),
        (&["-xqp", "2222", "w1", "c"], None, Some(2222)),
        (&["-xqp2222", "w1", "c"], None, Some(2222)),
        (&["-p", "1", "-p", "2", "w1", "-p", "3", "c"], None, Some(1)),
        (&["-oPort=2222", "w1", "c"], None, Some(2222)),
        (&["-o", "Port=2222", "w1", "c"], None, Some(2222)),
        (&["-o", "Port 2222", "w1", "c"], None, Some(2222)),
        (&["-o", "  pORT  =  \"2222\" ", "w1", "c"], None, Some(2222)),
        (&["-l", "ann", "bob@w1", "c"], Some("ann"), None),
        (&["bob@w1", "-l", "ann", "c"], Some("bob"), None),
        (&["-o", "User=ann", "w1", "c"], Some("ann"), None),
        (&["a@b@w1", "c"], Some("a@b"), None),
        (&["ssh://w1", "c"], None, None),
        (&["ssh://bob@w1:2222/", "c"], Some("bob"), Some(2222)),
        (&["ssh://b%40d@w1", "c"], Some("b@d"), None),
        (&["-p1", "ssh://w1:2222", "c"], None, Some(1)),
        (&["--", "w1", "c"], None, None),
    ] {
        let options = fine(words);
        assert_eq!((options.user.as_deref(), options.port), (user, port), "{words:?}");
        assert_eq!((options.host.as_str(), options.command.to_str()), ("w1", Some("c")));
    }
    for (word, host) in
        [("ssh://[fd77::3]:22", "fd77::3"), ("[fd77::3]", "fd77::3"), ("fd77::3", "fd77::3")]
    {
        assert_eq!(fine(&[word, "c"]).host.as_str(), host);
    }
}

#[test]
fn where_options_end() {
    for (words, command) in [
        (&["w1", "--", "-x", "y"][..], "-x y"),
        (&["--", "w1", "-p", "5"], "-p 5"),
        (&["w1", "a", "", "b c"], "a  b c"),
        (&["w1", "-"], "-"),
        (&["-n", "w1", "-v", "ls", "--", "-l"], "ls -- -l"),
    ] {
        assert_eq!(fine(words).command, command, "{words:?}");
    }
}

#[test]
fn everything_else_that_is_honoured() {
    let options = fine(&[
        "-qvvn",
        "-4",
        "-i",
        "/k1",
        "-i/k2",
        "-oIdentityFile=none",
        "-oConnectTimeout=1m30",
        "-oConnectTimeout=5",
        "-oConnectionAttempts=3",
        "-oHostName=%h.svc%%",
        "-oSetEnv A=1 \"B=x y\"",
        "-oSetEnv=C=3",
        "-oSendEnv=LANG LC_*",
        "-oSendEnv=TZ",
        "-oLogLevel=DEBUG3",
        "-oAddressFamily=inet6",
        "-oAddressFamily=any",
        "w1",
        "c",
    ]);
    assert!(options.stdin_null);
    assert_eq!((options.verbose, options.family), (Some(2), Some(Some(Family::V4))));
    assert_eq!(options.identity, [PathBuf::from("/k1"), PathBuf::from("/k2")]);
    assert_eq!(options.connect_timeout, Some(Some(Duration::from_secs(90))));
    assert_eq!(options.connection_attempts, Some(3));
    assert_eq!(options.host_name.as_deref(), Some("w1.svc%"));
    assert_eq!(
        options.set_env,
        [("A", "1"), ("B", "x y")].map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(options.send_env, ["LANG", "LC_*", "TZ"]);
    assert_eq!(options.ignored, []);
    assert_eq!(
        fine(&["-oConnectTimeout=none", "-oConnectTimeout=5", "w1", "c"]).connect_timeout,
        Some(None)
    );
}

/// What `ssh -G` tells of the same words: of its levels ours has fewer.
#[test]
fn how_much_is_said_and_which_addresses_are_used() {
    for words in [
        &["-q"][..],
        &["-v"],
        &["-vq"],
        &["-qv"],
        &["-vv"],
        &["-qvv"],
        &["-v", "-oLogLevel=QUIET"],
        &["-q", "-oLogLevel=DEBUG"],
        &["-oLogLevel=DEBUG2", "-q"],
        &["-oLogLevel=ERROR", "-oLogLevel=DEBUG3"],
        &["-oLogLevel=DEBUG3", "-oLogLevel=FATAL"],
        &["-4", "-oAddressFamily=any"],
        &["-oAddressFamily=any", "-6"],
        &["-oAddressFamily=any", "-oAddressFamily=inet"],
        &["-oAddressFamily=inet6", "-oAddressFamily=any"],
    ] {
        let mut ssh = std::process::Command::new("ssh");
        let ssh = ssh.args(["-G", "-F", "none"]).args(words).arg("w1").output().unwrap();
        let told = String::from_utf8(ssh.stdout).unwrap();
        let told = |name| told.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let options = fine(&[words, &["w1", "c"]].concat());
        let level = match told("loglevel ") {
            "VERBOSE" | "DEBUG" => 1,
            "DEBUG2" => 2,
            "DEBUG3" => 3,
            _ => 0,
        };
        assert_eq!(options.verbose.unwrap_or_default(), level, "{words:?}");
        let family = match told("addressfamily ") {
            "inet" => Some(Family::V4),
            "inet6" => Some(Family::V6),
            _ => None,
        };
        assert_eq!(options.family.flatten(), family, "{words:?}");
    }
}

#[test]
fn what_is_ignored_says_why() {
    let options = fine(&[
        "-2aACgkKtTxXYy",
        "-c",
        "aes",
        "-m",
        "hmac",
        "-e",
        "none",
        "-oStrictHostKeyChecking=no",
        "-oUserKnownHostsFile=/dev/null",
        "-oBatchMode=yes",
        "-oControlMaster=auto",
        "-oProxyCommand=none",
        "-oTunnel=no",
        "w1",
        "c",
    ]);
    assert_eq!(options.ignored.len(), 13 + 3 + 4);
    let last = options.ignored.last().unwrap().to_string();
    assert_eq!(last, "-o ControlMaster: muster shares its connection by itself");
}

#[test]
fn what_is_refused() {
    for words in [
        &["-L", "1:a:2"][..],
        &["-R1:a:2"],
        &["-D", "1"],
        &["-W", "a:1"],
        &["-w", "0"],
        &["-N"],
        &["-f"],
        &["-J", "a"],
        &["-M"],
        &["-S", "/s"],
        &["-O", "exit"],
        &["-s"],
        &["-E", "l"],
        &["-G"],
        &["-b", "a"],
        &["-B", "e"],
        &["-1"],
        &["-V"],
        &["-Q", "key"],
        &["-I", "p"],
        &["-xf"],
        &["-oProxyCommand=nc %h %p"],
        &["-o", "ProxyJump=a"],
        &["-oRemoteCommand=a"],
        &["-oLocalForward=1 a:2"],
        &["-oDynamicForward=1"],
        &["-oForkAfterAuthentication=yes"],
        &["-oSessionType=none"],
        &["-oPermitLocalCommand=yes"],
        &["-oBindAddress=1.2.3.4"],
        &["-oRevokedHostKeys=/r"],
    ] {
        let words: Vec<&str> = words.iter().copied().chain(["w1", "c"]).collect();
        let error = parsed(&words).unwrap_err();
        assert!(matches!(error, OptionsError::Refused { .. }), "{words:?}: {error}");
    }
    let error = parsed(&["w1", "-oProxyJump=a", "c"]).unwrap_err();
    assert_eq!(error.to_string(), "honour -o ProxyJump: muster dials hosts directly");
    assert_eq!(error.class(), Class::Config);
    assert!(error.hint().unwrap().starts_with("take -o ProxyJump out of"));
}

/// The words of OpenSSH's client that may be keywords; those that we do not know, it must not know.
#[test]
fn every_keyword_of_openssh_is_known() {
    let (unknown, known): (Vec<String>, Vec<String>) = options_in("/usr/bin/ssh")
        .into_iter()
        .partition(|one| matches!(parsed(&[one, "w1", "c"]), Err(OptionsError::Unknown(_))));
    assert!(known.len() > 80, "{known:?}");
    for option in unknown {
        let mut ssh = std::process::Command::new("/usr/bin/ssh");
        let ssh = ssh.args(["-G", "-F", "none", &option, "w1"]).output().unwrap();
        let said = String::from_utf8_lossy(&ssh.stderr);
        let neither = ["Bad configuration option", "not supported as a command-line option"];
        assert!(neither.iter().any(|words| said.contains(words)), "{option}: {said}");
    }
}

#[test]
fn unknown_settings_may_be_ignored_on_request() {
    fine(&["-oIgnoreUnknown=foo,b*", "-oFoo=1", "-oBar=1", "w1", "c"]);
    for words in [
        &["-ofoo=1", "-oIgnoreUnknown=foo"][..],
        &["-oIgnoreUnknown=foo", "-oIgnoreUnknown=bar", "-obar=1"],
    ] {
        let words: Vec<&str> = words.iter().copied().chain(["w1", "c"]).collect();
        assert!(matches!(parsed(&words), Err(OptionsError::Unknown(_))), "{words:?}");
    }
}

#[test]
fn what_is_wrong() {
    for (words, message) in [
        (&[][..], "read the remote-shell command line: no host given"),
        (&["-x"], "read the remote-shell command line: no host given"),
        (&["w1"], "run a command on w1: none given"),
        (&["w1", ""], "run a command on w1: none given"),
        (&["w1", "-x"], "run a command on w1: none given"),
        (&["w1", "-p"], "read the remote-shell command line: -p needs a value"),
        (&["-Z", "w1", "c"], "read the remote-shell command line: ssh has no option -Z"),
        (&["--port=3", "w1", "c"], "read the remote-shell command line: ssh has no option --"),
        (
            &["-p0", "w1", "c"],
            "read the remote-shell command line: -p takes a port from 1 to 65535, not \"0\"",
        ),
        (
            &["-oPort=x", "w1", "c"],
            "read the remote-shell command line: -o Port takes a port from 1 to 65535, not \"x\"",
        ),
        (&["-oPort", "w1", "c"], "read the remote-shell command line: -o Port needs a value"),
        (
            &["-oBogus=1", "w1", "c"],
            "read the remote-shell command line: ssh has no option -o Bogus",
        ),
        (
            &["-oUser=\"a", "w1", "c"],
            "read the remote-shell command line: -o User takes a value with its quotes closed, not \"\"",
        ),
        (
            &["-oConnectTimeout=5y", "w1", "c"],
            "read the remote-shell command line: -o ConnectTimeout takes a time such as 10 or 1m30s, not \"5y\"",
        ),
        (&["@w1", "c"], "read the remote-shell command line: \"@w1\" is no host name"),
        (&["bob@", "c"], "read the remote-shell command line: \"bob@\" is no host name"),
        (&["-", "c"], "read the remote-shell command line: \"-\" is no host name"),
        (&["--", "-oX", "c"], "read the remote-shell command line: \"-oX\" is no host name"),
        (&["w1;ls", "c"], "read the remote-shell command line: \"w1;ls\" is no host name"),
        (
            &["ssh://w1:99999", "c"],
            "read the remote-shell command line: the destination takes a port from 1 to 65535, not \"99999\"",
        ),
        (
            &["ssh://w1/path", "c"],
            "read the remote-shell command line: \"ssh://w1/path\" is no host name",
        ),
    ] {
        assert_eq!(parsed(words).unwrap_err().to_string(), message, "{words:?}");
    }
}

#[test]
fn a_command_survives_byte_for_byte() {
    let words = [&b"w1"[..], b"caf\xe9", b"\xff\n"].map(|word| OsString::from_vec(word.to_vec()));
    assert_eq!(parse(words).unwrap().command.as_bytes(), b"caf\xe9 \xff\n");
    let words = [&b"w\xff"[..], b"c"].map(|word| OsString::from_vec(word.to_vec()));
    assert!(matches!(parse(words), Err(OptionsError::Host(_))));
}

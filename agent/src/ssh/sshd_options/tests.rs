//! What operators and images really start, and what sshd(8) does with the odd cases.

use super::*;
use crate::ssh::config_text::options_in;

fn parsed(words: &[&str]) -> Result<Request, SshdOptionsError> {
    parse_with(words.iter().map(OsString::from), false, Path::new("/none"))
}

fn fine(words: &[&str]) -> SshdOptions {
    match parsed(words) {
        Ok(Request::Serve(options)) => *options,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// Reads a configuration of these lines, as root or not.
fn configured(lines: &str, root: bool) -> Result<SshdOptions, SshdOptionsError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sshd_config");
    std::fs::write(&file, lines).unwrap();
    match parse_with(["-f".into(), file.into()], root, Path::new("/none"))? {
        Request::Serve(options) => Ok(*options),
        other => panic!("{lines}: {other:?}"),
    }
}

#[test]
fn the_lines_of_operators() {
    let options = fine(&["-De"]);
    assert!(options.foreground && !options.check);
    assert_eq!((options.ports, options.host_keys), (vec![], vec![]));
    // mpi-operator's own image.
    let options = configured(
        "PidFile /home/mpiuser/sshd.pid\nHostKey /home/mpiuser/.ssh/id_rsa\nStrictModes no\nPort 2222\n",
        false,
    )
    .unwrap();
    assert_eq!(options.ports, [2222]);
    assert_eq!(options.host_keys, [PathBuf::from("/home/mpiuser/.ssh/id_rsa")]);
    assert_eq!(options.pid_file, Some("/home/mpiuser/sshd.pid".into()));
    assert_eq!(
        options.without_effect(),
        "sshd: ignored StrictModes (muster serves as the user that it runs as, with no root to \
         change it)"
    );
    // Debian's own file, as the package installs it.
    let options = configured(
        "\n# comment\nInclude /etc/ssh/sshd_config.d-not-there/*.conf\n#Port 22\n\
         KbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\n\
         AcceptEnv LANG LC_*\nSubsystem\tsftp\t/usr/lib/openssh/sftp-server\n",
        true,
    )
    .unwrap();
    assert_eq!(options.accept_env, ["LANG", "LC_*"]);
    assert_eq!(options.ignored.len(), 5);
    assert_eq!(options.pid_file, None);
}

#[test]
fn flags() {
    let options = fine(&[
        "-4qtp",
        "22",
        "-p2222",
        "-h/k1",
        "-h",
        "/k2",
        "-oPort=99",
        "-o",
        "SetEnv=A=1 B=2",
        "-d",
        "-g60",
        "-u",
        "0",
        "-E/log",
        "-o",
        "HostKey=none",
    ]);
    assert!(options.quiet && options.check && options.debug && options.foreground);
    assert_eq!(options.ports, [22, 2222]);
    assert_eq!(options.host_keys, [PathBuf::from("/k1"), PathBuf::from("/k2")]);
    assert_eq!(options.families, Families::V4);
    assert_eq!(options.set_env, [("A".into(), "1".into()), ("B".into(), "2".into())]);
    let ignored: Vec<&str> = options.ignored.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(ignored, ["-g", "-u", "-E"]);
    assert_eq!(fine(&["-f", "none", "--"]), SshdOptions::default());
    assert_eq!(fine(&["-f/dev/null"]), SshdOptions::default());
    for word in ["-?", "--help", "-D?"] {
        assert_eq!(parsed(&[word]).unwrap(), Request::Help, "{word}");
    }
    assert_eq!(parsed(&["-DV"]).unwrap(), Request::Version);
}

#[test]
fn the_first_value_counts() {
    let options = configured(
        "PidFile none\nPidFile /p\nAddressFamily inet6\nAddressFamily any\n\
         AuthorizedKeysFile %h/a /b/%u\nAuthorizedKeysFile none\nRequiredRSASize 2048\n\
         requiredrsasize 1024\nLogLevel VERBOSE\nLogLevel QUIET\nSetEnv A=1\nSetEnv B=2\n\
         AcceptEnv X\nAcceptEnv Y Z\nPort 1\nPort 2\n",
        false,
    )
    .unwrap();
    assert_eq!((options.pid_file, options.families), (None, Families::V6));
    assert_eq!(options.authorized_keys, Some(vec!["%h/a".into(), "/b/%u".into()]));
    assert_eq!((options.rules.rsa_bits, options.debug, options.quiet), (2048, true, false));
    assert_eq!(options.set_env, [("A".to_owned(), "1".to_owned())]);
    assert_eq!(options.accept_env, ["X", "Y", "Z"]);
    assert_eq!(options.ports, [1, 2]);
    assert_eq!(
        configured("AuthorizedKeysFile none", false).unwrap().authorized_keys,
        Some(Vec::new())
    );
}

#[test]
fn addresses() {
    for (value, address, port) in [
        ("0.0.0.0", "0.0.0.0", None),
        ("*", "0.0.0.0", None),
        ("*:23", "0.0.0.0", Some(23)),
        ("10.0.0.1:2222", "10.0.0.1", Some(2222)),
        ("::", "::", None),
        ("[fd00::1]", "fd00::1", None),
        ("[fd00::1]:2222", "fd00::1", Some(2222)),
        ("localhost", "localhost", None),
        ("worker-0.pi:2222", "worker-0.pi", Some(2222)),
    ] {
        let options = configured(&format!("ListenAddress {value}"), false).unwrap();
        let expected = ListenAddress { host: address.to_owned(), port };
        assert_eq!(options.listen, [expected], "{value}");
    }
}

#[test]
fn includes_are_read_where_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("1.conf"), "Port 1\nPidFile /first\n").unwrap();
    std::fs::write(at("2.conf"), "Port 2\n").unwrap();
    let lines = format!("Port 0\nInclude {}/*.conf\nPort 3\nPidFile /last", dir.path().display());
    let options = configured(&lines, false).unwrap();
    assert_eq!(options.ports, [0, 1, 2, 3]);
    assert_eq!(options.pid_file, Some("/first".into()));

    std::fs::write(at("2.conf"), format!("Include {}/2.conf", dir.path().display())).unwrap();
    let error = configured(&lines, false).unwrap_err();
    assert!(error.to_string().ends_with("2.conf: Include inside Include, too deep"), "{error}");
}

#[test]
fn what_shuts_somebody_out_or_lets_somebody_in_is_refused() {
    for line in [
        "PermitEmptyPasswords yes",
        "PubkeyAuthentication no",
        "AuthenticationMethods publickey,password",
        "ForceCommand /bin/date",
        "ChrootDirectory /srv",
        "AllowUsers mpiuser",
        "DenyUsers root",
        "AllowGroups a",
        "DenyGroups a",
        "AuthorizedKeysCommand /bin/keys",
        "AuthorizedPrincipalsFile /p",
        "AuthorizedPrincipalsCommand /p",
        "TrustedUserCAKeys /ca",
        "RevokedKeys /r",
        "HostCertificate /c",
        "HostKeyAgent /s",
        "Match User bob",
        "PermitUserEnvironment yes",
        "RefuseConnection yes",
        "PubkeyAcceptedAlgorithms ssh-*",
        "PubkeyAcceptedKeyTypes -ecdsa*",
        "MaxSessions 0",
        "DSAAuthentication no",
    ] {
        let error = configured(&format!("\n{line}\n"), false).unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, SshdOptionsError::Refused { .. }), "{line}: {words}");
        assert!(words.starts_with(&format!("honour {line} (")), "{words}");
        assert!(words.contains("sshd_config line 2): "), "{words}");
        assert!(error.hint().unwrap().contains(line), "{line}");
    }
    configured(
        "PermitEmptyPasswords no\nPubkeyAuthentication yes\nForceCommand none\n\
         ChrootDirectory none\nAuthorizedKeysCommand none\nPermitUserEnvironment no\n\
         AuthenticationMethods any\nPermitRootLogin no\nTrustedUserCAKeys none\n\
         PubkeyAcceptedAlgorithms +ssh-rsa\nPubkeyAcceptedKeyTypes ^ssh-ed25519\nMaxSessions 4",
        false,
    )
    .unwrap();
    // Only where it is root that nobody could log in as.
    for (value, fine) in [("yes", true), ("prohibit-password", true), ("no", false)] {
        let read = configured(&format!("PermitRootLogin {value}"), true);
        assert_eq!(read.is_ok(), fine, "{value}");
    }
}

/// As Red Hat's crypto policies have it, shortened.
#[test]
fn a_list_of_algorithms_says_which_keys_may_enter() {
    let line = "PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256,ecdsa-sha2-nistp256-cert-v01@openssh.com,\
                rsa-sha2-256";
    let names = |line: &str| configured(line, false).unwrap().rules.algorithms;
    assert_eq!(names(line).unwrap().last().unwrap(), "rsa-sha2-256");
    // The first one counts, also where it adds to the usual ones.
    let later = "PubkeyAcceptedKeyTypes ssh-ed25519";
    assert_eq!(names(&format!("{line}\n{later}")), names(line));
    assert_eq!(names(&format!("PubkeyAcceptedAlgorithms +ssh-rsa\n{later}")), None);
}

/// The words of OpenSSH's server that may be keywords; those that we do not know, it must not know.
#[test]
fn every_keyword_of_openssh_is_known() {
    let (unknown, known): (Vec<String>, Vec<String>) = options_in("/usr/sbin/sshd")
        .into_iter()
        .partition(|one| matches!(parsed(&[one]), Err(SshdOptionsError::Unknown { .. })));
    assert!(known.len() > 80, "{known:?}");
    for option in unknown {
        let mut sshd = std::process::Command::new("/usr/sbin/sshd");
        let sshd = sshd.args(["-t", "-f", "/dev/null", &option]).output().unwrap();
        let said = String::from_utf8_lossy(&sshd.stderr);
        assert!(said.contains("Bad configuration option"), "{option}: {said}");
    }
}

#[test]
fn passwords_are_said_not_to_open_anything() {
    let options = configured("PasswordAuthentication yes\nUsePAM yes", false).unwrap();
    let said = options.without_effect();
    assert!(said.contains("PasswordAuthentication (keys are the only way in)"), "{said}");
}

#[test]
fn what_is_wrong() {
    for (words, message) in [
        (&["-Z"][..], "read sshd's command line: sshd has no option -Z"),
        (&["--port=3"], "read sshd's command line: sshd has no option --"),
        (&["-p"], "read sshd's command line: -p needs a value"),
        (&["-o", ""], "read sshd's command line: -o needs a value"),
        (&["host"], "read sshd's command line: \"host\" belongs to no option"),
        (&["--", "x"], "read sshd's command line: \"x\" belongs to no option"),
        (&["-p", "x"], "read sshd's command line: -p takes a port from 0 to 65535, not \"x\""),
        (&["-oBogus=1"], "read sshd's command line: sshd has no setting Bogus"),
        (&["-oPort"], "read sshd's command line: Port takes a value, not \"\""),
        (
            &["-oPort=\"1"],
            "read sshd's command line: Port takes a value with its quotes closed, not \"\"",
        ),
        (&["-i"], "honour -i (sshd's command line): muster listens by itself"),
        (&["-f", "/no/such"], "read /no/such: No such file or directory (os error 2)"),
    ] {
        let error = parsed(words).unwrap_err();
        assert_eq!(error.to_string(), message, "{words:?}");
        assert_eq!(error.class(), Class::Config);
    }
    for (line, words) in [
        ("ListenAddress worker/0", "ListenAddress takes an address or a name"),
        ("ListenAddress 1.2.3.4:99999", "ListenAddress takes an address or a name"),
        ("AddressFamily ipv4", "AddressFamily takes any, inet or inet6"),
        ("LogLevel LOUD", "LogLevel takes a level"),
        ("SetEnv A", "SetEnv takes NAME=value"),
        ("RequiredRSASize many", "RequiredRSASize takes a number of bits"),
        ("Port 2222 \"", "Port takes a value with its quotes closed"),
        ("PidFile", "PidFile takes a value"),
        ("Bogus 1", "sshd has no setting Bogus"),
    ] {
        let error = configured(&format!("# one\n{line}\n"), false).unwrap_err().to_string();
        assert!(error.contains("sshd_config line 2: "), "{line}: {error}");
        assert!(error.contains(words), "{line}: {error}");
    }
}

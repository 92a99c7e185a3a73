//! The commands that set a node up, run as an operator runs them.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const KEY: &str = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5";

fn relay(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_intelmq-relay"));
    command.current_dir(folder).args(arguments).env_remove("RELAY_LOG").env_remove("JOURNAL_STREAM");
    command.output().unwrap()
}

/// Runs it, and returns what it prints: on standard output with code 0, else on standard error.
fn expect(code: i32, folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = relay(folder, arguments);
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
    if code == 0 {
        assert_eq!(stderr, "", "{arguments:?}");
        stdout
    } else if stderr.is_empty() {
        stdout
    } else {
        stderr
    }
}

#[test]
fn init_makes_what_is_missing_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let first = expect(0, folder.path(), &["init", "--name", "cert-at"]);
    for made in ["made  relay.toml", "/node.key (", "/data/", "/in/", "/out/"] {
        assert!(first.contains(made), "{first}");
    }
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("node.key"), mode("data")), (0o600, 0o700));
    assert_eq!(mode("relay.toml") & 0o137, 0, "nobody else may write the configuration, nor others read it");

    let key = fs::read_to_string(folder.path().join("node.key")).unwrap();
    let configuration = fs::read_to_string(folder.path().join("relay.toml")).unwrap();
    fs::remove_dir(folder.path().join("in")).unwrap();
    let second = expect(0, folder.path(), &["init"]);
    assert_eq!(second.matches("made  ").count(), 1, "{second}");
    assert!(second.contains("kept  relay.toml") && folder.path().join("in").is_dir(), "{second}");
    assert_eq!(fs::read_to_string(folder.path().join("node.key")).unwrap(), key);
    assert_eq!(fs::read_to_string(folder.path().join("relay.toml")).unwrap(), configuration);

    let other = expect(2, folder.path(), &["init", "--name", "cert-de"]);
    assert!(other.contains("is called cert-at, not cert-de"), "{other}");
}

#[test]
fn init_leaves_nothing_behind_when_its_arguments_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let error = expect(2, folder.path(), &["init", "--name", "cert-at", "--listen", "0.0.0.0:4747"]);
    assert!(error.starts_with("error: \"0.0.0.0:4747\" is no address to listen on"), "{error}");
    assert!(error.contains("\n  write it as"), "{error}");
    expect(2, folder.path(), &["init", "--name", "CERT"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn two_nodes_are_introduced_by_what_id_prints() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/4747"];
    expect(0, a.path(), &[&["init", "--name", "cert-a"][..], &listen].concat());
    expect(0, b.path(), &["init", "--name", "cert-b", "--dial-only"]);

    for (from, to) in [(&a, &b), (&b, &a)] {
        let printed = expect(0, from.path(), &["id"]);
        assert!(printed.contains("\nWith --give community"), "{printed}");
        let line = printed.lines().find(|line| line.contains("peer add")).unwrap();
        let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
        let added = expect(0, to.path(), &arguments);
        assert!(added.contains("is given nothing") && added.contains("systemctl reload"), "{added}");
    }
    let list = expect(0, b.path(), &["peer", "list"]);
    assert!(list.starts_with("cert-a  12D3KooW") && list.contains("/ip4/127.0.0.1/tcp/4747"), "{list}");
    assert!(expect(0, a.path(), &["peer", "list"]).trim_end().ends_with("dials us"));
    assert!(expect(0, a.path(), &["check"]).contains("it calls us; it is given nothing"));

    expect(0, b.path(), &["peer", "remove", "cert-a"]);
    assert!(expect(0, b.path(), &["peer", "list"]).contains("no peers"));
}

#[test]
fn peers_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let missing = expect(2, folder.path(), &["peer", "list"]);
    assert!(missing.contains("cannot read the configuration relay.toml") && missing.contains("init"), "{missing}");

    expect(0, folder.path(), &["init", "--name", "cert-at"]);
    expect(0, folder.path(), &["peer", "add", "cert-a", KEY, "--give", "community"]);
    let before = fs::read(folder.path().join("relay.toml")).unwrap();
    for (arguments, reason) in [
        (&["peer", "add", "cert-a", KEY][..], "there is a peer cert-a already"),
        (&["peer", "add", "cert-b", KEY], "the peers cert-a and cert-b have the same key"),
        (&["peer", "add", "cert-b", "12D3"], "expected the form 12D3KooW"),
        (&["peer", "remove", "cert-b"], "there is no peer cert-b"),
        (&["--log-level", "loud=very", "peer", "list"], "is no log level"),
    ] {
        let error = expect(2, folder.path(), arguments);
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
    assert_eq!(fs::read(folder.path().join("relay.toml")).unwrap(), before);
}

#[test]
fn check_finds_what_is_wrong_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    assert!(expect(1, folder.path(), &["check"]).contains("PROBLEM  configuration"));
    expect(0, folder.path(), &["init", "--name", "cert-at"]);
    assert!(expect(0, folder.path(), &["check"]).ends_with("\nAll is well.\n"));
    fs::remove_dir(folder.path().join("data")).unwrap();
    assert!(expect(0, folder.path(), &["check"]).contains("will be made"));

    let text = fs::read_to_string(&file).unwrap();
    let door = "[[take.redis]]\nname = \"redis\"\nqueue = \"q\"\nserver = { host = \"/no/redis\", password = \"x\" }\n";
    fs::write(&file, format!("{text}\n{door}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(folder.path().join("node.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_dir(folder.path().join("in")).unwrap();
    fs::remove_dir(folder.path().join("out")).unwrap();
    fs::write(folder.path().join("out"), "a file").unwrap();
    let found = expect(1, folder.path(), &["check"]);
    for (what, remedy) in [
        ("PROBLEM  passwords in relay.toml", "run: chmod o= relay.toml"),
        ("PROBLEM  key file", "run: chmod 600 /"),
        ("PROBLEM  door in", "run: intelmq-relay init"),
        ("PROBLEM  door out", "name a directory"),
        ("PROBLEM  door redis", "start that Redis"),
    ] {
        assert!(found.contains(what) && found.contains(remedy), "{found}");
    }
    assert!(found.ends_with("There are 5 problems.\n"), "{found}");
    let files = "[[give.files]]\nname = \"bare\"\ndirectory = \".\"\nevents = { shape = \"bare\", harmonization = \"no/such\" }\n";
    fs::write(&file, format!("{text}\n{files}")).unwrap();
    let found = expect(1, folder.path(), &["check"]);
    assert!(found.contains("PROBLEM  door bare\n         cannot read the data format"), "{found}");
    let id = expect(2, folder.path(), &["id"]);
    assert!(id.starts_with("error: others than its owner may use the key file"), "{id}");
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    expect(0, folder.path(), &["init", "--name", "cert-at"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_intelmq-relay"));
    let output = command.current_dir(folder.path()).arg("id").stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
}

#[test]
fn the_demo_proves_that_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let shown = expect(0, folder.path(), &["demo", "--events", "300"]);
    assert_eq!(shown.matches("300 of 300").count(), 3, "{shown}");
}

#[test]
fn check_looks_where_tcp_bots_meet_the_relay() {
    let folder = tempfile::tempdir().unwrap();
    expect(0, folder.path(), &["init", "--name", "us"]);
    let file = folder.path().join("relay.toml");
    let before = fs::read_to_string(&file).unwrap();
    let mine = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mine.local_addr().unwrap();
    let take = format!("[[take.tcp]]\nname = \"tcp-in\"\nlisten = \"{address}\"\n");
    let give = format!("[[give.tcp]]\nname = \"tcp-out\"\naddress = \"{address}\"\n");

    fs::write(&file, format!("{before}\n{take}")).unwrap();
    let printed = expect(1, folder.path(), &["check"]);
    assert!(
        printed.contains(&format!("PROBLEM  door tcp-in\n         something else listens at {address}")),
        "{printed}"
    );
    fs::write(&file, format!("{before}\n{give}")).unwrap();
    let printed = expect(0, folder.path(), &["check"]);
    assert!(printed.contains(&format!("ok       door tcp-out: TCP, a collector at {address}")), "{printed}");

    drop(mine);
    let printed = expect(1, folder.path(), &["check"]);
    assert!(
        printed.contains("PROBLEM  door tcp-out") && printed.contains("start IntelMQ's TCP collector"),
        "{printed}"
    );
    fs::write(&file, format!("{before}\n{take}")).unwrap();
    let printed = expect(0, folder.path(), &["check"]);
    assert!(printed.contains(&format!("ok       door tcp-in: TCP, {address} is free")), "{printed}");
}

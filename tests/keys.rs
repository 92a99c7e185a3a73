//! The key under a passphrase, or held by a command, as its operator has it.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const PEER: &str = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5";
const WORDS: &str = "mit-vielen-langen-worten";
const FILE: [&str; 2] = ["--passphrase-file", "words"];

/// The program in this folder, without a terminal that it could ask on.
fn relay(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_intelmq-relay")).current_dir(folder).args(arguments);
    command.stdin(Stdio::null());
    for variable in ["RELAY_LOG", "JOURNAL_STREAM", "RELAY_PASSPHRASE_FILE"] {
        command.env_remove(variable);
    }
    command
}

#[track_caller]
fn ended(code: i32, output: &Output) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8(text.clone()).unwrap());
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    assert!(!stdout.contains(WORDS) && !stderr.contains(WORDS), "it shows the passphrase: {stdout}\n{stderr}");
    if code == 0 || stderr.is_empty() { stdout } else { stderr }
}

#[track_caller]
fn expect(code: i32, folder: &Path, arguments: &[&str]) -> String {
    ended(code, &relay(folder, arguments).output().unwrap())
}

fn write_private(file: &Path, text: &str) {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// A folder with a passphrase in `words` and another in `others`, and nothing else.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_private(&folder.path().join("words"), &format!("{WORDS}\n"));
    write_private(&folder.path().join("others"), "ganz andere Worte");
    folder
}

fn key_in(printed: &str) -> String {
    printed.split_whitespace().find(|word| word.starts_with("12D3KooW")).unwrap().trim_end_matches('.').to_owned()
}

fn chmod(file: PathBuf, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_is_made_under_a_passphrase_and_only_the_secret_needs_it() {
    let folder = folder();
    let at = folder.path();
    let alone = expect(2, at, &["init", "--name", "us", "--passphrase"]);
    assert!(alone.contains("there is no terminal to ask for it") && alone.contains("--passphrase-file"), "{alone}");
    assert!(!at.join("relay.toml").exists() && !at.join("node.key").exists(), "something was left behind");

    let made = expect(0, at, &["init", "--name", "us", "--passphrase", FILE[0], FILE[1]]);
    assert!(made.contains("encrypted: keep a backup, and the passphrase"), "{made}");
    let text = fs::read_to_string(at.join("node.key")).unwrap();
    let key = key_in(&made);
    assert!(text.contains(&format!("\n# public key: {key}\n-----BEGIN AGE ENCRYPTED FILE-----\n")), "{text}");
    assert_eq!(fs::metadata(at.join("node.key")).unwrap().permissions().mode() & 0o777, 0o600);

    // Neither passphrase nor terminal.
    assert_eq!(key_in(&expect(0, at, &["id"])), key);
    let found = expect(0, at, &["check"]);
    assert!(found.contains(&format!("/node.key: {key}, encrypted\n")), "{found}");
    assert!(expect(2, at, &["peer", "add", "a", &key]).contains("is the key of this node"));
    expect(0, at, &["peer", "add", "a", PEER]);
    let found = expect(0, at, &["check"]);
    assert!(found.contains("note     key file") && found.contains("the peers are not called"), "{found}");
    let found = expect(0, at, &["check", FILE[0], FILE[1]]);
    assert!(found.contains("encrypted; the passphrase opens it"), "{found}");
    let found = expect(1, at, &["check", FILE[0], "others"]);
    assert!(found.contains("PROBLEM  key file") && found.contains("this is not the passphrase of"), "{found}");
}

#[test]
fn a_node_runs_with_the_passphrase_from_a_file() {
    let folder = folder();
    let at = folder.path();
    expect(0, at, &["init", "--name", "us", "--dial-only", "--passphrase", FILE[0], FILE[1]]);
    let alone = expect(2, at, &["run"]);
    assert!(alone.contains("the key needs a passphrase, and there is no terminal"), "{alone}");
    assert!(expect(2, at, &["run", FILE[0], "others"]).contains("this is not the passphrase of the key file"));
    let missing = expect(2, at, &["run", FILE[0], "none"]);
    assert!(missing.contains("cannot read the passphrase file none") && missing.contains("RELAY_PASSPHRASE_FILE"));
    chmod(at.join("others"), 0o640);
    let open = expect(2, at, &["run", FILE[0], "others"]);
    assert!(open.contains("others than its owner may use the passphrase file others (mode 0640)"), "{open}");
    assert!(open.contains("run: chmod 600 others"), "{open}");
    for text in ["", "\n", "two\nlines\n", &"x".repeat(5000)] {
        write_private(&at.join("bad"), text);
        assert!(expect(2, at, &["run", FILE[0], "bad"]).contains("holds no passphrase"), "{text:.20}");
    }

    let mut command = Command::new(env!("CARGO_BIN_EXE_intelmq-relay"));
    command.current_dir(at).arg("run").env("RELAY_PASSPHRASE_FILE", "words").env_remove("RELAY_LOG");
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&process);
    let mut log = String::new();
    let mut lines = BufReader::new(process.stderr.take().unwrap());
    while !log.contains("running") && lines.read_line(&mut log).unwrap() > 0 {}
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(process.wait().unwrap().success(), "{log}");
    assert!(log.contains("running") && !log.contains(WORDS), "{log}");
}

#[test]
fn a_key_file_is_encrypted_and_decrypted_in_its_place() {
    let folder = folder();
    let at = folder.path();
    let key = key_in(&expect(0, at, &["init", "--name", "us"]));
    let plain = fs::read_to_string(at.join("node.key")).unwrap();
    let kept = expect(0, at, &["init", "--passphrase", FILE[0], FILE[1]]);
    assert!(kept.contains("It is not encrypted. To change that: intelmq-relay key encrypt"), "{kept}");
    assert!(
        expect(2, at, &["key", "decrypt", FILE[0], FILE[1]]).contains("is not encrypted\n  there is nothing to do")
    );

    write_private(&at.join("short"), "1234567\n");
    assert!(expect(2, at, &["key", "encrypt", FILE[0], "short"]).contains("shorter than 8 characters"));
    assert!(expect(2, at, &["key", "encrypt"]).contains("no terminal to ask"));
    chmod(at.join("node.key"), 0o644);
    assert!(expect(2, at, &["key", "encrypt", FILE[0], FILE[1]]).contains("chmod 600"));
    chmod(at.join("node.key"), 0o600);
    assert_eq!(fs::read_to_string(at.join("node.key")).unwrap(), plain);

    let said = expect(0, at, &["key", "encrypt", FILE[0], FILE[1]]);
    assert!(said.contains(&format!("the key is still {key}")) && said.contains("Older copies"), "{said}");
    let encrypted = fs::read_to_string(at.join("node.key")).unwrap();
    assert!(!encrypted.contains(plain.trim()) && encrypted.contains("BEGIN AGE"), "{encrypted}");
    assert_eq!(fs::metadata(at.join("node.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(expect(2, at, &["key", "encrypt", FILE[0], FILE[1]]).contains("is encrypted already"));

    // Somebody who can write the file makes `id` tell another key, and it goes no further.
    write_private(&at.join("node.key"), &encrypted.replace(&key, PEER));
    let changed = expect(2, at, &["run", FILE[0], FILE[1]]);
    assert!(changed.contains(&format!("holds the key {key}, but its comment says {PEER}")), "{changed}");
    write_private(&at.join("node.key"), &encrypted);

    assert!(expect(2, at, &["key", "decrypt", FILE[0], "others"]).contains("not the passphrase"));
    assert!(expect(0, at, &["key", "decrypt", FILE[0], FILE[1]]).contains(&format!("the key is still {key}")));
    assert_eq!(fs::read_to_string(at.join("node.key")).unwrap(), plain);
}

/// The node opens the keys that it had, and the one that is to follow, with the passphrase of the one that it has.
#[test]
fn the_keys_beside_it_get_the_same_passphrase() {
    let folder = folder();
    let at = folder.path();
    expect(0, at, &["init", "--name", "us"]);
    expect(0, at, &["peer", "add", "cert-ee", PEER]);
    expect(0, at, &["key", "rotate", "--now"]);
    expect(0, at, &["key", "rotate"]);
    let files = ["node.key", "node.key.next", "node.key.1"];
    let read = || files.map(|file| fs::read_to_string(at.join(file)).unwrap());
    let plain = read();

    let said = expect(0, at, &["key", "encrypt", FILE[0], FILE[1]]);
    assert_eq!(said.matches("is encrypted now").count(), 3, "{said}");
    assert!(read().iter().all(|text| text.contains("BEGIN AGE")));
    assert!(expect(2, at, &["key", "decrypt", FILE[0], "others"]).contains("not the passphrase"));
    assert!(read().iter().all(|text| text.contains("BEGIN AGE")));
    // One that has another passphrase is left, and named.
    let file = at.join("node.key.1");
    fs::rename(&file, at.join("kept")).unwrap();
    let said = expect(0, at, &["key", "decrypt", FILE[0], FILE[1]]);
    assert_eq!(said.matches("is not encrypted any more").count(), 2, "{said}");
    assert_eq!(fs::read_to_string(at.join("node.key")).unwrap(), plain[0]);
    fs::rename(at.join("kept"), &file).unwrap();
    expect(0, at, &["key", "encrypt", FILE[0], "others"]);
    let said = expect(0, at, &["key", "decrypt", FILE[0], "others"]);
    assert!(said.contains("node.key.1 STAYS AS IT IS: this is not the passphrase"), "{said}");
}

/// `script` gives the program a terminal.
#[test]
fn a_passphrase_is_typed_without_echo() {
    let folder = folder();
    let at = folder.path();
    let typed = |arguments: &str, answers: &[(&str, &str)]| {
        let line = format!("{} {arguments}; echo code $?; stty -a", env!("CARGO_BIN_EXE_intelmq-relay"));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(at).env_remove("RELAY_PASSPHRASE_FILE");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut keyboard, mut screen) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut shown = Vec::new();
        let mut see = |text: &str, shown: &mut Vec<u8>| {
            let from = shown.len();
            let mut byte = [0];
            while !shown[from..].ends_with(text.as_bytes()) && screen.read(&mut byte).unwrap_or(0) > 0 {
                shown.push(byte[0]);
            }
        };
        for (prompt, answer) in answers {
            see(prompt, &mut shown);
            keyboard.write_all(answer.as_bytes()).unwrap();
        }
        see("no such text", &mut shown);
        process.wait().unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(!shown.contains(WORDS), "echoed: {shown}");
        let modes = ["echo", "isig", "icanon"].map(|mode| shown.split_whitespace().any(|word| word == mode));
        assert_eq!(modes, [true; 3], "the terminal is not as it was: {shown}");
        shown
    };
    let words = format!("{WORDS}\n");
    let shown = typed("init --name us --passphrase", &[("New passphrase: ", &words), ("The same again: ", "other\n")]);
    assert!(shown.contains("these were two passphrases") && !at.join("node.key").exists(), "{shown}");
    let shown = typed("init --name us --passphrase", &[("New passphrase: ", &words), ("The same again: ", &words)]);
    assert!(shown.contains("code 0"), "{shown}");
    let shown = typed("key decrypt", &[("node.key: ", "abc\u{3}")]);
    assert!(shown.contains("no passphrase was typed") && shown.contains("code 2"), "{shown}");
    let shown = typed("key decrypt", &[("node.key: ", &words)]);
    assert!(shown.contains("is not encrypted any more"), "{shown}");
}

#[test]
fn a_command_holds_the_key() {
    let folder = folder();
    let at = folder.path();
    let key = key_in(&expect(0, at, &["init", "--name", "us", "--dial-only"]));
    fs::rename(at.join("node.key"), at.join("held")).unwrap();
    let configuration = fs::read_to_string(at.join("relay.toml")).unwrap();
    let held = |command: &str| {
        let line = format!("name = \"us\"\nkey_command = {command}");
        fs::write(at.join("relay.toml"), configuration.replace("name = \"us\"", &line)).unwrap();
    };
    held(r#"["cat", "held"]"#);
    assert_eq!(key_in(&expect(0, at, &["id"])), key);
    let found = expect(0, at, &["check"]);
    assert!(found.contains(&format!("ok       key command cat: {key}\n")), "{found}");
    assert!(expect(2, at, &["peer", "add", "a", &key]).contains("is the key of this node"));
    let init = expect(0, at, &["init"]);
    assert!(init.contains("kept  the key that the key command cat holds") && !at.join("node.key").exists(), "{init}");
    assert!(expect(2, at, &["init", "--passphrase"]).contains("leave --passphrase away"));
    assert!(expect(2, at, &["key", "encrypt"]).contains("there is no key file"));

    for (command, reason) in [
        (r#"["/no/such/program"]"#, "cannot run the key command /no/such/program: No such file"),
        (r#"["sh", "-c", "echo no card >&2; cat held; exit 5"]"#, "sh failed (exit status: 5)\n  it says: no card\n"),
        (r#"["echo", "open sesame"]"#, "what the key command echo prints is no key"),
        (r#"["yes"]"#, "the key command yes prints more than a key"),
    ] {
        held(command);
        let error = expect(2, at, &["run"]);
        assert!(error.contains(reason), "{error}");
        let seed = fs::read_to_string(at.join("held")).unwrap();
        assert!(!error.contains(seed.trim()) && !error.contains("sesame"), "{error}");
        assert!(expect(1, at, &["check"]).contains("PROBLEM  key command"));
    }

    // It may be encrypted on top.
    fs::rename(at.join("held"), at.join("node.key")).unwrap();
    fs::write(at.join("relay.toml"), &configuration).unwrap();
    expect(0, at, &["key", "encrypt", FILE[0], FILE[1]]);
    held(r#"["cat", "node.key"]"#);
    assert_eq!(key_in(&expect(0, at, &["id"])), key);
    assert!(expect(2, at, &["run"]).contains("the key needs a passphrase"));
    assert!(expect(0, at, &["check", FILE[0], FILE[1]]).contains("key command cat: 12D3"));
}

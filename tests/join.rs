//! Two nodes become peers by an invitation, and whoever should not does not: through the real program, and by hand.
#![allow(clippy::unwrap_used)] // Tests.

#[path = "support/relay.rs"]
#[allow(dead_code)] // Other tests use the rest of it.
mod relay;

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use intelmq_relay::config;
use intelmq_relay::envelope::{EncryptionSecret, Key, Secret};
use intelmq_relay::invite::{Asked, Invitation, Message, Refusal, Ticket, commitment, guest_nonce};
use intelmq_relay::net::{Call, GuestEnd, JoinError, Joined, Joiner, Net, Peer, join};
use relay::{PATIENCE, Relay, command, wait_for, wait_until};
use serde_bytes::ByteArray;

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

/// A running node with the files doors that `init` makes.
fn node(name: &str) -> Relay {
    let mut relay = Relay::init(name);
    let door = |kind: &str, way: &str| format!("[[{kind}.files]]\nname = \"{way}\"\ndirectory = \"{way}\"\n");
    relay.and(&format!("# The doors.\n{}{}", door("take", "in"), door("give", "out")));
    relay.start();
    relay
}

/// The line that it prints.
#[track_caller]
fn invite(relay: &Relay, arguments: &[&str]) -> String {
    let printed = relay.expect(0, &[&["invite"], arguments].concat());
    assert_eq!(printed.lines().count(), 1, "{printed}");
    printed.trim().to_owned()
}

fn read(line: &str) -> Invitation {
    Invitation::read(line).expect("a line of ours")
}

/// The six words in a text that has them in a line of their own.
#[track_caller]
fn words(text: &str) -> String {
    let alone = |line: &&str| line.split(' ').count() == 6 && line.bytes().all(|b| b.is_ascii_lowercase() || b == b' ');
    text.lines().map(str::trim).find(alone).unwrap_or_else(|| panic!("no words in {text}")).to_owned()
}

fn invited(relay: &Relay) -> Vec<serde_json::Value> {
    let lines = relay.expect(0, &["invite", "list", "--json"]);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn secret(seed: u8) -> Secret {
    Secret::from_seed(&[seed; 32])
}

/// The key that `init` has made.
fn secret_of(relay: &Relay) -> Secret {
    let text = std::fs::read_to_string(relay.path("node.key")).unwrap();
    let text = text.lines().find(|line| !line.starts_with('#')).unwrap();
    let seed: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect();
    Secret::from_seed(&seed.try_into().unwrap())
}

/// Joins as another program would, and writes nothing here.
async fn by_hand(line: &Invitation, name: &str, secret: &Secret) -> Result<Joined, JoinError> {
    within(join(line, &Joiner { name: &name.parse().unwrap(), secret, addresses: vec![] })).await
}

#[track_caller]
fn refusal(joined: Result<Joined, JoinError>) -> Refusal {
    match joined {
        Err(JoinError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_nodes_are_peers_in_test_mode_and_read_the_same_words() {
    let (at, mut ee) = (node("cert-at"), Relay::init("cert-ee"));
    let before = at.configuration();
    let line = invite(&at, &["cert-ee", "--give", "community"]);
    assert_eq!(invited(&at)[0]["state"], "open");

    // As it comes out of a mail, from standard input, with the node not yet running.
    let mut joining = command(&ee.path(""), &["join", "-", "--give", "community"]);
    let mut joining = joining.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (one, two) = line.split_at(60);
    write!(joining.stdin.take().unwrap(), "> {one}\r\n{two}\n").unwrap();
    assert_eq!(joining.wait_with_output().unwrap().status.code(), Some(2), "a quoted line is damaged");
    let mut joining = command(&ee.path(""), &["join", "-", "--give", "community"]);
    let mut joining = joining.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    write!(joining.stdin.take().unwrap(), "{one}\r\n{two}\n").unwrap();
    let joined = joining.wait_with_output().unwrap();
    let printed = String::from_utf8(joined.stdout).unwrap();
    assert!(joined.status.success() && printed.contains("Start the node now"), "{printed}");
    let ours = words(&printed);

    let used = &invited(&at)[0];
    assert_eq!(
        (&used["state"], &used["words"], &used["key"]),
        (&"used".into(), &ours.as_str().into(), &ee.key.as_str().into())
    );
    assert!(at.says("joined by invitation")["words"] == *ours, "{}", at.log_text());
    // Comments stay, and the words stand on both sides where test mode is ended.
    assert!(at.configuration().starts_with(before.trim_end()), "{}", at.configuration());
    for (node, other) in [(&at, &ee), (&ee, &at)] {
        let text = node.configuration();
        assert!(
            text.contains(&ours) && text.contains("\ntest = true\n") && text.contains("give = \"community\""),
            "{text}"
        );
        let list = node.expect(0, &["peer", "list"]);
        assert!(list.contains(&other.key) && list.contains("in test mode"), "{list}");
    }

    ee.and("[[give.files]]\nname = \"out\"\ndirectory = \"out\"\n");
    ee.start();
    at.linked("cert-ee");
    let event = |kind: &str, number: u8| {
        let event = format!(
            "{{\"feed.name\":\"try\",\"classification.type\":\"{kind}\",\"source.ip\":\"192.0.2.{number}\",\"tlp\":\"GREEN\"}}\n"
        );
        std::fs::write(at.path(&format!("in/.{number}")), event).unwrap();
        std::fs::rename(at.path(&format!("in/.{number}")), at.path(&format!("in/{number}.jsonl"))).unwrap();
    };
    let came = |number: u8| {
        let text = std::fs::read_to_string(ee.path("out/events.jsonl")).unwrap_or_default();
        text.contains(&format!("192.0.2.{number}"))
    };
    event("scanner", 1);
    event("test", 2);
    wait_until("the test comes", || came(2));
    assert!(!came(1), "only tests pass");
    // Both end it, as they were told.
    for node in [&at, &ee] {
        let text = node.configuration();
        node.configure(&text.replace("test = true", "test = false"));
        assert!(node.expect(0, &["reload"]).contains("has read relay.toml again"));
    }
    wait_until("test mode is over", || {
        at.status()["peers"]["cert-ee"]["test"] == serde_json::json!({"ours": false, "theirs": false})
    });
    event("scanner", 3);
    wait_until("an event comes", || came(3));
}

#[test]
fn who_invites_waits_and_is_told() {
    let (at, ee) = (node("cert-at"), Relay::init("cert-ee"));
    let waiting = |arguments: &[&str]| {
        let mut waiting = command(&at.path(""), &[&["invite", "cert-ee", "--wait"], arguments].concat());
        waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let line = |before: usize| {
        wait_for("it is invited", || invited(&at).get(before).filter(|last| last["state"] == "open").cloned());
    };
    let first = waiting(&["--valid", "1s"]);
    let output = first.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && stderr.contains("nobody has joined: the invitation is expired"),
        "{stderr}"
    );
    // That it works on this machine only is said loudly.
    assert!(stderr.contains("THE INVITATION WORKS ON THIS MACHINE ONLY") && stderr.contains("[net]"), "{stderr}");

    let second = waiting(&[]);
    line(1);
    at.expect(0, &["invite", "cancel", "cert-ee"]);
    let stderr = String::from_utf8(second.wait_with_output().unwrap().stderr).unwrap();
    assert!(stderr.contains("nobody has joined: the invitation is cancelled"), "{stderr}");

    let mut third = waiting(&["--qr"]);
    let mut out = std::io::BufReader::new(third.stdout.take().unwrap());
    let mut printed = String::new();
    out.read_line(&mut printed).unwrap();
    let joined = ee.expect(0, &["join", printed.trim()]);
    out.read_to_string(&mut printed).unwrap();
    assert!(third.wait().unwrap().success());
    assert!(printed.contains('█') && printed.contains("cert-ee has joined"), "{printed}");
    assert_eq!(words(&printed), words(&joined));
    assert!(joined.contains("cert-at is given nothing"), "{joined}");
    assert!(at.configuration().contains("give = \"none\"\ntest = true"), "{}", at.configuration());
}

/// The invitation says whom to meet, and that is somebody else now.
#[test]
fn an_invitation_does_not_outlive_the_key_that_it_names() {
    let [host, guest] = ["cert-at", "cert-ee"].map(node);
    let line = invite(&host, &["cert-ee"]);
    host.expect(0, &["key", "rotate"]);
    host.says("this node has another key from now on");
    wait_until("it runs again", || host.log_text().matches("\"running\"").count() > 1);
    let said = guest.expect(1, &["join", &line]);
    assert!(
        said.contains("has another key than cert-at had when it invited") && said.contains("a new one does"),
        "{said}"
    );
    guest.expect(0, &["join", &invite(&host, &["cert-ee"])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_refused_by_name() {
    let (at, ee) = (node("cert-at"), Relay::init("cert-ee"));
    let line = invite(&at, &["cert-ee"]);
    let ours = read(&line);
    let says = |relay: &Relay, code, line: &str| relay.expect(code, &["join", line]);

    // Before anybody is called.
    assert!(says(&ee, 2, &line[..line.len() - 1]).contains("the invitation is damaged"));
    let fi = Relay::init("cert-fi");
    assert!(says(&fi, 2, &line).contains("for cert-ee, and this node is cert-fi"));
    let old = Invitation { expires: 1_700_000_000_000, ..read(&line) };
    assert!(says(&ee, 2, &old.line()).contains("has expired, at 2023-11-14"));
    let nothing = tempfile::tempdir().unwrap();
    let missing = command(nothing.path(), &["join", &line]).output().unwrap();
    let missing = String::from_utf8(missing.stderr).unwrap();
    assert!(missing.contains("intelmq-relay init --name cert-ee"), "{missing}");

    // By whoever is there.
    let strangers = Invitation { ticket: Ticket::new([0; 16].into()), ..read(&line) };
    assert!(says(&ee, 1, &strangers.line()).contains("lets nobody in with this invitation"));
    let elsewhere = Invitation { key: secret(9).key(), ..read(&line) };
    assert!(says(&ee, 1, &elsewhere.line()).contains("has another key"));
    assert_eq!(refusal(by_hand(&ours, "cert-fi", &secret(2)).await), Refusal::OtherName);
    let renamed = Invitation { host: "cert-de".parse().unwrap(), ..read(&line) };
    assert_eq!(refusal(by_hand(&ours, "cert-ee", &secret_of(&at)).await), Refusal::OwnKey);
    at.expect(0, &["peer", "add", "cert-x", &secret(3).key().to_string()]);
    assert_eq!(refusal(by_hand(&ours, "cert-ee", &secret(3)).await), Refusal::KnownKey);
    at.expect(0, &["peer", "add", "cert-ee", &secret(4).key().to_string()]);
    assert_eq!(refusal(by_hand(&ours, "cert-ee", &secret(2)).await), Refusal::KnownName);
    at.expect(0, &["peer", "remove", "cert-ee"]);
    // None of these has used it.
    assert_eq!(invited(&at)[0]["state"], "open");

    at.expect(0, &["invite", "cancel", "cert-ee"]);
    assert!(says(&ee, 1, &line).contains("the invitation was withdrawn"));
    assert!(at.expect(1, &["invite", "cancel", "cert-ee"]).contains("no invitation for cert-ee is open"));

    let short = read(&invite(&at, &["cert-ee", "--valid", "1s"]));
    wait_until("it expires", || invited(&at)[1]["state"] == "expired");
    assert_eq!(refusal(by_hand(&short, "cert-ee", &secret(2)).await), Refusal::Expired);

    let line = invite(&at, &["cert-ee"]);
    by_hand(&read(&line), "cert-ee", &secret(2)).await.unwrap();
    assert!(says(&ee, 1, &line).contains("was used already, and not by this node"));
    assert!(at.expect(1, &["invite", "cert-ee"]).contains("is a peer already"));
    assert!(at.expect(1, &["invite", "cert-at"]).contains("is this node"));
    // The host calls itself something else than the line says: the guest takes it for another one.
    let renamed = Invitation { ticket: read(&line).ticket, ..renamed };
    let other = by_hand(&renamed, "cert-ee", &secret(2)).await;
    assert!(matches!(other, Err(JoinError::OtherName { .. })), "{other:?}");
    assert!(!ee.configuration().contains("[[peer]]") && !fi.configuration().contains("[[peer]]"));
}

#[test]
fn a_node_that_nobody_can_call_does_not_invite() {
    let mut relay = Relay::init("cert-at");
    assert!(relay.expect(1, &["invite", "cert-ee"]).contains("start it with"));
    relay.configure("[node]\nname = \"cert-at\"\n");
    relay.start();
    assert!(relay.expect(2, &["invite", "cert-ee"]).contains("no address that another one could reach it at"));
    assert!(relay.expect(2, &["invite", "cert-ee", "--address", "relay:4747"]).contains("no address of a node"));
    assert!(invited(&relay).iter().all(|invited| invited["state"] != "open"));
    let line = invite(&relay, &["cert-ee", "--address", "/dns/relay.cert.at.example/tcp/4747"]);
    assert_eq!(read(&line).addresses, ["/dns/relay.cert.at.example/tcp/4747"]);
    relay.terminate();
    relay.configure(
        "[node]\nname = \"cert-at\"\n[net]\nonly_peer_addresses = true\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n",
    );
    relay.start();
    assert!(relay.expect(2, &["invite", "cert-ee"]).contains("net.only_peer_addresses"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_works_once_also_when_nodes_are_killed() {
    let (mut at, ee) = (node("cert-at"), Relay::init("cert-ee"));
    let line = invite(&at, &["cert-ee"]);
    // The file cannot be written: what would be there for a moment is there already.
    let in_the_way = at.path(&format!("relay.toml.{}.new", at.pid()));
    std::fs::write(&in_the_way, "").unwrap();
    let before = at.configuration();
    assert!(ee.expect(1, &["join", &line]).contains("join again with the same line"));
    assert_eq!(at.configuration(), before);
    assert!(!ee.configuration().contains("[[peer]]"));
    // From here on it is that node's and nobody else's.
    at.kill9();
    at.start();
    assert_eq!(refusal(by_hand(&read(&line), "cert-ee", &secret(2)).await), Refusal::Used);
    // It has its answer, and dies before it has written anything. And the host dies.
    let first = by_hand(&read(&line), "cert-ee", &secret_of(&ee)).await.unwrap();
    at.kill9();
    assert!(at.configuration().contains(&first.words), "{}", at.configuration());
    at.start();
    assert_eq!(refusal(by_hand(&read(&line), "cert-ee", &secret(2)).await), Refusal::Used);
    let file = at.configuration();
    let joined = ee.expect(0, &["join", &line]);
    assert_eq!((words(&joined), at.configuration()), (first.words, file));
    let again = ee.expect(0, &["join", &line, "--give", "community"]);
    assert!(again.contains("stays in relay.toml as it is") && again.contains("is given nothing"), "{again}");
    assert_eq!(ee.configuration().matches("[[peer]]").count(), 1);
    // Who was removed does not come back by an old line.
    at.expect(0, &["peer", "remove", "cert-ee"]);
    assert!(ee.expect(1, &["join", &line]).contains("was used already"));
    assert!(!at.configuration().contains("[[peer]]"));
}

#[test]
fn what_else_was_changed_in_the_file_waits_for_its_operator() {
    let (at, ee) = (node("cert-at"), Relay::init("cert-ee"));
    let line = invite(&at, &["cert-ee"]);
    at.configure(&at.configuration().replace("ping_seconds = 2.0", "ping_seconds = 3.0"));
    at.and("[[peer]]\nname = \"cert-x\"\nkey = \"12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5\"");
    ee.expect(0, &["join", &line]);
    let peers = at.status()["peers"].clone();
    assert!(peers["cert-ee"].is_object() && peers["cert-x"].is_null(), "{peers:#}");
    // A reload says what a restart is needed for, to whoever asked for it.
    assert!(at.expect(1, &["reload"]).contains("the old configuration stays: [net] changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guests_connection_ends_also_when_nobody_ends_it() {
    let host = secret(1);
    let config = config::Net { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..Default::default() };
    let net = Net::start(&config, &host, vec![]).await.unwrap();
    let invitation = Invitation {
        host: "cert-at".parse().unwrap(),
        key: host.key(),
        addresses: net.listening(),
        ticket: Ticket::new([1; 16].into()),
        expires: 0,
        guest: "cert-ee".parse().unwrap(),
    };
    net.set_guests([invitation.ticket.guest().key()]).await.unwrap();
    let begun = Instant::now();
    let (mut guests, mut call) = (net.guests().unwrap(), within(Call::to(&invitation)).await.unwrap());
    let guest = within(guests.recv()).await.unwrap();
    assert!(within(call.receive()).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // Another may come then, until it is no guest any more.
    drop((guest, call));
    let mut call = within(Call::to(&invitation)).await.unwrap();
    net.set_guests([]).await.unwrap();
    assert!(within(call.receive()).await.is_err());
    assert!(matches!(within(Call::to(&invitation)).await.err(), Some(JoinError::TurnedAway(_))));
    net.shutdown().await;
}

/// A message of a guest of this invitation that is in order, of a node with this secret.
fn ask(invitation: &Invitation, secret: &Secret) -> Message {
    let ticket = invitation.ticket.guest().key();
    let nonce = guest_nonce(secret, &ticket, &invitation.key);
    let asked = Asked {
        node: invitation.guest.clone(),
        key: secret.key(),
        encryption: EncryptionSecret::derive(secret.expose_seed()).key(),
        addresses: vec![],
        software: "by hand".into(),
        commitment: ByteArray::new(commitment(&nonce)),
    };
    Message::ask(&asked, secret, &ticket, &invitation.key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_lies_floods_or_is_silent_is_cut_off_and_harms_nobody() {
    let at = node("cert-at");
    let ours = read(&invite(&at, &["cert-ee"]));
    let (malformed, nonce) = (Message::Refused(Refusal::Malformed), Message::Nonce(ByteArray::new([0; 16])));
    let ticket = ours.ticket.guest().key();

    let other = read(&invite(&at, &["cert-fi"]));

    // One connection is all that it has, the newest. Silent, it is cut off, by itself.
    let begun = Instant::now();
    let mut older = within(Call::to(&ours)).await.unwrap();
    let mut silent = within(Call::to(&ours)).await.unwrap();
    assert!(within(older.receive()).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(8), "its place is taken at once");
    let silence = tokio::spawn(async move { (silent.receive().await, begun.elapsed()) });
    // Others join meanwhile.
    by_hand(&other, "cert-fi", &secret(5)).await.unwrap();
    assert!(!silence.is_finished(), "nobody waits for it");
    let (end, after) = within(silence).await.unwrap();
    assert!(matches!(end, Err(GuestEnd::Closed(_))), "{end:?}");
    assert!(after < Duration::from_secs(40), "{after:?}");

    // Out of place; too long; with a key that it has not; with a number that it was not bound to.
    let refuses = async |message: Message| {
        let mut call = within(Call::to(&ours)).await.unwrap();
        // An error: it has been refused while it was still speaking.
        let _ = within(call.send(&message)).await;
        within(call.receive()).await
    };
    assert_eq!(refuses(nonce.clone()).await.unwrap(), malformed);
    let long = Message::Ask(serde_bytes::ByteBuf::from(vec![0; 60_000]), ByteArray::new([0; 64]));
    let answer = refuses(long).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer == malformed));
    let Message::Ask(content, _) = ask(&ours, &secret(2)) else { panic!() };
    assert_eq!(refuses(Message::Ask(content, ByteArray::new([1; 64]))).await.unwrap(), malformed);
    let elsewhere = Invitation { key: secret(8).key(), ticket: Ticket::new([1; 16].into()), ..read(&ours.line()) };
    assert_eq!(refuses(ask(&elsewhere, &secret(2))).await.unwrap(), malformed);

    let mut call = within(Call::to(&ours)).await.unwrap();
    call.send(&ask(&ours, &secret(2))).await.unwrap();
    assert!(matches!(within(call.receive()).await.unwrap(), Message::Nonce(_)));
    call.send(&nonce).await.unwrap();
    assert!(within(call.receive()).await.is_err(), "it wanted to choose the words");
    // A second hearing on one connection there is not; nothing that it says after is read.
    for _ in 0..1000 {
        if call.send(&nonce).await.is_err() {
            break;
        }
    }
    drop(call);
    assert_eq!(invited(&at)[0]["state"], "open");
    assert!(!at.configuration().contains("name = \"cert-ee\""));

    // Let in, it has not the protocol of peers, whichever of the two keys is the lower one.
    let at_key: Key = at.key.parse().unwrap();
    let mut orders = [false; 2];
    let mut of_lower = ticket < at_key;
    let mut invitation = ours;
    while orders != [true; 2] {
        if !std::mem::replace(&mut orders[usize::from(of_lower)], true) {
            let peer = Peer { name: at.name.parse().unwrap(), key: at_key, addresses: vec![at.address.clone()] };
            let config = config::Net { listen: vec![], dial_min_seconds: 0.05, ..Default::default() };
            let net = Net::start(&config, &invitation.ticket.guest(), vec![peer]).await.unwrap();
            let mut link = net.link(&at_key).unwrap();
            let mut state = net.link(&at_key).unwrap();
            tokio::select! {
                stream = link.next() => panic!("a guest got {stream:?}"),
                // The lower one asks, and is told; the other one would be asked, and is not.
                state = within(state.state_when(|state| of_lower && state.error.is_some())), if of_lower => {
                    let error = state.unwrap().error.unwrap();
                    assert!(error.contains("does not speak"), "{error}");
                }
                () = tokio::time::sleep(Duration::from_secs(2)), if !of_lower => {}
            }
            net.shutdown().await;
        }
        invitation = read(&invite(&at, &["cert-ee"]));
        of_lower = invitation.ticket.guest().key() < at_key;
    }
    // And a stranger has none at all.
    let stranger = Invitation { ticket: Ticket::new([3; 16].into()), ..read(&invitation.line()) };
    assert!(matches!(within(Call::to(&stranger)).await.err(), Some(JoinError::TurnedAway(_))));
    assert!(by_hand(&invitation, "cert-ee", &secret(2)).await.is_ok());
}

/// What docs/operating.md has for two operators: blocks of what they type, and of what they read, in order.
fn documented() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap();
    let section = page.split("\n## Two operators, from nothing\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let parts = section.split("```").skip(1).step_by(2);
    parts.map(|part| part.split_once('\n').map(|(kind, text)| (kind.to_owned(), text.to_owned())).unwrap()).collect()
}

/// What an operator types in a terminal, in the folder where that one is. Dropped, it ends.
struct Typed(Child);

impl Typed {
    fn new(folder: &Path, script: &str) -> Typed {
        let program = Path::new(env!("CARGO_BIN_EXE_intelmq-relay")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).current_dir(folder).env("PATH", path).env_remove("RELAY_LOG");
        let shell =
            shell.env_remove("JOURNAL_STREAM").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Typed(shell.spawn().unwrap())
    }

    #[track_caller]
    fn prints(mut self) -> String {
        let mut printed = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}: {printed}");
        printed
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same with other words.
fn with_words(text: &str, theirs: &str) -> String {
    text.replace(&words(text), theirs).trim().to_owned()
}

/// The transcript in the documentation, typed as it stands there; only the address is one of this machine's, and `exec`
/// lets the shell's place be taken by the node, so that it ends with it.
#[test]
fn what_the_documentation_tells_connects_two_nodes_in_under_two_minutes() {
    let begun = Instant::now();
    let (here, process) = (tempfile::tempdir().unwrap(), std::process::id());
    let (at, ee) = (here.path().join("at"), here.path().join("ee"));
    let address = format!("/ip4/127.{}.{}.99/tcp/4747", 1 + (process >> 8) % 250, process & 255);
    let typed = |block: &(String, String)| {
        assert_eq!(block.0, "sh", "{block:?}");
        let script = block.1.replace("/ip4/0.0.0.0/tcp/4747", &address);
        script.replace("\nintelmq-relay run\n", "\nexec intelmq-relay run\n")
    };
    let [start, invite, line, join, joined, welcomed, event, end] = documented().try_into().unwrap();
    let _: Vec<()> = [&at, &ee].map(|folder| std::fs::create_dir(folder).unwrap()).into();
    let at_node = Typed::new(&at, &typed(&start));
    let (at, ee) = (at.join("relay"), ee.join("relay"));
    wait_until("cert-at runs", || at.join("data/control.sock").exists());

    // On a terminal it waits by itself.
    let mut inviting = Typed::new(&at, &format!("{} --wait", typed(&invite).trim_end()));
    let mut printed = std::io::BufReader::new(inviting.0.stdout.take().unwrap());
    let mut ours = String::new();
    printed.read_line(&mut ours).unwrap();
    assert!(line.0 == "text" && Invitation::read(&line.1).is_ok() && Invitation::read(&ours).is_ok(), "{ours}");

    let script = typed(&join).replace("relay-invite:AYZnY2VydC1h…", ours.trim());
    let (script, run) = script.split_once("\nexec ").unwrap();
    let output = Typed::new(&here.path().join("ee"), script).prints();
    let output = &output[output.find("cert-at (intelmq-relay").unwrap()..];
    let shared = words(output);
    assert_eq!(output.trim(), with_words(&joined.1, &shared));
    let mut output = String::new();
    printed.read_to_string(&mut output).unwrap();
    assert_eq!(output.trim(), with_words(&welcomed.1, &shared));

    let ee_node = Typed::new(&ee, &format!("exec {run}"));
    Typed::new(&at, &typed(&event)).prints();
    let out = ee.join("out/events.jsonl");
    wait_until("the event comes out", || std::fs::read_to_string(&out).is_ok_and(|text| text.contains("192.0.2.1")));
    for folder in [&at, &ee] {
        Typed::new(folder, &typed(&end)).prints();
    }
    let status: serde_json::Value = serde_json::from_str(&Typed::new(&ee, "intelmq-relay status").prints()).unwrap();
    assert_eq!(status["peers"]["cert-at"]["test"]["ours"], false, "{status:#}");
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    drop((at_node, ee_node));
}

//! NATS as one would use it for the same: a stream of JetStream's with a backlog, and a second server, a leaf of the first,
//! whose stream has it as its source. Without signatures, encryption, or a sync for each message.
//!
//! The servers are processes of a benchmark's own, on free ports of the loopback, with their data in its folder.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::measured::Round;
use crate::nodes::process::{self, Disk};

/// Events that are published before the server is asked whether it has them.
const AT_ONCE: u64 = 1000;
/// How often a server is asked how many it has.
const LOOK: Duration = Duration::from_millis(20);
/// How long a server may take to start, and all of a round.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether it is installed.
pub fn is_there() -> bool {
    let version = Command::new("nats-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// A server with a backlog.
pub struct Backlog {
    folder: PathBuf,
    hub: Server,
    leaves: u16,
    events: u64,
}

impl Backlog {
    pub fn of(events: impl Iterator<Item = String>, folder: &Path) -> Backlog {
        let (folder, leaves, mut count) = (folder.to_owned(), free(), 0);
        let hub = Server::start("hub", &folder, &format!("listen: \"127.0.0.1:{leaves}\""));
        let mut client = hub.connect();
        client.create(&json!({"name": "EVENTS", "subjects": ["events"], "storage": "file"}));
        for event in events {
            count += 1;
            match count % AT_ONCE {
                0 => drop(client.ask("events", &event)),
                _ => client.publish("events", "", &event),
            }
        }
        client.wait("EVENTS", count);
        Backlog { folder, hub, leaves, events: count }
    }

    /// From the moment when the second stream is made.
    pub fn round(&self) -> Round {
        let folder = self.folder.join("round");
        fs::create_dir(&folder).unwrap();
        let remote = format!("remotes: [{{ url: \"nats-leaf://127.0.0.1:{}\" }}]", self.leaves);
        let leaf = Server::start("leaf", &folder, &remote);
        let mut client = leaf.connect();
        client.reach("$JS.hub.API.STREAM.INFO.EVENTS");
        let cpu = || self.hub.cpu_seconds() + leaf.cpu_seconds();
        let (before, begun) = (cpu(), Instant::now());
        let source = json!({"name": "EVENTS", "external": {"api": "$JS.hub.API"}});
        client.create(&json!({"name": "COPY", "storage": "file", "sources": [source]}));
        client.wait("COPY", self.events);
        let (span, cpu) = (begun.elapsed(), cpu() - before);
        let memory = process::memory(self.hub.0.id()) + process::memory(leaf.0.id());
        drop(leaf);
        let disk = Disk::of(&folder).blocks;
        fs::remove_dir_all(folder).unwrap();
        let events = self.events as f64;
        Round {
            rate: events / span.as_secs_f64(),
            cpu: cpu * 1e6 / events,
            disk: disk as f64 / events,
            memory: memory.most as f64,
        }
    }
}

/// A running server. Dropping it ends the process.
struct Server(Child, u16);

impl Server {
    fn start(name: &str, folder: &Path, leafnodes: &str) -> Server {
        let (port, file) = (free(), folder.join(format!("{name}.conf")));
        let store = folder.join(name);
        let text = format!(
            "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\n\
             jetstream {{ store_dir: {store:?}, domain: {name}, max_file_store: 100G }}\nleafnodes {{ {leafnodes} }}\n"
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Server(command.spawn().unwrap(), port)
    }

    fn connect(&self) -> Client {
        let begun = Instant::now();
        loop {
            if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.1)) {
                return Client::begin(stream);
            }
            assert!(begun.elapsed() < PATIENCE, "nats-server does not answer");
            std::thread::sleep(LOOK);
        }
    }

    fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(self.0.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection that speaks as much of NATS' protocol as this needs.
struct Client(BufReader<TcpStream>);

impl Client {
    fn begin(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Client(BufReader::with_capacity(1 << 16, stream));
        client.write(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"no_responders\":true,\"headers\":true}\r\nSUB answers 1\r\n");
        client
    }

    fn publish(&mut self, subject: &str, answer: &str, body: &str) {
        self.write(format!("PUB {subject} {answer} {}\r\n{body}\r\n", body.len()).as_bytes());
    }

    /// The answer; `None` where nobody hears it.
    fn ask(&mut self, subject: &str, body: &str) -> Option<Value> {
        self.publish(subject, "answers", body);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("nats-server answers");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["PING"] => self.write(b"PONG\r\n"),
                ["MSG" | "HMSG", .., length] => {
                    // Behind the text comes another end of a line. What has headers says that nobody hears it.
                    let mut text = vec![0; length.parse::<usize>().unwrap() + 2];
                    self.0.read_exact(&mut text).unwrap();
                    return (words[0] == "MSG").then(|| serde_json::from_slice(&text).unwrap());
                }
                ["-ERR", ..] => panic!("nats-server: {line}"),
                _ => {}
            }
        }
    }

    fn create(&mut self, stream: &Value) {
        let name = stream["name"].as_str().unwrap();
        let answer = self.ask(&format!("$JS.API.STREAM.CREATE.{name}"), &stream.to_string());
        assert!(answer.as_ref().is_some_and(|answer| answer["error"].is_null()), "{answer:?}");
    }

    /// Waits until a stream has so many.
    fn wait(&mut self, stream: &str, count: u64) {
        let begun = Instant::now();
        loop {
            let answer = self.ask(&format!("$JS.API.STREAM.INFO.{stream}"), "").unwrap();
            if answer["state"]["messages"].as_u64().unwrap() >= count {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not all events came into {stream}");
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until somebody hears it: the leaf is connected.
    fn reach(&mut self, subject: &str) {
        let begun = Instant::now();
        while self.ask(subject, "").is_none() {
            assert!(begun.elapsed() < PATIENCE, "the leaf does not reach the hub");
            std::thread::sleep(LOOK);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("nats-server reads");
    }
}

/// A port of the loopback that is free now.
fn free() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

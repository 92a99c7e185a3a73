//! A relay as its operator has it: a folder, the commands, and a process that can be killed.
//!
//! Every node has an address of the loopback network of its own (127.x.y.z, from this process' number), so that a node
//! that is started again has its port again, whatever runs beside it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use intelmq_relay::config;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(50);
/// Time that a node has to end when it is told to: several times what it takes for itself, on a busy machine.
const STOP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Waits until `so` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut so: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = so() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(POLL);
    }
}

/// Waits until `so` is true.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    wait_for(what, || so().then_some(()));
}

/// A node: its folder, and its process while it runs. Dropping it ends the process.
pub struct Relay {
    pub name: String,
    /// Its key, as PeerId.
    pub key: String,
    /// What is encrypted to it.
    pub encryption: String,
    /// Where it listens.
    pub address: String,
    /// Words before each command of the node, as `nsenter`'s: where it runs.
    pub around: Vec<String>,
    /// Further words before the one that runs, as `env`'s: with which clock.
    pub around_run: Vec<String>,
    folder: TempDir,
    process: Option<Child>,
    /// Reads what the process says.
    reader: Option<JoinHandle<()>>,
    log: Arc<Mutex<Vec<Value>>>,
}

impl Relay {
    /// Makes key and folder with `init`, and a configuration that names no doors and listens.
    pub fn init(name: &str) -> Relay {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let (process, node) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("/ip4/127.{}.{}.{node}/tcp/4747", 1 + (process >> 8) % 250, process & 255);
        let folder = tempfile::tempdir().unwrap();
        let mut relay = Relay {
            name: name.into(),
            key: String::new(),
            encryption: String::new(),
            address,
            around: Vec::new(),
            around_run: Vec::new(),
            folder,
            process: None,
            reader: None,
            log: Arc::default(),
        };
        relay.expect(0, &["init", "--name", name, "--listen", &relay.address]);
        let id = relay.expect(0, &["id"]);
        let key = id.split_whitespace().find(|word| word.starts_with("12D3KooW")).unwrap();
        relay.encryption = id.split_whitespace().find(|word| word.starts_with("X25")).unwrap().to_owned();
        relay.key = key.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        let net = "dial_min_seconds = 0.1\ndial_max_seconds = 0.4\nping_seconds = 2.0";
        relay.configure(&format!("[node]\nname = \"{name}\"\n[net]\nlisten = [\"{}\"]\n{net}\n", relay.address));
        relay
    }

    /// Replaces the configuration.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.path("relay.toml"), text).unwrap();
    }

    /// The configuration's text.
    pub fn configuration(&self) -> String {
        std::fs::read_to_string(self.path("relay.toml")).unwrap()
    }

    /// Changes the configuration of the running node, and waits until it holds.
    #[track_caller]
    pub fn reload(&self, from: &str, to: &str) {
        let text = self.configuration();
        assert!(text.contains(from), "{text}");
        self.configure(&text.replace(from, to));
        let read = || self.log_text().matches("configuration read again").count();
        let before = read();
        self.signal(Signal::HUP);
        wait_until("the node reads it", || read() > before);
    }

    /// Appends to the configuration.
    pub fn and(&self, text: &str) {
        self.configure(&format!("{}\n{text}\n", self.configuration()));
    }

    /// Takes `queue` of this Redis; `seal` are lines of `[take.redis.seal]`.
    pub fn takes(&self, server: &config::Redis, queue: &str, seal: &str) {
        let server = redis(server);
        self.and(&format!(
            "[[take.redis]]\nname = \"from-{queue}\"\nqueue = \"{queue}\"\nserver = {server}\n[take.redis.seal]\n{seal}"
        ));
    }

    /// Gives to `queue` of this Redis; `more` are further lines of the door.
    /// Events come out as they went in, where `more` says nothing else.
    pub fn gives(&self, server: &config::Redis, queue: &str, more: &str) {
        let server = redis(server);
        let plain =
            if more.contains("events") { "" } else { "events = { shape = \"typed\", harmonization = \"none\" }" };
        self.and(&format!(
            "[[give.redis]]\nname = \"to-{queue}\"\nqueue = \"{queue}\"\nserver = {server}\n{plain}\n{more}"
        ));
    }

    /// Has `peer` as its peer, and dials it; `give` is `none` or `community`.
    pub fn peer(&self, peer: &Relay, give: &str) {
        let Relay { name, key, address, encryption, .. } = peer;
        self.expect(0, &["peer", "add", name, key, address, "--give", give, "--encryption", encryption]);
    }

    /// Knows `origin`, which is no peer.
    pub fn knows(&self, origin: &Relay) {
        let Relay { name, key, encryption, .. } = origin;
        self.and(&format!("[[origin]]\nname = \"{name}\"\nkey = \"{key}\"\nencryption = \"{encryption}\""));
    }

    /// A file or folder of the node.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command in the folder.
    pub fn command(&self, arguments: &[&str]) -> Output {
        command_around(&self.around, self.folder.path(), arguments).output().unwrap()
    }

    /// Runs a command in the folder, which must end with `code`, and returns what it prints: on standard output with
    /// code 0, else on standard error.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments);
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert_eq!(status.code(), Some(code), "{}: {arguments:?}\n{stdout}\n{stderr}", self.name);
        if code == 0 { stdout } else { stderr }
    }

    /// Starts the process, and waits until it is running.
    #[track_caller]
    pub fn start(&mut self) {
        self.launch();
        wait_until("the node runs", || {
            if self.has_ended() {
                panic!("{} ended at once:\n{}", self.name, self.log_text());
            }
            self.logged("running").is_some()
        });
    }

    /// Starts the process and does not wait. The log begins anew.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.log = Arc::default();
        let around = [&self.around[..], &self.around_run].concat();
        let mut process = command_around(&around, self.folder.path(), &["--log-format", "json", "run"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = (BufReader::new(process.stderr.take().unwrap()).lines(), self.log.clone());
        self.reader = Some(std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // What is no JSON is a last word to the operator.
                log.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        }));
        self.process = Some(process);
    }

    /// The process' number.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Ends it as a crash would.
    pub fn kill9(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Tells it to end, which it must do in time and with success; returns how long it took.
    #[track_caller]
    pub fn terminate(&mut self) -> Duration {
        self.signal(Signal::TERM);
        let begun = Instant::now();
        let status = self.ended();
        assert!(status.success(), "{}: {status}\n{}", self.name, self.log_text());
        assert!(begun.elapsed() < STOP, "{} took {:?} to stop\n{}", self.name, begun.elapsed(), self.log_text());
        begun.elapsed()
    }

    /// Waits until it has ended by itself. Its log is complete then.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        let status = wait_for("the node ends", || process.try_wait().unwrap());
        let reader = self.reader.take().expect("it was started");
        wait_until("its log is read", || reader.is_finished());
        status
    }

    /// Whether the process has ended, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.try_wait().unwrap().is_some())
    }

    /// What `status` prints.
    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.expect(0, &["status"])).unwrap()
    }

    /// Waits until `so` is true of what `status` prints.
    #[track_caller]
    pub fn status_when(&self, what: &str, mut so: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            last = self.status();
            if so(&last) {
                return last;
            }
            std::thread::sleep(POLL);
        }
        panic!("{}: in vain: {what}\n{last:#}\n{}", self.name, self.log_text())
    }

    /// Waits until a link with `peer` stands.
    #[track_caller]
    pub fn linked(&self, peer: &str) {
        self.status_when(&format!("a link with {peer}"), |status| status["peers"][peer]["linked"] == true);
    }

    /// Waits until the log has `text` in a line's JSON, and returns the line.
    #[track_caller]
    pub fn says(&self, text: &str) -> Value {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(line) = self.logged(text) {
                return line;
            }
            std::thread::sleep(POLL);
        }
        panic!("{} never said {text:?}:\n{}", self.name, self.log_text())
    }

    /// The last line of the log that has `text`.
    pub fn logged(&self, text: &str) -> Option<Value> {
        let log = self.log.lock().unwrap();
        // Quotes would stand escaped in the line's own form.
        let has = |line: &&Value| plain(line).contains(text);
        log.iter().rev().find(has).cloned()
    }

    /// The log, for a failed test's message.
    pub fn log_text(&self) -> String {
        let log = self.log.lock().unwrap();
        log.iter().map(|line| format!("  {line}\n")).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.name, self.log_text());
        }
    }
}

/// The program, as an operator starts it in `folder`.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    command_around(&[], folder, arguments)
}

fn command_around(around: &[String], folder: &Path, arguments: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_intelmq-relay").to_owned();
    let words: Vec<&String> = around.iter().chain([&program]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(folder).args(arguments).env_remove("RELAY_LOG").env_remove("JOURNAL_STREAM");
    command
}

/// A line's texts, one after the other.
fn plain(line: &Value) -> String {
    match line {
        Value::Object(members) => members.iter().map(|(key, value)| format!("{key}={} ", plain(value))).collect(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn redis(server: &config::Redis) -> String {
    let password = server.password.as_ref().map_or(String::new(), |password| format!(", password = {:?}", password.0));
    format!("{{ host = {:?}, port = {}, db = {}{password} }}", server.host, server.port, server.db)
}

//! An IntelMQ of a test's own: real bots of the installed package, each a process, with a Redis and a folder of their
//! own; ended with the test, and by their numbers only.
//!
//! ```text
//! first-expert-queue → first-expert → relay-queue         (what the relay takes)
//! received-expert-queue → received-expert → file-output   (what the relay gives) → events.jsonl
//! ```
//!
//! Both experts are the stock taxonomy expert, which needs neither data nor network. On a failed test the bots' logs
//! and dumps are printed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::intelmq;
use super::redis_server::Redis;

/// The queue that the relay takes from; no bot owns it.
pub const OUT: &str = "relay-queue";
/// The queue that the relay gives to.
pub const IN: &str = "received-expert-queue";
/// Where an IntelMQ's own events begin.
pub const FIRST: &str = "first-expert-queue";

const EXPERT: &str = "intelmq.bots.experts.taxonomy.expert";
const FILE_OUTPUT: &str = "intelmq.bots.outputs.file.output";
const BOTS: [(&str, &str); 3] = [("first-expert", EXPERT), ("received-expert", EXPERT), ("file-output", FILE_OUTPUT)];
/// Of each log, on a failed test.
const TAIL: usize = 6_000;

/// What differs between pipelines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pipeline {
    /// `raw` comes out at the end.
    pub keeps_raw: bool,
    /// What the relay gives goes to the queue that it takes from, too.
    pub loops: bool,
}

/// A running instance. Dropping it ends its bots and its Redis.
pub struct Intelmq {
    name: &'static str,
    pub redis: Redis,
    folder: TempDir,
    bots: Vec<(&'static str, Child)>,
}

impl Intelmq {
    /// Starts Redis and bots; does not wait for the bots, whose queues wait for them. `lacks`: whether the local format
    /// lacks a field, as an older IntelMQ's does.
    pub fn start(name: &'static str, kind: Pipeline, lacks: impl Fn(&str) -> bool) -> Intelmq {
        let folder = tempfile::tempdir().unwrap();
        for part in ["etc", "var/log", "var/run", "var/lib/bots"] {
            fs::create_dir_all(folder.path().join(part)).unwrap();
        }
        let mut instance = Intelmq { name, redis: Redis::start(), folder, bots: Vec::new() };
        fs::write(instance.harmonization(), format_without(lacks)).unwrap();
        let runtime = instance.runtime(kind);
        // JSON is YAML.
        fs::write(instance.path("etc/runtime.yaml"), runtime.to_string()).unwrap();
        for (bot, module) in BOTS {
            let process = instance.spawn(bot, module);
            instance.bots.push((bot, process));
        }
        instance
    }

    /// The local format's file.
    pub fn harmonization(&self) -> PathBuf {
        self.path("etc/harmonization.conf")
    }

    /// The events that came out at the end, as the file output bot writes them.
    pub fn output(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("events.jsonl")).unwrap_or_default();
        // The bot may be in the middle of the last line.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.into()));
        text[..whole].lines().map(parse).collect()
    }

    /// What is wrong with the instance: bots that ended, messages that were dumped, errors in the logs.
    pub fn complaints(&mut self) -> Vec<String> {
        let name = self.name;
        let mut complaints = Vec::new();
        for (bot, process) in &mut self.bots {
            if let Some(status) = process.try_wait().unwrap() {
                complaints.push(format!("{name}: {bot} has ended: {status}"));
            }
        }
        for (file, text) in self.logs() {
            if file.ends_with(".dump") {
                complaints.push(format!("{name}: there is a {file}"));
            }
            let bad =
                text.lines().find(|line| [" - ERROR - ", " - CRITICAL - "].iter().any(|word| line.contains(word)));
            complaints.extend(bad.map(|line| format!("{name}: {file}: {line}")));
        }
        complaints
    }

    /// Queues that are not empty, the bots' internal ones too.
    pub fn waiting(&self) -> Vec<String> {
        let mut connection = self.redis.connect();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let queue = |key: &String| key.ends_with("-queue") || key.ends_with("-internal");
        keys.into_iter().filter(queue).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn runtime(&self, kind: Pipeline) -> Value {
        let server = self.redis.config();
        let mut runtime = json!({ "global": {
            "logging_level": "INFO",
            // A bot that cannot go on shows it at once.
            "error_retry_delay": 1,
            "statistics_host": server.host,
            "statistics_database": 3,
            "intelmqctl_check_orphaned_queues_ignore": [OUT],
        }});
        for side in ["source", "destination"] {
            runtime["global"][format!("{side}_pipeline_host")] = server.host.clone().into();
            runtime["global"][format!("{side}_pipeline_db")] = server.db.into();
        }
        for (bot, module) in BOTS {
            let parameters = match bot {
                "first-expert" => json!({ "destination_queues": { "_default": [OUT] } }),
                "received-expert" if kind.loops => {
                    json!({ "destination_queues": { "_default": ["file-output-queue", OUT] } })
                }
                "received-expert" => json!({ "destination_queues": { "_default": ["file-output-queue"] } }),
                _ => json!({ "file": self.path("events.jsonl"), "keep_raw_field": kind.keeps_raw }),
            };
            let group = if bot == "file-output" { "Output" } else { "Expert" };
            runtime[bot] = json!({
                "bot_id": bot, "name": bot, "description": bot, "module": module, "group": group,
                "enabled": true, "run_mode": "continuous", "parameters": parameters,
            });
        }
        runtime
    }

    fn spawn(&self, bot: &str, module: &str) -> Child {
        let printed = File::create(self.path(&format!("var/log/{bot}.printed"))).unwrap();
        let mut command = Command::new(intelmq::python().with_file_name(module));
        as_nobody(&mut command, self.folder.path());
        command.arg(bot).stdin(Stdio::null()).stdout(printed.try_clone().unwrap()).stderr(printed);
        command.spawn().unwrap_or_else(|error| panic!("{module} does not start: {error}"))
    }

    /// Names and texts of the files that the bots log and dump to.
    fn logs(&self) -> Vec<(String, String)> {
        let files = fs::read_dir(self.path("var/log")).unwrap().map(|entry| entry.unwrap().path());
        let mut logs: Vec<_> = files
            .map(|file| {
                let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
                (file.file_name().unwrap().to_string_lossy().into_owned(), text)
            })
            .collect();
        logs.sort();
        logs
    }
}

impl Drop for Intelmq {
    fn drop(&mut self) {
        for (_, process) in &mut self.bots {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}: waiting: {:?}", self.name, self.waiting());
            for (file, text) in self.logs() {
                let from = (text.len().saturating_sub(TAIL)..).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                eprintln!("{}: the end of {file}:\n{}", self.name, &text[from..]);
            }
        }
    }
}

/// What the parsers of the installed package make of their own tests' inputs: parser and message, as on the pipeline.
pub fn parser_events() -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    for part in ["etc", "var/log", "var/lib/bots"] {
        fs::create_dir_all(folder.path().join(part)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/parser_events.py");
    let mut python = python(folder.path());
    let output = python.args(["-W", "ignore"]).arg(script).output().unwrap();
    assert!(output.status.success(), "parser_events.py: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let pair = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["parser"].as_str().unwrap().to_owned(), line["message"].as_str().unwrap().to_owned())
    };
    text.lines().map(pair).collect()
}

/// The installed format, without the fields that are lacking.
fn format_without(lacks: impl Fn(&str) -> bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let find =
        "import os, intelmq; print(os.path.join(os.path.dirname(intelmq.__file__), 'etc', 'harmonization.conf'))";
    let output = python(folder.path()).args(["-c", find]).output().unwrap();
    assert!(output.status.success(), "IntelMQ: {}", String::from_utf8_lossy(&output.stderr));
    let file = String::from_utf8(output.stdout).unwrap();
    let mut format: Value = serde_json::from_str(&fs::read_to_string(file.trim()).unwrap()).unwrap();
    format["event"].as_object_mut().unwrap().retain(|field, _| !lacks(field));
    format.to_string()
}

fn python(folder: &Path) -> Command {
    let mut command = Command::new(intelmq::python());
    as_nobody(&mut command, folder);
    command
}

/// IntelMQ refuses to run as root, for which it asks `os.geteuid` and nothing else. Tests may run as root.
fn as_nobody(command: &mut Command, folder: &Path) {
    command.env("INTELMQ_ROOT_DIR", folder);
    if rustix::process::geteuid().is_root() {
        let file = folder.join("sitecustomize.py");
        // Once: a bot that starts may be reading it.
        if !file.exists() {
            fs::write(file, "import os\nos.geteuid = lambda: 1000\n").unwrap();
        }
        command.env("PYTHONPATH", folder);
    }
}

//! The sample botnet of `examples/botnet`, as its README tells a newcomer to use it.

#![allow(clippy::unwrap_used)] // A test that fails may panic, in what it calls too.

#[path = "support/intelmq.rs"]
mod intelmq;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::WaitOptions;
use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running botnet. Dropping it ends it.
struct Botnet(TempDir);

impl Botnet {
    fn up() -> Botnet {
        // What `up` starts outlives it: so it is ours to wait for, wherever this runs.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let botnet = Botnet(tempfile::tempdir().unwrap());
        let ports = free_ports(4);
        let output = Command::new(example("up"))
            .arg(botnet.0.path())
            .env("REDIS_PORT", ports.to_string())
            .env("RELAY_PORT", (ports + 1).to_string())
            .env("INTELMQ_VENV", intelmq::python().parent().unwrap().parent().unwrap())
            .env("INTELMQ_RELAY", env!("CARGO_BIN_EXE_intelmq-relay"))
            .env_remove("RELAY_LOG")
            .output()
            .unwrap();
        assert!(output.status.success(), "up: {output:?}");
        botnet
    }

    fn down(&self) -> Output {
        Command::new(example("down")).arg(self.0.path()).output().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As the README says: written elsewhere, then renamed.
    fn drop_at_a(&self, name: &str, text: &str) {
        fs::write(self.path("a/in/.new"), text).unwrap();
        fs::rename(self.path("a/in/.new"), self.path(&format!("a/in/{name}.jsonl"))).unwrap();
    }

    /// Waits for so many events at this CERT.
    fn events_at(&self, cert: &str, number: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(self.path(&format!("{cert}/events.jsonl"))).unwrap_or_default();
            if text.lines().count() >= number && text.ends_with('\n') {
                return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            assert!(begun.elapsed() < PATIENCE, "in vain: {number} events at {cert}: {text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(self.path(program)).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The processes that the scripts know of.
    fn pids(&self) -> Vec<u32> {
        let mut folders = vec![self.path("redis")];
        for cert in ["a", "b", "c"] {
            folders.extend([self.path(&format!("{cert}/relay")), self.path(&format!("{cert}/intelmq/var/run"))]);
        }
        let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
        let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "pid"));
        files.map(|file| fs::read_to_string(file).unwrap().trim().parse().unwrap()).collect()
    }
}

impl Drop for Botnet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for cert in ["a", "b", "c"] {
                let log = fs::read_to_string(self.path(&format!("{cert}/relay/relay.log"))).unwrap_or_default();
                eprintln!("the log of {cert}'s relay:\n{log}");
            }
        }
        self.down();
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/botnet").join(name)
}

/// The first of so many ports that are free now, from those that the system gives to nobody by itself: the relays' own
/// connections would take them.
fn free_ports(number: u16) -> u16 {
    let begin = (std::process::id() % 2_000) as u16;
    let mut firsts = (0..2_000).map(|step| 10_000 + (begin + step) % 2_000 * 10);
    let free = |first: &u16| (0..number).all(|more| TcpListener::bind(("127.0.0.1", first + more)).is_ok());
    firsts.find(free).expect("there are free ports")
}

#[test]
fn the_sample_botnet_does_what_its_readme_says() {
    let botnet = Botnet::up();
    let pids = botnet.pids();
    assert_eq!(pids.len(), 1 + 3 + 3 * 6, "{pids:?}");
    let status = botnet.run("b/intelmqctl", &["status"]);
    assert_eq!(status.matches("is running").count(), 6, "{status}");

    botnet.drop_at_a("one", "{\"source.ip\": \"192.0.2.7\", \"classification.type\": \"infected-system\"}\n");
    for cert in ["b", "c"] {
        let events = botnet.events_at(cert, 1);
        assert_eq!(
            (&events[0]["source.ip"], &events[0]["extra.relay.origin"]),
            (&"192.0.2.7".into(), &"cert-a".into())
        );
    }

    // One relay is away for a while.
    let away = fs::read_to_string(botnet.path("c/relay/relay.pid")).unwrap();
    Command::new("kill").arg(&away).status().unwrap();
    while Path::new("/proc").join(&away).join("exe").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    botnet.drop_at_a("two", "{\"source.ip\": \"192.0.2.8\", \"classification.type\": \"scanner\"}\n");
    assert_eq!(botnet.events_at("b", 2).len(), 2);
    let again = "cd c/relay && { nohup ../intelmq-relay run >> relay.log 2>&1 & echo $! > relay.pid; }; cd ../..";
    let readme = fs::read_to_string(example("README.md")).unwrap();
    assert!(readme.contains(again), "the README starts it otherwise");
    Command::new("sh").args(["-c", again]).current_dir(botnet.0.path()).status().unwrap();
    assert_eq!(botnet.events_at("c", 2).len(), 2);
    assert!(fs::read_to_string(botnet.path("a/events.jsonl")).unwrap().is_empty(), "its own events do not come back");
    assert_eq!(botnet.run("b/intelmq-relay", &["tail", "--no-follow"]).lines().count(), 2);

    for cert in ["a", "b"] {
        let check = botnet.run(&format!("{cert}/intelmqctl"), &["check"]);
        assert!(check.contains("No issues found"), "{check}");
    }

    let pids = [pids, botnet.pids()].concat();
    let output = botnet.down();
    assert!(output.status.success(), "{output:?}");
    let left: Vec<_> = pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()).collect();
    assert!(left.is_empty(), "still there: {left:?}");
    assert!(botnet.pids().is_empty());
}

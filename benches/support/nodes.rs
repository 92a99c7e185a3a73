//! Relays as processes of the built program, as benchmarks run them.

#[path = "process.rs"]
pub mod process;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use intelmq_relay::config::make_key_file;
use intelmq_relay::envelope::Secret;
use rustix::process::{Pid, Signal, kill_process};

const RELAY: &str = env!("CARGO_BIN_EXE_intelmq-relay");

/// A node's folder.
pub struct Place {
    pub folder: PathBuf,
    pub key: String,
}

impl Place {
    pub fn new(folder: PathBuf) -> Place {
        fs::create_dir(&folder).unwrap();
        let file = folder.join("node.key");
        let mut seed = [0; 32];
        rand::Rng::fill_bytes(&mut rand::rng(), &mut seed);
        make_key_file(&file, &seed, None).unwrap();
        let key = Secret::from_seed(&seed).key().to_string();
        Place { folder, key }
    }

    pub fn configure(&self, name: &str, doors: &str, peer_key: &str, peer: &str, addresses: &str) {
        let text = format!(
            "[node]\nname = \"{name}\"\n[net]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n\
             [[peer]]\nname = \"{peer}\"\nkey = \"{peer_key}\"\ngive = \"community\"\n{addresses}\n{doors}"
        );
        fs::write(self.folder.join("relay.toml"), text).unwrap();
    }
}

/// A running relay. Dropping it ends the process.
pub struct Relay {
    process: Child,
    log: PathBuf,
}

impl Relay {
    pub fn start(place: &Place) -> Relay {
        let log = place.folder.join("log");
        let mut command = Command::new(RELAY);
        command.current_dir(&place.folder).args(["--log-format", "json", "run"]);
        command.env_remove("RELAY_LOG").env_remove("JOURNAL_STREAM");
        let process =
            command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().expect("the relay starts");
        Relay { process, log }
    }

    /// The address that the system gave it: it is in the log when the node runs.
    pub fn listening(&self) -> String {
        let begun = Instant::now();
        loop {
            let log = fs::read_to_string(&self.log).unwrap();
            if let Some(at) = log.find("/ip4/127.0.0.1/tcp/") {
                let rest = &log[at..];
                if let Some(end) = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/.".contains(c))) {
                    return rest[..end].to_owned();
                }
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the relay does not listen:\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// User and system time so far, of all threads.
    pub fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(self.process.id())
    }

    /// What it takes of memory.
    pub fn memory(&self) -> process::Memory {
        process::memory(self.process.id())
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

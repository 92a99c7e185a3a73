//! Nodes with several peers each.

use std::fmt::Write as _;
use std::fs;

use super::nodes::{Place, Relay};

/// A node of a network: its name, its folder, and its process while it runs.
pub struct Member {
    pub name: String,
    pub place: Place,
    pub relay: Option<Relay>,
    /// Where it listens, once it was started.
    address: Option<String>,
}

impl Member {
    pub fn new(name: String, place: Place) -> Member {
        Member { name, place, relay: None, address: None }
    }

    /// Writes its configuration: it dials those peers that were started before it. `more` is appended.
    pub fn configure(&self, peers: &[&Member], more: &str) {
        let mut text = format!("[node]\nname = \"{}\"\n[net]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n", self.name);
        for peer in peers {
            let addresses: Vec<&String> = peer.address.iter().collect();
            let (name, key) = (&peer.name, &peer.place.key);
            writeln!(
                text,
                "[[peer]]\nname = \"{name}\"\nkey = \"{key}\"\naddresses = {addresses:?}\ngive = \"community\""
            )
            .unwrap();
        }
        fs::write(self.place.folder.join("relay.toml"), text + more).unwrap();
    }

    /// Starts it; after that it keeps its port.
    pub fn start(&mut self) {
        let relay = Relay::start(&self.place);
        let listening = relay.listening();
        let port = listening.split('/').nth(4).unwrap();
        let file = self.place.folder.join("relay.toml");
        let text = fs::read_to_string(&file).unwrap().replace("tcp/0\"", &format!("tcp/{port}\""));
        fs::write(&file, text).unwrap();
        (self.relay, self.address) = (Some(relay), Some(format!("/ip4/127.0.0.1/tcp/{port}")));
    }

    /// The running process.
    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("it runs")
    }
}

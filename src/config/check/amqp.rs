//! AMQP doors: no queue in two doors' hands, and none that the relay would feed to itself.

use super::super::{Amqp, Config};
use super::doors::queue_name;
use super::{Found, Unique};

pub(super) fn check(config: &Config, found: &mut Found) {
    let (mut taken, mut given) = (Unique::new(), Unique::new());
    for (i, door) in config.take.amqp.iter().enumerate() {
        server(&door.server, &format!("take.amqp.{i}.server"), found);
        queue_name(&door.queue, &format!("take.amqp.{i}.queue"), found);
        let claimed = taken.claim((broker(&door.server), &door.queue), door.name.as_str());
        if let Some(first) = claimed {
            found.add(
                format!("take.amqp.{i}.queue"),
                format!("the doors {first} and {} take from the same queue: it has one consumer", door.name),
                "remove one of the doors, or correct its queue",
            );
        }
    }
    for (i, door) in config.give.amqp.iter().enumerate() {
        server(&door.server, &format!("give.amqp.{i}.server"), found);
        queue_name(&door.queue, &format!("give.amqp.{i}.queue"), found);
        let queue = (broker(&door.server), &door.queue);
        if let Some(first) = taken.0.get(&queue) {
            found.add(
                format!("give.amqp.{i}.queue"),
                format!(
                    "the doors {first} and {} take from and give to the same queue: events would go in circles",
                    door.name
                ),
                "let the relay take from a queue that a bot writes, and give to the source queue of another bot",
            );
        }
        if let Some(first) = given.claim(queue, door.name.as_str()) {
            found.add(
                format!("give.amqp.{i}.queue"),
                format!("the doors {first} and {} give to the same queue: every event would come twice", door.name),
                "remove one of the doors, or correct its queue",
            );
        }
    }
}

fn server(server: &Amqp, place: &str, found: &mut Found) {
    if server.port == 0 {
        found.add(format!("{place}.port"), "port = 0 is out of range", "choose from 1 to 65535");
    }
    // What the protocol can carry.
    for (key, text) in [("vhost", &server.vhost), ("user", &server.user)] {
        if text.is_empty() || text.len() > 255 {
            found.add(
                format!("{place}.{key}"),
                format!("{key} has {} bytes", text.len()),
                "write it with 1 to 255 bytes, or remove the key",
            );
        }
    }
}

/// One spelling per broker and vhost, as far as a text can tell.
fn broker(server: &Amqp) -> (String, u16, &str) {
    let host = match server.host.to_ascii_lowercase().as_str() {
        "localhost" | "127.0.0.1" | "::1" => "localhost".into(),
        other => other.to_owned(),
    };
    (host, server.port, &server.vhost)
}

//! Doors: no two of them in each other's way, and none that feeds another into a loop.

use std::path::Path;

use super::super::{Config, Redis};
use super::{Found, Unique};

pub(super) fn check(config: &Config, found: &mut Found) {
    names(config, found);
    queues(config, found);
    directories(config, found);
}

fn names(config: &Config, found: &mut Found) {
    let (take, give) = (&config.take, &config.give);
    let doors = (take.redis.iter().enumerate().map(|(i, door)| (format!("take.redis.{i}.name"), &door.name)))
        .chain(take.files.iter().enumerate().map(|(i, door)| (format!("take.files.{i}.name"), &door.name)))
        .chain(give.redis.iter().enumerate().map(|(i, door)| (format!("give.redis.{i}.name"), &door.name)))
        .chain(give.files.iter().enumerate().map(|(i, door)| (format!("give.files.{i}.name"), &door.name)))
        .chain(take.tcp.iter().enumerate().map(|(i, door)| (format!("take.tcp.{i}.name"), &door.name)))
        .chain(give.tcp.iter().enumerate().map(|(i, door)| (format!("give.tcp.{i}.name"), &door.name)))
        .chain(take.amqp.iter().enumerate().map(|(i, door)| (format!("take.amqp.{i}.name"), &door.name)))
        .chain(give.amqp.iter().enumerate().map(|(i, door)| (format!("give.amqp.{i}.name"), &door.name)));
    let mut names = Unique::new();
    for (place, name) in doors {
        if names.claim(name, "").is_some() {
            found.add(
                place,
                format!("there are two doors with the name {name}"),
                "every door has its own name, whether it takes or gives: its cursor is kept under it",
            );
        }
    }
}

fn queues(config: &Config, found: &mut Found) {
    let take = config.take.redis.iter().enumerate();
    let take = take.map(|(i, door)| (format!("take.redis.{i}.queue"), true, &door.name, &door.queue, &door.server));
    let give = config.give.redis.iter().enumerate();
    let give = give.map(|(i, door)| (format!("give.redis.{i}.queue"), false, &door.name, &door.queue, &door.server));
    let (mut taken, mut given) = (Unique::new(), Unique::new());
    for (place, takes, name, queue, server) in take.chain(give) {
        queue_name(queue, &place, found);
        let queue = (queue.as_str(), host(server), server.port, server.db);
        let (same, other) = if takes { (&mut taken, &given) } else { (&mut given, &taken) };
        if let Some(first) = other.0.get(&queue) {
            found.add(
                place.clone(),
                format!(
                    "the doors {first} and {name} take from and give to the same queue: events would go in circles"
                ),
                "let the relay take from a queue that a bot writes, and give to the source queue of another bot",
            );
        }
        if let Some(first) = same.claim(queue, name.as_str()) {
            let effect = if takes {
                "take from the same queue: it has one consumer"
            } else {
                "give to the same queue: every event would come twice"
            };
            found.add(
                place,
                format!("the doors {first} and {name} {effect}"),
                "remove one of the doors, or correct its queue",
            );
        }
    }
}

pub(super) fn queue_name(queue: &str, place: &str, found: &mut Found) {
    if queue.is_empty() || queue.chars().any(|c| c.is_control() || c.is_whitespace()) {
        found.add(place, format!("{queue:?} is no queue of IntelMQ"), "name it as IntelMQ does: \"<bot-id>-queue\"");
    } else if queue.ends_with("-internal") {
        found.add(
            place,
            format!("{queue:?} is the internal queue of a bot, which only its bot may touch"),
            "name the queue without \"-internal\"",
        );
    }
}

/// One spelling per server, as far as a text can tell.
fn host(server: &Redis) -> String {
    match server.host.to_ascii_lowercase().as_str() {
        "localhost" | "127.0.0.1" | "::1" => "localhost".into(),
        // The path of a socket has cases.
        _ if server.host.starts_with('/') => server.host.clone(),
        other => other.into(),
    }
}

fn directories(config: &Config, found: &mut Found) {
    let mut all: Vec<(String, &'static str, &Path)> = vec![("node.data".into(), "the node's data", &config.node.data)];
    for (i, door) in config.take.files.iter().enumerate() {
        all.push((format!("take.files.{i}.directory"), "files to take", &door.directory));
        all.extend(door.taken.iter().map(|path| (format!("take.files.{i}.taken"), "files that were taken", &**path)));
    }
    for (i, door) in config.give.files.iter().enumerate() {
        all.push((format!("give.files.{i}.directory"), "files that are given", &door.directory));
    }
    let mut owners = Unique::new();
    for (place, what, path) in all {
        if let Some(first) = owners.claim(path, what) {
            found.add(
                place,
                format!("the directory {} is for {first}, and cannot be for {what} too", path.display()),
                "give each its own directory",
            );
        }
    }
}

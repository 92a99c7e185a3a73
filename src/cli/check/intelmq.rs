//! `check`, on IntelMQ's side: whether bots read and write the doors' queues, and whether their Redis keeps them.

use futures::future::join_all;

use super::Finding;
use crate::config::{self, Config};
use crate::envelope::Name;
use crate::intelmq::{Botnet, DoorError, Keeps, Probe, Reader, probe_redis};

/// A door and its queue.
struct Door<'a> {
    name: &'a str,
    queue: &'a str,
    server: &'a config::Redis,
    takes: bool,
}

impl Door<'_> {
    fn wiring(&self, botnet: &Botnet, file: &str) -> Finding {
        wiring(self.name, self.queue, self.takes, botnet, file)
    }
}

/// The Redis doors, all at once.
pub(super) async fn redis(config: &Config) -> Vec<Finding> {
    let take = config.take.redis.iter();
    let take =
        take.map(|door| Door { name: door.name.as_str(), queue: &door.queue, server: &door.server, takes: true });
    let give = config.give.redis.iter();
    let give =
        give.map(|door| Door { name: door.name.as_str(), queue: &door.queue, server: &door.server, takes: false });
    let doors: Vec<Door<'_>> = take.chain(give).collect();
    let probes = join_all(doors.iter().map(|door| probe_redis(door.server, door.queue))).await;
    let mut findings: Vec<Finding> = doors.iter().zip(probes).flat_map(|(door, probe)| queue(door, probe)).collect();
    findings.extend(botnet(&config.node.name, &doors));
    findings
}

fn queue(door: &Door<'_>, probe: Result<Probe, DoorError>) -> Vec<Finding> {
    let what = format!("door {}", door.name);
    let probe = match probe {
        Ok(probe) => probe,
        Err(DoorError::Retry(error)) => {
            let remedy = "start that Redis, or correct host and port of the door's server";
            return vec![Finding::problem(what, format!("{error}\n  {remedy}"))];
        }
        Err(error) => return vec![Finding::problem(what, error.to_string())],
    };
    let Probe { length, growth, read, evicts, keeps } = probe;
    let mut findings = vec![Finding::ok(format!("{what}: Redis, queue {} with {length} items", door.queue))];
    let reader = if door.takes { "the relay: does the node run?" } else { "a bot: does it run? (intelmqctl status)" };
    if read == Some(false) {
        findings.push(Finding::note(
            format!("{what}: nobody takes from {}", door.queue),
            format!("{length} items wait ({growth:+} in a moment), and the oldest stays\n  it is for {reader}"),
        ));
    }
    if let Some(policy) = evicts {
        findings.push(Finding::problem(
            format!("{what}: Redis throws queues away when it is full"),
            format!(
                "maxmemory-policy is {policy}\n  set maxmemory-policy to noeviction, or volatile-lru, in redis.conf"
            ),
        ));
    }
    findings.extend(kept(keeps).map(|(is, then)| {
        let remedy = "set appendonly yes in redis.conf, if what waits in queues must not get lost";
        Finding::note(format!("{what}: {is}"), format!("{then}\n  {remedy}"))
    }));
    findings
}

fn kept(keeps: Keeps) -> Option<(&'static str, &'static str)> {
    match keeps {
        Keeps::Nothing => Some(("Redis keeps nothing on disk", "what is in its queues is lost when it restarts")),
        Keeps::Snapshots => Some(("Redis saves from time to time", "a crash loses what came into its queues since")),
        Keeps::Soon | Keeps::Everything | Keeps::Unknown => None,
    }
}

/// What runtime.yaml says of the doors' queues, where there is one.
fn botnet(node: &Name, doors: &[Door<'_>]) -> Vec<Finding> {
    let Some((file, botnet)) = Botnet::find().filter(|_| !doors.is_empty()) else { return Vec::new() };
    let file = file.display();
    match botnet {
        Ok(botnet) => {
            let file = file.to_string();
            let wiring = doors.iter().map(|door| door.wiring(&botnet, &file));
            wiring.chain(orphans(node, doors, &botnet, &file)).collect()
        }
        Err(error) => vec![unreadable(&file.to_string(), &error)],
    }
}

pub(super) fn unreadable(file: &str, error: &str) -> Finding {
    Finding::problem(
        format!("IntelMQ's {file}"),
        format!("{error}\n  let this user read it, or correct it (intelmqctl check)"),
    )
}

/// What a botnet says of a door's queue.
pub(super) fn wiring(name: &str, queue: &str, takes: bool, botnet: &Botnet, file: &str) -> Finding {
    let what = format!("door {name}: {queue} in {file}");
    if takes {
        if let Some(Reader { bot, .. }) = botnet.reader(queue) {
            return Finding::problem(
                what,
                format!("the bot {bot} reads it too: each gets a part\n  give the relay a queue of its own"),
            );
        }
        if botnet.writers(queue).is_empty() {
            return Finding::problem(
                what,
                format!("no bot writes to it\n  add {queue} to destination_queues of the bot whose events go out"),
            );
        }
        return Finding::ok(what);
    }
    match botnet.reader(queue) {
        None => Finding::problem(
            what,
            "no bot reads it: what is given there stays in the broker\n  \
             name the queue of a bot, <bot-id>-queue",
        ),
        Some(Reader { bot, enabled: false }) => {
            Finding::note(what, format!("the bot {bot}, which reads it, is not enabled\n  intelmqctl enable {bot}"))
        }
        Some(_) => Finding::ok(what),
    }
}

/// `intelmqctl check` warns of every key that is no queue of a bot's.
fn orphans(node: &Name, doors: &[Door<'_>], botnet: &Botnet, file: &str) -> Option<Finding> {
    let keys = doors.iter().flat_map(|Door { name, queue, takes, .. }| {
        if *takes {
            vec![(*queue).to_owned(), format!("{queue}-internal"), format!("{queue}-relay")]
        } else {
            vec![format!("relay:{node}:{name}:mark")]
        }
    });
    let keys: Vec<String> = keys.filter(|key| !botnet.ignores(key)).collect();
    (!keys.is_empty()).then(|| {
        let list: String = keys.iter().map(|key| format!("\n      - {key}")).collect();
        Finding::note(
            format!("keys of the doors and {file}"),
            format!(
                "`intelmqctl check` will call them orphaned; add\n  global:\n    \
                 intelmqctl_check_orphaned_queues_ignore:{list}"
            ),
        )
    })
}

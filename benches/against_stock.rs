//! One hop as IntelMQ does it by itself, its TCP output to its TCP collector, and by two relays: the same events, from a
//! Redis queue to a Redis queue, in one run, directly and over connections with a round trip of 10 and of 50 ms.
//! `cargo bench --bench against_stock -- [--events N] [--stock N]` (events of the relay's runs, and events of the stock
//! bots' at most).
//!
//! The stock bots wait for an answer to each event. So they get fewer events where the way is long: enough for about ten
//! seconds. What is measured is from the first event at the other end to the last.

#![allow(clippy::unwrap_used)] // What fails here is to stop it.

#[path = "../tests/support/intelmq.rs"]
mod intelmq;
#[path = "support/nodes.rs"]
#[allow(dead_code)] // Another benchmark uses the rest of it.
mod nodes;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "../tests/support/redis.rs"]
#[allow(dead_code)]
mod server;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use intelmq_relay::envelope::Tlp;
use intelmq_relay::sample::Events;
use nodes::{Place, Relay};
use proxy::Proxy;
use serde_json::{Value, json};

/// How long all may take without one more event.
const STANDSTILL: Duration = Duration::from_secs(60);
/// How long the stock bots are measured, about.
const STOCK_SECONDS: f64 = 10.0;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default| option(name).map_or(default, |text| text.parse().unwrap());
    let (relayed, stock): (usize, usize) = (number("--events", 100_000), number("--stock", 8_000));
    let events: Vec<String> = Events::new(1).labelled(Tlp::Green).take(relayed.max(stock)).collect();
    let bytes = events.iter().map(String::len).sum::<usize>() / events.len();
    println!("events of {bytes} bytes in the mean; events/s, queue to queue");
    println!("{:<16} {:>10} {:>10} {:>8}", "round trip", "stock", "relay", "ratio");
    for round_trip in [0, 10, 50] {
        let way = Duration::from_millis(round_trip) / 2;
        // Two ways for an event and its answer.
        let patient = if way.is_zero() { stock } else { (STOCK_SECONDS * 1000.0 / round_trip as f64) as usize };
        let by_stock = by_stock(&events[..patient.min(stock)], way);
        let by_relay = by_relay(&events[..relayed], way);
        let label = if way.is_zero() { "none (loopback)".to_owned() } else { format!("{round_trip} ms") };
        println!("{label:<16} {by_stock:>10.0} {by_relay:>10.0} {:>8.1}", by_relay / by_stock);
    }
}

fn by_stock(events: &[String], way: Duration) -> f64 {
    let redis = filled("output-queue", events);
    let collector = free();
    let target = Proxy::start(collector, way);
    let collecting = json!({"ip": "127.0.0.1", "port": collector.port(), "name": "stock"});
    let _collector = Bot::start("intelmq.bots.collectors.tcp.collector", "collector", &redis, &collecting);
    // The output ends at once where nobody listens.
    let begun = Instant::now();
    while TcpStream::connect(collector).is_err() {
        assert!(begun.elapsed() < STANDSTILL, "the collector does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = json!({"ip": "127.0.0.1", "port": target.port()});
    let _output = Bot::start("intelmq.bots.outputs.tcp.output", "output", &redis, &output);
    rate(&redis, "to-b", events.len())
}

fn by_relay(events: &[String], way: Duration) -> f64 {
    let redis = filled("from-a", events);
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["cert-a", "cert-b"].map(|name| Place::new(folder.path().join(name)));
    let socket = redis.config().host;
    let high = 2 * events.len();
    let give = format!(
        "[[give.redis]]\nname = \"out\"\nqueue = \"to-b\"\nhigh_water = {high}\nserver = {{ host = \"{socket}\" }}\n\
         events = {{ harmonization = \"builtin\" }}\n"
    );
    b.configure("cert-b", &give, &a.key, "cert-a", "");
    let relay_b = Relay::start(&b);
    let listening = relay_b.listening();
    let port: u16 = listening.split('/').nth(4).unwrap().parse().unwrap();
    let target = Proxy::start((Ipv4Addr::LOCALHOST, port).into(), way);
    let address = format!("addresses = [\"/ip4/127.0.0.1/tcp/{}\"]", target.port());
    let take = format!("[[take.redis]]\nname = \"in\"\nqueue = \"from-a\"\nserver = {{ host = \"{socket}\" }}\n");
    a.configure("cert-a", &take, &b.key, "cert-b", &address);
    let _relay_a = Relay::start(&a);
    rate(&redis, "to-b", events.len())
}

fn filled(queue: &str, events: &[String]) -> server::Redis {
    let redis = server::Redis::start();
    redis.push(queue, events);
    redis
}

/// Events per second from the first in the queue to the last.
fn rate(redis: &server::Redis, queue: &str, events: usize) -> f64 {
    let mut connection = redis.connect();
    let (mut arrived, mut first, mut moved) = (0, None, Instant::now());
    while arrived < events {
        std::thread::sleep(Duration::from_millis(2));
        let now: usize = redis::cmd("LLEN").arg(queue).query(&mut connection).unwrap();
        if now > arrived {
            (arrived, moved) = (now, Instant::now());
            first.get_or_insert((moved, now));
        }
        assert!(moved.elapsed() < STANDSTILL, "{arrived} of {events} events, and no more");
    }
    let (begun, at_once) = first.unwrap();
    (events - at_once) as f64 / (moved - begun).as_secs_f64()
}

/// One of IntelMQ's bots, in library mode. Dropping it ends the process.
struct Bot(Child);

impl Bot {
    fn start(module: &str, id: &str, redis: &server::Redis, parameters: &Value) -> Bot {
        let server = redis.config();
        let mut settings = json!({
            "logging_path": null, "logging_level": "ERROR", "logging_handler": "stream",
            "statistics_host": server.host, "destination_queues": {"_default": ["to-b"]},
        });
        for side in ["source", "destination"] {
            settings[format!("{side}_pipeline_host")] = server.host.clone().into();
            settings[format!("{side}_pipeline_db")] = server.db.into();
        }
        settings.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let program = format!(
            "import json, sys\nfrom {module} import BOT\nBOT(sys.argv[1], settings=json.loads(sys.argv[2])).start()"
        );
        let mut command = Command::new(intelmq::python());
        command.args(["-c", &program, id, &settings.to_string()]);
        Bot(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address of the loopback that is free now.
fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

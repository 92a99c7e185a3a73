//! A RabbitMQ broker of a test's own: its data in a temporary directory, everything on free ports of the loopback, and
//! ended with the test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use intelmq_relay::config;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::relay::wait_for;

/// Longer than a broker ever takes to start, on a machine with other work.
const START: Duration = Duration::from_secs(60);

/// The running broker. Dropping it ends its processes.
pub struct Rabbit {
    directory: TempDir,
    port: u16,
    /// What Erlang's own connections use, and what knows their ports.
    internal: (u16, u16),
    /// Erlang's register of names. The broker would start one that outlives it.
    names: Child,
    broker: Child,
}

impl Rabbit {
    pub async fn start() -> Rabbit {
        Rabbit::start_with(&[]).await
    }

    /// The same, with plugins of RabbitMQ's, as `["rabbitmq_shovel"]`.
    pub async fn start_with(plugins: &[&str]) -> Rabbit {
        // Another process may take a port before the broker does: then it ends, and other ports are tried.
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let ports: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let [port, dist, epmd] = [0, 1, 2].map(|n: usize| ports[n].local_addr().unwrap().port());
            drop(ports);
            let mut command = program("epmd");
            let mut names = command.args(["-address", "127.0.0.1", "-port", &epmd.to_string()]).spawn().unwrap();
            wait_for("epmd answers, or has ended", || {
                let ended = names.try_wait().unwrap().is_some();
                (ended || TcpStream::connect(("127.0.0.1", epmd)).is_ok()).then_some(())
            });
            if names.try_wait().unwrap().is_some() {
                continue;
            }
            // Small, so that a broker is not refused for the machine's disk. Plugins that ask for a port are not for here.
            fs::write(directory.path().join("rabbitmq.conf"), "disk_free_limit.absolute = 1MB\n").unwrap();
            fs::write(directory.path().join("plugins"), format!("[{}].\n", plugins.join(","))).unwrap();
            let broker = spawn(directory.path(), port, (dist, epmd));
            let mut rabbit = Rabbit { directory, port, internal: (dist, epmd), names, broker };
            if rabbit.is_ready().await {
                return rabbit;
            }
        }
        panic!("rabbitmq-server does not start: its log was in a directory that is gone; start one by hand")
    }

    /// How a door reaches it.
    pub fn config(&self) -> config::Amqp {
        config::Amqp { port: self.port, ..config::Amqp::default() }
    }

    /// Where its data is.
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// The group of its processes.
    pub fn group(&self) -> u32 {
        self.broker.id()
    }

    /// A connection of somebody else's.
    pub async fn connect(&self) -> Connection {
        self.try_connect().await.expect("the broker answers")
    }

    /// Runs `rabbitmqctl`, and returns what it prints.
    pub async fn control(&self, words: &[&str]) -> String {
        let mut command = command("rabbitmqctl", self.directory.path(), self.port, self.internal);
        command.arg("--quiet").args(words);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "rabbitmqctl {words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends the broker at once, as a crash would.
    pub fn kill(&mut self) {
        end(&mut self.broker);
    }

    /// Starts it again after [`kill`](Rabbit::kill), with what it had written to disk.
    pub async fn start_again(&mut self) {
        self.broker = spawn(self.directory.path(), self.port, self.internal);
        assert!(self.is_ready().await, "the broker does not start again");
    }

    async fn try_connect(&self) -> lapin::Result<Connection> {
        let userinfo = AMQPUserInfo { username: "guest".into(), password: "guest".into() };
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority { userinfo, host: "127.0.0.1".into(), port: self.port },
            vhost: "/".into(),
            query: AMQPQueryString::default(),
        };
        Connection::connect_uri(uri, ConnectionProperties::default()).await
    }

    /// False when the broker ended instead.
    async fn is_ready(&mut self) -> bool {
        let begun = Instant::now();
        while self.try_connect().await.is_err() {
            if self.broker.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < START, "the broker does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        true
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        end(&mut self.broker);
        let _ = self.names.kill();
        let _ = self.names.wait();
    }
}

fn spawn(directory: &Path, port: u16, internal: (u16, u16)) -> Child {
    let mut command = command("rabbitmq-server", directory, port, internal);
    // So that the script becomes the virtual machine instead of staying in front of it. Nobody listens there.
    command.env("NOTIFY_SOCKET", directory.join("nobody"));
    // What the machine has started is ended with it, as one group.
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap()
}

fn end(process: &mut Child) {
    if let Some(group) = process.id().try_into().ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _ = process.wait();
}

/// A program of RabbitMQ's, without the script around it that asks for a certain user.
fn command(name: &str, directory: &Path, port: u16, (dist, epmd): (u16, u16)) -> Command {
    let mut command = program(&format!("/usr/lib/rabbitmq/bin/{name}"));
    command
        // For the secret that the broker and rabbitmqctl share.
        .env("HOME", directory)
        .current_dir(directory)
        .env("RABBITMQ_NODENAME", format!("relay{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", dist.to_string())
        .env("RABBITMQ_MNESIA_BASE", directory.join("data"))
        .env("RABBITMQ_LOG_BASE", directory.join("log"))
        .env("RABBITMQ_CONF_ENV_FILE", directory.join("none"))
        .env("RABBITMQ_CONFIG_FILE", directory.join("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("plugins"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}")
        .env("RABBITMQ_CTL_ERL_ARGS", "-start_epmd false")
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", epmd.to_string());
    command
}

fn program(name: &str) -> Command {
    let path = Path::new(name);
    assert!(
        !path.is_absolute() || path.exists(),
        "there is no {name}: these tests need a broker: apt-get install rabbitmq-server"
    );
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    command
}

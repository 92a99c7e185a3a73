//! A Redis server of a test's own: on a unix socket in a temporary directory (or a free port of the loopback), ended
//! with the test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use intelmq_relay::config;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// The running server. Dropping it ends the process.
pub struct Redis {
    directory: TempDir,
    options: Vec<String>,
    tcp: Option<(u16, String)>,
    process: Child,
}

impl Redis {
    /// Listens on a unix socket and keeps nothing on disk.
    pub fn start() -> Redis {
        Redis::start_with(&[])
    }

    /// The same, with options of redis-server's, as `["--maxmemory", "5mb"]`.
    pub fn start_with(options: &[&str]) -> Redis {
        let directory = tempfile::tempdir().unwrap();
        let options: Vec<_> = options.iter().map(ToString::to_string).collect();
        let process = spawn(&directory, &options, None);
        let redis = Redis { directory, options, tcp: None, process };
        redis.ready();
        redis
    }

    /// Listens on a free port of 127.0.0.1 and wants a password.
    pub fn start_tcp(password: &str) -> Redis {
        // Another process may take the port before the server does: then it ends at once, and another port is tried.
        for _ in 0..20 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let directory = tempfile::tempdir().unwrap();
            let tcp = Some((port, password.to_owned()));
            let process = spawn(&directory, &[], tcp.as_ref());
            let mut redis = Redis { directory, options: Vec::new(), tcp, process };
            if redis.is_ready() {
                return redis;
            }
        }
        panic!("redis-server found no free port in 20 tries");
    }

    /// How a door reaches it.
    pub fn config(&self) -> config::Redis {
        let (host, port, password) = match &self.tcp {
            Some((port, password)) => ("127.0.0.1".to_owned(), *port, Some(config::Password(password.clone()))),
            None => (self.socket().display().to_string(), 6379, None),
        };
        config::Redis { host, port, db: 2, password }
    }

    /// A connection to the database that doors use.
    pub fn connect(&self) -> redis::Connection {
        self.try_connect().expect("redis-server answers")
    }

    /// Puts items into a queue as IntelMQ does.
    pub fn push(&self, queue: &str, items: &[impl AsRef<[u8]>]) {
        let mut connection = self.connect();
        for some in items.chunks(500) {
            let some: Vec<&[u8]> = some.iter().map(AsRef::as_ref).collect();
            redis::cmd("LPUSH").arg(queue).arg(some).exec(&mut connection).unwrap();
        }
    }

    /// What is in a queue, the oldest first.
    pub fn items(&self, queue: &str) -> Vec<String> {
        let items: redis::RedisResult<Vec<String>> =
            redis::cmd("LRANGE").arg(queue).arg(0).arg(-1).query(&mut self.connect());
        let mut items = items.unwrap();
        items.reverse();
        items
    }

    /// How long a queue is.
    pub fn length(&self, queue: &str) -> usize {
        redis::cmd("LLEN").arg(queue).query(&mut self.connect()).unwrap()
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after [`kill`](Redis::kill), with what it had written to disk.
    pub fn start_again(&mut self) {
        self.process = spawn(&self.directory, &self.options, self.tcp.as_ref());
        self.ready();
    }

    /// Stops the process without ending it: connections stay, answers do not come.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// The same, where it may not answer.
    pub fn try_connect(&self) -> redis::RedisResult<redis::Connection> {
        let url = match &self.tcp {
            Some((port, password)) => format!("redis://:{password}@127.0.0.1:{port}/2"),
            None => format!("unix://{}?db=2", self.socket().display()),
        };
        redis::Client::open(url)?.get_connection()
    }

    fn ready(&self) {
        let begun = Instant::now();
        while self.try_connect().and_then(|mut c| redis::cmd("PING").exec(&mut c)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// As [`ready`](Redis::ready); false when the server ended instead.
    fn is_ready(&mut self) -> bool {
        while self.try_connect().and_then(|mut c| redis::cmd("PING").exec(&mut c)).is_err() {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(directory: &TempDir, options: &[String], tcp: Option<&(u16, String)>) -> Child {
    let mut command = Command::new("redis-server");
    command.arg("--dir").arg(directory.path()).args(["--save", "", "--daemonize", "no"]);
    match tcp {
        Some((port, password)) => {
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--requirepass", password])
        }
        None => command.args(["--port", "0", "--unixsocket"]).arg(directory.path().join("redis.sock")),
    };
    command.args(options).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|e| {
        panic!("redis-server does not start ({e}): these tests need one: apt-get install redis-server")
    })
}

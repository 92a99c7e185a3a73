//! The Redis door: IntelMQ's queues, read and written by IntelMQ's own contract.
//!
//! A queue is a list: the head (left) is the newest, the tail (right) the oldest. Its consumer moves an item to
//! `<queue>-internal` and removes it there when the work is done. [`source`] does that with many items at a time,
//! [`sink`] is one more producer.
//!
//! Every step that changes something is one script, run by the server in one piece: it checks that things are as
//! this side believes, and changes them only then. So it does not matter when a step arrives late (on a connection
//! that we gave up, from a server that was frozen): it does nothing, or what the next step finds and builds on.
//! A script may also *remove* from a server that is full, which single moves may not (Redis calls them
//! memory-hungry); and it works from Redis 2.6 on, where the moving commands differ by version.
//!
//! This file owns the connection and the sorting of errors. Nobody else imports the `redis` crate.

mod probe;
mod sink;
mod source;

pub use probe::{Keeps, Probe, probe};
pub use sink::RedisSink;
pub use source::RedisSource;

use std::path::PathBuf;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, RedisError, cmd};

use super::DoorError;
use crate::config;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take: longer than the longest blocking command, and than a server's usual pauses (fork,
/// a slow disk).
const ANSWER: Duration = Duration::from_secs(15);

/// One Redis server, its connection made when it is needed and dropped when it fails.
struct Server {
    address: ConnectionAddr,
    db: i64,
    password: Option<config::Password>,
    /// For texts: "Redis at 127.0.0.1:6379, db 2, queue relay-out-queue".
    place: String,
    connection: Option<MultiplexedConnection>,
    /// Connections made so far: another number means that the server may have restarted in between.
    connects: u64,
}

impl Server {
    fn new(config: &config::Redis, queue: &str) -> Server {
        let address = match config.host.strip_prefix("unix://").unwrap_or(&config.host) {
            path if path.starts_with('/') => ConnectionAddr::Unix(PathBuf::from(path)),
            host => ConnectionAddr::Tcp(host.to_owned(), config.port),
        };
        let place = format!("Redis at {address}, db {}, queue {queue}", config.db);
        Server { address, db: config.db, password: config.password.clone(), place, connection: None, connects: 0 }
    }

    /// Asks one command. When the connection fails, the next call makes a new one.
    ///
    /// Dropping the future leaves the connection in use: commands stay in order, so whatever is asked next sees what
    /// the dropped one did.
    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, DoorError> {
        let mut connection = self.connected().await?;
        let answer = command.query_async(&mut connection).await;
        answer.map_err(|e| self.failed(&e))
    }

    async fn connected(&mut self) -> Result<MultiplexedConnection, DoorError> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let connection = self.connect().await.map_err(|e| self.failed(&e))?;
        self.connects += 1;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Connects and introduces itself, command by command: the crate's own handshake hides what the server answered.
    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let timeouts =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        let bare = ::redis::RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = ::redis::IntoConnectionInfo::into_connection_info(self.address.clone())?.set_redis_settings(bare);
        let mut connection = Client::open(info)?.get_multiplexed_async_connection_with_config(&timeouts).await?;
        if let Some(password) = &self.password {
            cmd("AUTH").arg(&password.0).exec_async(&mut connection).await?;
        }
        cmd("SELECT").arg(self.db).exec_async(&mut connection).await?;
        // For `CLIENT LIST`. A server that does not let us has the operator's reasons.
        let _ = cmd("CLIENT").arg("SETNAME").arg("intelmq-relay").exec_async(&mut connection).await;
        Ok(connection)
    }

    /// Drops the connection unless the server answered on it, and says who must act.
    fn failed(&mut self, error: &RedisError) -> DoorError {
        if error.code().is_none() {
            self.connection = None;
        }
        sort(&self.place, &error.to_string())
    }
}

/// What an operator must mend: part of the server's answer, and the remedy. Everything else passes by itself (away,
/// loading, busy, full, a replica, no disk to save to) and is tried again.
const OPERATOR: &[(&str, &str)] = &[
    ("NOAUTH", "it wants a password: set `password` of the door's server"),
    ("Authentication required", "it wants a password: set `password` of the door's server"),
    ("WRONGPASS", "it refuses the password: correct `password` of the door's server"),
    ("invalid password", "it refuses the password: correct `password` of the door's server"),
    ("AUTH", "it has no password: remove `password` of the door's server, or set one in Redis (`requirepass`)"),
    ("NoPerm", "its access rules forbid a command that the door needs: permit it for this user (`ACL SETUSER`)"),
    ("NOPERM", "its access rules forbid a command that the door needs: permit it for this user (`ACL SETUSER`)"),
    ("unknown command", "it lacks a command that the door needs (it may have been renamed): permit it"),
    ("WRONGTYPE", "a key of that name is no list: correct `queue` of the door, or remove the key"),
    ("DB index", "there is no such database: correct `db` of the door's server"),
    ("CrossSlot", "it is a cluster, which IntelMQ cannot use either: name a single server"),
];

fn sort(place: &str, answer: &str) -> DoorError {
    match OPERATOR.iter().find(|(mark, _)| answer.contains(mark)) {
        Some((_, remedy)) => DoorError::Operator(format!("{place}: {remedy} ({answer})")),
        None if answer.contains("OOM") => {
            DoorError::Retry(format!("{place}: it is full (`maxmemory`): waiting for room ({answer})"))
        }
        None => DoorError::Retry(format!("{place}: {answer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_wrong_is_the_operators() {
        for passing in [
            "BusyLoading: Redis is loading the dataset in memory",
            "ReadOnly: You can't write against a read only replica.",
            "\"BUSY\": Redis is busy running a script.",
            "\"MISCONF\": Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "\"OOM\": command not allowed when used memory > 'maxmemory'.",
            "Connection refused (os error 111)",
            "ResponseError: max number of clients reached",
        ] {
            assert!(matches!(sort("here", passing), DoorError::Retry(_)), "{passing}");
        }
        for staying in [
            "\"NOAUTH\": Authentication required.",
            "\"WRONGPASS\": invalid username-password pair or user is disabled.",
            "\"WRONGTYPE\": Operation against a key holding the wrong kind of value",
            "ResponseError: DB index is out of range",
            "ResponseError: unknown command 'EVAL', with args beginning with:",
        ] {
            assert!(matches!(sort("here", staying), DoorError::Operator(_)), "{staying}");
        }
    }

    #[test]
    fn a_path_is_a_socket() {
        let config = |host: &str| config::Redis { host: host.into(), port: 1234, db: 3, password: None };
        assert_eq!(Server::new(&config("unix:///run/r.sock"), "q").place, "Redis at /run/r.sock, db 3, queue q");
        assert_eq!(Server::new(&config("/run/r.sock"), "q").place, "Redis at /run/r.sock, db 3, queue q");
        assert_eq!(Server::new(&config("::1"), "q").place, "Redis at ::1:1234, db 3, queue q");
    }
}

//! A cable on the loopback network: passes connections on, until it is told not to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use super::ground::Break;

const UP: u8 = 0;
/// Connections end, and none comes about.
const DOWN: u8 = 1;
/// Connections stay, and nothing passes.
const SILENT: u8 = 2;
const ENDED: u8 = 3;
const STEP: Duration = Duration::from_millis(20);

/// One direction of dialling; each connection passes both ways. Ends when dropped.
pub struct Wire {
    at: SocketAddr,
    state: Arc<AtomicU8>,
}

impl Wire {
    /// Wires on which the first of two nodes dials the second, and back.
    pub fn pair(a: &str, b: &str) -> [Wire; 2] {
        [Wire::to(b), Wire::to(a)]
    }

    /// `there`: a multiaddress of the loopback.
    fn to(there: &str) -> Wire {
        let mut parts = there.split('/').skip(2).step_by(2);
        let there = format!("{}:{}", parts.next().unwrap(), parts.next().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, state) = (listener.local_addr().unwrap(), Arc::new(AtomicU8::new(UP)));
        let shared = state.clone();
        thread::spawn(move || {
            for here in listener.incoming() {
                if shared.load(Ordering::Relaxed) == ENDED {
                    return;
                }
                let there = TcpStream::connect(&there);
                if let (Ok(here), Ok(there), UP) = (here, there, shared.load(Ordering::Relaxed)) {
                    pass(&here, &there, &shared);
                    pass(&there, &here, &shared);
                }
            }
        });
        Wire { at, state }
    }

    /// Where to dial.
    pub fn address(&self) -> String {
        format!("/ip4/{}/tcp/{}", self.at.ip(), self.at.port())
    }

    /// Breaks it, or mends it.
    pub fn set(&self, how: Option<Break>) {
        let state = match how {
            None => UP,
            Some(Break::Down { .. }) => DOWN,
            Some(_) => SILENT,
        };
        self.state.store(state, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.store(ENDED, Ordering::Relaxed);
        // The thread that listens looks up.
        let _ = TcpStream::connect(self.at);
    }
}

/// Passes on what comes from one side, in a thread of its own.
fn pass(from: &TcpStream, to: &TcpStream, state: &Arc<AtomicU8>) {
    let (mut from, mut to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), state.clone());
    from.set_read_timeout(Some(STEP)).unwrap();
    to.set_write_timeout(Some(STEP)).unwrap();
    thread::spawn(move || {
        let (mut buffer, mut kept) = ([0; 16 << 10], 0..0);
        loop {
            let moved = match state.load(Ordering::Relaxed) {
                UP if kept.is_empty() => from.read(&mut buffer).inspect(|length| kept = 0..*length),
                UP => to.write(&buffer[kept.clone()]).inspect(|length| kept.start += length),
                SILENT => {
                    thread::sleep(STEP);
                    continue;
                }
                _ => break,
            };
            match moved {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

//! A long way on one machine: connections whose bytes arrive later.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Passes connections on, each byte `way` later. Its threads end with the connections, and with the benchmark.
pub struct Proxy;

impl Proxy {
    /// The address to connect to instead of `target`.
    pub fn start(target: SocketAddr, way: Duration) -> SocketAddr {
        // Without it, where there is nothing to add.
        if way.is_zero() {
            return target;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let _ = from.set_nodelay(true);
                    pump(from.try_clone().unwrap(), to.try_clone().unwrap(), way);
                }
            }
        });
        address
    }
}

/// Reads at once and writes when it is time.
fn pump(mut from: TcpStream, mut to: TcpStream, way: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 || sender.send((Instant::now() + way, buffer[..read].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

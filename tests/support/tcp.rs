//! The two ends that IntelMQ has of a TCP door, as threads: an output that sends and waits for `Ok`, and a collector.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

/// Between two looks of a thread at what there is to do.
const LOOK: Duration = Duration::from_millis(2);

/// An address of the loopback network that nobody else has, so that who listens there again has its port again.
pub fn address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let ip = Ipv4Addr::new(127, 1 + (process >> 8) as u8 % 250, process as u8, next);
    SocketAddr::new(IpAddr::V4(ip), 5000)
}

/// A text as a frame.
pub fn frame(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

/// Sends what it is given, many at once, and what had no answer again when the connection was lost.
pub struct Output {
    unanswered: Arc<Mutex<VecDeque<Bytes>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Output {
    pub fn to(address: SocketAddr) -> Output {
        let (unanswered, stop) = (Arc::<Mutex<VecDeque<Bytes>>>::default(), Arc::<AtomicBool>::default());
        let (waiting, stopped) = (unanswered.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match TcpStream::connect(address) {
                    Ok(stream) => send(stream, &waiting, &stopped),
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        });
        Output { unanswered, stop, thread: Some(thread) }
    }

    pub fn put(&self, items: &[Bytes]) {
        self.unanswered.lock().unwrap().extend(items.iter().cloned());
    }

    pub fn unanswered(&self) -> usize {
        self.unanswered.lock().unwrap().len()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Until the connection ends, or it is stopped. Writes and reads without waiting, so that it can be stopped.
fn send(mut stream: TcpStream, waiting: &Mutex<VecDeque<Bytes>>, stopped: &AtomicBool) {
    stream.set_nonblocking(true).unwrap();
    // Of the unanswered ones, so many are in `out` or sent.
    let (mut begun, mut out, mut half) = (0, Vec::new(), false);
    while !stopped.load(Ordering::Relaxed) {
        if out.is_empty() {
            let waiting = waiting.lock().unwrap();
            for item in waiting.iter().skip(begun) {
                out.extend_from_slice(&frame(item));
            }
            begun = waiting.len();
        }
        let mut idle = true;
        match stream.write(&out) {
            Ok(written) => {
                idle = written == 0;
                out.drain(..written);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // There may be answers to read, before the end.
            Err(_) => out.clear(),
        }
        let mut answers = [0; 512];
        match stream.read(&mut answers) {
            Ok(0) => return,
            Ok(read) => {
                idle = false;
                for byte in &answers[..read] {
                    assert_eq!(*byte, if half { b'k' } else { b'O' }, "an answer");
                    if half {
                        waiting.lock().unwrap().pop_front().expect("no more answers than frames");
                        begun -= 1;
                    }
                    half = !half;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        if idle {
            std::thread::sleep(LOOK);
        }
    }
}

/// What a collector does with a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Do {
    /// Keeps it and answers `Ok`.
    Answer,
    /// Keeps it and closes the connection.
    Close,
    /// Says something else.
    Babble,
    /// Nothing, and reads no more until the sender goes.
    Hang,
}

/// Serves one connection after the other, as IntelMQ's does, and keeps what it got.
pub struct Collector {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Bytes>>>,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    current: Arc<Mutex<Option<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// `what`: to do with the frame of this number, counted from 0 over all connections.
    pub fn start(what: impl Fn(usize) -> Do + Send + 'static) -> Collector {
        Collector::at(SocketAddr::from(([127, 0, 0, 1], 0)), what)
    }

    pub fn at(address: SocketAddr, what: impl Fn(usize) -> Do + Send + 'static) -> Collector {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let mut collector = Collector {
            address,
            got: Arc::default(),
            connections: Arc::default(),
            stop: Arc::default(),
            current: Arc::default(),
            thread: None,
        };
        let (got, connections) = (collector.got.clone(), collector.connections.clone());
        let (stop, current) = (collector.stop.clone(), collector.current.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept() {
                *current.lock().unwrap() = Some(stream.try_clone().unwrap());
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                connections.fetch_add(1, Ordering::Relaxed);
                serve(stream, &got, &mut number, &what);
                // The last handle: it is closed now.
                *current.lock().unwrap() = None;
            }
        });
        collector.thread = Some(thread);
        collector
    }

    /// What came, the oldest first; what was sent again comes again.
    pub fn got(&self) -> Vec<Bytes> {
        self.got.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(stream) = &*self.current.lock().unwrap() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes it, if it waits for a connection.
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn serve(mut stream: TcpStream, got: &Mutex<Vec<Bytes>>, number: &mut usize, what: &impl Fn(usize) -> Do) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        if stream.read_exact(&mut text).is_err() {
            return;
        }
        let now = what(*number);
        *number += 1;
        if matches!(now, Do::Answer | Do::Close) {
            got.lock().unwrap().push(Bytes::from(text));
        }
        let answer = match now {
            Do::Answer => stream.write_all(b"Ok"),
            Do::Babble => stream.write_all(b"HTTP/1.1 400 Bad Request"),
            Do::Close => return,
            Do::Hang => {
                // Until it is closed over there, or here.
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
                return;
            }
        };
        if answer.is_err() {
            return;
        }
    }
}

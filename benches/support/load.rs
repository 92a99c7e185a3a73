//! Load at a steady rate, whatever becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use intelmq_relay::envelope::Tlp;
use intelmq_relay::sample::Events;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(10);

/// Pushes sample events into a queue, so many per second in all, until it is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    pushed: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Into all of `queues` by turns; the events begin with number `first`.
    pub fn start(mut connection: redis::Connection, queues: Vec<String>, first: u64, rate: u64) -> Load {
        let (stop, pushed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, count) = (stop.clone(), pushed.clone());
        let events = Events::new(1).labelled(Tlp::Green);
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
                let from = count.load(Ordering::Relaxed);
                for (at, queue) in queues.iter().enumerate() {
                    let ours = (from..due).filter(|n| *n as usize % queues.len() == at);
                    let some: Vec<String> = ours.map(|n| events.event(first + n)).collect();
                    if !some.is_empty() {
                        redis::cmd("LPUSH").arg(queue).arg(some).exec(&mut connection).unwrap();
                    }
                }
                count.store(due, Ordering::Relaxed);
                std::thread::sleep(TICK);
            }
        });
        Load { stop, pushed, thread: Some(thread) }
    }

    /// Events that are in the queues, or were.
    #[allow(dead_code)] // Not every benchmark asks.
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }

    /// Ends it; how many there were.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.pushed()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the load broke off");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

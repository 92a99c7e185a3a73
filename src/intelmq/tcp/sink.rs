//! Into IntelMQ: to its TCP collector, many frames at a time.
//!
//! The collector serves one connection after the other, so there is one, and it stays. It keeps no place of ours: what
//! had its `Ok` is remembered by [`Sink::confirmed`], for whoever can make a note of it.

use bytes::{BufMut, Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::{DoorError, Mark, Sink};
use super::{OK, connect, unreached};
use crate::config;

/// Frames are written together up to this size.
const WRITE: usize = 64 << 10;

/// Gives to a TCP collector of IntelMQ's.
pub struct TcpSink {
    address: String,
    patience: Duration,
    connection: Option<TcpStream>,
    /// So many items of the last step had their `Ok`.
    confirmed: usize,
}

impl TcpSink {
    /// Connects to nothing yet.
    pub fn new(config: &config::GiveTcp) -> TcpSink {
        TcpSink {
            address: config.address.clone(),
            // Checked to be a time when the configuration was read.
            patience: Duration::try_from_secs_f64(config.answer_seconds).unwrap_or(Duration::MAX),
            connection: None,
            confirmed: 0,
        }
    }

    /// The connection, if it is still one: a collector that was restarted has closed it meanwhile, which is nobody's
    /// fault and costs nothing as long as nothing is under way.
    async fn connected(&mut self) -> Result<TcpStream, DoorError> {
        if let Some(stream) = self.connection.take() {
            // The system is asked, not the runtime, which may not have heard of the end yet.
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            if recv(&stream, &mut [0; 1], flags).is_err_and(|error| error == Errno::WOULDBLOCK) {
                return Ok(stream);
            }
        }
        connect(&self.address).await.map_err(|error| unreached(&self.address, &error))
    }

    fn failed(&self, what: impl std::fmt::Display) -> DoorError {
        DoorError::Retry(format!("TCP at {}: {what}; what had no answer is sent again", self.address))
    }
}

impl Sink for TcpSink {
    const KEEPS_MARK: bool = false;

    async fn mark(&mut self) -> Result<Option<Mark>, DoorError> {
        Ok(None)
    }

    async fn give(&mut self, items: &[Bytes], _: Mark) -> Result<(), DoorError> {
        self.confirmed = 0;
        if items.is_empty() {
            return Ok(());
        }
        let stream = self.connected().await?;
        // Taken: after an error, or when this future is dropped, answers to what was sent may still come on it.
        let stream = self.exchange(stream, items).await?;
        self.connection = Some(stream);
        Ok(())
    }

    fn confirmed(&self) -> usize {
        self.confirmed
    }
}

impl TcpSink {
    /// Sends all items and reads their answers, both at once.
    async fn exchange(&mut self, mut stream: TcpStream, items: &[Bytes]) -> Result<TcpStream, DoorError> {
        let (mut read, mut write) = stream.split();
        let mut waiting = items.iter();
        let mut out = BytesMut::new();
        // Of an answer that came in two pieces.
        let mut half = false;
        let mut answers = [0; 1024];
        let mut broken = None;
        let mut deadline = Instant::now() + self.patience;
        while self.confirmed < items.len() {
            while out.len() < WRITE
                && let Some(item) = waiting.next()
            {
                // Envelopes are bounded far below.
                out.put_u32(u32::try_from(item.len()).unwrap_or(u32::MAX));
                out.put_slice(item);
            }
            tokio::select! {
                written = write.write_buf(&mut out), if !out.is_empty() => {
                    if let Err(error) = written {
                        // There may be answers to read, before the end.
                        broken = Some(error);
                        out.clear();
                        waiting = [].iter();
                    }
                }
                came = read.read(&mut answers) => {
                    let came = came.map_err(|error| self.failed(broken.take().unwrap_or(error)))?;
                    if came == 0 {
                        return Err(self.failed("the collector closed the connection (was it restarted?)"));
                    }
                    for byte in &answers[..came] {
                        if *byte != OK[usize::from(half)] {
                            let text = String::from_utf8_lossy(&answers[..came.min(64)]).into_owned();
                            return Err(self.failed(format!(
                                "it answers {text:?} instead of \"Ok\": is this IntelMQ's TCP collector?"
                            )));
                        }
                        self.confirmed += usize::from(half);
                        half = !half;
                    }
                    if self.confirmed > items.len() {
                        return Err(self.failed("it answers more than it was sent: is this IntelMQ's TCP collector?"));
                    }
                }
                () = tokio::time::sleep_until(deadline) => return Err(self.failed(format!(
                    "no \"Ok\" within {:?}: does another sender hold the collector (it serves one at a time), or does it \
                     hang?",
                    self.patience
                ))),
            }
            deadline = Instant::now() + self.patience;
        }
        Ok(stream)
    }
}

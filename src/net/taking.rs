//! What a peer brings, on its way through the gate: judged, committed, decided.
//!
//! Owns the order: judging is most of what an event costs, so what came is judged beside the link's task and one link has
//! the use of every core, but it is committed and decided as it came, or a cursor would stand before what it is the end of.
//! It must never keep what it has not been asked to: how much may be under way is the link's to say.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::task::JoinHandle;

use super::drive::now;
use crate::accept::{Bringer, Brought, Gate};
use crate::envelope::Verifier;
use crate::link::{Submission, Verdict};
use crate::store::StoreError;

/// Roots of batches that a link's verifier remembers.
const ROOTS: usize = 1024;

/// Verdicts by batch and slot.
pub(super) type Verdicts = Vec<((u64, u16), Verdict)>;

/// Envelopes that came: their bytes, and the batch and slot of each.
struct Came {
    bytes: usize,
    slots: Vec<(u64, u16)>,
}

type Decided = Result<(Came, Vec<Verdict>), StoreError>;

/// What is under way.
pub(super) struct Taking {
    gate: Gate,
    bringer: Bringer,
    verifier: Arc<Verifier>,
    judging: FuturesOrdered<JoinHandle<(Came, Brought)>>,
    committing: FuturesOrdered<BoxFuture<'static, Decided>>,
    bytes: usize,
}

impl Taking {
    pub(super) fn new(gate: Gate, bringer: Bringer) -> Taking {
        let verifier = Arc::new(Verifier::new(ROOTS));
        let (judging, committing) = (FuturesOrdered::new(), FuturesOrdered::new());
        Taking { gate, bringer, verifier, judging, committing, bytes: 0 }
    }

    /// Bytes of envelopes that came and are not decided.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.judging.is_empty() && self.committing.is_empty()
    }

    /// Begins to judge.
    pub(super) fn submit(&mut self, submission: Submission) {
        let Submission { slots, envelopes, cursor } = submission;
        let came = Came { bytes: envelopes.iter().map(Bytes::len).sum(), slots };
        self.bytes += came.bytes;
        let (gate, bringer, verifier) = (self.gate.clone(), self.bringer.clone(), self.verifier.clone());
        let judging = async move { (came, gate.judge(&bringer, envelopes, cursor, &verifier, now())) };
        self.judging.push_back(tokio::spawn(judging));
    }

    /// The verdicts on the oldest submission, when they are durable; never while there is none. Cancelled, nothing is lost.
    pub(super) async fn decided(&mut self) -> Result<Verdicts, StoreError> {
        loop {
            tokio::select! {
                Some(judged) = self.judging.next() => {
                    let (came, brought) = match judged {
                        Ok(judged) => judged,
                        Err(error) => match error.try_into_panic() {
                            Ok(panic) => std::panic::resume_unwind(panic),
                            // The runtime ends, and the link's task with it.
                            Err(_) => return std::future::pending().await,
                        },
                    };
                    let gate = self.gate.clone();
                    self.committing.push_back(Box::pin(async move { Ok((came, gate.take(brought).await?)) }));
                }
                Some(decided) = self.committing.next() => {
                    let (came, verdicts) = decided?;
                    self.bytes -= came.bytes;
                    return Ok(came.slots.into_iter().zip(verdicts).collect());
                }
                else => return std::future::pending().await,
            }
        }
    }
}

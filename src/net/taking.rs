//! What a peer brings, on its way through the gate: judged, committed, decided.
//!
//! Owns the order: judging is most of what an event costs, so what came is judged beside the link's task and one link has
//! the use of every core, but it is committed and decided as it came, or a cursor would be stored before what it stands for.
//! It must never set a bound of its own: how much may be under way is the link's to say.

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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use rand::SeedableRng;
    use uuid::Uuid;

    use super::*;
    use crate::accept::Rules;
    use crate::config;
    use crate::envelope::{Bounds, Draft, Message, Name, Secret, Tlp, seal};
    use crate::policy::Policy;
    use crate::store::{Cursor, Store};

    const DAY: u64 = 24 * 3600 * 1000;

    async fn gate(data: &std::path::Path) -> Gate {
        let (me, key): (Name, _) = ("me".parse().unwrap(), Secret::from_seed(&[9; 32]).key());
        let policy = Policy { me: me.clone(), default_tlp: Tlp::Amber, hops: 16 };
        let (origins, terms, bounds) = (Arc::default(), HashMap::new(), Bounds::default());
        let rules = Rules { me, key, origins, policy, terms, bounds, age: DAY, future: DAY };
        Gate::new(Store::open(data, &config::Store::default()).await.unwrap(), rules)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_is_judged_sooner_does_not_overtake() {
        let data = tempfile::tempdir().unwrap();
        let gate = gate(data.path()).await;
        let secret = Secret::from_seed(&[1; 32]);
        let bringer = Bringer { name: "cert-x".parse().unwrap(), key: secret.key() };
        let message = Message::read(b"{\"source.ip\": \"192.0.2.1\"}").unwrap();
        let header = message.header(&bringer.name, Uuid::from_u128(1), now());
        let draft = Draft::new(header, message.fields, &Bounds::default()).unwrap();
        let sealed = seal(&secret, vec![draft], &mut rand_chacha::ChaCha20Rng::seed_from_u64(1)).remove(0);
        let mut taking = Taking::new(gate.clone(), bringer.clone());
        // The first of each pair takes long to judge.
        for no in 1..=20u8 {
            let count = if no % 2 == 1 { 500 } else { 1 };
            let slots = (0..count).map(|slot| (u64::from(no), slot)).collect();
            let envelopes = vec![sealed.bytes().clone(); count.into()];
            taking.submit(Submission { slots, envelopes, cursor: Some(vec![no]) });
        }
        assert_eq!(taking.bytes(), 10 * 501 * sealed.bytes().len());
        for no in 1..=20u8 {
            let verdicts = taking.decided().await.unwrap();
            assert_eq!(verdicts.len(), if no % 2 == 1 { 500 } else { 1 });
            assert!(
                verdicts.iter().all(|((of, _), verdict)| *of == u64::from(no) && *verdict == Verdict::UnknownOrigin)
            );
            let stands = gate.store().cursor(&Cursor::Peer(bringer.key)).await.unwrap().unwrap();
            assert!(stands[0] >= no, "decided before it was durable");
        }
        assert_eq!(gate.store().cursor(&Cursor::Peer(bringer.key)).await.unwrap(), Some(vec![20]));
        assert_eq!((taking.bytes(), taking.is_empty()), (0, true));
    }
}

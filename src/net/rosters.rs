//! The roster over a link: what is due is said, and what comes goes to the gate.

use serde_bytes::ByteBuf;

use super::drive::{LinkEnd, Session};
use crate::accept::RosterError;
use crate::link::{Frame, Say, Violation};
use crate::trust::Signed;

/// What a frame has beside the roster, at most.
const AROUND: usize = 16;
/// Refused rosters that are said, on one link,
const SAID: u64 = 8;
/// and that are borne with: each costs us something.
const MOST: u64 = 64;

impl Session<'_> {
    /// Says which roster we have, or sends it.
    pub(super) fn say_roster(&mut self) {
        let gate = &self.exchange.gate;
        let ours = gate.has_roster();
        while let Some(say) = self.link.rosters.step(ours.as_ref()) {
            let frame = match say {
                Say::Have(have) => Some(Frame::Have(have)),
                Say::Roster => self.roster(),
            };
            self.link.out.extend(frame);
        }
    }

    fn roster(&self) -> Option<Frame> {
        let rules = self.exchange.gate.rules();
        // It may have gone just now: then nothing is due.
        let bytes = rules.origins.roster()?.signed().encode();
        if bytes.len() + AROUND > self.most_frame {
            tracing::warn!(
                peer = %self.partner.bringer.name, bytes = bytes.len(), most = self.most_frame,
                "the peer does not get the roster: its limits.frame_bytes, or ours, must grow"
            );
            return None;
        }
        Some(Frame::Roster(ByteBuf::from(bytes)))
    }

    /// A peer sends a roster. It holds if it may, whoever brings it; if not, the peer may still be a good one.
    pub(super) async fn take_roster(&mut self, bytes: &[u8]) -> Result<(), LinkEnd> {
        let (gate, peer) = (&self.exchange.gate, &self.partner.bringer.name);
        match gate.publish(bytes).await? {
            Ok(_) => {
                // Unless another one holds by now.
                let ours = gate.has_roster().filter(|ours| {
                    let digest = Signed::decode(bytes).map(|signed| signed.digest());
                    ours.digest.is_some_and(|ours| digest == Ok(ours.into_array()))
                });
                if let Some(ours) = ours {
                    self.link.rosters.is_level(&ours);
                }
            }
            // It was told that we take none: nobody's word counts here.
            Err(RosterError::NotConfigured) => {}
            Err(reason) => {
                self.refused_rosters += 1;
                if self.refused_rosters > MOST {
                    return Err(Violation::Unexpected("too many rosters that may not hold").into());
                }
                if self.refused_rosters <= SAID {
                    tracing::warn!(%peer, %reason, "the peer's roster is refused");
                }
            }
        }
        Ok(())
    }
}

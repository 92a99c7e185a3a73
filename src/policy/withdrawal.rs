//! Who may have a withdrawal: whoever may have the event.
//!
//! Owns that a withdrawal shows nobody the id of an event that is kept from it. A rule cannot see the event's fields in
//! the withdrawal, so it is the event that the rules are asked about, in each copy of it that this node has.

use super::{Decision, Grant, Policy, Reason, Terms};
use crate::envelope::{Envelope, Name};

/// A copy of an event, and the peer it came from; `None`: our own.
pub type Copy<'a> = (&'a Envelope, Option<&'a Name>);

impl Policy {
    /// Whether `peer` may have `withdrawal`, which came to us from `from`. `copies` are those of the event that it
    /// withdraws; none: we never had it, and cannot tell. `tests_only`: the peer takes only tests.
    pub fn shares_withdrawal(
        &self,
        withdrawal: &Envelope,
        from: Option<&Name>,
        peer: &Name,
        terms: &Terms,
        tests_only: bool,
        copies: &[Copy<'_>],
    ) -> Decision {
        if let Some(reason) = self.keeps_withdrawal(withdrawal, from, peer) {
            return Decision::Withhold(reason);
        }
        let mut reason = Reason::NoEvent;
        for (event, from) in copies {
            if *from == Some(peer) {
                // It brought the event, so it has it.
                return Decision::Give(Grant::default());
            }
            if event.header().n > 0 && u32::from(event.hidden()) == event.header().n {
                // It has been purged: rules do not see what they would look at.
                continue;
            }
            let decision = self.shares(event, *from, peer, terms);
            match if tests_only { decision.tests_only(event) } else { decision } {
                Decision::Give(Grant { by, .. }) => return Decision::Give(Grant { by, ..Grant::default() }),
                Decision::Withhold(no) => reason = no,
            }
        }
        Decision::Withhold(reason)
    }

    /// Why `peer` does not get this withdrawal, whether it has the event or not.
    pub fn keeps_withdrawal(&self, withdrawal: &Envelope, from: Option<&Name>, peer: &Name) -> Option<Reason> {
        if withdrawal.header().origin == *peer {
            Some(Reason::ItsOrigin)
        } else if from == Some(peer) {
            Some(Reason::CameFrom)
        } else {
            (withdrawal.path().len() > self.hops.saturating_add(1)).then_some(Reason::Hops)
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::config::{RuleSets, Share};
    use crate::envelope::{Bounds, Draft, Message, Sealed, Secret, Tlp, seal};
    use crate::policy::Rules;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn sealed(header: crate::envelope::Header, fields: Vec<(String, String)>) -> Sealed {
        let draft = Draft::new(header, fields, &Bounds::default()).unwrap();
        seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rand_chacha::ChaCha20Rng::seed_from_u64(1)).remove(0)
    }

    #[test]
    fn a_withdrawal_goes_where_its_event_may_go_and_nowhere_else() {
        let policy = Policy { me: name("me"), default_tlp: Tlp::Amber, hops: 3 };
        let community = Share::Community;
        let terms = Terms { community: true, give: Rules::given(&community, &RuleSets::new()), ..Terms::default() };
        let event = |tlp: Tlp, to: &[&str]| {
            let message = Message::read(b"{\"source.ip\": \"192.0.2.1\"}").unwrap();
            let mut header = message.header(&name("far"), uuid::Uuid::nil(), 0);
            (header.tlp, header.to) = (Some(tlp), to.iter().map(|to| name(to)).collect());
            sealed(header, message.fields)
        };
        let (other, it) = (name("other"), name("it"));
        let give = || Decision::Give(Grant::default());
        let no = Decision::Withhold;
        let clear = event(Tlp::Clear, &[]);
        let amber = event(Tlp::Amber, &[]);
        let named = event(Tlp::Clear, &["other"]);
        let purged = clear.hide(|_| true);
        // The copy, whom it came from, whom the withdrawal came from, and what `it` gets.
        for (copy, copy_from, from, expected) in [
            (Some(&clear), &other, &other, give()),
            (Some(&amber), &other, &other, no(Reason::Tlp(Tlp::Amber))),
            (Some(&named), &other, &other, no(Reason::NotNamed)),
            (None, &other, &other, no(Reason::NoEvent)),
            // A rule that denies would not see what it denies.
            (Some(&purged), &other, &other, no(Reason::NoEvent)),
            (Some(&purged), &it, &other, give()),
            (Some(&clear), &other, &it, no(Reason::CameFrom)),
            // It brought the event: whatever the label, its id is no news to it.
            (Some(&amber), &it, &other, give()),
        ] {
            let withdrawal = sealed(clear.header().withdrawal(uuid::Uuid::max(), 1), Vec::new());
            let copies: Vec<Copy<'_>> = copy.iter().map(|copy| (&***copy, Some(copy_from))).collect();
            let got = policy.shares_withdrawal(&withdrawal, Some(from), &it, &terms, false, &copies);
            assert_eq!(got, expected, "{copy_from} {from}");
            // Only tests: the event is none.
            let test = policy.shares_withdrawal(&withdrawal, Some(from), &other, &terms, true, &copies);
            assert!(matches!(test, Decision::Withhold(_)) || *copy_from == other, "{test:?}");
        }
    }
}

//! Policy: who may have what. Default deny; asked at the moment of sending, with today's configuration.
//!
//! Pure: it sees a header, the way an envelope came and who would get it, and answers with a reason. It must never
//! look at anything that is not signed to *widen* what a peer gets.

use std::fmt;

use crate::config::Share;
use crate::envelope::{Envelope, Header, Name, Tlp};

/// What holds for all peers of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Ourselves.
    pub me: Name,
    /// What an event without TLP counts as.
    pub default_tlp: Tlp,
    /// Nodes that an envelope may have passed when we pass it on.
    pub hops: usize,
}

/// Why something is withheld from a peer, or refused from one. The first reason in this order is the one given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The peer sealed it.
    ItsOrigin,
    /// It came from the peer.
    CameFrom,
    /// It names its recipients, and this node is none.
    NotNamed,
    /// Its TLP does not let it go there.
    Tlp(Tlp),
    /// It has passed as many nodes as it may.
    Hops,
    /// The peer is given nothing (`give = "none"`).
    NothingGiven,
    /// It is larger than the peer accepts.
    TooBig,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::ItsOrigin => f.write_str("its-origin"),
            Reason::CameFrom => f.write_str("came-from"),
            Reason::NotNamed => f.write_str("not-named"),
            Reason::Tlp(tlp) => write!(f, "tlp-{}", tlp.as_str().to_ascii_lowercase()),
            Reason::Hops => f.write_str("hops"),
            Reason::NothingGiven => f.write_str("nothing-given"),
            Reason::TooBig => f.write_str("too-big"),
        }
    }
}

/// What policy says of one envelope and one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may have it.
    Give,
    /// It may not.
    Withhold(Reason),
}

impl Policy {
    /// Whether `peer`, which is given `share`, may have `envelope`, which came to us from `from` (`None`: our own).
    pub fn shares(&self, envelope: &Envelope, from: Option<&Name>, peer: &Name, share: Share) -> Decision {
        let header = envelope.header();
        let own = header.origin == self.me;
        let named = header.to.contains(peer);
        let reason = if header.origin == *peer {
            Reason::ItsOrigin
        } else if from == Some(peer) {
            Reason::CameFrom
        } else if !header.to.is_empty() && !named {
            Reason::NotNamed
        } else if !self.tlp_lets(header, own, named) {
            Reason::Tlp(self.tlp(header))
        } else if envelope.path().len() > self.hops.saturating_add(1) {
            // We are at the path's end ourselves: our own event has passed nobody.
            Reason::Hops
        } else if share == Share::None {
            Reason::NothingGiven
        } else {
            return Decision::Give;
        };
        Decision::Withhold(reason)
    }

    /// Whether we may have `envelope`, which `bringer` brings. A node that keeps to the rules never sends what is
    /// refused here; a receiver may narrow, never widen. The reason is about this way: another peer's copy may be good.
    pub fn admits(&self, envelope: &Envelope, bringer: &Name) -> Result<(), Reason> {
        let header = envelope.header();
        let named = header.to.contains(&self.me);
        if !header.to.is_empty() && !named {
            return Err(Reason::NotNamed);
        }
        if !self.tlp_lets(header, header.origin == *bringer, named) {
            return Err(Reason::Tlp(self.tlp(header)));
        }
        Ok(())
    }

    fn tlp(&self, header: &Header) -> Tlp {
        header.tlp.unwrap_or(self.default_tlp)
    }

    /// TLP 2.0 between nodes. `own`: the giver is the origin; `named`: the taker is one of the recipients.
    fn tlp_lets(&self, header: &Header, own: bool, named: bool) -> bool {
        match self.tlp(header) {
            Tlp::Red => own && named,
            Tlp::AmberStrict => own,
            Tlp::Amber => own || named,
            Tlp::Green | Tlp::Clear => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::envelope::{Bounds, Draft, Message, Secret, seal};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn envelope(origin: &str, tlp: Option<Tlp>, to: &[&str], hops: &[&str]) -> Envelope {
        let message = Message::read(b"{\"source.ip\": \"192.0.2.1\"}").unwrap();
        let mut header = message.header(&name(origin), uuid::Uuid::nil(), 0);
        header.tlp = tlp;
        header.to = to.iter().map(|to| name(to)).collect();
        let draft = Draft::new(header, message.fields, &Bounds::default()).unwrap();
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let sealed = seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rng).remove(0);
        hops.iter().fold((*sealed).clone(), |envelope, hop| envelope.with_hop(&name(hop)))
    }

    fn policy() -> Policy {
        Policy { me: name("me"), default_tlp: Tlp::Amber, hops: 3 }
    }

    /// Origin, TLP, recipients and what a community peer `it` gets when the event came from `from`.
    #[test]
    fn the_tlp_table() {
        use Decision::{Give, Withhold};
        let tlp = |tlp| Withhold(Reason::Tlp(tlp));
        type Row<'a> = (&'a str, Option<Tlp>, &'a [&'a str], Option<&'a str>, Decision);
        let rows: &[Row<'_>] = &[
            ("me", Some(Tlp::Clear), &[], None, Give),
            ("me", Some(Tlp::Green), &[], None, Give),
            ("me", None, &[], None, Give),
            ("me", Some(Tlp::AmberStrict), &[], None, Give),
            ("me", Some(Tlp::Red), &[], None, tlp(Tlp::Red)),
            ("me", Some(Tlp::Red), &["it"], None, Give),
            ("me", Some(Tlp::Clear), &["other"], None, Withhold(Reason::NotNamed)),
            ("far", Some(Tlp::Clear), &[], Some("other"), Give),
            ("far", Some(Tlp::Green), &[], Some("far"), Give),
            ("far", None, &[], Some("far"), tlp(Tlp::Amber)),
            ("far", Some(Tlp::Amber), &["me", "it"], Some("far"), Give),
            ("far", Some(Tlp::AmberStrict), &["me", "it"], Some("far"), tlp(Tlp::AmberStrict)),
            ("far", Some(Tlp::Red), &["me", "it"], Some("far"), tlp(Tlp::Red)),
            ("it", Some(Tlp::Clear), &[], Some("far"), Withhold(Reason::ItsOrigin)),
            ("far", Some(Tlp::Clear), &[], Some("it"), Withhold(Reason::CameFrom)),
        ];
        for (origin, label, to, from, expected) in rows {
            let envelope = envelope(origin, *label, to, &[]);
            let from = from.map(name);
            let got = policy().shares(&envelope, from.as_ref(), &name("it"), Share::Community);
            assert_eq!(got, *expected, "{origin} {label:?} {to:?} {from:?}");
        }
    }

    #[test]
    fn hops_end_and_nothing_is_given_by_default() {
        let far = |hops: &[&str]| envelope("far", Some(Tlp::Clear), &[], hops);
        let ask = |envelope: &Envelope, share| policy().shares(envelope, Some(&name("b")), &name("it"), share);
        assert_eq!(ask(&far(&["a", "b", "me"]), Share::Community), Decision::Give);
        assert_eq!(ask(&far(&["a", "b", "c", "me"]), Share::Community), Decision::Withhold(Reason::Hops));
        let own_only = |envelope: &Envelope, from: Option<&str>| {
            let policy = Policy { hops: 0, ..policy() };
            policy.shares(envelope, from.map(name).as_ref(), &name("it"), Share::Community)
        };
        assert_eq!(own_only(&envelope("me", Some(Tlp::Clear), &[], &[]), None), Decision::Give);
        assert_eq!(own_only(&far(&["me"]), Some("far")), Decision::Withhold(Reason::Hops));
        assert_eq!(ask(&far(&[]), Share::None), Decision::Withhold(Reason::NothingGiven));
        assert_eq!(Share::default(), Share::None);
    }

    #[test]
    fn what_a_rule_abiding_peer_never_sends_is_refused() {
        let ask =
            |tlp, to: &[&str], bringer: &str| policy().admits(&envelope("far", Some(tlp), to, &[]), &name(bringer));
        assert_eq!(ask(Tlp::Red, &["me"], "far"), Ok(()));
        assert_eq!(ask(Tlp::Red, &["me"], "b"), Err(Reason::Tlp(Tlp::Red)));
        assert_eq!(ask(Tlp::AmberStrict, &[], "b"), Err(Reason::Tlp(Tlp::AmberStrict)));
        assert_eq!(ask(Tlp::Amber, &["me"], "b"), Ok(()));
        assert_eq!(ask(Tlp::Clear, &["b"], "b"), Err(Reason::NotNamed));
    }
}

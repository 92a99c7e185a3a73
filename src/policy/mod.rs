//! Policy: who may have what. Default deny; asked at the moment of sending, with today's configuration.
//!
//! Owns the order of the reasons: what is fixed (never back, recipients, TLP, hops) before what an operator's rules
//! say. The code that decides is the code that explains: `why` and the dry runs ask here too.
//!
//! Owns too what a node does to its own events before they are sealed (`sealing`).
//!
//! Pure: it sees an envelope, the way it came and who would get it, and answers with a reason. It must never
//! look at anything that is not signed to *widen* what a peer gets. Rules see the path and the peer that brings an
//! event, which are not signed: both are claims of a configured peer, and can narrow or widen only what the fixed
//! part permits.

mod matcher;
mod named;
mod rules;
mod sealing;
mod withdrawal;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::envelope::{Envelope, Field, Header, Name, Sealed, Tlp, counts_for_id};

use self::rules::{Answer, Event};
pub use self::rules::{Hide, RuleId, Rules};
pub use self::sealing::{Prepared, PseudonymKey, Sealing, Unsealable};
pub use self::withdrawal::Copy;

/// The classification type of events that pass in test mode.
const TEST: &str = "\"test\"";

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

/// What holds for one peer.
#[derive(Debug, Default)]
pub struct Terms {
    /// TLP:GREEN may go to it.
    pub community: bool,
    /// What is encrypted to others passes, both ways.
    pub carries: bool,
    /// Only tests pass, both ways.
    pub test: bool,
    /// What it is given.
    pub give: Rules,
    /// What is taken from it,
    pub take: Rules,
    /// and the origins whose events it may bring; `None`: all that are known.
    pub origins: Option<HashSet<Name>>,
}

impl Terms {
    /// What the configuration says about `peer`.
    pub fn new(peer: &config::Peer, sets: &config::RuleSets) -> Terms {
        Terms {
            community: peer.is_community(),
            carries: peer.carries,
            test: peer.test,
            give: Rules::given(&peer.give, sets),
            take: Rules::taken(&peer.take, sets),
            origins: peer.origins.as_ref().map(|origins| origins.iter().cloned().collect()),
        }
    }

    /// Whether the peer may bring events of this origin.
    pub fn brings(&self, origin: &Name) -> bool {
        self.origins.as_ref().is_none_or(|origins| origins.contains(origin))
    }
}

/// Why something is withheld from a peer, or refused from one. The first reason in this order is the one given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// The peer is given nothing (`give = "none"`), or nothing is taken from it.
    NothingGiven,
    /// This rule says no.
    Rule(Arc<RuleId>),
    /// No rule says yes.
    NoRule,
    /// Its id is made of its content, and what is to be hidden from the peer could be found out by it. Else it would be
    /// given by this rule.
    Guessable(Option<Arc<RuleId>>),
    /// It is no test, and only tests pass. Else it would by this rule; `None`: by a word that allows everything.
    TestMode(Option<Arc<RuleId>>),
    /// It is larger than the peer accepts.
    TooBig,
    /// Its origin has withdrawn it.
    Withdrawn,
    /// It was sealed with a key that is revoked, at that time or later.
    KeyRevoked,
    /// It withdraws an event that this node never had, or has no more: whom that one may go to cannot be told.
    NoEvent,
}

impl Reason {
    /// The rule that decided, where one did.
    pub fn rule(&self) -> Option<&RuleId> {
        match self {
            Reason::Rule(rule) => Some(rule),
            Reason::TestMode(rule) | Reason::Guessable(rule) => rule.as_deref(),
            _ => None,
        }
    }

    /// The reason without its rule: `rule` where that is all there is to say.
    pub fn word(&self) -> String {
        if let Reason::Rule(_) = self { "rule".into() } else { self.to_string() }
    }

    /// The reason with this [`Reason::word`] and this [`Reason::rule`].
    pub fn read(word: &str, rule: Option<Arc<RuleId>>) -> Option<Reason> {
        Some(match word {
            "its-origin" => Reason::ItsOrigin,
            "came-from" => Reason::CameFrom,
            "not-named" => Reason::NotNamed,
            "hops" => Reason::Hops,
            "nothing-given" => Reason::NothingGiven,
            "rule" => Reason::Rule(rule?),
            "no-rule" => Reason::NoRule,
            "test-mode" => Reason::TestMode(rule),
            "guessable" => Reason::Guessable(rule),
            "too-big" => Reason::TooBig,
            "withdrawn" => Reason::Withdrawn,
            "key-revoked" => Reason::KeyRevoked,
            "no-event" => Reason::NoEvent,
            _ => Reason::Tlp(word.strip_prefix("tlp-")?.parse().ok()?),
        })
    }
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
            Reason::Rule(rule) => write!(f, "rule-{rule}"),
            Reason::NoRule => f.write_str("no-rule"),
            Reason::TestMode(_) => f.write_str("test-mode"),
            Reason::Guessable(_) => f.write_str("guessable"),
            Reason::TooBig => f.write_str("too-big"),
            Reason::Withdrawn => f.write_str("withdrawn"),
            Reason::KeyRevoked => f.write_str("key-revoked"),
            Reason::NoEvent => f.write_str("no-event"),
        }
    }
}

/// What policy says of one envelope and one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may have it, in this form.
    Give(Grant),
    /// It may not.
    Withhold(Reason),
}

impl Decision {
    /// The same, where only tests pass.
    #[must_use]
    pub fn tests_only(self, envelope: &Envelope) -> Decision {
        match self {
            Decision::Give(Grant { by, .. }) if !is_test(envelope) => Decision::Withhold(Reason::TestMode(by)),
            same => same,
        }
    }
}

/// By what a peer may have an envelope, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// The rule that allows it; `None`: a word that allows everything.
    pub by: Option<Arc<RuleId>>,
    /// What is hidden from the peer.
    pub hide: Hide,
}

impl Grant {
    /// The envelope as the peer may have it.
    #[must_use]
    pub fn form(&self, envelope: &Sealed) -> Sealed {
        if self.hide.is_empty() { envelope.clone() } else { envelope.hide(|field| self.hide.hides(field)) }
    }

    /// The fields that are hidden from the peer, beside those that are hidden already.
    pub fn hidden<'a>(&self, envelope: &'a Envelope) -> Vec<&'a str> {
        let open = envelope.fields().filter_map(|field| match field {
            Field::Open { key, .. } => Some(key),
            Field::Hidden { .. } => None,
        });
        open.filter(|key| self.hide.hides(key)).collect()
    }
}

impl Policy {
    /// What the configuration says.
    pub fn new(config: &Config) -> Policy {
        let config::Policy { default_tlp, hops } = config.policy;
        Policy { me: config.node.name.clone(), default_tlp, hops }
    }

    /// Whether `peer` may have `envelope`, which came to us from `from` (`None`: our own).
    pub fn shares(&self, envelope: &Envelope, from: Option<&Name>, peer: &Name, terms: &Terms) -> Decision {
        let header = envelope.header();
        let own = header.origin == self.me;
        let named = header.to.contains(peer);
        let encrypted = header.is_encrypted();
        let meant = header.to.is_empty() || named || (encrypted && terms.carries);
        let reason = if header.origin == *peer {
            Reason::ItsOrigin
        } else if from == Some(peer) {
            Reason::CameFrom
        } else if !meant {
            Reason::NotNamed
        } else if !encrypted && !self.tlp_lets(header, own, named) {
            // What is encrypted, nobody on the way can read: the origin has named those who can.
            Reason::Tlp(self.tlp(header))
        } else if envelope.path().len() > self.hops.saturating_add(1) {
            // We are at the path's end ourselves: our own event has passed nobody.
            Reason::Hops
        } else if terms.give.allow_nothing() {
            Reason::NothingGiven
        } else if !encrypted && self.tlp(header) == Tlp::Green && !terms.community {
            // After that: to be given nothing at all says more.
            Reason::Tlp(Tlp::Green)
        } else {
            match terms.give.ask(&Event { envelope, from, tlp: self.tlp(header) }) {
                Answer::Deny(rule) => Reason::Rule(rule),
                _ if encrypted && terms.test => Reason::TestMode(None),
                // To be named, or to carry, is what allows it; there is nothing in it to hide.
                _ if encrypted => return Decision::Give(Grant::default()),
                Answer::Silent => Reason::NoRule,
                Answer::Allow(by, hide) if is_guessable(envelope, &hide) => Reason::Guessable(by),
                Answer::Allow(by, hide) => {
                    let decision = Decision::Give(Grant { by, hide });
                    return if terms.test { decision.tests_only(envelope) } else { decision };
                }
            }
        };
        Decision::Withhold(reason)
    }

    /// Whether we may have `envelope`, which `bringer` brings. A node that keeps to the rules never sends what is
    /// refused by the fixed part; a receiver may narrow, never widen. Except for [`Reason::NotNamed`] of what is not
    /// encrypted, the reason is about this way: another peer's copy may be good.
    pub fn admits(&self, envelope: &Envelope, bringer: &Name, terms: &Terms) -> Result<(), Reason> {
        let header = envelope.header();
        let named = header.to.contains(&self.me);
        let encrypted = header.is_encrypted();
        let meant = header.to.is_empty() || named || (encrypted && terms.carries);
        if !meant {
            return Err(Reason::NotNamed);
        }
        if !encrypted && !self.tlp_lets(header, header.origin == *bringer, named) {
            return Err(Reason::Tlp(self.tlp(header)));
        }
        if terms.take.allow_nothing() {
            return Err(Reason::NothingGiven);
        }
        if envelope.withdraws().is_some() {
            // Rules are about an event's fields, and it has none of them. It says nothing that narrows or widens.
            return Ok(());
        }
        match terms.take.ask(&Event { envelope, from: Some(bringer), tlp: self.tlp(header) }) {
            Answer::Deny(rule) => Err(Reason::Rule(rule)),
            Answer::Silent | Answer::Allow(..) if encrypted && terms.test => Err(Reason::TestMode(None)),
            Answer::Silent if encrypted => Ok(()),
            Answer::Silent => Err(Reason::NoRule),
            Answer::Allow(by, _) if terms.test && !is_test(envelope) => Err(Reason::TestMode(by)),
            Answer::Allow(..) => Ok(()),
        }
    }

    /// The rule that keeps an event of our own from a peer with these terms. Asked before it is encrypted to that peer:
    /// afterwards no rule sees into it.
    pub fn keeps(&self, event: &Envelope, terms: &Terms) -> Option<Arc<RuleId>> {
        match terms.give.ask(&Event { envelope: event, from: None, tlp: self.tlp(event.header()) }) {
            Answer::Deny(rule) => Some(rule),
            Answer::Allow(..) | Answer::Silent => None,
        }
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

/// Whether a field that would be hidden could be found out by an id that is made of it.
fn is_guessable(envelope: &Envelope, hide: &Hide) -> bool {
    let Some(without) = envelope.header().content.as_ref().filter(|_| !hide.is_empty()) else { return false };
    let mut open = envelope.fields().filter_map(|field| match field {
        Field::Open { key, .. } => Some(key),
        Field::Hidden { .. } => None,
    });
    open.any(|key| hide.hides(key) && counts_for_id(key, without))
}

fn is_test(envelope: &Envelope) -> bool {
    envelope.field("classification.type").is_some_and(|value| value.trim() == TEST)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::config::{Admit, RuleSets, Share};
    use crate::envelope::{Bounds, Draft, Message, Secret, encrypt, seal};

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

    fn community() -> Terms {
        Terms { community: true, give: Rules::given(&Share::Community, &RuleSets::new()), ..Terms::default() }
    }

    fn all() -> Terms {
        Terms { take: Rules::taken(&Admit::All, &RuleSets::new()), ..Terms::default() }
    }

    fn give() -> Decision {
        Decision::Give(Grant::default())
    }

    fn policy() -> Policy {
        Policy { me: name("me"), default_tlp: Tlp::Amber, hops: 3 }
    }

    /// Origin, TLP, recipients and what a community peer `it` gets when the event came from `from`.
    #[test]
    fn the_tlp_table() {
        use Decision::Withhold;
        let tlp = |tlp| Withhold(Reason::Tlp(tlp));
        type Row<'a> = (&'a str, Option<Tlp>, &'a [&'a str], Option<&'a str>, Decision);
        let rows: &[Row<'_>] = &[
            ("me", Some(Tlp::Clear), &[], None, give()),
            ("me", Some(Tlp::Green), &[], None, give()),
            ("me", None, &[], None, give()),
            ("me", Some(Tlp::AmberStrict), &[], None, give()),
            ("me", Some(Tlp::Red), &[], None, tlp(Tlp::Red)),
            ("me", Some(Tlp::Red), &["it"], None, give()),
            ("me", Some(Tlp::Clear), &["other"], None, Withhold(Reason::NotNamed)),
            ("far", Some(Tlp::Clear), &[], Some("other"), give()),
            ("far", Some(Tlp::Green), &[], Some("far"), give()),
            ("far", None, &[], Some("far"), tlp(Tlp::Amber)),
            ("far", Some(Tlp::Amber), &["me", "it"], Some("far"), give()),
            ("far", Some(Tlp::AmberStrict), &["me", "it"], Some("far"), tlp(Tlp::AmberStrict)),
            ("far", Some(Tlp::Red), &["me", "it"], Some("far"), tlp(Tlp::Red)),
            ("it", Some(Tlp::Clear), &[], Some("far"), Withhold(Reason::ItsOrigin)),
            ("far", Some(Tlp::Clear), &[], Some("it"), Withhold(Reason::CameFrom)),
        ];
        for (origin, label, to, from, expected) in rows {
            let envelope = envelope(origin, *label, to, &[]);
            let from = from.map(name);
            let got = policy().shares(&envelope, from.as_ref(), &name("it"), &community());
            assert_eq!(got, *expected, "{origin} {label:?} {to:?} {from:?}");
        }
    }

    /// As [`envelope`], encrypted to `to`.
    fn encrypted(origin: &str, tlp: Option<Tlp>, to: &[&str], hops: &[&str]) -> Envelope {
        let mut header = envelope(origin, tlp, to, &[]).header().clone();
        header.n = 0;
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let field = [("classification.type".to_owned(), TEST.to_owned())];
        let keys = vec![None; to.len()];
        let (header, fields) = encrypt(header, &field, &keys, &Bounds::default(), &mut rng).unwrap();
        let draft = Draft::new(header, fields, &Bounds::default()).unwrap();
        let sealed = seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rng).remove(0);
        hops.iter().fold((*sealed).clone(), |envelope, hop| envelope.with_hop(&name(hop)))
    }

    #[test]
    fn what_is_encrypted_goes_to_whom_it_names_and_to_who_carries_it() {
        use Decision::Withhold;
        let sets = |text: &str| {
            let key = Secret::from_seed(&[1; 32]).key();
            let text = format!("[node]\nname = \"me\"\n[[peer]]\nname = \"it\"\nkey = \"{key}\"\n{text}");
            let config =
                Config::parse(&text, std::path::Path::new("/")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            Terms::new(&config.peers[0], &config.rules)
        };
        let rule = |act: &str, what: &str| {
            sets(&format!("give = [\"r\"]\ntake = [\"r\"]\ncarries = true\n[[rules.r]]\ndo = \"{act}\"\n{what}"))
        };
        let by = |line| Withhold(Reason::Rule(Arc::new(RuleId { label: "r/1".into(), line })));
        let carries = || Terms { carries: true, ..community() };
        let bare = || sets("give = [\"r\"]\n[[rules.r]]\ndo = \"allow\"\nfields = { \"a\" = 1 }");
        let hiding = || sets("give = [\"r\"]\n[[rules.r]]\ndo = \"allow\"\nhide = \"a*\"");
        let red = Some(Tlp::Red);
        let from = name("other");
        for (origin, tlp, to, hops, terms, expected) in [
            ("far", red, &["it"][..], &[][..], community(), give()),
            ("far", Some(Tlp::AmberStrict), &["it", "x"], &[], bare(), give()),
            // Neither of the community, nor allowed by a rule: its origin has named it.
            ("far", Some(Tlp::Green), &["it"], &[], bare(), give()),
            ("far", red, &["x"], &[], community(), Withhold(Reason::NotNamed)),
            ("far", red, &["x"], &[], carries(), give()),
            ("me", red, &["x"], &[], carries(), give()),
            ("far", red, &["x"], &["a", "b", "c", "me"], carries(), Withhold(Reason::Hops)),
            ("it", red, &["x"], &[], carries(), Withhold(Reason::ItsOrigin)),
            ("other", red, &["it"], &[], Terms { give: Rules::default(), ..carries() }, Withhold(Reason::NothingGiven)),
            ("far", red, &["it"], &[], rule("deny", "tlp = \"RED\""), by(9)),
            ("far", red, &["x"], &[], rule("poison", "type = \"event\""), by(9)),
            ("far", red, &["it"], &[], rule("poison", "tlp = \"GREEN\""), give()),
            ("far", red, &["it"], &[], rule("poison", "fields = { \"classification.type\" = \"test\" }"), give()),
            ("far", red, &["it"], &[], rule("deny", "fields = { \"a\" = { present = false } }"), by(9)),
            // There is nothing in it that a rule could hide.
            ("far", red, &["it"], &[], hiding(), give()),
            ("far", red, &["it"], &[], Terms { test: true, ..community() }, Withhold(Reason::TestMode(None))),
        ] {
            let envelope = encrypted(origin, tlp, to, hops);
            let got = policy().shares(&envelope, Some(&from).filter(|_| origin != "me"), &name("it"), &terms);
            assert_eq!(got, expected, "{origin} {tlp:?} {to:?} {hops:?}");
            assert!(matches!(got.tests_only(&envelope), Withhold(_)), "nobody can see that it is a test");
        }
        let back = encrypted("far", red, &["x"], &[]);
        assert_eq!(policy().shares(&back, Some(&name("it")), &name("it"), &carries()), Withhold(Reason::CameFrom));
        // The same when it is taken.
        let admit = |to: &[&str], terms: &Terms| policy().admits(&encrypted("far", red, to, &[]), &name("it"), terms);
        assert_eq!(admit(&["me"], &all()), Ok(()));
        assert_eq!(admit(&["x"], &all()), Err(Reason::NotNamed));
        assert_eq!(admit(&["x"], &Terms { carries: true, ..all() }), Ok(()));
        assert_eq!(admit(&["me"], &Terms::default()), Err(Reason::NothingGiven));
        assert_eq!(admit(&["me"], &Terms { test: true, ..all() }), Err(Reason::TestMode(None)));
        assert_eq!(admit(&["x"], &rule("allow", "fields = { \"a\" = 1 }")), Ok(()));
        assert!(matches!(admit(&["me"], &rule("deny", "tlp = \"RED\"")), Err(Reason::Rule(_))));
        // What is not encrypted is not carried.
        let open = envelope("far", Some(Tlp::Clear), &["x"], &[]);
        assert_eq!(policy().admits(&open, &name("it"), &Terms { carries: true, ..all() }), Err(Reason::NotNamed));
        assert_eq!(policy().shares(&open, None, &name("it"), &carries()), Withhold(Reason::NotNamed));
    }

    #[test]
    fn a_name_in_the_path_keeps_nothing_from_its_node() {
        let (b, it) = (name("b"), name("it"));
        for hops in [&["it", "b", "me"][..], &["me", "b", "me"]] {
            let poisoned = envelope("far", Some(Tlp::Clear), &[], hops);
            assert_eq!(policy().shares(&poisoned, Some(&b), &it, &community()), give(), "{hops:?}");
        }
    }

    #[test]
    fn every_reason_is_read_as_it_was_written() {
        let rule = Arc::new(RuleId { label: "ours/1".into(), line: 7 });
        let labels = [Tlp::Clear, Tlp::Green, Tlp::Amber, Tlp::AmberStrict, Tlp::Red].map(Reason::Tlp);
        let others = [
            Reason::ItsOrigin,
            Reason::CameFrom,
            Reason::NotNamed,
            Reason::Hops,
            Reason::NothingGiven,
            Reason::Rule(rule.clone()),
            Reason::NoRule,
            Reason::TestMode(None),
            Reason::TestMode(Some(rule)),
            Reason::TooBig,
            Reason::Withdrawn,
            Reason::NoEvent,
        ];
        for reason in labels.into_iter().chain(others) {
            let rule = reason.rule().cloned().map(Arc::new);
            assert_eq!(Reason::read(&reason.word(), rule), Some(reason));
        }
        assert_eq!(Reason::read("tlp-pink", None), None);
        assert_eq!(Reason::read("rule", None), None);
    }

    #[test]
    fn hops_end_and_nothing_is_given_by_default() {
        let far = |hops: &[&str]| envelope("far", Some(Tlp::Clear), &[], hops);
        let ask = |envelope: &Envelope, terms: &Terms| policy().shares(envelope, Some(&name("b")), &name("it"), terms);
        assert_eq!(ask(&far(&["a", "b", "me"]), &community()), give());
        assert_eq!(ask(&far(&["a", "b", "c", "me"]), &community()), Decision::Withhold(Reason::Hops));
        let own_only = |envelope: &Envelope, from: Option<&str>| {
            let policy = Policy { hops: 0, ..policy() };
            policy.shares(envelope, from.map(name).as_ref(), &name("it"), &community())
        };
        assert_eq!(own_only(&envelope("me", Some(Tlp::Clear), &[], &[]), None), give());
        assert_eq!(own_only(&far(&["me"]), Some("far")), Decision::Withhold(Reason::Hops));
        assert_eq!(ask(&far(&[]), &Terms::default()), Decision::Withhold(Reason::NothingGiven));
        assert_eq!(Share::default(), Share::None);
    }

    #[test]
    fn every_reason_can_be_read_again() {
        let rule = Arc::new(RuleId { label: "r/1".into(), line: 7 });
        let reasons = [
            Reason::ItsOrigin,
            Reason::CameFrom,
            Reason::NotNamed,
            Reason::Tlp(Tlp::AmberStrict),
            Reason::Hops,
            Reason::NothingGiven,
            Reason::Rule(rule.clone()),
            Reason::NoRule,
            Reason::TestMode(None),
            Reason::TestMode(Some(rule.clone())),
            Reason::Guessable(Some(rule)),
            Reason::TooBig,
        ];
        for reason in reasons {
            let rule = reason.rule().cloned().map(Arc::new);
            assert_eq!(Reason::read(&reason.word(), rule), Some(reason));
        }
    }

    #[test]
    fn nothing_is_hidden_that_a_content_id_would_tell() {
        let sets = |hide: &str| {
            let key = Secret::from_seed(&[3; 32]).key();
            let text = format!(
                "[node]\nname = \"me\"\n[[peer]]\nname = \"it\"\nkey = \"{key}\"\ngive = [\"r\"]\ncommunity = true\n\
                 [[rules.r]]\ndo = \"allow\"\nhide = {hide}"
            );
            let config = Config::parse(&text, std::path::Path::new("/")).unwrap();
            Terms::new(&config.peers[0], &config.rules)
        };
        let message = Message::read(b"{\"source.ip\": \"192.0.2.1\", \"raw\": \"eA==\"}").unwrap();
        let sealed = |content: Option<Vec<String>>| {
            let mut header = message.header(&name("me"), uuid::Uuid::nil(), 0);
            header.content = content;
            let draft = Draft::new(header, message.fields.clone(), &Bounds::default()).unwrap();
            seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rand_chacha::ChaCha20Rng::seed_from_u64(1)).remove(0)
        };
        let ask = |hide: &str, content| policy().shares(&sealed(content), None, &name("it"), &sets(hide));
        assert!(matches!(ask("\"source.ip\"", None), Decision::Give(_)));
        assert!(matches!(ask("\"raw\"", Some(Vec::new())), Decision::Give(_)));
        assert!(matches!(ask("\"extra.x\"", Some(Vec::new())), Decision::Give(_)));
        let Decision::Withhold(reason) = ask("[\"raw\", \"source.*\"]", Some(Vec::new())) else { panic!() };
        assert_eq!((reason.to_string(), reason.rule().unwrap().label.as_str()), ("guessable".into(), "r/1"));
        // Before test mode: what is lifted there would not let it pass.
        let terms = Terms { test: true, ..sets("\"source.ip\"") };
        let decision = policy().shares(&sealed(Some(Vec::new())), None, &name("it"), &terms);
        assert_eq!(decision, Decision::Withhold(reason));
    }

    #[test]
    fn what_a_rule_abiding_peer_never_sends_is_refused() {
        let ask = |tlp, to: &[&str], bringer: &str| {
            policy().admits(&envelope("far", Some(tlp), to, &[]), &name(bringer), &all())
        };
        assert_eq!(ask(Tlp::Red, &["me"], "far"), Ok(()));
        assert_eq!(ask(Tlp::Red, &["me"], "b"), Err(Reason::Tlp(Tlp::Red)));
        assert_eq!(ask(Tlp::AmberStrict, &[], "b"), Err(Reason::Tlp(Tlp::AmberStrict)));
        assert_eq!(ask(Tlp::Amber, &["me"], "b"), Ok(()));
        assert_eq!(ask(Tlp::Clear, &["b"], "b"), Err(Reason::NotNamed));
    }
}

//! One envelope before the gate: what it is worth, in a fixed order. No I/O, no clock.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Bringer, Rules};
use crate::envelope::{Envelope, Header, Key, Kind, Malformed, Name, Sealed, SeenKeys, Verifier};
use crate::link::Verdict;
use crate::policy::{Reason, RuleId, Terms};
use crate::trust::KeyStanding;

/// The reason to refuse what a peer may not bring.
pub(super) const NOT_HERE: &str = "origin-not-here";

/// A seal whose key is not accepted.
pub(super) struct Stranger<'a> {
    pub(super) header: &'a Header,
    pub(super) standing: KeyStanding,
}

impl Stranger<'_> {
    fn verdict(&self) -> Verdict {
        match self.standing {
            KeyStanding::Other(_) => Verdict::Refused("other-key".into()),
            KeyStanding::NotThen => Verdict::Refused("key-not-valid".into()),
            KeyStanding::Revoked(_) => Verdict::Refused("key-revoked".into()),
            KeyStanding::Good | KeyStanding::Unknown => Verdict::UnknownOrigin,
        }
    }
}

/// Of a withdrawal: its event is another origin's.
const NOT_ITS_ORIGIN: &str = "not-its-origin";

/// The judgement, before the store has the last word on duplicates.
// Nearly all are good: boxing them would cost an allocation each to spare the few that are not.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum Judged {
    /// To be committed, as soon as our name is at the end of its path.
    Good(Sealed),
    /// Refused; with the keys to remember where it would be the same whoever brought it, and what `why` tells of it,
    /// where it could be read.
    Bad(Verdict, Option<SeenKeys>, Option<Box<About>>),
}

/// What was refused, and by which rule.
#[derive(Debug)]
pub(super) struct About {
    pub(super) origin: Name,
    pub(super) id: Uuid,
    pub(super) rule: Option<Arc<RuleId>>,
}

impl About {
    fn new(envelope: &Envelope, rule: Option<&RuleId>) -> Option<Box<About>> {
        let header = envelope.header();
        let rule = rule.cloned().map(Arc::new);
        Some(Box::new(About { origin: header.origin.clone(), id: header.id, rule }))
    }
}

impl Judged {
    pub(super) fn good(&self) -> Option<&Sealed> {
        match self {
            Judged::Good(envelope) => Some(envelope),
            Judged::Bad(..) => None,
        }
    }

    pub(super) fn good_mut(&mut self) -> Option<&mut Sealed> {
        match self {
            Judged::Good(envelope) => Some(envelope),
            Judged::Bad(..) => None,
        }
    }

    pub(super) fn remember(&self) -> Option<SeenKeys> {
        match self {
            Judged::Good(_) => None,
            Judged::Bad(_, keys, _) => *keys,
        }
    }
}

/// Judges an envelope that `bringer` brings. `seen` is the seen set; `stranger` is told of keys that are not accepted.
pub(super) fn judge(
    bytes: Bytes,
    bringer: &Bringer,
    rules: &Rules,
    seen: impl Fn(&SeenKeys) -> Option<u16>,
    stranger: impl Fn(&Stranger<'_>),
    verifier: &Verifier,
    now: u64,
) -> Judged {
    let envelope = match Envelope::decode(bytes, &rules.bounds) {
        Ok(envelope) => envelope,
        Err(Malformed::TooBig { .. }) => return Judged::Bad(Verdict::TooBig, None, None),
        Err(reason) => {
            tracing::debug!(peer = %bringer.name, %reason, "malformed");
            return Judged::Bad(Verdict::Malformed, None, None);
        }
    };
    if let Some(verdict) = unverified(&envelope, bringer, rules, &seen, stranger, now) {
        // What is known is not noted again.
        let known = matches!(verdict, Verdict::Duplicate | Verdict::Loop);
        let about = if known { None } else { About::new(&envelope, None) };
        return Judged::Bad(verdict, None, about);
    }
    let (id, origin) = (envelope.header().id, envelope.header().origin.clone());
    let sealed = match verifier.open(envelope) {
        Ok(sealed) => sealed,
        Err(reason) => {
            tracing::debug!(peer = %bringer.name, %reason, "bad signature");
            let about = About { origin, id, rule: None };
            return Judged::Bad(Verdict::BadSignature, None, Some(Box::new(about)));
        }
    };
    // A peer that was removed a moment ago brings nothing more.
    let none = Terms::default();
    let terms = rules.terms.get(&bringer.name).map_or(&none, |terms| terms);
    if is_of_another(&sealed, rules, &seen) {
        tracing::warn!(peer = %bringer.name, %origin, %id, "withdraws an event that is not its own: refused");
        let about = About { origin, id, rule: None };
        return Judged::Bad(Verdict::Refused(NOT_ITS_ORIGIN.into()), None, Some(Box::new(about)));
    }
    match rules.policy.admits(&sealed, &bringer.name, terms) {
        Ok(()) => Judged::Good(sealed),
        Err(reason) => {
            // Who it is for is signed: it will not be for us by another way. Only what is verified is remembered, or
            // a forged refusal would keep the real event out.
            // What is encrypted may come to be carried by another way.
            // By origin and id only: the same content may come to us from another origin.
            let header = sealed.header();
            let by_origin = || SeenKeys::of_offer(&header.key, header.id, sealed.hidden());
            let keys = (reason == Reason::NotNamed && !header.is_encrypted()).then(by_origin);
            let about = About::new(&sealed, reason.rule());
            Judged::Bad(Verdict::Refused(reason.to_string()), keys, about)
        }
    }
}

/// What can be told without a signature. None of it is remembered.
fn unverified(
    envelope: &Envelope,
    bringer: &Bringer,
    rules: &Rules,
    seen: &impl Fn(&SeenKeys) -> Option<u16>,
    stranger: impl Fn(&Stranger<'_>),
    now: u64,
) -> Option<Verdict> {
    let (header, path) = (envelope.header(), envelope.path());
    let keys = envelope.seen_keys();
    if seen(&keys).is_some_and(|hidden| hidden <= keys.hidden) {
        return Some(Verdict::Duplicate);
    }
    // An envelope that passed here is in the seen set, which outlives it. One that is not, and has our name in its path,
    // had its path forged, or comes back to a store that was lost: refused, it would be lost here.
    if header.origin == rules.me || header.key == rules.key {
        return Some(Verdict::Loop);
    }
    // The path is not signed, but its ends are known: where it was sealed, and who brings it.
    if path.first() != Some(&header.origin) || path.last() != Some(&bringer.name) {
        tracing::debug!(peer = %bringer.name, ?path, "a path that does not lead from the origin to the peer");
        return Some(Verdict::Malformed);
    }
    if header.time.saturating_add(rules.age) < now {
        return Some(Verdict::TooOld);
    }
    if header.time > now.saturating_add(rules.future) {
        return Some(Verdict::FromTheFuture);
    }
    let standing = rules.origins.ask(&header.origin, &header.key, header.time);
    if standing != KeyStanding::Good {
        let met = Stranger { header, standing };
        stranger(&met);
        return Some(met.verdict());
    }
    // About this way: another peer may bring it.
    let here = rules.terms.get(&bringer.name).is_none_or(|terms| terms.brings(&header.origin));
    if !here {
        return Some(Verdict::Refused(NOT_HERE.into()));
    }
    if header.kind == Kind::Withdrawal {
        // Of nothing: it says nothing that could be kept.
        return envelope.withdraws().is_none().then_some(Verdict::Malformed);
    }
    // Asked before the signature is looked at, so nothing is remembered: a forged copy is not taken either.
    seen(&SeenKeys::of_withdrawn(&header.key, header.id)).map(|_| Verdict::Withdrawn)
}

/// Whether it withdraws an event that is known of another origin, and not of its own.
fn is_of_another(envelope: &Envelope, rules: &Rules, seen: &impl Fn(&SeenKeys) -> Option<u16>) -> bool {
    let Some(id) = envelope.withdraws() else { return false };
    let known = |key: &Key| seen(&SeenKeys { also: None, ..SeenKeys::of_offer(key, id, 0) }).is_some();
    let key = envelope.header().key;
    let own = known(&key) || rules.origins.ancestors(&key).any(|key| known(&key));
    !own && rules.origins.all_keys().chain([&rules.key]).any(known)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::config::{Admit, RuleSets};
    use crate::envelope::{Bounds, Draft, Message, Secret, Tlp, encrypt, seal};
    use crate::policy::{self, Policy};
    use crate::trust::Origins;

    const NOW: u64 = 1_795_514_400_000;
    const DAY: u64 = 24 * 3600 * 1000;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn secret(n: u8) -> Secret {
        Secret::from_seed(&[n; 32])
    }

    fn all() -> Terms {
        Terms { take: policy::Rules::taken(&Admit::All, &RuleSets::new()), ..Terms::default() }
    }

    fn rules() -> Rules {
        let bringers = ["cert-at", "cert-ee", "me", "other", "nobody"];
        let origins = [("cert-at", 1), ("cert-ee", 2)].map(|(origin, n)| (name(origin), secret(n).key()));
        let picky = Terms { origins: Some([name("cert-ee")].into()), ..all() };
        let picky = (name("picky"), Arc::new(picky));
        Rules {
            me: name("me"),
            key: secret(9).key(),
            origins: Origins::new(origins.into_iter(), None).into(),
            policy: Policy { me: name("me"), default_tlp: Tlp::Amber, hops: 16 },
            terms: bringers.map(|bringer| (name(bringer), Arc::new(all()))).into_iter().chain([picky]).collect(),
            bounds: Bounds { bytes: 4096, fields: 8, path: 4 },
            age: 10 * DAY,
            future: 600_000,
        }
    }

    struct Made<'a> {
        origin: &'a str,
        key: u8,
        time: u64,
        tlp: Tlp,
        to: &'a [&'a str],
        hops: &'a [&'a str],
    }

    const GOOD: Made<'static> = Made { origin: "cert-at", key: 1, time: NOW, tlp: Tlp::Green, to: &[], hops: &[] };

    impl Made<'_> {
        fn sealed(&self) -> Sealed {
            let message = Message::read(b"{\"source.ip\": \"192.0.2.1\"}").unwrap();
            let mut header = message.header(&name(self.origin), Uuid::from_u128(1), self.time);
            header.tlp = Some(self.tlp);
            header.to = self.to.iter().map(|to| name(to)).collect();
            let draft = Draft::new(header, message.fields, &Bounds::default()).unwrap();
            let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
            let sealed = seal(&secret(self.key), vec![draft], &mut rng).remove(0);
            self.hops.iter().fold(sealed, |sealed, hop| sealed.with_hop(&name(hop)))
        }
    }

    fn ask(bytes: &Bytes, bringer: &str, seen: Option<u16>) -> (Verdict, bool) {
        // Of the event alone: nothing is withdrawn.
        let withdrawn = SeenKeys::of_withdrawn(&secret(1).key(), Uuid::from_u128(1));
        ask_with(bytes, bringer, |keys| seen.filter(|_| *keys != withdrawn))
    }

    fn ask_with(bytes: &Bytes, bringer: &str, seen: impl Fn(&SeenKeys) -> Option<u16>) -> (Verdict, bool) {
        let bringer = Bringer { name: name(bringer), key: secret(3).key() };
        match judge(bytes.clone(), &bringer, &rules(), seen, |_| {}, &Verifier::new(8), NOW) {
            Judged::Good(sealed) => {
                assert_eq!(sealed.path().last(), Some(&bringer.name));
                (Verdict::Accepted, false)
            }
            Judged::Bad(verdict, keys, about) => {
                assert!(about.is_none_or(|about| about.id == Uuid::from_u128(1)));
                (verdict, keys.is_some())
            }
        }
    }

    #[test]
    fn each_verdict_has_its_case_and_only_one_is_remembered() {
        let far: &[&str] = &["cert-ee"];
        let refused = |rule: &str| Verdict::Refused(rule.into());
        for (made, bringer, expected) in [
            (Made { ..GOOD }, "cert-at", Verdict::Accepted),
            (Made { hops: far, ..GOOD }, "cert-ee", Verdict::Accepted),
            (Made { origin: "me", key: 9, ..GOOD }, "me", Verdict::Loop),
            (Made { origin: "other", key: 9, ..GOOD }, "other", Verdict::Loop),
            (Made { hops: &["me", "cert-ee"], ..GOOD }, "cert-ee", Verdict::Accepted),
            (Made { ..GOOD }, "cert-ee", Verdict::Malformed),
            (Made { hops: &["x", "y", "z", "cert-ee"], ..GOOD }, "cert-ee", Verdict::TooBig),
            (Made { time: NOW - 10 * DAY - 1, ..GOOD }, "cert-at", Verdict::TooOld),
            (Made { time: NOW - 10 * DAY, ..GOOD }, "cert-at", Verdict::Accepted),
            (Made { time: NOW + 600_001, ..GOOD }, "cert-at", Verdict::FromTheFuture),
            (Made { time: u64::MAX, ..GOOD }, "cert-at", Verdict::FromTheFuture),
            (Made { origin: "nobody", key: 4, ..GOOD }, "nobody", Verdict::UnknownOrigin),
            (Made { key: 2, ..GOOD }, "cert-at", refused("other-key")),
            (Made { hops: &["picky"], ..GOOD }, "picky", refused("origin-not-here")),
            (Made { origin: "cert-ee", key: 2, hops: &["picky"], ..GOOD }, "picky", Verdict::Accepted),
            (Made { origin: "nobody", key: 4, hops: &["picky"], ..GOOD }, "picky", Verdict::UnknownOrigin),
            (Made { tlp: Tlp::Red, ..GOOD }, "cert-at", refused("tlp-red")),
            (Made { tlp: Tlp::AmberStrict, hops: far, ..GOOD }, "cert-ee", refused("tlp-amber+strict")),
        ] {
            assert_eq!(ask(made.sealed().bytes(), bringer, None), (expected.clone(), false), "{expected} by {bringer}");
        }
        let elsewhere = Made { to: &["cert-ee"], ..GOOD }.sealed();
        assert_eq!(ask(elsewhere.bytes(), "cert-at", None), (refused("not-named"), true));
    }

    #[test]
    fn a_path_begins_with_the_origin() {
        let sealed = Made { hops: &["cert-ee"], ..GOOD }.sealed();
        // The origin's name is in the header, and then in the path.
        let at = sealed.bytes().windows(7).rposition(|text| text == b"cert-at").unwrap();
        for (name, expected) in [(b"cert-at", Verdict::Accepted), (b"cert-lu", Verdict::Malformed)] {
            let mut bytes = sealed.bytes().to_vec();
            bytes[at..at + 7].copy_from_slice(name);
            assert_eq!(ask(&bytes.into(), "cert-ee", None), (expected, false));
        }
    }

    #[test]
    fn what_is_encrypted_to_others_is_not_remembered() {
        let header = Made { to: &["cert-ee"], ..GOOD }.sealed().header().clone();
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let fields = [("a".to_owned(), "1".to_owned())];
        let (header, fields) = encrypt(header, &fields, &[None], &Bounds::default(), &mut rng).unwrap();
        let draft = Draft::new(header, fields, &Bounds::default()).unwrap();
        let sealed = seal(&secret(1), vec![draft], &mut rng).remove(0);
        let mut wide = rules();
        wide.bounds = Bounds::default();
        // By another peer, or after a change of the configuration, it may be for us to carry.
        for carries in [false, true] {
            let terms = Terms { carries, ..all() };
            wide.terms.insert(name("cert-at"), terms.into());
            let bringer = Bringer { name: name("cert-at"), key: secret(3).key() };
            let bytes = sealed.bytes().clone();
            let judged = judge(bytes, &bringer, &wide, |_| None, |_| {}, &Verifier::new(8), NOW);
            assert_eq!(judged.good().is_some(), carries, "{judged:?}");
            assert!(judged.remember().is_none());
        }
    }

    #[test]
    fn what_is_for_others_is_remembered_by_its_origin_and_not_by_its_content() {
        let message = Message::read(b"{\"source.ip\": \"192.0.2.1\"}").unwrap();
        let mut header = message.header(&name("cert-at"), Uuid::nil(), NOW);
        (header.content, header.to) = (Some(Vec::new()), vec![name("cert-ee")]);
        let draft = Draft::new(header, message.fields, &Bounds::default()).unwrap();
        let sealed = seal(&secret(1), vec![draft], &mut rand_chacha::ChaCha20Rng::seed_from_u64(1)).remove(0);
        let bringer = Bringer { name: name("cert-at"), key: secret(3).key() };
        let judged = judge(sealed.bytes().clone(), &bringer, &rules(), |_| None, |_| {}, &Verifier::new(8), NOW);
        let remembered = judged.remember().expect("it will not be for us by another way");
        assert_ne!(remembered.insert, sealed.seen_keys().insert);
        assert_eq!(Some(remembered.insert), sealed.seen_keys().also);
    }

    #[test]
    fn duplicates_and_completions_are_told_by_what_is_hidden() {
        let whole = GOOD.sealed();
        let hidden = whole.hide(|_| true);
        assert_eq!(ask(whole.bytes(), "cert-at", Some(0)).0, Verdict::Duplicate);
        assert_eq!(ask(hidden.bytes(), "cert-at", Some(1)).0, Verdict::Duplicate);
        assert_eq!(ask(whole.bytes(), "cert-at", Some(1)).0, Verdict::Accepted);
    }

    /// A withdrawal, by this origin and key, of the event that [`Made`] seals.
    fn withdrawal(origin: &str, key: u8, of: Option<Uuid>) -> Sealed {
        let mut header = GOOD.sealed().header().withdrawal(Uuid::from_u128(1), NOW);
        (header.origin, header.links.withdraws) = (name(origin), of);
        let draft = Draft::new(header, vec![("reason".into(), "\"wrong\"".into())], &Bounds::default()).unwrap();
        seal(&secret(key), vec![draft], &mut rand_chacha::ChaCha20Rng::seed_from_u64(2)).remove(0)
    }

    #[test]
    fn only_the_origin_of_an_event_withdraws_it() {
        const EVENT: Uuid = Uuid::from_u128(7);
        let ask = |origin: &str, key: u8, of: Option<Uuid>, known: &[u8]| {
            let keys: Vec<_> = known.iter().map(|n| SeenKeys::of_offer(&secret(*n).key(), EVENT, 0).insert).collect();
            let seen = |asked: &SeenKeys| keys.contains(&asked.insert).then_some(0);
            ask_with(withdrawal(origin, key, of).bytes(), origin, seen).0
        };
        let foreign = Verdict::Refused("not-its-origin".into());
        for (origin, key, of, known, expected) in [
            ("cert-at", 1, Some(EVENT), &[1][..], Verdict::Accepted),
            // It may come before its event, or the event never.
            ("cert-at", 1, Some(EVENT), &[], Verdict::Accepted),
            // Two origins may have sealed something under one id.
            ("cert-at", 1, Some(EVENT), &[1, 2], Verdict::Accepted),
            ("cert-ee", 2, Some(EVENT), &[1], foreign.clone()),
            ("cert-ee", 2, Some(EVENT), &[9], foreign),
            ("cert-at", 2, Some(EVENT), &[1], Verdict::Refused("other-key".into())),
            ("cert-at", 1, None, &[], Verdict::Malformed),
        ] {
            assert_eq!(ask(origin, key, of, known), expected, "{origin} {key} {of:?} {known:?}");
        }
        // By a relay, in the origin's name.
        let mut bytes = withdrawal("cert-at", 1, Some(EVENT)).bytes().to_vec();
        let at = bytes.windows(5).position(|w| w == b"wrong").unwrap();
        bytes[at] = b'W';
        assert_eq!(ask_with(&bytes.into(), "cert-at", |_| None).0, Verdict::BadSignature);
    }

    #[test]
    fn what_is_withdrawn_is_not_taken_and_nobody_else_can_withdraw_it() {
        let event = GOOD.sealed();
        let by = |n: u8| {
            let withdrawn = SeenKeys::of_withdrawn(&secret(n).key(), event.header().id);
            ask_with(event.bytes(), "cert-at", |asked| (*asked == withdrawn).then_some(0))
        };
        assert_eq!(by(1), (Verdict::Withdrawn, false));
        assert_eq!(by(2), (Verdict::Accepted, false));
    }

    #[test]
    fn a_tampered_envelope_is_refused_and_not_remembered() {
        let sealed = GOOD.sealed();
        let at = sealed.bytes().windows(9).position(|w| w == b"192.0.2.1").unwrap();
        let mut bytes = sealed.bytes().to_vec();
        bytes[at + 8] = b'2';
        assert_eq!(ask(&bytes.into(), "cert-at", None), (Verdict::BadSignature, false));
        assert_eq!(ask(&Bytes::from_static(b"no envelope"), "cert-at", None), (Verdict::Malformed, false));
        assert_eq!(ask(&Bytes::from(vec![0; 5000]), "cert-at", None), (Verdict::TooBig, false));
    }
}

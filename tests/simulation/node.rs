//! One node of the simulation: what is durable, what a crash takes, and a gate in its smallest form.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use intelmq_relay::config::{Admit, RuleSets, Share};
use intelmq_relay::envelope::{Bounds, Envelope, Key, Name, Sealed, Secret, SeenKey, SeenKeys, Tlp, Verifier};
use intelmq_relay::link::{Allowance, Claims, Known, Link, LinkId, Offer, Outgoing, Standing, TokenKey, Verdict};
use intelmq_relay::policy::{Decision, Policy, Rules, Terms};
use uuid::Uuid;

/// Fields that a redacting node hides.
pub const SECRET: [&str; 2] = ["source.ip", "extra.secret"];

pub const BOUNDS: Bounds = Bounds { bytes: 64 << 10, fields: 64, path: 64 };

pub struct Entry {
    pub at: u64,
    pub from: Option<usize>,
    pub sealed: Sealed,
}

/// Where a copy came from, and how many of its fields are hidden.
type Copy = (Option<usize>, u16);

/// What outlives a crash.
pub struct Durable {
    pub log_id: Uuid,
    pub log: Vec<Entry>,
    pub seen: HashMap<SeenKey, u16>,
    pub cursors: BTreeMap<usize, Vec<u8>>,
    /// The copies in the log, by origin and id.
    pub copies: HashMap<(Name, Uuid), Vec<Copy>>,
}

impl Durable {
    pub fn known(&self, keys: &SeenKeys) -> Option<u16> {
        [Some(keys.insert), keys.also].into_iter().flatten().filter_map(|key| self.seen.get(&key)).min().copied()
    }

    /// The store's last word: new, fuller, or known.
    fn append(&mut self, at: u64, from: Option<usize>, sealed: Sealed) -> Verdict {
        let keys = sealed.seen_keys();
        let verdict = match self.known(&keys) {
            Some(hidden) if hidden <= keys.hidden => return Verdict::Duplicate,
            Some(_) => Verdict::Completed,
            None => Verdict::Accepted,
        };
        let best = self.seen.entry(keys.insert).or_insert(keys.hidden);
        *best = keys.hidden.min(*best);
        let header = sealed.header();
        self.copies.entry((header.origin.clone(), header.id)).or_default().push((from, keys.hidden));
        self.log.push(Entry { at, from, sealed });
        verdict
    }
}

/// One side of an open link.
pub struct Session {
    pub id: LinkId,
    pub link: Link,
    /// Bytes of the batches that we sent and that are not done, by number and slot; what the peer put off counts apart.
    pub in_flight: BTreeMap<(u64, u16), usize>,
    pub put_off: BTreeMap<(u64, u16), usize>,
    /// Since when batches are open without a word from the peer.
    pub silent: Option<u64>,
}

/// What waits to become durable.
pub struct Pending {
    pub peer: Option<usize>,
    pub link: LinkId,
    pub judged: Vec<((u64, u16), Result<Sealed, Verdict>)>,
    pub cursor: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Honest,
    /// Offers and never serves.
    Zombie,
    /// Tampers with what it passes on.
    Liar,
    /// Puts this node into the path of what it passes on.
    Poisoner(usize),
}

pub struct Node {
    pub me: usize,
    pub name: Name,
    pub secret: Secret,
    pub policy: Policy,
    /// Its rules, by peer, where the network has any.
    pub terms: BTreeMap<usize, Terms>,
    pub manner: Manner,
    pub durable: Durable,
    // From here on, a crash takes it.
    pub up: bool,
    /// Reads what comes.
    pub reads: bool,
    /// Counts the starts: what was under way in an earlier life is void.
    pub life: u64,
    pub sessions: BTreeMap<usize, Session>,
    pub claims: Claims,
    /// How much peers may bring; none: as they like.
    pub allowances: BTreeMap<usize, Arc<Allowance>>,
    pub verifier: Verifier,
    pub pending: VecDeque<Pending>,
    pub durable_at: u64,
    pub wake: Option<u64>,
}

impl Node {
    pub fn new(me: usize) -> Node {
        let name = name(me);
        Node {
            me,
            secret: secret(me),
            policy: Policy { me: name.clone(), default_tlp: Tlp::Amber, hops: 60 },
            terms: BTreeMap::new(),
            name,
            manner: Manner::Honest,
            durable: Durable {
                log_id: Uuid::from_u128(me as u128 + 1000),
                log: Vec::new(),
                seen: HashMap::new(),
                cursors: BTreeMap::new(),
                copies: HashMap::new(),
            },
            up: true,
            reads: true,
            life: 0,
            sessions: BTreeMap::new(),
            claims: Claims::default(),
            allowances: BTreeMap::new(),
            verifier: Verifier::new(256),
            pending: VecDeque::new(),
            durable_at: 0,
            wake: None,
        }
    }

    pub fn crash(&mut self) {
        self.up = false;
        self.reads = true;
        self.life += 1;
        self.sessions.clear();
        self.claims = Claims::default();
        self.allowances.clear();
        self.verifier = Verifier::new(256);
        self.pending.clear();
        self.durable_at = 0;
        self.wake = None;
    }

    pub fn token_key(&self) -> TokenKey {
        TokenKey::derive(self.secret.expose_seed())
    }

    /// The rules of the gate, in order, written out.
    pub fn judge(&mut self, bytes: Bytes, bringer: usize, keys: &HashMap<Name, Key>) -> Result<Sealed, Verdict> {
        let envelope = Envelope::decode(bytes, &BOUNDS).map_err(|_| Verdict::Malformed)?;
        let seen = envelope.seen_keys();
        if self.durable.known(&seen).is_some_and(|hidden| hidden <= seen.hidden) {
            return Err(Verdict::Duplicate);
        }
        let (origin, path) = (envelope.header().origin.clone(), envelope.path());
        // An envelope that passed here is in the seen set. One that is not, and has our name in its path, had its path
        // forged: no reason to refuse it.
        if origin == self.name {
            return Err(Verdict::Loop);
        }
        if path.first() != Some(&origin) || path.last() != Some(&name(bringer)) {
            return Err(Verdict::Malformed);
        }
        if keys.get(&origin) != Some(&envelope.header().key) {
            return Err(Verdict::UnknownOrigin);
        }
        let sealed = self.verifier.open(envelope).map_err(|_| Verdict::BadSignature)?;
        let all = Terms { take: Rules::taken(&Admit::All, &RuleSets::new()), ..Terms::default() };
        let admitted = self.policy.admits(&sealed, &name(bringer), self.terms.get(&bringer).unwrap_or(&all));
        admitted.map_err(|reason| Verdict::Refused(reason.to_string()))?;
        Ok(sealed.with_hop(&self.name))
    }

    /// The first of what waits becomes durable, all of it at once.
    pub fn commit(&mut self, now: u64) -> Option<Pending> {
        let pending = self.pending.pop_front()?;
        let mut verdicts = Vec::new();
        for (slot, judged) in &pending.judged {
            let verdict = match judged {
                Ok(sealed) => self.durable.append(now, pending.peer, sealed.clone()),
                Err(verdict) => verdict.clone(),
            };
            verdicts.push((*slot, verdict));
        }
        if let Some(peer) = pending.peer {
            if let Some(cursor) = &pending.cursor {
                self.durable.cursors.insert(peer, cursor.clone());
            }
            if let Some(session) = self.sessions.get_mut(&peer).filter(|session| session.id == pending.link) {
                session.link.pull.decided(verdicts, &self.claims, &mut session.link.out);
            }
        }
        Some(pending)
    }

    /// An entry in the form in which `peer` may have it.
    pub fn outgoing(&self, entry: &Entry, peer: usize, share: super::world::Share) -> Option<Outgoing> {
        let from = entry.from.map(name);
        let give = if share.give { Share::Community } else { Share::None };
        let word = Terms { community: true, give: Rules::given(&give, &RuleSets::new()), ..Terms::default() };
        let terms = self.terms.get(&peer).unwrap_or(&word);
        let Decision::Give(grant) = self.policy.shares(&entry.sealed, from.as_ref(), &name(peer), terms) else {
            return None;
        };
        let form =
            if share.redact { entry.sealed.hide(|key| SECRET.contains(&key)) } else { grant.form(&entry.sealed) };
        let header = form.header();
        Some(Outgoing {
            at: entry.at,
            own: entry.from.is_none(),
            key: SeenKeys::of_offer(&header.key, header.id, form.hidden()).insert,
            origin: header.origin.clone(),
            id: header.id,
            hidden: form.hidden(),
            bytes: form.bytes().clone(),
        })
    }
}

pub fn name(node: usize) -> Name {
    format!("n{node}").parse().unwrap()
}

pub fn secret(node: usize) -> Secret {
    Secret::from_seed(&[node as u8 + 1; 32])
}

/// The node as a link sees it.
pub struct Acquaintance<'a> {
    pub me: &'a Name,
    pub keys: &'a HashMap<Name, Key>,
    pub durable: &'a Durable,
}

impl Known for Acquaintance<'_> {
    fn keys(&self, offer: &Offer) -> Option<SeenKeys> {
        Some(SeenKeys::of_offer(self.keys.get(&offer.1)?, offer.2, offer.4))
    }

    fn standing(&self, keys: &SeenKeys, offer: &Offer) -> Standing {
        if offer.1 == *self.me {
            return Standing::Refuse(Verdict::Loop);
        }
        match self.durable.known(keys) {
            Some(hidden) if hidden <= keys.hidden => Standing::Known,
            _ => Standing::New,
        }
    }
}

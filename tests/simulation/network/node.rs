//! One node of the network: what it keeps, what a crash takes, and how it asks policy.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock};

use intelmq_relay::accept::{Acquaintance, Bringer, Rules};
use intelmq_relay::config::{self, Admit, RuleSets};
use intelmq_relay::envelope::{Bounds, Key, Name, Secret, SeenKeys, Tlp, Verifier};
use intelmq_relay::link::{Allowance, Claims, Link, LinkId, Outgoing, TokenKey};
use intelmq_relay::policy::{self, Decision, Policy, Terms};
use intelmq_relay::store::Entry;
use intelmq_relay::trust::Origins;

use super::graph::{Graph, Share};
use super::keep::{Keep, Waiting};
use super::reference::FUTURE;

/// Fields that a redacting node hides.
pub const SECRET: [&str; 2] = ["source.ip", "extra.secret"];

pub const BOUNDS: Bounds = Bounds { bytes: 64 << 10, fields: 64, path: 64 };

/// When the simulation begins, ms since 1970.
pub const EPOCH: u64 = 1_795_514_400_000;
const DAY: u64 = 24 * 3600 * 1000;
/// Roots that the node's verifier remembers.
const ROOTS: usize = 256;

/// One side of an open link.
pub struct Session {
    pub id: LinkId,
    pub link: Link,
    /// Bytes of the batches that we sent and that are not done, by number and slot; what the peer put off counts apart.
    pub in_flight: BTreeMap<(u64, u16), usize>,
    pub put_off: BTreeMap<(u64, u16), usize>,
    /// Since when batches are open without a word from the peer.
    pub silent: Option<u64>,
    /// Entries that there are not, of one who offers without end.
    pub invented: u64,
}

/// What waits to become durable.
pub struct Pending {
    pub peer: Option<usize>,
    pub link: LinkId,
    /// Batch and slot of each, and which event it is said to be.
    pub slots: Vec<((u64, u16), Option<usize>)>,
    pub waiting: Waiting,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Honest,
    /// Offers and never serves.
    Zombie,
    /// Tampers with what it passes on.
    Liar,
    /// Offers what there is not, without end.
    Flooder,
    /// Puts this node into the path of what it passes on.
    Poisoner(usize),
}

impl Manner {
    /// It makes frames that no honest node makes.
    pub fn lies(self) -> bool {
        !matches!(self, Manner::Honest | Manner::Zombie)
    }
}

pub struct Node {
    pub me: usize,
    pub name: Name,
    pub secret: Secret,
    pub key: Key,
    pub token_key: TokenKey,
    /// How far its clock is ahead, ms.
    pub skew: i64,
    /// What its gate judges by.
    pub rules: Arc<Rules>,
    /// What holds for each peer, where it has rules of its own.
    pub terms: BTreeMap<usize, Arc<Terms>>,
    pub manner: Manner,
    pub keep: Keep,
    /// It takes so much longer to handle a frame, ms.
    pub slow: u64,
    /// It crashes when something waits to become durable next, and is back after so long.
    pub doomed: Option<u64>,
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
    pub fn new(me: usize, graph: &Graph, rules: Rules, keep: Keep) -> Node {
        let secret = secret(me);
        Node {
            me,
            name: rules.me.clone(),
            key: rules.key,
            token_key: TokenKey::derive(secret.expose_seed()),
            secret,
            skew: graph.skew[me],
            rules: Arc::new(rules),
            terms: BTreeMap::new(),
            manner: Manner::Honest,
            keep,
            slow: 0,
            doomed: None,
            up: true,
            reads: true,
            life: 0,
            sessions: BTreeMap::new(),
            claims: Claims::default(),
            allowances: BTreeMap::new(),
            verifier: Verifier::new(ROOTS),
            pending: VecDeque::new(),
            durable_at: 0,
            wake: None,
        }
    }

    /// How many envelopes are lost with it.
    pub fn crash(&mut self) -> usize {
        (self.up, self.reads, self.doomed) = (false, true, None);
        self.life += 1;
        self.sessions.clear();
        self.claims = Claims::default();
        self.allowances.clear();
        self.verifier = Verifier::new(ROOTS);
        let lost = self.pending.drain(..).map(|pending| pending.slots.len()).sum();
        (self.durable_at, self.wake) = (0, None);
        self.keep.crash();
        lost
    }

    /// It, as who brings something.
    pub fn as_bringer(&self) -> Bringer {
        Bringer { name: self.name.clone(), key: self.key }
    }

    /// The time of day by its clock.
    pub fn wall(&self, now: u64) -> u64 {
        wall(self.skew, now)
    }

    /// The key of the tokens that this peer holds.
    pub fn tokens_of(&self, peer: &Key) -> TokenKey {
        self.token_key.of_peer(*peer, [])
    }

    /// What it knows, as a link with this peer sees it.
    pub fn known(&self, peer: &Name) -> Acquaintance<&Keep> {
        Acquaintance::new(&self.keep, self.rules.clone(), peer)
    }

    /// An entry in the form in which `peer` may have it; else why not.
    pub fn outgoing(&self, entry: &Entry, peer: &Node, share: Share, now: u64) -> Result<Outgoing, policy::Reason> {
        let terms = self.terms.get(&peer.me).unwrap_or(if share.give { &GIVES } else { &GIVES_NOTHING });
        let shares = self.rules.policy.shares(&entry.envelope, entry.from.as_ref(), &peer.name, terms);
        let grant = match shares {
            Decision::Give(grant) => grant,
            Decision::Withhold(reason) => return Err(reason),
        };
        let envelope = &entry.envelope;
        let form = if share.redact { envelope.hide(|key| SECRET.contains(&key)) } else { grant.form(envelope) };
        let header = form.header();
        Ok(Outgoing {
            at: now - self.wall(now).saturating_sub(entry.at),
            own: entry.from.is_none(),
            key: SeenKeys::of_offer(&header.key, header.id, form.hidden()).insert,
            origin: header.origin.clone(),
            id: header.id,
            hidden: form.hidden(),
            bytes: form.bytes().clone(),
        })
    }
}

/// What is given where a network has no rules but [`Share`].
static GIVES: LazyLock<Arc<Terms>> = LazyLock::new(|| terms(&config::Share::Community));
static GIVES_NOTHING: LazyLock<Arc<Terms>> = LazyLock::new(|| terms(&config::Share::None));

fn terms(give: &config::Share) -> Arc<Terms> {
    let (give, take) =
        (policy::Rules::given(give, &RuleSets::new()), policy::Rules::taken(&Admit::All, &RuleSets::new()));
    Terms { community: true, give, take, ..Terms::default() }.into()
}

/// What the gate of `me` judges by.
pub fn rules(me: usize, graph: &Graph, origins: &Arc<Origins>, days: &config::Store) -> Rules {
    let name_of_me = name(me);
    Rules {
        key: secret(me).key(),
        origins: origins.clone(),
        policy: Policy { me: name_of_me.clone(), default_tlp: Tlp::Amber, hops: 60 },
        me: name_of_me,
        terms: graph.peers(me).into_iter().map(|peer| (name(peer), GIVES.clone())).collect(),
        bounds: BOUNDS,
        age: u64::from(days.age_days) * DAY,
        future: FUTURE as u64,
    }
}

/// The time of day by a clock that is so far ahead.
pub fn wall(skew: i64, now: u64) -> u64 {
    (EPOCH + now).saturating_add_signed(skew)
}

pub fn name(node: usize) -> Name {
    format!("n{node}").parse().unwrap()
}

pub fn number(name: &Name) -> usize {
    name.as_str()[1..].parse().unwrap()
}

pub fn secret(node: usize) -> Secret {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&(node as u64).to_be_bytes());
    Secret::from_seed(&seed)
}

//! The roster: who belongs to a network, as its authorities say it. The content, and its one form in bytes.
//!
//! CBOR in one form only: what does not read back to the same bytes is refused. So one content has one signature's
//! worth of bytes, and two rosters of one number are told apart by comparing them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use uuid::Uuid;

use super::Unfit;
use crate::envelope::{EncryptionKey, Key, Name};

/// The version of rosters that this program writes and reads.
pub const VERSION: u8 = 1;
/// Members, at most.
pub const MAX_MEMBERS: usize = 10_000;
/// Authorities, and so signatures, at most.
pub const MAX_AUTHORITIES: usize = 32;
/// Keys of one member, at most: those of the past stay, as long as their events do.
pub const MAX_KEYS: usize = 16;
/// Bytes, encoded.
pub const MAX_BYTES: usize = 1 << 20;
/// Bytes of a text.
const MAX_TEXT: usize = 256;

/// A numbered list of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// [`VERSION`].
    pub v: u8,
    /// What the network is called: a roster of another one never takes its place.
    pub network: Name,
    /// Counts from 1; the higher one holds.
    pub number: u64,
    /// When it was made, ms since 1970. For people: the number decides.
    pub issued: u64,
    /// Who may sign,
    pub authorities: Vec<Key>,
    /// and how many of them have to. What holds at a node is its own configuration.
    pub threshold: u32,
    /// The members, in the order of their names.
    pub members: Vec<Member>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The name that its seals carry.
    pub name: Name,
    /// Its keys, also those of the past. The first one is the one in use.
    pub keys: Vec<MemberKey>,
    /// The organisation's UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Uuid>,
    /// The name in reversed DNS, `org.example.cert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdns: Option<String>,
    /// Whom to call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// An X25519 key to encrypt to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<ByteArray<32>>,
}

/// A key of a member, and when it holds. Times are ms since 1970, and those of the envelopes' headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberKey {
    /// The key.
    pub key: Key,
    /// Not before this time;
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// not at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Revoked: what it sealed at this time or later is not its member's. 0: nothing ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
}

impl MemberKey {
    /// Whether it holds for what was sealed at this time, revoked or not.
    pub fn holds(&self, time: u64) -> bool {
        self.from.is_none_or(|from| from <= time) && self.until.is_none_or(|until| time < until)
    }

    /// Whether it is revoked for what was sealed at this time.
    pub fn is_revoked(&self, time: u64) -> bool {
        self.revoked.is_some_and(|from| from <= time)
    }
}

impl Roster {
    /// The bytes to sign.
    pub fn encode(&self) -> Result<Vec<u8>, Unfit> {
        self.check()?;
        // Encoding plain data into memory cannot fail.
        let bytes = serde_cbor::to_vec(self).expect("a roster is plain data");
        within("bytes", bytes.len(), MAX_BYTES)?;
        Ok(bytes)
    }

    /// Reads and checks a roster's bytes; says nothing about who signed them.
    pub fn decode(bytes: &[u8]) -> Result<Roster, Unfit> {
        within("bytes", bytes.len(), MAX_BYTES)?;
        let roster: Roster =
            serde_cbor::from_slice(bytes).map_err(|e| version_of(bytes).unwrap_or_else(|| Unfit::cbor(&e)))?;
        if roster.v != VERSION {
            return Err(Unfit::Version(roster.v.into()));
        }
        if roster.encode()? != bytes {
            return Err(Unfit::Shape("its bytes are not in the one form that a roster has".into()));
        }
        Ok(roster)
    }

    /// The member of this name.
    pub fn member(&self, name: &Name) -> Option<&Member> {
        let at = self.members.binary_search_by(|member| member.name.cmp(name)).ok()?;
        self.members.get(at)
    }

    fn check(&self) -> Result<(), Unfit> {
        if self.v != VERSION {
            return Err(Unfit::Version(self.v.into()));
        }
        within("members", self.members.len(), MAX_MEMBERS)?;
        within("authorities", self.authorities.len(), MAX_AUTHORITIES)?;
        if self.number == 0 {
            return shape("numbers count from 1");
        }
        if self.threshold == 0 || self.threshold as usize > self.authorities.len() {
            return shape("its threshold asks for no signature, or for more than it has authorities");
        }
        let mut authorities = HashSet::new();
        for key in &self.authorities {
            point(key, "an authority")?;
            if !authorities.insert(key) {
                return shape(format!("the authority {key} stands in it twice"));
            }
        }
        let mut keys = HashSet::new();
        for (i, member) in self.members.iter().enumerate() {
            if i > 0 && self.members[i - 1].name >= member.name {
                return shape(format!(
                    "the member {} is not in the order of names, or stands in it twice",
                    member.name
                ));
            }
            member.check()?;
            if let Some(twice) = member.keys.iter().find(|key| !keys.insert(key.key)) {
                return shape(format!("the key {} of the member {} stands in it twice", twice.key, member.name));
            }
        }
        Ok(())
    }
}

impl Member {
    fn check(&self) -> Result<(), Unfit> {
        let name = &self.name;
        within("keys of one member", self.keys.len(), MAX_KEYS)?;
        if self.keys.is_empty() {
            return shape(format!("the member {name} has no key"));
        }
        for key in &self.keys {
            point(&key.key, name.as_str())?;
            if let (Some(from), Some(until)) = (key.from, key.until)
                && from >= until
            {
                return shape(format!("a key of the member {name} ends before it begins"));
            }
        }
        for text in [&self.rdns, &self.contact].into_iter().flatten() {
            if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
                return shape(format!("a text of the member {name} is empty, too long, or has control characters"));
            }
        }
        if let Some(rdns) = &self.rdns
            && !is_domain(rdns)
        {
            return shape(format!("{rdns:?} of the member {name} is no reversed name, as org.example.cert"));
        }
        if self.encryption.is_some_and(|key| EncryptionKey::from_bytes(*key).is_err()) {
            return shape(format!("the encryption key of the member {name} is no canonical X25519 key of full order"));
        }
        Ok(())
    }
}

fn point(key: &Key, whose: &str) -> Result<(), Unfit> {
    // A key that was decoded is not checked yet.
    Key::from_bytes(*key.as_bytes()).map(drop).or_else(|error| shape(format!("the key of {whose} is {error}")))
}

fn is_domain(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(legal))
}

fn shape<T>(what: impl Into<String>) -> Result<T, Unfit> {
    Err(Unfit::Shape(what.into()))
}

pub(super) fn within(what: &'static str, is: usize, most: usize) -> Result<(), Unfit> {
    if is > most { Err(Unfit::TooBig { what, is, most }) } else { Ok(()) }
}

/// The version that a roster claims, when it is not ours: a better reason than the first unknown key.
fn version_of(bytes: &[u8]) -> Option<Unfit> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    let version = serde_cbor::from_slice::<Version>(bytes).ok()?.v;
    (version != u64::from(VERSION)).then_some(Unfit::Version(version))
}

//! `[[rules.NAME]]`: sets of rules, shared by peers, that say what a peer is given and what is taken from it.
//!
//! Owns how a rule is spelled. What is wrong in one value is told where it is read; what contradicts the rest of the
//! file, in `check`. How rules are read together is policy's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use toml::Value;

use crate::envelope::{Kind, Name, Tlp};

/// All sets, by name.
pub type RuleSets = BTreeMap<Name, Vec<Rule>>;

/// What a peer is given (`give`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Share {
    /// Nothing.
    #[default]
    None,
    /// What TLP lets a member of the community have.
    Community,
    /// What these sets of rules allow, asked in this order.
    Sets(Vec<Name>),
}

/// What is taken from a peer (`take`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Admit {
    /// Nothing.
    None,
    /// Everything that may come.
    #[default]
    All,
    /// What these sets of rules allow, asked in this order.
    Sets(Vec<Name>),
}

impl Share {
    /// In a list, the set that allows everything.
    pub const COMMUNITY: &str = "community";

    /// As the file has it, quotes and brackets included.
    pub fn toml(&self) -> String {
        let quoted = |word: &str| format!("{word:?}");
        match self {
            Share::None | Share::Community => quoted(&self.to_string()),
            Share::Sets(sets) => {
                format!("[{}]", sets.iter().map(|set| quoted(set.as_str())).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// The sets that it names.
    pub fn sets(&self) -> &[Name] {
        if let Share::Sets(sets) = self { sets } else { &[] }
    }
}

impl Admit {
    /// In a list, the set that allows everything.
    pub const ALL: &str = "all";

    /// The sets that it names.
    pub fn sets(&self) -> &[Name] {
        if let Admit::Sets(sets) = self { sets } else { &[] }
    }
}

/// As the file spells it.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::None => f.write_str("none"),
            Share::Community => f.write_str(Share::COMMUNITY),
            Share::Sets(sets) => list(sets, f),
        }
    }
}

/// As the file spells it.
impl fmt::Display for Admit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Admit::None => f.write_str("none"),
            Admit::All => f.write_str(Admit::ALL),
            Admit::Sets(sets) => list(sets, f),
        }
    }
}

fn list(sets: &[Name], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    sets.iter().enumerate().try_for_each(|(i, set)| write!(f, "{}{set}", if i > 0 { "+" } else { "" }))
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Share, D::Error> {
        match WordOrSets::deserialize(deserializer)? {
            WordOrSets::Sets(sets) => Ok(Share::Sets(sets)),
            WordOrSets::Word(word) => match &*word {
                "none" => Ok(Share::None),
                Share::COMMUNITY => Ok(Share::Community),
                _ => Err(D::Error::custom(no_word(&word, Share::COMMUNITY))),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Admit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Admit, D::Error> {
        match WordOrSets::deserialize(deserializer)? {
            WordOrSets::Sets(sets) => Ok(Admit::Sets(sets)),
            WordOrSets::Word(word) => match &*word {
                "none" => Ok(Admit::None),
                Admit::ALL => Ok(Admit::All),
                _ => Err(D::Error::custom(no_word(&word, Admit::ALL))),
            },
        }
    }
}

fn no_word(word: &str, everything: &str) -> String {
    format!(
        "{word:?} is not known here: write \"none\", {everything:?}, or a list of sets of rules as [\"{}\"]",
        if word.is_empty() { "ours" } else { word }
    )
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a word, or a list of names of sets of rules")]
enum WordOrSets {
    Word(String),
    Sets(Vec<Name>),
}

/// One rule of a set. It matches an event for which everything holds that it names; one that names nothing matches all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// How it is called in answers; none: its number in the set, from 1.
    pub name: Option<Name>,
    /// What follows for an event that it matches.
    #[serde(rename = "do")]
    pub act: Act,
    /// Fields of the event, each with what it must be.
    #[serde(default)]
    pub fields: BTreeMap<String, Matcher>,
    /// The node that sealed it is one of these.
    #[serde(default, deserialize_with = "one_or_more")]
    pub origin: Option<Vec<Name>>,
    /// The peer that it comes from is one of these.
    #[serde(default, deserialize_with = "one_or_more")]
    pub from: Option<Vec<Name>>,
    /// What it carries is one of these.
    #[serde(default, rename = "type", deserialize_with = "one_or_more")]
    pub kind: Option<Vec<Kind>>,
    /// Its format is one of these.
    #[serde(default, deserialize_with = "one_or_more")]
    pub format: Option<Vec<String>>,
    /// It has one of these tags.
    #[serde(default, deserialize_with = "one_or_more")]
    pub tags: Option<Vec<String>>,
    /// Its label, or else `policy.default_tlp`, is one of these.
    #[serde(default, deserialize_with = "one_or_more")]
    pub tlp: Option<Vec<Tlp>>,
    /// Nodes that it has passed between its origin and the one that gives it: from this number to that.
    pub hops: Option<(usize, usize)>,
    /// With `allow` and `hide`: fields that are hidden from the peer; names with stars, as `extra.*`.
    #[serde(default, deserialize_with = "one_or_more")]
    pub hide: Option<Vec<String>>,
    /// Where it stands in the file, from 1.
    #[serde(skip)]
    pub line: usize,
}

/// What follows for an event that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// It may pass; no further rule is asked.
    Allow,
    /// This set does not let it pass; the next set is asked.
    Deny,
    /// It does not pass, whatever follows.
    Poison,
    /// Fields are hidden if it passes; the next rule is asked.
    Hide,
}

impl Rule {
    /// Whether it matches every event.
    pub fn matches_all(&self) -> bool {
        let Rule { fields, origin, from, kind, format, tags, tlp, hops, .. } = self;
        fields.is_empty()
            && (origin.is_none() && from.is_none() && kind.is_none())
            && (format.is_none() && tags.is_none() && tlp.is_none() && hops.is_none())
    }
}

/// What a field must be. A list in the event matches when one of its elements does; a field that is not there, or is
/// hidden, matches `present = false` and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub enum Matcher {
    /// One of these values.
    Is(Vec<Scalar>),
    /// A text that begins with one of these.
    Prefix(Vec<String>),
    /// A host name that is one of these domains, or under one. In lower case.
    Suffix(Vec<String>),
    /// An address or network that lies within one of these networks, all of it.
    Cidr(Vec<IpNet>),
    /// An address or network that has an address in common with one of these networks.
    Overlaps(Vec<IpNet>),
    /// A number from this one to that one.
    Range(f64, f64),
    /// Whether it is there at all.
    Present(bool),
}

/// A value that a field can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A text; also the digits of a number.
    Text(String),
    /// A number; also a text of its digits.
    Number(f64),
    /// `true` or `false`.
    Bool(bool),
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Matcher, D::Error> {
        matcher(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn matcher(value: Value) -> Result<Matcher, String> {
    let Value::Table(table) = value else { return Ok(Matcher::Is(scalars(value)?)) };
    let mut members = table.into_iter();
    let (Some((kind, value)), None) = (members.next(), members.next()) else {
        return Err("a field has one condition, as { prefix = \"extra.\" }; write a rule for each".into());
    };
    Ok(match &*kind {
        "is" => Matcher::Is(scalars(value)?),
        "prefix" => Matcher::Prefix(texts(value)?),
        "suffix" => Matcher::Suffix(texts(value)?.iter().map(|text| domain(text)).collect::<Result<_, _>>()?),
        "cidr" => Matcher::Cidr(networks(value)?),
        "overlaps" => Matcher::Overlaps(networks(value)?),
        "range" => range(&value)?,
        "present" => match value {
            Value::Boolean(present) => Matcher::Present(present),
            _ => return Err("present is true or false".into()),
        },
        other => {
            return Err(format!(
                "{other:?} is no condition on a field: is, prefix, suffix, cidr, overlaps, range and present are"
            ));
        }
    })
}

fn elements(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(elements) if elements.is_empty() => Err("an empty list matches nothing".into()),
        Value::Array(elements) => Ok(elements),
        one => Ok(vec![one]),
    }
}

fn scalars(value: Value) -> Result<Vec<Scalar>, String> {
    let scalar = |value| match value {
        Value::String(text) => Ok(Scalar::Text(text)),
        Value::Boolean(is) => Ok(Scalar::Bool(is)),
        other => number(&other).map(Scalar::Number),
    };
    elements(value)?.into_iter().map(scalar).collect()
}

fn number(value: &Value) -> Result<f64, String> {
    match value {
        // Whole numbers of IntelMQ's fields are far below 2^53.
        Value::Integer(number) => Ok(*number as f64),
        Value::Float(number) if number.is_finite() => Ok(*number),
        other => Err(format!("a field is compared with texts, numbers, true and false, not with {}", other.type_str())),
    }
}

fn texts(value: Value) -> Result<Vec<String>, String> {
    let text = |value| match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::String(_) => Err("an empty text matches everything: write { present = true }".to_owned()),
        other => Err(format!("a text in quotes is meant here, not {}", other.type_str())),
    };
    elements(value)?.into_iter().map(text).collect()
}

fn domain(text: &str) -> Result<String, String> {
    let bare = text.trim_start_matches('.').trim_end_matches('.').to_lowercase();
    if bare.is_empty() || !bare.is_ascii() || bare.contains(|c: char| c.is_whitespace() || c == '*' || c == '/') {
        return Err(format!(
            "{text:?} is no domain: write it as \"example.org\", in ASCII (xn--…); what is under it matches too"
        ));
    }
    Ok(bare)
}

fn networks(value: Value) -> Result<Vec<IpNet>, String> {
    texts(value)?.iter().map(|text| network(text)).collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
    let network: IpNet =
        parsed.map_err(|_| format!("{text:?} is no network: write it as \"192.0.2.0/24\" or \"2001:db8::/32\""))?;
    if network != network.trunc() {
        return Err(format!(
            "{text:?} has bits set behind its prefix: {} or {} is meant",
            network.trunc(),
            network.addr()
        ));
    }
    Ok(network)
}

fn range(value: &Value) -> Result<Matcher, String> {
    let Value::Array(ends) = value else { return Err("a range is two numbers, as [1, 1023]".into()) };
    let [low, high] = &**ends else { return Err("a range is two numbers, as [1, 1023]".into()) };
    let (low, high) = (number(low)?, number(high)?);
    if low > high {
        return Err(format!("a range goes from the lower to the higher number: [{high}, {low}]"));
    }
    Ok(Matcher::Range(low, high))
}

/// A list that may be written without its brackets when it has one element.
pub(super) fn one_or_more<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let elements = elements(Value::deserialize(deserializer)?).map_err(D::Error::custom)?;
    // Numbers as texts would be surprising: only texts are lists of names and words.
    let one = |value: Value| match value {
        Value::String(_) => value.try_into().map_err(|error: toml::de::Error| error.message().to_owned()),
        other => Err(format!("a text in quotes is meant here, not {}", other.type_str())),
    };
    let elements: Result<Vec<T>, Cow<'static, str>> =
        elements.into_iter().map(|value| one(value).map_err(Cow::from)).collect();
    elements.map(Some).map_err(D::Error::custom)
}

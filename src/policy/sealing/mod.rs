//! Sealing: what a node does to its own events, and says of them, before it seals them.
//!
//! Owns how a door's seal and its rules work together: every rule that matches the event as it came in applies, and
//! none widens what the event itself or another rule says. The label is the strictest, recipients are those that all
//! name who name any, and a field goes as soon as one lets go of it. What the seal says of label and recipients is for
//! events of which nobody says anything. What is taken out here is not in the envelope, and nobody can get it back.
//!
//! Pure, and without a node: a dry run asks the same code.

mod pseudonym;
mod truncate;

use std::sync::Arc;

use super::RuleId;
use super::matcher::{Condition, Fact};
use super::named::Named;
use crate::config::{self, Encrypt, IdKind};
use crate::envelope::{Kind, Message, Name, Tlp, glob, json};

pub use self::pseudonym::PseudonymKey;
use self::truncate::{Lengths, Truncated};

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The event with its final label, recipients, tags and fields.
    pub message: Message,
    /// Fields that are sealed hidden, by their whole names.
    pub hide: Vec<String>,
    /// Present when its id is to be made of the content: the fields left out.
    pub content: Option<Vec<String>>,
    /// Whether it is to be encrypted to its recipients. What would be hidden is not even in it then, and its id is never
    /// made of the content, which could be guessed by it.
    pub encrypt: bool,
    /// The rules that matched, in the order of the file.
    pub rules: Vec<Arc<RuleId>>,
}

/// Why an event cannot be sealed. It is kept in quarantine, and the operator must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsealable {
    /// Everything in it is left out.
    #[error(
        "no field is left of it after `drop` and `truncate` in the door's seal (and `hide`, where it is encrypted): let \
         less go there, or drop the item"
    )]
    NoField,
    /// An empty list of recipients would mean everybody.
    #[error(
        "the rule {0} of the door's seal names none of its recipients: those that it names itself, or that rules before \
         name, are others; correct `to` there, or drop the item"
    )]
    NoRecipient(Arc<RuleId>),
}

/// The seal of one door, compiled.
pub struct Sealing {
    id: IdKind,
    id_without: Vec<String>,
    tlp: Option<Tlp>,
    tags: Vec<String>,
    to: Vec<Name>,
    encrypt: Encrypt,
    always: Effects,
    rules: Vec<Rule>,
    /// The fields that some rule names.
    named: Named,
    key: PseudonymKey,
}

/// What is done to fields.
struct Effects {
    drop: Vec<String>,
    hide: Vec<String>,
    truncate: Vec<String>,
    lengths: Lengths,
    pseudonym: Vec<String>,
}

struct Rule {
    id: Arc<RuleId>,
    conditions: Vec<(usize, Condition)>,
    kind: Option<Vec<Kind>>,
    format: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    tlp: Option<Tlp>,
    add: Vec<String>,
    to: Vec<Name>,
    effects: Effects,
}

impl Sealing {
    /// The seal of `door`, as configured. Its rules are called `door/name`, or by their number.
    pub fn new(door: &Name, seal: &config::Seal, key: PseudonymKey) -> Sealing {
        let config::Seal { id, id_without, tlp, tags, to, encrypt, drop, hide, truncate, pseudonym, rules } = seal;
        let mut named = Named::default();
        Sealing {
            id: *id,
            id_without: id_without.clone(),
            tlp: *tlp,
            tags: tags.clone(),
            to: to.clone(),
            encrypt: *encrypt,
            always: Effects::new(drop, hide, truncate, pseudonym),
            rules: rules.iter().enumerate().map(|(i, rule)| Rule::new(door, i, rule, &mut named)).collect(),
            named,
            key,
        }
    }

    /// What is sealed of an event that came in, or why nothing can be. `default_tlp` is what one without a label counts as.
    pub fn prepare(&self, mut message: Message, default_tlp: Tlp) -> Result<Prepared, Unsealable> {
        let rules = self.matching(&message);
        self.label(&mut message, &rules);
        self.recipients(&mut message, &rules)?;
        let added = self.tags.iter().chain(rules.iter().flat_map(|rule| &rule.add));
        for tag in added {
            if !message.tags.contains(tag) {
                message.tags.push(tag.clone());
            }
        }
        let effects = std::iter::once(&self.always).chain(rules.iter().map(|rule| &rule.effects));
        let mut hide = self.fields(&mut message, &effects.filter(|effects| !effects.are_none()).collect::<Vec<_>>())?;
        let red = message.tlp.unwrap_or(default_tlp) == Tlp::Red;
        let encrypt = !message.to.is_empty() && (red || self.encrypt == Encrypt::Named);
        if encrypt && !hide.is_empty() {
            // Recipients are not to have it either, and others do not see that there is anything.
            message.fields.retain(|(key, _)| !hide.contains(key));
            hide.clear();
            if message.fields.is_empty() {
                return Err(Unsealable::NoField);
            }
        }
        let of_content = message.id.is_none() && self.id == IdKind::Content && !message.fields.is_empty() && !encrypt;
        let content = of_content.then(|| self.id_without.clone());
        Ok(Prepared { hide, content, encrypt, rules: rules.iter().map(|rule| rule.id.clone()).collect(), message })
    }

    fn matching(&self, message: &Message) -> Vec<&Rule> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        let facts = self.named.facts(message.fields.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        self.rules.iter().filter(|rule| rule.matches(message, &facts)).collect()
    }

    /// The strictest of what the event and the rules say; the seal's own only where nobody says any.
    fn label(&self, message: &mut Message, rules: &[&Rule]) {
        let by_rules = rules.iter().filter_map(|rule| rule.tlp).max();
        if by_rules > message.tlp {
            message.tlp = by_rules;
            relabel(message);
        }
        message.tlp = message.tlp.or(self.tlp);
    }

    /// Those that everybody names who names any; the seal's own only where nobody does.
    fn recipients(&self, message: &mut Message, rules: &[&Rule]) -> Result<(), Unsealable> {
        for rule in rules.iter().filter(|rule| !rule.to.is_empty()) {
            if message.to.is_empty() {
                message.to.clone_from(&rule.to);
                continue;
            }
            message.to.retain(|name| rule.to.contains(name));
            if message.to.is_empty() {
                return Err(Unsealable::NoRecipient(rule.id.clone()));
            }
        }
        if message.to.is_empty() {
            message.to.clone_from(&self.to);
        }
        Ok(())
    }

    /// Takes out of the fields what is not to leave; says which of those that are left are hidden.
    fn fields(&self, message: &mut Message, effects: &[&Effects]) -> Result<Vec<String>, Unsealable> {
        let mut hide = Vec::new();
        if effects.is_empty() || message.fields.is_empty() {
            return Ok(hide);
        }
        let all = All(effects);
        let mut left: Vec<(String, String)> = Vec::with_capacity(message.fields.len());
        let mut networks = Vec::new();
        for (key, value) in std::mem::take(&mut message.fields) {
            if all.drop(&key) {
                continue;
            }
            let hidden = all.hide(&key);
            let value = if all.pseudonym(&key) {
                // Before truncation: where both are said, more is taken away by this.
                self.key.of(&value)
            } else if let Some(lengths) = all.lengths(&key) {
                match truncate::truncate(&key, &value, lengths) {
                    Truncated::Value(value) => value,
                    Truncated::Network(field, network) => {
                        networks.push((field, network, lengths, hidden));
                        continue;
                    }
                    Truncated::Gone => continue,
                }
            } else {
                value
            };
            if hidden {
                hide.push(key.clone());
            }
            left.push((key, value));
        }
        for (field, network, lengths, hidden) in networks {
            // What is said of a field holds for what comes into it too.
            if all.drop(field) || all.pseudonym(field) {
                continue;
            }
            match left.iter_mut().find(|(key, _)| key == field) {
                Some((_, had)) => *had = truncate::wider(Some(had), network, lengths),
                None => left.push((field.to_owned(), truncate::wider(None, network, lengths))),
            }
            if (hidden || all.hide(field)) && !hide.iter().any(|name| name == field) {
                hide.push(field.to_owned());
            }
        }
        message.fields = left;
        if message.fields.is_empty() { Err(Unsealable::NoField) } else { Ok(hide) }
    }
}

/// Fields of the event that say a label say the new one: whoever reads only these must not go by the old one.
fn relabel(message: &mut Message) {
    let Some(tlp) = message.tlp.filter(|_| message.format == "intelmq") else { return };
    // For labels that `tlp` has no name for in an IntelMQ; whoever gives it to one puts it there again.
    let is_label = |value: &str| json::string(value).is_some_and(|text| text.parse::<Tlp>().is_ok());
    message.fields.retain(|(key, value)| key != "extra.tlp" || !is_label(value));
    if let Some((_, value)) = message.fields.iter_mut().find(|(key, _)| key == "tlp") {
        *value = format!("\"{tlp}\"");
    }
}

impl Rule {
    fn new(door: &Name, index: usize, rule: &config::SealRule, named: &mut Named) -> Rule {
        let config::SealRule { name, when, tlp, tags, to, drop, hide, truncate, pseudonym, line } = rule;
        let name = name.as_ref().map_or_else(|| (index + 1).to_string(), Name::to_string);
        Rule {
            id: Arc::new(RuleId { label: format!("{door}/{name}"), line: line.0 }),
            conditions: when.fields.iter().map(|(field, is)| (named.number(field), Condition::new(is))).collect(),
            kind: when.kind.clone(),
            format: when.format.clone(),
            tags: when.tags.clone(),
            tlp: *tlp,
            add: tags.clone(),
            to: to.clone(),
            effects: Effects::new(drop, hide, truncate, pseudonym),
        }
    }

    fn matches(&self, message: &Message, facts: &[Option<Fact<'_>>]) -> bool {
        self.kind.as_ref().is_none_or(|kinds| kinds.contains(&message.kind))
            && self.format.as_ref().is_none_or(|formats| formats.contains(&message.format))
            && self.tags.as_ref().is_none_or(|tags| tags.iter().any(|tag| message.tags.contains(tag)))
            && self.conditions.iter().all(|(field, condition)| condition.holds(facts[*field].as_ref()))
    }
}

impl Effects {
    fn new(drop: &[String], hide: &[String], truncate: &config::Truncate, pseudonym: &[String]) -> Effects {
        Effects {
            drop: drop.to_vec(),
            hide: hide.to_vec(),
            truncate: truncate.fields.clone(),
            lengths: Lengths { ipv4: truncate.ipv4, ipv6: truncate.ipv6 },
            pseudonym: pseudonym.to_vec(),
        }
    }

    fn are_none(&self) -> bool {
        self.drop.is_empty() && self.hide.is_empty() && self.truncate.is_empty() && self.pseudonym.is_empty()
    }
}

/// What is done to one event: by the seal, and by the rules that match.
struct All<'a>(&'a [&'a Effects]);

impl All<'_> {
    fn drop(&self, field: &str) -> bool {
        self.0.iter().any(|effects| names(&effects.drop, field))
    }

    fn hide(&self, field: &str) -> bool {
        self.0.iter().any(|effects| names(&effects.hide, field))
    }

    fn pseudonym(&self, field: &str) -> bool {
        self.0.iter().any(|effects| names(&effects.pseudonym, field))
    }

    /// What is left of its addresses, where any are to be truncated.
    fn lengths(&self, field: &str) -> Option<Lengths> {
        let cut = self.0.iter().filter(|effects| names(&effects.truncate, field)).map(|effects| effects.lengths);
        cut.reduce(Lengths::shorter)
    }
}

fn names(patterns: &[String], field: &str) -> bool {
    patterns.iter().any(|pattern| glob(pattern, field))
}

#[cfg(test)]
mod tests;

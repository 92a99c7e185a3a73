//! Seals: nothing is taken away that IntelMQ needs, and nothing that is taken out of an event stays in it elsewhere.

use super::super::{Config, IdKind, Seal, SealRule, Truncate};
use super::{Found, rules};
use crate::envelope::{counts_for_id, glob};

/// The field that holds the whole event again, as it was collected.
const RAW: &str = "raw";
/// Fields that IntelMQ has a form for that no pseudonym has: a receiver could not give them to its IntelMQ.
const FORMED: [&str; 8] = [
    "source.ip",
    "source.network",
    "source.local_ip",
    "destination.ip",
    "destination.network",
    "destination.local_ip",
    "time.source",
    "time.observation",
];

pub(super) fn check(config: &Config, found: &mut Found) {
    for (_, place, seal) in config.take.seals() {
        ids(seal, &place, found);
        let all = Effects { drop: &seal.drop, hide: &seal.hide, truncate: &seal.truncate, pseudonym: &seal.pseudonym };
        all.check(None, &place, found);
        for (i, rule) in seal.rules.iter().enumerate() {
            let place = format!("{place}.rules.{i}");
            let its = Effects::of(rule);
            its.check(Some(&all), &place, found);
            rules::conditions(rule.when.fields.keys(), &format!("{place}.when.fields"), found);
            if its.are_none() && rule.tlp.is_none() && rule.tags.is_empty() && rule.to.is_empty() {
                found.add(
                    &place,
                    "this rule does nothing",
                    "write what follows for the events that it matches: tlp, tags, to, drop, hide, truncate or pseudonym",
                );
            }
        }
        if seal.id == IdKind::Content {
            guessable(seal, &place, found);
        }
    }
}

fn ids(seal: &Seal, place: &str, found: &mut Found) {
    if seal.id == IdKind::Random && !seal.id_without.is_empty() {
        found.add(
            format!("{place}.id_without"),
            "random ids do not depend on any field",
            "remove id_without, or write id = \"content\"",
        );
    }
    for (i, field) in seal.id_without.iter().enumerate() {
        if field.strip_prefix("feed.").is_none_or(str::is_empty) {
            found.add(
                format!("{place}.id_without.{i}"),
                format!("{field:?} counts for content ids at every node"),
                "only fields of the feed can be left out, as \"feed.name\"",
            );
        }
    }
}

/// An id of the content is an unsalted hash of it, hidden fields included.
fn guessable(seal: &Seal, place: &str, found: &mut Found) {
    let rules = seal.rules.iter().enumerate().map(|(i, rule)| (format!("{place}.rules.{i}.hide"), &rule.hide));
    for (place, hide) in std::iter::once((format!("{place}.hide"), &seal.hide)).chain(rules) {
        for (i, field) in hide.iter().enumerate().filter(|(_, field)| counts_for_id(field, &seal.id_without)) {
            found.add(
                format!("{place}.{i} {place}"),
                format!(
                    "with id = \"content\", the id is a hash of all fields: what {field:?} hides can be guessed by it"
                ),
                "drop the field, or write id = \"random\"",
            );
        }
    }
}

/// What a seal, or one of its rules, does to fields.
struct Effects<'a> {
    drop: &'a [String],
    hide: &'a [String],
    truncate: &'a Truncate,
    pseudonym: &'a [String],
}

impl<'a> Effects<'a> {
    fn of(rule: &'a SealRule) -> Effects<'a> {
        let SealRule { drop, hide, truncate, pseudonym, .. } = rule;
        Effects { drop, hide, truncate, pseudonym }
    }

    fn are_none(&self) -> bool {
        self.drop.is_empty() && self.hide.is_empty() && self.truncate.fields.is_empty() && self.pseudonym.is_empty()
    }

    /// Whether the others never see this field.
    fn withhold(&self, field: &str) -> bool {
        self.drop.iter().chain(self.hide).any(|pattern| glob(pattern, field))
    }

    /// `all`: what is done to every event, where this is a rule's.
    fn check(&self, all: Option<&Effects<'_>>, place: &str, found: &mut Found) {
        rules::globs(self.drop, &format!("{place}.drop"), found);
        rules::globs(self.hide, &format!("{place}.hide"), found);
        rules::globs(&self.truncate.fields, &format!("{place}.truncate.fields"), found);
        rules::globs(self.pseudonym, &format!("{place}.pseudonym"), found);
        self.prefixes(&format!("{place}.truncate"), found);
        for (i, pattern) in self.pseudonym.iter().enumerate() {
            if let Some(field) = FORMED.iter().find(|field| glob(pattern, field)) {
                found.add(
                    format!("{place}.pseudonym.{i} {place}.pseudonym"),
                    format!("{pattern:?} covers {field}, and no IntelMQ takes a pseudonym there"),
                    "name texts, as \"source.account\"; for addresses write truncate, or drop",
                );
            }
        }
        let raw_is_kept = !self.withhold(RAW) && !all.is_some_and(|all| all.withhold(RAW));
        for (key, fields) in [("truncate", &*self.truncate.fields), ("pseudonym", self.pseudonym)] {
            if raw_is_kept && !fields.is_empty() {
                let same = if all.is_some() { "in this rule, or in the door's seal" } else { "beside it" };
                found.add(
                    format!("{place}.{key}"),
                    format!("raw has in full what {key} takes out of other fields"),
                    format!("write drop = [\"raw\"] {same}"),
                );
                return;
            }
        }
    }

    fn prefixes(&self, place: &str, found: &mut Found) {
        let Truncate { fields, ipv4, ipv6 } = self.truncate;
        if fields.is_empty() && *self.truncate != Truncate::default() {
            found.add(
                place,
                "this truncates no field",
                "write which ones: fields = [\"source.ip\", \"source.network\"]",
            );
        }
        for (key, bits, most) in [("ipv4", *ipv4, 31), ("ipv6", *ipv6, 127)] {
            if !(1..=most).contains(&bits) {
                found.add(
                    format!("{place}.{key}"),
                    format!("{key} = {bits} is out of range: it is the number of bits that are left of an address"),
                    format!("choose from 1 to {most}"),
                );
            }
        }
    }
}

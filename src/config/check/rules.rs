//! Rules: every set that is named is there, no rule is without effect, and nothing is hidden that IntelMQ needs.

use super::super::{Act, Admit, Config, Peer, Rule, Share};
use super::Found;
use crate::envelope::Name;

/// What the receiver's IntelMQ cannot do without: its taxonomy and its outputs go by it.
const NEEDED: &str = "classification.type";

/// Words that stand where a set could be named.
const RESERVED: [&str; 3] = ["none", Share::COMMUNITY, Admit::ALL];

pub(super) fn check(config: &Config, found: &mut Found) {
    for (set, rules) in &config.rules {
        let place = format!("rules.{set}");
        if RESERVED.contains(&set.as_str()) {
            found.add(&place, format!("{set:?} is a word of its own, and no name for rules"), "name the set otherwise");
        }
        if rules.is_empty() {
            found.add(&place, format!("the set {set} has no rules"), "write at least one, or remove the set");
        }
        for (i, rule) in rules.iter().enumerate() {
            one(config, rule, &format!("{place}.{i}"), found);
        }
        order(rules, &place, found);
    }
    for (i, peer) in config.peers.iter().enumerate() {
        sets(config, peer.give.sets(), Share::COMMUNITY, &format!("peer.{i}.give"), found);
        sets(config, peer.take.sets(), Admit::ALL, &format!("peer.{i}.take"), found);
        behind(config, peer.give.sets(), &format!("peer.{i}.give"), found);
        behind(config, peer.take.sets(), &format!("peer.{i}.take"), found);
        taken(config, i, peer, found);
        if peer.give == Share::Community && peer.community == Some(false) {
            found.add(
                format!("peer.{i}.community"),
                "give = \"community\" says that the peer is of the community, and this says that it is not",
                "remove it, or write give as a list of sets",
            );
        }
    }
}

fn one(config: &Config, rule: &Rule, place: &str, found: &mut Found) {
    let hide = rule.hide.as_deref().unwrap_or_default();
    match rule.act {
        Act::Hide if hide.is_empty() => {
            found.add(place, "this rule hides nothing", "write which fields: hide = [\"raw\", \"extra.*\"]");
        }
        Act::Deny | Act::Poison if !hide.is_empty() => found.add(
            format!("{place}.hide"),
            "what is not given has nothing to hide",
            "remove hide, or write do = \"allow\" or \"hide\"",
        ),
        _ => {}
    }
    globs(hide, &format!("{place}.hide"), found);
    let known = |name: &Name| *name == config.node.name || config.knows(name);
    for name in rule.origin.iter().flatten().filter(|name| !known(name)) {
        found.add(
            format!("{place}.origin"),
            format!("{name} is neither this node, nor a peer, nor an [[origin]]"),
            "correct the name, or add the node: events of unknown origin are refused anyway",
        );
    }
    for name in rule.from.iter().flatten().filter(|name| !config.peers.iter().any(|peer| peer.name == **name)) {
        found.add(
            format!("{place}.from"),
            format!("{name} is no peer"),
            "correct the name; for events of this node write origin",
        );
    }
    if let Some((low, high)) = rule.hops.filter(|(low, high)| low > high) {
        found.add(format!("{place}.hops"), "no number is in this range", format!("write [{high}, {low}]"));
    }
    conditions(rule.fields.keys(), &format!("{place}.fields"), found);
}

/// Names of fields in conditions, without stars.
pub(super) fn conditions<'a>(fields: impl Iterator<Item = &'a String>, place: &str, found: &mut Found) {
    for field in fields.filter(|field| field.is_empty() || field.contains(['*', ' '])) {
        found.add(
            place,
            format!("{field:?} is no name of a field"),
            "write the whole name in quotes, as \"source.ip\"",
        );
    }
}

/// Names of fields with stars.
pub(super) fn globs(globs: &[String], place: &str, found: &mut Found) {
    for (i, glob) in globs.iter().enumerate() {
        if glob.is_empty() || glob.contains(char::is_whitespace) || glob.contains("**") {
            found.add(
                format!("{place}.{i} {place}"),
                format!("{glob:?} names no field"),
                "write a field's name, or a pattern with stars, as \"extra.internal.*\" or \"*.abuse_contact\"",
            );
        } else if crate::envelope::glob(glob, NEEDED) {
            found.add(
                format!("{place}.{i} {place}"),
                format!("{glob:?} takes away {NEEDED}, which the receiver's IntelMQ cannot do without"),
                "name what is secret more exactly, or do not give the event",
            );
        }
    }
}

/// A rule behind one that matches everything is never asked.
fn order(rules: &[Rule], place: &str, found: &mut Found) {
    let last = rules.iter().position(|rule| rule.act != Act::Hide && rule.matches_all());
    let Some(last) = last.filter(|last| last + 1 < rules.len()) else { return };
    found.add(
        format!("{place}.{}", last + 1),
        format!("this rule is never asked: the one in line {} matches everything", rules[last].line),
        "put it before that one, or remove it",
    );
}

fn sets(config: &Config, sets: &[Name], everything: &str, place: &str, found: &mut Found) {
    for (i, set) in sets.iter().enumerate() {
        if set.as_str() == everything {
            if i + 1 < sets.len() {
                found.add(
                    format!("{place}.{} {place}", i + 1),
                    format!("this set is never asked: {everything:?} before it allows everything"),
                    format!("put {everything:?} last"),
                );
                return;
            }
        } else if !config.rules.contains_key(set) {
            let known: Vec<&str> = config.rules.keys().map(Name::as_str).chain([everything]).collect();
            found.add(
                format!("{place}.{i} {place}"),
                format!("there is no set of rules {set}"),
                format!("write [[rules.{set}]], or one of: {}", known.join(", ")),
            );
        }
    }
}

/// A set behind one that decides about everything is never asked, a poison in it neither.
fn behind(config: &Config, sets: &[Name], place: &str, found: &mut Found) {
    // Behind a rule that denies, the next set is asked.
    let ends = |rules: &&Vec<Rule>| {
        let last = rules.iter().find(|rule| rule.act == Act::Deny || (rule.act != Act::Hide && rule.matches_all()));
        last.is_some_and(|last| last.act != Act::Deny)
    };
    let decides = |set: &Name| config.rules.get(set).is_some_and(|rules| ends(&rules));
    if let Some(last) = sets.iter().position(decides).filter(|last| last + 1 < sets.len()) {
        let (set, next) = (&sets[last], last + 1);
        found.add(
            format!("{place}.{next} {place}"),
            format!("this set is never asked: {set} before it decides about every event"),
            format!("put {set} last, or remove this one"),
        );
    }
}

/// What is taken is kept as it comes: hiding is for giving.
fn taken(config: &Config, i: usize, peer: &Peer, found: &mut Found) {
    for (j, set) in peer.take.sets().iter().enumerate() {
        let hides = config.rules.get(set).into_iter().flatten().find(|rule| rule.hide.is_some());
        if let Some(rule) = hides {
            found.add(
                format!("peer.{i}.take.{j} peer.{i}.take"),
                format!("the set {set} hides fields (line {}), and what is taken is kept as it comes", rule.line),
                "hide when giving; for taking write a set without hide",
            );
        }
    }
}

//! Rules and doors that are no mistakes of the configuration, and probably not what is meant.

use super::Finding;
use crate::config::{Act, Admit, Config, Peer, SealRule, Share};
use crate::envelope::{Name, Shape};
use crate::harmonization::Format;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = unknown_fields(config);
    for peer in config.peers.iter().filter(|peer| peer.test) {
        findings.push(Finding::note(
            format!("peer {}", peer.name),
            "it is in test mode: only events of the classification type \"test\" pass, both ways\n  when you and its \
             operator are content, write test = false on both sides",
        ));
    }
    let unsaid = |peer: &&Peer| !peer.give.sets().is_empty() && !peer.is_community() && peer.community.is_none();
    for peer in config.peers.iter().filter(unsaid) {
        findings.push(Finding::note(
            format!("peer {}", peer.name),
            "TLP:GREEN does not go to it, whatever its rules say, since it is not of the community\n  write community = true \
             or false, to say that you mean it",
        ));
    }
    for peer in &config.peers {
        for (key, sets, all) in [("give", peer.give.sets(), Share::COMMUNITY), ("take", peer.take.sets(), Admit::ALL)] {
            if !sets.is_empty() && !allow(config, sets, all) {
                findings.push(Finding::note(
                    format!("peer {}", peer.name),
                    format!(
                        "no rule in the sets of its {key} allows anything, so nothing passes\n  put {all:?} last, or a \
                         set with do = \"allow\"; or write {key} = \"none\", to say that you mean it"
                    ),
                ));
            }
        }
    }
    let (redis, amqp) = (&config.give.redis, &config.give.amqp);
    let pipelines =
        redis.iter().map(|door| (&door.name, &door.events)).chain(amqp.iter().map(|d| (&d.name, &d.events)));
    for (door, events) in pipelines {
        if let Some(Shape::Iep04 | Shape::Proposed | Shape::Bare) = events.shape {
            findings.push(Finding::note(
                format!("door {door}"),
                "what it gives, no bot of IntelMQ's reads: it would stop\n  write shape = \"extra\" or \"typed\" for a \
                 bot's queue; leave it for a reader of your own",
            ));
        }
    }
    findings
}

/// Whether anything can pass by these sets. To hide, or not to deny, is not to allow.
fn allow(config: &Config, sets: &[Name], everything: &str) -> bool {
    let allows = |set: &Name| config.rules.get(set).into_iter().flatten().any(|rule| rule.act == Act::Allow);
    sets.iter().any(|set| set.as_str() == everything || allows(set))
}

/// Fields that rules name and IntelMQ does not know: a slip, and the rule matches nothing; or another format's field.
fn unknown_fields(config: &Config) -> Vec<Finding> {
    let peers = config.rules.iter().flat_map(|(set, rules)| {
        rules.iter().flat_map(move |rule| rule.fields.keys().map(move |field| (set.as_str(), rule.line, field)))
    });
    let seals = config.take.seals().flat_map(|(door, _, seal)| {
        let fields = |rule: &SealRule| rule.when.fields.keys().cloned().collect::<Vec<_>>();
        seal.rules.iter().map(move |rule| (door.as_str(), rule.line.0, fields(rule))).collect::<Vec<_>>()
    });
    let seals = seals.flat_map(|(door, line, fields)| fields.into_iter().map(move |field| (door, line, field)));
    let all = peers.map(|(set, line, field)| (set, line, field.clone())).chain(seals);
    let unknown = all.filter(|(_, _, field)| !Format::builtin().has(field));
    let note = |(owner, line, field)| {
        Finding::note(
            format!("rules of {owner}, line {line}"),
            format!(
                "IntelMQ has no field {field:?}, so the rule matches none of its events\n  correct the name, unless it is another format's"
            ),
        )
    };
    unknown.map(note).collect()
}

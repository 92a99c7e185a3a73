//! Rules and doors that are no mistakes of the configuration, and probably not what is meant.

use std::collections::BTreeSet;

use super::Finding;
use crate::config::{Act, Admit, Config, Encrypt, Peer, SealRule, Share};
use crate::envelope::{Name, Shape, Tlp};
use crate::harmonization::Format;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = unknown_fields(config);
    findings.extend(strangers(config));
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

/// Recipients that nothing can be encrypted to. Whose key the roster has, is not known here.
fn strangers(config: &Config) -> Vec<Finding> {
    let has_key = |name: &Name| {
        let of_peers = config.peers.iter().map(|peer| (&peer.name, peer.encryption));
        let mut all = of_peers.chain(config.origins.iter().map(|origin| (&origin.name, origin.encryption)));
        *name == config.node.name || config.roster.is_some() || all.any(|(one, key)| one == name && key.is_some())
    };
    let mut findings = Vec::new();
    for (door, _, seal) in config.take.seals() {
        let red = |tlp: Option<Tlp>| seal.encrypt == Encrypt::Named || tlp == Some(Tlp::Red);
        let rules = seal.rules.iter().filter(|rule| red(rule.tlp)).flat_map(|rule| &rule.to);
        let named = seal.to.iter().filter(|_| red(seal.tlp)).chain(rules);
        let strangers: BTreeSet<&Name> = named.filter(|name| !has_key(name)).collect();
        findings.extend(strangers.into_iter().map(|name| {
            Finding::note(
                format!("door {door}"),
                format!(
                    "what is for {name} would be encrypted to it, and its key is not known here, so such events go into quarantine\n  \
                     write as encryption into its [[peer]] or [[origin]] what `intelmq-relay id` prints there"
                ),
            )
        }));
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

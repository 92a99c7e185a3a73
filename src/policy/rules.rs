//! Sets of rules, compiled: asked in order, on the fields that they name and on nothing else.
//!
//! Owns how rules are read together: in a set, the first `allow` or `deny` that matches decides for that set; a set
//! that denies, or has nothing to say, leaves it to the next one; `poison` ends it all. What `hide` has collected
//! until something allows the event is hidden.

use std::fmt;
use std::sync::Arc;

use super::matcher::{Condition, Fact};
use super::named::Named;
use crate::config::{Act, Admit, Rule, RuleSets, Share};
use crate::envelope::{Envelope, Kind, Name, Tlp, glob};

/// A rule, to be named in answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId {
    /// Its set and its name or number there: `ours/2`.
    pub label: String,
    /// Where it stands in the configuration.
    pub line: usize,
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Fields to hide, as patterns. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hide(Vec<Arc<[String]>>);

impl Hide {
    /// Whether this field is hidden.
    pub fn hides(&self, field: &str) -> bool {
        self.0.iter().flat_map(|globs| globs.iter()).any(|pattern| glob(pattern, field))
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What rules say of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may pass, by this rule; `None`: by a word that allows everything.
    Allow(Option<Arc<RuleId>>, Hide),
    /// This rule keeps it.
    Deny(Arc<RuleId>),
    /// No rule lets it pass.
    Silent,
}

/// What is asked about: an envelope, and what is not written in it.
pub(super) struct Event<'a> {
    pub(super) envelope: &'a Envelope,
    /// The peer that it comes from; `None`: sealed here.
    pub(super) from: Option<&'a Name>,
    /// Its label, or the default.
    pub(super) tlp: Tlp,
}

/// The sets of one peer, in one direction.
#[derive(Debug, Default)]
pub struct Rules {
    /// The fields that some rule names.
    named: Named,
    sets: Vec<Set>,
}

#[derive(Debug)]
enum Set {
    Everything,
    Rules(Vec<Compiled>),
}

#[derive(Debug)]
struct Compiled {
    id: Arc<RuleId>,
    act: Act,
    meta: Meta,
    /// Which field, by its number in [`Rules::named`], and what it must be.
    conditions: Vec<(usize, Condition)>,
    hide: Arc<[String]>,
}

/// Conditions on what is no field. An empty part holds always.
#[derive(Debug)]
struct Meta {
    origin: Option<Vec<Name>>,
    from: Option<Vec<Name>>,
    kind: Option<Vec<Kind>>,
    format: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    tlp: Option<Vec<Tlp>>,
    hops: Option<(usize, usize)>,
}

impl Rules {
    /// What a peer is given. Sets that are not there allow nothing; the configuration was checked for them.
    pub fn given(share: &Share, sets: &RuleSets) -> Rules {
        match share {
            Share::None => Rules::default(),
            Share::Community => Rules { sets: vec![Set::Everything], ..Rules::default() },
            Share::Sets(names) => Rules::compile(names, Share::COMMUNITY, sets),
        }
    }

    /// What is taken from a peer.
    pub fn taken(admit: &Admit, sets: &RuleSets) -> Rules {
        match admit {
            Admit::None => Rules::default(),
            Admit::All => Rules { sets: vec![Set::Everything], ..Rules::default() },
            Admit::Sets(names) => Rules::compile(names, Admit::ALL, sets),
        }
    }

    fn compile(names: &[Name], everything: &str, sets: &RuleSets) -> Rules {
        let mut rules = Rules::default();
        for name in names {
            let set = if name.as_str() == everything {
                Set::Everything
            } else {
                let list = sets.get(name).map(Vec::as_slice).unwrap_or_default();
                Set::Rules(list.iter().enumerate().map(|(i, rule)| rules.rule(name, i, rule)).collect())
            };
            rules.sets.push(set);
        }
        rules
    }

    fn rule(&mut self, set: &Name, index: usize, rule: &Rule) -> Compiled {
        let Rule { name, act, fields, origin, from, kind, format, tags, tlp, hops, hide, line } = rule;
        let name = name.as_ref().map_or_else(|| (index + 1).to_string(), Name::to_string);
        Compiled {
            id: Arc::new(RuleId { label: format!("{set}/{name}"), line: *line }),
            act: *act,
            meta: Meta {
                origin: origin.clone(),
                from: from.clone(),
                kind: kind.clone(),
                format: format.clone(),
                tags: tags.clone(),
                tlp: tlp.clone(),
                hops: *hops,
            },
            conditions: fields.iter().map(|(field, is)| (self.named.number(field), Condition::new(is))).collect(),
            hide: hide.clone().unwrap_or_default().into(),
        }
    }

    /// Whether nothing can pass.
    pub(super) fn allow_nothing(&self) -> bool {
        self.sets.is_empty()
    }

    pub(super) fn ask(&self, event: &Event<'_>) -> Answer {
        let facts = self.named.facts(event.envelope.open_fields());
        let mut hide = Hide::default();
        let mut denied = None;
        for set in &self.sets {
            let Set::Rules(rules) = set else { return Answer::Allow(None, hide) };
            for rule in rules.iter().filter(|rule| rule.matches(event, &facts)) {
                match rule.act {
                    Act::Hide => hide.0.push(rule.hide.clone()),
                    Act::Allow => {
                        if !rule.hide.is_empty() {
                            hide.0.push(rule.hide.clone());
                        }
                        return Answer::Allow(Some(rule.id.clone()), hide);
                    }
                    Act::Deny => {
                        denied = Some(rule.id.clone());
                        break;
                    }
                    Act::Poison => return Answer::Deny(rule.id.clone()),
                }
            }
        }
        denied.map_or(Answer::Silent, Answer::Deny)
    }
}

impl Compiled {
    fn matches(&self, event: &Event<'_>, facts: &[Option<Fact<'_>>]) -> bool {
        self.meta.holds(event)
            && self.conditions.iter().all(|(field, condition)| condition.holds(facts[*field].as_ref()))
    }
}

impl Meta {
    fn holds(&self, event: &Event<'_>) -> bool {
        let header = event.envelope.header();
        let is = |list: &Option<Vec<Name>>, name: Option<&Name>| {
            list.as_ref().is_none_or(|list| name.is_some_and(|name| list.contains(name)))
        };
        // The origin's own has passed nobody.
        let passed = event.envelope.path().len().saturating_sub(1);
        is(&self.origin, Some(&header.origin))
            && is(&self.from, event.from)
            && self.kind.as_ref().is_none_or(|kinds| kinds.contains(&header.kind))
            && self.format.as_ref().is_none_or(|formats| formats.contains(&header.format))
            && self.tags.as_ref().is_none_or(|tags| tags.iter().any(|tag| header.tags.contains(tag)))
            && self.tlp.as_ref().is_none_or(|labels| labels.contains(&event.tlp))
            && self.hops.is_none_or(|(low, high)| (low..=high).contains(&passed))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand::SeedableRng;

    use super::*;
    use crate::config::Config;
    use crate::envelope::{Bounds, Draft, Message, Sealed, Secret, seal};

    const KEY: &str = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5";

    fn rules(give: &str, sets: &str) -> Rules {
        let text = format!(
            "[node]\nname = \"us\"\n[[peer]]\nname = \"it\"\nkey = \"{KEY}\"\ngive = {give}\n[[origin]]\n\
             name = \"far\"\nkey = \"12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq\"\n{sets}"
        );
        let config = Config::parse(&text, Path::new("/")).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"));
        Rules::given(&config.peers[0].give, &config.rules)
    }

    fn sealed(event: &str, change: impl FnOnce(&mut crate::envelope::Header)) -> Sealed {
        let message = Message::read(event.as_bytes()).unwrap();
        let mut header = message.header(&"us".parse().unwrap(), uuid::Uuid::nil(), 0);
        change(&mut header);
        let draft = Draft::new(header, message.fields, &Bounds::default()).unwrap();
        seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rand_chacha::ChaCha20Rng::seed_from_u64(1)).remove(0)
    }

    fn ask(rules: &Rules, envelope: &Sealed) -> String {
        match rules.ask(&Event { envelope, from: None, tlp: Tlp::Clear }) {
            Answer::Silent => "silent".into(),
            Answer::Deny(rule) => format!("deny {rule}"),
            Answer::Allow(by, hide) => {
                let by = by.map_or("all".to_owned(), |by| by.to_string());
                let hidden: Vec<&str> = ["raw", "extra.a", "extra.b"].into_iter().filter(|f| hide.hides(f)).collect();
                format!("allow {by} {}", hidden.join("+"))
            }
        }
    }

    #[test]
    fn the_first_that_decides_in_a_set_then_the_next_set_and_poison_ends_it_all() {
        let sets = r#"
            [[rules.never]]
            do = "poison"
            fields = { "extra.a" = "secret" }
            [[rules.strip]]
            do = "hide"
            hide = "raw"
            [[rules.strip]]
            name = "no-b"
            do = "hide"
            fields = { "extra.b" = { present = true } }
            hide = ["extra.b"]
            [[rules.strip]]
            do = "deny"
            fields = { "classification.type" = "test" }
            [[rules.strip]]
            do = "allow"
            fields = { "classification.type" = "phishing" }
            hide = "extra.a"
            [[rules.scans]]
            do = "allow"
            fields = { "classification.type" = ["scanner", "test"] }
        "#;
        let event = |kind: &str, rest: &str| sealed(&format!("{{\"classification.type\": \"{kind}\"{rest}}}"), |_| {});
        let all = rules(r#"["never", "strip", "scans"]"#, sets);
        for (event, expected) in [
            (event("phishing", ""), "allow strip/4 raw+extra.a"),
            (event("phishing", ", \"extra.b\": 1"), "allow strip/4 raw+extra.a+extra.b"),
            (event("phishing", ", \"extra.a\": \"secret\""), "deny never/1"),
            // The second set denies, and the third allows it; what was to be hidden stays hidden.
            (event("test", ""), "allow scans/1 raw"),
            (event("scanner", ""), "allow scans/1 raw"),
            (event("other", ""), "silent"),
        ] {
            assert_eq!(ask(&all, &event), expected);
        }
        let two = rules(r#"["strip"]"#, sets);
        assert_eq!(ask(&two, &event("test", "")), "deny strip/3");
        // Poison behind what allows is never asked.
        let late = rules(r#"["strip", "never"]"#, sets);
        assert_eq!(ask(&late, &event("phishing", ", \"extra.a\": \"secret\"")), "allow strip/4 raw+extra.a");
        assert_eq!(ask(&late, &event("other", ", \"extra.a\": \"secret\"")), "deny never/1");
        let rest = rules(r#"["never", "strip", "community"]"#, sets);
        assert_eq!(ask(&rest, &event("other", "")), "allow all raw");
        assert!(rules("\"none\"", sets).allow_nothing());
        assert_eq!(ask(&rules("\"community\"", sets), &event("other", "")), "allow all ");
    }

    #[test]
    fn what_is_no_field_is_matched_too() {
        let one = |condition: &str| rules(r#"["r"]"#, &format!("[[rules.r]]\ndo = \"allow\"\n{condition}"));
        let ours = sealed("{\"source.ip\": \"192.0.2.1\"}", |header| header.tags = vec!["a".into(), "b".into()]);
        let far = sealed("{\"source.ip\": \"192.0.2.1\"}", |header| {
            header.origin = "far".parse().unwrap();
            (header.kind, header.format) = (Kind::Report, "n6".into());
        });
        let far = ["it", "us"].iter().fold(far, |sealed, hop| sealed.with_hop(&hop.parse().unwrap()));
        let holds = |condition: &str, envelope: &Sealed, from: Option<&str>| {
            let from = from.map(|from| from.parse().unwrap());
            let event = Event { envelope, from: from.as_ref(), tlp: Tlp::Green };
            matches!(one(condition).ask(&event), Answer::Allow(..))
        };
        for (condition, of_ours, of_far) in [
            ("origin = \"us\"", true, false),
            ("origin = [\"us\", \"far\"]", true, true),
            ("from = \"it\"", false, true),
            ("type = \"event\"", true, false),
            ("format = [\"n6\"]", false, true),
            ("tags = [\"c\", \"b\"]", true, false),
            ("tlp = \"GREEN\"", true, true),
            ("tlp = [\"CLEAR\", \"RED\"]", false, false),
            ("hops = [0, 0]", true, false),
            ("hops = [1, 2]", false, true),
            ("type = \"event\"\norigin = \"far\"", false, false),
        ] {
            assert_eq!(holds(condition, &ours, None), of_ours, "{condition}");
            assert_eq!(holds(condition, &far, Some("it")), of_far, "{condition}");
        }
    }

    #[test]
    fn a_hidden_field_is_not_there() {
        let present = |present| {
            let set = format!("[[rules.r]]\ndo = \"allow\"\nfields = {{ raw = {{ present = {present} }} }}");
            rules(r#"["r"]"#, &set)
        };
        let open = sealed("{\"raw\": \"eA==\", \"source.ip\": \"192.0.2.1\"}", |_| {});
        let hidden = open.hide(|field| field == "raw");
        assert_eq!(ask(&present(true), &open), "allow r/1 ");
        assert_eq!(ask(&present(true), &hidden), "silent");
        assert_eq!(ask(&present(false), &hidden), "allow r/1 ");
    }
}

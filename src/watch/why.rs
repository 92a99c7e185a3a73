//! `why`: what became of an event here, for each peer and each door. From the log, the journal and the quarantine.
//!
//! Owns how notes are read together: the last decision and the last answer count, an answer only behind the decision
//! that it belongs to. It must never guess: what is not noted is `not-recorded`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::Node;
use super::line::clean;
use super::way::Known;
use crate::envelope::{CyCat, Name, rfc3339};
use crate::link::Verdict;
use crate::policy::{Reason, RuleId};
use crate::store::{Cursor, Entry, Fate, Held, IdNote, Note, Outcome, Part, Reader, Store, StoreError};

/// Entries of one id that are explained: a hostile origin may make any number.
pub(super) const MOST: usize = 64;

/// What is said where no rule decided.
const EVERYTHING: &str = "a word that allows everything";

/// What allows an encrypted event instead.
fn secrecy(entry: &Entry, reader: &Reader) -> Option<&'static str> {
    let header = entry.envelope.header();
    let is_named = header.to.contains(reader.name());
    let word = if is_named {
        "its origin, which names it: it is encrypted to it"
    } else {
        "`carries`: it is encrypted to others"
    };
    header.is_encrypted().then_some(word)
}

/// What is asked, and of whom.
pub(super) struct Why<'a> {
    pub(super) id: Uuid,
    /// Only this peer or door.
    pub(super) only: Option<&'a Name>,
    /// The configuration file, as its lines are named.
    pub(super) file: &'a str,
    pub(super) store: &'a Store,
    pub(super) node: Option<&'a dyn Node>,
    /// Who reads, where no node runs that could say so.
    pub(super) readers: &'a [Reader],
    /// By whose keys events are void.
    pub(super) known: Known,
}

/// What became of one entry for one reader, or of what has no entry.
pub(super) struct Answer {
    json: Value,
    text: String,
}

impl Answer {
    pub(super) fn json(&self) -> String {
        self.json.to_string()
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        clean(&self.text)
    }
}

/// An entry, and its answers. `None`: what has no entry.
pub(super) type Answers = Vec<(Option<String>, Vec<Answer>)>;

impl Why<'_> {
    /// The answers for these entries, which have the id, and for what has no entry.
    pub(super) async fn answers(&self, entries: &[Arc<Entry>]) -> Result<Answers, String> {
        if let Some(node) = self.node {
            node.write_notes().await?;
        }
        let text = |error: StoreError| error.to_string();
        let notes = self.store.notes(entries.iter().map(|entry| entry.seq)).await.map_err(text)?;
        let by_id = self.store.id_notes(self.id).await.map_err(text)?;
        let report = self.node.map(Node::report).unwrap_or_default();
        let readers = self.whom(&report, &notes);
        let mut answers = Vec::new();
        for entry in entries {
            let mut of_entry = Vec::new();
            for reader in &readers {
                let place = self.store.cursor(&Cursor::Noted(reader.clone())).await.map_err(text)?;
                let place = place.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
                let notes = notes.iter().filter(|note| note.reader == *reader && note.is_about(entry.seq));
                let mut told = self.told(entry, reader, notes, place, &report);
                if let Some(word) = secrecy(entry, reader).filter(|_| told.fate == "given" || told.fate == "had") {
                    told.text = told.text.replacen(EVERYTHING, word, 1);
                }
                if told.fate == "quarantined" {
                    self.look_into_quarantine(entry, reader, &by_id, &mut told).await?;
                }
                of_entry.push(self.answer(Some(entry), reader, told));
            }
            answers.push((Some(self.headline(entry)), of_entry));
        }
        let refusals: Vec<Answer> = by_id.iter().filter_map(|note| self.refusal(note)).collect();
        if !refusals.is_empty() {
            answers.push((None, refusals));
        }
        Ok(answers)
    }

    /// Everybody who reads, and who has read.
    fn whom(&self, report: &Value, notes: &[Note]) -> BTreeSet<Reader> {
        let named = |key: &str, make: fn(Name) -> Reader| {
            let names = report[key].as_object().into_iter().flat_map(|readers| readers.keys());
            names.filter_map(|name| name.parse().ok()).map(make).collect::<Vec<_>>()
        };
        let running = named("peers", Reader::Peer).into_iter().chain(named("sinks", Reader::Door));
        let stopped = self.readers.iter().filter(|_| self.node.is_none()).cloned();
        let all = running.chain(stopped).chain(notes.iter().map(|note| note.reader.clone()));
        all.filter(|reader| self.is_asked(reader)).collect()
    }

    fn is_asked(&self, reader: &Reader) -> bool {
        self.only.is_none_or(|only| only == reader.name())
    }

    fn told<'n>(
        &self,
        entry: &Entry,
        reader: &Reader,
        notes: impl Iterator<Item = &'n Note>,
        place: Option<u64>,
        report: &Value,
    ) -> Told {
        let (mut decided, mut answered): (Option<&Note>, Option<&Note>) = (None, None);
        let mut has_it = None;
        for note in notes {
            match &note.fate {
                Fate::Told(verdict) if verdict.is_new() || *verdict == Verdict::Duplicate => has_it = Some(note),
                Fate::Had => has_it = Some(note),
                _ => {}
            }
            if note.fate.is_answer() {
                answered = Some(note);
            } else {
                // A link that began anew decides again: the answer of the one before is about that one's batch.
                (decided, answered) = (Some(note), None);
            }
        }
        // To an offer that was taken back, a peer says `later`: nothing was given.
        let taken_back = |note: &&Note| {
            note.fate == Fate::Told(Verdict::Later)
                && decided.is_some_and(|note| matches!(note.fate, Fate::Withheld(_)))
        };
        // What it has, it has, whatever was decided since.
        match (decided, answered.filter(|note| !taken_back(note)).or(has_it)) {
            (None, None) => self.unread(entry, reader, place, report),
            (decided, answered) => self.read(decided, answered),
        }
    }

    fn unread(&self, entry: &Entry, reader: &Reader, place: Option<u64>, report: &Value) -> Told {
        if place.is_some_and(|place| entry.seq <= place) {
            let text = "passed, and what became of it is not recorded: it was in the last second before a crash, or \
                        longer ago than the journal reaches";
            return Told::new("not-recorded", text);
        }
        let Reader::Peer(peer) = reader else {
            return Told::new("waits", "waits: the door has not come to it yet");
        };
        let text = match report["peers"][peer.as_str()]["linked"].as_bool() {
            Some(true) => "waits: the peer is behind, it is not yet read for it",
            Some(false) => "waits: the peer is away, it is not yet read for it",
            None => "waits: it is not yet read for it",
        };
        Told::new("waits", text)
    }

    fn read(&self, decided: Option<&Note>, answered: Option<&Note>) -> Told {
        let mut told = decided.map_or_else(|| Told::new("given", "given"), |note| self.decision(note));
        let Some(answer) = answered else {
            if told.fate == "given" {
                told.text += "; no answer yet";
            }
            return told;
        };
        match &answer.fate {
            Fate::Told(verdict) => {
                // Later: it saw the id, and was not given the event.
                if told.fate != "given" && *verdict != Verdict::Later {
                    told.text = format!("given before; now {}", told.text);
                    told.fate = "given";
                }
                told.verdict = Some(verdict.to_string());
                told.text += &format!("; its verdict: {verdict}, {}", rfc3339(answer.at));
            }
            _ => {
                told.fate = "had";
                told.text += &format!("; not sent: the peer had shown it to us, {}", rfc3339(answer.at));
            }
        }
        told.answered = Some(answer.at);
        told
    }

    fn decision(&self, note: &Note) -> Told {
        let mut told = match &note.fate {
            Fate::Granted { by, hidden } => {
                let by_what = by.as_deref().map_or(EVERYTHING.into(), |rule| self.rule(rule));
                let fields = match hidden {
                    0 => String::new(),
                    1 => ", 1 field hidden".into(),
                    more => format!(", {more} fields hidden"),
                };
                let mut told = Told::new("given", &format!("given by {by_what}{fields}"));
                (told.rule, told.hidden) = (by.clone(), Some(*hidden));
                told
            }
            Fate::Withheld(reason) => self.withheld(reason),
            Fate::Before => Told::new("before", "not given: it was there before the peer's first contact"),
            Fate::Delivered => Told::new("delivered", "delivered"),
            Fate::NotFor(Part::Withdrawn) => Told::new("withdrawn", "not given: its origin has withdrawn it"),
            Fate::NotFor(part) => {
                let (word, text) = part_of(*part);
                let mut told = Told::new("not-for-it", &format!("not for this door: {text}"));
                told.reason = Some(word.into());
                told
            }
            Fate::Unfit => Told::new("unfit", "not given: IntelMQ's pipeline has no form for it"),
            Fate::Quarantined(reason) => {
                let mut told = Told::new("quarantined", &format!("put into quarantine: {reason}"));
                told.reason = Some(reason.to_string());
                told
            }
            Fate::Told(_) | Fate::Had => Told::new("given", "given"),
        };
        told.at = Some(note.at);
        told.text += &format!(", {}", rfc3339(note.at));
        told
    }

    fn withheld(&self, reason: &Reason) -> Told {
        let text = match reason {
            Reason::Rule(rule) => format!("withheld by {}", self.rule(rule)),
            Reason::TestMode(Some(rule)) => format!("withheld: test-mode; it would be given by {}", self.rule(rule)),
            Reason::TestMode(None) => "withheld: test-mode; it would be given".into(),
            other => format!("withheld: {other}"),
        };
        let mut told = Told::new("withheld", &text);
        (told.reason, told.rule) = (Some(reason.to_string()), reason.rule().cloned().map(Arc::new));
        told
    }

    /// It may still be there, or have left.
    async fn look_into_quarantine(
        &self,
        entry: &Entry,
        reader: &Reader,
        by_id: &[IdNote],
        told: &mut Told,
    ) -> Result<(), String> {
        let origin = &entry.envelope.header().origin;
        let mut after = 0;
        loop {
            let items = self.store.quarantined(after, 64).await.map_err(|error| error.to_string())?;
            let Some((last, _)) = items.last() else { break };
            after = *last;
            let is_it = |held: &Held| match held {
                Held::Envelope(envelope) => (envelope.header().id, &envelope.header().origin) == (self.id, origin),
                Held::Item(_) => false,
            };
            let found = items.iter().find(|(_, item)| item.door == *reader.name() && is_it(&item.held));
            if let Some((number, _)) = found {
                told.number = Some(*number);
                told.text += &format!("; it is there as number {number}");
                return Ok(());
            }
        }
        let left = by_id.iter().rev().find(|note| note.reader == *reader && note.origin == *origin);
        match left.map(|note| (&note.outcome, note.at)) {
            Some((Outcome::Delivered, at)) => {
                (told.fate, told.answered) = ("delivered", Some(at));
                told.text += &format!("; tried again and delivered, {}", rfc3339(at));
            }
            Some((Outcome::Dropped, at)) => {
                (told.fate, told.answered) = ("dropped", Some(at));
                told.text += &format!("; dropped from there, {}", rfc3339(at));
            }
            _ => {
                told.text += "; it is there no more: the quarantine was full, or it was tried again just before a crash"
            }
        }
        Ok(())
    }

    /// What a peer brought, and this node did not take.
    fn refusal(&self, note: &IdNote) -> Option<Answer> {
        let Outcome::Refused(verdict, rule) = &note.outcome else { return None };
        if !self.is_asked(&note.reader) {
            return None;
        }
        let word = verdict.to_string();
        let word = word.trim_start_matches("refused:");
        let by = match rule {
            None => format!("refused: {word}"),
            // As in `withheld`: the rule is the one that would let it pass.
            Some(rule) if word == Reason::TestMode(None).word() => {
                format!("refused: {word}; it would be taken by {}", self.rule(rule))
            }
            Some(rule) => format!("refused by {}", self.rule(rule)),
        };
        let mut told =
            Told::new("refused", &format!("{by}, {}; its origin, by its own word: {}", rfc3339(note.at), note.origin));
        (told.verdict, told.rule, told.at) = (Some(verdict.to_string()), rule.clone(), Some(note.at));
        let mut answer = self.answer(None, &note.reader, told);
        answer.json["origin"] = json!(note.origin);
        Some(answer)
    }

    fn is_withdrawn(&self, entry: &Entry) -> bool {
        let header = entry.envelope.header();
        self.store.is_withdrawn(&header.key, header.id)
    }

    fn is_void(&self, entry: &Entry) -> bool {
        self.known.is_void(entry.envelope.header())
    }

    fn headline(&self, entry: &Entry) -> String {
        let header = entry.envelope.header();
        let from = entry.from.as_ref().map_or("our own IntelMQ".into(), |peer| format!("peer {peer}"));
        let fuller = if entry.completes { ", a fuller copy" } else { "" };
        let withdrawn = if self.is_withdrawn(entry) { ", withdrawn" } else { "" };
        let void = if self.is_void(entry) { ", key-revoked" } else { "" };
        let (number, id) = (entry.seq, CyCat(header));
        clean(&format!("{id} number {number}{fuller}{withdrawn}{void}, stored {} from {from}", rfc3339(entry.at)))
    }

    fn rule(&self, rule: &RuleId) -> String {
        format!("{rule} ({}:{})", self.file, rule.line)
    }

    fn answer(&self, entry: Option<&Entry>, reader: &Reader, told: Told) -> Answer {
        let kind = match reader {
            Reader::Peer(_) => "peer",
            Reader::Door(_) => "door",
        };
        let rule = told.rule.as_deref();
        let rule = rule.map(|rule| json!({ "name": rule.label, "file": self.file, "line": rule.line }));
        let all = [
            ("id", json!(self.id)),
            ("origin", json!(entry.map(|entry| &entry.envelope.header().origin))),
            ("seq", json!(entry.map(|entry| entry.seq))),
            ("stored", json!(entry.map(|entry| rfc3339(entry.at)))),
            ("from", json!(entry.and_then(|entry| entry.from.as_ref()))),
            ("completes", json!(entry.map(|entry| entry.completes))),
            ("withdrawn", json!(entry.filter(|entry| self.is_withdrawn(entry)).map(|_| true))),
            ("key_revoked", json!(entry.filter(|entry| self.is_void(entry)).map(|_| true))),
            ("reader", json!(kind)),
            ("name", json!(reader.name())),
            ("fate", json!(told.fate)),
            ("reason", json!(told.reason)),
            ("rule", json!(rule)),
            ("hidden", json!(told.hidden)),
            ("at", json!(told.at.map(rfc3339))),
            ("verdict", json!(told.verdict)),
            ("answered", json!(told.answered.map(rfc3339))),
            ("quarantine", json!(told.number)),
            ("text", json!(told.text)),
        ];
        // What there is nothing to say of is left out.
        let all = all.into_iter().filter(|(_, value)| !value.is_null());
        let all: BTreeMap<&str, Value> = all.collect();
        Answer { json: json!(all), text: format!("  {kind} {}: {}", reader.name(), told.text) }
    }
}

/// What is told of one entry and one reader.
struct Told {
    fate: &'static str,
    text: String,
    reason: Option<String>,
    rule: Option<Arc<RuleId>>,
    hidden: Option<u16>,
    at: Option<u64>,
    verdict: Option<String>,
    answered: Option<u64>,
    /// In quarantine.
    number: Option<u64>,
}

impl Told {
    fn new(fate: &'static str, text: &str) -> Told {
        Told {
            fate,
            text: text.into(),
            reason: None,
            rule: None,
            hidden: None,
            at: None,
            verdict: None,
            answered: None,
            number: None,
        }
    }
}

fn part_of(part: Part) -> (&'static str, &'static str) {
    match part {
        Part::Own => ("own", "it was sealed here, and does not go back"),
        Part::Completions => ("completions", "it is a fuller copy, and `completions` of its events is not set"),
        Part::Types => ("types", "`types` of its events does not name it"),
        Part::Origins => ("origins", "`origins` of its events does not name it"),
        Part::Formats => ("formats", "`formats` of its events does not name it"),
        Part::Tags => ("tags", "`tags` of its events names none of its tags"),
        Part::Withdrawals => ("withdrawals", "`withdrawals` of its events is \"none\""),
        Part::NotGiven => ("not-given", "it withdraws an event that this door has not given"),
        Part::Withdrawn => ("withdrawn", "its origin has withdrawn it"),
        Part::KeyRevoked => ("key-revoked", "it was sealed with a key that is revoked for that time"),
        Part::ForOthers => ("for-others", "it is encrypted to others, and only carried here"),
    }
}

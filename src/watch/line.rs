//! Entries for a person's eyes. Everything that a peer wrote is shown without control characters.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use uuid::Uuid;

use super::question::{Form, Seen};
use crate::envelope::{Bounds, Closed, CyCat, Envelope, Field, Recipient, Shape};
use crate::store::{Entry, Held, Quarantined};

/// The lines that an entry is. `withdrawn`: its origin has withdrawn it. What is encrypted is shown as `recipient` reads it.
pub(super) fn entry(entry: &Entry, form: Form, withdrawn: bool, recipient: Option<&Recipient>) -> Vec<String> {
    match form {
        Form::Line => vec![one(entry, withdrawn, &open(&entry.envelope, recipient).0)],
        Form::Full => full(entry, withdrawn, recipient),
        Form::Json(shape) => vec![open(&entry.envelope, recipient).0.write_marked(shape, withdrawn)],
        Form::Sealed => {
            let envelope = BASE64.encode(entry.envelope.bytes());
            let seen = Seen { seq: entry.seq, from: entry.from.clone(), envelope };
            // Plain data: it has no form that fails.
            serde_json::to_string(&seen).into_iter().collect()
        }
    }
}

/// The envelope as it can be read; and why it cannot, where it is closed.
fn open<'a>(envelope: &'a Envelope, recipient: Option<&Recipient>) -> (Cow<'a, Envelope>, Option<Closed>) {
    // It was taken in, by the limits of then.
    let unbounded = Bounds { bytes: usize::MAX, fields: usize::MAX, path: usize::MAX };
    let closed = || Closed::ForOthers(envelope.header().to.clone());
    match recipient.map(|recipient| recipient.open(envelope, &unbounded)) {
        Some(Ok(opened)) => (opened, None),
        Some(Err(closed)) => (Cow::Borrowed(envelope), Some(closed)),
        None => (Cow::Borrowed(envelope), envelope.header().is_encrypted().then(closed)),
    }
}

/// Number, time, id, what, label, way, size; the classification is all that is told of the payload.
fn one(entry: &Entry, withdrawn: bool, envelope: &Envelope) -> String {
    let header = envelope.header();
    let hidden = match envelope.hidden() {
        0 => String::new(),
        hidden => format!(", {hidden} hidden"),
    };
    let withdrawn = if withdrawn { ", withdrawn" } else { "" };
    let encrypted = if envelope.was_encrypted() { ", encrypted" } else { "" };
    let fields =
        if header.is_encrypted() { "encrypted".to_owned() } else { format!("{} fields{hidden}{encrypted}", header.n) };
    let relations: String = relations(envelope).map(|(word, id)| format!(", {word} {id}")).collect();
    let kind = envelope.field("classification.type").map_or("-", |value| value.trim_matches('"'));
    let tlp = header.tlp.map_or("-", |tlp| tlp.as_str());
    clean(&format!(
        "{} {} {} {} {} {} {} ({fields}{withdrawn}{relations})",
        entry.seq,
        time(entry.at),
        CyCat(header),
        header.kind.as_str(),
        tlp,
        way(entry),
        kind,
    ))
}

fn way(entry: &Entry) -> String {
    entry.envelope.path().iter().map(|name| format!("!{name}")).collect()
}

/// What it says of other events.
fn relations(envelope: &Envelope) -> impl Iterator<Item = (&'static str, Uuid)> {
    let links = &envelope.header().links;
    let both = [("withdraws", envelope.withdraws()), ("replaces", links.replaces)];
    both.into_iter().filter_map(|(word, id)| Some((word, id?)))
}

fn full(entry: &Entry, withdrawn: bool, recipient: Option<&Recipient>) -> Vec<String> {
    let (envelope, closed) = open(&entry.envelope, recipient);
    let (envelope, header) = (&*envelope, envelope.header());
    let mut lines = vec![
        format!("id        {}", CyCat(header)),
        format!("number    {}{}", entry.seq, if entry.completes { " (a fuller copy)" } else { "" }),
        format!("stored    {}", time(entry.at)),
        format!("sealed    {} by {} with {}", time(header.time), header.origin, header.key),
        format!("seal      valid: {} of a batch of {}", envelope.seal().index + 1, envelope.seal().count),
        format!("from      {}", entry.from.as_ref().map_or("our own IntelMQ", |peer| peer.as_str())),
        format!("way       {}", way(entry)),
        format!("type      {} ({})", header.kind.as_str(), header.format),
        format!("tlp       {}", header.tlp.map_or("none: policy.default_tlp", |tlp| tlp.as_str())),
    ];
    if withdrawn {
        lines.push("withdrawn by its origin: it is not delivered, nor given to anybody".into());
    }
    lines.extend(relations(envelope).map(|(word, id)| format!("{word:<9} {id}")));
    if !header.to.is_empty() {
        lines.push(format!("to        {}", header.to.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(" ")));
    }
    if !header.tags.is_empty() {
        lines.push(format!("tags      {}", header.tags.join(" ")));
    }
    lines.extend(secrecy(entry, closed.as_ref(), recipient));
    if closed.is_some() {
        lines.push(String::new());
        return lines.iter().map(|line| clean(line)).collect();
    }
    lines.push(format!("fields    {}, {} hidden", header.n, envelope.hidden()));
    for field in envelope.fields() {
        match field {
            Field::Open { key, value, .. } => lines.push(format!("  {key} = {value}")),
            Field::Hidden { .. } => lines.push("  (hidden)".into()),
        }
    }
    lines.push(String::new());
    lines.iter().map(|line| clean(line)).collect()
}

/// Whether others can read it, and whether we can.
fn secrecy(entry: &Entry, closed: Option<&Closed>, recipient: Option<&Recipient>) -> Option<String> {
    let text = match closed {
        _ if !entry.envelope.header().is_encrypted() => return None,
        None => "encrypted; this node is a recipient, and has opened it to show it".to_owned(),
        Some(_) if recipient.is_none() => {
            "encrypted, and not opened: ask the running node, which has the key".to_owned()
        }
        Some(Closed::ForOthers(_)) if entry.from.is_none() => {
            "encrypted; this node does not name itself, so it cannot read it back".to_owned()
        }
        Some(Closed::ForOthers(_)) => "encrypted; this node is no recipient, and cannot read it".to_owned(),
        Some(closed) => format!("encrypted, and cannot be read: {closed}"),
    };
    Some(format!("secrecy   {text}"))
}

/// The lines that an item in quarantine is.
pub(super) fn quarantined(number: u64, item: &Quarantined, form: Form, recipient: Option<&Recipient>) -> Vec<String> {
    let text = match &item.held {
        Held::Item(item) => String::from_utf8_lossy(item),
        Held::Envelope(envelope) => open(envelope, recipient).0.write(Shape::Iep04).into(),
    };
    match form {
        Form::Line => {
            let what = match &item.held {
                Held::Item(item) => format!("{} bytes", item.len()),
                Held::Envelope(envelope) => CyCat(envelope.header()).to_string(),
            };
            vec![clean(&format!("{number} {} {} {what}: {}", time(item.at), item.door, item.reason))]
        }
        Form::Full => vec![
            format!("number    {number}"),
            format!("time      {}", time(item.at)),
            format!("door      {}", item.door),
            clean(&format!("reason    {}", item.reason)),
            clean(&format!("item      {text}")),
            String::new(),
        ],
        Form::Json(_) | Form::Sealed => {
            let item = serde_json::json!({
                "number": number, "time": time(item.at), "door": item.door, "reason": item.reason, "item": text,
            });
            vec![item.to_string()]
        }
    }
}

fn time(millis: u64) -> String {
    crate::envelope::rfc3339(millis)
}

pub(super) fn clean(line: &str) -> String {
    if line.chars().any(char::is_control) {
        line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    } else {
        line.to_owned()
    }
}

//! Entries for a person's eyes. Everything that a peer wrote is shown without control characters.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use uuid::Uuid;

use super::question::{Form, Seen, View};
use super::way::{long, short, way};
use crate::envelope::{Bounds, Closed, CyCat, Envelope, Field, Recipient, Shape};
use crate::store::{Entry, Held, Quarantined};

/// The lines that an entry is. `withdrawn`: its origin has withdrawn it. What is encrypted is shown as `view.recipient` reads it.
pub(super) fn entry(entry: &Entry, view: &View<'_>, withdrawn: bool) -> Vec<String> {
    match view.form {
        Form::Line => vec![one(entry, withdrawn, view)],
        Form::Full => full(entry, withdrawn, view),
        Form::Json(shape) => vec![open(&entry.envelope, view.recipient).0.write_marked(shape, withdrawn)],
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
fn one(entry: &Entry, withdrawn: bool, view: &View<'_>) -> String {
    let (envelope, _) = open(&entry.envelope, view.recipient);
    let (envelope, header) = (&*envelope, envelope.header());
    let hidden = match envelope.hidden() {
        0 => String::new(),
        hidden => format!(", {hidden} hidden"),
    };
    let withdrawn = if withdrawn { ", withdrawn" } else { "" };
    let void = if view.known.is_void(header) { ", key-revoked" } else { "" };
    let encrypted = if envelope.was_encrypted() { ", encrypted" } else { "" };
    let fields =
        if header.is_encrypted() { "encrypted".to_owned() } else { format!("{} fields{hidden}{encrypted}", header.n) };
    let relations: String = relations(envelope).map(|(word, id)| format!(", {word} {id}")).collect();
    let kind = envelope.field("classification.type").map_or("-", |value| value.trim_matches('"'));
    let tlp = header.tlp.map_or("-", |tlp| tlp.as_str());
    clean(&format!(
        "{} {} {} {} {} {} {} ({fields}{withdrawn}{void}{relations})",
        entry.seq,
        time(entry.at),
        CyCat(header),
        header.kind.as_str(),
        tlp,
        short(&way(entry, &view.known)),
        kind,
    ))
}

/// What it says of other events.
fn relations(envelope: &Envelope) -> impl Iterator<Item = (&'static str, Uuid)> {
    let links = &envelope.header().links;
    let both = [("withdraws", envelope.withdraws()), ("replaces", links.replaces)];
    both.into_iter().filter_map(|(word, id)| Some((word, id?)))
}

fn full(entry: &Entry, withdrawn: bool, view: &View<'_>) -> Vec<String> {
    let way = way(entry, &view.known);
    let (envelope, closed) = open(&entry.envelope, view.recipient);
    let (envelope, header) = (&*envelope, envelope.header());
    let mut lines = vec![
        format!("id        {}", CyCat(header)),
        format!("number    {}{}", entry.seq, if entry.completes { " (a fuller copy)" } else { "" }),
        format!("stored    {}", time(entry.at)),
        format!("sealed    {} by {} with {}", time(header.time), header.origin, header.key),
        format!("seal      valid: {} of a batch of {}", envelope.seal().index + 1, envelope.seal().count),
        format!("from      {}", entry.from.as_ref().map_or("our own IntelMQ", |peer| peer.as_str())),
        format!("way       {}", short(&way)),
    ];
    lines.extend(long(&way));
    lines.extend([
        format!("type      {} ({})", header.kind.as_str(), header.format),
        format!("tlp       {}", header.tlp.map_or("none: policy.default_tlp", |tlp| tlp.as_str())),
    ]);
    if withdrawn {
        lines.push("withdrawn by its origin: it is not delivered, nor given to anybody".into());
    }
    if view.known.is_void(header) {
        lines.push("key-revoked  its key was void by then: it is not delivered, nor given to anybody".into());
    }
    lines.extend(relations(envelope).map(|(word, id)| format!("{word:<9} {id}")));
    if !header.to.is_empty() {
        lines.push(format!("to        {}", header.to.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(" ")));
    }
    if !header.tags.is_empty() {
        lines.push(format!("tags      {}", header.tags.join(" ")));
    }
    lines.extend(secrecy(entry, closed.as_ref(), view.recipient));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::way::Known;
    use super::*;
    use crate::envelope::{Bounds, Draft, Message, Secret, seal};

    #[test]
    fn what_a_peer_wrote_moves_no_terminal() {
        let escape = "\u{1b}[2J\u{9b}1A\u{7f}";
        let text = format!("{{\"classification.type\": \"{0}\", \"k{0}\": \"v{0}\"}}", "\u{9b}31m\u{7f}");
        let mut message = Message::read(text.as_bytes()).unwrap();
        message.fields.push((escape.into(), "1".into()));
        let header = message.header(&"cert-at".parse().unwrap(), Uuid::nil(), 0);
        let draft = Draft::new(header, message.fields, &Bounds::default()).unwrap();
        let mut rng = <rand_chacha::ChaCha20Rng as rand::SeedableRng>::seed_from_u64(1);
        let envelope = seal(&Secret::from_seed(&[1; 32]), vec![draft], &mut rng).remove(0);
        let shown = Arc::new(Entry { seq: 1, at: 0, from: None, completes: false, envelope: envelope.clone() });
        let item = |held| Quarantined { at: 0, door: "in".parse().unwrap(), reason: escape.into(), held };
        let origins = Arc::default();
        let known = Known { me: "cert-ee".parse().unwrap(), origins };
        let view = |form| View { form, recipient: None, known: known.clone() };
        let mut lines = [entry(&shown, &view(Form::Line), false), entry(&shown, &view(Form::Full), true)].concat();
        for form in [Form::Line, Form::Full] {
            lines.extend(quarantined(1, &item(Held::Item(escape.into())), form, None));
            lines.extend(quarantined(1, &item(Held::Envelope(Box::new(envelope.clone()))), form, None));
        }
        assert!(lines.iter().any(|line| line.contains("[2J")), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:#?}");
    }
}

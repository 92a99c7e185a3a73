//! Entries for a person's eyes. Everything that a peer wrote is shown without control characters.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use uuid::Uuid;

use super::question::{Form, Seen};
use super::way::{Known, long, short, way};
use crate::envelope::{CyCat, Field, Shape};
use crate::store::{Entry, Held, Quarantined};

/// The lines that an entry is. `withdrawn`: its origin has withdrawn it.
pub(super) fn entry(entry: &Entry, form: Form, withdrawn: bool, known: &Known) -> Vec<String> {
    match form {
        Form::Line => vec![one(entry, withdrawn, known)],
        Form::Full => full(entry, withdrawn, known),
        Form::Json(shape) => vec![entry.envelope.write_marked(shape, withdrawn)],
        Form::Sealed => {
            let envelope = BASE64.encode(entry.envelope.bytes());
            let seen = Seen { seq: entry.seq, from: entry.from.clone(), envelope };
            // Plain data: it has no form that fails.
            serde_json::to_string(&seen).into_iter().collect()
        }
    }
}

/// Number, time, id, what, label, way, size; the classification is all that is told of the payload.
fn one(entry: &Entry, withdrawn: bool, known: &Known) -> String {
    let (envelope, header) = (&entry.envelope, entry.envelope.header());
    let hidden = match envelope.hidden() {
        0 => String::new(),
        hidden => format!(", {hidden} hidden"),
    };
    let withdrawn = if withdrawn { ", withdrawn" } else { "" };
    let void = if known.is_void(header) { ", key-revoked" } else { "" };
    let relations: String = relations(entry).map(|(word, id)| format!(", {word} {id}")).collect();
    let kind = envelope.field("classification.type").map_or("-", |value| value.trim_matches('"'));
    let tlp = header.tlp.map_or("-", |tlp| tlp.as_str());
    clean(&format!(
        "{} {} {} {} {} {} {} ({} fields{hidden}{withdrawn}{void}{relations})",
        entry.seq,
        time(entry.at),
        CyCat(header),
        header.kind.as_str(),
        tlp,
        short(&way(entry, known)),
        kind,
        header.n
    ))
}

/// What it says of other events.
fn relations(entry: &Entry) -> impl Iterator<Item = (&'static str, Uuid)> {
    let links = &entry.envelope.header().links;
    let both = [("withdraws", entry.envelope.withdraws()), ("replaces", links.replaces)];
    both.into_iter().filter_map(|(word, id)| Some((word, id?)))
}

fn full(entry: &Entry, withdrawn: bool, known: &Known) -> Vec<String> {
    let way = way(entry, known);
    let (envelope, header) = (&entry.envelope, entry.envelope.header());
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
    if known.is_void(header) {
        lines.push("key-revoked  its key was void by then: it is not delivered, nor given to anybody".into());
    }
    lines.extend(relations(entry).map(|(word, id)| format!("{word:<9} {id}")));
    if !header.to.is_empty() {
        lines.push(format!("to        {}", header.to.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(" ")));
    }
    if !header.tags.is_empty() {
        lines.push(format!("tags      {}", header.tags.join(" ")));
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

/// The lines that an item in quarantine is.
pub(super) fn quarantined(number: u64, item: &Quarantined, form: Form) -> Vec<String> {
    let text = match &item.held {
        Held::Item(item) => String::from_utf8_lossy(item),
        Held::Envelope(envelope) => envelope.write(Shape::Iep04).into(),
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
        let known = Known { me: "cert-ee".parse().unwrap(), origins: Arc::default() };
        let mut lines = [entry(&shown, Form::Line, false, &known), entry(&shown, Form::Full, true, &known)].concat();
        for form in [Form::Line, Form::Full] {
            lines.extend(quarantined(1, &item(Held::Item(escape.into())), form));
            lines.extend(quarantined(1, &item(Held::Envelope(Box::new(envelope.clone()))), form));
        }
        assert!(lines.iter().any(|line| line.contains("[2J")), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:#?}");
    }
}

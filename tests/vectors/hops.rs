//! Attested hops, made anew as the rest is.

use ed25519_dalek::{Signer, SigningKey};

use super::{Cbor, Hash, List, META, Number, Parts, UUID, Vector, bytes, list, plain, proof, root, sha, text, vector};

const TIME: u64 = 1_795_514_460_000;

/// An attestation in its parts, each of which can be spoilt.
#[derive(Clone)]
struct Word {
    from: &'static str,
    name: &'static str,
    /// Whose key signs, and stands there.
    key: SigningKey,
    time: u64,
    domain: &'static [u8],
    others: usize,
    index: usize,
}

fn word(from: &'static str, name: &'static str, key: u8) -> Word {
    Word {
        from,
        name,
        key: SigningKey::from_bytes(&[key; 32]),
        time: TIME,
        domain: b"intelmq-relay/1 hops",
        others: 511,
        index: 300,
    }
}

impl Word {
    fn on(&self, envelope: &Hash) -> Cbor {
        let part = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
        let said = [part(self.from), part(self.name), self.time.to_be_bytes().to_vec()].concat();
        let leaf = sha(&[&[0], b"intelmq-relay/1 hop", envelope, &said]);
        let mut leaves: Vec<Hash> = (0..self.others).map(|other| sha(&[b"noise", &other.to_be_bytes()])).collect();
        leaves.insert(self.index, leaf);
        let count = leaves.len() as u32;
        let signature = self.key.sign(&[self.domain, &root(&leaves), &count.to_be_bytes()].concat()).to_bytes();
        let proof = proof(self.index, &leaves).iter().map(bytes).collect();
        let place = vec![Number(self.index as u64), Number(count.into()), List(proof), bytes(signature)];
        let key = self.key.verifying_key().to_bytes();
        List(vec![text(self.name), bytes(key), Number(self.time), List(place)])
    }

    fn says(&self, holds: bool) -> serde_json::Value {
        let key: String = self.key.verifying_key().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        serde_json::json!({"key": key, "time": self.time, "holds": holds})
    }
}

/// The plain envelope with this path, and how its bytes are.
fn with(parts: &Parts, path: Vec<Cbor>) -> Vec<u8> {
    let mut wire = parts.wire();
    wire[4] = List(path);
    super::encode(wire)
}

fn json(path: &str, hidden: bool) -> String {
    let meta = META.replace("!cert-at", path);
    let (meta, payload) = if hidden {
        (format!(r#"{meta}, "relay:hidden": 2"#), r#"{"source.port": 80, "extra.score": 1.0}"#)
    } else {
        (meta, r#"{"source.ip": "192.0.2.1", "source.port": 80, "extra.score": 1.0, "raw": "eHl6enk="}"#)
    };
    format!(
        r#"{{"format": "intelmq", "version": 1, "type": "event", "meta": {{"uuid": "{UUID}", "tags": [], {meta}}}, "payload": {payload}}}"#
    )
}

pub fn hops() -> Vec<Vector> {
    [good(), false_ones(), malformed()].concat()
}

fn good() -> Vec<Vector> {
    let envelope = plain().leaf();
    let (ee, pl) = (word("cert-at", "cert-ee", 2), word("cert-ee", "cert-pl", 3));
    let two = || vec![text("cert-at"), ee.on(&envelope), pl.on(&envelope)];
    let all = || Some(serde_json::json!([null, ee.says(true), pl.says(true)]));
    let alone = Word { others: 0, index: 0, time: 0, ..ee.clone() };
    let gap = word("cert-ee", "cert-si", 4);
    let ok = |name: &str, parts: &Parts, path: Vec<Cbor>, json: String, hops: Option<serde_json::Value>| Vector {
        json: Some(json),
        hops,
        ..vector(name, with(parts, path), "ok")
    };
    let long = "!cert-at!cert-ee!cert-pl";
    vec![
        ok("hops-attested", &plain(), two(), json(long, false), all()),
        ok("hops-attested-and-fields-hidden", &plain().hide(&[0, 3]), two(), json(long, true), all()),
        ok("hops-attested-in-a-batch-of-5", &plain().batch(2, 5), two(), json(long, false), all()),
        ok(
            "hop-attested-alone-at-time-0",
            &plain(),
            vec![text("cert-at"), alone.on(&envelope)],
            json("!cert-at!cert-ee", false),
            Some(serde_json::json!([null, alone.says(true)])),
        ),
        ok(
            "hop-claimed-between",
            &plain(),
            vec![text("cert-at"), text("cert-ee"), gap.on(&envelope), text("cert-pl")],
            json("!cert-at!cert-ee!cert-si!cert-pl", false),
            Some(serde_json::json!([null, null, gap.says(true), null])),
        ),
    ]
}

/// Good envelopes all the same, whose hops have not been attested.
fn false_ones() -> Vec<Vector> {
    let envelope = plain().leaf();
    let good = || word("cert-at", "cert-ee", 2);
    let made = |name: &str, said: Word, path: Cbor| Vector {
        json: Some(json("!cert-at!cert-ee", false)),
        hops: Some(serde_json::json!([null, said.says(false)])),
        ..vector(&format!("hop-false-{name}"), with(&plain(), vec![text("cert-at"), path]), "ok")
    };
    let signed = |name: &str, said: Word| made(name, said.clone(), said.on(&envelope));
    let spoilt = |name: &str, said: Word, spoil: &dyn Fn(&mut Vec<Cbor>)| {
        let mut path = good().on(&envelope);
        spoil(list(&mut path));
        made(name, said, path)
    };
    let mut hash = plain().leaf();
    hash[0] ^= 1;
    let three = SigningKey::from_bytes(&[3; 32]);
    let renamed = |name: &'static str| Word { name, ..good() }.on(&envelope);
    vec![
        made("of-another-envelope", good(), good().on(&hash)),
        signed("from-another-node", Word { from: "cert-pl", ..good() }),
        signed("signed-as-a-seal", Word { domain: b"intelmq-relay/1 seal", ..good() }),
        signed("signed-as-something-else", Word { domain: b"intelmq-relay/1 hop", ..good() }),
        spoilt("name", good(), &|hop| {
            hop.clone_from(&[&[text("cert-ee")], &list(&mut renamed("cert-eu"))[1..]].concat())
        }),
        spoilt("time", Word { time: TIME + 1, ..good() }, &|hop| hop[2] = Number(TIME + 1)),
        spoilt("key", Word { key: three.clone(), ..good() }, &|hop| hop[1] = bytes(three.verifying_key().to_bytes())),
        spoilt("place", good(), &|hop| list(&mut hop[3])[0] = Number(301)),
        spoilt("count", good(), &|hop| list(&mut hop[3])[1] = Number(511)),
        spoilt("proof", good(), &|hop| list(&mut list(&mut hop[3])[2])[4] = bytes([0; 32])),
        spoilt("signature", good(), &|hop| list(&mut hop[3])[3] = bytes([0; 64])),
    ]
}

fn malformed() -> Vec<Vector> {
    let envelope = plain().leaf();
    let good = || word("cert-at", "cert-ee", 2);
    let spoil = |name: &str, expect: &str, spoil: &dyn Fn(&mut Vec<Cbor>)| {
        let mut hop = good().on(&envelope);
        spoil(list(&mut hop));
        vector(&format!("hop-{name}"), with(&plain(), vec![text("cert-at"), hop]), expect)
    };
    let cbor = "not an envelope's CBOR";
    let (place, proof, form) = ("place in its batch is impossible", "proof does not fit its batch", "one form");
    let whole = with(&plain(), vec![text("cert-at"), good().on(&envelope)]);
    let path = List(vec![text("cert-at"), good().on(&envelope)]).encode();
    let before = &whole[..whole.len() - path.len()];
    // A longer head than need be: of the name, of the path, of the entry; and lengths that are not said.
    let longer = |at: usize| [before, &path[..at], &[path[at] & 0xe0 | 24, path[at] & 0x1f], &path[at + 1..]].concat();
    let open =
        |from: usize, to: usize| [before, &path[..from], &[0x9f], &path[from + 1..to], &[0xff], &path[to..]].concat();
    let entry = 1 + 8;
    vec![
        vector("hop-of-the-origin", with(&plain(), vec![word("", "cert-at", 1).on(&envelope)]), "attests by its seal"),
        spoil("of-three", cbor, &|hop| drop(hop.pop())),
        spoil("of-five", cbor, &|hop| hop.push(Cbor::Null)),
        spoil("key-short", cbor, &|hop| hop[1] = bytes([0; 31])),
        spoil("time-a-text", cbor, &|hop| hop[2] = text("1")),
        spoil("name-illegal", "no node name", &|hop| hop[0] = text("CERT")),
        spoil("count-0", place, &|hop| list(&mut hop[3])[1] = Number(0)),
        spoil("count-1025", place, &|hop| list(&mut hop[3])[1] = Number(1025)),
        spoil("index-is-count", place, &|hop| list(&mut hop[3])[0] = Number(512)),
        spoil("proof-short", proof, &|hop| drop(list(&mut list(&mut hop[3])[2]).pop())),
        spoil("proof-long", proof, &|hop| list(&mut list(&mut hop[3])[2]).push(bytes([0; 32]))),
        spoil("signature-short", "a signature has 64 bytes", &|hop| list(&mut hop[3])[3] = bytes([0; 63])),
        vector("hop-path-with-a-long-head", longer(0), form),
        vector("hop-name-with-a-long-head", longer(1), form),
        vector("hop-with-a-long-head", longer(entry), form),
        vector("hop-path-of-unsaid-length", open(0, path.len()), form),
        vector("hop-of-unsaid-length", open(entry, path.len()), form),
    ]
}

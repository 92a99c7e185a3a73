//! Secrecy: what is to be encrypted before it is sealed, and to whom.
//!
//! Owns that an event for recipients whose keys are not known is held back, never sent in the clear.

use super::ingest::Sealer;
use crate::accept::Gate;
use crate::envelope::{Draft, EncryptionKey, Header, Malformed, Name, encrypt, seal};

/// The keys of its recipients; a stranger's is none. Our own is not in anybody's list.
fn keys(gate: &Gate, sealer: &Sealer, header: &Header) -> Vec<Option<EncryptionKey>> {
    let origins = &gate.rules().origins;
    let key = |name: &Name| {
        if *name == sealer.name { Some(sealer.encryption) } else { origins.encryption(name, header.time) }
    };
    header.to.iter().map(key).collect()
}

/// An event for its recipients' eyes, ready to be sealed; or why there is none, for a person.
pub(super) fn secret(
    gate: &Gate,
    sealer: &Sealer,
    mut header: Header,
    fields: &[(String, String)],
) -> Result<Draft, String> {
    header.to.sort_unstable();
    header.to.dedup();
    denied(gate, sealer, &header, fields)?;
    let keys = keys(gate, sealer, &header);
    let strangers = header.to.iter().zip(&keys).filter(|(_, key)| key.is_none()).map(|(name, _)| name.as_str());
    let strangers: Vec<&str> = strangers.collect();
    if !strangers.is_empty() {
        return Err(format!(
            "it is to be encrypted to its recipients, and this node has no encryption key of {} that holds: write as `encryption` \
             into its [[peer]] or [[origin]] what `intelmq-relay id` prints there (or have it put into the roster), reload, \
             and retry; or correct `to`",
            strangers.join(" and ")
        ));
    }
    draft(gate, sealer, header, fields, &keys).map_err(|error| format!("encrypted to its recipients, {error}"))
}

/// Rules about fields are asked now or never: whether they keep it from a peer that it names.
fn denied(gate: &Gate, sealer: &Sealer, header: &Header, fields: &[(String, String)]) -> Result<(), String> {
    let rules = gate.rules();
    let named: Vec<_> = header.to.iter().filter_map(|name| Some((name, rules.terms.get(name)?))).collect();
    if named.is_empty() {
        return Ok(());
    }
    let draft = Draft::new(header.clone(), fields.to_vec(), &rules.bounds).map_err(|error| error.to_string())?;
    // As rules see events. It is shown to nobody, and forgotten.
    let open = seal(&sealer.secret, vec![draft], &mut rand::rng());
    for (name, terms) in named {
        if let Some(rule) = open.iter().find_map(|open| rules.policy.keeps(open, terms)) {
            return Err(format!(
                "it names {name}, and the rule {rule} (line {}) keeps it from {name}: correct `to`, or the rule; once it is \
                 encrypted, rules do not see into it",
                rule.line
            ));
        }
    }
    Ok(())
}

/// The withdrawal of an event that was encrypted, as that one was. Whose key is not known any more learns that it is
/// withdrawn, and not why.
pub(super) fn withdrawal(
    gate: &Gate,
    sealer: &Sealer,
    header: Header,
    fields: &[(String, String)],
) -> Result<Draft, Malformed> {
    let keys = keys(gate, sealer, &header);
    draft(gate, sealer, header, fields, &keys)
}

fn draft(
    gate: &Gate,
    sealer: &Sealer,
    header: Header,
    fields: &[(String, String)],
    keys: &[Option<EncryptionKey>],
) -> Result<Draft, Malformed> {
    let header = Header { key: sealer.secret.key(), ..header };
    let bounds = &gate.rules().bounds;
    let (header, fields) = encrypt(header, fields, keys, bounds, &mut rand::rng())?;
    Draft::new(header, fields, bounds)
}

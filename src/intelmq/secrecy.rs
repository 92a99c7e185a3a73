//! Secrecy: what is to be encrypted before it is sealed, and to whom.
//!
//! Owns that an event for recipients whose keys are not known is held back, never sent in the clear.

use super::ingest::Sealer;
use crate::accept::Gate;
use crate::envelope::{Draft, EncryptionKey, Header, Malformed, Name, encrypt};

/// The keys of these recipients; a stranger's is none. Our own is not in anybody's list.
fn keys(gate: &Gate, sealer: &Sealer, to: &[Name]) -> Vec<Option<EncryptionKey>> {
    let origins = &gate.rules().origins;
    let key = |name: &Name| if *name == sealer.name { Some(sealer.encryption) } else { origins.encryption(name) };
    to.iter().map(key).collect()
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
    let keys = keys(gate, sealer, &header.to);
    let strangers = header.to.iter().zip(&keys).filter(|(_, key)| key.is_none()).map(|(name, _)| name.as_str());
    let strangers: Vec<&str> = strangers.collect();
    if !strangers.is_empty() {
        return Err(format!(
            "it is to be encrypted to its recipients, and this node has no encryption key of {}: write as `encryption` \
             into its [[peer]] or [[origin]] what `intelmq-relay id` prints there (or have it put into the roster), reload, \
             and retry; or correct `to`",
            strangers.join(" and ")
        ));
    }
    draft(gate, sealer, header, fields, &keys).map_err(|error| format!("encrypted to its recipients, {error}"))
}

/// The withdrawal of an event that was encrypted, as that one was. Whose key is not known any more learns that it is
/// withdrawn, and not why.
pub(super) fn withdrawal(
    gate: &Gate,
    sealer: &Sealer,
    header: Header,
    fields: &[(String, String)],
) -> Result<Draft, Malformed> {
    let keys = keys(gate, sealer, &header.to);
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

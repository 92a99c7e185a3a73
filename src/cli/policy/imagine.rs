//! Envelopes that lines of a file would be, for dry runs. Nobody sees their seals.

use uuid::Uuid;

use crate::cli::CliError;
use crate::config::Config;
use crate::envelope::{Bounds, Draft, Envelope, Header, Message, Name, Sealed, Secret, encrypt, seal};
use crate::net::now;
use crate::policy::{Policy, Prepared, PseudonymKey, Sealing, Terms};

/// How lines become envelopes.
pub(super) struct Imagination<'a> {
    config: &'a Config,
    bounds: Bounds,
    /// The peer that would bring them; `None`: they are our own.
    from: Option<&'a Name>,
    /// What the door does that they would come in by.
    sealing: Option<Sealing>,
}

impl<'a> Imagination<'a> {
    /// As if they came from this peer, or by this door.
    pub(super) fn new(
        config: &'a Config,
        from: Option<&'a Name>,
        door: Option<&Name>,
    ) -> Result<Imagination<'a>, CliError> {
        if let Some(from) = from.filter(|from| !config.peers.iter().any(|peer| peer.name == **from)) {
            return Err(CliError::Usage {
                what: format!("{from} is no peer"),
                remedy: "give the name of a peer; without --from, the events are your own".into(),
            });
        }
        let sealing = door.map(|door| sealing(config, door)).transpose()?;
        let limits = &config.limits;
        let bounds = Bounds { bytes: limits.envelope_bytes, fields: limits.fields, path: limits.path };
        Ok(Imagination { config, bounds, from, sealing })
    }

    /// The envelope that a line would be, or why it would be none.
    pub(super) fn envelope(&self, line: &[u8]) -> Result<Envelope, String> {
        let us = &self.config.node.name;
        let mut message = Message::read(line).map_err(|error| error.to_string())?;
        message.flatten(&self.bounds).map_err(|error| error.to_string())?;
        let origin = match self.from {
            Some(from) => message.origin.clone().unwrap_or_else(|| from.clone()),
            None => us.clone(),
        };
        let default_tlp = self.config.policy.default_tlp;
        let Prepared { message, hide, content, encrypt: is_secret, .. } = match &self.sealing {
            Some(sealing) => sealing.prepare(message, default_tlp).map_err(|unsealable| unsealable.to_string())?,
            None => Prepared { message, hide: Vec::new(), content: None, encrypt: false, rules: Vec::new() },
        };
        let mut header = message.header(&origin, Uuid::new_v4(), now());
        header.content = content;
        let fields = if is_secret { self.encrypted(&mut header, &message.fields)? } else { message.fields };
        let sealed = self.sealed(header, fields)?.hide(|field| hide.iter().any(|hidden| hidden == field));
        let hops = self.from.into_iter().filter(|from| **from != origin).chain(self.from.map(|_| us));
        Ok(hops.fold((*sealed).clone(), |envelope, hop| envelope.with_hop(hop)))
    }

    /// The one field that it would have; or why it would be held back.
    fn encrypted(&self, header: &mut Header, fields: &[(String, String)]) -> Result<Vec<(String, String)>, String> {
        let Config { node, peers, origins, roster, rules, .. } = self.config;
        let has_key = |name: &&Name| {
            let peer = peers.iter().any(|peer| peer.name == **name && peer.encryption.is_some());
            peer || **name == node.name || origins.iter().any(|one| one.name == **name && one.encryption.is_some())
        };
        // What the roster has, only the node knows.
        if let Some(stranger) = header.to.iter().find(|name| roster.is_none() && !has_key(name)) {
            return Err(format!("it would be held back: there is no encryption key of {stranger}"));
        }
        let open = self.sealed(header.clone(), fields.to_vec())?;
        for peer in peers.iter().filter(|peer| header.to.contains(&peer.name)) {
            if let Some(rule) = Policy::new(self.config).keeps(&open, &Terms::new(peer, rules)) {
                return Err(format!(
                    "it would be held back: it names {}, and the rule {rule} keeps it from there",
                    peer.name
                ));
            }
        }
        // Nobody reads it, so there need be no key: that it is encrypted is what policy goes by.
        let keys = vec![None; header.to.len()];
        let encrypted = encrypt(header.clone(), fields, &keys, &self.bounds, &mut rand::rng());
        let (closed, fields) = encrypted.map_err(|error| error.to_string())?;
        *header = closed;
        Ok(fields)
    }

    fn sealed(&self, header: Header, fields: Vec<(String, String)>) -> Result<Sealed, String> {
        let draft = Draft::new(header, fields, &self.bounds).map_err(|error| error.to_string())?;
        Ok(seal(&Secret::from_seed(&rand::random()), vec![draft], &mut rand::rng()).remove(0))
    }
}

fn sealing(config: &Config, door: &Name) -> Result<Sealing, CliError> {
    let Some((_, _, seal)) = config.take.seals().find(|(name, ..)| *name == door) else {
        return Err(CliError::Usage {
            what: format!("there is no door {door} that takes events"),
            remedy: "give the name of a door in [take]".into(),
        });
    };
    // What accounts are replaced by is not shown, so any key will do, and nobody is asked for a passphrase.
    Ok(Sealing::new(door, seal, PseudonymKey::derive(&rand::random())))
}

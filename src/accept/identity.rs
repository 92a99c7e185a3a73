//! What is kept where keys change: the keys of our resume tokens, and the key that each peer was last met with.

use serde_bytes::ByteArray;

use super::Gate;
use crate::envelope::{Key, Name};
use crate::store::{Commit, Cursor, StoreError};

/// Keys of tokens that are kept: a peer that was away for more rotations begins anew.
const TOKENS: usize = 16;

impl Gate {
    /// Remembers the key that tokens are made with now; those from before, the last first.
    pub async fn keep_token_key(&self, now: [u8; 32]) -> Result<Vec<[u8; 32]>, StoreError> {
        let kept = self.store.cursor(&Cursor::Tokens).await?.unwrap_or_default();
        let kept: Vec<ByteArray<32>> = serde_cbor::from_slice(&kept).unwrap_or_default();
        let former: Vec<[u8; 32]> = kept.iter().map(|key| key.into_array()).filter(|key| *key != now).collect();
        if kept.first().is_none_or(|key| key.into_array() != now) {
            let all: Vec<ByteArray<32>> =
                [&now].into_iter().chain(&former).take(TOKENS).map(|key| (*key).into()).collect();
            // Encoding plain data into memory cannot fail.
            let value = serde_cbor::to_vec(&all).expect("keys are plain data");
            self.keep(Cursor::Tokens, value).await?;
        }
        Ok(former)
    }

    /// The key that this peer was last met with, where it had several.
    pub async fn last_met(&self, peer: &Name) -> Result<Option<Key>, StoreError> {
        let kept = self.store.cursor(&Cursor::Identity(peer.clone())).await?;
        Ok(kept.and_then(|bytes| Key::from_bytes(bytes.try_into().ok()?).ok()))
    }

    /// A peer that has several keys was met with this one.
    pub async fn meet(&self, peer: &Name, key: Key) -> Result<(), StoreError> {
        self.keep(Cursor::Identity(peer.clone()), key.as_bytes().to_vec()).await
    }

    /// Without room on the disk, not now: nothing is lost by it that the next time does not bring.
    pub(super) async fn keep(&self, cursor: Cursor, value: Vec<u8>) -> Result<(), StoreError> {
        match self.store.commit(Commit { cursors: vec![(cursor, value)], ..Commit::default() }).await {
            Err(StoreError::Full { .. }) => Ok(()),
            result => result.map(|_| ()),
        }
    }
}

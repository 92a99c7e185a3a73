//! The Merkle tree over a sealed batch, as RFC 6962 §2.1 (SHA-256). Leaves come in hashed.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree with all its levels, for the proofs.
pub struct Tree {
    /// `levels[0]` are the leaves; in each level a last node without a sibling moves up as it is, which gives the
    /// tree of RFC 6962 (a split at the largest power of two).
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// The tree over these leaf hashes, of which there must be at least one.
    pub fn new(leaves: Vec<Hash>) -> Tree {
        assert!(!leaves.is_empty(), "a batch has at least one envelope");
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let up = level.chunks(2).map(|pair| if let [l, r] = pair { node(l, r) } else { pair[0] }).collect();
            levels.push(up);
        }
        Tree { levels }
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.levels[self.levels.len() - 1][0]
    }

    /// The inclusion proof of leaf `index`, from the leaf up.
    pub fn proof(&self, mut index: usize) -> Vec<Hash> {
        let mut proof = Vec::with_capacity(self.levels.len());
        for level in &self.levels[..self.levels.len() - 1] {
            proof.extend(level.get(index ^ 1));
            index /= 2;
        }
        proof
    }
}

/// The root that `proof` leads to from leaf `index` of `count`; `None` when the proof has not the right length.
pub fn root_of(leaf: Hash, index: u32, count: u32, proof: &[Hash]) -> Option<Hash> {
    if index >= count {
        return None;
    }
    let (mut index, mut last, mut hash) = (index, count - 1, leaf);
    let mut proof = proof.iter();
    while last > 0 {
        if index % 2 == 1 {
            hash = node(proof.next()?, &hash);
        } else if index != last {
            hash = node(&hash, proof.next()?);
        }
        index /= 2;
        last /= 2;
    }
    proof.next().is_none().then_some(hash)
}

/// How many hashes the proof of leaf `index` of `count` has.
pub fn proof_length(index: u32, count: u32) -> usize {
    let (mut index, mut last, mut length) = (index, count.saturating_sub(1), 0);
    while last > 0 {
        length += usize::from(index % 2 == 1 || index != last);
        index /= 2;
        last /= 2;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The leaves of the Certificate Transparency reference tests, and their roots.
    #[test]
    fn agrees_with_the_reference_vectors() {
        let data: [&[u8]; 8] = [
            b"",
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let leaves: Vec<Hash> =
            data.iter().map(|d| Sha256::new().chain_update([0]).chain_update(d).finalize().into()).collect();
        let hex = |h: Hash| h.iter().map(|b| format!("{b:02x}")).collect::<String>();
        for (count, root) in [
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ] {
            assert_eq!(hex(Tree::new(leaves[..count].to_vec()).root()), root, "{count} leaves");
        }
    }

    #[test]
    fn every_proof_leads_to_the_root_and_no_other_does() {
        for count in 1..=33u32 {
            let leaves: Vec<Hash> = (0..count).map(|i| Sha256::digest(i.to_be_bytes()).into()).collect();
            let tree = Tree::new(leaves.clone());
            for index in 0..count {
                let leaf = leaves[index as usize];
                let proof = tree.proof(index as usize);
                assert_eq!(proof.len(), proof_length(index, count));
                assert_eq!(root_of(leaf, index, count, &proof), Some(tree.root()));
                assert_ne!(root_of([7; 32], index, count, &proof), Some(tree.root()));
                let mut longer = proof.clone();
                longer.push([0; 32]);
                assert_eq!(root_of(leaf, index, count, &longer), None);
                if let Some((_, shorter)) = proof.split_last() {
                    assert_eq!(root_of(leaf, index, count, shorter), None);
                }
                for other in (0..count).filter(|&other| other != index) {
                    assert_ne!(root_of(leaf, other, count, &proof), Some(tree.root()));
                }
            }
            assert_eq!(root_of(leaves[0], count, count, &[]), None);
        }
        assert_eq!(root_of([0; 32], 0, 0, &[]), None);
    }
}

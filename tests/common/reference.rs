//! Slow and obvious: what the library's results are compared with. Shares no code with it.

use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

pub fn sha256d(bytes: &[u8]) -> Hash {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// Bitcoin's rule, read literally: pair up, an odd last hash with itself, until one is left.
pub fn merkle_root(hashes: &[Hash]) -> Hash {
    if let [only] = hashes {
        return *only;
    }
    let parents: Vec<Hash> =
        hashes.chunks(2).map(|pair| sha256d(&[pair[0], pair[pair.len() - 1]].concat())).collect();
    merkle_root(&parents)
}

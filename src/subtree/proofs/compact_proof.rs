//! A proof of several leaves of one tree, without the hashes that follow from others.
//!
//! The places of the leaves are known, so at each level it is known which siblings are known too.
//! What is left goes from left to right, level by level from the leaves up. docs/format.md has the
//! bytes.

use crate::error::{Error, Result};
use crate::hash::sha256d_pair;
use crate::subtree::nodes::plain_array::reserved_vec;
use crate::subtree::tree::levels::MerkleLevels;
use crate::types::Hash;

const WHAT: &str = "compact proof";
const MAGIC: [u8; 8] = *b"BTPROOFS";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 40;
const CRC_BYTES: usize = 4;

/// See the module's text. [`MerkleLevels::compact_proof`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactProof {
    tree_leaves: u64,
    /// Ascending, each once.
    leaves: Vec<(u64, Hash)>,
    siblings: Vec<Hash>,
}

/// Where a sibling comes from.
enum Sibling {
    /// The next one of those that are proved together.
    Next,
    /// The odd last hash of a level is its own.
    Own,
    /// It has to be told.
    Told,
}

/// The sibling of the hash at `place` of a level of `width`, of which the next known one is at
/// `next`.
fn sibling(place: u64, next: Option<u64>, width: u64) -> Sibling {
    if next == Some(place + 1) && place.is_multiple_of(2) {
        Sibling::Next
    } else if place.is_multiple_of(2) && place + 1 == width {
        Sibling::Own
    } else {
        Sibling::Told
    }
}

impl MerkleLevels {
    /// The proof of several leaves together; of one that is given twice only once.
    ///
    /// ```
    /// use blocktier::subtree::{CompactProof, MerkleLevels};
    /// let leaves = [[1u8; 32], [2; 32], [3; 32], [4; 32], [5; 32]];
    /// let levels = MerkleLevels::heap(&leaves[..])?;
    /// let proof = levels.compact_proof(&[2, 3])?;
    /// assert_eq!(proof.siblings().len(), 2, "instead of 3 + 3");
    /// let read = CompactProof::from_bytes(&proof.to_bytes()?)?;
    /// assert!(read.verify(&levels.root(), 5)?);
    /// # Ok::<(), blocktier::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an index past the last leaf, or for no index,
    /// [`Error::OutOfMemory`].
    pub fn compact_proof(&self, indexes: &[usize]) -> Result<CompactProof> {
        if indexes.is_empty() {
            return Err(Error::InvalidArgument("a proof of no leaf proves nothing".into()));
        }
        let mut places = reserved_vec(WHAT, indexes.len())?;
        for &index in indexes {
            self.check_index(index)?;
            places.push(index as u64);
        }
        places.sort_unstable();
        places.dedup();
        let mut leaves = reserved_vec(WHAT, places.len())?;
        leaves.extend(places.iter().map(|&place| (place, self.leaves()[place as usize])));
        let most = places.len().saturating_mul(self.height() as usize);
        let mut siblings = reserved_vec(WHAT, most)?;
        let mut level = self.lowest();
        while level.width > 1 {
            let mut known = places.iter().copied().peekable();
            while let Some(place) = known.next() {
                match sibling(place, known.peek().copied(), level.width as u64) {
                    Sibling::Next => drop(known.next()),
                    Sibling::Own => {}
                    Sibling::Told => {
                        siblings.push(self.hashes[level.start + (place ^ 1) as usize]);
                    }
                }
            }
            places.iter_mut().for_each(|place| *place /= 2);
            places.dedup();
            level = level.above();
        }
        Ok(CompactProof { tree_leaves: self.len() as u64, leaves, siblings })
    }
}

impl CompactProof {
    /// Leaves of the whole tree, as the proof claims.
    #[must_use]
    pub const fn tree_leaves(&self) -> u64 {
        self.tree_leaves
    }

    /// The leaves that are proved: numbers, ascending, and hashes.
    #[must_use]
    pub fn leaves(&self) -> &[(u64, Hash)] {
        &self.leaves
    }

    /// What has to be told beside them.
    #[must_use]
    pub fn siblings(&self) -> &[Hash] {
        &self.siblings
    }

    /// The root that the proof leads to.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with too few or too many siblings, [`Error::OutOfMemory`].
    pub fn root(&self) -> Result<Hash> {
        let mut known: Vec<(u64, Hash)> = reserved_vec(WHAT, self.leaves.len())?;
        known.extend_from_slice(&self.leaves);
        let (mut width, mut told) = (self.tree_leaves, self.siblings.iter());
        let wrong = |what| Error::InvalidArgument(format!("a compact proof has too {what}"));
        while width > 1 {
            let (mut read, mut written) = (0, 0);
            while let Some(&(place, hash)) = known.get(read) {
                let next = known.get(read + 1).copied();
                read += 1;
                let other = match sibling(place, next.map(|(place, _)| place), width) {
                    Sibling::Next => {
                        read += 1;
                        next.map_or(hash, |(_, hash)| hash)
                    }
                    Sibling::Own => hash,
                    Sibling::Told => *told.next().ok_or_else(|| wrong("few hashes"))?,
                };
                let parent = match place % 2 {
                    0 => sha256d_pair(&hash, &other),
                    _ => sha256d_pair(&other, &hash),
                };
                known[written] = (place / 2, parent);
                written += 1;
            }
            known.truncate(written);
            width = width.div_ceil(2);
        }
        match (told.next(), known.first()) {
            (None, Some((_, root))) => Ok(*root),
            _ => Err(wrong("many hashes")),
        }
    }

    /// Whether the leaves are in the tree of `tree_leaves` leaves with this root. The number has to
    /// come from whom the root comes from.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn verify(&self, root: &Hash, tree_leaves: u64) -> Result<bool> {
        match self.root() {
            Ok(found) => Ok(found == *root && tree_leaves == self.tree_leaves),
            Err(Error::InvalidArgument(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The bytes, as docs/format.md has them.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let most = self.leaves.len().saturating_mul(40) + self.siblings.len().saturating_mul(32);
        let mut bytes = reserved_vec(WHAT, most.saturating_add(HEAD_BYTES + CRC_BYTES))?;
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.tree_leaves.to_le_bytes());
        bytes.extend_from_slice(&(self.leaves.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.siblings.len() as u64).to_le_bytes());
        for (index, _) in &self.leaves {
            bytes.extend_from_slice(&index.to_le_bytes());
        }
        let hashes = self.leaves.iter().map(|(_, hash)| hash).chain(&self.siblings);
        hashes.for_each(|hash| bytes.extend_from_slice(hash));
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. What it proves is for
    /// [`verify`](Self::verify) to say.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with the reason for any other bytes, [`Error::OutOfMemory`];
    /// nothing is allocated beyond the length of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let wrong = |reason: &str| Error::InvalidArgument(format!("not a compact proof: {reason}"));
        let head = bytes.first_chunk::<HEAD_BYTES>().ok_or_else(|| wrong("too short"))?;
        let word = |at: usize| {
            let word = head[at..].first_chunk().copied();
            u64::from_le_bytes(word.unwrap_or_default())
        };
        if head[..8] != MAGIC {
            return Err(wrong("it begins with other bytes"));
        }
        if word(8) != u64::from(VERSION) {
            return Err(wrong("of another version"));
        }
        let (tree_leaves, count, told) = (word(16), word(24), word(32));
        let body = (count.checked_mul(40)).zip(told.checked_mul(32));
        let body = body.and_then(|(leaves, told)| leaves.checked_add(told));
        let expected = body.and_then(|body| body.checked_add((HEAD_BYTES + CRC_BYTES) as u64));
        if expected != Some(bytes.len() as u64) {
            return Err(wrong("its counts and its length differ"));
        }
        let (checked, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
        if crc32c::crc32c(checked).to_le_bytes() != crc {
            return Err(wrong("its checksum differs"));
        }
        // As many as there are bytes for.
        let (count, rest) = (count as usize, &checked[HEAD_BYTES..]);
        let (numbers, hashes) = rest.split_at(count * 8);
        let (numbers, hashes) = (numbers.as_chunks::<8>().0, hashes.as_chunks::<32>().0);
        let numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        if !numbers.clone().is_sorted_by(|a, b| a < b) {
            return Err(wrong("its leaves are not in order"));
        }
        if numbers.clone().next_back().is_none_or(|last| last >= tree_leaves) {
            return Err(wrong("without a leaf, or with one past the last"));
        }
        let mut leaves = reserved_vec(WHAT, count)?;
        leaves.extend(numbers.zip(hashes.iter().copied()));
        let mut siblings = reserved_vec(WHAT, hashes.len() - count)?;
        siblings.extend_from_slice(&hashes[count..]);
        Ok(Self { tree_leaves, leaves, siblings })
    }
}

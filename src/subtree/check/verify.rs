//! Checking a subtree's content: root, sums, and the rules that its leaves and conflicting hashes
//! keep.
//!
//! The order is fixed, so that a file with several faults always gives the same first error: root,
//! fee sum, size sum, placeholder, zero hashes, duplicate leaves, conflicting hashes. Memory: one
//! hash per 512 leaves for the root, 8 to 40 bytes per leaf for duplicates and conflicting hashes.

use std::ops::Range;

use rayon::prelude::*;

use super::duplicates::Repetitions;
use crate::error::Result;
use crate::subtree::formats::codec::{SubtreeFormat, SubtreeView};
use crate::subtree::formats::format_error::{FormatError, FormatKind};
use crate::subtree::formats::reader::Subtree;
use crate::subtree::formats::sums::{fee_sum, size_sum};
use crate::subtree::nodes::node::{COINBASE_PLACEHOLDER, fee_of, hash_of, size_of_transaction};
use crate::subtree::tree::leaves::{LeafBytes, Leaves};
use crate::subtree::tree::merkle;
use crate::types::{Hash, display_hex};

/// From so many leaves on the work is shared by all processors.
const PARALLEL_LEAVES: usize = 1 << 15;

/// Which checks to make. Subtrees from others deserve [`Verify::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each check is chosen by itself")]
pub struct Verify {
    /// Recompute the root and compare it with the stored one (a hash list stores none).
    pub root: bool,
    /// Recompute the root and compare it with this one: the one a block lists, or a file is named
    /// after.
    pub expected_root: Option<Hash>,
    /// Recompute the sums of fees and sizes and compare them with the stored ones.
    pub sums: bool,
    /// The coinbase placeholder stands first or nowhere, with fee and size 0.
    pub placeholder: bool,
    /// No leaf is all zero.
    pub zero_hashes: bool,
    /// No two leaves are equal.
    pub duplicates: bool,
    /// Each conflicting hash is a leaf, and none is listed twice.
    pub conflicting: bool,
}

impl Verify {
    /// Every check.
    pub const ALL: Self = Self {
        root: true,
        expected_root: None,
        sums: true,
        placeholder: true,
        zero_hashes: true,
        duplicates: true,
        conflicting: true,
    };

    /// Root and sums only: that the bytes are those that were written.
    pub const INTEGRITY: Self = Self {
        placeholder: false,
        zero_hashes: false,
        duplicates: false,
        conflicting: false,
        ..Self::ALL
    };

    /// No check.
    pub const NONE: Self = Self { root: false, sums: false, ..Self::INTEGRITY };
}

impl SubtreeView<'_> {
    /// Makes the checks of `options` and returns the root if it was computed.
    ///
    /// # Errors
    ///
    /// [`Error::Format`](crate::Error::Format) with the first rule that is broken, where, and by
    /// what; [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn verify(&self, options: &Verify) -> Result<Option<Hash>> {
        let mut computed = None;
        if options.root || options.expected_root.is_some() {
            let root = merkle::root(&self.leaves)?;
            let stored = if options.root { self.header.root } else { None };
            check_root("stored", stored, &root)?;
            check_root("expected", options.expected_root, &root)?;
            computed = Some(root);
        }
        if options.sums || options.placeholder || options.zero_hashes {
            self.check_each_leaf(options)?;
        }
        if options.duplicates || (options.conflicting && !self.conflicting.is_empty()) {
            self.check_repetitions(options)?;
        }
        Ok(computed)
    }

    fn check_each_leaf(&self, options: &Verify) -> Result<(), FormatError> {
        let scan = Scan::of(&self.leaves);
        if let (true, LeafBytes::Nodes(nodes)) = (options.sums, self.leaves) {
            let fees = scan.fees.map_or_else(|| fee_sum(nodes), Ok)?;
            check_sum(FormatKind::FeeSumMismatch, "fees", self.header.fees, fees)?;
            let size = scan.size.map_or_else(|| size_sum(nodes), Ok)?;
            check_sum(FormatKind::SizeSumMismatch, "sizes", self.header.size_in_bytes, size)?;
        }
        if options.placeholder {
            self.check_placeholder(scan.placeholder)?;
        }
        match scan.zero {
            Some(index) if options.zero_hashes => {
                Err(broken(FormatKind::ZeroHash, format!("leaf {index} is all zero")))
            }
            _ => Ok(()),
        }
    }

    fn check_placeholder(&self, misplaced: Option<usize>) -> Result<(), FormatError> {
        if let Some(index) = misplaced {
            let detail = format!("the coinbase placeholder is leaf {index}, not leaf 0");
            return Err(broken(FormatKind::PlaceholderMisplaced, detail));
        }
        let LeafBytes::Nodes([first, ..]) = self.leaves else { return Ok(()) };
        let (fee, size) = (fee_of(first), size_of_transaction(first));
        if *self.leaves.leaf(0) == COINBASE_PLACEHOLDER && (fee, size) != (0, 0) {
            let detail = format!("the coinbase placeholder has fee {fee} and size {size}");
            return Err(broken(FormatKind::PlaceholderNotZero, detail));
        }
        Ok(())
    }

    fn check_repetitions(&self, options: &Verify) -> Result<()> {
        let listed = if options.conflicting { self.conflicting } else { &[] };
        let found = Repetitions::find(&self.leaves, listed)?;
        if options.duplicates
            && let Some((index, earlier)) = found.leaf
        {
            let hash = display_hex(self.leaves.leaf(index));
            let detail = format!("leaf {index} repeats leaf {earlier} ({hash})");
            return Err(broken(FormatKind::DuplicateLeaf, detail).into());
        }
        if let Some(index) = found.missing {
            let hash = display_hex(&self.conflicting[index]);
            let detail = format!("conflicting hash {index} is no leaf ({hash})");
            return Err(broken(FormatKind::ConflictNotALeaf, detail).into());
        }
        if let Some((index, earlier)) = found.listed {
            let detail = format!("conflicting hash {index} repeats number {earlier}");
            return Err(broken(FormatKind::ConflictDuplicate, detail).into());
        }
        Ok(())
    }
}

impl Subtree {
    /// Makes the checks of `options`, see [`SubtreeView::verify`].
    ///
    /// # Errors
    ///
    /// As [`SubtreeView::verify`].
    pub fn verify(&mut self, options: &Verify) -> Result<Option<Hash>> {
        // The nodes of a list have no fees and sizes to add.
        let is_list = self.header().format == SubtreeFormat::HashList;
        let options = Verify { sums: options.sums && !is_list, ..*options };
        let root = self.view().verify(&options)?;
        if options.root && self.header().root.is_some() {
            self.root_was_found_right();
        }
        Ok(root)
    }
}

/// What one look at each leaf gives.
#[derive(Debug, Clone, Copy)]
struct Scan {
    /// The sums, unless they exceed 64 bits.
    fees: Option<u64>,
    size: Option<u64>,
    /// The first placeholder that is not leaf 0.
    placeholder: Option<usize>,
    /// The first leaf that is all zero.
    zero: Option<usize>,
}

impl Scan {
    const NOTHING: Self = Self { fees: Some(0), size: Some(0), placeholder: None, zero: None };

    fn of(leaves: &LeafBytes<'_>) -> Self {
        let count = leaves.count();
        if count < PARALLEL_LEAVES {
            return Self::of_range(leaves, 0..count);
        }
        let chunks = (0..count.div_ceil(PARALLEL_LEAVES)).into_par_iter();
        let scans = chunks.map(|chunk| {
            let start = chunk * PARALLEL_LEAVES;
            Self::of_range(leaves, start..count.min(start + PARALLEL_LEAVES))
        });
        scans.reduce(|| Self::NOTHING, Self::then)
    }

    fn of_range(leaves: &LeafBytes<'_>, range: Range<usize>) -> Self {
        let mut scan = Self::NOTHING;
        match leaves {
            LeafBytes::Nodes(nodes) => {
                let (mut fees, mut size) = (0u128, 0u128);
                for (index, node) in range.clone().zip(&nodes[range]) {
                    fees += u128::from(fee_of(node));
                    size += u128::from(size_of_transaction(node));
                    scan.look_at(index, hash_of(node));
                }
                (scan.fees, scan.size) = (u64::try_from(fees).ok(), u64::try_from(size).ok());
            }
            LeafBytes::Hashes(hashes) => {
                range
                    .clone()
                    .zip(&hashes[range])
                    .for_each(|(index, hash)| scan.look_at(index, hash));
            }
        }
        scan
    }

    #[inline]
    fn look_at(&mut self, index: usize, hash: &Hash) {
        // Most hashes are neither, which their first bytes say.
        if !matches!(hash[0], 0 | 0xff) {
            return;
        }
        if *hash == [0; 32] {
            self.zero.get_or_insert(index);
        } else if index > 0 && *hash == COINBASE_PLACEHOLDER {
            self.placeholder.get_or_insert(index);
        }
    }

    /// Both, of which the other has the later leaves.
    fn then(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| a?.checked_add(b?);
        Self {
            fees: sum(self.fees, other.fees),
            size: sum(self.size, other.size),
            placeholder: self.placeholder.or(other.placeholder),
            zero: self.zero.or(other.zero),
        }
    }
}

fn broken(kind: FormatKind, detail: String) -> FormatError {
    FormatError::new(kind, detail)
}

fn check_root(which: &str, wanted: Option<Hash>, root: &Hash) -> Result<(), FormatError> {
    match wanted {
        Some(wanted) if wanted != *root => {
            let (wanted, root) = (display_hex(&wanted), display_hex(root));
            let detail = format!("the {which} root is {wanted}, that of the leaves {root}");
            Err(broken(FormatKind::RootMismatch, detail))
        }
        _ => Ok(()),
    }
}

fn check_sum(kind: FormatKind, what: &str, stored: u64, sum: u64) -> Result<(), FormatError> {
    if stored == sum {
        return Ok(());
    }
    Err(broken(kind, format!("the stored sum of {what} is {stored}, that of the nodes {sum}")))
}

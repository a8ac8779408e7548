//! Kept levels that change, and proofs of many leaves, through the C ABI.
#![expect(unsafe_code, reason = "calls the C ABI as a C program would")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

#[path = "common/reference.rs"]
mod reference;

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use blocktier::Hash;
use blocktier::ffi::blocktier_status_t as Status;
use blocktier::ffi::*;

const OK: Status = Status::BLOCKTIER_OK;
const INVALID: Status = Status::BLOCKTIER_INVALID_ARGUMENT;

struct Levels {
    runtime: *mut blocktier_runtime_t,
    handle: *mut blocktier_merkle_levels_t,
}

impl Levels {
    fn new(leaves: &[Hash], capacity: u64, directory: &str) -> Self {
        let (mut runtime, mut handle) = (null_mut(), null_mut());
        // SAFETY: live locals, and lengths that are theirs.
        unsafe {
            assert_eq!(blocktier_runtime_open(null(), 0, &raw mut runtime, null_mut()), OK);
            let status = blocktier_merkle_levels_with_capacity(
                runtime,
                leaves.as_ptr().cast(),
                leaves.len(),
                32,
                capacity,
                directory.as_ptr().cast(),
                directory.len(),
                &raw mut handle,
                null_mut(),
            );
            assert_eq!(status, OK);
        }
        Self { runtime, handle }
    }

    fn append(&self, leaves: *const c_void, count: usize, stride: usize) -> Status {
        // SAFETY: a live handle; each caller's leaves are live and as many.
        unsafe { blocktier_merkle_levels_append(self.handle, leaves, count, stride, null_mut()) }
    }

    fn set(&self, indexes: &[u64], hashes: &[Hash]) -> Status {
        let hashes = hashes.as_ptr().cast();
        let (first, count) = (indexes.as_ptr(), indexes.len());
        // SAFETY: a live handle, and slices of one length.
        unsafe { blocktier_merkle_levels_set_leaves(self.handle, first, hashes, count, null_mut()) }
    }

    fn remove(&self, index: u64) -> Status {
        // SAFETY: a live handle.
        unsafe { blocktier_merkle_levels_remove(self.handle, index, null_mut()) }
    }

    fn is_current(&self, leaves: &[Hash]) -> Status {
        let first = leaves.as_ptr().cast();
        // SAFETY: a live handle, and a slice of that length.
        unsafe {
            blocktier_merkle_levels_check_current(self.handle, first, leaves.len(), 32, null_mut())
        }
    }

    fn check(&self, expected: &[Hash]) {
        let mut root = [0; 32];
        // SAFETY: a live handle and 32 bytes.
        let status =
            unsafe { blocktier_merkle_levels_root(self.handle, root.as_mut_ptr(), null_mut()) };
        assert_eq!((status, root), (OK, reference::merkle_root(expected)));
        assert_eq!(self.is_current(expected), OK);
        let indexes: Vec<u64> = (0..expected.len() as u64).rev().collect();
        let (status, proofs, height) = self.proofs(&indexes, expected.len() * 5);
        assert_eq!(status, OK);
        for (number, index) in indexes.iter().enumerate() {
            let proof = &proofs[number * height..(number + 1) * height];
            let folded = blocktier::subtree::fold_proof(&expected[*index as usize], *index, proof);
            assert_eq!(folded.unwrap(), root);
        }
    }

    fn proofs(&self, indexes: &[u64], capacity: usize) -> (Status, Vec<Hash>, usize) {
        let (mut siblings, mut height) = (vec![[0xee; 32]; capacity], 0);
        let out = siblings.as_mut_ptr().cast();
        let (first, count) = (indexes.as_ptr(), indexes.len());
        // SAFETY: a live handle, a slice and memory of the lengths given.
        let status = unsafe {
            blocktier_merkle_levels_proofs(
                self.handle,
                first,
                count,
                out,
                capacity,
                &raw mut height,
                null_mut(),
            )
        };
        (status, siblings, height)
    }
}

impl Drop for Levels {
    fn drop(&mut self) {
        // SAFETY: live handles, freed once.
        unsafe {
            assert_eq!(blocktier_merkle_levels_free(self.handle, null_mut()), OK);
            assert_eq!(blocktier_runtime_close(self.runtime, null_mut()), OK);
        }
    }
}

fn leaves(range: std::ops::Range<u64>) -> Vec<Hash> {
    range.map(|number| reference::sha256d(&number.to_le_bytes())).collect()
}

#[test]
fn changes_reach_the_levels_and_refused_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    for directory in ["", dir.path().to_str().unwrap()] {
        let mut expected = leaves(0..20);
        let levels = Levels::new(&expected[..11], 20, directory);
        assert_eq!(levels.append(expected[11..].as_ptr().cast(), 9, 32), OK);
        levels.check(&expected);
        assert_eq!(levels.append(expected.as_ptr().cast(), 1, 32), INVALID, "no room");
        assert_eq!(levels.append(expected.as_ptr().cast(), 1, 40), INVALID, "a stride");
        assert_eq!(levels.set(&[3, 19, 3], &leaves(100..103)), OK);
        (expected[3], expected[19]) = (leaves(102..103)[0], leaves(101..102)[0]);
        levels.check(&expected);
        assert_eq!(levels.set(&[0, 20], &leaves(0..2)), INVALID);
        assert_eq!(levels.remove(20), INVALID);
        assert_eq!(levels.remove(4), OK);
        expected.remove(4);
        levels.check(&expected);
        assert_eq!(levels.is_current(&expected[..18]), INVALID);
        expected[18][0] ^= 1;
        assert_eq!(levels.is_current(&expected), INVALID);
        let nodes = [[u64::from_le_bytes([7; 8]); 6]; 1];
        assert_eq!(levels.append(nodes.as_ptr().cast(), 1, 48), OK);
        expected[18][0] ^= 1;
        expected.push([7; 32]);
        levels.check(&expected);
    }
}

#[test]
fn proofs_say_how_much_room_they_need_and_copy_all_or_nothing() {
    let levels = Levels::new(&leaves(0..9), 9, "");
    let untouched = |proofs: &[Hash]| proofs.iter().all(|hash| *hash == [0xee; 32]);
    let (status, proofs, height) = levels.proofs(&[0, 8], 7);
    assert_eq!((status, height), (Status::BLOCKTIER_BUFFER_TOO_SMALL, 4));
    assert!(untouched(&proofs));
    let (status, proofs, _) = levels.proofs(&[0, 9], 8);
    assert!(status == INVALID && untouched(&proofs));
    assert_eq!(levels.proofs(&[], 0).0, OK);
}

//! Kept levels that change are those of a tree built anew by another implementation, whatever the
//! order of the changes; stale levels and impossible changes are errors that change nothing.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/reference.rs"]
mod reference;

use blocktier::Hash;
use blocktier::storage::{HugePages, MappingOptions};
use blocktier::subtree::{
    CompactProof, LevelsMemory, MerkleLevels, Node, fold_proof, proofs_many, unique_root,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn leaves(range: std::ops::Range<u64>) -> Vec<Hash> {
    range.map(|number| reference::sha256d(&number.to_le_bytes())).collect()
}

#[derive(Debug, Clone)]
enum Change {
    Set(Vec<(prop::sample::Index, u64)>),
    Append(u64, usize),
    Remove(prop::sample::Index),
    Truncate(prop::sample::Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = any::<prop::sample::Index>;
    let change = prop_oneof![
        vec((place(), 0u64..1000), 0..6).prop_map(Change::Set),
        (0u64..1000, 0usize..40).prop_map(|(from, count)| Change::Append(from, count)),
        place().prop_map(Change::Remove),
        place().prop_map(Change::Truncate),
    ];
    vec(change, 1..24)
}

/// Root, leaves and every proof are those of `expected`.
fn check(levels: &MerkleLevels, expected: &[Hash]) {
    let root = reference::merkle_root(expected);
    assert_eq!(levels.root(), root);
    assert_eq!(levels.leaves(), expected);
    levels.check_current(expected).unwrap();
    for (index, leaf) in expected.iter().enumerate() {
        let proof = levels.proof(index).unwrap();
        assert_eq!(fold_proof(leaf, index as u64, &proof).unwrap(), root, "leaf {index}");
    }
}

/// Does the change to the levels and to `leaves`; one that cannot be done changes nothing.
fn apply(levels: &mut MerkleLevels, leaves: &mut Vec<Hash>, change: &Change) {
    match change {
        Change::Set(places) => {
            let set: Vec<(usize, Hash)> = places
                .iter()
                .map(|(place, number)| {
                    (place.index(leaves.len()), self::leaves(*number..*number + 1)[0])
                })
                .collect();
            levels.set_leaves(&set).unwrap();
            for (index, hash) in set {
                leaves[index] = hash;
            }
        }
        Change::Append(from, count) => {
            let more = self::leaves(*from..*from + *count as u64);
            let fits = leaves.len() + count <= levels.capacity();
            assert_eq!(levels.append(&more[..]).is_ok(), fits);
            leaves.extend(more.into_iter().filter(|_| fits));
        }
        Change::Remove(place) => {
            let index = place.index(leaves.len());
            assert_eq!(levels.remove(index).is_ok(), leaves.len() > 1);
            if leaves.len() > 1 {
                leaves.remove(index);
            }
        }
        Change::Truncate(place) => {
            // Rarely to much less.
            let length = leaves.len() - place.index(leaves.len()).min(9);
            levels.truncate(length).unwrap();
            leaves.truncate(length);
        }
    }
}

proptest! {
    #[test]
    fn every_change_gives_the_tree_of_a_rebuild(
        start in 1usize..70,
        room in 0usize..90,
        changes in changes(),
    ) {
        let mut leaves = leaves(0..start as u64);
        let mut levels =
            MerkleLevels::with_capacity(&leaves[..], start + room, LevelsMemory::Heap).unwrap();
        check(&levels, &leaves);
        for change in &changes {
            apply(&mut levels, &mut leaves, change);
            check(&levels, &leaves);
        }
    }
}

/// Large enough for threads, blocks and pages; with room and without.
#[test]
fn large_trees_change_in_every_memory() {
    let all = leaves(0..70_000);
    let dir = tempfile::tempdir().unwrap();
    let options = MappingOptions::default();
    let memories = [
        LevelsMemory::Heap,
        LevelsMemory::Pages(HugePages::Off),
        LevelsMemory::File(dir.path(), &options),
    ];
    for (memory, capacity) in memories.into_iter().zip([70_000, 131_072, 99_999]) {
        let mut expected = all[..20_000].to_vec();
        let mut levels = MerkleLevels::with_capacity(&expected[..], capacity, memory).unwrap();
        assert_eq!(levels.root(), reference::merkle_root(&expected));
        levels.append(&all[20_000..]).unwrap();
        expected.extend(&all[20_000..]);
        assert_eq!(levels.root(), reference::merkle_root(&expected), "appended, {memory:?}");
        levels.remove(12_345).unwrap();
        expected.remove(12_345);
        assert_eq!(levels.root(), reference::merkle_root(&expected), "removed, {memory:?}");
        levels.set_leaf(0, [7; 32]).unwrap();
        expected[0] = [7; 32];
        assert_eq!(levels.root(), reference::merkle_root(&expected), "coinbase, {memory:?}");
        levels.truncate(33_333).unwrap();
        expected.truncate(33_333);
        assert_eq!(levels.root(), reference::merkle_root(&expected), "truncated, {memory:?}");
        levels.check_current(&expected[..]).unwrap();
    }
}

#[test]
fn stale_levels_and_impossible_changes_are_errors_that_change_nothing() {
    let expected = leaves(0..10);
    let mut nodes: Vec<Node> =
        expected.iter().map(|&hash| Node { hash, fee: 1, size: 2 }).collect();
    let mut levels = MerkleLevels::with_capacity(&nodes[..], 12, LevelsMemory::Heap).unwrap();
    levels.check_current(&nodes[..]).unwrap();
    nodes[6].hash[31] ^= 1;
    let error = levels.check_current(&nodes[..]).unwrap_err().to_string();
    assert!(error.contains("leaf 6"), "{error}");
    let error = levels.check_current(&nodes[..9]).unwrap_err().to_string();
    assert!(error.contains("of 10 leaves, not 9"), "{error}");
    assert!(levels.set_leaves(&[(3, [1; 32]), (10, [2; 32])]).is_err());
    assert!(levels.append(&leaves(0..3)[..]).is_err());
    assert!(levels.remove(10).is_err());
    assert!(levels.truncate(0).is_err());
    assert!(levels.truncate(11).is_err());
    check(&levels, &expected);
    let full = MerkleLevels::with_capacity(&expected[..], 9, LevelsMemory::Heap);
    assert!(full.unwrap_err().to_string().contains("room for 9"));
    let huge = MerkleLevels::with_capacity(&expected[..], usize::MAX, LevelsMemory::Heap);
    assert!(huge.is_err());
    let mut one = MerkleLevels::heap(&expected[..1]).unwrap();
    assert!(one.remove(0).unwrap_err().to_string().contains("at least one leaf"));
    check(&one, &expected[..1]);
}

#[test]
fn many_proofs_are_those_one_by_one() {
    for count in [1, 2, 5, 777] {
        let leaves = leaves(0..count);
        let indexes: Vec<usize> = (0..leaves.len()).rev().chain([0]).collect();
        let proofs = proofs_many(&leaves[..], &indexes).unwrap();
        let root = reference::merkle_root(&leaves);
        assert_eq!(proofs.len(), indexes.len());
        for (number, &index) in indexes.iter().enumerate() {
            let proof = proofs.get(number).unwrap();
            assert_eq!((proof.index, proof.leaf), (index as u64, leaves[index]));
            assert!(proof.verify(&root, count), "leaf {index} of {count}");
        }
        assert_eq!(proofs.get(indexes.len()), None);
        let error = proofs_many(&leaves[..], &[0, leaves.len()]).unwrap_err().to_string();
        assert!(error.contains(&format!("leaf {count} of a tree of {count}")), "{error}");
    }
    assert!(proofs_many::<[Hash]>(&[], &[]).is_err(), "no leaves");
    assert!(proofs_many(&leaves(0..3)[..], &[]).unwrap().is_empty());
}

proptest! {
    #[test]
    fn compact_proofs_prove_what_single_ones_do(
        count in 1u64..200,
        places in vec(any::<prop::sample::Index>(), 1..40),
        flip in any::<prop::sample::Index>(),
    ) {
        let leaves = leaves(0..count);
        let levels = MerkleLevels::heap(&leaves[..]).unwrap();
        let mut indexes: Vec<usize> =
            places.iter().map(|place| place.index(leaves.len())).collect();
        let proof = levels.compact_proof(&indexes).unwrap();
        prop_assert!(proof.verify(&levels.root(), count).unwrap());
        prop_assert!(!proof.verify(&levels.root(), count + 1).unwrap());
        indexes.sort_unstable();
        indexes.dedup();
        let expected: Vec<_> = indexes.iter().map(|&i| (i as u64, leaves[i])).collect();
        prop_assert_eq!(proof.leaves(), &expected[..]);
        prop_assert!(proof.siblings().len() <= indexes.len() * levels.height() as usize);
        // Written and read; any flipped bit is noticed.
        let mut bytes = proof.to_bytes().unwrap();
        prop_assert_eq!(&CompactProof::from_bytes(&bytes).unwrap(), &proof);
        let bit = flip.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(CompactProof::from_bytes(&bytes).is_err());
    }

    /// Bytes with a right checksum that say anything at all.
    #[test]
    fn compact_proofs_of_strangers_are_refused_or_prove_nothing(
        head in (0u64..9, 0u64..5, 0u64..5),
        numbers in vec(0u64..12, 0..5),
        hashes in vec(any::<u8>(), 0..9),
    ) {
        let (tree, count, told) = head;
        let mut bytes = b"BTPROOFS\x01\0\0\0\0\0\0\0".to_vec();
        for number in [tree, count, told].iter().chain(&numbers) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        hashes.iter().for_each(|byte| bytes.extend_from_slice(&[*byte; 32]));
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        if let Ok(proof) = CompactProof::from_bytes(&bytes) {
            prop_assert!(!proof.verify(&[0; 32], tree).unwrap());
        }
    }

    /// As the reference client's `mutated` flag, computed level by level.
    #[test]
    fn trees_with_repeated_ends_are_told_from_unique_ones(
        count in 1u64..100,
        repeated in 0usize..3,
    ) {
        let mut list = leaves(0..count);
        let mut unit = 1;
        for _ in 0..repeated {
            // Repeats the last subtree where its level is odd, which changes no root.
            while (list.len() / unit).is_multiple_of(2) && unit < list.len() {
                unit *= 2;
            }
            if unit >= list.len() || !list.len().is_multiple_of(unit) {
                break;
            }
            let root = reference::merkle_root(&list);
            list.extend_from_within(list.len() - unit..);
            prop_assert_eq!(reference::merkle_root(&list), root);
        }
        let mutated = has_equal_pair(&list);
        prop_assert_eq!(mutated, list.len() as u64 > count);
        let pair = MerkleLevels::heap(&list[..]).unwrap().equal_pair();
        prop_assert_eq!(pair.is_some(), mutated);
        match (unique_root(&list[..]), pair) {
            (Ok(root), None) => prop_assert_eq!(root, reference::merkle_root(&list)),
            (Err(error), Some(pair)) => {
                let range = pair.leaves(list.len() as u64);
                let range = range.start as usize..range.end as usize;
                let (left, right) = list[range.clone()].split_at(range.len() / 2);
                prop_assert_eq!(left, right);
                prop_assert!(error.to_string().contains("CVE-2012-2459"));
            }
            (found, pair) => prop_assert!(false, "{found:?} {pair:?}"),
        }
    }
}

fn has_equal_pair(leaves: &[Hash]) -> bool {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        if level.chunks(2).any(|pair| pair.len() == 2 && pair[0] == pair[1]) {
            return true;
        }
        level = level
            .chunks(2)
            .map(|pair| reference::sha256d(&[pair[0], pair[pair.len() - 1]].concat()))
            .collect();
    }
    false
}

#[test]
fn compact_proofs_of_impossible_leaves_are_errors() {
    let levels = MerkleLevels::heap(&leaves(0..5)[..]).unwrap();
    assert!(levels.compact_proof(&[]).is_err());
    assert!(levels.compact_proof(&[1, 5]).unwrap_err().to_string().contains("leaf 5"));
    let proof = levels.compact_proof(&[0, 1, 2, 3, 4]).unwrap();
    assert!(proof.siblings().is_empty(), "all leaves: nothing else has to be told");
    let one = levels.compact_proof(&[4]).unwrap();
    assert_eq!(one.siblings().len(), 1, "an odd last hash is its own sibling");
}

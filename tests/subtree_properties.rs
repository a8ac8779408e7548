//! Properties over generated subtrees: formats round-trip, kept levels agree with a naive tree,
//! proofs fold to the root, changed leaves equal a rebuild, cut and random bytes are errors and
//! never panics.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

#[path = "common/counting.rs"]
mod counting;
#[path = "common/parsers.rs"]
mod parsers;
#[path = "common/reference.rs"]
mod reference;

use blocktier::Hash;
use blocktier::hash::{Sha256d, Sha256dKernel};
use blocktier::storage::{HugePages, MappingOptions};
use blocktier::subtree::inpoints::{Outpoint, TxInpoints, encode};
use blocktier::subtree::{
    BlockShape, LeafBytes, MerkleLevels, MerkleProof, Node, NodeArray, ReadLimits, Subtree,
    SubtreeFormat, SubtreeMeta, SubtreeParts, SubtreeView, Verify, fold_proof, merkle,
    read_subtree, write_meta, write_subtree,
};
use parsers::{FORMATS, check_all};
use proptest::collection::vec;
use proptest::prelude::*;

fn leaf(number: u64) -> Hash {
    reference::sha256d(&number.to_le_bytes())
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count as u64).map(leaf).collect()
}

/// Nodes with distinct hashes, and sums that fit.
fn nodes(most: usize) -> impl Strategy<Value = Vec<Node>> {
    vec((any::<u32>(), any::<u32>()), 1..=most).prop_map(|pairs| {
        let node = |(number, (fee, size)): (usize, (u32, u32))| Node {
            hash: leaf(number as u64),
            fee: u64::from(fee),
            size: u64::from(size),
        };
        pairs.into_iter().enumerate().map(node).collect()
    })
}

fn written(format: SubtreeFormat, nodes: &[Node], conflicting: &[Hash]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let parts = SubtreeParts::new(nodes, conflicting).unwrap();
    let length = write_subtree(&mut bytes, format, &parts).unwrap();
    assert_eq!(length, bytes.len() as u64);
    bytes
}

fn inputs() -> impl Strategy<Value = Vec<Outpoint>> {
    // Few parents, so that they repeat; up to 60 inputs, so that both groupings run.
    let outpoint =
        (0u64..12, any::<u32>()).prop_map(|(parent, vout)| Outpoint { parent: leaf(parent), vout });
    vec(outpoint, 0..60)
}

/// The encoding, written down naively.
fn encoded_naively(inputs: &[Outpoint]) -> Vec<u8> {
    let mut groups: Vec<(Hash, Vec<u32>)> = Vec::new();
    for input in inputs {
        match groups.iter_mut().find(|(parent, _)| *parent == input.parent) {
            Some((_, vouts)) => vouts.push(input.vout),
            None => groups.push((input.parent, vec![input.vout])),
        }
    }
    let mut bytes = (groups.len() as u32).to_le_bytes().to_vec();
    groups.iter().for_each(|(parent, _)| bytes.extend_from_slice(parent));
    for (_, vouts) in &groups {
        bytes.extend_from_slice(&(vouts.len() as u32).to_le_bytes());
        vouts.iter().for_each(|vout| bytes.extend_from_slice(&vout.to_le_bytes()));
    }
    bytes
}

proptest! {
    #[test]
    fn formats_round_trip(nodes in nodes(70), picks in vec(any::<prop::sample::Index>(), 0..5)) {
        let mut picks: Vec<usize> = picks.iter().map(|pick| pick.index(nodes.len())).collect();
        picks.sort_unstable();
        picks.dedup();
        let conflicting: Vec<Hash> = picks.iter().map(|&pick| nodes[pick].hash).collect();
        for format in FORMATS {
            let is_list = format == SubtreeFormat::HashList;
            let conflicting = if is_list { &[][..] } else { &conflicting[..] };
            let bytes = written(format, &nodes, conflicting);
            SubtreeView::parse(&bytes, format).unwrap().verify(&Verify::ALL).unwrap();
            let mut subtree = Subtree::from_bytes(&bytes, format).unwrap();
            subtree.verify(&Verify::ALL).unwrap();
            prop_assert_eq!(subtree.conflicting(), conflicting);
            let expected: Vec<Node> = nodes
                .iter()
                .map(|node| if is_list { Node { fee: 0, size: 0, ..*node } } else { *node })
                .collect();
            prop_assert_eq!(subtree.nodes(), &expected[..]);
        }
    }

    #[test]
    fn kept_levels_agree_with_the_naive_tree(
        count in 1usize..300,
        changes in vec((any::<prop::sample::Index>(), any::<u64>()), 0..8),
    ) {
        let mut leaves = leaves(count);
        let mut levels = MerkleLevels::heap(&leaves[..]).unwrap();
        prop_assert_eq!(levels.root(), reference::merkle_root(&leaves));
        for (place, number) in changes {
            let place = place.index(count);
            leaves[place] = leaf(number);
            levels.set_leaf(place, leaves[place]).unwrap();
            prop_assert_eq!(levels.root(), reference::merkle_root(&leaves));
        }
        let rebuilt = MerkleLevels::heap(&leaves[..]).unwrap();
        for (index, leaf) in leaves.iter().enumerate() {
            let proof = levels.proof(index).unwrap();
            prop_assert_eq!(&proof, &rebuilt.proof(index).unwrap());
            prop_assert_eq!(fold_proof(leaf, index as u64, &proof).unwrap(), levels.root());
        }
        prop_assert!(levels.proof(count).is_err());
        prop_assert!(levels.set_leaf(count, [0; 32]).is_err());
    }

    #[test]
    fn block_proofs_through_short_last_subtrees(
        height in 0u32..6,
        full in 0usize..5,
        last in any::<prop::sample::Index>(),
    ) {
        let size = 1usize << height;
        let last_leaves = 1 + last.index(size);
        let leaves = leaves(full * size + last_leaves);
        let subtrees: Vec<MerkleLevels> =
            leaves.chunks(size).map(|chunk| MerkleLevels::heap(chunk).unwrap()).collect();
        let roots: Vec<Hash> = subtrees.iter().map(MerkleLevels::root).collect();
        let block = BlockShape { roots: &roots, height, last_leaves: last_leaves as u64 };
        let root = reference::merkle_root(&leaves);
        prop_assert_eq!(block.root().unwrap(), root);
        for (index, leaf) in leaves.iter().enumerate() {
            let subtree = &subtrees[index / size];
            let proof = MerkleProof::in_block(&block, index / size, subtree, index % size).unwrap();
            prop_assert!(proof.verify(&root, leaves.len() as u64));
            prop_assert_eq!(&proof.leaf, leaf);
            let moved = MerkleProof { index: index as u64 + 1, ..proof.clone() };
            prop_assert!(!moved.verify(&root, leaves.len() as u64));
            let siblings = proof.siblings.iter().skip(1).copied().collect();
            let cut = MerkleProof { siblings, ..proof };
            prop_assert!(leaves.len() == 1 || !cut.verify(&root, leaves.len() as u64));
        }
    }

    #[test]
    fn inpoints_round_trip(inputs in inputs()) {
        let mut bytes = Vec::new();
        encode(&inputs, &mut bytes).unwrap();
        prop_assert_eq!(&bytes, &encoded_naively(&inputs));
        let inpoints = TxInpoints::decode(&bytes).unwrap();
        prop_assert_eq!(inpoints.outpoint_count(), inputs.len());
        let grouped: Vec<Outpoint> = inpoints.outpoints().collect();
        let mut again = Vec::new();
        encode(&grouped, &mut again).unwrap();
        prop_assert_eq!(&again, &bytes);
        for cut in 0..bytes.len() {
            prop_assert!(TxInpoints::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn meta_round_trips(all in vec(inputs(), 1..8), root in any::<Hash>()) {
        let entries: Vec<Vec<u8>> = all.iter().map(|inputs| encoded_naively(inputs)).collect();
        let slices = || entries.iter().map(Vec::as_slice);
        let mut bytes = Vec::new();
        write_meta(&mut bytes, &root, entries.len(), slices()).unwrap();
        let meta = SubtreeMeta::parse(&bytes).unwrap();
        prop_assert_eq!(meta.root(), &root);
        prop_assert!(meta.entries().map(|entry| entry.as_bytes()).eq(slices()));
        prop_assert!(write_meta(&mut Vec::new(), &root, entries.len() - 1, slices()).is_err());
        prop_assert!(write_meta(&mut Vec::new(), &root, entries.len() + 1, slices()).is_err());
        for cut in 0..bytes.len() {
            prop_assert!(SubtreeMeta::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        check_all(&bytes);
    }

    /// Bytes of a good file with a few of them replaced get further into the parsers than random
    /// ones.
    #[test]
    fn damaged_files_never_panic(
        nodes in nodes(8),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for format in FORMATS {
            let mut bytes = written(format, &nodes, &[]);
            for (place, byte) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            check_all(&bytes);
        }
    }

    #[test]
    fn damaged_inpoints_never_panic(
        inputs in inputs(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded_naively(&inputs);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(inpoints) = TxInpoints::decode(&bytes) {
            prop_assert_eq!(inpoints.outpoints().count(), inpoints.outpoint_count());
        }
        check_all(&[&[1; 32][..], &1u32.to_le_bytes(), &bytes].concat());
    }
}

#[test]
fn a_file_cut_at_any_byte_is_an_error_and_so_is_one_more() {
    let nodes: Vec<Node> =
        (0..5u64).map(|i| Node { hash: leaf(i), fee: i, size: 100 + i }).collect();
    for format in [SubtreeFormat::Plain, SubtreeFormat::WithMagic] {
        let mut bytes = written(format, &nodes, &[nodes[3].hash, nodes[1].hash]);
        for cut in 0..bytes.len() {
            let bytes = &bytes[..cut];
            assert!(SubtreeView::parse(bytes, format).is_err(), "{format:?} {cut}");
            assert!(Subtree::from_bytes(bytes, format).is_err(), "{format:?} {cut}");
            let limits = ReadLimits::at_most(5);
            assert!(read_subtree(bytes, format, &limits, NodeArray::heap).is_err());
        }
        bytes.push(0);
        assert!(SubtreeView::parse(&bytes, format).is_err());
        assert!(Subtree::from_bytes(&bytes, format).is_err());
    }
    let list = written(SubtreeFormat::HashList, &nodes, &[]);
    for cut in 0..list.len() {
        let whole = cut > 0 && cut % 32 == 0;
        let view = SubtreeView::parse(&list[..cut], SubtreeFormat::HashList);
        assert_eq!(view.is_ok(), whole, "a list cut between hashes is a shorter list: {cut}");
    }
}

/// Sizes on both sides of each power of two, of the 512-leaf blocks, and above the parallel
/// threshold.
#[test]
fn roots_agree_at_the_sizes_where_code_changes_its_way() {
    let all = leaves(20_011);
    let sizes = [
        1, 2, 3, 4, 5, 7, 8, 9, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 1536, 2049, 4095,
        4096, 4097, 8192, 8193, 12_289, 16_383, 20_011,
    ];
    for size in sizes {
        let leaves = &all[..size];
        let root = reference::merkle_root(leaves);
        assert_eq!(merkle::root(leaves).unwrap(), root, "{size}");
        let levels = MerkleLevels::heap(leaves).unwrap();
        assert_eq!(levels.root(), root, "{size}");
        assert_eq!(merkle::height_of(size as u64), levels.height());
        for index in [0, size / 2, size - 1] {
            let proof = MerkleProof::in_tree(&levels, index).unwrap();
            assert!(proof.verify(&root, size as u64), "{size} {index}");
        }
        let mut replaced = leaves.to_vec();
        replaced[0] = [0x77; 32];
        let expected = reference::merkle_root(&replaced);
        assert_eq!(merkle::root_with_coinbase(leaves, &[0x77; 32]).unwrap(), expected, "{size}");
    }
}

/// Trees of every shape that the code tells apart, in nodes and in hashes, by every kernel. Only
/// this test of this file selects kernels, so what it selects is what computes.
#[test]
fn every_kernel_gives_the_same_trees() {
    let all = leaves(20_011);
    let nodes: Vec<Node> =
        all.iter().map(|hash| Node { hash: *hash, fee: u64::MAX, size: u64::MAX }).collect();
    let sizes = [1, 2, 3, 17, 31, 33, 100, 511, 512, 513, 543, 1025, 4095, 4096, 4609, 20_011];
    let expected = sizes.map(|size| reference::merkle_root(&all[..size]));
    let replaced = sizes.map(|size| {
        let mut leaves = all[..size].to_vec();
        leaves[0] = [0x77; 32];
        reference::merkle_root(&leaves)
    });
    for kernel in Sha256dKernel::available() {
        kernel.select();
        for ((size, root), replaced) in sizes.into_iter().zip(expected).zip(replaced) {
            let at = format!("{:?} {size}", kernel.kernel());
            let (leaves, nodes) = (&all[..size], &nodes[..size]);
            let bytes = Node::as_bytes(nodes);
            assert_eq!(merkle::root(leaves).unwrap(), root, "{at}");
            assert_eq!(merkle::root(nodes).unwrap(), root, "{at}");
            assert_eq!(merkle::root(&LeafBytes::Nodes(bytes)).unwrap(), root, "{at}");
            assert_eq!(merkle::root(&LeafBytes::Hashes(leaves)).unwrap(), root, "{at}");
            assert_eq!(merkle::root_with_coinbase(nodes, &[0x77; 32]).unwrap(), replaced, "{at}");
            let levels = MerkleLevels::heap(nodes).unwrap();
            assert_eq!((levels.root(), levels.leaves()), (root, leaves), "{at}");
            for index in [0, size / 2, size - 1] {
                let proof = MerkleProof::in_tree(&levels, index).unwrap();
                assert!(proof.verify(&root, size as u64), "{at} leaf {index}");
            }
        }
        let trees = sizes.map(|size| &nodes[..size]);
        assert_eq!(merkle::roots(&trees).unwrap(), expected, "{:?}", kernel.kernel());
        assert_eq!(merkle::roots(&trees[..6]).unwrap(), expected[..6], "{:?}", kernel.kernel());
        assert_eq!(Sha256d::selected(), kernel);
    }
    Sha256d::new(Sha256dKernel::Auto).unwrap().select();
}

/// 60,000 leaves, whose levels fill less than 4 MiB, and 70,000, whose levels get their own pages.
#[test]
fn levels_in_pages_are_the_levels_on_the_heap() {
    let all = leaves(70_000);
    for (count, huge_pages) in
        [(60_000, HugePages::Off), (70_000, HugePages::Off), (70_000, HugePages::Transparent)]
    {
        let leaves = &all[..count];
        let levels = MerkleLevels::in_memory(leaves, huge_pages).unwrap();
        let heap = MerkleLevels::heap(leaves).unwrap();
        assert!(!levels.is_mapped());
        assert_eq!(levels.leaves(), leaves);
        assert_eq!(levels.root(), reference::merkle_root(leaves));
        assert_eq!(levels.proof(count - 1).unwrap(), heap.proof(count - 1).unwrap());
    }
}

#[test]
fn levels_in_a_file_are_the_levels_on_the_heap() {
    let leaves = leaves(777);
    let options = MappingOptions::default();
    let mut mapped = MerkleLevels::mapped(&std::env::temp_dir(), &leaves[..], &options).unwrap();
    let mut heap = MerkleLevels::heap(&leaves[..]).unwrap();
    assert!(mapped.is_mapped() && !heap.is_mapped());
    for index in [0, 388, 776] {
        mapped.set_leaf(index, [9; 32]).unwrap();
        heap.set_leaf(index, [9; 32]).unwrap();
        assert_eq!(mapped.proof(index).unwrap(), heap.proof(index).unwrap());
    }
    assert_eq!(mapped.root(), heap.root());
}

#[test]
fn what_has_no_root_is_an_error() {
    let invalid = |result: blocktier::Result<Hash>| {
        assert!(matches!(result, Err(blocktier::Error::InvalidArgument(_))), "{result:?}");
    };
    let none: [Hash; 0] = [];
    invalid(merkle::root(&none[..]));
    invalid(merkle::root_of_nodes(&[]));
    let error = merkle::roots(&[&[[1; 32]][..], &none[..]]).unwrap_err();
    assert!(error.to_string().contains("tree 1 of 2 has no leaves"), "{error}");
    assert!(merkle::roots::<[Hash]>(&[]).unwrap().is_empty());
    invalid(merkle::root_with_coinbase(&none[..], &[1; 32]));
    invalid(merkle::block_root(&[], 4, 1));
    invalid(merkle::block_root(&[[1; 32]; 2], 4, 0));
    invalid(merkle::block_root(&[[1; 32]; 2], 4, 17));
    invalid(merkle::block_root(&[[1; 32]; 2], 64, 17));
    invalid(merkle::root_padded(&[1; 32], 0, 4));
    invalid(merkle::root_padded(&[1; 32], 17, 4));
    invalid(merkle::root_padded(&[1; 32], 1, 64));
    invalid(fold_proof(&[1; 32], 2, &[[2; 32]]));
    invalid(fold_proof(&[1; 32], u64::MAX, &[[2; 32]; 63]));
    assert!(fold_proof(&[1; 32], u64::MAX, &[[2; 32]; 64]).is_ok());
    assert!(MerkleLevels::heap(&none[..]).is_err());
    let leaves = leaves(16);
    let levels = MerkleLevels::heap(&leaves[..]).unwrap();
    let roots = [levels.root(), levels.root()];
    let block = BlockShape { roots: &roots, height: 4, last_leaves: 16 };
    assert!(MerkleProof::in_block(&block, 1, &levels, 15).is_ok());
    assert!(MerkleProof::in_block(&block, 2, &levels, 0).is_err(), "no third subtree");
    assert!(MerkleProof::in_block(&block, 1, &levels, 16).is_err(), "no such leaf");
    let short = BlockShape { last_leaves: 15, ..block };
    assert!(MerkleProof::in_block(&short, 1, &levels, 0).is_err(), "another number of leaves");
    assert!(MerkleProof::in_block(&short, 0, &levels, 0).is_ok());
}

/// An inner node offered as a leaf, with the right hashes above it, is no proof of a transaction.
#[test]
fn an_inner_node_does_not_pass_for_a_leaf() {
    let leaves = leaves(8);
    let levels = MerkleLevels::heap(&leaves[..]).unwrap();
    let proof = MerkleProof::in_tree(&levels, 5).unwrap();
    let inner = reference::sha256d(&[leaves[4], leaves[5]].concat());
    let forged = MerkleProof { leaf: inner, index: 2, siblings: proof.siblings[1..].to_vec() };
    assert_eq!(forged.root().unwrap(), levels.root(), "it does lead to the root");
    assert!(!forged.verify(&levels.root(), 8));
}

#[test]
fn writers_and_readers_report_what_the_other_side_says() {
    let nodes = [Node { hash: leaf(1), fee: 1, size: 1 }];
    let parts = SubtreeParts::new(&nodes, &[]).unwrap();
    let mut small = [0u8; 60];
    let error = write_subtree(&mut &mut small[..], SubtreeFormat::Plain, &parts).unwrap_err();
    assert!(matches!(error, blocktier::Error::Io { op: "write", .. }), "{error}");
    let with_conflict = SubtreeParts { conflicting: &[[1; 32]], ..parts };
    let list = write_subtree(&mut Vec::new(), SubtreeFormat::HashList, &with_conflict);
    assert!(matches!(list, Err(blocktier::Error::InvalidArgument(_))));
    let empty = SubtreeParts { nodes: &[], ..parts };
    assert!(write_subtree(&mut Vec::new(), SubtreeFormat::Plain, &empty).is_err());
    assert!(SubtreeParts::new(&[], &[]).is_err());

    let bytes = written(SubtreeFormat::Plain, &nodes, &[]);
    let limits = ReadLimits::of_length(bytes.len() as u64);
    let full = |_| Err(blocktier::Error::Unsupported("no array today".into()));
    let error = read_subtree(&bytes[..], SubtreeFormat::Plain, &limits, full).unwrap_err();
    assert!(error.to_string().contains("no array today"));
    let too_small = |_| NodeArray::heap(1);
    let two = written(SubtreeFormat::Plain, &[nodes[0], Node { hash: leaf(2), ..nodes[0] }], &[]);
    let limits = ReadLimits::of_length(two.len() as u64);
    let error = read_subtree(&two[..], SubtreeFormat::Plain, &limits, too_small).unwrap_err();
    assert!(matches!(error, blocktier::Error::InvalidArgument(_)), "{error}");
}

/// Gives its bytes one by one, with interruptions, then an error instead of an end.
struct Failing<'a> {
    bytes: &'a [u8],
    interrupted: bool,
}

impl std::io::Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let Some((first, rest)) = self.bytes.split_first() else {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        };
        (buffer[0], self.bytes) = (*first, rest);
        Ok(1)
    }
}

#[test]
fn a_wrong_length_of_the_input_is_an_error() {
    let nodes: Vec<Node> =
        (0..10u64).map(|i| Node { hash: leaf(i), fee: i, size: 100 + i }).collect();
    for format in FORMATS {
        let bytes = written(format, &nodes, &[]);
        let length = bytes.len() as u64;
        // Other formats say how long they are, so that a length above theirs only bounds them less.
        let end = if format == SubtreeFormat::HashList { 2 * length } else { length };
        for told in (0..end).filter(|told| *told != length) {
            let limits = ReadLimits::of_length(told);
            let read = read_subtree(&bytes[..], format, &limits, NodeArray::heap);
            assert!(
                matches!(read, Err(blocktier::Error::Format(_))),
                "{format:?} {told}: {read:?}"
            );
        }
        let limits = |max_nodes| ReadLimits { input_bytes: Some(length), max_nodes };
        let read = |most| read_subtree(&bytes[..], format, &limits(most), NodeArray::heap);
        assert_eq!(read(10).unwrap().nodes().len(), 10);
        let array = |_| unreachable!("no room is made for more nodes than are allowed");
        assert!(read_subtree(&bytes[..], format, &limits(9), array).is_err());
    }
}

#[test]
fn an_error_of_the_reader_is_no_format_error_and_names_the_offset() {
    let nodes: Vec<Node> =
        (0..3u64).map(|i| Node { hash: leaf(i), fee: i, size: 100 + i }).collect();
    for format in FORMATS {
        let bytes = written(format, &nodes, &[]);
        // Even after the last byte: whether the input ends there is not known.
        for cut in 0..=bytes.len() {
            let reader = Failing { bytes: &bytes[..cut], interrupted: false };
            let limits = ReadLimits::at_most(3);
            match read_subtree(reader, format, &limits, NodeArray::heap) {
                Err(blocktier::Error::Io { op: "read", offset: Some(offset), .. }) => {
                    assert_eq!(offset, cut as u64);
                }
                other => unreachable!("{format:?} {cut}: {other:?}"),
            }
        }
    }
}

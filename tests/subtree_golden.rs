//! Every expected value of tests/data/expected that concerns subtrees: roots, lifted roots, proofs,
//! sums, digests, how blocks are composed of subtrees, and what each transaction spends. The values
//! were computed by other code from the same files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/reference.rs"]
mod reference;

use blocktier::Hash;
use blocktier::hash::{Sha256d, Sha256dKernel};
use blocktier::subtree::inpoints::{Outpoint, TxInpoints, encode};
use blocktier::subtree::{
    BlockShape, COINBASE_PLACEHOLDER, FormatKind, LeafBytes, MerkleLevels, MerkleProof, Node,
    NodeArray, ReadLimits, Subtree, SubtreeFormat, SubtreeMeta, SubtreeParts, SubtreeView, Verify,
    encoded_length, fold_proof, merkle, read_subtree, write_meta, write_subtree,
};
use blocktier::types::display_hex;
use fixtures::{json, read};
use serde_json::Value;
use sha2::{Digest, Sha256};

const BLOCKS: [&str; 4] = ["block-277647", "block-379389", "block-384188", "block-384189"];

/// A hash from its display form.
fn hash(value: &Value) -> Hash {
    let text = value.as_str().unwrap();
    assert_eq!(text.len(), 64);
    std::array::from_fn(|i| u8::from_str_radix(&text[62 - 2 * i..64 - 2 * i], 16).unwrap())
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no u64"))
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kind_of(error: &blocktier::Error) -> FormatKind {
    match error {
        blocktier::Error::Format(error) => error.kind,
        other => panic!("{other}"),
    }
}

fn outpoints(inputs: &Value) -> Vec<Outpoint> {
    let outpoint = |input: &Value| Outpoint {
        parent: hash(&input[0]),
        vout: u32::try_from(number(&input[1])).unwrap(),
    };
    inputs.as_array().unwrap().iter().map(outpoint).collect()
}

/// The records of a file: txid 32 | n u16 | n x (parent 32, vout u32).
fn records(file: &str) -> Vec<(Hash, Vec<Outpoint>)> {
    let bytes = read(file);
    let mut rest = &bytes[..];
    let mut records = Vec::new();
    while let Some((txid, after)) = rest.split_first_chunk::<32>() {
        let (count, after) = after.split_first_chunk::<2>().unwrap();
        let (inputs, after) = after.split_at(usize::from(u16::from_le_bytes(*count)) * 36);
        let inputs = inputs.as_chunks::<36>().0.iter().map(|input| Outpoint {
            parent: *input.first_chunk().unwrap(),
            vout: u32::from_le_bytes(*input.last_chunk().unwrap()),
        });
        records.push((*txid, inputs.collect()));
        rest = after;
    }
    assert!(rest.is_empty(), "{file} ends with a whole record");
    records
}

fn encoded(inputs: &[Outpoint]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(inputs, &mut bytes).unwrap();
    bytes
}

fn format_of(entry: &Value) -> SubtreeFormat {
    match entry["kind"].as_str().unwrap() {
        "S" => SubtreeFormat::Plain,
        "S+magic" => SubtreeFormat::WithMagic,
        "hashes" => SubtreeFormat::HashList,
        other => panic!("{other}"),
    }
}

fn check_proofs(proofs: &Value, levels: &MerkleLevels, leaves: u64) {
    let proofs = proofs.as_array().unwrap();
    assert!(!proofs.is_empty());
    for expected in proofs {
        let index = number(&expected["index"]);
        let proof = MerkleProof::in_tree(levels, index as usize).unwrap();
        assert_eq!(proof.leaf, hash(&expected["leaf"]));
        assert_eq!(proof.siblings, hashes(&expected["siblings"]));
        assert_eq!(fold_proof(&proof.leaf, index, &proof.siblings).unwrap(), levels.root());
        assert!(proof.verify(&levels.root(), leaves));
    }
}

#[test]
fn roots_lifted_roots_proofs_and_digests_of_every_subtree() {
    let mut lifted = 0;
    let expected = json("expected/subtrees.json");
    for (file, entry) in expected.as_object().unwrap() {
        let bytes = read(file);
        let view = SubtreeView::parse(&bytes, format_of(entry)).unwrap();
        let root = hash(&entry["root"]);
        let count = number(&entry["n"]);
        assert_eq!(view.header().node_count as u64, count, "{file}");
        assert_eq!(merkle::root(&view.leaves()).unwrap(), root, "{file}");
        let leaves: Vec<Hash> = view.nodes().map(|node| node.hash).collect();
        assert_eq!(reference::merkle_root(&leaves), root, "{file}");
        assert_eq!(sha256_hex(leaves.as_flattened()), entry["hashes_sha256"], "{file}");
        assert_eq!(entry["placeholder_first"], leaves[0] == COINBASE_PLACEHOLDER, "{file}");
        assert_eq!(u64::from(merkle::height_of(count)), number(&entry["height"]), "{file}");
        assert_eq!(number(&entry["duplicates"]), 0, "{file}");
        for (height, padded) in entry["root_padded"].as_object().unwrap() {
            let height = height.parse().unwrap();
            let got = merkle::root_padded(&root, count, height).unwrap();
            assert_eq!(got, hash(padded), "{file} at {height}");
            lifted += 1;
        }
        let levels = MerkleLevels::heap(&view.leaves()).unwrap();
        assert_eq!(levels.root(), root, "{file}");
        check_proofs(&entry["proofs"], &levels, count);
        let node_fields = ["nodes_sha256", "fees_stored", "n_conflicting"];
        match view.leaves() {
            LeafBytes::Nodes(nodes) => check_nodes(file, entry, &view, nodes.as_flattened()),
            LeafBytes::Hashes(_) => assert!(node_fields.iter().all(|key| entry[key].is_null())),
        }
    }
    assert_eq!(expected.as_object().unwrap().len(), 80);
    assert_eq!(lifted, 160);
}

/// Only this test of this file selects kernels, so what it selects is what computes.
#[test]
fn every_expected_root_by_every_kernel() {
    let expected = json("expected/subtrees.json");
    let subtrees: Vec<(Vec<Node>, Hash, &Value)> = expected
        .as_object()
        .unwrap()
        .iter()
        .map(|(file, entry)| {
            let bytes = read(file);
            let view = SubtreeView::parse(&bytes, format_of(entry)).unwrap();
            (view.nodes().collect(), hash(&entry["root"]), &entry["root_padded"])
        })
        .collect();
    let blocks = BLOCKS.map(|name| json(&format!("expected/{name}.json")));
    let blocks = blocks.map(|block| (hashes(&block["txid"]), hash(&block["merkle_root"])));
    for kernel in Sha256dKernel::available() {
        kernel.select();
        for (nodes, root, padded) in &subtrees {
            assert_eq!(merkle::root_of_nodes(nodes).unwrap(), *root, "{kernel:?}");
            assert_eq!(MerkleLevels::heap(&nodes[..]).unwrap().root(), *root, "{kernel:?}");
            for (height, padded) in padded.as_object().unwrap() {
                let (count, height) = (nodes.len() as u64, height.parse().unwrap());
                let got = merkle::root_padded(root, count, height).unwrap();
                assert_eq!(got, hash(padded), "{kernel:?} at {height}");
            }
        }
        let trees: Vec<&[Node]> = subtrees.iter().map(|(nodes, ..)| &nodes[..]).collect();
        let roots = merkle::roots(&trees).unwrap();
        assert!(roots.iter().eq(subtrees.iter().map(|(_, root, _)| root)), "{kernel:?}");
        for (txids, root) in &blocks {
            assert_eq!(merkle::root(&txids[..]).unwrap(), *root, "{kernel:?}");
            assert_eq!(MerkleLevels::heap(&txids[..]).unwrap().root(), *root, "{kernel:?}");
        }
        assert_eq!(Sha256d::selected(), kernel);
    }
    assert_eq!(subtrees.len(), 80);
    Sha256d::new(Sha256dKernel::Auto).unwrap().select();
}

fn check_nodes(file: &str, entry: &Value, view: &SubtreeView<'_>, bytes: &[u8]) {
    let header = view.header();
    assert_eq!(header.root, Some(hash(&entry["root"])), "{file}");
    assert_eq!(header.fees, number(&entry["fees_stored"]), "{file}");
    assert_eq!(header.size_in_bytes, number(&entry["size_stored"]), "{file}");
    assert_eq!(header.conflicting_count as u64, number(&entry["n_conflicting"]), "{file}");
    assert_eq!(sha256_hex(bytes), entry["nodes_sha256"], "{file}");
    let conflicting = view.conflicting();
    assert_eq!(sha256_hex(conflicting.as_flattened()), entry["conflicting_sha256"], "{file}");
    let nodes: Vec<Node> = view.nodes().collect();
    let in_nodes = conflicting.iter().filter(|hash| nodes.iter().any(|node| node.hash == **hash));
    assert_eq!(in_nodes.count() as u64, number(&entry["conflicting_in_nodes"]), "{file}");
    for (node, key) in [(nodes[0], "first_node"), (nodes[nodes.len() - 1], "last_node")] {
        let expected = &entry[key];
        assert_eq!(node.hash, hash(&expected[0]), "{file} {key}");
        assert_eq!((node.fee, node.size), (number(&expected[1]), number(&expected[2])));
    }
    match SubtreeParts::new(&nodes, conflicting) {
        Ok(parts) => {
            assert_eq!(parts.fees, number(&entry["fees_sum"]), "{file}");
            assert_eq!(parts.size_in_bytes, number(&entry["size_sum"]), "{file}");
            assert_eq!(Some(parts.root), header.root, "{file}");
        }
        Err(error) => {
            assert_eq!(kind_of(&error), FormatKind::FeeSumOverflow, "{file}");
            assert_eq!(entry["fees_sum"].as_u64(), None, "{file}: its sum exceeds 64 bits");
        }
    }
}

#[test]
fn every_subtree_is_read_from_a_stream_and_written_again_to_the_byte() {
    for (file, entry) in json("expected/subtrees.json").as_object().unwrap() {
        let (bytes, format) = (read(file), format_of(entry));
        let count = number(&entry["n"]);
        for limits in [ReadLimits::of_length(bytes.len() as u64), ReadLimits::at_most(count)] {
            let subtree = read_subtree(&bytes[..], format, &limits, NodeArray::heap).unwrap();
            let view = SubtreeView::parse(&bytes, format).unwrap();
            assert_eq!(subtree.header(), view.header(), "{file}");
            let mut written = Vec::new();
            let length = write_subtree(&mut written, format, &subtree.parts()).unwrap();
            assert_eq!(written, bytes, "{file}");
            assert_eq!(length, bytes.len() as u64);
            let conflicting = subtree.conflicting().len() as u64;
            assert_eq!(encoded_length(format, count, conflicting), Some(length), "{file}");
        }
    }
}

#[test]
fn every_subtree_passes_verification_except_the_one_of_random_data() {
    const RANDOM: &str = "subtrees/testSubtreeHex.subtree";
    for (file, entry) in json("expected/subtrees.json").as_object().unwrap() {
        let mut subtree = Subtree::from_bytes(&read(file), format_of(entry)).unwrap();
        let root = hash(&entry["root"]);
        let all = Verify { expected_root: Some(root), ..Verify::ALL };
        assert!(!subtree.root_is_verified());
        if file == RANDOM {
            let error = subtree.verify(&all).unwrap_err();
            assert_eq!(kind_of(&error), FormatKind::FeeSumOverflow);
            let lax = Verify { sums: false, conflicting: false, ..all };
            assert_eq!(subtree.verify(&lax).unwrap(), Some(root));
            let error = subtree.verify(&Verify { sums: false, ..all }).unwrap_err();
            assert_eq!(kind_of(&error), FormatKind::ConflictNotALeaf);
        } else {
            assert_eq!(subtree.verify(&all).unwrap(), Some(root), "{file}");
        }
        let stores_a_root = format_of(entry) != SubtreeFormat::HashList;
        assert_eq!(subtree.root_is_verified(), stores_a_root, "{file}");
        let other = Verify { expected_root: Some([1; 32]), ..Verify::NONE };
        assert_eq!(kind_of(&subtree.verify(&other).unwrap_err()), FormatKind::RootMismatch);
    }
}

/// The coinbase transaction of the block that the subtree `file` begins.
fn coinbase_of(file: &str, entry: &Value) -> Hash {
    let teranode = json("expected/teranode-blocks.json");
    let name = file.rsplit('/').next().unwrap();
    let block = match name {
        _ if name.starts_with("b171-00") => "171",
        "subtree-79da80b5.hashes" => "905925",
        "subtree-fd61a797.subtree" => "1651375",
        // Its transactions are known, the coinbase the first of them.
        "subtree-8ddeb634.hashes" => return hash(&entry["txs"][0]["txid"]),
        _ => {
            let block = json(&format!("expected/{}.json", &name[..12]));
            return hash(&block["txid"][number(&block["coinbase_index"]) as usize]);
        }
    };
    hash(&teranode[block]["coinbase_txid"])
}

#[test]
fn the_coinbase_takes_the_place_of_the_placeholder() {
    let mut checked = 0;
    for (file, entry) in json("expected/subtrees.json").as_object().unwrap() {
        if entry["root_with_coinbase"].is_null() {
            continue;
        }
        let expected = hash(&entry["root_with_coinbase"]);
        let coinbase = coinbase_of(file, entry);
        let subtree = Subtree::from_bytes(&read(file), format_of(entry)).unwrap();
        let replaced = merkle::root_with_coinbase(subtree.nodes(), &coinbase).unwrap();
        assert_eq!(replaced, expected, "{file}");
        let mut levels = MerkleLevels::heap(subtree.nodes()).unwrap();
        levels.set_leaf(0, coinbase).unwrap();
        assert_eq!(levels.root(), expected, "{file}");
        levels.set_leaf(0, COINBASE_PLACEHOLDER).unwrap();
        assert_eq!(levels.root(), hash(&entry["root"]), "{file}");
        checked += 1;
    }
    assert_eq!(checked, 10);
}

#[test]
fn blocks_are_composed_of_subtrees_of_every_size() {
    for name in BLOCKS {
        let block = json(&format!("expected/{name}.json"));
        let txids = hashes(&block["txid"]);
        assert_eq!(number(&block["coinbase_index"]), 0);
        let merkle_root = hash(&block["merkle_root"]);
        assert_eq!(merkle::root(&txids[..]).unwrap(), merkle_root);
        let levels = MerkleLevels::heap(&txids[..]).unwrap();
        check_proofs(&block["merkle_proofs"], &levels, txids.len() as u64);
        let sizes = block["compose"].as_object().unwrap();
        assert_eq!(sizes.len(), 4, "16, 64, 256 and 1024");
        for (size, expected) in sizes {
            let size: usize = size.parse().unwrap();
            check_composition(&txids, size, &merkle_root, expected);
            check_block_proofs(&txids, size, &merkle_root, &block["merkle_proofs"]);
        }
    }
}

fn check_composition(txids: &[Hash], size: usize, merkle_root: &Hash, expected: &Value) {
    let height = size.ilog2();
    let subtrees: Vec<&[Hash]> = txids.chunks(size).collect();
    let roots: Vec<Hash> = subtrees.iter().map(|leaves| merkle::root(*leaves).unwrap()).collect();
    let last_leaves = subtrees[subtrees.len() - 1].len() as u64;
    let last = roots[roots.len() - 1];
    assert_eq!(roots.len() as u64, number(&expected["subtrees"]));
    assert_eq!(last_leaves, number(&expected["last_leaves"]));
    assert_eq!(last, hash(&expected["last_root_natural"]));
    let padded = match roots.len() {
        1 => last,
        _ => merkle::root_padded(&last, last_leaves, height).unwrap(),
    };
    assert_eq!(padded, hash(&expected["last_root_padded"]));
    let mut stored = subtrees[0].to_vec();
    stored[0] = COINBASE_PLACEHOLDER;
    let with_placeholder = merkle::root(&stored[..]).unwrap();
    assert_eq!(with_placeholder, hash(&expected["first_root_with_placeholder"]));
    let with_coinbase = merkle::root_with_coinbase(&stored[..], &txids[0]).unwrap();
    assert_eq!(with_coinbase, hash(&expected["first_root_with_coinbase"]));
    assert_eq!(merkle::block_root(&roots, height, last_leaves).unwrap(), *merkle_root);
    let unpadded = merkle::root(&roots[..]).unwrap() == *merkle_root;
    assert_eq!(expected["unpadded_top_equals_header"], unpadded);
}

fn check_block_proofs(txids: &[Hash], size: usize, merkle_root: &Hash, expected: &Value) {
    let subtrees: Vec<MerkleLevels> =
        txids.chunks(size).map(|leaves| MerkleLevels::heap(leaves).unwrap()).collect();
    let roots: Vec<Hash> = subtrees.iter().map(MerkleLevels::root).collect();
    let last_leaves = subtrees[subtrees.len() - 1].len() as u64;
    let block = BlockShape { roots: &roots, height: size.ilog2(), last_leaves };
    assert_eq!(block.leaves().unwrap(), txids.len() as u64);
    assert_eq!(block.root().unwrap(), *merkle_root);
    let whole = MerkleLevels::heap(txids).unwrap();
    for index in 0..txids.len() {
        let (number, place) = (index / size, index % size);
        let proof = MerkleProof::in_block(&block, number, &subtrees[number], place).unwrap();
        assert_eq!(proof, MerkleProof::in_tree(&whole, index).unwrap(), "{size} {index}");
        assert!(proof.verify(merkle_root, txids.len() as u64));
    }
    for proof in expected.as_array().unwrap() {
        let index = number(&proof["index"]) as usize;
        let (subtree, place) = (index / size, index % size);
        let got = MerkleProof::in_block(&block, subtree, &subtrees[subtree], place).unwrap();
        assert_eq!(got.siblings, hashes(&proof["siblings"]));
    }
}

#[test]
fn teranode_blocks_lead_from_subtree_roots_to_the_header() {
    let blocks = json("expected/teranode-blocks.json");
    for (height, file, format) in [
        ("905925", "subtrees/subtree-79da80b5.hashes", SubtreeFormat::HashList),
        ("1651375", "subtrees/subtree-fd61a797.subtree", SubtreeFormat::Plain),
    ] {
        let block = &blocks[height];
        let subtree = Subtree::from_bytes(&read(file), format).unwrap();
        let root = merkle::root_of_nodes(subtree.nodes()).unwrap();
        assert_eq!(vec![root], hashes(&block["subtrees"]));
        let coinbase = hash(&block["coinbase_txid"]);
        let root = merkle::root_with_coinbase(subtree.nodes(), &coinbase).unwrap();
        assert_eq!(root, hash(&block["merkle_root"]));
        assert_eq!(subtree.nodes().len() as u64, number(&block["tx_count"]));
    }
}

#[test]
fn block_171_of_32_subtrees() {
    let block = &json("expected/teranode-blocks.json")["171"];
    let listed = hashes(&block["subtrees"]);
    let merkle_root = hash(&block["merkle_root"]);
    let count = number(&block["tx_count"]);
    let mut subtrees = Vec::new();
    let (mut fees, mut sizes) = (0, 0);
    for (index, root) in listed.iter().enumerate() {
        let start = &display_hex(root)[..8];
        let list = read(&format!("subtrees/b171-{index:02}-{start}.hashes"));
        let view = SubtreeView::parse(&list, SubtreeFormat::HashList).unwrap();
        assert_eq!(merkle::root(&view.leaves()).unwrap(), *root);
        let format = if index % 2 == 0 { SubtreeFormat::Plain } else { SubtreeFormat::WithMagic };
        let file = read(&format!("derived/b171-{index:02}.subtree"));
        let subtree = Subtree::from_bytes(&file, format).unwrap();
        fees += subtree.header().fees;
        sizes += subtree.header().size_in_bytes;
        subtrees.push(MerkleLevels::heap(subtree.nodes()).unwrap());
        assert_eq!(subtrees[index].root(), *root);
    }
    assert_eq!(fees, number(&block["sum_fees"]));
    // The placeholder has size 0, so the coinbase's size comes on top.
    let sum = sizes + number(&block["coinbase_size"]);
    assert_eq!(sum, number(&block["sum_sizes"]));
    subtrees[0].set_leaf(0, hash(&block["coinbase_txid"])).unwrap();
    let roots: Vec<Hash> = subtrees.iter().map(MerkleLevels::root).collect();
    assert_eq!(merkle::block_root(&roots, 5, 32).unwrap(), merkle_root);
    let shape = BlockShape { roots: &roots, height: 5, last_leaves: 32 };
    for expected in block["proofs"].as_array().unwrap() {
        let index = number(&expected["index"]) as usize;
        let (subtree, place) = (index / 32, index % 32);
        let proof = MerkleProof::in_block(&shape, subtree, &subtrees[subtree], place).unwrap();
        assert_eq!(proof.leaf, hash(&expected["leaf"]));
        assert_eq!(proof.siblings, hashes(&expected["siblings"]));
        assert!(proof.verify(&merkle_root, count));
        assert!(!proof.verify(&merkle_root, count * 2), "another number of leaves");
    }
    let wrong = BlockShape { roots: &listed, ..shape };
    assert!(MerkleProof::in_block(&wrong, 0, &subtrees[0], 0).is_err(), "placeholder in place");
}

#[test]
fn roots_of_ten_thousand_blocks() {
    let chain = json("expected/chain-0-9999.json");
    let records = records("records/chain-0-9999.rec");
    let mut txids = records.iter().map(|(txid, _)| *txid);
    let roots = hashes(&chain["merkle_root"]);
    let counts = chain["n_tx"].as_array().unwrap();
    assert_eq!((roots.len(), counts.len()), (10_000, 10_000));
    for (root, count) in roots.iter().zip(counts) {
        let block: Vec<Hash> = txids.by_ref().take(number(count) as usize).collect();
        assert_eq!(merkle::root(&block[..]).unwrap(), *root);
    }
    assert_eq!(txids.next(), None);
}

#[test]
fn inpoints_of_every_transaction_have_the_expected_digest() {
    for name in BLOCKS {
        let block = json(&format!("expected/{name}.json"));
        let parents = hashes(&block["parents"]);
        let mut all = Vec::new();
        for (inputs, (_, recorded)) in block["inpoints"]
            .as_array()
            .unwrap()
            .iter()
            .zip(records(&format!("records/{name}.rec")))
        {
            let inputs: Vec<Outpoint> = inputs
                .as_array()
                .unwrap()
                .chunks(2)
                .map(|pair| Outpoint {
                    parent: parents[number(&pair[0]) as usize],
                    vout: u32::try_from(number(&pair[1])).unwrap(),
                })
                .collect();
            assert_eq!(inputs, recorded);
            encode(&inputs, &mut all).unwrap();
        }
        assert_eq!(sha256_hex(&all), block["txinpoints_concat_sha256"], "{name}");
        let mut rest = &all[..];
        for inputs in block["inpoints"].as_array().unwrap() {
            let (inpoints, after) = TxInpoints::decode_first(rest).unwrap();
            assert_eq!(inpoints.outpoint_count() * 2, inputs.as_array().unwrap().len());
            rest = after;
        }
        assert!(rest.is_empty());
    }
    let txs = json("expected/txs.json");
    for (file, tx) in txs.as_object().unwrap() {
        let bytes = encoded(&outpoints(&tx["in"]));
        assert_eq!(sha256_hex(&bytes), tx["txinpoints_sha256"], "{file}");
        let inpoints = TxInpoints::decode(&bytes).unwrap();
        assert_eq!(inpoints.parents().len() as u64, number(&tx["n_parents"]), "{file}");
        assert_eq!(inpoints.outpoint_count() as u64, number(&tx["n_in"]), "{file}");
    }
}

/// The records of the subtree `file` in `derived/`, from the name's block, size and number.
fn records_of(file: &str) -> Vec<(Hash, Vec<Outpoint>)> {
    let name = file.strip_prefix("derived/").unwrap().strip_suffix(".subtree").unwrap();
    let (block, number) = name.rsplit_once('-').unwrap();
    let number: usize = number.parse().unwrap();
    let (source, size) = match block.rsplit_once("-c") {
        Some((block, size)) => (block, size.parse().unwrap()),
        None => ("teranode-block-171", 32),
    };
    let records = records(&format!("records/{source}.rec"));
    records.into_iter().skip(number * size).take(size).collect()
}

#[test]
fn every_subtree_meta_is_encoded_again_to_the_byte() {
    let mut checked = 0;
    for (file, entry) in json("expected/subtrees.json").as_object().unwrap() {
        let Some(meta_file) = entry["meta_file"].as_str() else { continue };
        let bytes = read(meta_file);
        let records = records_of(file);
        let entries: Vec<Vec<u8>> = records.iter().map(|(_, inputs)| encoded(inputs)).collect();
        let mut written = Vec::new();
        let root = hash(&entry["root"]);
        let slices = entries.iter().map(Vec::as_slice);
        write_meta(&mut written, &root, entries.len(), slices).unwrap();
        assert_eq!(written, bytes, "{meta_file}");
        let meta = SubtreeMeta::parse(&bytes).unwrap();
        assert_eq!((meta.root(), meta.len()), (&root, records.len()));
        let subtree = Subtree::from_bytes(&read(file), format_of(entry)).unwrap();
        meta.check_belongs_to(subtree.header()).unwrap();
        for ((got, (txid, inputs)), node) in meta.entries().zip(&records).zip(subtree.nodes()) {
            assert!(node.hash == *txid || node.hash == COINBASE_PLACEHOLDER);
            let mut sorted: Vec<Outpoint> = got.outpoints().collect();
            let mut inputs = inputs.clone();
            sorted.sort_unstable();
            inputs.sort_unstable();
            assert_eq!(sorted, inputs);
        }
        checked += 1;
    }
    assert_eq!(checked, 42);
}

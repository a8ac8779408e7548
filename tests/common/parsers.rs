//! Every parser over the same bytes, whoever wrote them: none panics, none allocates more than the
//! bytes are worth, and what one way to read accepts, the others accept, to the same content.

use std::ptr::null_mut;

use blocktier::ffi::{blocktier_status_t, blocktier_subtree_header_t, blocktier_subtree_inspect};
use blocktier::subtree::inpoints::{self, TxInpoints};
use blocktier::subtree::{
    CompactProof, NodeArray, ReadLimits, Subtree, SubtreeFormat, SubtreeMeta, SubtreeParts,
    SubtreeView, Verify, read_subtree, write_meta, write_subtree,
};

use blocktier::{Hash, Result};

use super::counting::{peak, within};

pub const FORMATS: [SubtreeFormat; 3] =
    [SubtreeFormat::Plain, SubtreeFormat::WithMagic, SubtreeFormat::HashList];

/// Texts of errors, and what does not depend on the input.
const SMALL: usize = 2 << 10;

/// What vectors of hashes begin with where the input's length is not known.
const GROWTH: usize = 64 << 10;

/// Bytes per byte of a subtree while it is verified: 40 per leaf, which has 48 bytes or 32.
const VERIFYING: usize = 2;

/// All of the below.
pub fn check_all(bytes: &[u8]) {
    check_view(bytes);
    check_reader(bytes);
    check_meta(bytes);
    check_proof(bytes);
    check_abi(bytes);
}

/// What is read in place allocates nothing but the text of an error.
fn in_place<T, E>(parse: impl FnOnce() -> std::result::Result<T, E>) -> Option<T> {
    let (read, peak) = peak(parse);
    let most = if read.is_ok() { 0 } else { 1000 };
    assert!(peak <= most, "{peak} bytes in place");
    read.ok()
}

fn verified(view: &SubtreeView<'_>, bytes: usize) -> Result<Option<Hash>> {
    within(VERIFYING * bytes + SMALL, "verify", || view.verify(&Verify::ALL))
}

/// A subtree in place, checked and written again.
pub fn check_view(bytes: &[u8]) {
    for format in FORMATS {
        let Some(view) = in_place(|| SubtreeView::parse(bytes, format)) else { continue };
        let header = view.header();
        assert_eq!(view.nodes().count(), header.node_count);
        assert_eq!(view.conflicting().len(), header.conflicting_count);
        let nodes: Vec<_> = view.nodes().collect();
        let verified = verified(&view, bytes.len());
        let parts = SubtreeParts {
            root: header.root.unwrap_or_default(),
            fees: header.fees,
            size_in_bytes: header.size_in_bytes,
            nodes: &nodes,
            conflicting: view.conflicting(),
        };
        let mut again = Vec::new();
        write_subtree(&mut again, format, &parts).expect("what was read can be written");
        assert!(again == bytes, "{format:?} is written differently");
        // Content that keeps all rules is what its parts compute.
        if let (Ok(Some(root)), Ok(computed)) = (verified, SubtreeParts::new(&nodes, &[])) {
            assert_eq!(root, computed.root);
            assert!(header.root.is_none_or(|stored| stored == root));
        }
    }
}

/// A subtree from a stream of known, of unknown and of wrong length, beside one in place.
pub fn check_reader(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    for format in FORMATS {
        let view = SubtreeView::parse(bytes, format);
        // A node of a list has more bytes than its hash.
        let worth =
            if format == SubtreeFormat::HashList { 3 * bytes.len() / 2 } else { bytes.len() };
        let read = |limits: &ReadLimits| read_subtree(bytes, format, limits, NodeArray::heap);
        let known = ReadLimits::of_length(bytes.len() as u64);
        let known = within(worth + SMALL, "known length", || read(&known));
        // An array is made for what the count says, which only the limit bounds.
        let limit = bytes.len() as u64 / 32 + 1;
        let unknown = ReadLimits::at_most(limit);
        // Vectors that follow the bytes are doubled, and moved.
        let unknown = within(4 * worth + GROWTH, "unknown length", || read(&unknown));
        for told in [bytes.len() - 1, bytes.len() + 1, 2 * bytes.len()] {
            let told = ReadLimits { input_bytes: Some(told as u64), max_nodes: limit };
            let is_list = format == SubtreeFormat::HashList;
            let may_be_right = told.input_bytes > Some(bytes.len() as u64) && !is_list;
            assert_eq!(read(&told).is_ok(), view.is_ok() && may_be_right, "{format:?} {told:?}");
        }
        for mut read in [known, unknown] {
            assert_eq!(view.is_ok(), read.is_ok(), "{format:?}: {view:?} {read:?}");
            if let (Ok(view), Ok(read)) = (&view, &mut read) {
                check_same(view, read);
            }
        }
    }
}

fn check_same(view: &SubtreeView<'_>, read: &mut Subtree) {
    assert!(view.nodes().eq(read.nodes().iter().copied()));
    assert_eq!(view.conflicting(), read.conflicting());
    assert_eq!(view.header(), read.header());
    let (a, b) = (view.verify(&Verify::ALL), read.verify(&Verify::ALL));
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

/// A subtreeMeta, and inpoints by themselves.
pub fn check_meta(bytes: &[u8]) {
    if let Some(meta) = in_place(|| SubtreeMeta::parse(bytes)) {
        assert_eq!(meta.entries().count(), meta.len());
        let mut again = Vec::new();
        let entries = meta.entries().map(|entry| entry.as_bytes());
        write_meta(&mut again, meta.root(), meta.len(), entries).expect("entries are sound");
        assert!(again == bytes, "a meta is written differently");
        meta.entries().for_each(|entry| check_inpoints(&entry));
    }
    if let Some(inpoints) = in_place(|| TxInpoints::decode(bytes)) {
        assert_eq!(inpoints.as_bytes(), bytes);
        check_inpoints(&inpoints);
    }
}

/// The same outpoints again, grouped by parent: as sets they are equal.
fn check_inpoints(read: &TxInpoints<'_>) {
    let mut outpoints: Vec<_> = read.outpoints().collect();
    assert_eq!(outpoints.len(), read.outpoint_count());
    let mut again = Vec::new();
    inpoints::encode(&outpoints, &mut again).expect("so few outpoints can be encoded");
    let again = TxInpoints::decode(&again).expect("what was encoded is sound");
    let mut grouped: Vec<_> = again.outpoints().collect();
    let key = |outpoint: &inpoints::Outpoint| (outpoint.parent, outpoint.vout);
    outpoints.sort_unstable_by_key(key);
    grouped.sort_unstable_by_key(key);
    assert_eq!(outpoints, grouped);
}

/// A compact proof, as it is and with magic, version and checksum put right.
pub fn check_proof(bytes: &[u8]) {
    check_one_proof(bytes);
    if bytes.len() < 44 {
        return;
    }
    let mut right = bytes.to_vec();
    right[..16].copy_from_slice(b"BTPROOFS\x01\0\0\0\0\0\0\0");
    let end = right.len() - 4;
    let crc = crc32c::crc32c(&right[..end]).to_le_bytes();
    right[end..].copy_from_slice(&crc);
    check_one_proof(&right);
}

fn check_one_proof(bytes: &[u8]) {
    let read = within(bytes.len() + SMALL, "proof", || CompactProof::from_bytes(bytes));
    let Ok(proof) = read else { return };
    assert!(proof.to_bytes().expect("what was read can be written") == bytes);
    if let Ok(root) = within(2 * bytes.len() + SMALL, "root of a proof", || proof.root()) {
        let number = u64::from_le_bytes(*bytes[16..].first_chunk().expect("it has a head"));
        assert!(proof.verify(&root, number).expect("it has a root"));
        assert!(!proof.verify(&[1; 32], number).expect("it has a root"));
    }
}

/// The border says what the library says.
#[expect(unsafe_code, reason = "calls the C ABI")]
pub fn check_abi(bytes: &[u8]) {
    for (number, format) in FORMATS.into_iter().enumerate() {
        let view = SubtreeView::parse(bytes, format);
        for verify in [0, 1] {
            let mut header = std::mem::MaybeUninit::<blocktier_subtree_header_t>::zeroed();
            // SAFETY: the bytes with their length, and memory for a header.
            let (status, header) = unsafe {
                let (first, length) = (bytes.as_ptr(), bytes.len());
                let out = header.as_mut_ptr();
                let status = within(VERIFYING * length + SMALL, "inspect", || {
                    blocktier_subtree_inspect(first, length, number as u32, verify, out, null_mut())
                });
                (status, header.assume_init())
            };
            let expected =
                view.as_ref().ok().filter(|view| verify == 0 || view.verify(&Verify::ALL).is_ok());
            let Some(view) = expected else {
                assert_eq!(status, blocktier_status_t::BLOCKTIER_FORMAT, "{format:?}");
                continue;
            };
            assert_eq!(status, blocktier_status_t::BLOCKTIER_OK, "{format:?}");
            assert_eq!(header.nodes, view.header().node_count as u64);
            assert_eq!(header.nodes_offset, view.header().nodes_offset as u64);
            assert_eq!(header.conflicting, view.header().conflicting_count as u64);
            assert_eq!(header.conflicting_offset, view.header().conflicting_offset as u64);
        }
    }
}

//! Subtrees through the C ABI: checking their content, files of a directory of our own.
#![expect(unsafe_code, reason = "calls the C ABI as a C program would")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, PoisonError};

use blocktier::Hash;
use blocktier::ffi::blocktier_status_t as Status;
use blocktier::ffi::*;
use blocktier::subtree::{FormatKind, Node, SubtreeParts};

const OK: Status = Status::BLOCKTIER_OK;
const NULL: Status = Status::BLOCKTIER_NULL_POINTER;
const INVALID: Status = Status::BLOCKTIER_INVALID_ARGUMENT;

struct Directory {
    runtime: *mut blocktier_runtime_t,
    handle: *mut blocktier_subtree_directory_t,
}

fn open(path: &std::path::Path) -> (Status, Directory) {
    let path = path.to_str().unwrap();
    let (mut runtime, mut handle) = (null_mut(), null_mut());
    // SAFETY: live locals, and lengths that are theirs.
    let status = unsafe {
        assert_eq!(blocktier_runtime_open(null(), 0, &raw mut runtime, null_mut()), OK);
        let (text, length) = (path.as_ptr().cast(), path.len());
        blocktier_subtree_directory_open(runtime, text, length, &raw mut handle, null_mut())
    };
    (status, Directory { runtime, handle })
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: both are live, or null, and end here.
        unsafe {
            assert_eq!(blocktier_subtree_directory_close(self.handle, null_mut()), OK);
            assert_eq!(blocktier_runtime_close(self.runtime, null_mut()), OK);
        }
    }
}

impl Directory {
    fn store(
        &self,
        name: &str,
        format: u32,
        header: *const blocktier_subtree_header_t,
        nodes: &[Node],
        conflicting: &[Hash],
    ) -> Status {
        // SAFETY: a live handle; slices with their lengths; a header that is null or live.
        unsafe {
            blocktier_subtree_directory_store(
                self.handle,
                name.as_ptr().cast(),
                name.len(),
                format,
                header,
                nodes.as_ptr().cast(),
                nodes.len(),
                conflicting.as_ptr().cast(),
                conflicting.len(),
                null_mut(),
            )
        }
    }

    fn map(&self, name: &str, format: u32) -> (Status, Mapped) {
        let (mut array, mut data) = (null_mut(), null_mut());
        let mut header = std::mem::MaybeUninit::zeroed();
        // SAFETY: a live handle; a text with its length; live outputs.
        let (status, header) = unsafe {
            let status = blocktier_subtree_directory_map(
                self.handle,
                name.as_ptr().cast(),
                name.len(),
                format,
                &raw mut array,
                &raw mut data,
                header.as_mut_ptr(),
                null_mut(),
            );
            (status, header.assume_init())
        };
        (status, Mapped { array, data, header })
    }
}

struct Mapped {
    array: *mut blocktier_node_array_t,
    data: *mut c_void,
    header: blocktier_subtree_header_t,
}

impl Mapped {
    fn nodes(&mut self) -> &mut [Node] {
        // SAFETY: the array lives, its nodes are aligned and as many as the header says.
        unsafe { std::slice::from_raw_parts_mut(self.data.cast(), self.header.nodes as usize) }
    }

    fn conflicting(&self) -> &[Hash] {
        let behind = (self.header.conflicting_offset - self.header.nodes_offset) as usize;
        // SAFETY: as the header says.
        unsafe {
            let first = self.data.cast::<u8>().add(behind).cast();
            std::slice::from_raw_parts(first, self.header.conflicting as usize)
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: live, or null, and ends here.
        assert_eq!(unsafe { blocktier_node_array_free(self.array, null_mut()) }, OK);
    }
}

fn nodes(count: u64) -> Vec<Node> {
    (0..count).map(|i| Node { hash: [i as u8 + 1; 32], fee: i, size: 100 + i }).collect()
}

/// Handles are counted in the whole process.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn what_is_stored_is_mapped_and_outlives_the_directory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (status, directory) = open(dir.path());
    assert_eq!(status, OK);
    assert_eq!(blocktier_live_handles(7), 1);
    let nodes = nodes(50);
    let conflicting = [nodes[7].hash, nodes[2].hash];
    let parts = SubtreeParts::new(&nodes, &conflicting).unwrap();
    for format in [0, 1] {
        assert_eq!(directory.store("a", format, null(), &nodes, &conflicting), OK);
        let (status, mut mapped) = directory.map("a", format);
        assert_eq!(status, OK);
        assert_eq!(mapped.header.root, parts.root, "computed");
        assert_eq!((mapped.header.fees, mapped.header.size_in_bytes), (1225, 6225));
        assert_eq!(mapped.nodes(), nodes);
        assert_eq!(mapped.conflicting(), conflicting);
        // A change stays here.
        mapped.nodes()[49].fee = 77;
        assert_eq!(directory.map("a", format).1.nodes()[49].fee, 49);
        assert_eq!(mapped.nodes()[49].fee, 77);
    }
    let header = blocktier_subtree_header_t { root: [9; 32], ..directory.map("a", 1).1.header };
    assert_eq!(directory.store("b", 0, &raw const header, &nodes, &[]), OK);
    let (_, mut mapped) = directory.map("b", 0);
    drop(directory);
    assert_eq!((mapped.header.root, mapped.header.fees), ([9; 32], 1225), "as given");
    assert_eq!(mapped.nodes(), nodes);
    assert_eq!(open(dir.path()).0, Status::BLOCKTIER_LOCKED);
    drop(mapped);
    assert_eq!(open(dir.path()).0, OK);
    assert_eq!((blocktier_live_handles(7), blocktier_live_handles(2)), (0, 0));
}

#[test]
fn wrong_arguments_are_statuses() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (_, directory) = open(dir.path());
    let nodes = nodes(3);
    let (d, n) = (directory.handle.cast_const(), b"a".as_ptr().cast());
    let m = &raw mut *Box::leak(Box::new(null_mut::<blocktier_node_array_t>()));
    // SAFETY: null pointers are what is tested; the rest are live.
    unsafe {
        let (e, c) = (null_mut(), null());
        let p = nodes.as_ptr().cast::<c_void>();
        let store =
            |d, name, p| blocktier_subtree_directory_store(d, name, 1, 0, null(), p, 3, c, 0, e);
        assert_eq!(store(null(), n, p), NULL);
        assert_eq!(store(d, null(), p), NULL);
        assert_eq!(store(d, n, null()), NULL);
        assert_eq!(store(d, n, p.byte_add(1)), INVALID, "misaligned");
        let map = |d, name, out, data, header| {
            blocktier_subtree_directory_map(d, name, 1, 0, out, data, header, e)
        };
        let (mut data, mut header) = (null_mut(), std::mem::MaybeUninit::uninit());
        assert_eq!(store(d, n, p), OK);
        assert_eq!(map(null(), n, m, &raw mut data, header.as_mut_ptr()), NULL);
        assert_eq!(map(d, null(), m, &raw mut data, header.as_mut_ptr()), NULL);
        assert_eq!(map(d, n, null_mut(), &raw mut data, header.as_mut_ptr()), NULL);
        assert_eq!(map(d, n, m, null_mut(), header.as_mut_ptr()), NULL);
        assert_eq!(map(d, n, m, &raw mut data, null_mut()), NULL);
        assert!((*m).is_null(), "written on success only");
        assert_eq!(blocktier_subtree_directory_open(null(), n, 1, null_mut(), e), NULL);
        let runtime = directory.runtime;
        assert_eq!(blocktier_subtree_directory_open(runtime, n, 1, null_mut(), e), NULL);
        assert_eq!(blocktier_subtree_directory_close(null_mut(), e), OK);
        drop(Box::from_raw(m));
    }
    assert_eq!(directory.store("../b", 0, null(), &nodes, &[]), INVALID);
    assert_eq!(directory.store("b", 3, null(), &nodes, &[]), INVALID);
    assert_eq!(directory.store("b", 0, null(), &[], &[]), Status::BLOCKTIER_FORMAT);
    assert_eq!(directory.store("b", 2, null(), &nodes, &[]), OK);
    assert_eq!(directory.map("b", 2).0, INVALID, "no nodes in it");
    assert_eq!(directory.map("b", 0).0, Status::BLOCKTIER_FORMAT);
    assert_eq!(directory.map("none", 0).0, Status::BLOCKTIER_IO);
}

#[test]
fn content_is_checked_as_asked() {
    let mut nodes = nodes(20);
    let parts = SubtreeParts::new(&nodes, &[]).unwrap();
    let (root, sums, policy) =
        (BLOCKTIER_VERIFY_ROOT, BLOCKTIER_VERIFY_SUMS, BLOCKTIER_VERIFY_POLICY);
    // SAFETY: every field may be zero.
    let zero: blocktier_subtree_header_t = unsafe { std::mem::zeroed() };
    let sound = blocktier_subtree_header_t {
        root: parts.root,
        fees: parts.fees,
        size_in_bytes: parts.size_in_bytes,
        ..zero
    };
    let verify = |header, nodes: &[Node], listed: &[Hash], checks, expected| {
        let mut error =
            blocktier_error_t { status: 0, os_errno: 0, detail: 0, text_length: 0, text: [0; 240] };
        // SAFETY: slices with their lengths; the others are null or live.
        let status = unsafe {
            blocktier_subtree_verify(
                header,
                nodes.as_ptr().cast(),
                nodes.len(),
                listed.as_ptr().cast(),
                listed.len(),
                checks,
                expected,
                &raw mut error,
            )
        };
        (status, error.detail)
    };
    let (sound, zero) = (&raw const sound, &raw const zero);
    let broken = |kind: FormatKind| (Status::BLOCKTIER_FORMAT, kind as u32);
    let (good, bad) = (parts.root.as_ptr(), [1; 32].as_ptr());
    let listed = [nodes[4].hash, nodes[2].hash];
    assert_eq!(verify(sound, &nodes, &listed, root | sums | policy, good), (OK, 0));
    assert_eq!(verify(zero, &nodes, &[], 0, null()), (OK, 0));
    assert_eq!(verify(zero, &nodes, &[], root, null()), broken(FormatKind::RootMismatch));
    assert_eq!(verify(sound, &nodes, &[], 0, bad), broken(FormatKind::RootMismatch));
    assert_eq!(verify(zero, &nodes, &[], sums, null()), broken(FormatKind::FeeSumMismatch));
    assert_eq!(verify(sound, &[], &[], 0, null()), broken(FormatKind::ZeroNodes));
    let twice = [listed[0], listed[0]];
    assert_eq!(verify(zero, &nodes, &twice, policy, null()), broken(FormatKind::ConflictDuplicate));
    nodes[9].hash = nodes[3].hash;
    assert_eq!(
        verify(sound, &nodes, &[], sums | policy, null()),
        broken(FormatKind::DuplicateLeaf)
    );
    assert_eq!(verify(sound, &nodes, &[], 8, null()), (INVALID, 0));
    assert_eq!(verify(null(), &nodes, &[], 0, null()), (NULL, 0));
}

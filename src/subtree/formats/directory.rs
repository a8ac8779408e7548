//! A directory of subtree files of our own: written whole, mapped in their place.
//!
//! Reading a subtree copies it; mapping its file does not, but a mapped file that somebody shortens
//! ends the process. So files are mapped only where that cannot happen: see the invariants F1 to F4
//! in docs/design.md. Files elsewhere are read, see [`read_subtree`](crate::subtree::read_subtree).
//!
//! Threads: everything may be called concurrently.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::codec::{
    SubtreeFormat, SubtreeHeader, SubtreeParts, SubtreeView, encoded_length, write_subtree,
};
use super::format_error::FormatError;
use crate::error::{Error, Result};
use crate::storage::{
    CreateOptions, DirLock, FileMapping, Storage, StorageFile, check_directory, check_ours,
};
use crate::subtree::tree::leaves::LeafBytes;

const PURPOSE: &str = "subtree directory";

/// The end of the name of a file that is being written; it starts with a dot.
const UNFINISHED: &str = ".new";

/// The files of one directory, which is locked until this and all mappings of its files are gone.
///
/// ```
/// use std::sync::Arc;
/// use blocktier::settings::RuntimeSettings;
/// use blocktier::storage::RealStorage;
/// use blocktier::subtree::{Node, SubtreeDirectory, SubtreeFormat, SubtreeParts, Verify};
/// # let dir = tempfile::tempdir()?;
/// let storage = Arc::new(RealStorage::new(&RuntimeSettings::default()));
/// let subtrees = SubtreeDirectory::open(storage, dir.path())?;
/// let nodes = [Node { hash: [1; 32], fee: 5, size: 200 }];
/// let parts = SubtreeParts::new(&nodes, &[])?;
/// subtrees.store("first", SubtreeFormat::Plain, &parts)?;
/// let mapped = subtrees.map("first", SubtreeFormat::Plain)?;
/// assert_eq!(mapped.view().nodes_in_place(), Some(&nodes[..]));
/// mapped.view().verify(&Verify::ALL)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SubtreeDirectory {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    lock: Arc<DirLock>,
    written: AtomicU64,
}

impl SubtreeDirectory {
    /// Takes the existing directory `path` and removes what a killed process left unfinished in it.
    /// Its other files are kept.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if others can change its files, with what to do about it;
    /// [`Error::Locked`] if it has an owner; [`Error::Directory`], [`Error::Io`].
    pub fn open(storage: Arc<dyn Storage>, path: &Path) -> Result<Self> {
        check_directory(path)?;
        check_ours(path)?;
        let lock = DirLock::acquire(path, PURPOSE)?;
        for file in storage.read_dir(path)? {
            let name = file.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(b".") && name.ends_with(UNFINISHED.as_bytes()) {
                storage.remove_file(&file)?;
            }
        }
        let (path, lock) = (path.to_owned(), Arc::new(lock));
        Ok(Self { storage, path, lock, written: AtomicU64::new(0) })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a subtree to file `name`, durably, in the place of the file that has the name now;
    /// mappings of that one stay as they are. After an error the name has its old file, or, if the
    /// last of the steps failed (syncing the directory), the old or the new one.
    ///
    /// # Errors
    ///
    /// As [`write_subtree`]; [`Error::InvalidArgument`] for a name that is none (empty, with a
    /// slash, beginning with a dot, `LOCK`); [`Error::DiskFull`], [`Error::Io`].
    pub fn store(&self, name: &str, format: SubtreeFormat, parts: &SubtreeParts<'_>) -> Result<()> {
        let path = self.file(name)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let new = self.path.join(format!(".{name}.{number}{UNFINISHED}"));
        let stored = self.write(&new, format, parts).and_then(|()| {
            self.storage.rename(&new, &path)?;
            self.storage.sync_dir(&self.path)
        });
        if stored.is_err() {
            // Already renamed, or never made, or in the way of nobody: it goes with the next open.
            let _ = self.storage.remove_file(&new);
        }
        stored
    }

    fn write(&self, path: &Path, format: SubtreeFormat, parts: &SubtreeParts<'_>) -> Result<()> {
        let (nodes, conflicting) = (parts.nodes.len() as u64, parts.conflicting.len() as u64);
        let allocate_bytes = encoded_length(format, nodes, conflicting).unwrap_or(u64::MAX);
        let options = CreateOptions { allocate_bytes, direct: false };
        let file = self.storage.create(path, &options)?;
        let mut writer = FileWriter { file: &*file, offset: 0, failure: None };
        let written = write_subtree(&mut writer, format, parts);
        // It says more than what it was turned into for the writer's trait.
        if let Some(failure) = writer.failure {
            return Err(failure);
        }
        debug_assert!(written.as_ref().is_ok_and(|&bytes| bytes == allocate_bytes));
        written?;
        file.sync_data()
    }

    /// Maps file `name`. Its sizes are checked to the last byte, its content is not: see
    /// [`SubtreeView::verify`]. Costs a few system calls, whatever the size.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] as [`inspect`](crate::subtree::inspect), with the path;
    /// [`Error::InvalidArgument`] as [`store`](Self::store); [`Error::Unsupported`] if it is not a
    /// regular file with this one name that we alone can change; [`Error::Io`];
    /// [`Error::OutOfMemory`].
    pub fn map(&self, name: &str, format: SubtreeFormat) -> Result<MappedSubtree> {
        let path = self.file(name)?;
        let mapping = FileMapping::open(&path)?;
        let header = match SubtreeView::parse(mapping.bytes(), format) {
            Ok(view) => view.header,
            Err(Error::Format(FormatError { kind, detail })) => {
                let detail = format!("{}: {detail}", path.display());
                return Err(FormatError { kind, detail }.into());
            }
            Err(error) => return Err(error),
        };
        Ok(MappedSubtree { header, mapping, _lock: Arc::clone(&self.lock) })
    }

    fn file(&self, name: &str) -> Result<PathBuf> {
        let is_name = !name.is_empty() && !name.contains(['/', '\0']) && !name.starts_with('.');
        if is_name && name != DirLock::FILE_NAME {
            return Ok(self.path.join(name));
        }
        Err(Error::InvalidArgument(format!(
            "\"{}\" is no name for a subtree's file: want one without a slash, that is not LOCK \
             and does not begin with a dot",
            name.escape_debug()
        )))
    }
}

/// A subtree's file, mapped. Keeps the directory locked.
#[derive(Debug)]
pub struct MappedSubtree {
    header: SubtreeHeader,
    /// Unmapped before the lock is given up.
    mapping: FileMapping,
    _lock: Arc<DirLock>,
}

impl MappedSubtree {
    /// The subtree in place; its nodes are aligned.
    #[must_use]
    pub fn view(&self) -> SubtreeView<'_> {
        let bytes = self.mapping.bytes();
        let SubtreeHeader { format, node_count, nodes_offset, .. } = self.header;
        if format == SubtreeFormat::HashList {
            let (leaves, conflicting) = (LeafBytes::Hashes(bytes.as_chunks().0), &[][..]);
            return SubtreeView { header: self.header, leaves, conflicting };
        }
        let nodes = &bytes[nodes_offset..].as_chunks().0[..node_count];
        let conflicting = bytes[self.header.conflicting_offset..].as_chunks().0;
        SubtreeView { header: self.header, leaves: LeafBytes::Nodes(nodes), conflicting }
    }

    /// Counts, offsets, and the unverified root and sums.
    #[must_use]
    pub const fn header(&self) -> &SubtreeHeader {
        &self.header
    }

    /// The first byte of the file's memory, for the border. What is written through it is seen by
    /// this process alone. Valid until this value is dropped.
    #[must_use]
    pub(crate) const fn as_mut_ptr(&self) -> *mut u8 {
        self.mapping.as_mut_ptr()
    }
}

/// Writes one after the other, and keeps the error as it was.
struct FileWriter<'a> {
    file: &'a dyn StorageFile,
    offset: u64,
    failure: Option<Error>,
}

impl Write for FileWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Err(failure) = self.file.write_all_at(bytes, self.offset) {
            self.failure = Some(failure);
            return Err(std::io::ErrorKind::Other.into());
        }
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

//! Files in memory, so that thousands of damaged copies of a map can be looked at in a second.
//! Directories are real and hold nothing but locks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use blocktier::storage::{CreateOptions, Storage, StorageFile};
use blocktier::{Error, Result};

pub type Files = BTreeMap<PathBuf, Vec<u8>>;
type Shared = Arc<Mutex<Vec<u8>>>;

/// A handle; clones share the files.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage(Arc<Mutex<BTreeMap<PathBuf, Shared>>>);

#[derive(Debug)]
struct MemoryFile(PathBuf, Shared);

fn missing(op: &'static str, path: &Path) -> Error {
    Error::io(op, path, None, std::io::Error::from(std::io::ErrorKind::NotFound))
}

impl MemoryStorage {
    /// Has these files from now on and no others.
    pub fn set(&self, files: &Files) {
        let shared = |(path, bytes): (&PathBuf, &Vec<u8>)| {
            (path.clone(), Arc::new(Mutex::new(bytes.clone())))
        };
        *self.0.lock().unwrap() = files.iter().map(shared).collect();
    }

    /// Flips bits of one byte: of which file, where, and which.
    pub fn flip(&self, (path, at, mask): &(PathBuf, usize, u8)) {
        let files = self.0.lock().unwrap();
        files[path].lock().unwrap()[*at] ^= mask;
    }
}

impl Storage for MemoryStorage {
    fn create(&self, path: &Path, options: &CreateOptions) -> Result<Box<dyn StorageFile>> {
        let bytes = Arc::new(Mutex::new(vec![0; options.allocate_bytes as usize]));
        let before = self.0.lock().unwrap().insert(path.to_owned(), Arc::clone(&bytes));
        assert!(before.is_none(), "{} is there already", path.display());
        Ok(Box::new(MemoryFile(path.to_owned(), bytes)))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn StorageFile>> {
        let bytes = self.0.lock().unwrap().get(path).cloned();
        let bytes = bytes.ok_or_else(|| missing("open", path))?;
        Ok(Box::new(MemoryFile(path.to_owned(), bytes)))
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn StorageFile>> {
        self.open_read(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path).unwrap();
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.0.lock().unwrap().remove(path).map(drop).ok_or_else(|| missing("remove", path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut files = self.0.lock().unwrap();
        let bytes = files.remove(from).ok_or_else(|| missing("rename", from))?;
        files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove_dir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let files = self.0.lock().unwrap();
        Ok(files.keys().filter(|file| file.parent() == Some(path)).cloned().collect())
    }

    fn sync_dir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn free_space(&self, _: &Path) -> Result<u64> {
        Ok(u64::MAX)
    }
}

impl StorageFile for MemoryFile {
    fn path(&self) -> &Path {
        &self.0
    }

    fn alignment(&self) -> usize {
        1
    }

    fn is_direct(&self) -> bool {
        false
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let (mut file, end) = (self.1.lock().unwrap(), offset as usize + bytes.len());
        if file.len() < end {
            file.resize(end, 0);
        }
        file[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let file = self.1.lock().unwrap();
        let Some(found) = file.get(offset as usize..offset as usize + bytes.len()) else {
            let reason = "the file ends before what was asked for".to_owned();
            return Err(Error::Corrupt { path: self.0.clone(), offset, reason });
        };
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.1.lock().unwrap().resize(len_bytes as usize, 0);
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        Ok(self.1.lock().unwrap().len() as u64)
    }
}

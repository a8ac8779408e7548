//! What would be lost in a power cut: the bytes that unsynced writes have replaced.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::{Error, Result};

/// The bytes that one write has replaced.
#[derive(Debug)]
struct Replaced {
    offset: u64,
    bytes: Vec<u8>,
}

/// See the module's text. The newest write of a file comes last.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    files: Mutex<Option<HashMap<PathBuf, Vec<Replaced>>>>,
}

impl Unsynced {
    pub fn remember(&self) {
        self.files.lock().get_or_insert_default();
    }

    /// A write is about to happen. What it replaces is read through the page cache.
    pub fn write(&self, path: &Path, offset: u64, len: usize) -> Result<()> {
        let mut files = self.files.lock();
        let Some(files) = files.as_mut() else { return Ok(()) };
        let mut bytes = vec![0; len];
        let read = |file: File| {
            let mut done = 0;
            while done < len {
                match file.read_at(&mut bytes[done..], offset + done as u64)? {
                    0 => break,
                    count => done += count,
                }
            }
            Ok(())
        };
        File::open(path).and_then(read).map_err(|error| Error::io("read", path, None, error))?;
        files.entry(path.to_owned()).or_default().push(Replaced { offset, bytes });
        Ok(())
    }

    pub fn synced(&self, path: &Path) {
        if let Some(files) = self.files.lock().as_mut() {
            files.remove(path);
        }
    }

    pub fn renamed(&self, from: &Path, to: &Path) {
        if let Some(files) = self.files.lock().as_mut()
            && let Some(replaced) = files.remove(from)
        {
            files.insert(to.to_owned(), replaced);
        }
    }

    pub fn lose(&self, mut lost: impl FnMut(&Path, u64) -> bool) -> Result<()> {
        let mut files = self.files.lock();
        for (path, writes) in files.iter_mut().flat_map(HashMap::drain) {
            let mut restore = || -> std::io::Result<()> {
                let file = File::options().write(true).open(&path)?;
                for write in writes.iter().rev().filter(|write| lost(&path, write.offset)) {
                    file.write_all_at(&write.bytes, write.offset)?;
                }
                Ok(())
            };
            match restore() {
                // Removed since.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => result.map_err(|error| Error::io("write", &path, None, error))?,
            }
        }
        Ok(())
    }
}

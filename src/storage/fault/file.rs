//! A file of a storage with faults.

use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::rule::{Access, Fault, FaultOp};
use super::{Shared, error};
use crate::Result;
use crate::storage::{ReadRequest, StorageFile};

/// A file that asks its storage's rules first. It has no descriptor of its own: whoever reads
/// through one would read past the faults.
#[derive(Debug)]
pub(super) struct FaultFile {
    pub inner: Box<dyn StorageFile>,
    pub shared: Arc<Shared>,
}

impl FaultFile {
    fn access(&self, op: FaultOp, offset: u64, len: u64) -> Access<'_> {
        Access { op, path: self.inner.path(), offset, len }
    }

    /// Writes the first `len` bytes, or what of them suits the alignment.
    fn write_part(&self, bytes: &[u8], offset: u64, len: usize) -> Result<()> {
        let len = len.min(bytes.len());
        let len = if len < bytes.len() { len - len % self.inner.alignment() } else { len };
        if len == 0 {
            return Ok(());
        }
        self.inner.write_all_at(&bytes[..len], offset)
    }

    /// A read about which the rules have decided.
    fn read_with(&self, fault: Option<Fault>, bytes: &mut [u8], offset: u64) -> Result<()> {
        let len = bytes.len() as u64;
        if let Some(Fault::Errno(errno) | Fault::ShortWrite { errno, .. }) = fault {
            return Err(error(&self.access(FaultOp::Read, offset, len), errno));
        }
        self.shared.limits.throttle(self.inner.path(), len);
        self.inner.read_exact_at(bytes, offset)?;
        if let Some(Fault::FlipBits { offset: at, mask }) = fault
            && let Some(byte) = at.checked_sub(offset).and_then(|at| bytes.get_mut(at as usize))
        {
            *byte ^= mask;
        }
        Ok(())
    }
}

impl StorageFile for FaultFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn alignment(&self) -> usize {
        self.inner.alignment()
    }

    fn is_direct(&self) -> bool {
        self.inner.is_direct()
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let access = self.access(FaultOp::Write, offset, bytes.len() as u64);
        match self.shared.enter(&access) {
            Some(Fault::Errno(errno)) => return Err(error(&access, errno)),
            Some(Fault::ShortWrite { bytes: len, errno }) => {
                self.write_part(bytes, offset, len)?;
                return Err(error(&access, errno));
            }
            Some(Fault::TornWrite { bytes: len }) => return self.write_part(bytes, offset, len),
            Some(Fault::FlipBits { .. }) | None => {}
        }
        let limits = &self.shared.limits;
        let alignment = self.inner.alignment() as u64;
        let fits = limits.take_write(access.path, offset, access.len, alignment);
        limits.throttle(access.path, fits);
        if fits < access.len {
            self.shared.count_fault(FaultOp::Write);
            self.write_part(bytes, offset, fits as usize)?;
            let rest = Access { offset: offset + fits, len: access.len - fits, ..access };
            return Err(error(&rest, Errno::NOSPC.raw_os_error()));
        }
        self.shared.unsynced.write(self.inner.path(), offset, bytes.len())?;
        self.inner.write_all_at(bytes, offset)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let fault = self.shared.enter(&self.access(FaultOp::Read, offset, bytes.len() as u64));
        self.read_with(fault, bytes, offset)
    }

    fn read_batch(&self, requests: &mut [ReadRequest<'_>]) {
        let faults: Vec<Option<Fault>> = requests
            .iter()
            .map(|request| {
                let len = request.bytes.len() as u64;
                self.shared.enter(&self.access(FaultOp::Read, request.offset, len))
            })
            .collect();
        if faults.iter().all(Option::is_none) {
            let bytes = requests.iter().map(|request| request.bytes.len() as u64).sum();
            self.shared.limits.throttle(self.inner.path(), bytes);
            self.inner.read_batch(requests);
            return;
        }
        for (request, fault) in requests.iter_mut().zip(faults) {
            request.result = self.read_with(fault, request.bytes, request.offset);
        }
    }

    fn sync_data(&self) -> Result<()> {
        self.shared.admit(&self.access(FaultOp::Sync, 0, 0))?;
        self.inner.sync_data()?;
        self.shared.unsynced.synced(self.inner.path());
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.shared.admit(&self.access(FaultOp::SetLen, 0, len_bytes))?;
        self.inner.set_len(len_bytes)?;
        self.shared.limits.cut_space(self.inner.path(), len_bytes);
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
}

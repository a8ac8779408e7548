//! Who may take how much memory: the one trait that lower layers see of the memory budget.
//!
//! The budget itself ([`crate::runtime::MemoryBudget`]) belongs to the runtime; the index and the
//! storage room only know that somebody grants bytes.

use crate::Result;

/// Grants and takes back memory, in bytes. Implementations are exact under concurrency.
pub trait MemoryReserve: Send + Sync + std::fmt::Debug {
    /// Takes `bytes` for `what`, or leaves everything as it was.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] with `what` and the bytes that are left.
    fn reserve(&self, what: &'static str, bytes: u64) -> Result<()>;

    /// Gives back bytes that [`MemoryReserve::reserve`] granted.
    fn release(&self, bytes: u64);
}

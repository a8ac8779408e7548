//! What lower layers see of the runtime's care for memory: who may take how much, and who prepares
//! it.
//!
//! The budget ([`crate::runtime::MemoryBudget`]) and the thread ([`crate::runtime::Preparer`])
//! belong to the runtime; the index and the storage room only know that somebody grants bytes and
//! that somebody works behind their back.

use crate::Result;
use crate::events::{EventLevel, EventRing};

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

/// Runs jobs that prepare memory, on a thread of its own.
pub trait Prepare: Send + Sync + std::fmt::Debug {
    /// Runs `job` soon, or drops it where that is not to be had: whoever asks must do without.
    fn prepare(&self, job: Box<dyn FnOnce() + Send>);
}

/// Says, once, that what was asked for by name is not there.
pub(crate) fn no_explicit_pages(events: &EventRing, what: &str, bytes: u64) {
    let text = format!(
        "hugePages = explicit: the system has no reserved huge pages left for {bytes} bytes of \
         {what}; transparent ones serve. Raise vm.nr_hugepages"
    );
    events.push_once("explicit huge pages", EventLevel::Warn, text);
}

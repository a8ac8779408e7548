//! What an index is made with.

use std::sync::Arc;

use super::rehash::{self, Ring};
use crate::events::EventRing;
use crate::memory::{MemoryReserve, Prepare};
use crate::storage::HugePages;

/// How buckets are compared.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ScanKernel {
    /// The best of this processor.
    #[default]
    Auto,
    /// One 512-bit comparison; [`crate::Error::Unsupported`] where the processor cannot.
    Avx512,
    /// Two 256-bit comparisons; [`crate::Error::Unsupported`] where the processor cannot.
    Avx2,
    /// Portable code.
    Scalar,
}

/// How to make an index. The default grows from nothing, on ordinary pages, without a budget.
#[derive(Clone)]
pub struct IndexOptions {
    /// How many entries are expected; 0 when unknown. From about 0.9 million on the index starts
    /// at its final size (9.4 bytes an entry), of which the system supplies what is touched.
    pub expected_entries: u64,
    /// Huge pages, where a piece of memory is large enough.
    pub huge_pages: HugePages,
    /// Faults the pages of an index of final size in at once, instead of at first touch.
    pub prefault: bool,
    /// Bytes of memory that are taken and touched at once, for growth beyond `expected_entries`.
    pub ready_bytes: u64,
    /// Bytes of memory that the index takes at most; 0: no limit of its own.
    pub cap_bytes: u64,
    /// How buckets are compared.
    pub kernel: ScanKernel,
    /// The account that all memory is reserved from, before it is mapped; none: no limit.
    pub reserve: Option<Arc<dyn MemoryReserve>>,
    /// Who hears that there were not enough huge pages of those that were reserved.
    pub events: Option<Arc<EventRing>>,
    /// How many tag bits splits may use before a page is to be built anew from its keys.
    #[doc(hidden)]
    pub rehash_splits: u32,
    /// Who is told when there is such a page. None: it goes on with more false matches.
    pub rehasher: Option<Arc<dyn Ring>>,
    /// Who touches the next piece of a growing index before it is needed; none: whoever uses it.
    pub preparer: Option<Arc<dyn Prepare>>,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            expected_entries: 0,
            huge_pages: HugePages::Off,
            prefault: false,
            ready_bytes: 0,
            cap_bytes: 0,
            kernel: ScanKernel::Auto,
            reserve: None,
            events: None,
            rehash_splits: rehash::SPLITS,
            rehasher: None,
            preparer: None,
        }
    }
}

impl std::fmt::Debug for IndexOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexOptions")
            .field("expected_entries", &self.expected_entries)
            .field("huge_pages", &self.huge_pages)
            .field("prefault", &self.prefault)
            .field("ready_bytes", &self.ready_bytes)
            .field("cap_bytes", &self.cap_bytes)
            .field("kernel", &self.kernel)
            .field("reserve", &self.reserve.is_some())
            .field("rehasher", &self.rehasher.is_some())
            .field("preparer", &self.preparer.is_some())
            .finish()
    }
}

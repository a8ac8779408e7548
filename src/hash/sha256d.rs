//! sha256d: SHA-256 applied twice, the hash of transactions, blocks and Merkle nodes.
//!
//! This is the one place that chooses a kernel: vectors of many inputs where they pay (AVX-512,
//! AVX2), the processor's SHA-2 instructions for the rest (SHA-NI, ARM), plain code where there is
//! nothing else. All kernels give the same bytes.
//!
//! Threads: pure functions. The process-wide choice is one relaxed atomic: a change is seen by
//! later calls, and a call that races it uses either kernel, with the same result.

use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(all(target_arch = "aarch64", not(miri)))]
use super::sha256::arm::ArmSha2;
use super::sha256::pairs::HashPairs;
use super::sha256::portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::sha256::{avx2::Avx2, avx512::Avx512, sha_ni::ShaNi};
#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::vectors::{avx2, avx512};
use crate::types::Hash;
use crate::{Error, Result};

/// Which code computes sha256d.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Sha256dKernel {
    /// The fastest that this processor runs.
    #[default]
    Auto = 0,
    /// Sixteen inputs at a time; few or long ones as `Auto` hashes them without AVX-512.
    Avx512 = 1,
    /// The SHA instructions of x86 processors, up to four inputs at a time.
    ShaNi = 2,
    /// Eight inputs at a time; few or long ones as `Auto` hashes them without vectors.
    Avx2 = 3,
    /// The SHA-2 instructions of ARM processors, up to four inputs at a time.
    ArmSha2 = 4,
    /// Plain code, no special instructions.
    Portable = 5,
}

impl Sha256dKernel {
    /// All kernels, the fastest first, without `Auto`.
    pub const ALL: [Self; 5] =
        [Self::Avx512, Self::ShaNi, Self::ArmSha2, Self::Avx2, Self::Portable];

    /// The name in settings and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Avx512 => "avx512",
            Self::ShaNi => "shani",
            Self::Avx2 => "avx2",
            Self::ArmSha2 => "armsha2",
            Self::Portable => "portable",
        }
    }

    /// The kernel of this name; `Auto` if there is none.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name).unwrap_or(Self::Auto)
    }

    /// The kernels that this processor runs, the fastest first; at least the portable one.
    pub fn available() -> impl Iterator<Item = Sha256d> {
        Self::ALL.into_iter().filter_map(|kernel| Sha256d::new(kernel).ok())
    }

    fn of_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|kernel| *kernel as u8 == code).unwrap_or(Self::Auto)
    }
}

/// One input at a time, or a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Narrow {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    ShaNi(ShaNi),
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    ArmSha2(ArmSha2),
    Portable,
}

/// Many inputs at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wide {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx512(Avx512),
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx2(Avx2),
}

/// sha256d by a kernel that this processor runs. Without state, shared by all threads.
///
/// ```
/// use blocktier::hash::{Sha256d, Sha256dKernel};
/// let (auto, portable) = (Sha256d::selected(), Sha256d::new(Sha256dKernel::Portable)?);
/// assert_eq!(auto.hash(b"any kernel"), portable.hash(b"any kernel"));
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256d {
    kernel: Sha256dKernel,
    wide: Option<Wide>,
    narrow: Narrow,
}

/// Of the process; `Auto` until one is selected.
static SELECTED: AtomicU8 = AtomicU8::new(Sha256dKernel::Auto as u8);

impl Sha256d {
    /// The kernel that was asked for. `Auto` becomes the fastest one there is.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the processor lacks the instructions.
    pub fn new(kernel: Sha256dKernel) -> Result<Self> {
        if kernel == Sha256dKernel::Auto {
            return Ok(Sha256dKernel::available().next().unwrap_or(Self::PORTABLE));
        }
        Self::detect(kernel).ok_or_else(|| {
            let name = kernel.name();
            let reason = "this processor lacks the instructions; use auto";
            Error::Unsupported(format!("hash kernel {name}: {reason}"))
        })
    }

    const PORTABLE: Self =
        Self { kernel: Sha256dKernel::Portable, wide: None, narrow: Narrow::Portable };

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn detect(kernel: Sha256dKernel) -> Option<Self> {
        let sha_ni = ShaNi::detect().map(Narrow::ShaNi);
        let best = sha_ni.unwrap_or(Narrow::Portable);
        let (wide, narrow) = match kernel {
            Sha256dKernel::Avx512 => (Some(Wide::Avx512(Avx512::detect()?)), best),
            Sha256dKernel::Avx2 => (Some(Wide::Avx2(Avx2::detect()?)), best),
            Sha256dKernel::ShaNi => (None, sha_ni?),
            Sha256dKernel::Portable => return Some(Self::PORTABLE),
            Sha256dKernel::Auto | Sha256dKernel::ArmSha2 => return None,
        };
        Some(Self { kernel, wide, narrow })
    }

    #[cfg(all(target_arch = "aarch64", not(miri)))]
    fn detect(kernel: Sha256dKernel) -> Option<Self> {
        match kernel {
            Sha256dKernel::ArmSha2 => {
                let narrow = Narrow::ArmSha2(ArmSha2::detect()?);
                Some(Self { kernel, wide: None, narrow })
            }
            Sha256dKernel::Portable => Some(Self::PORTABLE),
            _ => None,
        }
    }

    #[cfg(any(not(any(target_arch = "x86_64", target_arch = "aarch64")), miri))]
    fn detect(kernel: Sha256dKernel) -> Option<Self> {
        (kernel == Sha256dKernel::Portable).then_some(Self::PORTABLE)
    }

    /// The kernel of the process: the one given to [`select`](Self::select) last, or the fastest.
    #[must_use]
    pub fn selected() -> Self {
        let kernel = Sha256dKernel::of_code(SELECTED.load(Ordering::Relaxed));
        let fastest = || Self::new(Sha256dKernel::Auto).unwrap_or(Self::PORTABLE);
        Self::detect(kernel).unwrap_or_else(fastest)
    }

    /// Makes this the kernel of the whole process.
    pub fn select(self) {
        SELECTED.store(self.kernel as u8, Ordering::Relaxed);
    }

    /// Which one it is; never `Auto`.
    #[must_use]
    pub const fn kernel(self) -> Sha256dKernel {
        self.kernel
    }

    /// sha256d of `bytes`.
    #[must_use]
    pub fn hash(self, bytes: &[u8]) -> Hash {
        self.sha256(&self.sha256(bytes))
    }

    fn sha256(self, bytes: &[u8]) -> [u8; 32] {
        match self.narrow {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Narrow::ShaNi(kernel) => {
                portable::sha256(bytes, |state, blocks| kernel.compress(state, blocks))
            }
            #[cfg(all(target_arch = "aarch64", not(miri)))]
            Narrow::ArmSha2(kernel) => {
                portable::sha256(bytes, |state, blocks| kernel.compress(state, blocks))
            }
            Narrow::Portable => portable::sha256(bytes, portable::compress),
        }
    }

    /// The Merkle parent of two hashes: sha256d of `left` followed by `right`.
    #[must_use]
    pub fn hash_pair(self, left: &Hash, right: &Hash) -> Hash {
        let mut out = [[0; 32]];
        self.narrow.hash_pairs(&HashPairs::of_hashes(&[*left, *right]), &mut out);
        out[0]
    }

    /// sha256d of each 64-byte input, into the place of the same number in `out`.
    ///
    /// # Panics
    ///
    /// If the two slices differ in length.
    pub fn hash_64_many(self, inputs: &[[u8; 64]], out: &mut [Hash]) {
        self.hash_pairs(&HashPairs::of_inputs(inputs), out);
    }

    /// The Merkle parent of each pair, into the place of the same number in `out`.
    ///
    /// ```
    /// use blocktier::hash::{HashPairs, Sha256d};
    /// let level = [[1u8; 32], [2; 32], [3; 32], [4; 32]];
    /// let mut above = [[0; 32]; 2];
    /// let sha256d = Sha256d::selected();
    /// sha256d.hash_pairs(&HashPairs::of_hashes(&level), &mut above);
    /// assert_eq!(above[1], sha256d.hash_pair(&level[2], &level[3]));
    /// ```
    ///
    /// # Panics
    ///
    /// If there are not as many places as pairs.
    pub fn hash_pairs(self, pairs: &HashPairs<'_>, out: &mut [Hash]) {
        assert_eq!(pairs.count(), out.len(), "one output for each pair");
        let grouped = self.wide.map_or(0, |wide| wide.pairs_of(pairs.count(), self.narrow));
        let (grouped_out, rest_out) = out.split_at_mut(grouped);
        let (grouped, rest) = pairs.split_at(grouped);
        if let Some(wide) = self.wide {
            wide.hash_pairs(&grouped, grouped_out);
        }
        self.narrow.hash_pairs(&rest, rest_out);
    }
}

impl Narrow {
    fn hash_pairs(self, pairs: &HashPairs<'_>, out: &mut [Hash]) {
        match self {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::ShaNi(kernel) => kernel.hash_pairs(pairs, out),
            #[cfg(all(target_arch = "aarch64", not(miri)))]
            Self::ArmSha2(kernel) => kernel.hash_pairs(pairs, out),
            Self::Portable => {
                for (index, out) in out.iter_mut().enumerate() {
                    let once = portable::sha256(&pairs.input(index), portable::compress);
                    *out = portable::sha256(&once, portable::compress);
                }
            }
        }
    }
}

#[cfg_attr(
    any(not(target_arch = "x86_64"), miri),
    expect(unused_variables, reason = "no such kernel here")
)]
impl Wide {
    /// How many of `count` pairs to hash in groups: a last group that is not full costs as much as
    /// a full one, so a few pairs are left to `narrow`.
    fn pairs_of(self, count: usize, narrow: Narrow) -> usize {
        match self {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx512(_) => {
                let fewest = if narrow == Narrow::Portable { 2 } else { 8 };
                if count % avx512::LANES < fewest { count - count % avx512::LANES } else { count }
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx2(_) => {
                let fewest = if narrow == Narrow::Portable { 2 } else { avx2::LANES };
                if count % avx2::LANES < fewest { count - count % avx2::LANES } else { count }
            }
        }
    }

    fn hash_pairs(self, pairs: &HashPairs<'_>, out: &mut [Hash]) {
        match self {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx512(kernel) => kernel.hash_pairs(pairs, out),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx2(kernel) => kernel.hash_pairs(pairs, out),
        }
    }
}

/// sha256d of `bytes` with the selected kernel.
///
/// ```
/// let hash = blocktier::hash::sha256d(b"hello");
/// assert_eq!(hash[..4], [0x95, 0x95, 0xc9, 0xdf]);
/// ```
#[must_use]
pub fn sha256d(bytes: &[u8]) -> Hash {
    Sha256d::selected().hash(bytes)
}

/// The Merkle parent: sha256d of `left` followed by `right`, with the selected kernel.
#[must_use]
pub fn sha256d_pair(left: &Hash, right: &Hash) -> Hash {
    Sha256d::selected().hash_pair(left, right)
}

#[cfg(test)]
impl Sha256d {
    /// Every kernel of this processor, and each wide one with each way to hash the rest.
    pub(super) fn combinations() -> Vec<Self> {
        let kernels: Vec<Self> = Sha256dKernel::available().collect();
        let mut all = kernels.clone();
        for wide in kernels.iter().filter(|kernel| kernel.wide.is_some()) {
            for narrow in kernels.iter().filter(|kernel| kernel.wide.is_none()) {
                all.push(Self { narrow: narrow.narrow, ..*wide });
            }
        }
        all
    }

    /// By this kernel's vectors alone, however few pairs there are; as usual where it has none.
    pub(super) fn hash_pairs_in_groups(self, pairs: &HashPairs<'_>, out: &mut [Hash]) {
        match self.wide {
            Some(wide) => wide.hash_pairs(pairs, out),
            None => self.narrow.hash_pairs(pairs, out),
        }
    }
}

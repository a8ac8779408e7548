//! BLAKE3 of many inputs of one short length: the parents of a Merkle tree whose nodes have 2, 4, 8
//! or 16 children of 32 bytes.
//!
//! This is the one place that chooses a kernel. Vectors of many inputs are ours (AVX-512, AVX2);
//! one input at a time is hashed by the crate `blake3`. All kernels give the same bytes.
//!
//! Threads: pure functions. The process-wide choice is one relaxed atomic: a change is seen by
//! later calls, and a call that races it uses either kernel, with the same result.

use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(target_arch = "x86_64")]
use super::blake3::{avx2::Avx2, avx512::Avx512};
#[cfg(target_arch = "x86_64")]
use super::vectors::{avx2, avx512};
use crate::types::Hash;
use crate::{Error, Result};

/// Which code computes BLAKE3 of many inputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Blake3Kernel {
    /// The fastest that this processor runs.
    #[default]
    Auto = 0,
    /// Two times sixteen inputs at a time; a last eight or fewer as `Avx2` hashes them.
    Avx512 = 1,
    /// Eight inputs at a time; a last one as `Crate` hashes it.
    Avx2 = 2,
    /// The crate `blake3`, one input at a time.
    Crate = 3,
}

impl Blake3Kernel {
    /// All kernels, the fastest first, without `Auto`.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Crate];

    /// The name in messages.
    ///
    /// ```
    /// assert_eq!(blocktier::hash::Blake3Kernel::Avx2.name(), "avx2");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Crate => "crate",
        }
    }

    /// The kernels that this processor runs, the fastest first; at least the crate.
    ///
    /// ```
    /// use blocktier::hash::Blake3Kernel;
    /// let last = Blake3Kernel::available().last().unwrap();
    /// assert_eq!(last.kernel(), Blake3Kernel::Crate);
    /// ```
    pub fn available() -> impl Iterator<Item = Blake3> {
        Self::ALL.into_iter().filter_map(|kernel| Blake3::new(kernel).ok())
    }

    fn of_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|kernel| *kernel as u8 == code).unwrap_or(Self::Auto)
    }
}

/// Many inputs at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wide {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

/// BLAKE3 of many inputs by a kernel that this processor runs. Without state, shared by all
/// threads.
///
/// ```
/// use blocktier::hash::{Blake3, Blake3Kernel};
/// let parents = [[7u8; 128]; 20];
/// let (mut auto, mut plain) = ([[0; 32]; 20], [[0; 32]; 20]);
/// Blake3::selected().hash_many(&parents, &mut auto);
/// Blake3::new(Blake3Kernel::Crate)?.hash_many(&parents, &mut plain);
/// assert_eq!(auto, plain);
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blake3 {
    kernel: Blake3Kernel,
    wide: Option<Wide>,
}

/// Of the process; `Auto` until one is selected.
static SELECTED: AtomicU8 = AtomicU8::new(Blake3Kernel::Auto as u8);

impl Blake3 {
    const CRATE: Self = Self { kernel: Blake3Kernel::Crate, wide: None };

    /// The kernel that was asked for. `Auto` becomes the fastest one there is.
    ///
    /// ```
    /// use blocktier::hash::{Blake3, Blake3Kernel};
    /// let fastest = Blake3::new(Blake3Kernel::Auto)?;
    /// assert_eq!(Some(fastest), Blake3Kernel::available().next());
    /// # Ok::<(), blocktier::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the processor lacks the instructions.
    pub fn new(kernel: Blake3Kernel) -> Result<Self> {
        if kernel == Blake3Kernel::Auto {
            return Ok(Blake3Kernel::available().next().unwrap_or(Self::CRATE));
        }
        Self::detect(kernel).ok_or_else(|| {
            let name = kernel.name();
            let reason = "this processor lacks the instructions; use auto";
            Error::Unsupported(format!("BLAKE3 kernel {name}: {reason}"))
        })
    }

    #[cfg(target_arch = "x86_64")]
    fn detect(kernel: Blake3Kernel) -> Option<Self> {
        let wide = match kernel {
            Blake3Kernel::Avx512 => Some(Wide::Avx512(Avx512::detect()?)),
            Blake3Kernel::Avx2 => Some(Wide::Avx2(Avx2::detect()?)),
            Blake3Kernel::Crate => None,
            Blake3Kernel::Auto => return None,
        };
        Some(Self { kernel, wide })
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect(kernel: Blake3Kernel) -> Option<Self> {
        (kernel == Blake3Kernel::Crate).then_some(Self::CRATE)
    }

    /// The kernel of the process: the one given to [`select`](Self::select) last, or the fastest.
    ///
    /// ```
    /// use blocktier::hash::Blake3;
    /// println!("BLAKE3 by {}", Blake3::selected().kernel().name());
    /// ```
    #[must_use]
    pub fn selected() -> Self {
        let kernel = Blake3Kernel::of_code(SELECTED.load(Ordering::Relaxed));
        let fastest = || Self::new(Blake3Kernel::Auto).unwrap_or(Self::CRATE);
        Self::detect(kernel).unwrap_or_else(fastest)
    }

    /// Makes this the kernel of the whole process.
    ///
    /// ```
    /// use blocktier::hash::{Blake3, Blake3Kernel};
    /// Blake3::new(Blake3Kernel::Crate)?.select();
    /// assert_eq!(Blake3::selected().kernel(), Blake3Kernel::Crate);
    /// # Ok::<(), blocktier::Error>(())
    /// ```
    pub fn select(self) {
        SELECTED.store(self.kernel as u8, Ordering::Relaxed);
    }

    /// Which one it is; never `Auto`.
    ///
    /// ```
    /// use blocktier::hash::{Blake3, Blake3Kernel};
    /// assert_ne!(Blake3::selected().kernel(), Blake3Kernel::Auto);
    /// ```
    #[must_use]
    pub const fn kernel(self) -> Blake3Kernel {
        self.kernel
    }

    /// BLAKE3, 32 bytes of it, of each input into the place of the same number in `out`. Inputs
    /// have 64, 128, 256 or 512 bytes; others do not compile.
    ///
    /// ```
    /// use blocktier::hash::Blake3;
    /// let level = [[1u8; 32], [2; 32], [3; 32], [4; 32]];
    /// let mut above = [[0; 32]; 2];
    /// Blake3::selected().hash_many::<64>(level.as_flattened().as_chunks().0, &mut above);
    /// assert_eq!(above[1], *blake3::hash(&[[3; 32], [4; 32]].concat()).as_bytes());
    /// ```
    ///
    /// ```compile_fail,E0080
    /// blocktier::hash::Blake3::selected().hash_many(&[[0; 96]], &mut [[0; 32]]);
    /// ```
    ///
    /// # Panics
    ///
    /// If the two slices differ in length.
    pub fn hash_many<const N: usize>(self, inputs: &[[u8; N]], out: &mut [Hash]) {
        const { assert!(matches!(N, 64 | 128 | 256 | 512), "2, 4, 8 or 16 hashes") };
        assert_eq!(inputs.len(), out.len(), "one output for each input");
        let grouped = self.wide.map_or(0, |wide| wide.grouped(inputs.len()));
        let (grouped, rest) = inputs.split_at(grouped);
        let (grouped_out, rest_out) = out.split_at_mut(grouped.len());
        if let Some(wide) = self.wide {
            wide.hash_many(grouped, grouped_out);
        }
        if let Some(narrower) = self.wide.and_then(Wide::narrower) {
            return narrower.hash_many(rest, rest_out);
        }
        for (input, out) in rest.iter().zip(rest_out) {
            *out = ::blake3::hash(input).into();
        }
    }
}

#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "no such kernel here"))]
impl Wide {
    /// How many of `count` inputs to hash in groups.
    fn grouped(self, count: usize) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => in_groups_of(avx512::LANES, count, avx2::LANES),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => in_groups_of(avx2::LANES, count, 1),
        }
    }

    /// What hashes a rest that is not worth a group; the crate if nothing.
    fn narrower(self) -> Option<Blake3> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Blake3::detect(Blake3Kernel::Avx2),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => None,
        }
    }

    fn hash_many<const N: usize>(self, inputs: &[[u8; N]], out: &mut [Hash]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(kernel) => kernel.hash_many(inputs, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(kernel) => kernel.hash_many(inputs, out),
        }
    }
}

/// A last group that is not full costs as much as a full one: less than two inputs by the crate,
/// and less than two groups of half as many lanes, but more than one of those. So up to `few`
/// inputs are left to the next narrower kernel.
#[cfg(target_arch = "x86_64")]
const fn in_groups_of(lanes: usize, count: usize, few: usize) -> usize {
    if count % lanes <= few { count - count % lanes } else { count }
}

#[cfg(test)]
impl Blake3 {
    /// By this kernel's vectors alone, however few inputs there are; as usual where it has none.
    pub(super) fn hash_many_in_groups<const N: usize>(self, inputs: &[[u8; N]], out: &mut [Hash]) {
        match self.wide {
            Some(wide) => wide.hash_many(inputs, out),
            None => self.hash_many(inputs, out),
        }
    }
}

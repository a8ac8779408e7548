//! A bucket: eight slots, one cache line; and the only code that loads one.
//!
//! Readers race with writers, so every access is atomic word by word; a reader learns from the
//! shard's version whether the words belong together. The vector kernels load the whole line by an
//! instruction written out in assembly: what a racing load means is then the processor's to say
//! (each aligned word comes whole), and the compiler can neither split nor repeat it. Under miri,
//! and on other processors, the scalar kernel with its eight relaxed loads is the only one.
//!
//! A kernel is a value that exists only where the processor has its instructions; `KernelChoice`
//! hands them out, and `dispatch` enters code compiled for them, once per operation.
#![cfg_attr(
    all(target_arch = "x86_64", not(miri)),
    expect(unsafe_code, reason = "vector instructions: racing line loads, target features")
)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::options::ScanKernel;
use super::slot::{LOCATION_MASK, MATCH_MASK, OVERFLOW};
use crate::{Error, Result};

pub(super) const SLOTS: usize = 8;

/// Eight slots in one cache line.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(super) struct Bucket {
    slots: [AtomicU64; SLOTS],
}

/// What one look at a bucket shows; bit `i` of a mask stands for slot `i`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Occupied slots with the wanted tag and side.
    pub matches: u32,
    /// Slots without a location.
    pub empty: u32,
    pub overflowed: bool,
}

impl Bucket {
    #[inline(always)]
    pub fn load(&self, slot: usize) -> u64 {
        self.slots[slot].load(Relaxed)
    }

    /// Puts `word` (without overflow bit) into a slot; the bucket's overflow bit stays.
    #[inline(always)]
    pub fn store(&self, slot: usize, word: u64) {
        let kept = if slot == 0 { self.slots[0].load(Relaxed) & OVERFLOW } else { 0 };
        self.slots[slot].store(word | kept, Relaxed);
    }

    /// Empties all slots and the overflow bit.
    pub fn clear(&self) {
        for slot in &self.slots {
            slot.store(0, Relaxed);
        }
    }

    /// Overwrites all slots and the overflow bit with those of `from`.
    pub fn copy_from(&self, from: &Self) {
        for (to, from) in self.slots.iter().zip(&from.slots) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    #[inline(always)]
    pub fn is_overflowed(&self) -> bool {
        self.slots[0].load(Relaxed) & OVERFLOW != 0
    }

    #[inline(always)]
    pub fn set_overflowed(&self, overflowed: bool) {
        let word = self.slots[0].load(Relaxed) & !OVERFLOW;
        self.slots[0].store(if overflowed { word | OVERFLOW } else { word }, Relaxed);
    }

    /// The slot that holds exactly `word` (overflow bit aside).
    #[inline]
    pub fn position(&self, word: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.load(Relaxed) & !OVERFLOW == word)
    }

    /// The words of all slots, overflow bit removed.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.slots.iter().map(|slot| slot.load(Relaxed) & !OVERFLOW)
    }
}

/// Brings the cache line at `place` near; a hint, never a fault.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}

/// As `prefetch`, for a line that will be stored to: it comes as this core's own, so that the store
/// does not have to ask the other cores for it.
#[inline(always)]
pub(super) fn prefetch_to_write<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing and cannot fault. Processors without the instruction, of
    // which no 64-bit one is known that can run a current kernel, take it as a no-op.
    unsafe {
        std::arch::asm!(
            "prefetchw [{place}]",
            place = in(reg) std::ptr::from_ref(place),
            options(nostack, preserves_flags, readonly),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}

/// A way to look at a bucket.
pub(super) trait Kernel: Copy {
    /// Looks at `bucket` once; `want` is a tag and side in their slot bits.
    fn scan(self, bucket: &Bucket, want: u64) -> Scan;
}

/// Portable: eight loads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar;

impl Kernel for Scalar {
    #[inline(always)]
    fn scan(self, bucket: &Bucket, want: u64) -> Scan {
        let (mut matches, mut empty) = (0, 0);
        for (i, slot) in bucket.slots.iter().enumerate() {
            let word = slot.load(Relaxed);
            let vacant = word & LOCATION_MASK == 0;
            empty |= u32::from(vacant) << i;
            matches |= u32::from(!vacant && word & MATCH_MASK == want) << i;
        }
        Scan { matches, empty, overflowed: bucket.is_overflowed() }
    }
}

/// An operation of the index that is compiled once per kernel.
pub(super) trait Operation {
    type Output;
    /// Must be `#[inline(always)]`, so that it is compiled with the kernel's instructions.
    fn run<K: Kernel>(self, kernel: K) -> Self::Output;
}

/// The kernel of an index: the best one of this processor, or the one that was asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum KernelChoice {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx512(x86::Avx512),
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx2(x86::Avx2),
    Scalar(Scalar),
}

impl KernelChoice {
    /// # Errors
    /// [`Error::Unsupported`] when a kernel is asked for that this processor does not have.
    pub fn new(wanted: ScanKernel) -> Result<Self> {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        let (avx512, avx2) =
            (x86::Avx512::detect().map(Self::Avx512), x86::Avx2::detect().map(Self::Avx2));
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let (avx512, avx2) = (None, None);
        let missing = |name: &str| {
            Error::Unsupported(format!(
                "scan kernel {name}: this processor lacks the instructions; use auto"
            ))
        };
        match wanted {
            ScanKernel::Auto => Ok(avx512.or(avx2).unwrap_or(Self::Scalar(Scalar))),
            ScanKernel::Avx512 => avx512.ok_or_else(|| missing("avx512")),
            ScanKernel::Avx2 => avx2.ok_or_else(|| missing("avx2")),
            ScanKernel::Scalar => Ok(Self::Scalar(Scalar)),
        }
    }

    /// Runs `operation` as compiled for this kernel.
    #[inline(always)]
    pub fn dispatch<O: Operation>(self, operation: O) -> O::Output {
        match self {
            // SAFETY: the value exists, so the processor has the instructions.
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx512(kernel) => unsafe { x86::run_avx512(kernel, operation) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Avx2(kernel) => unsafe { x86::run_avx2(kernel, operation) },
            Self::Scalar(kernel) => operation.run(kernel),
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_cvtsi128_si64, _mm256_and_si256, _mm256_castsi256_pd,
        _mm256_castsi256_si128, _mm256_cmpeq_epi64, _mm256_movemask_pd, _mm256_set1_epi64x,
        _mm256_setzero_si256, _mm512_and_si512, _mm512_castsi512_si128, _mm512_cmpeq_epi64_mask,
        _mm512_set1_epi64, _mm512_test_epi64_mask,
    };

    use super::{Bucket, Kernel, LOCATION_MASK, MATCH_MASK, Operation, Scan};

    /// Proof that AVX-512F is here.
    #[derive(Copy, Clone, Debug, PartialEq, Eq)]
    pub(in crate::index) struct Avx512(());

    /// Proof that AVX2 is here.
    #[derive(Copy, Clone, Debug, PartialEq, Eq)]
    pub(in crate::index) struct Avx2(());

    fn has_bit_instructions() -> bool {
        is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
    }

    impl Avx512 {
        pub fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx512f") && has_bit_instructions()).then_some(Self(()))
        }
    }

    impl Avx2 {
        pub fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx2") && has_bit_instructions()).then_some(Self(()))
        }
    }

    #[target_feature(enable = "avx512f,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn run_avx512<O: Operation>(kernel: Avx512, operation: O) -> O::Output {
        operation.run(kernel)
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn run_avx2<O: Operation>(kernel: Avx2, operation: O) -> O::Output {
        operation.run(kernel)
    }

    impl Kernel for Avx512 {
        #[inline(always)]
        fn scan(self, bucket: &Bucket, want: u64) -> Scan {
            // SAFETY: the value exists, so the processor has the instructions.
            unsafe { scan_avx512(bucket, want) }
        }
    }

    impl Kernel for Avx2 {
        #[inline(always)]
        fn scan(self, bucket: &Bucket, want: u64) -> Scan {
            // SAFETY: the value exists, so the processor has the instructions.
            unsafe { scan_avx2(bucket, want) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn scan_avx512(bucket: &Bucket, want: u64) -> Scan {
        let line: __m512i;
        // SAFETY: loads the 64 bytes of `bucket`, which is aligned to 64.
        unsafe {
            asm!(
                "vmovdqa64 {line}, zmmword ptr [{place}]",
                line = lateout(zmm_reg) line,
                place = in(reg) std::ptr::from_ref(bucket),
                options(nostack, readonly, preserves_flags)
            );
        }
        // Casts of bit patterns.
        let locations = _mm512_set1_epi64(LOCATION_MASK as i64);
        let tags = _mm512_and_si512(line, _mm512_set1_epi64(MATCH_MASK as i64));
        let occupied = _mm512_test_epi64_mask(line, locations);
        let equal = _mm512_cmpeq_epi64_mask(tags, _mm512_set1_epi64(want as i64));
        Scan {
            matches: u32::from(equal & occupied),
            empty: u32::from(!occupied),
            overflowed: _mm_cvtsi128_si64(_mm512_castsi512_si128(line)) < 0,
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn scan_avx2(bucket: &Bucket, want: u64) -> Scan {
        let (low, high): (__m256i, __m256i);
        // SAFETY: loads the 64 bytes of `bucket`, which is aligned to 64.
        unsafe {
            asm!(
                "vmovdqa {low}, ymmword ptr [{place}]",
                "vmovdqa {high}, ymmword ptr [{place} + 32]",
                low = out(ymm_reg) low,
                high = lateout(ymm_reg) high,
                place = in(reg) std::ptr::from_ref(bucket),
                options(nostack, readonly, preserves_flags)
            );
        }
        let (empty_low, match_low) = masks_avx2(low, want);
        let (empty_high, match_high) = masks_avx2(high, want);
        let empty = empty_low | empty_high << 4;
        Scan {
            matches: (match_low | match_high << 4) & !empty,
            empty,
            overflowed: _mm_cvtsi128_si64(_mm256_castsi256_si128(low)) < 0,
        }
    }

    /// Of four slots: which are empty, and which have the wanted tag and side (empty or not).
    #[inline]
    #[target_feature(enable = "avx2")]
    fn masks_avx2(half: __m256i, want: u64) -> (u32, u32) {
        let locations = _mm256_and_si256(half, _mm256_set1_epi64x(LOCATION_MASK as i64));
        let empty = _mm256_cmpeq_epi64(locations, _mm256_setzero_si256());
        let tags = _mm256_and_si256(half, _mm256_set1_epi64x(MATCH_MASK as i64));
        let equal = _mm256_cmpeq_epi64(tags, _mm256_set1_epi64x(want as i64));
        // Four bits each.
        (
            _mm256_movemask_pd(_mm256_castsi256_pd(empty)) as u32,
            _mm256_movemask_pd(_mm256_castsi256_pd(equal)) as u32,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::{SECONDARY, TAG_SHIFT};
    use super::*;

    struct Look<'a>(&'a Bucket, u64);

    impl Operation for Look<'_> {
        type Output = Scan;
        #[inline(always)]
        fn run<K: Kernel>(self, kernel: K) -> Scan {
            kernel.scan(self.0, self.1)
        }
    }

    /// Every kernel sees what the scalar one sees, in buckets full of near misses.
    #[test]
    fn kernels_agree() {
        let mut state = 7u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        for wanted in [ScanKernel::Avx512, ScanKernel::Avx2] {
            let kernel = match KernelChoice::new(wanted) {
                Ok(kernel) => kernel,
                Err(error) => {
                    eprintln!("not tested here: {error}");
                    continue;
                }
            };
            for _ in 0..20_000 {
                let bucket = Bucket::default();
                for slot in 0..SLOTS {
                    let tag = (next() % 3) << TAG_SHIFT;
                    let side = if next() % 2 == 0 { SECONDARY } else { 0 };
                    let location = [0, 1, LOCATION_MASK, 0][next() as usize % 4];
                    // Stale tags in empty slots must not match either.
                    bucket.store(slot, tag | side | location);
                }
                bucket.set_overflowed(next() % 2 == 0);
                for want in [0, SECONDARY, 1 << TAG_SHIFT, 1 << TAG_SHIFT | SECONDARY] {
                    let scan = kernel.dispatch(Look(&bucket, want));
                    assert_eq!(scan, Scalar.scan(&bucket, want), "{kernel:?} {bucket:x?}");
                }
            }
        }
    }

    #[test]
    fn a_store_keeps_the_overflow_bit() {
        let bucket = Bucket::default();
        bucket.set_overflowed(true);
        bucket.store(0, 5);
        bucket.store(1, 6);
        assert!(bucket.is_overflowed());
        assert_eq!(bucket.words().collect::<Vec<_>>()[..3], [5, 6, 0]);
        assert_eq!(bucket.position(5), Some(0));
        bucket.store(0, 0);
        assert!(bucket.is_overflowed());
        bucket.set_overflowed(false);
        assert_eq!(bucket.load(0), 0);
    }
}

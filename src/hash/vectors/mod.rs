//! Words of many inputs side by side in vectors: reading, transposing and writing them. Which
//! hash is computed of them is not known here.

pub(super) mod avx2;
pub(super) mod avx512;

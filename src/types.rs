//! The words that every room shares.

/// A 32-byte hash in internal byte order (as sha256d yields it).
///
/// Text shows the bytes reversed ("display order"), as block explorers do.
pub type Hash = [u8; 32];

/// A transaction id: sha256d of the transaction's standard serialization.
pub type TxId = Hash;

/// Writes `hash` in display order: 64 lower-case hex digits, last byte first.
///
/// ```
/// let mut hash = [0u8; 32];
/// hash[31] = 0xab;
/// assert!(blocktier::types::display_hex(&hash).starts_with("ab00"));
/// ```
#[must_use]
pub fn display_hex(hash: &Hash) -> String {
    use std::fmt::Write as _;
    hash.iter().rev().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

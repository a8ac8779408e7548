//! Inserting until it goes no further.

use blocktier::Error;
use blocktier::diskmap::Wait;
use blocktier::txmap::DiskTxMap;

use super::faulty::insert;

/// Inserts from number `from` on until it fails. The number that failed, and the error: everything
/// from `from` up to it was acknowledged.
pub fn insert_until_error(map: &DiskTxMap, from: u64, wait: Wait) -> (u64, Error) {
    let error = |number| insert(map, number, wait).err().map(|error| (number, error));
    (from..from + 20_000).find_map(error).unwrap()
}

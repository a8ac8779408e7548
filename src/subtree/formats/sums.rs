//! The sums that a subtree stores: those of the fees and of the sizes of its nodes.

use super::format_error::{FormatError, FormatKind};
use crate::subtree::nodes::node::{NodeBytes, fee_of, size_of_transaction};

pub(in crate::subtree) fn fee_sum(nodes: &[NodeBytes]) -> Result<u64, FormatError> {
    sum(nodes.iter().map(fee_of), FormatKind::FeeSumOverflow, "fees")
}

pub(in crate::subtree) fn size_sum(nodes: &[NodeBytes]) -> Result<u64, FormatError> {
    sum(nodes.iter().map(size_of_transaction), FormatKind::SizeSumOverflow, "sizes")
}

fn sum(
    values: impl Iterator<Item = u64>,
    overflow: FormatKind,
    what: &str,
) -> Result<u64, FormatError> {
    let mut sum = 0u64;
    for (index, value) in values.enumerate() {
        sum = sum.checked_add(value).ok_or_else(|| {
            let detail = format!("the sum of {what} exceeds 64 bits at node {index}");
            FormatError::new(overflow, detail)
        })?;
    }
    Ok(sum)
}

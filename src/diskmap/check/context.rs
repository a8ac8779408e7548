//! What all parts of one check share.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use super::report::{Finding, FindingKind, Meaning, Totals};
use super::segment::{KeyBytes, Record};
use super::summary::{Item, joined, parted};
use crate::diskmap::durable::Identity;
use crate::diskmap::log::record::Kind;
use crate::diskmap::space::lanes_of_shards;
use crate::hash::keyed::{KeyHash, KeyedHasher};
use crate::index::{SHARDS, shard_of};
use crate::storage::Storage;
use crate::{Error, Result};

/// The watcher is told after this many bytes.
const STEP_BYTES: u64 = 4 << 20;

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckProgress {
    /// Bytes read so far.
    pub done_bytes: u64,
    /// Bytes of the files that are checked. Some are read more than once, or not as a whole.
    pub total_bytes: u64,
}

/// Is told how far a check has come; `Break` interrupts it.
pub type Watch<'a> = &'a mut dyn FnMut(CheckProgress) -> ControlFlow<()>;

/// What ends a check that its watcher interrupted; no caller gets to see it.
pub(super) const INTERRUPTED: &str = "the check was interrupted";

/// See the module's text.
pub(super) struct Context<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) memory_bytes: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) totals: Totals,
    pub(super) total_bytes: u64,
    told_bytes: u64,
    watch: Watch<'a>,
    keys: Option<Keys>,
}

/// How keys are told apart and dealt out.
struct Keys {
    hasher: KeyedHasher,
    key_bytes: usize,
    lane_of_shard: Box<[u16]>,
}

impl<'a> Context<'a> {
    pub(super) fn new(storage: &'a dyn Storage, memory_bytes: u64, watch: Watch<'a>) -> Self {
        let (findings, totals) = (Vec::new(), Totals::default());
        let (total_bytes, told_bytes, keys) = (0, 0, None);
        Self { storage, memory_bytes, findings, totals, total_bytes, told_bytes, watch, keys }
    }

    /// From now on keys are those of this map.
    pub(super) fn set_identity(&mut self, identity: &Identity, weights: &[u64]) {
        self.keys = Some(Keys {
            hasher: KeyedHasher::from_secret(identity.secret),
            key_bytes: identity.key_bytes as usize,
            lane_of_shard: lanes_of_shards(SHARDS, weights),
        });
    }

    pub(super) fn hash(&self, key: &KeyBytes) -> KeyHash {
        let zero = KeyHash { hi: 0, lo: 0 };
        let Some(keys) = &self.keys else { return zero };
        match (keys.key_bytes, key.first_chunk::<32>()) {
            (32, Some(key)) => keys.hasher.hash32(key),
            (36, _) => keys.hasher.hash36(key),
            _ => zero,
        }
    }

    pub(super) fn item(&self, record: &Record) -> Item {
        let Record { unit, units, kind, key, target } = record;
        let target = if *kind == Kind::Commit { *target } else { 0 };
        Item { hash: joined(self.hash(key)), unit: *unit, units: *units, kind: *kind, target }
    }

    /// The directory that a key belongs to.
    pub(super) fn lane_of(&self, hash: u128) -> u32 {
        let shard = shard_of(parted(hash));
        let lanes = self.keys.as_ref().map(|keys| &keys.lane_of_shard);
        lanes.and_then(|lanes| lanes.get(shard)).map_or(0, |lane| u32::from(*lane))
    }

    pub(super) fn find(
        &mut self,
        path: &Path,
        bytes: Range<u64>,
        kind: FindingKind,
        meaning: Meaning,
        text: &str,
    ) {
        self.findings.push(Finding {
            path: path.to_owned(),
            offset: bytes.start,
            length: bytes.end.saturating_sub(bytes.start),
            kind,
            meaning,
            text: text.to_owned(),
        });
    }

    /// So many bytes more were read.
    pub(super) fn advance(&mut self, bytes: u64) -> Result<()> {
        self.totals.read_bytes += bytes;
        if self.totals.read_bytes - self.told_bytes >= STEP_BYTES {
            return self.tell();
        }
        Ok(())
    }

    /// Tells the watcher.
    pub(super) fn tell(&mut self) -> Result<()> {
        self.told_bytes = self.totals.read_bytes;
        let total_bytes = self.total_bytes.max(self.told_bytes);
        match (self.watch)(CheckProgress { done_bytes: self.told_bytes, total_bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::WouldBlock(INTERRUPTED)),
        }
    }
}

/// Says that bytes which mean nothing are not zeros.
pub(super) fn note_slack(context: &mut Context<'_>, path: &Path, bytes: Range<u64>) {
    let text = "bytes that mean nothing and should be zeros are not; nothing reads them";
    context.find(path, bytes, FindingKind::Slack, Meaning::Harmless, text);
}

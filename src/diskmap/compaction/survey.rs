//! What the segments of a lane hold, and which of them to merge.

use std::sync::Arc;

use super::strategy::{Choice, CompactionStrategy, Offer};
use crate::Result;
use crate::diskmap::log::lane::Lane;
use crate::diskmap::log::record::UNIT_BYTES;
use crate::diskmap::log::segment::{SEGMENT_HEADER_BYTES, Segment};

/// What the complete segments of a lane hold, in bytes.
#[derive(Debug, Default)]
pub(super) struct Survey {
    live: u64,
    dead: u64,
    /// Those with dead bytes.
    candidates: Vec<Candidate>,
    /// Files that only their tombstones keep, and candidates that are in their way, oldest first
    /// (durable maps; docs/design.md, C11).
    held: u64,
    in_the_way: Vec<Arc<Segment>>,
    /// Files that the next sync gives back.
    unsynced: u64,
}

#[derive(Debug)]
struct Candidate {
    segment: Arc<Segment>,
    live: u64,
    dead: u64,
}

/// What to merge.
pub(super) struct Plan {
    pub(super) segments: Vec<Arc<Segment>>,
    /// Ends before the next segment once this many bytes were moved.
    pub(super) stop_after_bytes: u64,
}

impl Survey {
    /// Looks at every complete segment of a lane made before incarnation `before`.
    pub(super) fn new(lane: &Lane, before: u64) -> Self {
        let mut survey = Self::default();
        let mut first_superseded = u64::MAX;
        for (entry, segment) in lane.table().segments() {
            if segment.has_superseded() {
                first_superseded = first_superseded.min(segment.incarnation);
            }
            if !segment.is_complete() || segment.is_left_alone() || segment.incarnation >= before {
                continue;
            }
            let (dead, used) = entry.dead_and_used_units();
            // The slot may have been given up and reused since; one that is spent goes by itself.
            if used <= dead || !lane.holds(&segment) {
                continue;
            }
            let unit = UNIT_BYTES as u64;
            let live = (used - dead) * unit;
            let dead = (dead * unit).saturating_sub(SEGMENT_HEADER_BYTES as u64);
            survey.live += live;
            survey.dead += dead;
            if dead > 0 {
                survey.candidates.push(Candidate { segment, live, dead });
            }
        }
        survey.look_at_spent(lane, first_superseded);
        survey
    }

    /// Durable maps: the files without a live record that are still there. `first_superseded` is
    /// the oldest segment that keeps tombstones needed.
    fn look_at_spent(&mut self, lane: &Lane, first_superseded: u64) {
        let spent = lane.retired();
        if spent.is_empty() {
            return;
        }
        let superseded =
            self.candidates.iter().map(|it| &it.segment).filter(|it| it.has_superseded());
        let mut in_the_way: Vec<Arc<Segment>> = superseded.cloned().collect();
        in_the_way.sort_unstable_by_key(|segment| segment.incarnation);
        let first = in_the_way.first().map_or(u64::MAX, |segment| segment.incarnation);
        let mut last_held = 0;
        for segment in spent {
            if !segment.has_tombstones() || segment.incarnation < first_superseded {
                self.unsynced += lane.segment_bytes();
            } else if segment.incarnation > first {
                self.held += lane.segment_bytes();
                last_held = last_held.max(segment.incarnation);
            }
        }
        in_the_way.retain(|segment| segment.incarnation < last_held);
        self.in_the_way = in_the_way;
    }

    fn total(&self) -> u64 {
        self.live.saturating_add(self.dead)
    }

    /// So much waits for a sync that the background had better, too.
    pub(super) fn waits_for_sync(&self, strategy: &dyn CompactionStrategy) -> bool {
        self.unsynced > self.live.max(strategy.target_bytes())
    }

    /// What to merge next, if anything.
    ///
    /// # Errors
    /// `InvalidArgument` for a choice of what was not offered.
    pub(super) fn plan(&self, strategy: &dyn CompactionStrategy) -> Result<Option<Plan>> {
        let total = self.total();
        let wants_space = strategy.wants_space(total, self.live);
        if !wants_space
            && !self.in_the_way.is_empty()
            && strategy.wants_space(total.saturating_add(self.held), self.live)
        {
            let segments = self.in_the_way.clone();
            return Ok(Some(Plan { segments, stop_after_bytes: strategy.target_bytes() }));
        }
        // A move of less than half dead records frees less than it writes; without need of space
        // that is not worth it.
        let offered: Vec<&Candidate> = self
            .candidates
            .iter()
            .filter(|candidate| wants_space || candidate.dead >= candidate.live)
            .collect();
        let sizes: Vec<u64> = offered.iter().map(|candidate| candidate.live).collect();
        let offer = Offer { sizes: &sizes, total, largest: self.live, alone: true };
        let choice = strategy.choose(&offer);
        let runs = choice.checked_runs(offered.len(), strategy.name())?;
        let segments: Vec<Arc<Segment>> =
            runs.iter().map(|run| Arc::clone(&offered[*run].segment)).collect();
        let stop_after_bytes = match choice {
            // The space may be enough again after a part of it.
            Choice::Space(_) => strategy.target_bytes(),
            Choice::Similar(_) | Choice::Nothing => u64::MAX,
        };
        Ok((!segments.is_empty()).then_some(Plan { segments, stop_after_bytes }))
    }

    /// Bytes above what is allowed that a merge could free now.
    pub(super) fn pending_bytes(&self, strategy: &dyn CompactionStrategy) -> u64 {
        if self.waits_for_sync(strategy) {
            return 0;
        }
        let sizes: Vec<u64> = self.candidates.iter().map(|found| found.live).collect();
        let total = self.total().saturating_add(self.held);
        let offer = Offer { sizes: &sizes, total, largest: self.live, alone: true };
        strategy.pending_compaction_bytes(&offer)
    }
}

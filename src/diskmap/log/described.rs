//! Records in a ring that outlives the process: described before they are stored, marked when they
//! are published (docs/design.md, K1 to K3).
//!
//! The order of the stores is what a kill leaves; the fences keep the compiler from another one.

use std::sync::atomic::{Ordering, fence};

use super::lane::Lane;
use super::record::{self, HEADER_BYTES, Kind, UNIT_BYTES};
use super::reservation::Reservation;
use super::segment::Segment;
use super::tail::Tail;
use crate::diskmap::ring::Claim;

const WORD_BYTES: usize = 8;

/// What decides when a record counts: the record itself, or the commit of a long one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ruler<'a> {
    reservation: &'a Reservation<'a>,
    /// From the reservation's start.
    unit: u32,
    kind: Kind,
}

impl Ruler<'_> {
    /// Its sequence number.
    pub(crate) fn seq(&self) -> u64 {
        self.reservation.seq(self.unit)
    }

    /// From now on it counts after a kill. For the holder of the shard's lock, as the last thing
    /// before the slot is changed.
    pub(crate) fn mark(&self) {
        let Reservation { lane, buffer, first_unit, segment_unit, segment_seed, .. } =
            *self.reservation;
        let tail = &lane.shared().tail;
        if tail.table().is_some() {
            let unit = first_unit + self.unit;
            let seed = record::crc_seed(segment_seed, segment_unit + unit);
            let key_bytes = lane.factory().key_bytes as usize;
            tail.mark(buffer, unit as usize * UNIT_BYTES, self.kind, key_bytes, seed);
        }
    }
}

impl Reservation<'_> {
    /// The record of this kind at `unit`, counted from the start of the reservation.
    pub(crate) const fn ruler(&self, unit: u32, kind: Kind) -> Ruler<'_> {
        Ruler { reservation: self, unit, kind }
    }
}

impl Tail {
    /// Stores a header of 16 bytes, the word with its checksum and length last: before that, what
    /// was there counts.
    pub(super) fn store_header(&self, buffer: u32, offset_bytes: usize, header: &[u8; UNIT_BYTES]) {
        let (first, second) = header.split_at(WORD_BYTES);
        self.store(buffer, offset_bytes + WORD_BYTES, second);
        fence(Ordering::Release);
        self.store(buffer, offset_bytes, first);
        fence(Ordering::Release);
    }

    /// Stores unsealed records, each as padding of its length.
    pub(super) fn store_described(
        &self,
        buffer: u32,
        offset_bytes: usize,
        records: &[u8],
        seed_at: impl Fn(u32) -> u32,
    ) {
        let mut start = 0;
        while let Some(head) = records[start..].first_chunk::<UNIT_BYTES>() {
            let [l0, l1, l2, l3, ..] = *head;
            let bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            let end = start + bytes.next_multiple_of(UNIT_BYTES);
            let mut header = *head;
            let word = Kind::Padding.bits() << 28 | (bytes - HEADER_BYTES) as u32;
            header[4..8].copy_from_slice(&word.to_le_bytes());
            let seed = seed_at((start / UNIT_BYTES) as u32);
            let crc = crc32c::crc32c_append(seed, &header[4..HEADER_BYTES]);
            header[..4].copy_from_slice(&crc.to_le_bytes());
            self.store_header(buffer, offset_bytes + start, &header);
            self.store(
                buffer,
                offset_bytes + start + UNIT_BYTES,
                &records[start + UNIT_BYTES..end],
            );
            // Before the header of the next one.
            fence(Ordering::Release);
            start = end;
        }
    }

    /// Turns the padding of a stored record into the record.
    fn mark(&self, buffer: u32, offset_bytes: usize, kind: Kind, key_bytes: usize, seed: u32) {
        let words = &self.words(buffer)[offset_bytes / WORD_BYTES..];
        let load = |word: usize| u64::from_le(words[word].load(Ordering::Relaxed));
        let padding_bytes = (load(0) >> 32) as usize & record::VALUE_BYTES_MAX;
        let length = (padding_bytes - key_bytes) as u32;
        let kind_word = kind.bits() << 28 | length;
        let mut crc = crc32c::crc32c_append(seed, &kind_word.to_le_bytes());
        let mut rest = HEADER_BYTES + padding_bytes - WORD_BYTES;
        let mut word = 1;
        while rest > 0 {
            let bytes = load(word).to_le_bytes();
            let now = rest.min(WORD_BYTES);
            crc = crc32c::crc32c_append(crc, &bytes[..now]);
            rest -= now;
            word += 1;
        }
        let first = u64::from(kind_word) << 32 | u64::from(crc);
        fence(Ordering::Release);
        words[0].store(first.to_le(), Ordering::Relaxed);
        // Before anybody finds it, let alone is told.
        fence(Ordering::Release);
    }
}

impl Lane {
    /// A buffer that was opened for a block of a ring: its old block is forgotten, and nothing of
    /// it left.
    pub(super) fn empty_buffer(&self, buffer: u32) {
        let tail = &self.shared.tail;
        if let Some(table) = tail.table() {
            table.forget(buffer);
            for word in tail.words(buffer) {
                word.store(0, Ordering::Relaxed);
            }
            fence(Ordering::Release);
        }
    }

    /// The buffer is the home of a block from now on, before anything can be reserved in it.
    pub(super) fn claim_buffer(
        &self,
        buffer: u32,
        segment: &Segment,
        block: usize,
        long: (u32, u32),
    ) {
        if let Some(table) = self.shared.tail.table() {
            let claim = Claim {
                generation: self.factory.generation,
                incarnation: segment.incarnation,
                lane: self.factory.lane,
                block: block as u32,
                long,
            };
            table.claim(buffer, &claim);
        }
    }
}

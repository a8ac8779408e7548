// Package txmap holds the transactions of a block in the making: a map from a 32-byte transaction
// id to its inpoints, with a subtree index per entry.
//
// [DiskTxMap] keeps keys in an exact index outside the Go heap and values in logs on disk with the
// recent ones in RAM; [HeapTxMap] keeps everything on the Go heap. Both have the same methods
// ([TxMap]) and are generic over the node's own hash type H and value type V, whose [Codec] the
// caller gives. [New] chooses by settings.
//
// When a block is done, Rotate takes the content out as a read-only map, MoveFrom brings the rest
// into the new content, and closing the old map removes its files.
//
// Calls without an error result wait until they can be answered or the map has failed. On failure
// they return zero values, and the first error is kept for Err and TakeErr. The forms with an error
// result return within the write timeout.
package txmap

import (
	"context"
	"iter"
	"time"
)

// Codec turns values into bytes and back. Its methods are called concurrently.
type Codec[V any] interface {
	// AppendValue appends the encoding of v to dst. A value that it refuses is not inserted.
	AppendValue(dst []byte, v V) ([]byte, error)
	// DecodeValue reads a value from b, which it must not keep: b is reused.
	DecodeValue(b []byte) (V, error)
	// SubtreeIndex returns the subtree index that v carries; 0 means none.
	SubtreeIndex(v V) int16
	// SetSubtreeIndex writes the subtree index into v, so V is a pointer where it has one.
	SetSubtreeIndex(v V, index int16)
}

// Cloner is an optional part of a Codec. HeapTxMap, which hands out the values it holds, uses it to
// change a subtree index in a copy; without it the shared value is changed, which callers that read
// it then have to synchronize.
type Cloner[V any] interface {
	// CloneValue returns a copy whose subtree index can be set without touching v.
	CloneValue(v V) V
}

// Map is the interface of block assembly's transaction map.
type Map[H ~[32]byte, V any] interface {
	// Delete removes hash and tells whether it was there.
	Delete(hash H) bool
	// Exists tells whether hash is there, exactly.
	Exists(hash H) bool
	// Get returns the value of hash.
	Get(hash H) (V, bool)
	// Length is the number of entries.
	Length() int
	// Set inserts or replaces.
	Set(hash H, value V)
	// SetIfNotExists inserts value unless hash is there. It returns the value that is there
	// afterwards and whether it is the new one.
	SetIfNotExists(hash H, value V) (V, bool)
	// Clear removes everything.
	Clear()
}

// TxMap is what both implementations have.
type TxMap[H ~[32]byte, V any] interface {
	Map[H, V]

	// GetWithErr, ExistsErr, SetErr, SetIfNotExistsErr and DeleteErr are the forms with an error
	// result.
	GetWithErr(hash H) (V, bool, error)
	ExistsErr(hash H) (bool, error)
	SetErr(hash H, value V) error
	SetIfNotExistsErr(hash H, value V) (V, bool, error)
	DeleteErr(hash H) (bool, error)

	// SetIfNotExistsBatch inserts the absent ones. inserted, if not nil, has the length of hashes
	// and tells which were inserted. It returns how many. A hash that occurs twice in the batch is
	// inserted once, with its first value.
	SetIfNotExistsBatch(hashes []H, values []V, inserted []bool) (int, error)
	// SetBatch inserts or replaces all.
	SetBatch(hashes []H, values []V) error
	// GetBatch reads the values of all hashes into values; found tells which are there. It returns
	// how many.
	GetBatch(hashes []H, values []V, found []bool) (int, error)
	// ExistsBatch tells which hashes are there. It returns how many.
	ExistsBatch(hashes []H, found []bool) (int, error)
	// DeleteBatch removes the hashes; removed, if not nil, tells which were there. It returns how
	// many.
	DeleteBatch(hashes []H, removed []bool) (int, error)

	// SubtreeIndex is the subtree index of hash, 0 where none was set, and whether hash is there.
	SubtreeIndex(hash H) (index int16, found bool, err error)
	// SubtreeIndexBatch reads the subtree indexes of all hashes into indexes, 0 for those that are
	// not there; found tells which are. It returns how many.
	SubtreeIndexBatch(hashes []H, indexes []int16, found []bool) (int, error)
	// UpdateSubtreeIndex sets the subtree index of hash; an absent hash is left absent.
	UpdateSubtreeIndex(hash H, index int16)
	// UpdateSubtreeIndexBatch sets the subtree index of all hashes that are there. It returns how
	// many are.
	UpdateSubtreeIndexBatch(hashes []H, index int16) (int, error)
	// UpdateSubtreeIndexKeys does the same for 32-byte keys that lie stride bytes apart, such as
	// the hashes in nodes of 48 bytes; see UpdateSubtreeIndexNodes.
	UpdateSubtreeIndexKeys(keys []byte, stride int, index int16) (int, error)

	// SetIfNotExistsRaw, SetRaw and GetRaw work on encoded values without allocating per key; see
	// RawBatch.
	SetIfNotExistsRaw(batch *RawBatch[H]) (int, error)
	SetRaw(batch *RawBatch[H]) error
	GetRaw(batch *RawBatch[H]) (int, error)

	// MoveFrom inserts the values (and subtree indexes) that hashes have in source, each unless its
	// hash is here; wasSet, if not nil, has the length of hashes and tells which were inserted. It
	// returns -1, or the position of the first hash that source lacks: then nothing was inserted.
	// That promise needs a source that does not change meanwhile: frozen, rotated, or left alone.
	// source may be of another kind, but not this map. After an error wasSet tells what was
	// inserted.
	MoveFrom(source TxMap[H, V], hashes []H, wasSet []bool) (int, error)
	// Rotate takes the content out as a map of its own, which is read-only: writes on it, Clear and
	// Rotate fail with ErrFrozen. This map is then empty, and not frozen. Calls that run meanwhile
	// finish on the old content, which changes until the last of them has returned. Both maps have
	// to be closed, in any order. If it fails the content stays.
	Rotate() (TxMap[H, V], error)
	// Freeze makes the map read-only until Clear or Rotate: when it returns nothing changes any
	// more, and writes fail with ErrFrozen.
	Freeze()
	// IsFrozen tells whether writes fail with ErrFrozen.
	IsFrozen() bool
	// Iter calls f with every entry until it returns true. A hash that is there all the time is
	// visited exactly once, also when it is overwritten meanwhile; one that is inserted or removed
	// meanwhile once or not at all. f may use the map. IterErr is the form with an error result,
	// All the one for range.
	Iter(f func(H, V) bool)
	IterErr(f func(H, V) bool) error
	All() iter.Seq2[H, V]
	// Keys are all hashes, as Iter visits them. KeysErr is the form with an error result.
	Keys() []H
	KeysErr() ([]H, error)

	// Flush writes what is only in RAM and returns the first error of writing.
	Flush() error
	// FlushContext is Flush that gives up waiting when the context ends.
	FlushContext(ctx context.Context) error
	// Err is the first error since the last TakeErr, nil if all is well.
	Err() error
	// TakeErr returns what Err returns and clears it. A map that has failed fails again at the next
	// write.
	TakeErr() error
	// TakeCloseWarn returns what went wrong while Close released resources, once.
	TakeCloseWarn() error
	// Close frees everything after the calls that run; later calls fail with ErrClosed. A second
	// Close returns nil.
	Close() error
	// Stats reads the counters.
	Stats() (Stats, error)
}

// Stats are the counters of a map. Sizes are in bytes.
type Stats struct {
	// Entries is the number of keys.
	Entries uint64
	// FilterRAMBytes is the memory of the index outside the Go heap; SubtreeIndexBytes is part of
	// it.
	FilterRAMBytes uint64
	// SubtreeIndexBytes is the memory of the subtree indexes.
	SubtreeIndexBytes uint64
	// TailBytes is the memory of the recent records.
	TailBytes uint64
	// LiveBytes are the bytes of records that are still current, in the tail and in files.
	LiveBytes uint64
	// Segments is the number of segment files in use; what directories wrote and read is in
	// Runtime.Disks.
	Segments uint64
	// FileReads counts reads of segment files.
	FileReads uint64
	// FalseMatches counts index tags that belonged to another key, SlowConfirms the confirms that
	// were serialized.
	FalseMatches, SlowConfirms uint64
	// Splits counts page splits of the index.
	Splits uint64
	// Failed tells that the map takes no more writes.
	Failed bool
	// SpaceWaits counts calls that waited for space in the tail, DiskWaits those that went to a
	// disk, and SpaceWaited is the time spent waiting for space, over all callers.
	SpaceWaits, DiskWaits uint64
	SpaceWaited           time.Duration
	// Compactions counts merges of segments; CompactionBytesRead and CompactionBytesWritten are what
	// they read of files and moved of records.
	Compactions, CompactionBytesRead, CompactionBytesWritten uint64
	// DeadBytes are the bytes of records that nobody wants any more; PendingCompactionBytes is what
	// of them is above what the settings allow.
	DeadBytes, PendingCompactionBytes uint64
	// DamagedSegments counts segments that compaction could not read and leaves alone.
	DamagedSegments uint64
	// Rehashes counts base pages of the index that were built anew from their keys, RehashFailures
	// those that were given up for an error, of which an event tells.
	Rehashes, RehashFailures uint64
}

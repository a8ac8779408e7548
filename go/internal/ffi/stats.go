//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_runtime_stats
#cgo nocallback blocktier_runtime_stats
#cgo noescape blocktier_runtime_disk_stats
#cgo nocallback blocktier_runtime_disk_stats
#cgo noescape blocktier_txmap_stats
#cgo nocallback blocktier_txmap_stats
*/
import "C"

import "unsafe"

// Stats reads the runtime's counters.
func (r Runtime) Stats() (RuntimeStats, error) {
	var failure C.blocktier_error_t
	var stats C.blocktier_runtime_stats_t
	status := C.blocktier_runtime_stats(r.handle, &stats, &failure)
	if err := check(status, &failure); err != nil {
		return RuntimeStats{}, err
	}
	return RuntimeStats{
		MemoryUsedBytes:  uint64(stats.memory_used),
		MemoryLimitBytes: uint64(stats.memory_limit),
		Disks:            uint64(stats.disks),
		EventsDropped:    uint64(stats.events_dropped),
	}, nil
}

// Disk reads the counters of a directory, numbered from 0; NotFound past the last.
func (r Runtime) Disk(index int) (DiskStats, error) {
	var failure C.blocktier_error_t
	var stats C.blocktier_disk_stats_t
	status := C.blocktier_runtime_disk_stats(r.handle, C.size_t(index), &stats, &failure)
	if err := check(status, &failure); err != nil {
		return DiskStats{}, err
	}
	length := min(int(stats.path_length), len(stats.path))
	path := unsafe.Slice((*byte)(unsafe.Pointer(&stats.path)), length)
	return DiskStats{
		Path:         string(path),
		BytesWritten: uint64(stats.bytes_written),
		BytesRead:    uint64(stats.bytes_read),
		Writes:       uint64(stats.writes),
		Reads:        uint64(stats.reads),
		QueuedJobs:   uint64(stats.queued_jobs),
		WriteErrors:  uint64(stats.write_errors),
		BusyNanos:    uint64(stats.busy_nanos),
	}, nil
}

// Stats reads the map's counters.
func (m TxMap) Stats() (TxMapStats, error) {
	var failure C.blocktier_error_t
	var stats C.blocktier_txmap_stats_t
	status := C.blocktier_txmap_stats(m.handle, &stats, &failure)
	if err := check(status, &failure); err != nil {
		return TxMapStats{}, err
	}
	return TxMapStats{
		Entries:           uint64(stats.entries),
		IndexBytes:        uint64(stats.index_bytes),
		SubtreeIndexBytes: uint64(stats.subtree_index_bytes),
		TailBytes:         uint64(stats.tail_bytes),
		LiveBytes:         uint64(stats.live_bytes),
		Segments:          uint64(stats.segments),
		FileReads:         uint64(stats.file_reads),
		FalseMatches:      uint64(stats.false_matches),
		SlowConfirms:      uint64(stats.slow_confirms),
		SpaceWaits:        uint64(stats.waits),
		Splits:            uint64(stats.splits),
		Failed:            stats.failed != 0,

		Compactions:            uint64(stats.compactions),
		CompactionBytesRead:    uint64(stats.compaction_bytes_read),
		CompactionBytesWritten: uint64(stats.compaction_bytes_written),
		DeadBytes:              uint64(stats.dead_bytes),
		PendingCompactionBytes: uint64(stats.pending_compaction_bytes),
		DamagedSegments:        uint64(stats.damaged_segments),
		Rehashes:               uint64(stats.rehashes),
		RehashFailures:         uint64(stats.rehash_failures),
	}, nil
}

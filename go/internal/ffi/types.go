package ffi

// HandleKind names a kind of native object for LiveHandles.
type HandleKind uint32

// The kinds of handles.
const (
	RuntimeHandle      HandleKind = 0
	TxMapHandle        HandleKind = 1
	NodeArrayHandle    HandleKind = 2
	MerkleLevelsHandle HandleKind = 3
	CursorHandle       HandleKind = 4
	TransferHandle     HandleKind = 5
	CheckHandle        HandleKind = 6
	DirectoryHandle    HandleKind = 7
)

// HandleKinds lists every kind with its name.
var HandleKinds = map[HandleKind]string{
	RuntimeHandle:      "runtime",
	TxMapHandle:        "txmap",
	NodeArrayHandle:    "node array",
	MerkleLevelsHandle: "merkle levels",
	CursorHandle:       "cursor",
	TransferHandle:     "transfer",
	CheckHandle:        "check",
	DirectoryHandle:    "subtree directory",
}

// Flags of calls that may wait.
const (
	// Blocking lets the call read disks and wait for space.
	Blocking uint32 = 0
	// NonBlocking makes the call return one of the WouldBlock errors instead of reading a disk or
	// waiting.
	NonBlocking uint32 = 1
)

// Checks of VerifySubtree.
const (
	// VerifyRoot: the header's root is that of the leaves.
	VerifyRoot uint32 = 1
	// VerifySums: the header's sums are those of the nodes.
	VerifySums uint32 = 2
	// VerifyPolicy: the rules about leaves and conflicting hashes.
	VerifyPolicy uint32 = 4
)

// States of the items of a batch.
const (
	StateUndone  = 0 // not decided: would block, or an error came first
	StateNew     = 1 // inserted, newly set, removed
	StatePresent = 2 // was there already, replaced; for deletions: absent
)

// Answers of lookups.
const (
	Absent    = 0
	Found     = 1
	Undecided = 2 // would need a disk
	ArenaFull = 3 // found, but the arena has no room
)

// NodeBytes is the size of a subtree node: hash 32, fee 8, size 8.
const NodeBytes = 48

// Lookup is the result of a point operation; the layout is the C struct's.
type Lookup struct {
	ValueOffset  uint64 // in batches: where the value begins in the arena
	ValueLength  uint32
	SubtreeIndex uint16
	Found        uint8
	_            uint8
}

// SubtreeHeader is what Inspect finds; offsets are in bytes from the start of the input.
type SubtreeHeader struct {
	Root              [32]byte
	Fees              uint64
	SizeInBytes       uint64
	Nodes             uint64
	Conflicting       uint64
	NodesOffset       uint64
	ConflictingOffset uint64
}

// Why a call would block. Both unwrap to WouldBlock.
var (
	// ErrNoSpace: the tail has no free block; try again later.
	ErrNoSpace = &Error{Code: WouldBlock, Text: "would block: no space in the tail"}
	// ErrNeedsDisk: the answer needs a disk; call again with Blocking.
	ErrNeedsDisk = &Error{Code: WouldBlock, Text: "would block: needs a disk read"}
)

// Batch is n items as the library takes them: keys of 32 bytes, values in one arena with n+1
// offsets, optional subtree indexes, and room for n states.
type Batch struct {
	Keys           []byte
	Values         []byte
	Offsets        []uint64
	SubtreeIndexes []uint16
	States         []byte
}

// Part is the items from up to but not including to, as a batch that shares the memory.
func (b Batch) Part(from, to int) Batch {
	part := Batch{
		Keys:    b.Keys[32*from : 32*to],
		Values:  b.Values,
		Offsets: b.Offsets[from : to+1],
		States:  b.States[from:to],
	}
	if b.SubtreeIndexes != nil {
		part.SubtreeIndexes = b.SubtreeIndexes[from:to]
	}
	return part
}

// RuntimeStats are the counters of a runtime.
type RuntimeStats struct {
	// MemoryUsedBytes is drawn from the memory budget at present.
	MemoryUsedBytes uint64
	// MemoryLimitBytes is the memory budget.
	MemoryLimitBytes uint64
	// Disks is the number of directories in use.
	Disks uint64
	// EventsDropped counts events that nobody fetched in time.
	EventsDropped uint64
}

// DiskStats are the counters of one directory since it came into use.
type DiskStats struct {
	// Path is the directory.
	Path string
	// BytesWritten and BytesRead count file bytes, including what alignment adds.
	BytesWritten, BytesRead uint64
	// Writes and Reads count operations.
	Writes, Reads uint64
	// QueuedJobs wait for the writer thread at present.
	QueuedJobs uint64
	// WriteErrors counts failed writes.
	WriteErrors uint64
	// BusyNanos is the time the writer thread spent on jobs.
	BusyNanos uint64
}

// TxMapStats are the counters of a map.
type TxMapStats struct {
	// Entries is the number of keys.
	Entries uint64
	// IndexBytes is the memory of the index; SubtreeIndexBytes is part of it.
	IndexBytes uint64
	// SubtreeIndexBytes is the memory of the subtree indexes.
	SubtreeIndexBytes uint64
	// TailBytes is the memory of the recent records.
	TailBytes uint64
	// LiveBytes are the bytes of records that are still current, in the tail and in files.
	LiveBytes uint64
	// Segments is the number of segment files in use.
	Segments uint64
	// FileReads counts reads of segment files.
	FileReads uint64
	// FalseMatches counts index tags that belonged to another key, SlowConfirms the confirms that
	// were serialized.
	FalseMatches, SlowConfirms uint64
	// SpaceWaits counts waits for space inside the library.
	SpaceWaits uint64
	// Splits counts page splits of the index.
	Splits uint64
	// Failed tells that the map takes no more writes.
	Failed bool
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

// Flags of StartCheck, and of a CheckResult.
const (
	CheckRepair     uint32 = 1
	CheckAcceptLoss uint32 = 2

	CheckInterrupted  uint32 = 1
	CheckNeedsConsent uint32 = 2
)

// The lists of a Check.
const (
	CheckFindings uint32 = 0
	CheckSteps    uint32 = 1
	CheckLosses   uint32 = 2
)

// CheckResult is what came of a check of a durable map's directories.
type CheckResult struct {
	Directories, Segments, Summaries   uint64
	Records, Live, Dead                uint64
	LiveBytes, DeadBytes, ReadBytes    uint64
	Findings, Steps, Losses, StepsDone int
	Worst, Flags                       uint32
}

// CheckItem is a finding, a step or a loss.
type CheckItem struct {
	Path, Text           string
	Offset, Length, Keys uint64
	Kind, Meaning        uint32
}

package ffi

// HandleKind names a kind of native object for LiveHandles.
type HandleKind uint32

// The kinds of handles.
const (
	RuntimeHandle      HandleKind = 0
	TxMapHandle        HandleKind = 1
	NodeArrayHandle    HandleKind = 2
	MerkleLevelsHandle HandleKind = 3
)

// HandleKinds lists every kind with its name.
var HandleKinds = map[HandleKind]string{
	RuntimeHandle:      "runtime",
	TxMapHandle:        "txmap",
	NodeArrayHandle:    "node array",
	MerkleLevelsHandle: "merkle levels",
}

// Flags of calls that may wait.
const (
	// Blocking lets the call read disks and wait for space.
	Blocking uint32 = 0
	// NonBlocking makes the call return one of the WouldBlock errors instead of reading a disk or waiting.
	NonBlocking uint32 = 1
	// ReadDisk lets the call read disks but not wait for space.
	ReadDisk uint32 = NonBlocking | 2
)

// States of the items of a batch.
const (
	StateUndone  = 0 // not decided: would block, or an error came first
	StateNew     = 1 // inserted, newly set, removed
	StatePresent = 2 // was there already, replaced; for deletions: absent
)

// FoundUndecided is the answer of a non-blocking lookup that needs a disk.
const FoundUndecided = 2

// NodeBytes is the size of a subtree node: hash 32, fee 8, size 8.
const NodeBytes = 48

// Lookup is the result of a point operation; the layout is the C struct's.
type Lookup struct {
	ValueLength  uint64
	SubtreeIndex uint16
	Found        uint8
	_            [5]uint8
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

// Batch is n items as the library takes them: keys of 32 bytes, values in one arena with n+1 offsets, optional subtree
// indexes, and room for n states.
type Batch struct {
	Keys           []byte
	Values         []byte
	Offsets        []uint64
	SubtreeIndexes []uint16
	States         []byte
}

// detailNeedsDisk in a WouldBlock error says that a disk read, not space, is missing.
const detailNeedsDisk = 2

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
	// IndexBytes is the memory of the index, without subtree indexes.
	IndexBytes uint64
	// SubtreeIndexBytes is the memory of the subtree indexes.
	SubtreeIndexBytes uint64
	// TailBytes is the memory of the recent records.
	TailBytes uint64
	// DiskWrittenBytes and DiskReadBytes are the map's file traffic.
	DiskWrittenBytes, DiskReadBytes uint64
	// LiveBytes are the bytes of records that are still current.
	LiveBytes uint64
}

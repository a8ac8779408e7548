// Package settings holds the settings of a node that concern this module and those of the library.
//
// They come from the environment, from a file of "key = value" lines or from a struct with `key`
// tags; an unknown key in a file is an error that names the nearest known one. A directory setting
// that is empty means the implementation on the Go heap. The struct's tags are the one table of
// keys, defaults and descriptions; units and ranges of the library's keys are checked here in form
// and by the library in full.
package settings

// Settings are all settings. The zero value means defaults everywhere and the Go heap for every
// store.
type Settings struct {
	// The names that nodes use.

	BlockAssemblySubtreeMmapDir   string   `key:"blockassembly_subtreeMmapDir" kind:"dir" default:"" desc:"directory for the mapped subtrees of block assembly; empty: Go heap"`
	BlockAssemblyTxMapDirs        []string `key:"blockassembly_txMapDirs" kind:"dirs" default:"" desc:"directories, separated by |, for the transaction map of block assembly; empty: Go heap"`
	BlockValidationSubtreeMmapDir string   `key:"blockvalidation_subtreeMmapDir" kind:"dir" default:"" desc:"directory for the mapped subtrees of block validation; empty: Go heap"`
	BlockDiskMapDirs              []string `key:"block_diskMapDirs" kind:"dirs" default:"" desc:"directories, separated by |, for the maps of block validation; empty: Go heap"`

	// The short names; a longer name above wins where both are given.

	SubtreeMmapDir string   `key:"subtreeMmapDir" kind:"dir" default:"" desc:"directory for mapped subtrees where no longer name is set"`
	TxMapDirs      []string `key:"txMapDirs" kind:"dirs" default:"" desc:"directories, separated by |, for transaction maps where no longer name is set"`

	// Keys of the library. Empty leaves the library's default.

	MemoryBudget         string `key:"memoryBudget" kind:"size" default:"" desc:"memory that tails, indexes and arrays may take together, such as 8G; empty: a share of the memory of the machine or control group"`
	DirectIO             string `key:"directIo" kind:"auto|off" default:"auto" desc:"bypass the page cache where the file system can"`
	IOUring              string `key:"ioUring" kind:"auto|off" default:"auto" desc:"io_uring for batches of reads where the kernel has it"`
	OTmpfile             string `key:"oTmpfile" kind:"auto|off" default:"auto" desc:"files without a name from the start where the file system can"`
	HugePages            string `key:"hugePages" kind:"off|transparent|explicit" default:"" desc:"huge pages for indexes and tails; explicit: of those that vm.nr_hugepages reserves, and transparent ones where they run out"`
	FaultAhead           string `key:"faultAhead" kind:"auto|off" default:"auto" desc:"a thread that touches the next piece of a growing index before it is needed"`
	ScanKernel           string `key:"scanKernel" kind:"auto|avx512|avx2|scalar" default:"auto" desc:"instructions that compare index buckets"`
	HashKernel           string `key:"hashKernel" kind:"auto|avx512|shani|avx2|armsha2|portable" default:"auto" desc:"instructions that compute sha256d, for the whole process"`
	TxMapDirWeights      string `key:"txMapDirWeights" kind:"each count" default:"" desc:"shares of the directories, such as 3|1; empty: equal shares"`
	TxMapDirQuotas       string `key:"txMapDirQuotas" kind:"each size" default:"" desc:"bytes that a map's files may take in each directory, such as 500G, or one for each, separated by |"`
	TxMapDirFloors       string `key:"txMapDirFloors" kind:"each size" default:"" desc:"bytes that a map leaves free on the file system of each directory"`
	TxMapTail            string `key:"txMapTail" kind:"size" default:"" desc:"RAM for recent records of a map, such as 512M"`
	TxMapBlock           string `key:"txMapBlock" kind:"size" default:"" desc:"unit of writing, such as 2M"`
	TxMapSegment         string `key:"txMapSegment" kind:"size" default:"" desc:"size of a segment file, a power of two; also the limit of a value"`
	TxMapExpectedEntries string `key:"txMapExpectedEntries" kind:"count" default:"" desc:"entries to size the index for; empty: it grows"`
	TxMapFlushBytes      string `key:"txMapFlushBytes" kind:"size" default:"" desc:"unwritten bytes in the tail that start a flush"`
	TxMapFlushAge        string `key:"txMapFlushAge" kind:"duration" default:"" desc:"age of an unwritten record that starts a flush, such as 500ms; 0 turns it off"`
	TxMapWriteTimeout    string `key:"txMapWriteTimeout" kind:"duration" default:"" desc:"how long a write waits for space before it fails, such as 30s"`
	TxMapName            string `key:"txMapName" kind:"name" default:"" desc:"name of a map's subdirectories, of which a second map is refused; empty: its own"`
	TxMapPrefault        string `key:"txMapPrefault" kind:"off|on" default:"" desc:"touch the tail's memory at opening, so that no write pays for that"`
	TxMapIndexReserve    string `key:"txMapIndexReserve" kind:"size" default:"" desc:"index memory that is taken and touched at opening, for growth beyond txMapExpectedEntries"`
	TxMapIndexCap        string `key:"txMapIndexCap" kind:"size" default:"" desc:"index memory at most; an insertion that needs more fails"`
	TxMapDurability      string `key:"txMapDurability" kind:"ephemeral|process|durable" default:"" desc:"durable: what was synced survives a power cut and is there when a map of this txMapName is opened again; process: so is all that was acknowledged if only the process was killed"`
	TxMapRingDir         string `key:"txMapRingDir" kind:"library dir" default:"" desc:"directory for the ring of a process map, such as one on tmpfs; empty: the map's first directory"`
	TxMapSyncOnSeal      string `key:"txMapSyncOnSeal" kind:"off|on" default:"" desc:"sync each segment when its last block is written, so that a later sync has less to do"`

	TxMapCompaction          string `key:"txMapCompaction" kind:"auto|on|off" default:"" desc:"move live records out of mostly dead segments, so that their space is freed"`
	TxMapCompactionSizeRatio string `key:"txMapCompactionSizeRatio" kind:"count" default:"" desc:"percent by which segments that are merged may differ in live bytes"`
	TxMapCompactionMinWidth  string `key:"txMapCompactionMinWidth" kind:"count" default:"" desc:"similar, at least half dead segments that are worth a merge"`
	TxMapCompactionMaxWidth  string `key:"txMapCompactionMaxWidth" kind:"count" default:"" desc:"segments that one merge takes at most; 0: no limit"`
	TxMapCompactionSpace     string `key:"txMapCompactionSpace" kind:"count" default:"" desc:"dead bytes in percent of live ones from which on everything is merged"`
	TxMapCompactionTarget    string `key:"txMapCompactionTarget" kind:"size" default:"" desc:"live bytes after which a merge for space looks again at what is left to do"`
	TxMapCompactionRate      string `key:"txMapCompactionRate" kind:"size" default:"" desc:"bytes that compaction reads and writes per second; 0: no limit"`
	TxMapCompactionSlowdown  string `key:"txMapCompactionSlowdown" kind:"size" default:"" desc:"pending bytes from which on writes are delayed; 0: never"`
	TxMapCompactionStop      string `key:"txMapCompactionStop" kind:"size" default:"" desc:"pending bytes from which on writes wait; 0: never"`
	TxMapCompactionMaxDelay  string `key:"txMapCompactionMaxDelay" kind:"duration" default:"" desc:"longest delay of a write, such as 10ms"`
}

// AssemblySubtreeDir is the directory for the subtrees of block assembly, empty for the Go heap.
func (s *Settings) AssemblySubtreeDir() string {
	return firstOf(s.BlockAssemblySubtreeMmapDir, s.SubtreeMmapDir)
}

// ValidationSubtreeDir is the directory for the subtrees of block validation, empty for the Go
// heap.
func (s *Settings) ValidationSubtreeDir() string {
	return firstOf(s.BlockValidationSubtreeMmapDir, s.SubtreeMmapDir)
}

// AssemblyTxMapDirs are the directories of block assembly's transaction map, none for the Go heap.
func (s *Settings) AssemblyTxMapDirs() []string {
	if len(s.BlockAssemblyTxMapDirs) > 0 {
		return s.BlockAssemblyTxMapDirs
	}
	return s.TxMapDirs
}

// ValidationMapDirs are the directories of block validation's maps, none for the Go heap.
func (s *Settings) ValidationMapDirs() []string {
	if len(s.BlockDiskMapDirs) > 0 {
		return s.BlockDiskMapDirs
	}
	return s.TxMapDirs
}

// UsesDisk reports whether any directory is set, which needs the library.
func (s *Settings) UsesDisk() bool {
	return s.AssemblySubtreeDir() != "" || s.ValidationSubtreeDir() != "" ||
		len(s.AssemblyTxMapDirs()) > 0 || len(s.ValidationMapDirs()) > 0
}

func firstOf(names ...string) string {
	for _, name := range names {
		if name != "" {
			return name
		}
	}
	return ""
}

package txmap

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/settings"
)

// defaultWriteTimeout is the library's default of txMapWriteTimeout.
const defaultWriteTimeout = 30 * time.Second

// Option changes how Open opens a DiskTxMap. Later options win.
type Option func(*config) error

type config struct {
	settings settings.Settings
	dirs     []string
}

// WithSettings takes all settings from s: its txMap keys, and the directories of block assembly.
func WithSettings(s settings.Settings) Option {
	return func(c *config) error {
		c.settings = s
		c.dirs = s.AssemblyTxMapDirs()
		return nil
	}
}

// WithDirs sets the directories, one per disk. They must exist; each map takes a subdirectory of
// its own and locks it.
func WithDirs(dirs ...string) Option {
	return func(c *config) error {
		c.dirs = dirs
		return nil
	}
}

// WithDirWeights sets the shares of the directories in what is written: one number from 1 to 1000
// for each, in their order. Without it they are equal.
func WithDirWeights(weights ...uint64) Option { return withEach("txMapDirWeights", weights) }

// WithDirQuotas sets how many bytes the map's files may take in each directory, or in all of them
// alike if one number is given; 0 is no limit. A map that would take more is full: it keeps what it
// has and takes no more.
func WithDirQuotas(bytes ...uint64) Option { return withEach("txMapDirQuotas", bytes) }

// WithDirFloors sets how many bytes the map leaves free on the file system of each directory, as
// WithDirQuotas.
func WithDirFloors(bytes ...uint64) Option { return withEach("txMapDirFloors", bytes) }

// WithTail sets the RAM for recent records, in bytes. It is the write buffer and the cache of what
// was written last.
func WithTail(bytes uint64) Option { return with("txMapTail", bytes) }

// WithBlock sets the unit of writing, in bytes. The default follows from the tail.
func WithBlock(bytes uint64) Option { return with("txMapBlock", bytes) }

// WithSegment sets the size of a segment file, in bytes, a power of two. No value can be longer.
func WithSegment(bytes uint64) Option { return with("txMapSegment", bytes) }

// WithExpectedEntries sizes the index for so many entries; it grows beyond them.
func WithExpectedEntries(entries uint64) Option { return with("txMapExpectedEntries", entries) }

// WithFlushBytes sets how many unwritten bytes start a flush.
func WithFlushBytes(bytes uint64) Option { return with("txMapFlushBytes", bytes) }

// WithFlushAge sets the age of an unwritten record that starts a flush, a whole number of
// milliseconds; 0 turns that off.
func WithFlushAge(age time.Duration) Option { return withDuration("txMapFlushAge", age) }

// WithWriteTimeout sets how long a call with an error result waits for space before it fails with
// ErrTimedOut; a whole number of milliseconds.
func WithWriteTimeout(timeout time.Duration) Option {
	return withDuration("txMapWriteTimeout", timeout)
}

// WithDurability keeps the map's content on disk: what was synced is there when a map of the same
// name is opened in the same directories again. It needs WithName.
func WithDurability(on bool) Option {
	if on {
		return with("txMapDurability", "durable")
	}
	return with("txMapDurability", "ephemeral")
}

// WithProcessDurability makes a durable map (see WithDurability) that also keeps what was not
// synced when the process is killed: whatever a call has acknowledged is there when the map is
// opened again. For that the tail lies in a file that every store goes to; see WithRingDir. If the
// machine stops, what was synced is there. It needs WithName.
func WithProcessDurability(on bool) Option {
	if on {
		return with("txMapDurability", "process")
	}
	return with("txMapDurability", "ephemeral")
}

// WithRingDir sets the directory for the file that the tail of a map with WithProcessDurability
// lies in, which is as large as the tail. Without it that is the map's first directory, where the
// kernel writes the file to the disk from time to time; a directory on tmpfs, which it does not
// write, must hold the tail, and nothing may clean it up behind the map's back.
func WithRingDir(dir string) Option { return with("txMapRingDir", dir) }

// WithSyncOnSeal syncs each segment of a durable map when it is complete, in the background. A
// later Sync then has less to do, and a power cut takes less of what was not synced.
func WithSyncOnSeal(on bool) Option {
	if on {
		return with("txMapSyncOnSeal", "on")
	}
	return with("txMapSyncOnSeal", "off")
}

// WithPrefault touches the tail's memory at opening, so that no write pays for that. Opening then
// takes as long as the machine needs to supply so much memory.
func WithPrefault(on bool) Option {
	if on {
		return with("txMapPrefault", "on")
	}
	return with("txMapPrefault", "off")
}

// WithName names the map's subdirectories, in up to 64 letters, digits, dots, hyphens and
// underscores. While the map is open another of that name in one of its directories is refused. An
// empty name, the default, means one of its own.
func WithName(name string) Option { return with("txMapName", name) }

func with(key string, value any) Option {
	return func(c *config) error { return c.settings.Set(key, fmt.Sprint(value)) }
}

func withEach(key string, values []uint64) Option {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = strconv.FormatUint(value, 10)
	}
	return with(key, strings.Join(texts, "|"))
}

// withDuration keeps what ParseDuration refuses as it is: rounding would hide it.
func withDuration(key string, value time.Duration) Option {
	if value%time.Millisecond != 0 {
		return with(key, value)
	}
	return with(key, fmt.Sprintf("%dms", value.Milliseconds()))
}

func (c *config) apply(options []Option) error {
	for _, option := range options {
		if err := option(c); err != nil {
			return ffi.Errorf(ffi.Setting, "%v", err)
		}
	}
	for _, dir := range c.dirs {
		if dir == "" || strings.ContainsAny(dir, "|\n#") {
			return ffi.Errorf(ffi.Setting,
				"txMapDirs: %q is empty or holds a |, a # or a line break", dir)
		}
	}
	if len(c.dirs) == 0 {
		return ffi.Errorf(ffi.Setting, "txMapDirs: a DiskTxMap needs at least one directory")
	}
	return nil
}

// text is what the library reads.
func (c *config) text() string {
	return "txMapDirs = " + strings.Join(c.dirs, "|") + "\n" + c.settings.Text()
}

func (c *config) writeTimeout() (time.Duration, error) {
	if c.settings.TxMapWriteTimeout == "" {
		return defaultWriteTimeout, nil
	}
	return settings.ParseDuration(c.settings.TxMapWriteTimeout)
}

package subtree

import (
	"log/slog"
	"runtime"
	"slices"
	"unsafe"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Directory is a directory of subtree files of our own, which are opened without being copied: the
// nodes of what Open returns are the bytes of the file. So that nobody shortens a file that is
// mapped, which would end the process, the directory is locked until it and all subtrees of its
// files are closed, and refused where others can change its files. Such files can be read: see
// NewSubtreeFromReader.
//
// A file has its name only once it is whole and on the disk, and is never changed. Files may be
// removed at any time. Its methods may be called concurrently.
type Directory[H ~[32]byte, N any] struct {
	state   *directoryState
	cleanup runtime.Cleanup
}

// directoryState is the part that outlives a directory that its owner forgets to close.
type directoryState struct {
	rt     *blocktier.Runtime
	path   string
	handle ffi.SubtreeDirectory
	gate   ffi.Gate
	logger *slog.Logger
}

// OpenDirectory takes an existing directory and removes what a killed process left unfinished in it
// (.*.new). ErrLocked if it has an owner; ErrUnsupported if others can change its files (owner,
// permissions, a network file system), with what to do about it. It must be closed.
func OpenDirectory[H ~[32]byte, N any](rt *blocktier.Runtime, path string) (*Directory[H, N],
	error) {
	if err := checkLayout[N](); err != nil {
		return nil, err
	}
	state := &directoryState{rt: rt, path: path}
	err := rt.Use(func(native ffi.Runtime) (err error) {
		state.handle, err = ffi.OpenSubtreeDirectory(native, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	state.logger = rt.Logger()
	d := &Directory[H, N]{state: state}
	d.cleanup = runtime.AddCleanup(d, (*directoryState).forgotten, state)
	return d, nil
}

// Store writes a subtree to the file called name, durably, in the place of the one that has the
// name now; subtrees that were opened from that one keep it. The subtree cannot change meanwhile.
// After an error the name has the file it had, or the new one if the error says that syncing the
// directory failed.
func (d *Directory[H, N]) Store(name string, st *Subtree[H, N], format Format) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return errClosed()
	}
	if len(st.Nodes) == 0 {
		return errNoNodes()
	}
	header := ffi.SubtreeHeader{Fees: st.Fees, SizeInBytes: st.SizeInBytes}
	conflicting := hashBytes(st.ConflictingNodes)
	if format == HashList {
		conflicting = nil
	} else {
		root, err := st.rootLocked()
		if err != nil {
			return err
		}
		header.Root = [32]byte(*root)
	}
	return d.use(func(handle ffi.SubtreeDirectory) error {
		return handle.Store(name, uint32(format), &header, unsafe.Pointer(unsafe.SliceData(st.Nodes)),
			len(st.Nodes), conflicting)
	})
}

// Open maps the file called name, of format Plain or WithMagic. Structure is checked, root, sums
// and policy are not: see Verify. The result is full: its capacity is what the file holds. Changes
// to it stay in memory and never get into the file. It must be closed.
func (d *Directory[H, N]) Open(name string, format Format) (*Subtree[H, N], error) {
	var given memory
	var header ffi.SubtreeHeader
	err := d.use(func(handle ffi.SubtreeDirectory) (err error) {
		given.handle, given.data, header, err = handle.Map(name, uint32(format))
		return err
	})
	if err != nil {
		return nil, err
	}
	state := d.state
	count := int(header.Nodes)
	array := arrayIn[N](&mapping{memory: given, logger: state.logger}, count)
	if header.Nodes > 1<<maxHeight {
		err := ffi.FormatError(ffi.CountTooLarge, "%s has %d nodes; the limit is %d", name,
			header.Nodes, uint64(1)<<maxHeight)
		return nil, joinClose(err, array)
	}
	st := &Subtree[H, N]{Height: heightOf(count), Fees: header.Fees,
		SizeInBytes: header.SizeInBytes, stored: &header.Root}
	st.adopt(state.rt, state.path, array)
	st.Nodes = st.Nodes[:count]
	if header.Conflicting > 0 {
		first := unsafe.Add(given.data, header.ConflictingOffset-header.NodesOffset)
		st.ConflictingNodes = slices.Clone(unsafe.Slice((*H)(first), header.Conflicting))
	}
	return st, nil
}

func (d *Directory[H, N]) use(f func(ffi.SubtreeDirectory) error) error {
	if !d.state.gate.Enter(0) {
		return ffi.Errorf(ffi.Closed, "the directory %s is closed", d.state.path)
	}
	defer runtime.KeepAlive(d)
	defer d.state.gate.Leave(0)
	return f(d.state.handle)
}

// Close gives the directory up once its subtrees are closed, too; they may be used until then. It
// waits for the calls that run. A second Close returns nil.
func (d *Directory[H, N]) Close() error {
	d.cleanup.Stop()
	return d.state.close()
}

func (s *directoryState) close() error {
	if !s.gate.Close() {
		return nil
	}
	return s.handle.Close()
}

func (s *directoryState) forgotten() {
	s.logger.Warn("blocktier: a directory of subtrees was not closed; call Close", "path", s.path)
	if err := s.close(); err != nil {
		s.logger.Error("blocktier: closing a forgotten directory", "path", s.path, "error", err)
	}
}

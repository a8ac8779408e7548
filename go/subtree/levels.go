package subtree

import (
	"log/slog"
	"runtime"
	"slices"
	"unsafe"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// levels are all levels of a tree, kept for proofs. They are used under the subtree's lock.
type levels interface {
	leaves() int
	root() ([32]byte, error)
	// proof writes the siblings of a leaf, from the leaf up, and returns their number.
	proof(index int, path [][32]byte) (int, error)
	// setLeaf replaces a leaf and recomputes its path.
	setLeaf(index int, hash *[32]byte) error
	// add appends leaves and remove removes one, moving the later ones up. Both compute anew only
	// what lies above the first leaf that differs.
	add(nodes []rawNode) error
	remove(index int) error
	// proofs writes the siblings of several leaves, proof after proof, each as long as the tree is
	// high.
	proofs(indexes []uint64) (siblings [][32]byte, height int, err error)
	free() error
}

// heapLevels has level 0 (the leaves) first.
type heapLevels struct{ levels [][][32]byte }

func newHeapLevels(nodes []rawNode) *heapLevels {
	level := make([][32]byte, len(nodes))
	for i := range nodes {
		level[i] = nodes[i].hash
	}
	all := [][][32]byte{level}
	for len(level) > 1 {
		above := make([][32]byte, (len(level)+1)/2)
		for i := range above {
			above[i] = pair(&level[2*i], &level[min(2*i+1, len(level)-1)])
		}
		all = append(all, above)
		level = above
	}
	return &heapLevels{all}
}

func (l *heapLevels) leaves() int { return len(l.levels[0]) }

func (l *heapLevels) root() ([32]byte, error) { return l.levels[len(l.levels)-1][0], nil }

func (l *heapLevels) proof(index int, path [][32]byte) (int, error) {
	top := len(l.levels) - 1
	for level, hashes := range l.levels[:top] {
		path[level] = hashes[min(index^1, len(hashes)-1)]
		index /= 2
	}
	return top, nil
}

func (l *heapLevels) setLeaf(index int, hash *[32]byte) error {
	l.levels[0][index] = *hash
	for level, hashes := range l.levels[:len(l.levels)-1] {
		index /= 2
		l.levels[level+1][index] = pair(&hashes[2*index], &hashes[min(2*index+1, len(hashes)-1)])
	}
	return nil
}

func (l *heapLevels) add(nodes []rawNode) error {
	first := len(l.levels[0])
	for i := range nodes {
		l.levels[0] = append(l.levels[0], nodes[i].hash)
	}
	l.recompute(first)
	return nil
}

func (l *heapLevels) remove(index int) error {
	l.levels[0] = slices.Delete(l.levels[0], index, index+1)
	l.recompute(min(index, len(l.levels[0])-1))
	return nil
}

// recompute computes what lies above the leaves from first on, a leaf; those before it are the ones
// that the levels were computed for.
func (l *heapLevels) recompute(first int) {
	for level := 0; ; level++ {
		hashes := l.levels[level]
		if len(hashes) == 1 {
			l.levels = l.levels[:level+1]
			return
		}
		if level+1 == len(l.levels) {
			l.levels = append(l.levels, nil)
		}
		first /= 2
		above := l.levels[level+1][:min(first, len(l.levels[level+1]))]
		for i := len(above); 2*i < len(hashes); i++ {
			above = append(above, pair(&hashes[2*i], &hashes[min(2*i+1, len(hashes)-1)]))
		}
		l.levels[level+1] = above
	}
}

func (l *heapLevels) proofs(indexes []uint64) (siblings [][32]byte, height int, err error) {
	height = len(l.levels) - 1
	siblings = make([][32]byte, height*len(indexes))
	for i, index := range indexes {
		if _, err := l.proof(int(index), siblings[i*height:]); err != nil {
			return nil, 0, err
		}
	}
	return siblings, height, nil
}

func (l *heapLevels) free() error { return nil }

// nativeLevels are kept by the library, outside the Go heap.
type nativeLevels struct {
	state   *nativeLevelsState
	cleanup runtime.Cleanup
}

// nativeLevelsState outlives the levels of a subtree that its owner forgets to close. Its gate is
// only entered by Close: all other use is under the subtree's lock, which Close takes first.
type nativeLevelsState struct {
	gate   ffi.Gate
	handle ffi.MerkleLevels
	count  int
	logger *slog.Logger
}

func newNativeLevels(rt *blocktier.Runtime, nodes []rawNode, capacity int,
	dir string) (*nativeLevels, error) {
	count := len(nodes)
	s := &nativeLevelsState{count: count, logger: rt.Logger()}
	err := rt.Use(func(native ffi.Runtime) (err error) {
		s.handle, err = ffi.NewMerkleLevels(native, unsafe.Pointer(unsafe.SliceData(nodes)), count,
			NodeBytes, capacity, dir)
		return err
	})
	if err != nil {
		return nil, err
	}
	l := &nativeLevels{state: s}
	l.cleanup = runtime.AddCleanup(l, (*nativeLevelsState).forgotten, s)
	return l, nil
}

func (l *nativeLevels) leaves() int { return l.state.count }

func (l *nativeLevels) root() ([32]byte, error) { return l.state.handle.Root() }

func (l *nativeLevels) proof(index int, path [][32]byte) (int, error) {
	return l.state.handle.Proof(uint64(index), path)
}

func (l *nativeLevels) setLeaf(index int, hash *[32]byte) error {
	return l.state.handle.SetLeaf(uint64(index), hash)
}

func (l *nativeLevels) add(nodes []rawNode) error {
	first := unsafe.Pointer(unsafe.SliceData(nodes))
	err := l.state.handle.Append(first, len(nodes), NodeBytes)
	if err == nil {
		l.state.count += len(nodes)
	}
	return err
}

func (l *nativeLevels) remove(index int) error {
	err := l.state.handle.Remove(uint64(index))
	if err == nil {
		l.state.count--
	}
	return err
}

func (l *nativeLevels) proofs(indexes []uint64) (siblings [][32]byte, height int, err error) {
	siblings = make([][32]byte, heightOf(l.state.count)*len(indexes))
	height, err = l.state.handle.Proofs(indexes, siblings)
	return siblings, height, err
}

func (l *nativeLevels) free() error {
	l.cleanup.Stop()
	return l.state.close()
}

func (s *nativeLevelsState) close() error {
	if !s.gate.Close() {
		return nil
	}
	return s.handle.Free()
}

func (s *nativeLevelsState) forgotten() {
	if err := s.close(); err != nil {
		s.logger.Error("blocktier: freeing the levels of a forgotten subtree", "error", err)
	}
}

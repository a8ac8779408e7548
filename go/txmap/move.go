package txmap

import (
	"context"
	"reflect"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// moveChunk is how many entries go through Go at once, between maps of different kinds.
const moveChunk = 4096

// MoveFrom inserts what hashes have in source; see TxMap. From another DiskTxMap with the same
// codec records are copied without decoding; those in files are read in the order of the log.
func (m *DiskTxMap[H, V]) MoveFrom(source TxMap[H, V], hashes []H, wasSet []bool) (int, error) {
	if err := sameLength(len(hashes), len(hashes), len(wasSet), wasSet == nil); err != nil {
		return -1, err
	}
	from, isDisk := source.(*DiskTxMap[H, V])
	if isDisk && from.core == m.core {
		return -1, errSameMap()
	}
	if !isDisk || !sameCodec(m.codec, from.codec) {
		return moveBetween[H, V](m, source, hashes, wasSet)
	}
	states := make([]byte, len(hashes))
	missing, err := m.core.moveFrom(m.bounded, from.core, keyBytes(hashes), states)
	for i := range wasSet {
		wasSet[i] = states[i] == ffi.StateNew
	}
	return missing, err
}

func (c *core) moveFrom(p patience, source *core, keys, states []byte) (missing int, err error) {
	transfer, err := ffi.NewTransfer()
	if err != nil {
		return -1, err
	}
	defer func() { c.closeWarn.keep(transfer.Free()) }()
	missing = -1
	err = source.use(func(from ffi.TxMap) error {
		return c.use(func(to ffi.TxMap) (err error) {
			missing, err = c.moveSteps(p, source, transfer, to, from, keys, states)
			return err
		})
	})
	return missing, err
}

func (c *core) moveSteps(p patience, source *core, transfer ffi.Transfer, to, from ffi.TxMap, keys,
	states []byte) (int, error) {
	var finished bool
	var position int
	step := func(flags uint32) (err error) {
		finished, position, err = transfer.Step(to, from, keys, flags, states)
		return err
	}
	for !finished {
		if c.gate.IsClosed() || source.gate.IsClosed() {
			return -1, errClosed()
		}
		if p.ctx.Err() != nil {
			return -1, context.Cause(p.ctx)
		}
		err := c.crowded()
		if err == nil {
			err = step(ffi.NonBlocking)
		}
		err = c.await(p, err, func(disk bool) error { return step(writeFlags(disk)) })
		if err == error(ffi.NotFound) {
			return position, nil
		}
		if err != nil {
			return -1, err
		}
	}
	return -1, nil
}

// MoveFrom inserts what hashes have in source; see TxMap. Both maps then hold the same value,
// unless the codec is a Cloner.
func (m *HeapTxMap[H, V]) MoveFrom(source TxMap[H, V], hashes []H, wasSet []bool) (int, error) {
	if err := sameLength(len(hashes), len(hashes), len(wasSet), wasSet == nil); err != nil {
		return -1, err
	}
	if from, isHeap := source.(*HeapTxMap[H, V]); isHeap && from == m {
		return -1, errSameMap()
	}
	return moveBetween[H, V](m, source, hashes, wasSet)
}

// moveBetween moves by get and set: first all hashes are looked up, then all are copied.
func moveBetween[H ~[32]byte, V any](m, source TxMap[H, V], hashes []H, wasSet []bool) (int,
	error) {
	if wasSet == nil {
		wasSet = make([]bool, len(hashes))
	}
	clear(wasSet)
	if err := writable(m); err != nil {
		return -1, err
	}
	found := make([]bool, min(len(hashes), moveChunk))
	for start := 0; start < len(hashes); start += moveChunk {
		part := hashes[start:min(start+moveChunk, len(hashes))]
		if _, err := source.ExistsBatch(part, found[:len(part)]); err != nil {
			return -1, err
		}
		for i := range part {
			if !found[i] {
				return start + i, nil
			}
		}
	}
	values := make([]V, len(found))
	cloner := clonerOf(m)
	for start := 0; start < len(hashes); start += moveChunk {
		end := min(start+moveChunk, len(hashes))
		part := hashes[start:end]
		count, err := source.GetBatch(part, values[:len(part)], found[:len(part)])
		if err != nil {
			return -1, err
		}
		if count != len(part) {
			return -1, ffi.Errorf(ffi.InvalidArgument, "the source of a move was changed before it "+
				"was done")
		}
		for i := range part {
			if cloner != nil {
				values[i] = cloner.CloneValue(values[i])
			}
		}
		if _, err := m.SetIfNotExistsBatch(part, values[:len(part)], wasSet[start:end]); err != nil {
			return -1, err
		}
	}
	return -1, nil
}

// writable is the error of a write, also where there is none to do.
func writable[H ~[32]byte, V any](m TxMap[H, V]) error {
	_, err := m.DeleteBatch(nil, nil)
	if err == nil && m.IsFrozen() {
		err = ffi.Errorf(ffi.Frozen, "the map takes no writes")
	}
	return err
}

// clonerOf is what keeps a value of a heap map from being another map's too.
func clonerOf[H ~[32]byte, V any](m TxMap[H, V]) Cloner[V] {
	if heap, isHeap := m.(*HeapTxMap[H, V]); isHeap {
		return heap.cloner
	}
	return nil
}

// sameCodec tells whether two codecs encode alike, as far as that can be known.
func sameCodec(a, b any) bool {
	kind := reflect.TypeOf(a)
	return kind == reflect.TypeOf(b) && kind.Comparable() && a == b
}

func errSameMap() error {
	return ffi.Errorf(ffi.InvalidArgument, "a map cannot be moved to itself")
}

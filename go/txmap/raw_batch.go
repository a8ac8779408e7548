package txmap

import (
	"math"
	"unsafe"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// State says what became of an item of a RawBatch.
type State uint8

// The states of items.
const (
	// StateUndone: not decided, because an error came first.
	StateUndone State = ffi.StateUndone
	// StateNew: inserted; after GetRaw: absent.
	StateNew State = ffi.StateNew
	// StatePresent: was there already, and for SetRaw was replaced; after GetRaw: found.
	StatePresent State = ffi.StatePresent
)

// RawBatch is a batch of keys with encoded values. Its arrays are reused after Reset, so that a
// filled batch that is used again allocates nothing. The zero value is an empty batch. It must not
// be used concurrently.
type RawBatch[H ~[32]byte] struct {
	// Keys are the keys.
	Keys []H
	// Values holds the values one behind the other; value i is Values[Offsets[i]:Offsets[i+1]].
	Values []byte
	// Offsets has one entry more than Keys, or none in an empty batch and after GetRaw, which
	// places values in any order: use Value then.
	Offsets []uint64
	// SubtreeIndexes are the subtree indexes.
	SubtreeIndexes []int16
	// States are results.
	States []State

	reading reading
}

// Reset empties the batch and keeps its memory.
func (b *RawBatch[H]) Reset() {
	b.Keys = b.Keys[:0]
	b.Values = b.Values[:0]
	b.Offsets = b.Offsets[:0]
	b.SubtreeIndexes = b.SubtreeIndexes[:0]
	b.States = b.States[:0]
}

// Len is the number of keys.
func (b *RawBatch[H]) Len() int { return len(b.Keys) }

// Add appends a key with its encoded value, which is copied.
func (b *RawBatch[H]) Add(key H, value []byte, subtreeIndex int16) {
	b.Values = append(b.Values, value...)
	b.close(key, subtreeIndex)
}

// AddKey appends a key for GetRaw.
func (b *RawBatch[H]) AddKey(key H) { b.close(key, 0) }

// close ends the value that was appended to Values last.
func (b *RawBatch[H]) close(key H, subtreeIndex int16) {
	if len(b.Offsets) == 0 {
		b.Offsets = append(b.Offsets, 0)
	}
	b.Keys = append(b.Keys, key)
	b.Offsets = append(b.Offsets, uint64(len(b.Values)))
	b.SubtreeIndexes = append(b.SubtreeIndexes, subtreeIndex)
}

// Value is the encoded value of item i; empty where GetRaw did not find it. It is valid until the
// batch changes.
func (b *RawBatch[H]) Value(i int) []byte {
	if len(b.Offsets) > 0 {
		return b.Values[b.Offsets[i]:b.Offsets[i+1]]
	}
	result := &b.reading.results[i]
	return b.Values[result.ValueOffset : result.ValueOffset+uint64(result.ValueLength)]
}

// beginRead prepares the batch for the lookup of its keys.
func (b *RawBatch[H]) beginRead() {
	n := len(b.Keys)
	b.resetStates()
	b.Offsets = b.Offsets[:0]
	b.SubtreeIndexes = b.SubtreeIndexes[:0]
	r := &b.reading
	if cap(r.results) < n {
		r.results = make([]ffi.Lookup, n, cap(b.Keys))
	}
	r.results = r.results[:n]
	clear(r.results)
	r.arena, r.used = b.Values[:0], 0
}

// endRead turns the results into states and counts the keys found.
func (b *RawBatch[H]) endRead() int {
	count := 0
	for i := range b.reading.results {
		result := &b.reading.results[i]
		b.SubtreeIndexes = append(b.SubtreeIndexes, int16(result.SubtreeIndex))
		b.States[i] = StateNew
		if result.Found == ffi.Found {
			b.States[i] = StatePresent
			count++
		}
	}
	return count
}

// check tests that the arrays fit each other, so that the library never reads beyond them.
func (b *RawBatch[H]) check() error {
	n := len(b.Keys)
	if n == 0 {
		return nil
	}
	if len(b.Offsets) != n+1 || len(b.SubtreeIndexes) != n {
		return ffi.Errorf(ffi.InvalidArgument,
			"a batch of %d keys has %d offsets and %d subtree indexes; want %d and %d", n,
			len(b.Offsets), len(b.SubtreeIndexes), n+1, n)
	}
	for i := range n {
		if b.Offsets[i] > b.Offsets[i+1] {
			return ffi.Errorf(ffi.InvalidArgument,
				"the offsets of a batch fall from %d to %d at item %d", b.Offsets[i],
				b.Offsets[i+1], i)
		}
	}
	if b.Offsets[n] > uint64(len(b.Values)) {
		return ffi.Errorf(ffi.InvalidArgument,
			"the last offset of a batch is %d but its values have %d bytes", b.Offsets[n],
			len(b.Values))
	}
	return nil
}

func (b *RawBatch[H]) resetStates() { b.resetStatesFor(len(b.Keys)) }

// resetStatesFor makes n states, whatever keys there are.
func (b *RawBatch[H]) resetStatesFor(n int) {
	if cap(b.States) < n {
		b.States = make([]State, n, max(n, cap(b.Keys)))
	}
	b.States = b.States[:n]
	clear(b.States)
}

func (b *RawBatch[H]) count(state State) int {
	count := 0
	for _, s := range b.States {
		if s == state {
			count++
		}
	}
	return count
}

// native is the batch as the library takes it; no copy.
func (b *RawBatch[H]) native() ffi.Batch {
	return ffi.Batch{
		Keys:    keyBytes(b.Keys),
		Values:  b.Values,
		Offsets: b.Offsets,
		SubtreeIndexes: unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b.SubtreeIndexes))),
			len(b.SubtreeIndexes)),
		States: stateBytes(b.States),
	}
}

// keyBytes are the keys as one run of bytes; no copy.
func keyBytes[H ~[32]byte](keys []H) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(keys))), 32*len(keys))
}

func stateBytes(states []State) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(states))), len(states))
}

// UpdateSubtreeIndexNodes sets the subtree index of all transactions of a subtree: N is the node's
// own struct of 48 bytes that begins with the hash. It returns how many of them are in the map.
func UpdateSubtreeIndexNodes[H ~[32]byte, V, N any](m TxMap[H, V], nodes []N, index int16) (int,
	error) {
	var node N
	if unsafe.Sizeof(node) != ffi.NodeBytes {
		return 0, ffi.Errorf(ffi.InvalidArgument, "a node of %d bytes; want %d",
			unsafe.Sizeof(node), ffi.NodeBytes)
	}
	if len(nodes) > math.MaxInt/ffi.NodeBytes {
		return 0, ffi.Errorf(ffi.InvalidArgument, "%d nodes", len(nodes))
	}
	keys := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(nodes))), ffi.NodeBytes*len(nodes))
	return m.UpdateSubtreeIndexKeys(keys, ffi.NodeBytes, index)
}

// countOf is the number of keys that lie stride bytes apart in keys.
func countOf(keys []byte, stride int) (int, error) {
	if stride < 32 || len(keys)%stride != 0 {
		return 0, ffi.Errorf(ffi.InvalidArgument,
			"%d bytes of keys are no multiple of the stride %d (at least 32)", len(keys), stride)
	}
	return len(keys) / stride, nil
}

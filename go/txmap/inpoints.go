package txmap

import (
	"encoding/binary"
	"math"

	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/internal/inpoints"
)

// TxInpoints are the outputs that a transaction spends, grouped by parent: parents in the order of
// their first appearance, their output indexes in the order of the inputs. The zero value is that
// of a coinbase.
type TxInpoints[H ~[32]byte] struct {
	// ParentTxHashes are the distinct parents.
	ParentTxHashes []H
	// Idxs are the output indexes spent of each parent.
	Idxs [][]uint32
	// SubtreeIndex is 0 while the transaction is in no subtree, else its number plus one. It is not
	// part of the encoded value.
	SubtreeIndex int16
}

// Add appends one input.
func (t *TxInpoints[H]) Add(parent H, output uint32) {
	// Inputs of one parent mostly come together, at the end.
	for i := len(t.ParentTxHashes) - 1; i >= 0; i-- {
		if t.ParentTxHashes[i] == parent {
			t.Idxs[i] = append(t.Idxs[i], output)
			return
		}
	}
	t.ParentTxHashes = append(t.ParentTxHashes, parent)
	t.Idxs = append(t.Idxs, []uint32{output})
}

// Inputs is the number of inputs.
func (t *TxInpoints[H]) Inputs() int {
	count := 0
	for _, outputs := range t.Idxs {
		count += len(outputs)
	}
	return count
}

// TxInpointsCodec is the Codec of *TxInpoints. Its encoding is the entry of a subtreeMeta file:
//
//	p u32 | p x parent hash 32 | p x (k u32 | k x output index u32), little-endian
type TxInpointsCodec[H ~[32]byte] struct{}

// AppendValue appends the encoding of v to dst.
func (TxInpointsCodec[H]) AppendValue(dst []byte, v *TxInpoints[H]) ([]byte, error) {
	if v == nil {
		return dst, ffi.Errorf(ffi.InvalidArgument, "the inpoints are nil")
	}
	if len(v.ParentTxHashes) != len(v.Idxs) {
		return dst, ffi.Errorf(ffi.InvalidArgument, "%d parents but %d lists of outputs",
			len(v.ParentTxHashes), len(v.Idxs))
	}
	if uint64(len(v.ParentTxHashes)) > math.MaxUint32 {
		return dst, ffi.Errorf(ffi.ValueTooLarge, "%d parents", len(v.ParentTxHashes))
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(v.ParentTxHashes)))
	for i := range v.ParentTxHashes {
		hash := [32]byte(v.ParentTxHashes[i])
		dst = append(dst, hash[:]...)
	}
	for _, outputs := range v.Idxs {
		if uint64(len(outputs)) > math.MaxUint32 {
			return dst, ffi.Errorf(ffi.ValueTooLarge, "%d outputs of one parent", len(outputs))
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(outputs)))
		for _, output := range outputs {
			dst = binary.LittleEndian.AppendUint32(dst, output)
		}
	}
	return dst, nil
}

// DecodeValue reads one value that fills b. Nothing is allocated before all counts fit into b.
func (TxInpointsCodec[H]) DecodeValue(b []byte) (*TxInpoints[H], error) {
	if err := inpoints.Check(b); err != nil {
		return nil, err
	}
	parents := int(binary.LittleEndian.Uint32(b))
	b = b[4:]
	v := &TxInpoints[H]{}
	if parents == 0 {
		return v, nil
	}
	v.ParentTxHashes = make([]H, parents)
	v.Idxs = make([][]uint32, parents)
	for i := range v.ParentTxHashes {
		v.ParentTxHashes[i] = H(b[:32])
		b = b[32:]
	}
	// One array for all lists: what follows is parents counts and the rest outputs.
	all := make([]uint32, 0, len(b)/4-parents)
	for i := range v.Idxs {
		outputs := int(binary.LittleEndian.Uint32(b))
		b = b[4:]
		first := len(all)
		for range outputs {
			all = append(all, binary.LittleEndian.Uint32(b))
			b = b[4:]
		}
		v.Idxs[i] = all[first:len(all):len(all)]
	}
	return v, nil
}

// SubtreeIndex returns v's subtree index, 0 for nil.
func (TxInpointsCodec[H]) SubtreeIndex(v *TxInpoints[H]) int16 {
	if v == nil {
		return 0
	}
	return v.SubtreeIndex
}

// SetSubtreeIndex sets v's subtree index.
func (TxInpointsCodec[H]) SetSubtreeIndex(v *TxInpoints[H], index int16) { v.SubtreeIndex = index }

// CloneValue copies v so that its subtree index can be changed; the lists are shared and stay as
// they are.
func (TxInpointsCodec[H]) CloneValue(v *TxInpoints[H]) *TxInpoints[H] {
	clone := *v
	return &clone
}

package assemble

import (
	"encoding/binary"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// searchMax is up to how many inputs parents are found by comparing with those before.
const searchMax = 24

// Encoder writes inputs in their stored form, grouped by parent:
//
//	p u32 | p x parent 32 | p x (k u32 | k x vout u32)
//
// parents in the order of their first appearance, outputs in the order of the inputs. It keeps its
// memory from one transaction to the next. Not for concurrent use.
type Encoder struct {
	parentOf []uint32 // per input
	first    []int    // per parent: its first input
	count    []uint32 // per parent: its inputs
	places   map[chainhash.Hash]uint32
}

// Append appends the encoding of the inputs to dst.
func (e *Encoder) Append(dst []byte, inputs []wire.OutPoint) []byte {
	e.group(inputs)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e.first)))
	for _, i := range e.first {
		dst = append(dst, inputs[i].Hash[:]...)
	}
	// Every list begins where the one before ends; count becomes the next free place of each list.
	lists := len(dst)
	size := 4 * (len(e.first) + len(inputs))
	dst = append(dst, make([]byte, size)...)
	at := lists
	for p, n := range e.count {
		binary.LittleEndian.PutUint32(dst[at:], n)
		e.count[p] = uint32((at-lists)/4 + 1)
		at += 4 + 4*int(n)
	}
	for i := range inputs {
		p := e.parentOf[i]
		binary.LittleEndian.PutUint32(dst[lists+4*int(e.count[p]):], inputs[i].Index)
		e.count[p]++
	}
	return dst
}

func (e *Encoder) group(inputs []wire.OutPoint) {
	e.parentOf, e.first, e.count = e.parentOf[:0], e.first[:0], e.count[:0]
	large := len(inputs) > searchMax
	if large {
		if e.places == nil {
			e.places = map[chainhash.Hash]uint32{}
		}
		clear(e.places)
	}
	for i := range inputs {
		p, known := e.find(inputs, i, large)
		if !known {
			p = uint32(len(e.first))
			e.first = append(e.first, i)
			e.count = append(e.count, 0)
			if large {
				e.places[inputs[i].Hash] = p
			}
		}
		e.count[p]++
		e.parentOf = append(e.parentOf, p)
	}
}

func (e *Encoder) find(inputs []wire.OutPoint, i int, large bool) (uint32, bool) {
	if large {
		p, known := e.places[inputs[i].Hash]
		return p, known
	}
	for p, first := range e.first {
		if inputs[first].Hash == inputs[i].Hash {
			return uint32(p), true
		}
	}
	return 0, false
}

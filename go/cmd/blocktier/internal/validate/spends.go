package validate

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// spend is one spent outpoint and who spent it first. It holds no pointers.
type spend struct {
	outpoint wire.OutPoint
	input    uint32
	record   uint64
}

const spendsPerChunk = 1 << 14

// spendTable holds every outpoint that was spent. Keys are compared whole: any value is an ordinary
// key. Not for concurrent use.
type spendTable struct {
	slots  slots
	chunks []*[spendsPerChunk]spend
	length uint64
}

func newSpendTable(expected uint64) *spendTable { return &spendTable{slots: newSlots(expected)} }

func (t *spendTable) at(place uint64) *spend {
	return &t.chunks[place/spendsPerChunk][place%spendsPerChunk]
}

func (t *spendTable) hash(o *wire.OutPoint) uint64 {
	var key [chainhash.HashSize + 4]byte
	copy(key[:], o.Hash[:])
	binary.LittleEndian.PutUint32(key[chainhash.HashSize:], o.Index)
	return maphash.Bytes(t.slots.seed, key[:])
}

// insert notes that an input spends an outpoint, unless it was spent before: then it returns the
// first spend.
func (t *spendTable) insert(o *wire.OutPoint, record uint64, input uint32) (*spend, bool) {
	h := t.hash(o)
	place, at, spent := t.slots.find(h, func(p uint64) bool { return t.at(p).outpoint == *o })
	if spent {
		return t.at(place), false
	}
	if t.length%spendsPerChunk == 0 {
		t.chunks = append(t.chunks, new([spendsPerChunk]spend))
	}
	place = t.length
	t.length++
	*t.at(place) = spend{outpoint: *o, input: input, record: record}
	t.slots.fill(at, h, place, func(p uint64) uint64 { return t.hash(&t.at(p).outpoint) })
	return nil, true
}

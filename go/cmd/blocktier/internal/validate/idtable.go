package validate

import (
	"hash/maphash"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// A slot of both tables is 0 when empty, else tag << placeBits | place + 1: a place is the number
// of an entry, the tag some bits of its key's hash. Slots hold no pointers, so that the garbage
// collector has nothing to mark, however many there are.
const (
	placeBits = 40
	placeMask = 1<<placeBits - 1
	minSlots  = 1 << 10
)

// slots is the open-addressing part of the tables: linear probing over a power of two, at most
// three quarters full. The hash is seeded at random: nobody can choose keys that collide.
type slots struct {
	words []uint64
	used  uint64
	seed  maphash.Seed
}

func newSlots(expected uint64) slots {
	n := uint64(minSlots)
	for n/4*3 < expected {
		n *= 2
	}
	return slots{words: make([]uint64, n), seed: maphash.MakeSeed()}
}

// find calls equal with the places whose tag fits until it returns true, and returns that place.
// Otherwise it returns the position of the empty slot in which the key belongs.
func (s *slots) find(hash uint64, equal func(place uint64) bool) (place, at uint64, found bool) {
	mask := uint64(len(s.words) - 1)
	for at = hash & mask; ; at = (at + 1) & mask {
		w := s.words[at]
		if w == 0 {
			return 0, at, false
		}
		if w>>placeBits == hash>>placeBits {
			if place = w&placeMask - 1; equal(place) {
				return place, at, true
			}
		}
	}
}

// fill puts a place into an empty slot and doubles the table when it is full; rehash gives the
// hash of a place's key.
func (s *slots) fill(at, hash, place uint64, rehash func(place uint64) uint64) {
	s.words[at] = hash>>placeBits<<placeBits | (place + 1)
	s.used++
	if s.used <= uint64(len(s.words))/4*3 {
		return
	}
	old := s.words
	s.words = make([]uint64, 2*len(old))
	mask := uint64(len(s.words) - 1)
	for _, w := range old {
		if w == 0 {
			continue
		}
		at := rehash(w&placeMask-1) & mask
		for s.words[at] != 0 {
			at = (at + 1) & mask
		}
		s.words[at] = w
	}
}

// idTable finds the record of a txid. The txids themselves stay where they are: id returns that of
// a record. Not for concurrent use.
type idTable struct {
	slots slots
	id    func(record uint64) *chainhash.Hash
}

func newIDTable(expected uint64, id func(record uint64) *chainhash.Hash) *idTable {
	return &idTable{slots: newSlots(expected), id: id}
}

func (t *idTable) hash(id *chainhash.Hash) uint64 { return maphash.Bytes(t.slots.seed, id[:]) }

// insert adds a record whose txid id() returns, unless the txid is there: then it returns the
// first record.
func (t *idTable) insert(record uint64) (first uint64, duplicate bool) {
	id := t.id(record)
	h := t.hash(id)
	first, at, duplicate := t.slots.find(h, func(p uint64) bool { return *t.id(p) == *id })
	if duplicate {
		return first, true
	}
	t.slots.fill(at, h, record, func(p uint64) uint64 { return t.hash(t.id(p)) })
	return record, false
}

// lookup returns the first record with that txid.
func (t *idTable) lookup(id *chainhash.Hash) (record uint64, found bool) {
	record, _, found = t.slots.find(t.hash(id), func(p uint64) bool { return *t.id(p) == *id })
	return record, found
}

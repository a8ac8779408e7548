package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/txmap"
)

// store is a map to measure.
type store interface {
	// operation makes what one goroutine runs; what it needs is its own.
	operation(name string) (operation, error)
	flush() error
	// empty removes every entry and keeps what memory it can.
	empty() error
	close() error
}

var stores = map[string]func(*task, *values) (store, error){
	"blocktier":     openBlocktier,
	"go map":        openGoMap,
	"filter+badger": openBadger,
}

func open(t *task) (store, error) {
	v, err := makeValues()
	if err != nil {
		return nil, err
	}
	constructor, known := stores[t.Store]
	if !known {
		all := slices.Sorted(maps.Keys(stores))
		return nil, fmt.Errorf("no store %q; there are %v", t.Store, all)
	}
	return constructor(t, v)
}

func missing(name string) error { return fmt.Errorf("this store has no operation %q", name) }

// oneByOne makes an operation of one on a single key.
func oneByOne(op func(key *Hash) (bool, error)) operation {
	return func(keys []Hash) (int, error) {
		hits := 0
		for i := range keys {
			hit, err := op(&keys[i])
			if err != nil {
				return hits, err
			}
			if hit {
				hits++
			}
		}
		return hits, nil
	}
}

// inBatches makes an operation of one on up to batchSize keys.
func inBatches(op operation) operation {
	return func(keys []Hash) (int, error) {
		total := 0
		for batch := range slices.Chunk(keys, batchSize) {
			hits, err := op(batch)
			if err != nil {
				return total, err
			}
			total += hits
		}
		return total, nil
	}
}

// blocktierStore is the map that all this is about.
type blocktierStore struct {
	runtime *blocktier.Runtime
	m       *txmap.DiskTxMap[Hash, *Inpoints]
	values  *values
}

func openBlocktier(t *task, v *values) (store, error) {
	rt, err := blocktier.Open()
	if err != nil {
		return nil, err
	}
	options := []txmap.Option{txmap.WithDirs(t.Dir), txmap.WithTail(t.Tail)}
	if t.Prefault {
		options = append(options, txmap.WithPrefault(true))
	}
	if t.Segment > 0 {
		options = append(options, txmap.WithSegment(t.Segment))
	}
	if t.Process {
		options = append(options, txmap.WithProcessDurability(true), txmap.WithName("bench"))
	}
	if !t.Grown {
		options = append(options, txmap.WithExpectedEntries(uint64(t.N)))
	}
	m, err := txmap.Open[Hash](rt, txmap.TxInpointsCodec[Hash]{}, options...)
	if err != nil {
		return nil, err
	}
	return &blocktierStore{runtime: rt, m: m, values: v}, nil
}

func (s *blocktierStore) flush() error { return s.m.Flush() }

// empty clears the map. The old index and files are freed behind the next write, so that is waited
// for too; the one entry that it takes goes with another Clear.
func (s *blocktierStore) empty() error {
	s.m.Clear()
	if err := fill(s, warmFirst, 1); err != nil {
		return err
	}
	s.m.Clear()
	return s.m.Err()
}

func (s *blocktierStore) close() error {
	if err := s.m.Close(); err != nil {
		return err
	}
	return s.runtime.Close()
}

func (s *blocktierStore) operation(name string) (operation, error) {
	m, v := s.m, s.values
	flags := make([]bool, batchSize)
	inpoints := make([]*Inpoints, batchSize)
	batch := new(txmap.RawBatch[Hash])
	switch name {
	case "insert":
		return oneByOne(func(key *Hash) (bool, error) {
			_, inserted, err := m.SetIfNotExistsErr(*key, v.decoded[place(key)])
			return inserted, err
		}), nil
	case "insert-batch":
		return inBatches(func(keys []Hash) (int, error) {
			for i := range keys {
				inpoints[i] = v.decoded[place(&keys[i])]
			}
			return m.SetIfNotExistsBatch(keys, inpoints[:len(keys)], flags[:len(keys)])
		}), nil
	case "insert-raw":
		return inBatches(func(keys []Hash) (int, error) {
			batch.Reset()
			for i := range keys {
				batch.Add(keys[i], v.encoded[place(&keys[i])], 0)
			}
			return m.SetIfNotExistsRaw(batch)
		}), nil
	case "exists":
		return oneByOne(func(key *Hash) (bool, error) { return m.ExistsErr(*key) }), nil
	case "exists-batch":
		return inBatches(func(keys []Hash) (int, error) {
			return m.ExistsBatch(keys, flags[:len(keys)])
		}), nil
	case "get":
		return oneByOne(func(key *Hash) (bool, error) {
			value, found, err := m.GetWithErr(*key)
			if found && value.ParentTxHashes[0] != v.decoded[place(key)].ParentTxHashes[0] {
				err = fmt.Errorf("the value of %x is another's", *key)
			}
			return found, err
		}), nil
	case "get-raw":
		return inBatches(func(keys []Hash) (int, error) {
			batch.Reset()
			for i := range keys {
				batch.AddKey(keys[i])
			}
			found, err := m.GetRaw(batch)
			if err == nil && len(batch.Values) != found*valueBytes {
				err = fmt.Errorf("%d values have %d bytes", found, len(batch.Values))
			}
			return found, err
		}), nil
	case "delete":
		return oneByOne(func(key *Hash) (bool, error) { return m.DeleteErr(*key) }), nil
	case "delete-batch":
		return inBatches(func(keys []Hash) (int, error) {
			return m.DeleteBatch(keys, flags[:len(keys)])
		}), nil
	case "update-batch":
		index := int16(0)
		return inBatches(func(keys []Hash) (int, error) {
			index = index%1000 + 1
			return m.UpdateSubtreeIndexBatch(keys, index)
		}), nil
	}
	return nil, missing(name)
}

package main

import (
	"slices"
	"sync"
)

const shards = 4096

// shardOf spreads keys over shards by their first 12 bits.
func shardOf(key *Hash) int { return int(key[0]) | int(key[1]&15)<<8 }

// goMap is a baseline: a Go map per shard behind a mutex. It keeps a copy of each value, as a map
// has to whose callers go on using theirs; a lookup hands out the copy itself.
type goMap struct {
	shards [shards]goMapShard
	values *values
	grown  bool
}

type goMapShard struct {
	mutex   sync.Mutex
	entries map[Hash]*Inpoints
	_       [48]byte // the rest of a cache line
}

func openGoMap(t *task, v *values) (store, error) {
	m := &goMap{values: v, grown: t.Grown}
	size := t.N / shards
	if t.Grown {
		size = 0
	}
	for i := range m.shards {
		m.shards[i].entries = make(map[Hash]*Inpoints, size)
	}
	return m, nil
}

func (m *goMap) flush() error { return nil }

// empty keeps the maps as large as they have become, unless they shall grow again. The values' and
// the old maps' memory stays with the Go heap.
func (m *goMap) empty() error {
	for i := range m.shards {
		if m.grown {
			m.shards[i].entries = map[Hash]*Inpoints{}
		} else {
			clear(m.shards[i].entries)
		}
	}
	return nil
}

func (m *goMap) close() error { return nil }

// clone copies v and what it points to.
func clone(v *Inpoints) *Inpoints {
	copied := &Inpoints{SubtreeIndex: v.SubtreeIndex}
	copied.ParentTxHashes = slices.Clone(v.ParentTxHashes)
	copied.Idxs = make([][]uint32, len(v.Idxs))
	all := make([]uint32, 0, v.Inputs())
	for i, outputs := range v.Idxs {
		first := len(all)
		all = append(all, outputs...)
		copied.Idxs[i] = all[first:len(all):len(all)]
	}
	return copied
}

func (m *goMap) operation(name string) (operation, error) {
	switch name {
	case "insert":
		return oneByOne(func(key *Hash) (bool, error) {
			shard := &m.shards[shardOf(key)]
			shard.mutex.Lock()
			defer shard.mutex.Unlock()
			if _, found := shard.entries[*key]; found {
				return false, nil
			}
			shard.entries[*key] = clone(m.values.decoded[place(key)])
			return true, nil
		}), nil
	case "exists":
		return oneByOne(func(key *Hash) (bool, error) {
			_, found := m.get(key)
			return found, nil
		}), nil
	case "get":
		return oneByOne(func(key *Hash) (bool, error) {
			value, found := m.get(key)
			return found && len(value.ParentTxHashes) == 2, nil
		}), nil
	case "delete":
		return oneByOne(func(key *Hash) (bool, error) {
			shard := &m.shards[shardOf(key)]
			shard.mutex.Lock()
			defer shard.mutex.Unlock()
			_, found := shard.entries[*key]
			delete(shard.entries, *key)
			return found, nil
		}), nil
	case "update":
		return oneByOne(func(key *Hash) (bool, error) {
			shard := &m.shards[shardOf(key)]
			shard.mutex.Lock()
			defer shard.mutex.Unlock()
			value, found := shard.entries[*key]
			if found {
				value.SubtreeIndex++
			}
			return found, nil
		}), nil
	}
	return nil, missing(name)
}

func (m *goMap) get(key *Hash) (*Inpoints, bool) {
	shard := &m.shards[shardOf(key)]
	shard.mutex.Lock()
	defer shard.mutex.Unlock()
	value, found := shard.entries[*key]
	return value, found
}

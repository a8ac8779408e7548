package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	cuckoo "github.com/seiflotfy/cuckoofilter"

	"github.com/blocktier/blocktier/go/txmap"
)

// badgerMap is a baseline: cuckoo filters in front of a key-value store. A filter that says no
// answers alone; one that says maybe is confirmed among the entries that wait for the writer, then
// in the store. One goroutine writes batches. Two calls for one key at the same time may reach the
// writer in either order, which no measurement here does.
type badgerMap struct {
	db      *badger.DB
	shards  [shards]badgerShard
	queue   chan badgerWrite
	failure atomic.Pointer[error]
	stopped chan struct{}
	values  *values
}

type badgerShard struct {
	mutex   sync.Mutex
	filter  *cuckoo.Filter
	pending map[Hash]*[]byte // what is not in the store yet; nil bytes: removed
}

// badgerWrite is a value to write, or a barrier.
type badgerWrite struct {
	key     Hash
	value   *[]byte
	barrier chan struct{}
}

const (
	badgerQueue = 1 << 16
	badgerBatch = 4096
)

func openBadger(t *task, v *values) (store, error) {
	db, err := badger.Open(badger.DefaultOptions(t.Dir).WithLogger(nil).WithDetectConflicts(false))
	if err != nil {
		return nil, err
	}
	m := &badgerMap{db: db, values: v}
	m.queue, m.stopped = make(chan badgerWrite, badgerQueue), make(chan struct{})
	for i := range m.shards {
		m.shards[i].filter = cuckoo.NewFilter(uint(max(64, 2*t.N/shards)))
		m.shards[i].pending = map[Hash]*[]byte{}
	}
	go m.write()
	return m, nil
}

// write is the writer.
func (m *badgerMap) write() {
	defer close(m.stopped)
	batch := make([]badgerWrite, 0, badgerBatch)
	for first := range m.queue {
		batch = append(batch[:0], first)
		for len(batch) < badgerBatch && len(m.queue) > 0 {
			batch = append(batch, <-m.queue)
		}
		if err := m.commit(batch); err != nil {
			m.failure.CompareAndSwap(nil, &err)
		}
		for _, write := range batch {
			if write.barrier != nil {
				close(write.barrier)
				continue
			}
			shard := &m.shards[shardOf(&write.key)]
			shard.mutex.Lock()
			if shard.pending[write.key] == write.value {
				delete(shard.pending, write.key)
			}
			shard.mutex.Unlock()
		}
	}
}

func (m *badgerMap) commit(batch []badgerWrite) error {
	writes := m.db.NewWriteBatch()
	defer writes.Cancel()
	for i := range batch {
		var err error
		switch write := &batch[i]; {
		case write.barrier != nil:
		case *write.value == nil:
			err = writes.Delete(write.key[:])
		default:
			err = writes.Set(write.key[:], *write.value)
		}
		if err != nil {
			return err
		}
	}
	return writes.Flush()
}

func (m *badgerMap) failed() error {
	if failure := m.failure.Load(); failure != nil {
		return *failure
	}
	return nil
}

func (m *badgerMap) flush() error {
	barrier := make(chan struct{})
	m.queue <- badgerWrite{barrier: barrier}
	<-barrier
	return m.failed()
}

// empty forgets the keys. The store keeps them: it is no part of what an absent key touches.
func (m *badgerMap) empty() error {
	for i := range m.shards {
		m.shards[i].filter.Reset()
	}
	return nil
}

func (m *badgerMap) close() error {
	close(m.queue)
	<-m.stopped
	return errors.Join(m.failed(), m.db.Close())
}

// lookup finds a key whose shard is locked.
func (m *badgerMap) lookup(shard *badgerShard, key *Hash) ([]byte, bool, error) {
	if !shard.filter.Lookup(key[:]) {
		return nil, false, nil
	}
	if value, found := shard.pending[*key]; found {
		return *value, *value != nil, nil
	}
	var value []byte
	err := m.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key[:])
		if err == nil {
			value, err = item.ValueCopy(nil)
		}
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	return value, err == nil, err
}

// put makes a value visible that the caller queues once the shard is unlocked.
func (shard *badgerShard) put(key *Hash, value []byte) badgerWrite {
	write := badgerWrite{key: *key, value: &value}
	shard.pending[*key] = write.value
	return write
}

func (m *badgerMap) insert(key *Hash) (bool, error) {
	shard := &m.shards[shardOf(key)]
	shard.mutex.Lock()
	_, found, err := m.lookup(shard, key)
	if found || err != nil {
		shard.mutex.Unlock()
		return false, err
	}
	if !shard.filter.Insert(key[:]) {
		shard.mutex.Unlock()
		return false, fmt.Errorf("the filter of shard %d is full", shardOf(key))
	}
	value, err := txmap.TxInpointsCodec[Hash]{}.AppendValue(nil, m.values.decoded[place(key)])
	write := shard.put(key, value)
	shard.mutex.Unlock()
	m.queue <- write
	return err == nil, err
}

func (m *badgerMap) delete(key *Hash) (bool, error) {
	shard := &m.shards[shardOf(key)]
	shard.mutex.Lock()
	_, found, err := m.lookup(shard, key)
	if !found || err != nil {
		shard.mutex.Unlock()
		return false, err
	}
	shard.filter.Delete(key[:])
	write := shard.put(key, nil)
	shard.mutex.Unlock()
	m.queue <- write
	return true, nil
}

func (m *badgerMap) find(key *Hash) ([]byte, bool, error) {
	shard := &m.shards[shardOf(key)]
	shard.mutex.Lock()
	defer shard.mutex.Unlock()
	return m.lookup(shard, key)
}

func (m *badgerMap) operation(name string) (operation, error) {
	switch name {
	case "insert":
		return oneByOne(m.insert), nil
	case "delete":
		return oneByOne(m.delete), nil
	case "exists":
		return oneByOne(func(key *Hash) (bool, error) {
			_, found, err := m.find(key)
			return found, err
		}), nil
	case "get":
		return oneByOne(func(key *Hash) (bool, error) {
			value, found, err := m.find(key)
			if found {
				_, err = txmap.TxInpointsCodec[Hash]{}.DecodeValue(value)
			}
			return found, err
		}), nil
	}
	return nil, missing(name)
}

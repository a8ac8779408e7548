package txmap

import (
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Batches of a DiskTxMap. The forms with values encode into a pooled RawBatch and use the raw
// forms.

// SetIfNotExistsBatch inserts the absent ones; see TxMap.
func (m *DiskTxMap[H, V]) SetIfNotExistsBatch(hashes []H, values []V, inserted []bool) (int,
	error) {
	batch, err := m.encode(hashes, values, inserted)
	defer m.release(batch)
	if err != nil {
		return 0, err
	}
	count, err := m.SetIfNotExistsRaw(batch)
	for i := range inserted {
		inserted[i] = batch.States[i] == StateNew
	}
	return count, err
}

// SetBatch inserts or replaces all; see TxMap.
func (m *DiskTxMap[H, V]) SetBatch(hashes []H, values []V) error {
	batch, err := m.encode(hashes, values, nil)
	defer m.release(batch)
	if err != nil {
		return err
	}
	return m.SetRaw(batch)
}

// encode makes a batch; inserted is only checked for its length.
func (m *DiskTxMap[H, V]) encode(hashes []H, values []V, inserted []bool) (*RawBatch[H], error) {
	batch := m.batches.Get().(*RawBatch[H])
	batch.Reset()
	if err := sameLength(len(hashes), len(values), len(inserted), inserted == nil); err != nil {
		return batch, err
	}
	for i, value := range values {
		var err error
		if batch.Values, err = m.codec.AppendValue(batch.Values, value); err != nil {
			return batch, err
		}
		batch.close(hashes[i], m.codec.SubtreeIndex(value))
	}
	return batch, nil
}

func (m *DiskTxMap[H, V]) release(batch *RawBatch[H]) {
	if cap(batch.Values) <= 64*scratchKept {
		m.batches.Put(batch)
	}
}

// GetBatch reads the values of all hashes; see TxMap.
func (m *DiskTxMap[H, V]) GetBatch(hashes []H, values []V, found []bool) (int, error) {
	if err := sameLength(len(hashes), len(values), len(found), false); err != nil {
		return 0, err
	}
	batch := m.batches.Get().(*RawBatch[H])
	defer m.release(batch)
	batch.Reset()
	batch.Keys = append(batch.Keys, hashes...)
	if _, err := m.GetRaw(batch); err != nil {
		return 0, err
	}
	count := 0
	for i := range hashes {
		found[i] = batch.States[i] == StatePresent
		if !found[i] {
			var none V
			values[i] = none
			continue
		}
		value, err := m.decode(batch.Value(i), &batch.reading.results[i])
		if err != nil {
			return count, err
		}
		values[i] = value
		count++
	}
	return count, nil
}

// ExistsBatch tells which hashes are there; see TxMap.
func (m *DiskTxMap[H, V]) ExistsBatch(hashes []H, found []bool) (int, error) {
	return m.ask(hashes, nil, found, exists)
}

// SubtreeIndexBatch reads the subtree indexes of all hashes; see TxMap.
func (m *DiskTxMap[H, V]) SubtreeIndexBatch(hashes []H, indexes []int16, found []bool) (int,
	error) {
	if err := sameLength(len(hashes), len(indexes), len(found), false); err != nil {
		return 0, err
	}
	return m.ask(hashes, indexes, found, ffi.TxMap.SubtreeIndexBatch)
}

func (m *DiskTxMap[H, V]) ask(hashes []H, indexes []int16, found []bool, one question) (int,
	error) {
	if err := sameLength(len(hashes), len(hashes), len(found), false); err != nil {
		return 0, err
	}
	batch := m.batches.Get().(*RawBatch[H])
	defer m.release(batch)
	batch.Reset()
	batch.resetStatesFor(len(hashes))
	if err := m.core.ask(m.bounded, keyBytes(hashes), indexes, stateBytes(batch.States),
		one); err != nil {
		return 0, err
	}
	return answers(batch.States, found), nil
}

// DeleteBatch removes the hashes; see TxMap.
func (m *DiskTxMap[H, V]) DeleteBatch(hashes []H, removed []bool) (int, error) {
	if err := sameLength(len(hashes), len(hashes), len(removed), removed == nil); err != nil {
		return 0, err
	}
	batch := m.batches.Get().(*RawBatch[H])
	defer m.release(batch)
	batch.Reset()
	batch.resetStatesFor(len(hashes))
	err := m.core.deleteBatch(m.bounded, keyBytes(hashes), stateBytes(batch.States))
	if removed != nil {
		answers(batch.States, removed)
	}
	return batch.count(StateNew), err
}

// answers turns states of 1 (yes) and others (no) into booleans and counts the yes.
func answers(states []State, booleans []bool) int {
	count := 0
	for i, state := range states {
		booleans[i] = state == 1
		if booleans[i] {
			count++
		}
	}
	return count
}

// UpdateSubtreeIndexBatch sets the subtree index of all hashes that are there; see TxMap.
func (m *DiskTxMap[H, V]) UpdateSubtreeIndexBatch(hashes []H, index int16) (int, error) {
	return m.UpdateSubtreeIndexKeys(keyBytes(hashes), 32, index)
}

// UpdateSubtreeIndexKeys sets the subtree index of keys that lie stride bytes apart; see TxMap.
func (m *DiskTxMap[H, V]) UpdateSubtreeIndexKeys(keys []byte, stride int, index int16) (int,
	error) {
	n, err := countOf(keys, stride)
	if err != nil {
		return 0, err
	}
	states := make([]State, n)
	err = m.core.updateBatch(m.bounded, keys, stride, uint16(index), stateBytes(states))
	count := 0
	for _, state := range states {
		if state == 1 {
			count++
		}
	}
	return count, err
}

// SetIfNotExistsRaw inserts the items whose keys are absent and returns how many. States says
// which.
func (m *DiskTxMap[H, V]) SetIfNotExistsRaw(batch *RawBatch[H]) (int, error) {
	err := m.store(batch, ffi.TxMap.SetIfNotExistsBatch)
	return batch.count(StateNew), err
}

// SetRaw inserts or replaces all items. States says which.
func (m *DiskTxMap[H, V]) SetRaw(batch *RawBatch[H]) error {
	return m.store(batch,
		ffi.TxMap.SetBatch)
}

func (m *DiskTxMap[H, V]) store(batch *RawBatch[H], op batchOp) error {
	batch.resetStates()
	if err := batch.check(); err != nil || batch.Len() == 0 {
		return err
	}
	return m.core.store(m.bounded, batch.native(), op)
}

// GetRaw reads the values of all keys; Value and SubtreeIndexes have them, States is StatePresent
// or StateNew (not there). It returns how many are there. Only a batch that is too short for the
// values, or has to wait, allocates.
func (m *DiskTxMap[H, V]) GetRaw(batch *RawBatch[H]) (int, error) {
	batch.beginRead()
	r := &batch.reading
	r.keys = keyBytes(batch.Keys)
	err := m.core.getBatch(m.bounded, r)
	batch.Values = r.arena
	if err != nil {
		return 0, err
	}
	return batch.endRead(), nil
}

func sameLength(hashes, values, results int, noResults bool) error {
	if hashes != values || hashes != results && !noResults {
		return ffi.Errorf(ffi.InvalidArgument,
			"%d hashes, %d values and %d results: the lengths differ", hashes, values, results)
	}
	return nil
}

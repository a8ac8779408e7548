package txmap

// Batches of a HeapTxMap: one by one. A closed map fails before the first item.

// SetIfNotExistsBatch inserts the absent ones; see TxMap.
func (m *HeapTxMap[H, V]) SetIfNotExistsBatch(hashes []H, values []V, inserted []bool) (int,
	error) {
	if err := sameLength(len(hashes), len(values), len(inserted), inserted == nil); err != nil {
		return 0, err
	}
	count := 0
	for i := range hashes {
		_, isNew, err := m.SetIfNotExistsErr(hashes[i], values[i])
		if err != nil {
			return count, err
		}
		if isNew {
			count++
		}
		if inserted != nil {
			inserted[i] = isNew
		}
	}
	return count, nil
}

// SetBatch inserts or replaces all; see TxMap.
func (m *HeapTxMap[H, V]) SetBatch(hashes []H, values []V) error {
	if err := sameLength(len(hashes), len(values), 0, true); err != nil {
		return err
	}
	for i := range hashes {
		if err := m.SetErr(hashes[i], values[i]); err != nil {
			return err
		}
	}
	return nil
}

// GetBatch reads the values of all hashes; see TxMap.
func (m *HeapTxMap[H, V]) GetBatch(hashes []H, values []V, found []bool) (int, error) {
	if err := sameLength(len(hashes), len(values), len(found), false); err != nil {
		return 0, err
	}
	count := 0
	for i := range hashes {
		var err error
		if values[i], found[i], err = m.GetWithErr(hashes[i]); err != nil {
			return count, err
		}
		if found[i] {
			count++
		}
	}
	return count, nil
}

// ExistsBatch tells which hashes are there; see TxMap.
func (m *HeapTxMap[H, V]) ExistsBatch(hashes []H, found []bool) (int, error) {
	if err := sameLength(len(hashes), len(hashes), len(found), false); err != nil {
		return 0, err
	}
	count := 0
	for i := range hashes {
		var err error
		if found[i], err = m.ExistsErr(hashes[i]); err != nil {
			return count, err
		}
		if found[i] {
			count++
		}
	}
	return count, nil
}

// SubtreeIndexBatch reads the subtree indexes of all hashes; see TxMap.
func (m *HeapTxMap[H, V]) SubtreeIndexBatch(hashes []H, indexes []int16, found []bool) (int,
	error) {
	if err := sameLength(len(hashes), len(indexes), len(found), false); err != nil {
		return 0, err
	}
	count := 0
	for i := range hashes {
		var err error
		if indexes[i], found[i], err = m.SubtreeIndex(hashes[i]); err != nil {
			return count, err
		}
		if found[i] {
			count++
		}
	}
	return count, nil
}

// DeleteBatch removes the hashes; see TxMap.
func (m *HeapTxMap[H, V]) DeleteBatch(hashes []H, removed []bool) (int, error) {
	if err := sameLength(len(hashes), len(hashes), len(removed), removed == nil); err != nil {
		return 0, err
	}
	count := 0
	for i := range hashes {
		was, err := m.DeleteErr(hashes[i])
		if err != nil {
			return count, err
		}
		if was {
			count++
		}
		if removed != nil {
			removed[i] = was
		}
	}
	return count, nil
}

// UpdateSubtreeIndexBatch sets the subtree index of all hashes that are there; see TxMap.
func (m *HeapTxMap[H, V]) UpdateSubtreeIndexBatch(hashes []H, index int16) (int, error) {
	return m.UpdateSubtreeIndexKeys(keyBytes(hashes), 32, index)
}

// UpdateSubtreeIndexKeys sets the subtree index of keys that lie stride bytes apart; see TxMap.
func (m *HeapTxMap[H, V]) UpdateSubtreeIndexKeys(keys []byte, stride int, index int16) (int,
	error) {
	if _, err := countOf(keys, stride); err != nil {
		return 0, err
	}
	count := 0
	for ; len(keys) > 0; keys = keys[stride:] {
		found, err := m.update(H(keys[:32]), index)
		if err != nil {
			return count, err
		}
		if found {
			count++
		}
	}
	return count, nil
}

// SetIfNotExistsRaw inserts the items whose keys are absent and returns how many. States says
// which.
func (m *HeapTxMap[H, V]) SetIfNotExistsRaw(batch *RawBatch[H]) (int, error) {
	err := m.store(batch, func(hash H, value V) (bool, error) {
		_, inserted, err := m.SetIfNotExistsErr(hash, value)
		return !inserted, err
	})
	return batch.count(StateNew), err
}

// SetRaw inserts or replaces all items. States says which.
func (m *HeapTxMap[H, V]) SetRaw(batch *RawBatch[H]) error { return m.store(batch, m.set) }

func (m *HeapTxMap[H, V]) store(batch *RawBatch[H], put func(H, V) (present bool,
	err error)) error {
	batch.resetStates()
	if err := batch.check(); err != nil {
		return err
	}
	for i, hash := range batch.Keys {
		value, err := m.codec.DecodeValue(batch.Value(i))
		if err != nil {
			return err
		}
		m.codec.SetSubtreeIndex(value, batch.SubtreeIndexes[i])
		present, err := put(hash, value)
		if err != nil {
			return err
		}
		batch.States[i] = StateNew
		if present {
			batch.States[i] = StatePresent
		}
	}
	return nil
}

// GetRaw reads the values of all keys; Value and SubtreeIndexes have them, States is StatePresent
// or StateNew (not there). It returns how many are there.
func (m *HeapTxMap[H, V]) GetRaw(batch *RawBatch[H]) (int, error) {
	batch.resetStates()
	batch.Values = batch.Values[:0]
	batch.Offsets = append(batch.Offsets[:0], 0)
	batch.SubtreeIndexes = batch.SubtreeIndexes[:0]
	count := 0
	for i, hash := range batch.Keys {
		value, found, err := m.GetWithErr(hash)
		if err != nil {
			return count, err
		}
		index := int16(0)
		batch.States[i] = StateNew
		if found {
			batch.States[i] = StatePresent
			count++
			index = m.codec.SubtreeIndex(value)
			if batch.Values, err = m.codec.AppendValue(batch.Values, value); err != nil {
				return count, err
			}
		}
		batch.Offsets = append(batch.Offsets, uint64(len(batch.Values)))
		batch.SubtreeIndexes = append(batch.SubtreeIndexes, index)
	}
	return count, nil
}

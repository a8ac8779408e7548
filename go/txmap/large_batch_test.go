package txmap_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/txmap"
)

// largeBatch has more keys than a call into the library takes, some of them twice and far apart,
// and values from a few bytes to more than such a call takes otherwise.
func largeBatch(t *testing.T) *txmap.RawBatch[hash] {
	random := rand.New(rand.NewPCG(3, 4))
	batch := new(txmap.RawBatch[hash])
	for i := range 7000 {
		inputs := random.IntN(30)
		switch {
		case i == 5000:
			inputs = 100_000
		case i%500 == 7:
			inputs = random.IntN(20_000)
		}
		value := new(inpoints)
		for input := range inputs {
			value.Add(numbered(i), uint32(input))
		}
		key := i
		if i > 6000 {
			key = 7 * (i - 6000)
		}
		batch.Add(numbered(key), encode(t, value), int16(i%300))
	}
	return batch
}

// answersTo runs each operation on the batch and collects all answers.
func answersTo(t *testing.T, m testMap, batch *txmap.RawBatch[hash]) []string {
	t.Helper()
	var all []string
	note := func(what string, err error, answers ...any) {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		all = append(all, fmt.Sprint(what, answers))
	}
	values := func(what string) {
		var read txmap.RawBatch[hash]
		for _, key := range batch.Keys {
			read.AddKey(key)
		}
		found, err := m.GetRaw(&read)
		note(what, err, found, read.States, read.SubtreeIndexes)
		for i := range read.Keys {
			if read.States[i] == txmap.StatePresent {
				all = append(all, fmt.Sprintf("%s %d: %x", what, i, read.Value(i)))
			}
		}
	}
	count, err := m.SetIfNotExistsRaw(batch)
	note("insert", err, count, batch.States)
	values("inserted")
	count, err = m.SetIfNotExistsRaw(batch)
	note("insert again", err, count, batch.States)
	err = m.SetRaw(batch)
	note("set", err, batch.States)
	values("set")

	var nodes []byte
	for _, key := range batch.Keys[:6500] {
		nodes = append(append(nodes, key[:]...), make([]byte, 16)...)
	}
	count, err = m.UpdateSubtreeIndexKeys(nodes, 48, 77)
	note("update", err, count)
	indexes, there := make([]int16, 7000), make([]bool, 7000)
	count, err = m.SubtreeIndexBatch(batch.Keys, indexes, there)
	note("indexes", err, count, indexes, there)
	removed, found := make([]bool, 5000), make([]bool, 7000)
	count, err = m.DeleteBatch(batch.Keys[500:5500], removed)
	note("delete", err, count, removed)
	count, err = m.ExistsBatch(batch.Keys, found)
	note("exists", err, count, found)
	values("left")
	note("length", nil, m.Length())
	return all
}

// TestALargeBatchIsAsOnTheHeap: that batches go to the library in parts shows in no answer.
func TestALargeBatchIsAsOnTheHeap(t *testing.T) {
	all := maps(t)
	want := answersTo(t, all["heap"], largeBatch(t))
	for name, m := range all {
		if name == "heap" {
			continue
		}
		got := answersTo(t, m, largeBatch(t))
		for i := range want {
			if i >= len(got) || got[i] != want[i] {
				t.Fatalf("%s: answer %d differs: %.200s", name, i, want[i])
			}
		}
	}
}

// TestAnErrorInTheMiddleOfALargeBatch: items before the part that fails are decided, those after it
// are not, and the states say what is in the map.
func TestAnErrorInTheMiddleOfALargeBatch(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	m := openMap(t, openRuntime(t), smallTail(t)...)
	const n, bad = 9000, 4500
	batch := new(txmap.RawBatch[hash])
	for i := range n {
		value := []byte{byte(i)}
		if i == bad {
			value = make([]byte, 2<<20)
		}
		batch.Add(numbered(i), value, 0)
	}
	inserted, err := m.SetIfNotExistsRaw(batch)
	if !errors.Is(err, blocktier.ErrValueTooLarge) {
		t.Fatal(err)
	}
	if batch.States[bad] != txmap.StateUndone || batch.States[0] != txmap.StateNew ||
		batch.States[n-1] != txmap.StateUndone {
		t.Errorf("states %d %d %d", batch.States[0], batch.States[bad], batch.States[n-1])
	}
	found := make([]bool, n)
	if count, err := m.ExistsBatch(batch.Keys, found); err != nil || count != inserted {
		t.Errorf("%d keys are there, %d were inserted: %v", count, inserted, err)
	}
	for i, there := range found {
		if there != (batch.States[i] == txmap.StateNew) {
			t.Errorf("item %d: there %v, state %d", i, there, batch.States[i])
		}
	}
	before := slices.Clone(batch.States)
	batch.Keys = slices.Delete(batch.Keys, bad, bad+1)
	rest := new(txmap.RawBatch[hash])
	for i, key := range batch.Keys {
		rest.Add(key, []byte{byte(i)}, 0)
	}
	count, err := m.SetIfNotExistsRaw(rest)
	if err != nil || count+inserted != n-1 {
		t.Errorf("%d and then %d of %d inserted: %v", inserted, count, n-1, err)
	}
	for i, state := range slices.Delete(before, bad, bad+1) {
		if (state == txmap.StateNew) != (rest.States[i] == txmap.StatePresent) {
			t.Errorf("item %d: state %d, then %d", i, state, rest.States[i])
		}
	}
}

package txmap

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// TestPartsCoverABatch: parts follow each other without gap, have at least one item, keep to their
// bounds and are not shorter than these make them.
func TestPartsCoverABatch(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		n := random.IntN(3 * partKeys)
		longest := 1 + random.IntN(1<<random.IntN(20))
		offsets := []uint64{uint64(random.IntN(100))}
		for range n {
			offsets = append(offsets, offsets[len(offsets)-1]+uint64(random.IntN(longest)))
		}
		next := 0
		end := func(from int) int { return partEnd(offsets, from) }
		err := inParts(n, end, func(from, to int) error {
			bytes := offsets[to] - offsets[from]
			if from != next || to <= from || to > n || to-from > partKeys ||
				bytes > partBytes && to-from > 1 {
				t.Fatalf("round %d: part %d..%d of %d, %d bytes, after %d", round, from, to, n,
					bytes, next)
			}
			if to < n && to-from < partKeys && offsets[to+1]-offsets[from] <= partBytes {
				t.Fatalf("round %d: item %d would fit into part %d..%d", round, to, from, to)
			}
			next = to
			return nil
		})
		if err != nil || next != n {
			t.Fatalf("round %d: ended at %d of %d: %v", round, next, n, err)
		}
	}
}

func TestAnErrorEndsTheParts(t *testing.T) {
	why := errors.New("enough")
	calls := 0
	err := keysInParts(5*partKeys, func(from, to int) error {
		if calls++; calls == 3 {
			return why
		}
		return nil
	})
	if err != why || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

package subtree

import (
	"github.com/blocktier/blocktier/go/internal/ffi"
)

// Place is where a transaction is in a chain.
type Place struct {
	// Subtree is the number of its subtree, -1 where it is in none.
	Subtree int
	// Position is that of its leaf there, -1 where it is in no subtree.
	Position int
}

// nowhere is the place of a transaction that is not in the chain.
var nowhere = Place{-1, -1}

// Find is where a transaction is: the number of its subtree and its position there; ErrNotFound
// where it is in none.
func (c *Chain[H, N]) Find(hash H) (number, position int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return 0, 0, c.failed
	}
	index, found, err := c.positions.SubtreeIndex(hash)
	if err != nil {
		return 0, 0, err
	}
	if number = c.numberOf(index, found); number >= 0 {
		if position = c.subtrees[number].NodeIndex(hash); position >= 0 {
			return number, position, nil
		}
	}
	return 0, 0, errNotInChain(hash)
}

func errNotInChain[H ~[32]byte](hash H) error {
	return ffi.Errorf(ffi.NotFound, "transaction %x is not in the chain", hash)
}

// FindBatch is where many transactions are: places, as long as hashes, has the place of each. It
// returns how many are in the chain. It asks the transaction map once, and each subtree for all of
// its own, which takes a fraction of as many calls of Find.
func (c *Chain[H, N]) FindBatch(hashes []H, places []Place) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return 0, c.failed
	}
	if len(places) != len(hashes) {
		return 0, ffi.Errorf(ffi.InvalidArgument, "%d hashes and %d places: the lengths differ",
			len(hashes), len(places))
	}
	return c.findBatch(hashes, places)
}

func (c *Chain[H, N]) findBatch(hashes []H, places []Place) (found int, err error) {
	indexes, there := make([]int16, len(hashes)), make([]bool, len(hashes))
	if _, err := c.positions.SubtreeIndexBatch(hashes, indexes, there); err != nil {
		return 0, err
	}
	// Where those of each subtree end, in an order by subtrees.
	ends := make([]int, len(c.subtrees))
	for i, index := range indexes {
		if number := c.numberOf(index, there[i]); number >= 0 {
			ends[number]++
		}
	}
	known := 0
	for number, count := range ends {
		ends[number] = known
		known += count
	}
	order := make([]int, known)
	for i, index := range indexes {
		places[i] = nowhere
		if number := c.numberOf(index, there[i]); number >= 0 {
			order[ends[number]] = i
			ends[number]++
		}
	}
	begin := 0
	for number, end := range ends {
		if begin < end {
			found += c.subtrees[number].places(hashes, order[begin:end], number, places)
		}
		begin = end
	}
	return found, nil
}

// numberOf is the subtree that a subtree index means, -1 for none.
func (c *Chain[H, N]) numberOf(index int16, found bool) int {
	number := int(index) - 1
	if index == 0 {
		number = len(c.subtrees) - 1
	}
	if !found || number < 0 || number >= len(c.subtrees) {
		return -1
	}
	return number
}

// places fills the places of those of the hashes that are leaves, and returns how many are. which
// are the hashes to look for, number is the subtree's.
func (st *Subtree[H, N]) places(hashes []H, which []int, number int, places []Place) (found int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	findMany(st.indexed(), raw(st.Nodes), hashes, which, func(i, position int) {
		if position >= 0 {
			places[i] = Place{number, position}
			found++
		}
	})
	return found
}

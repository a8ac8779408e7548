package subtree

import (
	"errors"
	"math/bits"
	"slices"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// chainPlace is a position in a chain, counted from its beginning.
type chainPlace = int

// Remove removes transactions, in one pass over the subtrees from the first of them on; the later
// transactions move up. The transaction map learns what has moved to another subtree, and that the
// removed ones, if it still has them, are in none. A hash that is not in the chain, or given twice,
// is an error, and nothing has changed.
//
// An error of the map while it learns fails the chain, which has no certain positions then: Reindex
// mends that.
func (c *Chain[H, N]) Remove(hashes ...H) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
	if len(hashes) == 0 {
		return nil
	}
	places := make([]Place, len(hashes))
	if _, err := c.findBatch(hashes, places); err != nil {
		return err
	}
	removed := make([]chainPlace, len(hashes))
	for i, place := range places {
		if place == nowhere {
			return errNotInChain(hashes[i])
		}
		removed[i] = place.Subtree*c.size + place.Position
	}
	slices.Sort(removed)
	if len(slices.Compact(slices.Clone(removed))) != len(removed) {
		return ffi.Errorf(ffi.InvalidArgument, "a transaction is to be removed twice")
	}
	if err := c.checkSums(removed[0] / c.size); err != nil {
		return err
	}
	moved := c.rechain(removed)
	_, err := c.positions.UpdateSubtreeIndexKeys(hashBytes(hashes), 32, 0)
	for _, run := range moved {
		if err == nil {
			keys := rawBytes(raw(c.subtrees[run.number].Nodes)[run.from:run.to])
			_, err = c.positions.UpdateSubtreeIndexKeys(keys, NodeBytes, int16(run.number+1))
		}
	}
	if err == nil {
		err = c.dropEmpty()
	}
	if err != nil {
		c.failed = err
	}
	return err
}

// Reindex tells the transaction map anew where every transaction is. A chain that failed because
// the map did not learn it works again.
func (c *Chain[H, N]) Reindex() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.failed, ffi.Closed) {
		return c.failed
	}
	if err := c.dropEmpty(); err != nil {
		return err
	}
	for number, st := range c.subtrees {
		if st.Length() == 0 {
			continue
		}
		if err := c.tell(st, number); err != nil {
			return err
		}
	}
	c.failed = nil
	return nil
}

// checkSums makes sure that no sum over nodes of the subtrees from first on exceeds 64 bits,
// however they are shared out.
func (c *Chain[H, N]) checkSums(first int) error {
	var fees, size uint64
	for _, st := range c.subtrees[first:] {
		var feesCarry, sizeCarry uint64
		fees, feesCarry = bits.Add64(fees, st.Fees, 0)
		size, sizeCarry = bits.Add64(size, st.SizeInBytes, 0)
		if feesCarry|sizeCarry != 0 {
			return errOverflow(feesCarry, (first+1)*c.size)
		}
	}
	return nil
}

// run is nodes that have come to a subtree from a later one.
type run struct{ number, from, to int }

// rechain moves the nodes behind the removed places up and returns the runs that have come to
// another subtree.
func (c *Chain[H, N]) rechain(removed []chainPlace) (moved []run) {
	first := removed[0] / c.size
	affected := c.subtrees[first:]
	defer unlockAll(lockAll(affected))
	conflicting := make(map[H]struct{})
	for _, st := range affected {
		for _, hash := range st.ConflictingNodes {
			conflicting[hash] = struct{}{}
		}
		st.ConflictingNodes = nil
	}
	last := c.subtrees[len(c.subtrees)-1]
	end := (len(c.subtrees)-1)*c.size + len(last.Nodes)
	to := removed[0]
	for i, gap := range removed {
		from, until := gap+1, end
		if i+1 < len(removed) {
			until = removed[i+1]
		}
		for from < until {
			// As much as lies in one subtree on either side.
			count := min(until-from, c.size-from%c.size, c.size-to%c.size)
			source, target := c.subtrees[from/c.size], c.subtrees[to/c.size]
			copy(target.Nodes[to%c.size:][:count], source.Nodes[from%c.size:][:count])
			if source != target {
				moved = append(moved, run{to / c.size, to % c.size, to%c.size + count})
			}
			from, to = from+count, to+count
		}
	}
	for i, st := range affected {
		length := min(max(to-(first+i)*c.size, 0), c.size)
		st.resized(length, conflicting)
	}
	return moved
}

// resized makes length nodes of the memory of the subtree and computes anew what follows from them.
func (st *Subtree[H, N]) resized(length int, conflicting map[H]struct{}) {
	st.Nodes = st.Nodes[:length]
	st.Fees, st.SizeInBytes = 0, 0
	nodes := raw(st.Nodes)
	for i := range nodes {
		// They fit: checkSums.
		st.Fees += nodes[i].fee
		st.SizeInBytes += nodes[i].size
		if len(conflicting) > 0 {
			if _, found := conflicting[H(nodes[i].hash)]; found {
				st.ConflictingNodes = append(st.ConflictingNodes, H(nodes[i].hash))
			}
		}
	}
	_ = st.forget()
}

// dropEmpty closes the subtrees at the end that have no node and follow one that is not full.
func (c *Chain[H, N]) dropEmpty() error {
	var first error
	for len(c.subtrees) > 1 && c.subtrees[len(c.subtrees)-2].Length() < c.size {
		last := c.subtrees[len(c.subtrees)-1]
		c.subtrees = c.subtrees[:len(c.subtrees)-1]
		if err := last.Close(); first == nil {
			first = err
		}
	}
	return first
}

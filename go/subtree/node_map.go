package subtree

import (
	"slices"
)

// NodeMap maps the hashes of a subtree's nodes to their positions as they were when GetMap was
// called. It never changes and needs no lock. Of equal hashes it has the first.
type NodeMap[H ~[32]byte] struct {
	nodes []rawNode
	index *hashIndex
	count int // of different hashes
}

// GetMap is a copy of where the nodes are, on the Go heap: 56 to 64 bytes per node, without
// pointers. To look up a few hashes NodeIndex costs less.
func (st *Subtree[H, N]) GetMap() (*NodeMap[H], error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.closed {
		return nil, errClosed()
	}
	m := &NodeMap[H]{nodes: slices.Clone(raw(st.Nodes))}
	m.index, _, _ = newHashIndex(nil, m.nodes, 0)
	for i := range m.nodes {
		if m.isFirst(i) {
			m.count++
		}
	}
	return m, nil
}

func (m *NodeMap[H]) isFirst(position int) bool {
	return m.index.find(m.nodes, &m.nodes[position].hash) == position
}

// Get is the position of the node with this hash, and whether there is one.
func (m *NodeMap[H]) Get(hash H) (uint64, bool) {
	key := [32]byte(hash)
	position := m.index.find(m.nodes, &key)
	if position < 0 {
		return 0, false
	}
	return uint64(position), true
}

// Exists reports whether there is a node with this hash.
func (m *NodeMap[H]) Exists(hash H) bool {
	_, found := m.Get(hash)
	return found
}

// Length is the number of different hashes.
func (m *NodeMap[H]) Length() int { return m.count }

// Keys are the hashes, in the order of their positions.
func (m *NodeMap[H]) Keys() []H {
	keys := make([]H, 0, m.count)
	m.Iter(func(hash H, _ uint64) bool {
		keys = append(keys, hash)
		return false
	})
	return keys
}

// Iter calls f with each hash and its position, in the order of the positions, until f returns
// true.
func (m *NodeMap[H]) Iter(f func(hash H, position uint64) (stop bool)) {
	for i := range m.nodes {
		if m.isFirst(i) && f(H(m.nodes[i].hash), uint64(i)) {
			return
		}
	}
}

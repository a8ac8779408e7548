package subtree

import (
	"math/bits"
	"unsafe"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// AddNode appends a transaction. The coinbase placeholder is refused: use AddCoinbaseNode. A full
// subtree is an error.
func (st *Subtree[H, N]) AddNode(hash H, fee, sizeInBytes uint64) error {
	node := rawNode{[32]byte(hash), fee, sizeInBytes}
	if unsafe.Sizeof(*new(N)) != NodeBytes {
		return checkLayout[N]()
	}
	return st.AddSubtreeNode(*(*N)(unsafe.Pointer(&node)))
}

// AddSubtreeNode appends a node; see AddNode.
func (st *Subtree[H, N]) AddSubtreeNode(node N) error {
	st.mu.Lock()
	err := st.AddSubtreeNodeWithoutLock(node)
	st.mu.Unlock()
	return err
}

// AddSubtreeNodeWithoutLock appends a node for a caller who knows that nobody else uses the subtree
// meanwhile.
func (st *Subtree[H, N]) AddSubtreeNodeWithoutLock(node N) error {
	if unsafe.Sizeof(node) != NodeBytes {
		return checkLayout[N]()
	}
	fresh := (*rawNode)(unsafe.Pointer(&node))
	count := len(st.Nodes)
	fees, size := st.Fees+fresh.fee, st.SizeInBytes+fresh.size
	// Whatever is rare goes another way; a sum below its part has wrapped.
	if count >= cap(st.Nodes) || fees < fresh.fee || size < fresh.size ||
		fresh.beginsAsPlaceholder() || st.index != nil || st.stored != nil {
		return st.addCarefully(fresh)
	}
	st.Fees, st.SizeInBytes = fees, size
	st.Nodes = st.Nodes[:count+1]
	st.Nodes[count] = node
	return nil
}

// AddSubtreeNodes appends nodes in order, all of them or, with an error, none; see AddNode for what
// is refused. It costs less than as many calls of AddSubtreeNode: one lock, and one copy.
func (st *Subtree[H, N]) AddSubtreeNodes(nodes []N) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := checkLayout[N](); err != nil {
		return err
	}
	if st.closed {
		return errClosed()
	}
	count := len(st.Nodes)
	if len(nodes) > cap(st.Nodes)-count {
		return ffi.Errorf(ffi.InvalidArgument,
			"%d more nodes do not fit: the subtree has %d of %d", len(nodes), count, cap(st.Nodes))
	}
	fees, size := st.Fees, st.SizeInBytes
	// Copied while they are looked at; behind the length nothing counts until all are good.
	fresh, room := raw(nodes), raw(st.Nodes[:count+len(nodes)])[count:]
	for i := range fresh {
		node := &fresh[i]
		room[i] = *node
		if node.beginsAsPlaceholder() && node.isPlaceholder() {
			return errPlaceholder()
		}
		var feesCarry, sizeCarry uint64
		fees, feesCarry = bits.Add64(fees, node.fee, 0)
		size, sizeCarry = bits.Add64(size, node.size, 0)
		if feesCarry|sizeCarry != 0 {
			return errOverflow(feesCarry, count+i)
		}
	}
	st.Fees, st.SizeInBytes = fees, size
	st.Nodes = st.Nodes[:count+len(nodes)]
	if st.index != nil {
		for position := count; position < len(st.Nodes); position++ {
			st.index.add(raw(st.Nodes), position)
		}
	}
	if len(nodes) > 0 {
		st.stored = nil
	}
	return nil
}

func (st *Subtree[H, N]) addCarefully(node *rawNode) error {
	if len(st.Nodes) == cap(st.Nodes) {
		return st.errFull()
	}
	if node.isPlaceholder() {
		return errPlaceholder()
	}
	fees, feesCarry := bits.Add64(st.Fees, node.fee, 0)
	size, sizeCarry := bits.Add64(st.SizeInBytes, node.size, 0)
	if feesCarry|sizeCarry != 0 {
		return errOverflow(feesCarry, len(st.Nodes))
	}
	st.Fees, st.SizeInBytes = fees, size
	st.Nodes = append(st.Nodes, *(*N)(unsafe.Pointer(node)))
	if st.index != nil {
		st.index.add(raw(st.Nodes), len(st.Nodes)-1)
	}
	if st.stored != nil {
		st.stored = nil
	}
	return nil
}

func errPlaceholder() error {
	return ffi.Errorf(ffi.InvalidArgument,
		"the coinbase placeholder is not a transaction; call AddCoinbaseNode")
}

func errOverflow(fees uint64, position int) error {
	if fees != 0 {
		return ffi.FormatError(ffi.FeeSumOverflow, "the fees up to node %d exceed 64 bits",
			position)
	}
	return ffi.FormatError(ffi.SizeSumOverflow, "the sizes up to node %d exceed 64 bits", position)
}

func (st *Subtree[H, N]) errFull() error {
	if st.closed {
		return errClosed()
	}
	if err := checkLayout[N](); err != nil {
		return err
	}
	return ffi.Errorf(ffi.InvalidArgument, "the subtree is full: %d nodes", len(st.Nodes))
}

func errClosed() error { return ffi.Errorf(ffi.Closed, "the subtree is closed") }

// AddCoinbaseNode appends the coinbase placeholder, which must be the first node.
func (st *Subtree[H, N]) AddCoinbaseNode() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.Nodes) == cap(st.Nodes) {
		return st.errFull()
	}
	if len(st.Nodes) != 0 {
		return ffi.Errorf(ffi.InvalidArgument,
			"the coinbase comes first, but the subtree has %d nodes", len(st.Nodes))
	}
	placeholder := rawNode{hash: CoinbasePlaceholder}
	st.Nodes = append(st.Nodes, *(*N)(unsafe.Pointer(&placeholder)))
	return st.forget()
}

package subtree

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// sound is content that keeps every rule.
func sound(t *testing.T, count int) content {
	t.Helper()
	c := content{nodes: make([]rawNode, count), root: true, sums: true, policy: true}
	for i := range c.nodes {
		c.nodes[i] = rawNode{hash: [32]byte{byte(i), byte(i >> 8), 1}, fee: uint64(i), size: 100}
		if i == 0 {
			c.nodes[i] = rawNode{hash: CoinbasePlaceholder}
		}
		c.fees += c.nodes[i].fee
		c.size += c.nodes[i].size
	}
	for _, i := range []int{count / 2, count / 3} {
		if hash := c.nodes[i].hash; len(c.conflicting) == 0 || i != count/2 {
			c.conflicting = append(c.conflicting, hash[:]...)
		}
	}
	root, err := nodesRoot(c.nodes, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.stored, c.expected = &root, &root
	return c
}

// faults break one rule each, or a few.
var faults = map[string]func(*content){
	"none":          func(*content) {},
	"stored":        func(c *content) { c.stored = &[32]byte{1} },
	"expected":      func(c *content) { c.expected = &[32]byte{1} },
	"no root":       func(c *content) { c.stored, c.root = &[32]byte{1}, false },
	"nothing known": func(c *content) { c.stored, c.expected = nil, nil },
	"fees":          func(c *content) { c.fees++ },
	"size":          func(c *content) { c.size-- },
	"fees overflow": func(c *content) { c.nodes[len(c.nodes)-1].fee = 1<<64 - 1; c.nodes[1].fee = 5 },
	"size overflow": func(c *content) { c.nodes[len(c.nodes)-1].size = 1<<64 - 1 },
	"zero":          func(c *content) { c.nodes[len(c.nodes)/2].hash = [32]byte{} },
	"placeholder":   func(c *content) { c.nodes[len(c.nodes)-1].hash = CoinbasePlaceholder },
	"its fee":       func(c *content) { c.nodes[0].fee++; c.fees++ },
	"twice":         func(c *content) { c.nodes[len(c.nodes)-1].hash = c.nodes[len(c.nodes)/3].hash },
	"no leaf":       func(c *content) { c.conflicting = append(c.conflicting, make([]byte, 32)...) },
	"listed twice":  func(c *content) { c.conflicting = append(c.conflicting, c.conflicting[:32]...) },
	"no sums":       func(c *content) { c.fees, c.size, c.sums = 0, 1, false },
	"no policy":     func(c *content) { c.policy = false },
}

// kindOf is the rule that an error says is broken, -1 for none.
func kindOf(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return -1
	}
	var failure *ffi.Error
	if !errors.As(err, &failure) || !errors.Is(err, ffi.Format) {
		t.Fatalf("%v is no format error", err)
	}
	return int(failure.Kind())
}

// TestVerifyInGoAndByTheLibrary: both find the same rule broken first, whatever is wrong.
func TestVerifyInGoAndByTheLibrary(t *testing.T) {
	if err := ffi.Available(); err != nil {
		t.Skip(err)
	}
	broken := map[int]bool{}
	check := func(c content, names ...string) {
		inGo, byLibrary := c.verify(), c.verifyByLibrary()
		if kindOf(t, inGo) != kindOf(t, byLibrary) {
			t.Errorf("%d nodes, %q: %v in Go, %v by the library", len(c.nodes), names, inGo, byLibrary)
		}
		broken[kindOf(t, inGo)] = true
	}
	var all []string
	for name := range faults {
		all = append(all, name)
	}
	slices.Sort(all)
	random := rand.New(rand.NewPCG(1, 2))
	for _, count := range []int{6, 100, 40_000} {
		for _, name := range all {
			c := sound(t, count)
			faults[name](&c)
			check(c, name)
			// Without the root, which every change of a hash breaks first.
			c.root = false
			check(c, name, "no root")
		}
		for range 100 {
			c := sound(t, min(count, 100))
			first, second := all[random.IntN(len(all))], all[random.IntN(len(all))]
			faults[first](&c)
			faults[second](&c)
			c.root = c.root && random.IntN(2) == 0
			check(c, first, second)
		}
	}
	if len(broken) < 11 {
		t.Errorf("only %d outcomes were seen", len(broken))
	}
}

package txmap_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/txmap"
)

// contentOf is everything that a map's iteration visits; a hash that comes twice fails.
func contentOf(t *testing.T, m testMap) map[hash]*inpoints {
	t.Helper()
	all := map[hash]*inpoints{}
	err := m.IterErr(func(k hash, v *inpoints) bool {
		if all[k] != nil {
			t.Fatalf("%x is visited twice", k[:4])
		}
		all[k] = v
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func checkContent(t *testing.T, m testMap, model map[hash]*inpoints) {
	t.Helper()
	all := contentOf(t, m)
	if len(all) != len(model) || m.Length() != len(model) {
		t.Fatalf("%d entries visited, length %d, want %d", len(all), m.Length(), len(model))
	}
	for k, want := range model {
		if !same(t, all[k], want) {
			t.Fatalf("%x: %v visited, want %v", k[:4], all[k], want)
		}
		if got, found := m.Get(k); !found || !same(t, got, want) {
			t.Fatalf("%x: Get gives %v, want %v", k[:4], got, want)
		}
	}
	keys, err := m.KeysErr()
	if err != nil || len(keys) != len(model) {
		t.Fatalf("%d keys, want %d: %v", len(keys), len(model), err)
	}
	for _, k := range keys {
		if model[k] == nil {
			t.Fatalf("%x is no key", k[:4])
		}
	}
	if err := m.Err(); err != nil {
		t.Fatal(err)
	}
}

// refusesWrites checks every write on a frozen or rotated map.
func refusesWrites(t *testing.T, m testMap) {
	t.Helper()
	k, v := numbered(1), valueOf(1, 1)
	before := m.Length()
	_, _, insert := m.SetIfNotExistsErr(k, v)
	_, remove := m.DeleteErr(k)
	_, inserts := m.SetIfNotExistsBatch([]hash{k}, []*inpoints{v}, nil)
	_, removes := m.DeleteBatch([]hash{k}, nil)
	_, updates := m.UpdateSubtreeIndexBatch([]hash{k}, 3)
	var raw txmap.RawBatch[hash]
	raw.Add(k, encode(t, v), 0)
	_, insertsRaw := m.SetIfNotExistsRaw(&raw)
	for i, err := range []error{insert, remove, inserts, removes, updates, insertsRaw,
		m.SetErr(k, v), m.SetBatch([]hash{k}, []*inpoints{v}), m.SetRaw(&raw)} {
		if !errors.Is(err, blocktier.ErrFrozen) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	m.Set(k, v)
	if err := m.TakeErr(); !errors.Is(err, blocktier.ErrFrozen) {
		t.Errorf("Set leaves %v", err)
	}
	if _, inserted := m.SetIfNotExists(k, v); inserted || m.TakeErr() == nil {
		t.Error("SetIfNotExists inserts")
	}
	m.UpdateSubtreeIndex(k, 5)
	if m.TakeErr() == nil || m.Delete(k) || m.TakeErr() == nil || m.Length() != before ||
		!m.IsFrozen() {
		t.Error("a write had an effect, or left no error")
	}
}

func fillMap(t *testing.T, m testMap, model map[hash]*inpoints, from, to, version int) {
	t.Helper()
	var keys []hash
	var values []*inpoints
	for i := from; i < to; i++ {
		keys, values = append(keys, numbered(i)), append(values, valueOf(i, version))
		model[numbered(i)] = values[len(values)-1]
	}
	if err := m.SetBatch(keys, values); err != nil {
		t.Fatal(err)
	}
}

func TestRotateFreezeAndClear(t *testing.T) {
	for name, m := range maps(t) {
		t.Run(name, func(t *testing.T) {
			first, second := map[hash]*inpoints{}, map[hash]*inpoints{}
			fillMap(t, m, first, 0, 4000, 1)
			old, err := m.Rotate()
			if err != nil {
				t.Fatal(err)
			}
			if m.Length() != 0 || m.Exists(numbered(1)) {
				t.Error("the map is not empty")
			}
			fillMap(t, m, second, 2000, 6000, 2)
			checkContent(t, old, first)
			refusesWrites(t, old)
			old.Clear()
			if err := old.TakeErr(); !errors.Is(err, blocktier.ErrFrozen) {
				t.Errorf("clearing a rotated map: %v", err)
			}
			if _, err := old.Rotate(); !errors.Is(err, blocktier.ErrFrozen) {
				t.Errorf("rotating a rotated map: %v", err)
			}
			m.Freeze()
			refusesWrites(t, m)
			checkContent(t, m, second)
			frozen, err := m.Rotate()
			if err != nil || m.IsFrozen() {
				t.Fatalf("frozen %v, %v", m.IsFrozen(), err)
			}
			fillMap(t, m, map[hash]*inpoints{}, 0, 100, 3)
			m.Freeze()
			m.Clear()
			if m.IsFrozen() || m.Length() != 0 {
				t.Error("frozen, or not empty, after Clear")
			}
			third := map[hash]*inpoints{}
			fillMap(t, m, third, 0, 1000, 4)
			checkContent(t, m, third)
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			checkContent(t, frozen, second)
			if err := frozen.Close(); err != nil {
				t.Fatal(err)
			}
			checkContent(t, old, first)
			if err := errors.Join(old.Err(), old.Close(), old.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := old.KeysErr(); !errors.Is(err, blocktier.ErrClosed) {
				t.Errorf("keys of a closed map: %v", err)
			}
		})
	}
}

// TestMoveBetweenAllKinds moves from each kind of map, rotated or not, to each.
func TestMoveBetweenAllKinds(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for from := range maps(t) {
		for to := range maps(t) {
			t.Run(from+" to "+to, func(t *testing.T) {
				source, m := maps(t)[from], maps(t)[to]
				ofSource, model := map[hash]*inpoints{}, map[hash]*inpoints{}
				fillMap(t, source, ofSource, 0, 5000, 1)
				fillMap(t, m, model, 4000, 5500, 2)
				old, err := source.Rotate()
				if err != nil {
					t.Fatal(err)
				}
				defer old.Close()
				var keys []hash
				for k := range ofSource {
					if random.IntN(3) > 0 {
						keys = append(keys, k)
					}
				}
				moveAndCheck(t, m, old, keys, ofSource, model)
			})
		}
	}
}

func moveAndCheck(t *testing.T, m, source testMap, keys []hash,
	ofSource, model map[hash]*inpoints) {
	t.Helper()
	wasSet := make([]bool, len(keys)+1)
	lacking := append(append([]hash{}, keys...), numbered(1_000_000))
	lacking[7], lacking[len(keys)] = lacking[len(keys)], lacking[7]
	position, err := m.MoveFrom(source, lacking, wasSet)
	if position != 7 || err != nil || m.Length() != len(model) {
		t.Fatalf("a missing hash at 7: %d, %v, length %d", position, err, m.Length())
	}
	for i, set := range wasSet {
		if set {
			t.Fatalf("item %d counts as set", i)
		}
	}
	position, err = m.MoveFrom(source, keys, wasSet[:len(keys)])
	if position != -1 || err != nil {
		t.Fatalf("%d, %v", position, err)
	}
	for i, k := range keys {
		if wasSet[i] == (model[k] != nil) {
			t.Fatalf("item %d: set %v", i, wasSet[i])
		}
		if wasSet[i] {
			model[k] = ofSource[k]
		}
	}
	checkContent(t, m, model)
	if position, err := m.MoveFrom(source, keys, nil); position != -1 || err != nil {
		t.Fatalf("again: %d, %v", position, err)
	}
	checkContent(t, m, model)
	m.UpdateSubtreeIndex(keys[0], 77)
	if got, _ := source.Get(keys[0]); got == nil || got.SubtreeIndex == 77 {
		t.Error("the source's value was changed")
	}
}

func TestMovesThatAreRefused(t *testing.T) {
	for name, m := range maps(t) {
		other := maps(t)[name]
		keys := []hash{numbered(1)}
		fillMap(t, m, map[hash]*inpoints{}, 0, 10, 1)
		if _, err := m.MoveFrom(m, keys, nil); !errors.Is(err, blocktier.ErrInvalidArgument) {
			t.Errorf("%s: to itself: %v", name, err)
		}
		if _, err := other.MoveFrom(m, keys, make([]bool, 2)); !errors.Is(err,
			blocktier.ErrInvalidArgument) {
			t.Errorf("%s: lengths: %v", name, err)
		}
		if position, err := other.MoveFrom(m, nil, nil); position != -1 || err != nil {
			t.Errorf("%s: nothing: %d, %v", name, position, err)
		}
		other.Freeze()
		if _, err := other.MoveFrom(m, keys, nil); !errors.Is(err, blocktier.ErrFrozen) {
			t.Errorf("%s: into a frozen map: %v", name, err)
		}
		other.Clear()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := other.MoveFrom(m, keys, nil); !errors.Is(err, blocktier.ErrClosed) {
			t.Errorf("%s: from a closed map: %v", name, err)
		}
	}
}

// TestIterateWhileWriting: hashes that stay are visited once, whatever is done to them.
func TestIterateWhileWriting(t *testing.T) {
	for name, m := range maps(t) {
		t.Run(name, func(t *testing.T) {
			model := map[hash]*inpoints{}
			fillMap(t, m, model, 0, 6000, 1)
			var all sync.WaitGroup
			stop := make(chan struct{})
			for g := range 3 {
				all.Go(func() {
					for i := g; ; i += 3 {
						select {
						case <-stop:
							return
						default:
						}
						k := numbered(i % 9000)
						if i%9000 >= 6000 && i%2 == 0 {
							m.Delete(k)
						} else {
							m.Set(k, valueOf(i%9000, i))
						}
					}
				})
			}
			for range 4 {
				seen := map[hash]int{}
				for k, v := range m.All() {
					if v == nil {
						t.Errorf("no value: %x", k[:4])
					}
					seen[k]++
				}
				for i := range 9000 {
					if times := seen[numbered(i)]; times > 1 || i < 6000 && times != 1 {
						t.Errorf("%d is visited %d times", i, times)
					}
				}
			}
			close(stop)
			all.Wait()
			if err := m.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestIterationEnds(t *testing.T) {
	for name, m := range maps(t) {
		model := map[hash]*inpoints{}
		fillMap(t, m, model, 0, 5000, 1)
		count := 0
		m.Iter(func(hash, *inpoints) bool {
			count++
			return count == 3
		})
		for range m.All() {
			if count++; count == 5 {
				break
			}
		}
		if count != 5 {
			t.Errorf("%s: %d visits", name, count)
		}
		// The map may be used, and even closed, meanwhile.
		err := m.IterErr(func(k hash, _ *inpoints) bool {
			if !m.Exists(k) {
				t.Errorf("%s: not there", name)
			}
			if count++; count == 10 {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
				m.TakeErr()
			}
			return count == 10
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		func() {
			defer func() { _ = recover() }()
			m := maps(t)[name]
			fillMap(t, m, model, 0, 10, 1)
			m.Iter(func(hash, *inpoints) bool { panic("the visitor's") })
		}()
	}
	if live := ffi.LiveHandles(ffi.CursorHandle); live != 0 {
		t.Errorf("%d cursors are left", live)
	}
}

// TestRotateAndMoveUnderLoad: writers insert hashes of their own while the map is rotated and what
// was rotated out is moved back, block after block; no hash is lost, none is accepted twice.
func TestRotateAndMoveUnderLoad(t *testing.T) {
	const writers, each = 4, 3000
	for name, m := range maps(t) {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			running := make(chan struct{})
			for g := range writers {
				all.Go(func() {
					for i := range each {
						if _, ok, err := m.SetIfNotExistsErr(numbered(g*each+i),
							valueOf(i, 1)); !ok || err != nil {
							t.Errorf("writer %d, item %d: %v, %v", g, i, ok, err)
						}
					}
				})
			}
			go func() { all.Wait(); close(running) }()
			var old []testMap
			for rotating := true; rotating; {
				select {
				case <-running:
					rotating = false
				default:
				}
				taken, err := m.Rotate()
				if err != nil {
					t.Fatal(err)
				}
				old = append(old, taken)
				if len(old) > 4 {
					rotating = false
				}
			}
			all.Wait()
			for _, source := range old {
				keys := source.Keys()
				wasSet := make([]bool, len(keys))
				if position, err := m.MoveFrom(source, keys, wasSet); position != -1 || err != nil {
					t.Fatalf("%d, %v", position, err)
				}
				for _, set := range wasSet {
					if !set {
						t.Fatal("a hash was accepted twice")
					}
				}
				if err := errors.Join(source.Err(), source.Close()); err != nil {
					t.Fatal(err)
				}
			}
			if m.Length() != writers*each || m.Err() != nil {
				t.Fatalf("%d hashes, want %d, %v", m.Length(), writers*each, m.Err())
			}
		})
	}
}

// TestFreezeIsExact: after Freeze has returned nothing changes, whatever runs.
func TestFreezeIsExact(t *testing.T) {
	for name, m := range maps(t) {
		var all sync.WaitGroup
		started := make(chan struct{}, 4)
		for g := range 4 {
			all.Go(func() {
				for i := 0; ; i++ {
					_, _, err := m.SetIfNotExistsErr(numbered(g*1_000_000+i), valueOf(i, 1))
					if i == 500 {
						started <- struct{}{}
					}
					if err != nil {
						if !errors.Is(err, blocktier.ErrFrozen) {
							t.Errorf("%s: %v", name, err)
						}
						return
					}
				}
			})
		}
		for range 4 {
			<-started
		}
		m.Freeze()
		length := m.Length()
		all.Wait()
		if m.Length() != length || len(m.Keys()) != length {
			t.Errorf("%s: %d entries, %d when it was frozen", name, m.Length(), length)
		}
	}
}

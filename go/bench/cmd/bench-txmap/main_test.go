package main

import (
	"testing"
	"time"
)

// Every operation of every store answers for every key what a map answers; measurePhases fails
// where one does not.
func TestStoresAnswerAlike(t *testing.T) {
	for name := range stores {
		t.Run(name, func(t *testing.T) {
			test := task{Store: name, Dir: t.TempDir(), N: 20_000, Threads: 2, Reps: 1}
			test.Tail = 16 << 20
			test.Ops = []phase{
				{"insert", "recent", false}, {"exists", "absent", false},
				{"exists", "recent", true}, {"get", "absent", false},
				{"get", "recent", true}, {"delete", "recent", true},
				{"exists", "recent", false}, {"get", "recent", false},
				{"insert", "recent", true},
			}
			if name == ours {
				test.Ops = append(test.Ops,
					phase{"get-raw", "recent", true}, phase{"insert-raw", "recent", false},
					phase{"insert-batch", "recent", false}, phase{"exists-batch", "absent", false},
					phase{"update-batch", "recent", true}, phase{"delete-batch", "recent", true})
			}
			o := outcome{Figures: map[string]float64{}}
			if err := measurePhases(&test, &o); err != nil {
				t.Fatal(err)
			}
			if len(o.Figures) == 0 {
				t.Error("no figures")
			}
		})
	}
}

func TestMovesMeasureWhatTheySay(t *testing.T) {
	for keys, tail := range map[string]uint64{"recent": 16 << 20, "cold": 1 << 20} {
		test := task{Store: ours, Dir: t.TempDir(), N: 50_000, Threads: 2, Reps: 2, Tail: tail}
		test.Ops = []phase{{"move", keys, true}}
		o := outcome{Figures: map[string]float64{}}
		if err := measureMove(&test, &o); err != nil || o.Figures["move"] == 0 {
			t.Errorf("%s: %v, %v", keys, o.Figures, err)
		}
	}
}

func TestWarmStoresAreEmpty(t *testing.T) {
	for name := range stores {
		for _, grown := range []bool{false, true} {
			const n = 20_000
			test := task{Store: name, Dir: t.TempDir(), N: n, Tail: 16 << 20, Grown: grown}
			s, err := openWarm(&test, n)
			if err != nil {
				t.Fatal(name, err)
			}
			exists, err := s.operation("exists")
			if err != nil {
				t.Fatal(name, err)
			}
			if hits, err := exists(makeKeys(warmFirst, n)); hits != 0 || err != nil {
				t.Errorf("%s still finds %d keys: %v", name, hits, err)
			}
			if err := fill(s, 0, n); err != nil {
				t.Error(name, err)
			}
			if hits, err := exists(makeKeys(0, n)); hits != n || err != nil {
				t.Errorf("%s finds %d of %d keys: %v", name, hits, n, err)
			}
			if err := s.close(); err != nil {
				t.Error(name, err)
			}
		}
	}
}

func TestWrongAnswersAreErrors(t *testing.T) {
	test := task{Store: plainMap, N: 1000, Threads: 1, Tail: 16 << 20, Reps: 1}
	test.Ops = []phase{{"get", "absent", true}}
	if err := measurePhases(&test, &outcome{Figures: map[string]float64{}}); err == nil {
		t.Error("absent keys counted as found")
	}
}

func TestHistogramBuckets(t *testing.T) {
	last := -1
	for n := uint64(0); n < 1<<40; n += 1 + n/100 {
		bucket := bucketOf(n)
		if bucket < last || bucket >= len(histogram{}.counts) {
			t.Fatalf("%d is in bucket %d after %d", n, bucket, last)
		}
		if end := uint64(bucketEnd(bucket)); end < n || end > n+n/32 {
			t.Fatalf("%d is in a bucket that ends at %d", n, end)
		}
		last = bucket
	}
}

func TestQuantiles(t *testing.T) {
	var h histogram
	for i := range 10_000 {
		h.add(time.Duration(i) * time.Microsecond)
	}
	for share, want := range map[float64]float64{0.5: 5000, 0.99: 9900, 0.9999: 9999} {
		if got := h.quantile(share); got < want || got > want*33/32 {
			t.Errorf("quantile %v is %v; want %v", share, got, want)
		}
	}
	if median([]float64{5, 1, 3}) != 3 || median([]float64{4, 2}) != 3 {
		t.Error("median")
	}
}

func TestKeysAreOneSequence(t *testing.T) {
	all, part := makeKeys(0, 100), makeKeys(60, 40)
	seen := map[Hash]bool{}
	for i, key := range all {
		if i >= 60 && part[i-60] != key {
			t.Fatalf("key %d differs", i)
		}
		seen[key] = true
	}
	if len(seen) != len(all) {
		t.Errorf("%d different keys of %d", len(seen), len(all))
	}
}

package workload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"
)

var large = flag.Bool("large", false, "also check the reference workload of 10 million records")

// memoryFiles keeps files in RAM.
type memoryFiles map[string]*bytes.Buffer

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func (m memoryFiles) create(suffix string) (io.WriteCloser, error) {
	m[suffix] = new(bytes.Buffer)
	return nopCloser{m[suffix]}, nil
}

func discard(string) (io.WriteCloser, error) { return nopCloser{io.Discard}, nil }

// The digests come from an independent generator of the same format.
func TestReferenceWorkload(t *testing.T) {
	files := memoryFiles{}
	s, err := WriteFiles(t.Context(), Defaults(), files.create, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Digests{
		Rec:  "711eed1fed6dcda8d357a1daf47434974641cdd07288350ef31e777878c2e1a0",
		Dup:  "43b9a81508420b8830130a8e1e575d044eed182b596ea4fa4db7b24bbd4d0b4b",
		Conf: "cdfa585df14b8b4a65f9f61724fdcc4154cd9331ce00f86ab18851ccaf7dfcbf",
	}
	if s.SHA256 != want {
		t.Errorf("digests %+v, want %+v", s.SHA256, want)
	}
	for suffix, digest := range map[string]string{".rec": want.Rec, ".dup": want.Dup,
		".conf": want.Conf,
		".json": "51df8792d299c1f42ac879a04e51ecde938a71469382d43c24b99df0e1427be0"} {
		if got := hexSum(files[suffix].Bytes()); got != digest {
			t.Errorf("%s: sha256 %s, want %s", suffix, got, digest)
		}
	}
	if uint64(files[".rec"].Len()) != s.Bytes {
		t.Errorf("%d bytes counted, %d written", s.Bytes, files[".rec"].Len())
	}
}

func TestReferenceWorkloadLarge(t *testing.T) {
	if !*large {
		t.Skip("10 million records: run with -large")
	}
	o := Defaults()
	o.Txs, o.Seed = 10_000_000, 7
	start := time.Now()
	s, err := WriteFiles(t.Context(), o, discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "92d87b190e1d945ec21fa434d1a75e63775a1a85a09937b65f350fb9e093ae50"
	if s.SHA256.Rec != want {
		t.Errorf("sha256 %s, want %s", s.SHA256.Rec, want)
	}
	t.Logf("%.2f million records/s with digests", 10/time.Since(start).Seconds())
}

// Options away from the defaults take the branches that the reference does not: several blocks,
// a heavy parent that is spent one by one, a heavy count that is no power of two, no chains.
func TestOtherOptions(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
		json   string
	}{
		{"heavy parent in the third block", func(o *Options) {
			o.Txs, o.Seed, o.BlockTxs, o.Heavy, o.HeavyBlock = 200_000, 3, 30_000, 5_000, 2
		}, "06630116e1975a823c118f45a8d8168e5f489d7c51bf17825850639ae775b7e6"},
		{"no chains, many errors", func(o *Options) {
			o.Txs, o.Seed, o.Heavy, o.ChainLen = 60_000, -5, 5_001, 0
			o.DupTx, o.DupSpend, o.DupInput = 0.2, 0.1, 0.05
		}, "8da52179888531fa01b1bfa0b09f3e8fdd1d79a1d671bc6fafb05c32f88f4be9"},
		{"dense chains, no heavy parent", func(o *Options) {
			o.Txs, o.Seed, o.BlockTxs, o.Heavy = 50_001, 12_345_678_901, 7_000, 0
			o.ChainEvery, o.ChainLen = 2_000, 600
		}, "a907820007af3bc01e718bb8549146cf9d321e2faf9b03b07cedbfc248110af5"},
		{"heavy parent spent in handfuls", func(o *Options) {
			o.Txs, o.Seed, o.BlockTxs, o.HeavyBlock = 40_000, 2, 20_000, 1
		}, "fe4bd761ffafb517ed458cd4bf3903978fabc7950085f9cdb062df62d47bfb12"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Defaults()
			c.change(&o)
			files := memoryFiles{}
			if _, err := WriteFiles(t.Context(), o, files.create, nil); err != nil {
				t.Fatal(err)
			}
			// The summary holds the digests of the other files.
			if got := hexSum(files[".json"].Bytes()); got != c.json {
				t.Errorf("sha256 of .json %s, want %s; it is\n%s", got, c.json, files[".json"])
			}
		})
	}
}

// Next must agree with the files, and the truth with the records.
func TestStreamWithoutFiles(t *testing.T) {
	o := Defaults()
	o.Txs = 120_000
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	digest := sha256.New()
	seen := map[[hashSize]byte][]byte{}
	first := map[[hashSize]byte]uint64{}
	duplicates := uint64(0)
	for want := uint64(0); ; want++ {
		r, err := g.Next()
		if err != nil {
			t.Fatal(err)
		}
		if r == nil {
			break
		}
		digest.Write(r.Raw)
		id := [hashSize]byte(r.Raw)
		earlier, repeated := seen[id]
		if repeated != r.Duplicate || r.Index != want {
			t.Fatalf("record %d: index %d, duplicate %v, seen %v", want, r.Index, r.Duplicate,
				repeated)
		}
		if repeated {
			duplicates++
			if first[id] != r.First || !bytes.Equal(earlier, r.Raw) {
				t.Fatalf("record %d does not repeat record %d", want, r.First)
			}
		}
		seen[id], first[id] = bytes.Clone(r.Raw), want
		if repeated {
			first[id] = r.First
		}
	}
	s := g.Summary()
	if s.DuplicateRecords != duplicates || s.UniqueTxids != uint64(len(seen)) {
		t.Errorf("%d duplicates and %d txids, counted %d and %d", duplicates, len(seen),
			s.DuplicateRecords, s.UniqueTxids)
	}
	written, err := WriteFiles(t.Context(), o, discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != written.SHA256.Rec {
		t.Errorf("stream %s, file %s", got, written.SHA256.Rec)
	}
}

func TestBadOptions(t *testing.T) {
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.DupTx = -0.1 }, "dup-tx"},
		{func(o *Options) { o.DupTx = 2 }, "dup-tx"},
		{func(o *Options) { o.DupSpend = 0.9; o.DupTx = 0.9 }, "together"},
		{func(o *Options) { o.BlockTxs = 0 }, "block-txs"},
		{func(o *Options) { o.ChainEvery = 0 }, "chain-every"},
		{func(o *Options) { o.MaxInputs = 65_536 }, "max-inputs"},
		{func(o *Options) { o.Heavy = 1 << 33 }, "heavy"},
	} {
		o := Defaults()
		c.change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one about %s", o, err, c.want)
		}
	}
	o := Defaults()
	o.Txs = 3
	if _, err := WriteFiles(t.Context(), o, discard, nil); !errors.Is(err, ErrHeavyBlock) {
		t.Errorf("a block too small for the heavy parent: %v", err)
	}
	o = Defaults()
	o.Txs, o.HeavyBlock = 1000, 1
	if _, err := WriteFiles(t.Context(), o, discard, nil); !errors.Is(err, ErrHeavyBlock) {
		t.Errorf("a heavy parent in a block that is not there: %v", err)
	}
	o = Defaults()
	o.MaxInputs = 3
	if _, err := WriteFiles(t.Context(), o, discard, nil); !errors.Is(err, ErrTooManyInputs) {
		t.Errorf("more inputs than allowed: %v", err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	files := memoryFiles{}
	_, err := WriteFiles(ctx, Defaults(), files.create, func(n uint64) {
		if n > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if _, written := files[".json"]; written {
		t.Error("a summary was written although generating was cancelled")
	}
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func BenchmarkNext(b *testing.B) {
	o := Defaults()
	o.Txs = 1 << 62
	g, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

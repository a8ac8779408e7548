package validate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/golden"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/record"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/workload"
)

// everything is a limit above every test's failures.
const everything = 1 << 20

func TestDoubleSpendCases(t *testing.T) {
	type verdict struct {
		Records    uint64     `json:"records"`
		Inputs     uint64     `json:"inputs"`
		Distinct   uint64     `json:"distinct_spent"`
		Duplicates [][]uint64 `json:"duplicate_records"`
		Conflicts  [][]uint64 `json:"conflicts"`
	}
	cases := golden.Load[map[string]verdict](t, "doublespend/expected.json")
	if len(cases) < 13 {
		t.Fatalf("only %d cases", len(cases))
	}
	for name, want := range cases {
		v, err := Records(t.Context(), bytes.NewReader(golden.Read(t, "doublespend/"+name)),
			everything, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := verdict{v.Records, v.Inputs, v.Distinct, [][]uint64{}, [][]uint64{}}
		for _, f := range v.Failures {
			switch f.Kind {
			case Duplicate:
				got.Duplicates = append(got.Duplicates, []uint64{*f.Record, *f.FirstRecord})
			case DoubleSpend:
				got.Conflicts = append(got.Conflicts, []uint64{*f.Record, uint64(*f.Input),
					*f.FirstRecord, uint64(*f.FirstInput)})
			default:
				t.Errorf("%s: %v", name, f)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if v.OK != (len(want.Duplicates)+len(want.Conflicts) == 0) {
			t.Errorf("%s: ok = %v", name, v.OK)
		}
	}
}

// The workload's truth and the check must agree record by record.
func TestWorkloadTruth(t *testing.T) {
	o := workload.Defaults()
	o.Txs, o.BlockTxs, o.Heavy = 60_000, 25_000, 3000
	o.DupTx, o.DupSpend, o.DupInput = 0.05, 0.03, 0.01
	g, err := workload.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	var file bytes.Buffer
	var want []string
	for {
		r, err := g.Next()
		if err != nil {
			t.Fatal(err)
		}
		if r == nil {
			break
		}
		file.Write(r.Raw)
		switch {
		case r.Duplicate:
			want = append(want, place(Duplicate, r.Index, 0, r.First, 0))
		case r.Conflict:
			want = append(want, place(DoubleSpend, r.Index, r.Input, r.First, r.FirstInput))
		}
	}
	v, err := Records(t.Context(), &file, everything, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range v.Failures {
		input, firstInput := uint32(0), uint32(0)
		if f.Kind == DoubleSpend {
			input, firstInput = *f.Input, *f.FirstInput
		}
		got = append(got, place(f.Kind, *f.Record, input, *f.FirstRecord, firstInput))
	}
	if !reflect.DeepEqual(got, want) || len(want) < 4000 {
		t.Errorf("%d failures found, %d made", len(got), len(want))
	}
}

func place(kind Kind, record uint64, input uint32, first uint64, firstInput uint32) string {
	var b []byte
	b = append(b, kind...)
	b = binary.BigEndian.AppendUint64(b, record)
	b = binary.BigEndian.AppendUint32(b, input)
	b = binary.BigEndian.AppendUint64(b, first)
	return string(binary.BigEndian.AppendUint32(b, firstInput))
}

func TestLimitKeepsCounts(t *testing.T) {
	file := golden.Read(t, "doublespend/block-twice.rec")
	v, err := Records(t.Context(), bytes.NewReader(file), 5, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Failures) != 5 || v.Failed[Duplicate] != 213 || v.OK {
		t.Errorf("%d failures kept, %v counted", len(v.Failures), v.Failed)
	}
}

func TestTruncatedRecords(t *testing.T) {
	file := golden.Read(t, "doublespend/triple.rec")
	whole := 0
	for cut := range file {
		_, err := Records(t.Context(), bytes.NewReader(file[:cut]), everything, nil)
		switch {
		case err == nil:
			whole++
		case !errors.Is(err, record.ErrTruncated):
			t.Errorf("cut to %d bytes: %v", cut, err)
		}
	}
	if whole != 3 { // 0 bytes, one record, two records
		t.Errorf("%d cuts were read without an error, want 3", whole)
	}
}

func TestCancelledRecords(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Records(ctx, bytes.NewReader(golden.Read(t, "doublespend/clean.rec")), 1, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// The spend table against a map, over keys that differ in single bits, across many doublings.
func TestSpendTableAgainstMap(t *testing.T) {
	table := newSpendTable(0)
	model := map[wire.OutPoint]spend{}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range uint64(200_000) {
		var o wire.OutPoint
		o.Hash[random.IntN(32)] = 1 << random.IntN(8)
		o.Index = uint32(1)<<random.IntN(32) | uint32(random.IntN(64))
		first, inserted := table.insert(&o, i, uint32(i%7))
		known, spent := model[o]
		if inserted == spent {
			t.Fatalf("outpoint %v: inserted %v, known %v", o, inserted, spent)
		}
		if spent && *first != known {
			t.Fatalf("outpoint %v: first %+v, want %+v", o, *first, known)
		}
		if !spent {
			model[o] = spend{o, uint32(i % 7), i}
		}
	}
	if table.length != uint64(len(model)) {
		t.Errorf("%d entries, want %d", table.length, len(model))
	}
}

func TestIDTableAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	ids := make([]chainhash.Hash, 100_000)
	table := newIDTable(0, func(i uint64) *chainhash.Hash { return &ids[i] })
	model := map[chainhash.Hash]uint64{}
	for i := range ids {
		binary.LittleEndian.PutUint32(ids[i][28:], random.Uint32N(60_000))
		first, duplicate := table.insert(uint64(i))
		known, seen := model[ids[i]]
		if duplicate != seen || (seen && first != known) {
			t.Fatalf("id %d: %d %v, want %d %v", i, first, duplicate, known, seen)
		}
		if !seen {
			model[ids[i]] = uint64(i)
		}
	}
	for id, want := range model {
		if got, found := table.lookup(&id); !found || got != want {
			t.Fatalf("%v: %d %v, want %d", id, got, found, want)
		}
	}
	if _, found := table.lookup(&chainhash.Hash{9}); found {
		t.Error("an id that was never inserted is found")
	}
}

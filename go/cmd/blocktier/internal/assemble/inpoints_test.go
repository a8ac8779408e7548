package assemble

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/golden"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/txmap"
)

func TestInpointsOfRealBlocks(t *testing.T) {
	var e Encoder
	for _, name := range golden.BlockNames {
		want := golden.Load[golden.Block](t, "expected/"+name+".json")
		b, err := legacy.NewBlockReader(bytes.NewReader(golden.Read(t, want.File)))
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		var tx legacy.Tx
		for {
			if err := b.Next(&tx); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			all = e.Append(all, tx.Inputs)
		}
		sum := sha256.Sum256(all)
		if got := hex.EncodeToString(sum[:]); got != want.InpointsDigest {
			t.Errorf("%s: digest %s, want %s", name, got, want.InpointsDigest)
		}
	}
}

func TestInpointsOfTransactionFiles(t *testing.T) {
	type digest struct {
		Inpoints string `json:"txinpoints_sha256"`
	}
	var e Encoder
	for name, raw := range golden.Load[map[string]json.RawMessage](t, "expected/txs.json") {
		var want digest
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		var tx legacy.Tx
		d := legacy.NewDataReader(bytes.NewReader(golden.Read(t, name)))
		if err := d.Next(&tx); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(e.Append(nil, tx.Inputs))
		if got := hex.EncodeToString(sum[:]); got != want.Inpoints {
			t.Errorf("%s: digest %s, want %s", name, got, want.Inpoints)
		}
	}
}

// The encoder against the map's own codec, on both sides of its two ways to find parents.
func TestInpointsAgainstCodec(t *testing.T) {
	var e Encoder
	var codec txmap.TxInpointsCodec[chainhash.Hash]
	random := rand.New(rand.NewPCG(5, 6))
	for n := range 3 * searchMax {
		inputs := make([]wire.OutPoint, n)
		model := &txmap.TxInpoints[chainhash.Hash]{}
		for i := range inputs {
			inputs[i] = wire.OutPoint{Hash: chainhash.Hash{byte(random.IntN(n/3 + 1))},
				Index: random.Uint32()}
			model.Add(inputs[i].Hash, inputs[i].Index)
		}
		want, err := codec.AppendValue([]byte("before"), model)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Append([]byte("before"), inputs); !slices.Equal(got, want) {
			t.Fatalf("%d inputs: %x, want %x", n, got, want)
		}
	}
	if got, err := codec.DecodeValue([]byte{0xff, 0xff, 0xff, 0xff}); err == nil {
		t.Errorf("a count without parents decodes to %v", got)
	}
}

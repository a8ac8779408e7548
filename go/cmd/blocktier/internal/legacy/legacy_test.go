package legacy

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/golden"
)

func TestRealBlocks(t *testing.T) {
	for _, name := range golden.BlockNames {
		want := golden.Load[golden.Block](t, "expected/"+name+".json")
		b, err := NewBlockReader(bytes.NewReader(golden.Read(t, want.File)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b.Header.Hash.String() != want.Hash || b.Count != uint64(len(want.Txids)) ||
			b.Header.MerkleRoot.String() != want.MerkleRoot {
			t.Errorf("%s: header %+v, %d transactions", name, b.Header, b.Count)
		}
		var tx Tx
		for i, id := range want.Txids {
			if err := b.Next(&tx); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if tx.ID.String() != id || tx.Size != want.Sizes[i] || tx.Coinbase != (i == 0) {
				t.Fatalf("%s: transaction %d is %+v", name, i, tx)
			}
			inputs := []wire.OutPoint{}
			for k := 0; k < len(want.Inpoints[i]); k += 2 {
				parent := golden.Hash(t, want.Parents[want.Inpoints[i][k]])
				inputs = append(inputs, wire.OutPoint{Hash: parent, Index: want.Inpoints[i][k+1]})
			}
			if !slices.Equal(tx.Inputs, inputs) {
				t.Fatalf("%s: transaction %d has inputs %v, want %v", name, i, tx.Inputs, inputs)
			}
		}
		if err := b.Next(&tx); err != io.EOF {
			t.Errorf("%s: %v after the last transaction, want EOF", name, err)
		}
	}
}

func TestChainFile(t *testing.T) {
	want := golden.Load[golden.Chain](t, "expected/chain-0-9999.json")
	c := NewChainReader(bytes.NewReader(golden.Read(t, want.File)))
	spending := want.Spending
	for height := range want.Blocks {
		b, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if b.Header.Hash.String() != want.Blocks[height] || b.Count != want.Counts[height] ||
			b.Header.MerkleRoot.String() != want.MerkleRoots[height] {
			t.Fatalf("block %d: %+v", height, b)
		}
		var tx Tx
		for i := range b.Count {
			if err := b.Next(&tx); err != nil {
				t.Fatal(err)
			}
			if tx.Coinbase != (i == 0) {
				t.Fatalf("block %d, transaction %d: coinbase %v", height, i, tx.Coinbase)
			}
			if tx.Coinbase {
				continue
			}
			w := spending[0]
			spending = spending[1:]
			if w.Height != uint64(height) || w.Index != i || w.Txid != tx.ID.String() ||
				w.Size != tx.Size || !slices.Equal(tx.Inputs, outpoints(t, w.Inputs)) {
				t.Fatalf("block %d, transaction %d: %+v, want %+v", height, i, tx, w)
			}
		}
	}
	if _, err := c.Next(); err != io.EOF || len(spending) != 0 {
		t.Errorf("%v after the last block, %d transactions missing", err, len(spending))
	}
}

func outpoints(t *testing.T, pairs [][]json.RawMessage) []wire.OutPoint {
	t.Helper()
	out := []wire.OutPoint{}
	for _, p := range pairs {
		var text string
		var o wire.OutPoint
		err := errors.Join(json.Unmarshal(p[0], &text), json.Unmarshal(p[1], &o.Index))
		if err != nil {
			t.Fatal(err)
		}
		o.Hash = golden.Hash(t, text)
		out = append(out, o)
	}
	return out
}

func TestTransactionFiles(t *testing.T) {
	for name, want := range golden.Load[map[string]golden.Tx](t, "expected/txs.json") {
		d := NewDataReader(bytes.NewReader(golden.Read(t, name)))
		var tx Tx
		if err := d.Next(&tx); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tx.ID.String() != want.Txid || tx.Size != want.Size || tx.Fee != want.Fee ||
			tx.FeeKnown != want.FeeKnown || !slices.Equal(tx.Inputs, outpoints(t, want.Inputs)) {
			t.Errorf("%s: %+v, want %+v", name, tx, want)
		}
		if err := d.Next(&tx); err != io.EOF {
			t.Errorf("%s: %v after the transaction", name, err)
		}
	}
}

// The data of a subtree: one without and one with its coinbase.
func TestSubtreeData(t *testing.T) {
	matches, err := filepath.Glob(filepath.Join(golden.Dir(t), "subtrees", "*.subtreeData"))
	if err != nil || len(matches) != 33 {
		t.Fatalf("%d subtree data files, %v", len(matches), err)
	}
	for _, path := range matches {
		name := filepath.Base(path)
		leaves := "subtrees/" + strings.TrimSuffix(name, ".subtreeData") + ".hashes"
		withCoinbase := name == "subtree-8ddeb634.subtreeData"
		if withCoinbase {
			leaves = "derived/subtree-8ddeb634.hashes"
		}
		hashes := golden.Read(t, leaves)
		first := chainhash.Hash(hashes[:32])
		if !withCoinbase && first == (chainhash.Hash(bytes.Repeat([]byte{0xff}, 32))) {
			hashes = hashes[32:] // the placeholder stands for a coinbase that is not in the data
		}
		d := NewDataReader(bytes.NewReader(golden.Read(t, "subtrees/"+name)))
		var tx Tx
		for i := range len(hashes) / 32 {
			if err := d.Next(&tx); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			isPlaceholder := withCoinbase && i == 0
			if tx.Coinbase != isPlaceholder {
				t.Errorf("%s: transaction %d: coinbase %v", name, i, tx.Coinbase)
			}
			if id := chainhash.Hash(hashes[32*i:][:32]); tx.ID != id && !isPlaceholder {
				t.Fatalf("%s: transaction %d is %v, want %v", name, i, tx.ID, id)
			}
		}
		if err := d.Next(&tx); err != io.EOF {
			t.Errorf("%s: %v after the last transaction", name, err)
		}
	}
}

func TestNodeBlocks(t *testing.T) {
	for _, want := range golden.Load[map[string]golden.NodeBlock](t,
		"expected/teranode-blocks.json") {
		raw := golden.Read(t, want.File)
		b, err := ReadNodeBlock(bytes.NewReader(raw))
		if err != nil {
			t.Fatalf("%s: %v", want.File, err)
		}
		roots := []string{}
		for _, r := range b.Subtrees {
			roots = append(roots, r.String())
		}
		got := golden.NodeBlock{File: want.File, Hash: b.Header.Hash.String(), Height: b.Height,
			Txs: b.Txs, Size: b.Size, MerkleRoot: b.Header.MerkleRoot.String(),
			CoinbaseTxid: b.Coinbase.ID.String(), CoinbaseSize: b.Coinbase.Size, Subtrees: roots}
		if g, w := toJSON(t, got), toJSON(t, want); g != w {
			t.Errorf("%s: %s, want %s", want.File, g, w)
		}
		if !bytes.Equal(b.Encode(), raw) {
			t.Errorf("%s: encoding it again gives other bytes", want.File)
		}
		for cut := range raw {
			if _, err := ReadNodeBlock(bytes.NewReader(raw[:cut])); !errors.Is(err, ErrFormat) {
				t.Fatalf("%s cut to %d bytes: %v", want.File, cut, err)
			}
		}
		if _, err := ReadNodeBlock(bytes.NewReader(append(raw, 0))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s with one byte more: %v", want.File, err)
		}
	}
}

func toJSON(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The walker and the wire package must read every real transaction alike.
func TestWalkerAgreesWithWire(t *testing.T) {
	block := golden.Read(t, "blocks/block-384188.bin")
	var m wire.MsgBlock
	if err := m.DeserializeNoWitness(bytes.NewReader(block)); err != nil {
		t.Fatal(err)
	}
	var w walker
	for i, want := range m.Transactions {
		var raw bytes.Buffer
		if err := want.SerializeNoWitness(&raw); err != nil {
			t.Fatal(err)
		}
		size := raw.Len()
		var tx Tx
		if err := w.walk(&raw, newInput(&raw), false, &tx); err != nil {
			t.Fatal(err)
		}
		if tx.ID != want.TxHash() || tx.Size != uint64(size) ||
			len(tx.Inputs) != len(want.TxIn) || raw.Len() != 0 {
			t.Fatalf("transaction %d: %+v", i, tx)
		}
		for k, in := range want.TxIn {
			if tx.Inputs[k] != in.PreviousOutPoint {
				t.Fatalf("transaction %d, input %d: %v", i, k, tx.Inputs[k])
			}
		}
	}
}

// tx builds a transaction with scripts of the given sizes.
func tx(inputs int, scripts ...int) []byte {
	m := wire.NewMsgTx(2)
	for i := range inputs {
		m.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: chainhash.Hash{1}, Index: uint32(i)},
			[]byte{1, 2}, nil))
	}
	for _, n := range scripts {
		m.AddTxOut(wire.NewTxOut(7, bytes.Repeat([]byte{0x6a}, n)))
	}
	var b bytes.Buffer
	if err := m.SerializeNoWitness(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestLargeTransaction(t *testing.T) {
	for name, raw := range map[string][]byte{
		"one script of 5 MB":    tx(1, 5_000_000),
		"three scripts of 3 MB": tx(2, 3_000_000, 3_000_000, 3_000_000),
		"a million inputs":      tx(1_000_000, 1),
	} {
		d := NewDataReader(bytes.NewReader(append(slices.Clone(raw), tx(1, 3)...)))
		var got Tx
		if err := d.Next(&got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.ID != chainhash.DoubleHashH(raw) || got.Size != uint64(len(raw)) {
			t.Errorf("%s: id %v, %d bytes", name, got.ID, got.Size)
		}
		if n := len(got.Inputs); got.Inputs[n-1].Index != uint32(n-1) {
			t.Errorf("%s: the last of %d inputs is %v", name, n, got.Inputs[n-1])
		}
		if err := d.Next(&got); err != nil || got.ID != chainhash.DoubleHashH(tx(1, 3)) {
			t.Errorf("%s: the transaction after it: %v, %v", name, got.ID, err)
		}
	}
}

// Every cut of a block and of extended transactions is an error with a place, never a panic or a
// shorter result.
func TestTruncated(t *testing.T) {
	block := golden.Read(t, "blocks/chain-0-9999.dat")
	first := 8 + int(binary.LittleEndian.Uint32(block[4:]))
	for cut := range first {
		if cut == 0 {
			continue // an empty file is a chain without blocks
		}
		if err := readChain(block[:cut]); !errors.Is(err, ErrFormat) {
			t.Fatalf("chain cut to %d bytes: %v", cut, err)
		}
	}
	if err := readChain(block[:first]); err != nil {
		t.Fatal(err)
	}
	data := golden.Read(t, "subtrees/b171-01-b6b4a947.subtreeData")
	boundaries := 0
	for cut := range data {
		d := NewDataReader(bytes.NewReader(data[:cut]))
		var tx Tx
		var err error
		for err == nil {
			err = d.Next(&tx)
		}
		if err == io.EOF {
			boundaries++
		} else if !errors.Is(err, ErrFormat) {
			t.Fatalf("data cut to %d bytes: %v", cut, err)
		}
	}
	if boundaries != 32 { // 0 bytes, and after each of the 32 transactions but the last
		t.Errorf("%d cuts are clean ends, want 32", boundaries)
	}
}

func readChain(b []byte) error {
	c := NewChainReader(bytes.NewReader(b))
	for {
		block, err := c.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var tx Tx
		for err == nil {
			err = block.Next(&tx)
		}
		if err != io.EOF {
			return err
		}
	}
}

func TestMalformed(t *testing.T) {
	chain := golden.Read(t, "blocks/chain-0-9999.dat")
	first := 8 + int(binary.LittleEndian.Uint32(chain[4:]))
	change := func(at int, with ...byte) []byte {
		b := slices.Clone(chain[:first])
		copy(b[at:], with)
		return b
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"magic", change(0, 0xfa), "offset 8: magic number fabeb4d9"},
		{"length too long", append(change(4, chain[4]+1), 0), "bytes after the end of the block"},
		{"length too short", change(4, chain[4]-1), "the bytes end within the transaction"},
		{"no transactions", change(8+80, 0), "a block without transactions"},
		{"too many transactions", change(8+80, 200), "200 transactions do not fit"},
		{"count in a longer form", change(8+80, 0xfd, 1, 0), "non-canonical"},
		{"no inputs", change(8+81+4, 0), "without inputs"},
		{"script longer than the block", change(8+81+4+1+36, 0xfe, 0xff, 0xff, 0xff, 0x7f),
			"the bytes end within the transaction"},
	} {
		err := readChain(c.bytes)
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	block := slices.Clone(chain[8:first])
	if _, err := readBlock(append(block, 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("block with one byte more: %v", err)
	}
}

func readBlock(b []byte) (n int, err error) {
	r, err := NewBlockReader(bytes.NewReader(b))
	var tx Tx
	for err == nil {
		if err = r.Next(&tx); err == nil {
			n++
		}
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// An error of the disk is not an error of the format.
func TestReadError(t *testing.T) {
	disk := errors.New("disk on fire")
	chain := golden.Read(t, "blocks/chain-0-9999.dat")
	r := io.MultiReader(bytes.NewReader(chain[:200]), failing{disk})
	c := NewChainReader(r)
	b, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err = b.Next(new(Tx)); !errors.Is(err, disk) || errors.Is(err, ErrFormat) {
		t.Errorf("error %v, want that of the disk", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// What the extended form adds must not change what the standard form says.
func FuzzExtendedAgainstStandard(f *testing.F) {
	f.Add([]byte{}, uint64(100), uint8(1))
	f.Add(bytes.Repeat([]byte{7}, 300), uint64(1<<40), uint8(3))
	f.Fuzz(func(t *testing.T, script []byte, satoshis uint64, inputs uint8) {
		n := int(inputs)%5 + 1
		satoshis >>= 8 // so that their sum fits
		m := wire.NewMsgTx(1)
		extended := []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0xef, byte(n)}
		prefix := func(b []byte, script []byte) []byte {
			var length bytes.Buffer
			_ = wire.WriteVarInt(&length, 0, uint64(len(script)))
			return append(append(b, length.Bytes()...), script...)
		}
		for i := range n {
			o := wire.OutPoint{Hash: chainhash.Hash{byte(i), 3}, Index: uint32(i)}
			m.AddTxIn(wire.NewTxIn(&o, script, nil))
			extended = binary.LittleEndian.AppendUint32(append(extended, o.Hash[:]...), o.Index)
			extended = append(prefix(extended, script), 0xff, 0xff, 0xff, 0xff)
			extended = binary.LittleEndian.AppendUint64(extended, satoshis)
			extended = prefix(extended, script)
		}
		m.AddTxOut(wire.NewTxOut(int64(satoshis), script))
		extended = binary.LittleEndian.AppendUint64(append(extended, 1), satoshis)
		extended = append(prefix(extended, script), 0, 0, 0, 0)
		var tx Tx
		if err := NewDataReader(bytes.NewReader(extended)).Next(&tx); err != nil {
			t.Fatal(err)
		}
		if tx.ID != m.TxHash() || tx.Size != uint64(m.SerializeSizeStripped()) ||
			tx.Fee != satoshis*uint64(n-1) || !tx.FeeKnown || len(tx.Inputs) != n {
			t.Fatalf("%+v, want id %v", tx, m.TxHash())
		}
	})
}

// Arbitrary bytes are read or refused; what is read has the size of what was consumed.
func FuzzData(f *testing.F) {
	f.Add(tx(2, 5))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0xef, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := NewDataReader(bytes.NewReader(data))
		var tx Tx
		total := uint64(0)
		for {
			err := d.Next(&tx)
			if err == io.EOF {
				break
			}
			if err != nil {
				if !errors.Is(err, ErrFormat) {
					t.Fatalf("error %v is not about the format", err)
				}
				return
			}
			total += tx.Size
		}
		if total > uint64(len(data)) {
			t.Fatalf("%d bytes of transactions in %d bytes", total, len(data))
		}
	})
}

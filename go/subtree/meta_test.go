package subtree_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
	"github.com/blocktier/blocktier/go/txmap"
)

type record struct {
	id     hash
	inputs *txmap.TxInpoints[hash]
}

// records reads a file of transactions with their inputs: txid 32 | u16 n | n x (parent 32, vout
// u32).
func records(t *testing.T, parts ...string) []record {
	t.Helper()
	b, err := os.ReadFile(dataPath(parts...))
	if err != nil {
		t.Fatal(err)
	}
	var all []record
	for len(b) > 0 {
		r := record{hash(b[:32]), new(txmap.TxInpoints[hash])}
		n := binary.LittleEndian.Uint16(b[32:])
		for b = b[34:]; n > 0; n-- {
			r.inputs.Add(hash(b[:32]), binary.LittleEndian.Uint32(b[32:]))
			b = b[36:]
		}
		all = append(all, r)
	}
	return all
}

var realBlocks = []string{"block-277647", "block-379389", "block-384188", "block-384189"}

// TestInpointsAndBlockRootsOfRealBlocks: the encoded inputs of all transactions, and the block's
// root from subtrees of every size.
func TestInpointsAndBlockRootsOfRealBlocks(t *testing.T) {
	for _, block := range realBlocks {
		var want struct {
			MerkleRoot string `json:"merkle_root"`
			Digest     string `json:"txinpoints_concat_sha256"`
			Compose    map[string]struct {
				Subtrees                 int
				FirstRootWithCoinbase    string `json:"first_root_with_coinbase"`
				FirstRootWithPlaceholder string `json:"first_root_with_placeholder"`
				LastRootPadded           string `json:"last_root_padded"`
			}
		}
		readJSON(t, &want, "expected", block+".json")
		transactions := records(t, "records", block+".rec")
		digest := sha256.New()
		for _, transaction := range transactions {
			b, err := txmap.TxInpointsCodec[hash]{}.AppendValue(nil, transaction.inputs)
			if err != nil {
				t.Fatal(err)
			}
			digest.Write(b)
			again, err := txmap.TxInpointsCodec[hash]{}.DecodeValue(b)
			if err != nil || again.Inputs() != transaction.inputs.Inputs() {
				t.Fatalf("%s: decoded differently: %v", block, err)
			}
		}
		if hex.EncodeToString(digest.Sum(nil)) != want.Digest {
			t.Errorf("%s: digest of the inpoints", block)
		}
		if len(want.Compose) != 4 {
			t.Fatalf("%s: %d compositions", block, len(want.Compose))
		}
		for size, compose := range want.Compose {
			var leaves int
			if err := json.Unmarshal([]byte(size), &leaves); err != nil {
				t.Fatal(err)
			}
			roots, last := composeRoots(t, transactions, leaves)
			height := bitsOf(leaves)
			root, err := subtree.BlockRoot(roots, height, last)
			if err != nil || display(root) != want.MerkleRoot || len(roots) != compose.Subtrees ||
				display(roots[0]) != compose.FirstRootWithCoinbase {
				t.Errorf("%s in subtrees of %s: block root %s, %v", block, size, display(root), err)
			}
		}
	}
}

func bitsOf(leaves int) int {
	height := 0
	for 1<<height < leaves {
		height++
	}
	return height
}

// composeRoots are the roots of the block's subtrees, the coinbase in the place of its placeholder.
func composeRoots(t *testing.T, transactions []record, leaves int) (roots []hash, last uint64) {
	t.Helper()
	for first := 0; first < len(transactions); first += leaves {
		st, err := subtree.NewTreeByLeafCount[hash, node](leaves)
		if err != nil {
			t.Fatal(err)
		}
		for i := first; i < min(first+leaves, len(transactions)); i++ {
			if i == 0 {
				err = st.AddCoinbaseNode()
			} else {
				err = st.AddNode(transactions[i].id, 0, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		root := st.RootHash()
		if first == 0 {
			root, err = st.RootHashWithReplaceRootNode(&transactions[0].id, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
		}
		roots = append(roots, *root)
		last = uint64(st.Length())
	}
	return roots, last
}

// TestMetaFilesAreRewrittenByteForByte reads every real subtreeMeta file and writes it again from
// decoded inpoints.
func TestMetaFilesAreRewrittenByteForByte(t *testing.T) {
	files, err := filepath.Glob(dataPath("derived", "*.subtreeMeta"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		input, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := subtree.NewMetaReader[hash](bytes.NewReader(input))
		if err != nil {
			t.Fatal(err)
		}
		var output bytes.Buffer
		writer, err := subtree.NewMetaWriter(&output, reader.Root, reader.Count)
		if err != nil {
			t.Fatal(err)
		}
		for {
			entry, err := reader.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			v, err := txmap.TxInpointsCodec[hash]{}.DecodeValue(entry)
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := txmap.TxInpointsCodec[hash]{}.AppendValue(nil, v)
			if err != nil {
				t.Fatal(err)
			}
			if err := writer.Append(encoded); err != nil {
				t.Fatal(err)
			}
		}
		if err := writer.Close(); err != nil || !bytes.Equal(output.Bytes(), input) {
			t.Errorf("%s is written differently: %v", filepath.Base(file), err)
		}
		if reader.Count < 1 || strings.Contains(file, "c64") && reader.Count > 64 {
			t.Errorf("%s: %d nodes", file, reader.Count)
		}
	}
}

func TestMetaErrors(t *testing.T) {
	good := append(make([]byte, 32), 1, 0, 0, 0, 1, 0, 0, 0)
	good = append(good, make([]byte, 32)...)
	good = append(good, 1, 0, 0, 0, 5, 0, 0, 0)
	read := func(b []byte) error {
		reader, err := subtree.NewMetaReader[hash](bytes.NewReader(b))
		for err == nil {
			_, err = reader.Next()
		}
		return err
	}
	if err := read(good); err != io.EOF {
		t.Fatal(err)
	}
	for cut := range len(good) {
		if err := read(good[:cut]); !errors.Is(err, blocktier.ErrFormat) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	checkKind(t, "trailing", read(append(good[:len(good):len(good)], 0)), "TrailingBytes")
	huge := append(make([]byte, 32), 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)
	checkKind(t, "huge", read(huge), "CountTooLarge")

	writer, err := subtree.NewMetaWriter(io.Discard, hash{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Errorf("a node is missing: %v", err)
	}
	if err := writer.Append([]byte{1, 0, 0, 0}); !errors.Is(err, blocktier.ErrFormat) {
		t.Errorf("no inpoints: %v", err)
	}
	if err := errors.Join(writer.Append([]byte{0, 0, 0, 0}), writer.Close()); err != nil {
		t.Error(err)
	}
	if err := writer.Append([]byte{0, 0, 0, 0}); !errors.Is(err, blocktier.ErrInvalidArgument) {
		t.Errorf("one node too many: %v", err)
	}
}

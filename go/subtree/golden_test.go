package subtree_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/subtree"
)

type expectedProof struct {
	Index    int
	Leaf     string
	Siblings []string
}

type expectedSubtree struct {
	Kind               string
	N                  int
	Root               string
	FeesStored         json.Number       `json:"fees_stored"`
	FeesSum            json.Number       `json:"fees_sum"`
	SizeSum            json.Number       `json:"size_sum"`
	NConflicting       int               `json:"n_conflicting"`
	ConflictingInNodes int               `json:"conflicting_in_nodes"`
	HashesSHA256       string            `json:"hashes_sha256"`
	NodesSHA256        string            `json:"nodes_sha256"`
	RootPadded         map[string]string `json:"root_padded"`
	Height             int
	Proofs             []expectedProof
	Duplicates         int
}

func (e *expectedSubtree) format() subtree.Format {
	switch e.Kind {
	case "S":
		return subtree.Plain
	case "S+magic":
		return subtree.WithMagic
	}
	return subtree.HashList
}

func sum(b []byte) string {
	digest := sha256.Sum256(b)
	return hex.EncodeToString(digest[:])
}

func (p place) read(t *testing.T, r io.Reader, options ...subtree.ReadOption) (*tree, error) {
	if p.rt == nil {
		return subtree.NewSubtreeFromReader[hash, node](r, options...)
	}
	return subtree.NewSubtreeFromReaderMmap[hash, node](p.rt, r, p.dir, options...)
}

// TestGoldenSubtrees reads every real subtree and compares with values that were computed
// elsewhere.
func TestGoldenSubtrees(t *testing.T) {
	var expected map[string]expectedSubtree
	readJSON(t, &expected, "expected", "subtrees.json")
	if len(expected) < 50 {
		t.Fatalf("only %d subtrees", len(expected))
	}
	for _, p := range places(t) {
		for file, want := range expected {
			input, err := os.ReadFile(dataPath(strings.Split(file, "/")...))
			if err != nil {
				t.Fatal(err)
			}
			// A reader of unknown length makes the array grow.
			st, err := p.read(t, iotest.OneByteReader(bytes.NewReader(input)),
				subtree.WithFormat(want.format()))
			if err != nil {
				t.Fatalf("%s %s: %v", p.name, file, err)
			}
			checkGolden(t, p.name+" "+file, st, &want)
			checkBytes(t, p.name+" "+file, st, &want, input)
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func checkGolden(t *testing.T, name string, st *tree, want *expectedSubtree) {
	t.Helper()
	if st.Length() != want.N || st.Height != want.Height || display(*st.RootHash()) != want.Root {
		t.Errorf("%s: %d nodes, height %d, root %s; want %d, %d, %s", name, st.Length(), st.Height,
			display(*st.RootHash()), want.N, want.Height, want.Root)
	}
	if len(st.ConflictingNodes) != want.NConflicting {
		t.Errorf("%s: %d conflicting", name, len(st.ConflictingNodes))
	}
	for up, root := range want.RootPadded {
		checkPadded(t, name, st, up, root)
	}
	for _, proof := range want.Proofs {
		path, err := st.GetMerkleProof(proof.Index)
		if err != nil || len(path) != len(proof.Siblings) {
			t.Fatalf("%s: proof of %d: %d siblings, %v", name, proof.Index, len(path), err)
		}
		siblings := make([]hash, len(path))
		for i := range path {
			siblings[i] = *path[i]
			if display(*path[i]) != proof.Siblings[i] {
				t.Errorf("%s: sibling %d of leaf %d", name, i, proof.Index)
			}
		}
		leaf := st.Nodes[proof.Index].Hash
		if display(leaf) != proof.Leaf || subtree.FoldProof(leaf, uint64(proof.Index),
			siblings) != *st.RootHash() {
			t.Errorf("%s: the proof of leaf %d leads elsewhere", name, proof.Index)
		}
	}
}

func checkPadded(t *testing.T, name string, st *tree, height, root string) {
	t.Helper()
	number, ok := new(big.Int).SetString(strings.TrimLeft(height, "h+"), 10)
	if !ok {
		t.Fatalf("%s: padded height %q", name, height)
	}
	padded, err := st.RootHashPadded(int(number.Int64()))
	if err != nil || display(*padded) != root {
		t.Errorf("%s: root padded to %s: %v", name, height, err)
	}
}

func checkBytes(t *testing.T, name string, st *tree, want *expectedSubtree, input []byte) {
	t.Helper()
	hashes, err := st.SerializeNodes()
	if err != nil || sum(hashes) != want.HashesSHA256 {
		t.Errorf("%s: digest of the hashes, %v", name, err)
	}
	var again bytes.Buffer
	if err := st.Write(&again, want.format()); err != nil || !bytes.Equal(again.Bytes(), input) {
		t.Errorf("%s: written bytes differ from those read, %v", name, err)
	}
	plain, err := st.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	if want.NodesSHA256 != "" && sum(plain[56:56+48*want.N]) != want.NodesSHA256 {
		t.Errorf("%s: digest of the nodes", name)
	}
	err = st.Verify(subtree.VerifyOptions[hash]{})
	honest := want.Kind == "hashes" || want.FeesStored == want.FeesSum &&
		want.ConflictingInNodes == want.NConflicting
	if honest != (err == nil) {
		t.Errorf("%s: verify: %v", name, err)
	}
}

// TestBadSubtrees reads every corrupted file, from a buffer of known length and from a stream of
// unknown length.
func TestBadSubtrees(t *testing.T) {
	var expected map[string]struct {
		Format, Expect string
		Level          int
	}
	readJSON(t, &expected, "bad", "expected.json")
	if len(expected) < 50 {
		t.Fatalf("only %d files", len(expected))
	}
	formats := map[string]subtree.Format{"S": subtree.Plain, "S+magic": subtree.WithMagic,
		"hashes": subtree.HashList}
	for _, p := range places(t) {
		for file, want := range expected {
			input, err := os.ReadFile(dataPath("bad", file))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []io.Reader{bytes.NewReader(input),
				iotest.HalfReader(bytes.NewReader(input))} {
				st, err := p.read(t, r, subtree.WithFormat(formats[want.Format]))
				if (err != nil) != (want.Level == 1) {
					t.Errorf("%s %s: reading: %v, level %d", p.name, file, err, want.Level)
				}
				if err == nil {
					err = errors.Join(st.Verify(subtree.VerifyOptions[hash]{}), st.Close())
				}
				checkKind(t, p.name+" "+file, err, want.Expect)
			}
		}
	}
}

func checkKind(t *testing.T, name string, err error, expect string) {
	t.Helper()
	if expect == "OK" {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	var failure *blocktier.Error
	if !errors.As(err, &failure) || !errors.Is(err, blocktier.ErrFormat) {
		t.Errorf("%s: %v, want %s", name, err, expect)
		return
	}
	if expect != "ANY" && failure.Kind().String() != expect {
		t.Errorf("%s: %v, want %s", name, err, expect)
	}
}

// TestReaderOfAnotherLength: a length that the reader does not have is an error in each format.
func TestReaderOfAnotherLength(t *testing.T) {
	st, err := subtree.NewTreeByLeafCount[hash, node](16)
	for i := range 10 {
		if err == nil {
			err = st.AddNode(numbered(i), uint64(i), 100)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []subtree.Format{subtree.Plain, subtree.WithMagic, subtree.HashList} {
		var buffer bytes.Buffer
		if err := st.Write(&buffer, format); err != nil {
			t.Fatal(err)
		}
		input := buffer.Bytes()
		read := func(told int64, options ...subtree.ReadOption) error {
			options = append(options, subtree.WithFormat(format), subtree.WithLength(told))
			st, err := subtree.NewSubtreeFromReader[hash, node](bytes.NewReader(input), options...)
			if err == nil && len(st.Nodes) != 10 {
				t.Errorf("format %d, told %d: %d nodes", format, told, len(st.Nodes))
			}
			return err
		}
		length := int64(len(input))
		for told := range 2 * length {
			err := read(told)
			// Other formats than lists say how long they are; a length above that bounds them less.
			right := told == length || told > length && format != subtree.HashList
			if right != (err == nil) {
				t.Errorf("format %d of %d bytes, told %d: %v", format, length, told, err)
			}
			if err != nil && !errors.Is(err, blocktier.ErrFormat) {
				t.Errorf("format %d, told %d: %v is no format error", format, told, err)
			}
		}
		input = append(input, 1, 2, 3)
		if err := read(length, subtree.AllowTrailing()); err != nil {
			t.Errorf("format %d, more follows: %v", format, err)
		}
	}
}

// TestDeserializeEveryCut: no prefix of a file is a subtree.
func TestDeserializeEveryCut(t *testing.T) {
	input, err := os.ReadFile(dataPath("bad", "good-conflicting.subtree"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places(t) {
		st := p.tree(t, 2)
		for cut := range len(input) {
			if err := st.Deserialize(input[:cut]); !errors.Is(err, blocktier.ErrFormat) {
				t.Fatalf("%s: cut at %d: %v", p.name, cut, err)
			}
			if st.Length() != 0 || st.Fees != 0 || st.ConflictingNodes != nil {
				t.Fatalf("%s: cut at %d leaves something", p.name, cut)
			}
		}
		if err := st.Deserialize(input); err != nil || st.Length() != 64 {
			t.Fatalf("%s: whole: %v", p.name, err)
		}
	}
}

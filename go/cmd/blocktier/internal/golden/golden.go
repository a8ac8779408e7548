// Package golden gives tests the real blocks and their independently computed values.
package golden

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// Dir returns the directory of the test data: $BLOCKTIER_TESTDATA, or tests/data of the repository.
func Dir(tb testing.TB) string {
	tb.Helper()
	if dir := os.Getenv("BLOCKTIER_TESTDATA"); dir != "" {
		return dir
	}
	at, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		dir := filepath.Join(at, "tests", "data")
		if _, err := os.Stat(filepath.Join(dir, "expected")); err == nil {
			return dir
		}
		if at == filepath.Dir(at) {
			tb.Fatal("no tests/data above the working directory; set BLOCKTIER_TESTDATA")
		}
		at = filepath.Dir(at)
	}
}

// Read returns a file of the test data.
func Read(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(Dir(tb), filepath.FromSlash(name)))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Load decodes a JSON file of the test data.
func Load[T any](tb testing.TB, name string) T {
	tb.Helper()
	var v T
	if err := json.Unmarshal(Read(tb, name), &v); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return v
}

// Hash decodes a hash in display order.
func Hash(tb testing.TB, text string) chainhash.Hash {
	tb.Helper()
	h, err := chainhash.NewHashFromStrStrict(text)
	if err != nil {
		tb.Fatal(err)
	}
	return *h
}

// BlockNames are the legacy blocks of which every value is known.
var BlockNames = []string{"block-277647", "block-379389", "block-384188", "block-384189"}

// Block is what is known of a legacy block.
type Block struct {
	File       string     `json:"file"`
	Hash       string     `json:"hash"`
	Height     uint64     `json:"height"`
	MerkleRoot string     `json:"merkle_root"`
	FileSize   uint64     `json:"file_size"`
	Txids      []string   `json:"txid"`
	Sizes      []uint64   `json:"size"`
	Fees       []uint64   `json:"fee"`
	Parents    []string   `json:"parents"`
	Inpoints   [][]uint32 `json:"inpoints"`
	// InpointsDigest is over the inpoints of all transactions in their stored form.
	InpointsDigest string             `json:"txinpoints_concat_sha256"`
	Compose        map[string]Compose `json:"compose"`
}

// Compose is what is known of a block in subtrees of so many leaves.
type Compose struct {
	Subtrees                 int    `json:"subtrees"`
	LastLeaves               int    `json:"last_leaves"`
	LastRootNatural          string `json:"last_root_natural"`
	LastRootPadded           string `json:"last_root_padded"`
	FirstRootWithPlaceholder string `json:"first_root_with_placeholder"`
	FirstRootWithCoinbase    string `json:"first_root_with_coinbase"`
}

// Chain is what is known of a chain file.
type Chain struct {
	File        string   `json:"file"`
	Blocks      []string `json:"block"`
	MerkleRoots []string `json:"merkle_root"`
	Counts      []uint64 `json:"n_tx"`
	Spending    []struct {
		Height uint64              `json:"h"`
		Index  uint64              `json:"i"`
		Txid   string              `json:"txid"`
		Size   uint64              `json:"size"`
		Inputs [][]json.RawMessage `json:"in"`
	} `json:"non_coinbase_txs"`
}

// NodeBlock is what is known of a block that names its subtrees.
type NodeBlock struct {
	File         string   `json:"file"`
	Hash         string   `json:"hash"`
	Height       uint64   `json:"height"`
	Txs          uint64   `json:"tx_count"`
	Size         uint64   `json:"size_in_bytes"`
	MerkleRoot   string   `json:"merkle_root"`
	CoinbaseTxid string   `json:"coinbase_txid"`
	CoinbaseSize uint64   `json:"coinbase_size"`
	Subtrees     []string `json:"subtrees"`
}

// Tx is what is known of a transaction file.
type Tx struct {
	Txid     string              `json:"txid"`
	Size     uint64              `json:"size"`
	Fee      uint64              `json:"fee"`
	FeeKnown bool                `json:"fee_known"`
	Inputs   [][]json.RawMessage `json:"in"`
}

// Package validate checks blocks and record files and says what fails and where.
//
// A [Verdict] collects the first failures with their places and counts all of them. An error is
// something else: a file that cannot be read or understood, or the end of the context.
package validate

import (
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Kind is what a failure is about.
type Kind string

// The kinds of failures.
const (
	Duplicate   Kind = "duplicate"    // a txid is there twice
	DoubleSpend Kind = "double spend" // an outpoint is spent twice
	Order       Kind = "order"        // a transaction comes before its parent
	Coinbase    Kind = "coinbase"     // the coinbase or its placeholder breaks a rule
	Root        Kind = "root"         // a subtree's root is not that of its leaves, or not listed
	BlockRoot   Kind = "block root"   // the roots do not give the header's merkle root
	Sum         Kind = "sum"          // fees or sizes do not add up
	Count       Kind = "count"        // not as many transactions, leaves or entries as stated
	Leaf        Kind = "leaf"         // a leaf that no transaction can have
	Inpoints    Kind = "inpoints"     // the inpoints do not belong to the subtree
)

// Failure is one thing that is wrong. Fields that do not apply are nil.
type Failure struct {
	Kind    Kind    `json:"kind"`
	Subtree *int    `json:"subtree,omitempty"`
	Record  *uint64 `json:"record,omitempty"` // index in the block or file, from 0
	Input   *uint32 `json:"input,omitempty"`
	// The record and input that came first.
	FirstRecord *uint64         `json:"first_record,omitempty"`
	FirstInput  *uint32         `json:"first_input,omitempty"`
	Txid        *chainhash.Hash `json:"txid,omitempty"`
	Outpoint    *wire.OutPoint  `json:"-"`
	OutpointHex string          `json:"outpoint,omitempty"`
	Detail      string          `json:"detail"`
}

// String is the failure in one line.
func (f Failure) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", f.Kind)
	if f.Subtree != nil {
		fmt.Fprintf(&b, " subtree %d:", *f.Subtree)
	}
	if f.Record != nil {
		fmt.Fprintf(&b, " record %d:", *f.Record)
	}
	if f.Input != nil {
		fmt.Fprintf(&b, " input %d:", *f.Input)
	}
	return b.String() + " " + f.Detail
}

// Verdict is the result of a check.
type Verdict struct {
	OK       bool           `json:"ok"`
	Records  uint64         `json:"records"` // transactions, the coinbase included
	Inputs   uint64         `json:"inputs"`
	Distinct uint64         `json:"distinct_spent"`
	Subtrees int            `json:"subtrees,omitempty"`
	Failed   map[Kind]int   `json:"failed,omitempty"` // all failures, by kind
	Failures []Failure      `json:"failures,omitempty"`
	Block    chainhash.Hash `json:"-"`

	limit int
}

func newVerdict(limit int) *Verdict {
	return &Verdict{OK: true, Failed: map[Kind]int{}, limit: limit}
}

func (v *Verdict) fail(f Failure) {
	v.OK = false
	v.Failed[f.Kind]++
	if len(v.Failures) < v.limit {
		if f.Outpoint != nil {
			f.OutpointHex = f.Outpoint.String()
		}
		v.Failures = append(v.Failures, f)
	}
}

// full tells whether details of further failures would be dropped.
func (v *Verdict) full() bool { return len(v.Failures) >= v.limit }

func (v *Verdict) duplicate(record, first uint64, id chainhash.Hash) {
	v.fail(Failure{Kind: Duplicate, Record: &record, FirstRecord: &first, Txid: &id,
		Detail: fmt.Sprintf("transaction %v is already record %d", id, first)})
}

func (v *Verdict) doubleSpend(record uint64, input uint32, o wire.OutPoint, first *spend) {
	v.fail(Failure{Kind: DoubleSpend, Record: &record, Input: &input, Outpoint: &o,
		FirstRecord: new(first.record), FirstInput: new(first.input),
		Detail: fmt.Sprintf("outpoint %v is already spent by record %d, input %d", o,
			first.record, first.input)})
}

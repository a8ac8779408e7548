package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/assemble"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/validate"
)

// Refusal is a tampered block and what was said about it.
type Refusal struct {
	What    string `json:"what"`
	Refused bool   `json:"refused"` // for the expected reason
	Said    string `json:"said"`
}

// Refuse tampers with real blocks and shows what is said about them.
func Refuse(ctx context.Context, place Place, to io.Writer) ([]Refusal, error) {
	var all []Refusal
	for _, attempt := range []func(context.Context, *Place) (Refusal, error){
		flippedTransaction, repeatedLast, flippedSubtree, doubleSpend,
	} {
		r, err := attempt(ctx, &place)
		if err != nil {
			return nil, err
		}
		verdict := "refused"
		if !r.Refused {
			verdict = "NOT REFUSED"
		}
		fmt.Fprintf(to, "  %s\n    %s: %s\n", r.What, verdict, r.Said)
		all = append(all, r)
	}
	return all, nil
}

// attempt assembles a block with a map of its own; out may be empty.
func attempt(ctx context.Context, place *Place, raw []byte, out string) (result *assemble.Result,
	refusal, failed error) {
	e, err := place.open("refused")
	if err != nil {
		return nil, nil, err
	}
	defer func() { failed = errors.Join(failed, e.Close()) }()
	o := assemble.Options{Map: e.Map, Trees: e.Trees, Leaves: leaves}
	if out != "" {
		stage, err := output.NewStage(out)
		if err != nil {
			return nil, nil, err
		}
		defer func() { failed = errors.Join(failed, stage.Close()) }()
		o.Out = stage
	}
	a, err := assemble.New(o)
	if err != nil {
		return nil, nil, err
	}
	b, err := legacy.NewBlockReader(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, err
	}
	result, refusal = a.Assemble(ctx, assemble.FromLegacy(b))
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	return result, refusal, nil
}

func refusalOf(what string, got, want error) Refusal {
	r := Refusal{What: what, Refused: errors.Is(got, want), Said: "nothing"}
	if got != nil {
		r.Said = got.Error()
	}
	return r
}

// flippedTransaction changes one bit of the last transaction's lock time.
func flippedTransaction(ctx context.Context, place *Place) (Refusal, error) {
	const name = "block-384189.bin"
	raw, err := os.ReadFile(filepath.Join(place.Data, "blocks", name))
	if err != nil {
		return Refusal{}, err
	}
	raw[len(raw)-1] ^= 1
	_, refusal, err := attempt(ctx, place, raw, "")
	return refusalOf(fmt.Sprintf("%s with one bit changed in byte %d, in the last transaction",
		name, len(raw)-1), refusal, assemble.ErrRoot), err
}

// repeatedLast repeats the last of an odd number of transactions, which leaves the merkle root as
// it is: an odd node is paired with itself.
func repeatedLast(ctx context.Context, place *Place) (Refusal, error) {
	const name = "block-379389.bin"
	raw, err := os.ReadFile(filepath.Join(place.Data, "blocks", name))
	if err != nil {
		return Refusal{}, err
	}
	b, err := legacy.NewBlockReader(bytes.NewReader(raw))
	if err != nil {
		return Refusal{}, err
	}
	var tx legacy.Tx
	for range b.Count {
		if err := b.Next(&tx); err != nil {
			return Refusal{}, err
		}
	}
	raw = append(raw, raw[len(raw)-int(tx.Size):]...)
	// The count has three bytes from 253 to 65,535.
	binary.LittleEndian.PutUint16(raw[legacy.HeaderSize+1:], uint16(b.Count+1))
	_, refusal, err := attempt(ctx, place, raw, "")
	return refusalOf(name+
		" with its last transaction twice, whose merkle root is still the header's", refusal,
		assemble.ErrDuplicate), err
}

// flippedSubtree changes one bit of a txid in a subtree's file.
func flippedSubtree(ctx context.Context, place *Place) (Refusal, error) {
	const name, subtree, leaf = "block-384188.bin", 3, 7
	const nodesAt, nodeSize = 64, 48
	raw, err := os.ReadFile(filepath.Join(place.Data, "blocks", name))
	if err != nil {
		return Refusal{}, err
	}
	out := filepath.Join(place.Scratch, "tampered")
	result, refusal, err := attempt(ctx, place, raw, out)
	if err = errors.Join(err, refusal); err != nil {
		return Refusal{}, err
	}
	path := filepath.Join(out, result.Subtrees[subtree].Root.String()+".subtree")
	file, err := os.ReadFile(path)
	if err != nil {
		return Refusal{}, err
	}
	file[nodesAt+leaf*nodeSize] ^= 1
	if err := os.WriteFile(path, file, 0o644); err != nil {
		return Refusal{}, err
	}
	block, err := os.ReadFile(filepath.Join(out, result.Hash.String()+".block"))
	if err != nil {
		return Refusal{}, err
	}
	n, err := legacy.ReadNodeBlock(bytes.NewReader(block))
	if err != nil {
		return Refusal{}, err
	}
	r := Refusal{What: fmt.Sprintf("%s with one bit changed in leaf %d of the file of subtree %d",
		name, leaf, subtree)}
	e, err := place.open("validated")
	if err != nil {
		return r, err
	}
	v, err := validate.CheckBlock(ctx, validate.InDirectory(n, out),
		validate.BlockOptions{Trees: e.Trees, Limit: 8})
	if err = errors.Join(err, e.Close()); err != nil {
		return r, err
	}
	r.said(v, validate.Root, func(f validate.Failure) bool { return *f.Subtree == subtree })
	return r, nil
}

// doubleSpend checks records of a real block to which one was added that spends a spent outpoint.
func doubleSpend(ctx context.Context, place *Place) (Refusal, error) {
	const name, record, input, first = "respend-one.rec", 213, 1, 50
	f, err := os.Open(filepath.Join(place.Data, "doublespend", name))
	if err != nil {
		return Refusal{}, err
	}
	defer f.Close() // only read from
	r := Refusal{
		What: "the records of block-277647 and one more, whose second input is spent already"}
	v, err := validate.Records(ctx, f, 8, nil)
	if err != nil {
		return r, err
	}
	r.said(v, validate.DoubleSpend, func(f validate.Failure) bool {
		return *f.Record == record && *f.Input == input && *f.FirstRecord == first
	})
	return r, nil
}

// said notes the first failure of a kind at the expected place.
func (r *Refusal) said(v *validate.Verdict, kind validate.Kind, at func(validate.Failure) bool) {
	i := slices.IndexFunc(v.Failures, func(f validate.Failure) bool {
		return f.Kind == kind && at(f)
	})
	if r.Refused = i >= 0; r.Refused {
		r.Said = v.Failures[i].String()
	} else {
		r.Said = fmt.Sprintf("%v", v.Failures)
	}
}

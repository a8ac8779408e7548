package validate

import (
	"context"
	"io"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/record"
)

// checkEvery is how many records pass between two looks at the context.
const checkEvery = 1 << 14

// Records checks the records of r in order: a txid that was seen before is a duplicate, and its
// inputs are skipped; of other records each input whose outpoint is already spent is a double
// spend. Nothing else is looked at. limit is how many failures are collected; progress, if not nil,
// is called now and then with the number of bytes read.
func Records(ctx context.Context, r io.Reader, limit int, progress func(bytes int64)) (*Verdict,
	error) {
	const chunk = 1 << 14
	var ids []*[chunk]chainhash.Hash
	v := newVerdict(limit)
	known := newIDTable(0, func(i uint64) *chainhash.Hash { return &ids[i/chunk][i%chunk] })
	spends := newSpendTable(0)
	reader := record.NewReader(r)
	var rec record.Record
	for i := uint64(0); ; i++ {
		if i%checkEvery == 0 {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			if progress != nil {
				progress(reader.Offset())
			}
		}
		err := reader.Next(&rec)
		if err == io.EOF {
			v.Records, v.Distinct = i, spends.length
			return v, nil
		}
		if err != nil {
			return nil, err
		}
		if i%chunk == 0 {
			ids = append(ids, new([chunk]chainhash.Hash))
		}
		ids[i/chunk][i%chunk] = rec.Txid
		v.Inputs += uint64(len(rec.Inputs))
		if first, duplicate := known.insert(i); duplicate {
			v.duplicate(i, first, rec.Txid)
			continue
		}
		for k := range rec.Inputs {
			o := &rec.Inputs[k]
			if first, inserted := spends.insert(o, i, uint32(k)); !inserted {
				v.doubleSpend(i, uint32(k), *o, first)
			}
		}
	}
}

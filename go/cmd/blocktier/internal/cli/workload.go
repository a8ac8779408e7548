package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/output"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/progress"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/workload"
)

func workloadCommand() *cobra.Command {
	o := workload.Defaults()
	var prefix string
	c := &cobra.Command{
		Use:   "workload --out PREFIX",
		Short: "Generate synthetic transaction records with their ground truth",
		Long: `Workload writes PREFIX.rec, PREFIX.dup, PREFIX.conf and PREFIX.json: records, those
that repeat an earlier one, inputs that spend a spent outpoint, and counts. The same options give
the same bytes on every machine.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return writeWorkload(c, o, prefix) },
	}
	flags := c.Flags()
	flags.StringVar(&prefix, "out", "", "prefix of the files")
	flags.Uint64Var(&o.Txs, "txs", o.Txs, "records, coinbases and duplicates included")
	flags.Int64Var(&o.Seed, "seed", o.Seed, "seed of all randomness")
	flags.Uint64Var(&o.BlockTxs, "block-txs", o.BlockTxs, "records per block")
	flags.Uint64Var(&o.Heavy, "heavy", o.Heavy, "outputs of the heavy parent; 0: none")
	flags.Uint64Var(&o.HeavyBlock, "heavy-block", o.HeavyBlock, "block that spends all of them")
	flags.Uint64Var(&o.ChainEvery, "chain-every", o.ChainEvery, "a chain starts so often")
	flags.Uint64Var(&o.ChainLen, "chain-len", o.ChainLen, "links per chain; 0: no chains")
	flags.Float64Var(&o.DupTx, "dup-tx", o.DupTx, "share of repeated records")
	flags.Float64Var(&o.DupSpend, "dup-spend", o.DupSpend, "share of double spends")
	flags.Float64Var(&o.DupInput, "dup-input", o.DupInput,
		"share of records with an outpoint twice")
	flags.Uint64Var(&o.MaxInputs, "max-inputs", o.MaxInputs, "most inputs of a record")
	if err := c.MarkFlagRequired("out"); err != nil {
		panic(err) // the flag was defined above
	}
	return c
}

func writeWorkload(c *cobra.Command, o workload.Options, prefix string) (err error) {
	stage, err := output.NewStage(filepath.Dir(prefix))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	bar := progress.New("generating", "records", o.Txs)
	defer bar.Done()
	started := time.Now()
	create := func(suffix string) (io.WriteCloser, error) {
		return stage.Create(filepath.Base(prefix) + suffix)
	}
	s, err := workload.WriteFiles(c.Context(), o, create, bar.Set)
	if err != nil {
		return err
	}
	if err := stage.Commit(); err != nil {
		return err
	}
	if wantsJSON(c) {
		return printJSON(c.OutOrStdout(), s)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%d records, %d inputs, %d bytes, %d duplicates, "+
		"%d conflicts, %.1f s\n", s.Records, s.Inputs, s.Bytes, s.DuplicateRecords, s.Conflicts,
		time.Since(started).Seconds())
	return err
}

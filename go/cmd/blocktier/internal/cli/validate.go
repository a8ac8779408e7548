package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/legacy"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/progress"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/validate"
)

type validateFlags struct {
	engine    engineFlags
	directory string
	limit     int
}

func validateCommand() *cobra.Command {
	f := new(validateFlags)
	c := &cobra.Command{
		Use:   "validate BLOCK|RECORDS [SUBTREE...]",
		Short: "Check a block's subtrees and inpoints, or a file of records",
		Long: `Validate reads a node block (.block) and checks its subtrees: their roots, sums,
leaves, duplicates, the coinbase, the block's merkle root, double spends, and that parents come
first. The subtrees are ROOT.subtree with their inpoints in ROOT.subtreeMeta, in the block's
directory or that of --dir, or the files given in order. A file of records (.rec) is checked for
duplicates and double spends. The exit code is 1 if something fails; what fails and where is
printed.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, arguments []string) error {
			return f.run(c, arguments[0], arguments[1:])
		},
	}
	f.engine.register(c)
	c.Flags().StringVar(&f.directory, "dir", "", "directory of the subtrees")
	c.Flags().IntVar(&f.limit, "failures", 20, "how many failures are printed; all are counted")
	return c
}

func (f *validateFlags) run(c *cobra.Command, path string, subtrees []string) error {
	var v *validate.Verdict
	var err error
	if filepath.Ext(path) == ".rec" {
		v, err = f.records(c, path)
	} else {
		v, err = f.block(c, path, subtrees)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if wantsJSON(c) {
		err = printJSON(c.OutOrStdout(), v)
	} else {
		printVerdict(c, v)
	}
	if err == nil && !v.OK {
		err = ErrRefused
	}
	return err
}

func (f *validateFlags) records(c *cobra.Command, path string) (*validate.Verdict, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read from
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	bar := progress.New("checking", "bytes", uint64(info.Size()))
	defer bar.Done()
	return validate.Records(c.Context(), file, f.limit, func(n int64) { bar.Set(uint64(n)) })
}

func (f *validateFlags) block(c *cobra.Command, path string, subtrees []string) (
	v *validate.Verdict, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read from
	n, err := legacy.ReadNodeBlock(file)
	if err != nil {
		return nil, err
	}
	e, err := f.engine.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	directory := f.directory
	if directory == "" {
		directory = filepath.Dir(path)
	}
	b := validate.InDirectory(n, directory)
	if len(subtrees) != 0 {
		if len(subtrees) != len(n.Subtrees) {
			return nil, fmt.Errorf("%d subtree files for %d subtrees", len(subtrees),
				len(n.Subtrees))
		}
		b = validate.OfFiles(n, subtrees)
	}
	bar := progress.New("validating", "transactions", n.Txs)
	defer bar.Done()
	return validate.CheckBlock(c.Context(), b, validate.BlockOptions{Trees: e.Trees, Limit: f.limit,
		Progress: bar.Set})
}

func printVerdict(c *cobra.Command, v *validate.Verdict) {
	to := c.OutOrStdout()
	for _, failure := range v.Failures {
		fmt.Fprintln(to, failure)
	}
	total := 0
	for _, n := range v.Failed {
		total += n
	}
	if total > len(v.Failures) {
		fmt.Fprintf(to, "and %d more\n", total-len(v.Failures))
	}
	verdict := "valid"
	if !v.OK {
		verdict = fmt.Sprintf("REFUSED: %d failures", total)
	}
	fmt.Fprintf(to, "%s: %d transactions, %d inputs, %d outpoints spent", verdict, v.Records,
		v.Inputs, v.Distinct)
	if v.Subtrees > 0 {
		fmt.Fprintf(to, ", %d subtrees", v.Subtrees)
	}
	fmt.Fprintln(to)
}

package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/progress"
	"github.com/blocktier/blocktier/go/txmap"
)

func txmapCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "txmap",
		Short: "Check and repair durable transaction maps",
	}
	c.AddCommand(txmapVerifyCommand(), txmapRepairCommand())
	return c
}

// checkFlags choose the map and how it is checked.
type checkFlags struct {
	name   string
	memory uint64
}

func (f *checkFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.name, "name", "", "the map's name, where directories hold several")
	c.Flags().Uint64Var(&f.memory, "memory", 256, "MiB for telling live records from dead ones")
}

func (f *checkFlags) options(bar *progress.Bar) txmap.CheckOptions {
	return txmap.CheckOptions{Name: f.name, MemoryBytes: f.memory << 20,
		Progress: func(done, _ uint64) { bar.Set(done) }}
}

func txmapVerifyCommand() *cobra.Command {
	f := new(checkFlags)
	c := &cobra.Command{
		Use:   "verify DIR...",
		Short: "Check every byte of a durable map that nobody has open",
		Long: `Verify reads manifests, segments and summaries of a durable map in all its directories
(those of setting txMapDirs, or the map's own in them, in any order) and reports everything that is
not as it was written: where, why, and whether it is harmless, can be repaired, or means that
something synced is lost. It changes nothing and refuses a map that a process has open. The exit
code is 1 if something is to be repaired or lost.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, dirs []string) error { return f.verify(c, dirs) },
	}
	f.register(c)
	return c
}

func (f *checkFlags) verify(c *cobra.Command, dirs []string) error {
	bar := progress.New("checking", "bytes", 0)
	report, err := txmap.Verify(c.Context(), dirs, f.options(bar))
	bar.Done()
	if report == nil {
		return err
	}
	if wantsJSON(c) {
		if failed := printJSON(c.OutOrStdout(), report); err == nil {
			err = failed
		}
	} else {
		printReport(c.OutOrStdout(), report)
	}
	if err == nil && report.Worst != txmap.Harmless {
		err = ErrRefused
	}
	return err
}

func printReport(to io.Writer, r *txmap.Report) {
	for _, finding := range r.Findings {
		fmt.Fprintf(to, "%s at %d: %s, %s: %s\n", finding.Path, finding.Offset, finding.Kind,
			finding.Meaning, finding.Text)
	}
	verdict := r.Worst.String()
	switch {
	case r.Interrupted:
		verdict = "interrupted"
	case r.Worst == txmap.Harmless:
		verdict = "sound"
	}
	t := r.Totals
	fmt.Fprintf(to, "%s: %d findings; %d keys in %d bytes, %d dead records in %d bytes, "+
		"%d records in %d segments (%d with a summary), %d directories\n", verdict, len(r.Findings),
		t.Live, t.LiveBytes, t.Dead, t.DeadBytes, t.Records, t.Segments, t.Summaries, t.Directories)
}

type repairFlags struct {
	check      checkFlags
	apply      bool
	acceptLoss bool
}

func txmapRepairCommand() *cobra.Command {
	f := new(repairFlags)
	c := &cobra.Command{
		Use:   "repair DIR...",
		Short: "Plan the repair of a durable map, and do it with --apply",
		Long: `Repair checks a durable map as verify does and prints what it would do. With --apply it
does that: damage is replaced, summaries and manifests are made again, files that do not belong are
renamed. Nothing is removed: what is replaced gets a name that ends in .aside. Every intact record
is kept. Where something acknowledged and synced is lost, the plan says what, and --apply needs
--accept-loss. A repair that was interrupted can be done again. The exit code is 1 if something is
left to do.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, dirs []string) error { return f.run(c, dirs) },
	}
	f.check.register(c)
	c.Flags().BoolVar(&f.apply, "apply", false, "do what the plan says")
	c.Flags().BoolVar(&f.acceptLoss, "accept-loss", false,
		"also where something acknowledged and synced is lost")
	return c
}

func (f *repairFlags) run(c *cobra.Command, dirs []string) error {
	bar := progress.New("checking", "bytes", 0)
	r, err := txmap.Repair(c.Context(), dirs, txmap.RepairOptions{
		CheckOptions: f.check.options(bar), Apply: f.apply, AcceptLoss: f.acceptLoss})
	bar.Done()
	if r == nil {
		return err
	}
	if wantsJSON(c) {
		if failed := printJSON(c.OutOrStdout(), r); err == nil {
			err = failed
		}
	} else {
		f.print(c.OutOrStdout(), r)
	}
	if err == nil && r.Done < len(r.Steps) {
		err = ErrRefused
	}
	return err
}

func (f *repairFlags) print(to io.Writer, r *txmap.RepairReport) {
	printReport(to, &r.Report)
	for _, loss := range r.Losses {
		fmt.Fprintf(to, "LOST: %s at %d: %s\n", loss.Path, loss.Offset, loss.Text)
	}
	for i, step := range r.Steps {
		state := "planned"
		if i < r.Done {
			state = "done"
		}
		fmt.Fprintf(to, "%s: %s %s: %s\n", state, step.Action, step.Path, step.Text)
	}
	switch {
	case len(r.Steps) == 0 && !r.Report.Interrupted:
		fmt.Fprintln(to, "there is nothing to repair")
	case r.NeedsConsent:
		fmt.Fprintln(to, "nothing was done: something is lost; --accept-loss repairs the rest")
	case !f.apply && !r.Report.Interrupted:
		fmt.Fprintln(to, "nothing was done: --apply does it")
	}
}

// Package cli has the commands of blocktier.
//
// Results go to standard output, as text or with --json as one JSON value; progress and warnings go
// to standard error. Exit codes: 0 all is well, 1 the block was refused or a map is to be repaired,
// 2 the work could not be done, 130 interrupted.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/blocktier/blocktier/go"
	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/engine"
	"github.com/blocktier/blocktier/go/settings"
)

// ErrRefused means that the input is not valid or something is left to repair, which was printed
// already.
var ErrRefused = errors.New("refused")

// Command returns the root command.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:           "blocktier",
		Short:         "Assemble and validate blocks with their state outside the Go heap",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	c.PersistentFlags().Bool("json", false, "print the result as JSON")
	c.AddCommand(assembleCommand(), validateCommand(), workloadCommand(), demoCommand(),
		measureCommand(), txmapCommand(), versionCommand())
	return c
}

func wantsJSON(c *cobra.Command) bool {
	on, err := c.Flags().GetBool("json")
	return err == nil && on
}

// printJSON prints a value on one or more lines.
func printJSON(to io.Writer, v any) error {
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// engineFlags choose where the state lies.
type engineFlags struct {
	heap       bool
	mapDirs    []string
	subtreeDir string
	tail       string
	file       string
	pairs      []string
}

func (f *engineFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.BoolVar(&f.heap, "heap", false, "keep everything on the Go heap")
	flags.StringSliceVar(&f.mapDirs, "txmap-dir", nil,
		"directory of the transaction map; give it once per disk")
	flags.StringVar(&f.subtreeDir, "subtree-dir", "", "directory of mapped subtrees")
	flags.StringVar(&f.tail, "tail", "", "RAM for recent records of the map, such as 512M")
	flags.StringVar(&f.file, "settings", "", "file of key = value lines")
	flags.StringArrayVar(&f.pairs, "set", nil, "one setting as key=value; can be repeated")
}

// settings are those of the environment or the file, changed by the flags.
func (f *engineFlags) settings() (settings.Settings, error) {
	if f.heap {
		if len(f.mapDirs) != 0 || f.subtreeDir != "" {
			return settings.Settings{}, errors.New("--heap goes without directories")
		}
		return settings.Settings{}, nil
	}
	s, err := settings.FromEnviron()
	if f.file != "" {
		s, err = settings.FromFile(f.file)
	}
	if err != nil {
		return s, err
	}
	for _, pair := range f.pairs {
		key, value, err := splitPair(pair)
		if err != nil {
			return s, err
		}
		if err := s.Set(key, value); err != nil {
			return s, err
		}
	}
	if len(f.mapDirs) != 0 {
		s.BlockAssemblyTxMapDirs = f.mapDirs
	}
	if f.subtreeDir != "" {
		s.BlockAssemblySubtreeMmapDir = f.subtreeDir
	}
	if f.tail != "" {
		s.TxMapTail = f.tail
	}
	return s, s.Validate()
}

func splitPair(pair string) (key, value string, err error) {
	for i := range len(pair) {
		if pair[i] == '=' {
			return pair[:i], pair[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("--set %q is not of the form key=value", pair)
}

// open opens the engine that the flags ask for.
func (f *engineFlags) open() (*engine.Engine, error) {
	s, err := f.settings()
	if err != nil {
		return nil, err
	}
	return engine.Open(s, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := struct {
				Library string `json:"library"`
				BuildID string `json:"build_id"`
				Go      string `json:"go"`
				System  string `json:"system"`
			}{blocktier.Version(), blocktier.BuildID(), runtime.Version(),
				runtime.GOOS + "/" + runtime.GOARCH}
			if wantsJSON(c) {
				return printJSON(c.OutOrStdout(), v)
			}
			if v.Library == "" {
				v.Library = "none in this build: only the Go heap"
			}
			_, err := fmt.Fprintf(c.OutOrStdout(),
				"library %s\nbuild   %s\ngo      %s\nsystem  %s\n", v.Library, v.BuildID, v.Go,
				v.System)
			return err
		},
	}
}

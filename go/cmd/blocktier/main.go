// Command blocktier assembles and validates blocks with their state outside the Go heap.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/blocktier/blocktier/go/cmd/blocktier/internal/cli"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := cli.Command().ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, cli.ErrRefused): // the verdict was printed
		return 1
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "blocktier: interrupted:", err)
		return 130
	}
	fmt.Fprintln(os.Stderr, "blocktier:", err)
	return 2
}

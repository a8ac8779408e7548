// Package progress tells a user how far long work is.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

const (
	quiet    = time.Second // work that ends sooner shows nothing
	interval = 5 * time.Second
)

// Bar shows progress: a bar on a terminal, a line now and then elsewhere. Nothing is shown during
// the first second. A nil Bar shows nothing. Not for concurrent use.
type Bar struct {
	to       io.Writer
	terminal bool
	what     string
	unit     string
	total    uint64 // 0: not known
	started  time.Time
	shown    time.Time
	bar      *progressbar.ProgressBar
}

// New makes a bar on standard error for work of total units; 0 if that is not known.
func New(what, unit string, total uint64) *Bar {
	info, err := os.Stderr.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &Bar{to: os.Stderr, terminal: terminal, what: what, unit: unit, total: total,
		started: time.Now()}
}

// Set says how much is done.
func (b *Bar) Set(done uint64) {
	if b == nil || time.Since(b.started) < quiet {
		return
	}
	if b.terminal {
		b.draw(done)
		return
	}
	if time.Since(b.shown) < interval {
		return
	}
	b.shown = time.Now()
	rate := float64(done) / time.Since(b.started).Seconds()
	if b.total == 0 {
		fmt.Fprintf(b.to, "%s: %d %s, %.0f per second\n", b.what, done, b.unit, rate)
		return
	}
	fmt.Fprintf(b.to, "%s: %d of %d %s (%d %%), %.0f per second\n", b.what, done, b.total, b.unit,
		done*100/b.total, rate)
}

func (b *Bar) draw(done uint64) {
	if b.bar == nil {
		total := int64(-1)
		if b.total > 0 {
			total = int64(b.total)
		}
		b.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(b.to), progressbar.OptionSetDescription(b.what),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString(b.unit), progressbar.OptionSetWidth(24),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(true))
	}
	_ = b.bar.Set64(int64(done)) // a bar that cannot be drawn must not stop the work
}

// Done removes the bar.
func (b *Bar) Done() {
	if b != nil && b.bar != nil {
		_ = b.bar.Clear()
	}
}

package txmap

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/blocktier/blocktier/go/internal/ffi"
)

// pollInterval is how often a check is asked how far it is.
const pollInterval = 20 * time.Millisecond

// Meaning is what a finding means for the content of a map.
type Meaning uint32

// Meanings, from the least to the gravest.
const (
	// Harmless: nothing synced is affected, and the map opens as it is.
	Harmless Meaning = 0
	// Repairable: nothing is lost; a repair mends it.
	Repairable Meaning = 1
	// Lost: something that was acknowledged and synced is lost.
	Lost Meaning = 2
)

// String is the meaning as one word.
func (m Meaning) String() string {
	switch m {
	case Harmless:
		return "harmless"
	case Repairable:
		return "repairable"
	case Lost:
		return "lost"
	}
	return fmt.Sprintf("meaning %d", uint32(m))
}

// MarshalText is String.
func (m Meaning) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *Meaning) UnmarshalText(text []byte) error {
	for _, known := range []Meaning{Harmless, Repairable, Lost} {
		if known.String() == string(text) {
			*m = known
			return nil
		}
	}
	return ffi.Errorf(ffi.InvalidArgument, "%q is no meaning of a finding", text)
}

// findingKinds are the names of the kinds by number.
var findingKinds = map[uint32]string{
	1: "manifest-missing", 2: "manifest-damaged", 3: "manifest-inconsistent",
	4: "segment-missing", 5: "segment-header", 6: "record-damaged", 7: "commit-dangling",
	8: "wrong-directory", 9: "torn-end", 10: "segment-foreign", 11: "segment-leftover",
	12: "summary-missing", 13: "summary-damaged", 14: "summary-mismatch", 15: "file-leftover",
	16: "slack", 17: "ring-pending",
}

// stepActions are the names of what steps do by number.
var stepActions = map[uint32]string{
	1: "rewrite-segment", 2: "rewrite-summary", 3: "rewrite-manifest", 4: "set-aside",
	5: "put-in-place",
}

// Finding is one thing in a map's files that is not as it was written.
type Finding struct {
	// Path is the file, Offset and Length where in it, in bytes; Length 0 is the file as a whole.
	Path   string `json:"path"`
	Offset uint64 `json:"offset"`
	Length uint64 `json:"length"`
	// Kind is one word with dashes, such as record-damaged.
	Kind    string  `json:"kind"`
	Meaning Meaning `json:"meaning"`
	// Text has the reason and the consequence.
	Text string `json:"text"`
}

// Totals are what a check counted. Bytes are those of records, without padding.
type Totals struct {
	Directories uint64 `json:"directories"`
	// Segments are part of the log; Summaries of them have a summary that agrees with them.
	Segments  uint64 `json:"segments"`
	Summaries uint64 `json:"summaries"`
	// Records are the intact ones of every kind.
	Records uint64 `json:"records"`
	// Live is the number of keys that the map has when it is opened; Dead are intact records that
	// it does not need.
	Live      uint64 `json:"live"`
	Dead      uint64 `json:"dead"`
	LiveBytes uint64 `json:"live_bytes"`
	DeadBytes uint64 `json:"dead_bytes"`
	ReadBytes uint64 `json:"read_bytes"`
}

// Report is the outcome of a check.
type Report struct {
	Findings []Finding `json:"findings"`
	Totals   Totals    `json:"totals"`
	// Worst is the gravest meaning of a finding.
	Worst Meaning `json:"worst"`
	// Interrupted tells that the context ended before the check did.
	Interrupted bool `json:"interrupted,omitempty"`
}

// Step is one step of a repair.
type Step struct {
	// Action is one word with dashes, such as rewrite-segment.
	Action string `json:"action"`
	Path   string `json:"path"`
	Text   string `json:"text"`
}

// Loss is something acknowledged and synced that no repair brings back.
type Loss struct {
	// Path is the file it was in, Offset and Length where in it, in bytes.
	Path   string `json:"path"`
	Offset uint64 `json:"offset"`
	Length uint64 `json:"length"`
	// Keys is how many keys lose their value, -1 if that is not known.
	Keys int64  `json:"keys"`
	Text string `json:"text"`
}

// RepairReport is what a repair found, what it would do or did, and what is lost.
type RepairReport struct {
	Report Report `json:"report"`
	// Steps is the plan, of which Done were done.
	Steps []Step `json:"steps"`
	Done  int    `json:"done"`
	// Losses are what the plan cannot bring back.
	Losses []Loss `json:"losses"`
	// NeedsConsent tells that nothing was done because something is lost and AcceptLoss was not set.
	NeedsConsent bool `json:"needs_consent,omitempty"`
}

// CheckOptions say how a durable map is checked; the zero value is fine.
type CheckOptions struct {
	// Name is the map's name (setting txMapName), where a directory holds several durable maps.
	Name string
	// MemoryBytes bounds the memory for telling live records from dead ones; 0 is 256 MiB.
	MemoryBytes uint64
	// Progress, if set, is called now and then with the bytes that were read and, about, all.
	Progress func(done, total uint64)
}

// RepairOptions say what a repair may do.
type RepairOptions struct {
	CheckOptions
	// Apply does what the plan says; without it nothing is changed.
	Apply bool
	// AcceptLoss does so also where something is lost.
	AcceptLoss bool
}

// Verify checks every byte that means something of a durable map that nobody has open. The
// directories are those of WithDirs, or the map's own directories in them, in any order. It only
// reads. It fails with ErrLocked, naming the owner, if somebody has the map. Damage is no error but
// a finding; nor is what a killed process has left of a process map, which the next opening takes
// in (kind ring-pending). When ctx ends, it returns what it found until then, and the cause.
func Verify(ctx context.Context, dirs []string, options CheckOptions) (*Report, error) {
	r, err := check(ctx, dirs, options, 0)
	if r == nil {
		return nil, err
	}
	return &r.Report, err
}

// Repair checks a map as Verify does and mends it as the options allow: every intact record is
// kept, what is replaced gets a name that ends in .aside. An interrupted repair can be done again.
// A process map whose process was killed has to be opened once before: ErrUnsupported, with Apply.
func Repair(ctx context.Context, dirs []string, options RepairOptions) (*RepairReport, error) {
	var flags uint32
	if options.Apply {
		flags |= ffi.CheckRepair
	}
	if options.AcceptLoss {
		flags |= ffi.CheckAcceptLoss
	}
	return check(ctx, dirs, options.CheckOptions, flags)
}

func check(ctx context.Context, dirs []string, options CheckOptions, flags uint32) (
	_ *RepairReport, err error) {
	for _, dir := range dirs {
		if strings.Contains(dir, "\n") {
			return nil, ffi.Errorf(ffi.InvalidArgument, "a line break in directory %q", dir)
		}
	}
	job, err := ffi.StartCheck(strings.Join(dirs, "\n"), options.Name, options.MemoryBytes, flags)
	if err != nil {
		return nil, err
	}
	defer func() {
		if freed := job.Free(); err == nil {
			err = freed
		}
	}()
	if err := await(ctx, job, options.Progress); err != nil {
		return nil, err
	}
	result, err := job.Result()
	if err != nil {
		return nil, err
	}
	r, err := collect(job, result)
	if err == nil && r.Report.Interrupted {
		return r, context.Cause(ctx)
	}
	return r, err
}

// await waits in Go until the job has ended, and cancels it when ctx ends.
func await(ctx context.Context, job ffi.Check, progress func(done, total uint64)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	ended := ctx.Done()
	for {
		done, total, finished, err := job.Poll()
		if err != nil {
			return err
		}
		if progress != nil {
			progress(done, total)
		}
		if finished {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ended:
			ended = nil // once is enough; it ends soon
			if err := job.Cancel(); err != nil {
				return err
			}
		}
	}
}

func collect(job ffi.Check, result ffi.CheckResult) (*RepairReport, error) {
	r := &RepairReport{
		Report: Report{
			Findings: make([]Finding, 0, result.Findings),
			Totals: Totals{
				Directories: result.Directories,
				Segments:    result.Segments,
				Summaries:   result.Summaries,
				Records:     result.Records,
				Live:        result.Live,
				Dead:        result.Dead,
				LiveBytes:   result.LiveBytes,
				DeadBytes:   result.DeadBytes,
				ReadBytes:   result.ReadBytes,
			},
			Worst:       Meaning(result.Worst),
			Interrupted: result.Flags&ffi.CheckInterrupted != 0,
		},
		Steps:        make([]Step, 0, result.Steps),
		Done:         result.StepsDone,
		Losses:       make([]Loss, 0, result.Losses),
		NeedsConsent: result.Flags&ffi.CheckNeedsConsent != 0,
	}
	for i := range result.Findings {
		item, err := job.Item(ffi.CheckFindings, i)
		if err != nil {
			return nil, err
		}
		r.Report.Findings = append(r.Report.Findings, Finding{item.Path, item.Offset, item.Length,
			name(findingKinds, item.Kind), Meaning(item.Meaning), item.Text})
	}
	for i := range result.Steps {
		item, err := job.Item(ffi.CheckSteps, i)
		if err != nil {
			return nil, err
		}
		r.Steps = append(r.Steps, Step{name(stepActions, item.Kind), item.Path, item.Text})
	}
	for i := range result.Losses {
		item, err := job.Item(ffi.CheckLosses, i)
		if err != nil {
			return nil, err
		}
		// All ones, not known, becomes -1.
		r.Losses = append(r.Losses, Loss{item.Path, item.Offset, item.Length, int64(item.Keys),
			item.Text})
	}
	return r, nil
}

func name(names map[uint32]string, number uint32) string {
	if name, ok := names[number]; ok {
		return name
	}
	return fmt.Sprintf("number-%d", number)
}

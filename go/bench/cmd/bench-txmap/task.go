package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// task is what a child process does. It goes to the child as JSON.
type task struct {
	Kind    string // a key of kinds
	Store   string // a key of stores
	Dir     string
	N       int // entries
	Threads int
	Tail    uint64
	Grown   bool // the index is not sized in advance
	// Prefault touches the tail at opening.
	Prefault bool
	Ops      []phase
	Count    int // keys that each phase touches; 0: as many as fit
	Reps     int
	Indexed  bool // every entry has a subtree index
	Segment  uint64
	// Process keeps what was acknowledged when the process is killed, and Killed kills it.
	Process, Killed bool
	Profile         string
	Group           string // the control group to be in
}

// phase is one operation measured after the fill.
type phase struct {
	Op   string
	Keys string // "recent", "absent" or "cold"
	Hits bool   // whether every key must answer yes; else every one must answer no
}

// outcome is what a child found, as JSON on its stdout.
type outcome struct {
	Figures map[string]float64
	RSS     uint64 // peak, in bytes
	// Cached is by how much the system's page cache grew, in bytes.
	Cached int64
	// others is the share of the machine's CPU time that was not the child's and not idle.
	others float64
}

var kinds = map[string]func(*task, *outcome) error{
	"insert":  measureInsert,
	"phases":  measurePhases,
	"move":    measureMove,
	"memory":  measureMemory,
	"false":   measureFalseMatches,
	"latency": measureLatency,
	"tick":    measureTick,

	"turnover": measureTurnover,
	"reopen":   measureReopen,
	"fill":     measureFill,
	"limited":  measureLimited,
}

// runChild is the child's main.
func runChild(text string) error {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	kind, known := kinds[t.Kind]
	if !known {
		return fmt.Errorf("no kind of task %q", t.Kind)
	}
	raiseWeight()
	stop, err := startProfile(t.Profile)
	if err != nil {
		return err
	}
	cached := pageCache()
	o := outcome{Figures: map[string]float64{}}
	if err := kind(&t, &o); err != nil {
		return fmt.Errorf("%s of %s: %w", t.Kind, t.Store, err)
	}
	o.RSS = memoryStatus("VmHWM")
	o.Cached = int64(pageCache()) - int64(cached)
	stop()
	return json.NewEncoder(os.Stdout).Encode(o)
}

// child runs t in a process of its own, in a directory of its own.
func (r *run) child(t task) (outcome, error) {
	var o outcome
	if t.Dir == "" {
		t.Dir = r.disk
	}
	dir, err := os.MkdirTemp(t.Dir, "map-")
	if err != nil {
		return o, err
	}
	defer os.RemoveAll(dir)
	t.Dir = dir
	if t.Tail == 0 {
		t.Tail = defaultTail
	}
	if t.Reps == 0 {
		t.Reps = r.config.reps
	}
	if r.config.profile != "" {
		r.children++
		name := fmt.Sprintf("%s-%03d-%s-%s-%d.pprof", r.row, r.children, t.Kind, t.Store, t.Threads)
		t.Profile = filepath.Join(r.config.profile, name)
	}
	text, err := json.Marshal(t)
	if err != nil {
		return o, err
	}
	var stdout bytes.Buffer
	command := exec.Command("/proc/self/exe", "-child", string(text))
	command.Stdout, command.Stderr = &stdout, os.Stderr
	// A session of its own is a scheduling group of its own.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	before, start := busyTime(), time.Now()
	if err := command.Run(); err != nil {
		return o, fmt.Errorf("child %s: %w", text, err)
	}
	used := command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	if err := json.Unmarshal(stdout.Bytes(), &o); err != nil {
		return o, fmt.Errorf("child %s answered %q: %w", text, stdout.String(), err)
	}
	available := time.Since(start).Seconds() * float64(r.machine.cpus)
	o.others = max(0, (busyTime()-before-used).Seconds()/available)
	return o, nil
}

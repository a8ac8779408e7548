package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// disturbedFrom is the share of CPU time for others from which a row is marked.
const disturbedFrom = 0.1

// print writes the table, in Markdown.
func (r *run) print(w io.Writer) {
	m := r.machine
	fmt.Fprintf(w, "%s: %s, %d CPUs, %.0f GiB, Linux %s, %s\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 MST"), m.cpu, m.cpus, float64(m.memory)/(1<<30),
		m.kernel, m.fileSystem)
	for _, line := range r.machineLimits() {
		fmt.Fprintln(w, line)
	}
	if r.disturbed() {
		fmt.Fprintf(w, "- **Disturbed**: other work took more than %.0f %% of the CPU time beside "+
			"rows marked *.\n", 100*disturbedFrom)
	}
	for _, note := range r.notes {
		fmt.Fprintln(w, "-", note)
	}
	fmt.Fprintln(w)
	lines := [][]string{{"id", "case", "n", "thr", "ours", "unit", "baseline", "×", "limit",
		"of limit", "peak RSS", "tail"}}
	for _, e := range r.entries {
		lines = append(lines, e.cells())
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	rule := make([]string, len(widths))
	for i, width := range widths {
		rule[i] = strings.Repeat("-", width)
	}
	for _, line := range slices.Insert(lines, 1, rule) {
		for i, cell := range line {
			fmt.Fprintf(w, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		fmt.Fprintln(w, "|")
	}
}

func (r *run) disturbed() bool {
	return slices.ContainsFunc(r.entries, func(e *entry) bool { return e.Others > disturbedFrom })
}

// machineLimits are lines on what the machine gave in this run.
func (r *run) machineLimits() []string {
	var lines []string
	if len(r.writes) > 0 {
		lines = append(lines, fmt.Sprintf("- Disk, direct sequential writes of 2 MiB with "+
			"fdatasync at the end: median of %d %.2f GB/s (%.2f to %.2f), %.1f M records/s.",
			len(r.writes), median(r.writes)/1e9, slices.Min(r.writes)/1e9, slices.Max(r.writes)/1e9,
			median(r.writes)/recordBytes/1e6))
	}
	for _, depth := range []int{1, 128} {
		key := fmt.Sprintf("random 4 KiB reads, depth %d, threads ", depth)
		if one, known := r.found[key+"1"]; known {
			lines = append(lines, fmt.Sprintf("- Disk, random direct reads of 4 KiB at depth %d: "+
				"%.1f K/s (1 thread), %.1f K/s (2 threads).", depth, one/1e3, r.found[key+"2"]/1e3))
		}
	}
	if one, known := r.found["copy_bytes_per_second_threads_1"]; known {
		found := func(name string) float64 { return r.found[name] }
		lines = append(lines, fmt.Sprintf("- Memory: copies %.1f GB/s (1 thread), %.1f GB/s (2 "+
			"threads); random cache lines of 512 MiB %.0f M/s, %.0f M/s.", one/1e9,
			found("copy_bytes_per_second_threads_2")/1e9,
			found("random_lines_per_second_threads_1")/1e6,
			found("random_lines_per_second_threads_2")/1e6))
	}
	return lines
}

func (e *entry) cells() []string {
	id := e.ID
	if e.Others > disturbedFrom {
		id += "*"
	}
	cells := []string{id, e.Case, count(e.N), fmt.Sprint(e.Threads), figure(e.Measured), e.Unit,
		"", "", "", "", fmt.Sprintf("%d MiB", e.RSS>>20), fmt.Sprintf("%d MiB", e.Tail>>20)}
	if e.Baseline != nil {
		cells[6] = figure(*e.Baseline) + " " + e.BaselineName
		cells[7] = ratio(e.Measured, *e.Baseline)
	}
	if e.Limit != nil {
		cells[8] = figure(*e.Limit) + " " + e.LimitName
		cells[9] = ratio(e.Measured, *e.Limit)
	}
	return cells
}

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return figure(a / b)
}

// figure has three digits that count.
func figure(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	case f >= 0.1:
		return fmt.Sprintf("%.2f", f)
	}
	return fmt.Sprintf("%.3g", f)
}

func count(n int) string {
	switch {
	case n >= 1_000_000 && n%100_000 == 0:
		return fmt.Sprintf("%gM", float64(n)/1e6)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%dK", n/1000)
	}
	return fmt.Sprint(n)
}

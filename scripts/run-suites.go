// Command run-suites runs the project's test suites one after the other and sums them up: a table
// with counts and times, every test that failed with its output, and every test or part of one that
// was skipped with its reason. It fails if any test failed, any suite could not be built, or a suite
// ran no test at all.
//
//	go run scripts/run-suites.go                 all suites
//	go run scripts/run-suites.go rust go-race    those alone
//	go run scripts/run-suites.go -list           their names and commands
//
// The summary also goes to target/test-summary.txt. It needs nothing but the standard library and is
// run from the repository's root; make test does it, after building the library that Go links.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// suite is one command and the way to read its output.
type suite struct {
	name string
	dir  string
	env  []string
	args []string
	read func(*result, io.Reader)
}

// result is what one suite said.
type result struct {
	passed, failed, skipped int
	failures                []string // name and output
	skips                   []string // name and reason
	seconds                 float64
	err                     error
}

const tests, race, count = "./...", "-race", "-count=1"

// allSuites lists every suite. Go modules are found, so that a new one cannot be forgotten.
func allSuites() ([]suite, error) {
	goTest := func(name, dir string, env []string, flags ...string) suite {
		args := append([]string{"go", "test", "-json", count}, flags...)
		return suite{name, dir, env, append(args, tests), readGo}
	}
	suites := []suite{
		{"rust", ".", nil, []string{"cargo", "test", "--no-fail-fast", "--", "--show-output"}, readRust},
		goTest("go-race", "go", nil, race),
		goTest("go-cgocheck2", "go", []string{"GOEXPERIMENT=cgocheck2"}),
		goTest("go-heap-only", "go", []string{"CGO_ENABLED=0"}),
	}
	modules, err := modulesBelow("go")
	if err != nil {
		return nil, err
	}
	for _, dir := range modules {
		name := "go-" + filepath.Base(dir)
		suites = append(suites, goTest(name, dir, nil, race))
		build := suite{name + "-heap-only", dir, []string{"CGO_ENABLED=0"},
			[]string{"go", "build", "-o", os.DevNull, tests}, readBuild}
		if filepath.Base(dir) == "blocktier" {
			suites = append(suites, build)
		}
	}
	return suites, nil
}

// modulesBelow finds the folders below root that have a go.mod of their own.
func modulesBelow(root string) (modules []string, err error) {
	err = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "go.mod" && filepath.Dir(path) != root {
			modules = append(modules, filepath.Dir(path))
		}
		return err
	})
	return modules, err
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "run-suites:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	suites, err := allSuites()
	if err != nil {
		return fmt.Errorf("looking for Go modules (run this from the repository's root): %w", err)
	}
	if slices.Contains(arguments, "-list") {
		for _, s := range suites {
			fmt.Printf("%-20s (in %s) %s\n", s.name, s.dir, s.command())
		}
		return nil
	}
	suites, err = choose(suites, arguments)
	if err != nil {
		return err
	}
	var results []result
	for _, s := range suites {
		fmt.Printf("== %s: %s\n", s.name, s.command())
		results = append(results, s.run())
	}
	return summarize(suites, results)
}

func choose(all []suite, names []string) (chosen []suite, err error) {
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		at := slices.IndexFunc(all, func(s suite) bool { return s.name == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no suite %q; -list names them", name)
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}

func (s suite) command() string { return strings.Join(slices.Concat(s.env, s.args), " ") }

func (s suite) run() (r result) {
	start := time.Now()
	defer func() { r.seconds = time.Since(start).Seconds() }()
	command := exec.Command(s.args[0], s.args[1:]...)
	command.Dir = s.dir
	command.Env = append(os.Environ(), s.env...)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		r.err = err
		return r
	}
	if err := command.Start(); err != nil {
		r.err = err
		return r
	}
	s.read(&r, output)
	// A reader that stopped early must not leave the child writing into a full pipe.
	_, _ = io.Copy(io.Discard, output)
	r.err = command.Wait()
	if r.err == nil && r.passed == 0 {
		r.err = fmt.Errorf("no test ran")
	}
	fmt.Printf("   %d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r
}

func (r *result) bad() bool { return r.failed > 0 || r.err != nil }

// readBuild counts a build that succeeds as one passed test; run reports one that does not.
func readBuild(r *result, output io.Reader) {
	text, _ := io.ReadAll(output)
	os.Stdout.Write(text)
	r.passed = 1
}

// event is a line of go test -json.
type event struct {
	Action, Package, Test, Output, ImportPath string
}

// readGo counts tests and their subtests once each: parents of subtests do not count again.
func readGo(r *result, output io.Reader) {
	text := map[string]*bytes.Buffer{}
	parents := map[string]bool{}
	ended := map[string]string{}
	var order []string
	for line := range lines(output) {
		var e event
		if json.Unmarshal([]byte(line), &e) != nil {
			fmt.Println(line)
			continue
		}
		key := e.Package + "." + e.Test
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "output":
			if text[key] == nil {
				text[key] = &bytes.Buffer{}
			}
			text[key].WriteString(e.Output)
		case "pass", "fail", "skip":
			ended[key] = e.Action
			order = append(order, key)
			if slash := strings.LastIndexByte(e.Test, '/'); slash >= 0 {
				parents[e.Package+"."+e.Test[:slash]] = true
			}
			if e.Test == "" {
				// The package as a whole: reported only when that is all there is to report.
				order = order[:len(order)-1]
				if e.Action == "fail" {
					r.packageFailed(e.Package, ended, text[key])
				}
			}
		}
	}
	for _, key := range order {
		output := ""
		if text[key] != nil {
			output = strings.TrimSpace(text[key].String())
		}
		switch {
		case parents[key] && (ended[key] != "fail" || failedBelow(ended, key+"/")):
		case ended[key] == "pass":
			r.passed++
		case ended[key] == "skip":
			r.skipped++
			r.skips = append(r.skips, key+": "+reason(output))
		default:
			r.failed++
			r.failures = append(r.failures, key+"\n"+output)
		}
	}
}

// packageFailed reports a package that failed without a failed test: it did not build, it crashed, or
// its TestMain found something left over.
func (r *result) packageFailed(name string, ended map[string]string, output *bytes.Buffer) {
	delete(ended, name+".")
	if failedBelow(ended, name+".") {
		return
	}
	text := "it could not be built; see above"
	if output != nil {
		text = output.String()
	}
	r.failed++
	r.failures = append(r.failures, fmt.Sprintf("%s (the package)\n%s", name, text))
}

// failedBelow tells whether a test failed whose name begins so.
func failedBelow(ended map[string]string, prefix string) bool {
	for key, action := range ended {
		if action == "fail" && strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// reason takes what a skipped Go test said out of its output.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}

var (
	rustTest    = regexp.MustCompile(`^test (.+?) \.\.\. (ok|FAILED|ignored)(?:, (.*))?$`)
	rustTotal   = regexp.MustCompile(`^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;`)
	rustSection = regexp.MustCompile(`^---- (.+) stdout ----$`)
	rustSkip    = regexp.MustCompile(`(?i)\bskipped:|only .* (?:was|is) tested|stands in for it`)
)

// readRust reads libtest's text: one line per test, then a section of output per test, which
// --show-output gives for tests that passed too. Lines in it that say that something could not be
// tested here count as a skipped part.
func readRust(r *result, output io.Reader) {
	section, inFailures, ignored := "", false, 0
	var totals [3]int
	sections := map[string]*strings.Builder{}
	var failed []string
	finish := func() {
		for _, name := range failed {
			text := ""
			if sections[name] != nil {
				text = sections[name].String()
			}
			r.failures = append(r.failures, name+"\n"+strings.TrimSpace(text))
		}
		section, inFailures, failed = "", false, nil
		clear(sections)
	}
	for line := range lines(output) {
		if found := rustSection.FindStringSubmatch(line); found != nil {
			section = found[1]
			sections[section] = &strings.Builder{}
			continue
		}
		if section == "" || strings.HasPrefix(line, "test result:") {
			if found := rustTest.FindStringSubmatch(line); found != nil {
				r.countRust(found, &failed)
				if found[2] == "ignored" {
					ignored++
				}
				continue
			}
		}
		switch {
		case strings.HasPrefix(line, "test result:"):
			for i, text := range rustTotal.FindStringSubmatch(line)[1:] {
				total, _ := strconv.Atoi(text)
				totals[i] += total
			}
			finish()
		case line == "successes:" || line == "failures:":
			section, inFailures = "", line == "failures:"
		case section != "":
			fmt.Fprintln(sections[section], line)
			if !inFailures && rustSkip.MatchString(line) {
				r.skipped++
				r.skips = append(r.skips, section+": "+strings.TrimSpace(line))
			}
		}
	}
	finish()
	if counted := [3]int{r.passed, r.failed, ignored}; counted != totals {
		r.failed++
		text := fmt.Sprintf("counted %v tests (passed, failed, ignored), their own totals are %v", counted, totals)
		r.failures = append(r.failures, "reading the output of cargo test\n"+text)
	}
}

func (r *result) countRust(found []string, failed *[]string) {
	switch name := found[1]; found[2] {
	case "ok":
		r.passed++
	case "ignored":
		r.skipped++
		said := found[3]
		if said == "" {
			said = "ignored, no reason given"
		}
		r.skips = append(r.skips, name+": "+said)
	default:
		r.failed++
		*failed = append(*failed, name)
	}
}

// lines yields the lines of a reader, however long they are.
func lines(reader io.Reader) func(func(string) bool) {
	return func(yield func(string) bool) {
		buffered := bufio.NewReaderSize(reader, 1<<20)
		for {
			line, err := buffered.ReadString('\n')
			if line = strings.TrimRight(line, "\r\n"); (line != "" || err == nil) && !yield(line) {
				return
			}
			if err != nil {
				return
			}
		}
	}
}

func summarize(suites []suite, results []result) error {
	var out strings.Builder
	var passed, failed, skipped int
	var broken []string
	for i, r := range results {
		for _, failure := range r.failures {
			fmt.Fprintf(&out, "\nFAILED in %s: %s\n", suites[i].name, failure)
		}
	}
	for i, r := range results {
		for _, skip := range r.skips {
			fmt.Fprintf(&out, "skipped in %s: %s\n", suites[i].name, skip)
		}
	}
	fmt.Fprintf(&out, "\n%-24s %8s %8s %8s %9s\n", "suite", "passed", "failed", "skipped", "seconds")
	for i, r := range results {
		note := ""
		if r.bad() {
			broken = append(broken, suites[i].name)
			note = "  FAILED"
			if r.err != nil && r.failed == 0 {
				note += ": " + r.err.Error()
				r.failed = 1
			}
		}
		fmt.Fprintf(&out, "%-24s %8d %8d %8d %9s%s\n", suites[i].name, r.passed, r.failed, r.skipped,
			strconv.FormatFloat(r.seconds, 'f', 1, 64), note)
		passed, failed, skipped = passed+r.passed, failed+r.failed, skipped+r.skipped
	}
	fmt.Fprintf(&out, "%d passed, %d failed, %d skipped in %d suites\n", passed, failed, skipped, len(suites))
	fmt.Print(out.String())
	if err := os.MkdirAll("target", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile("target/test-summary.txt", []byte(out.String()), 0o644); err != nil {
		return err
	}
	if len(broken) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(broken, ", "))
	}
	return nil
}

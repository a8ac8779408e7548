package ffi

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestMain asserts that no test of the package leaves a native object behind.
func TestMain(m *testing.M) {
	code := m.Run()
	for kind, name := range HandleKinds {
		if live := LiveHandles(kind); live != 0 {
			println("live handles at the end:", name, live)
			code = 1
		}
	}
	os.Exit(code)
}

func TestErrorUnwrapsToItsCodeAndErrno(t *testing.T) {
	err := error(&Error{Code: DiskFull, Errno: int32(syscall.ENOSPC), Text: "no space at /x"})
	if !errors.Is(err, DiskFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%v matches neither DiskFull nor ENOSPC", err)
	}
	if errors.Is(err, IO) || errors.Is(err, syscall.EIO) {
		t.Fatalf("%v matches what it is not", err)
	}
	if got, want := err.Error(), "blocktier: no space at /x"; got != want {
		t.Fatalf("text %q, want %q", got, want)
	}
	var typed *Error
	if !errors.As(err, &typed) || typed.Kind() != 0 {
		t.Fatal("errors.As, or a kind on an error that is no Format")
	}
	if kind := FormatError(DuplicateLeaf, "leaf %d", 7).Kind(); kind != DuplicateLeaf {
		t.Fatalf("kind %v", kind)
	}
}

func TestEveryStatusHasAText(t *testing.T) {
	for status := OK; status <= Format; status++ {
		if statusTexts[status] == "" {
			t.Errorf("status %d has no text", status)
		}
	}
	if got := Status(99).Error(); got != "blocktier: unknown status 99" {
		t.Errorf("unknown status: %q", got)
	}
}

func TestLibraryFitsOrSaysWhatIsMissing(t *testing.T) {
	err := Available()
	if BuildID == "" {
		if !errors.Is(err, Unsupported) {
			t.Fatalf("a build without the library is available: %v", err)
		}
		if _, err := OpenRuntime(""); !errors.Is(err, Unsupported) {
			t.Fatalf("opened without a library: %v", err)
		}
		return
	}
	if err != nil || Version() == "" {
		t.Fatalf("library %q: %v", Version(), err)
	}
}

// TestModuleBuildsWithoutTheLibrary: a node can adopt the module without changing its build.
func TestModuleBuildsWithoutTheLibrary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the module for three systems; run without -short")
	}
	for _, system := range []string{"linux", "windows", "darwin"} {
		for _, arch := range []string{"amd64", "arm64"} {
			build := exec.Command("go", "build", "github.com/blocktier/blocktier/go/...")
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch)
			if output, err := build.CombinedOutput(); err != nil {
				t.Errorf("%s/%s: %v\n%s", system, arch, err, output)
			}
		}
	}
}

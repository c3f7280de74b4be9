package harness

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// run is what one test binary shares between its tests. It is the only state
// of this package that outlives a test.
var run struct {
	mu      sync.Mutex
	skips   []string
	checks  []func() error
	scratch string
}

// Main runs the tests of a package and ends the process: it prints how long
// the suite took and every skipped point by name, removes the binaries that
// were built, and fails the run when a process, mount or loop device of the
// harness is left over.
func Main(m *testing.M) {
	start := time.Now()
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		// These tests wait for other processes most of the time.
		flag.Set("test.parallel", "8")
	}
	code := m.Run()

	run.mu.Lock()
	checks, scratch := run.checks, run.scratch
	skips := append([]string(nil), run.skips...)
	run.mu.Unlock()

	if n := launched.alive(); n > 0 {
		fmt.Printf("LEFT OVER: %d processes\n", n)
		launched.killAll()
		code = 1
	}
	for _, check := range checks {
		if err := check(); err != nil {
			fmt.Printf("LEFT OVER: %v\n", err)
			code = 1
		}
	}
	if scratch != "" {
		os.RemoveAll(scratch)
	}
	sort.Strings(skips)
	for _, s := range skips {
		fmt.Println("SKIP " + s)
	}
	name := os.Args[0]
	name = strings.TrimSuffix(name[strings.LastIndexByte(name, '/')+1:], ".test")
	fmt.Printf("suite %s: %.1f s, %d skipped, server %s, seed %d\n", name, time.Since(start).Seconds(), len(skips), Kind(), runSeed())
	os.Exit(code)
}

// AtExit registers a check that Main makes after all tests, for things that a
// killed test could leave behind, such as mounts.
func AtExit(check func() error) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.checks = append(run.checks, check)
}

// Skip ends the test as skipped and has its name and reason printed and
// counted at the end of the run, so that a point that was not tested cannot be
// taken for one that passed.
func Skip(t testing.TB, reason string) {
	t.Helper()
	run.mu.Lock()
	run.skips = append(run.skips, t.Name()+": "+reason)
	run.mu.Unlock()
	t.Skip(reason)
}

package harness

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const tmpfsMagic = 0x01021994

// root is the directory below which everything of this run is made: a real
// disk, because a tmpfs makes every sync a no-op and hides what these tests
// are for.
var root = sync.OnceValues(func() (string, error) {
	try := []string{os.TempDir(), "/var/tmp"}
	if dir := os.Getenv("GOMQ_TEST_DIR"); dir != "" {
		try = []string{dir}
	} else if wd, err := os.Getwd(); err == nil {
		try = append(try, wd)
	}
	for _, dir := range try {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err == nil && int64(st.Type) != tmpfsMagic {
			return dir, nil
		}
	}
	return "", fmt.Errorf("none of %s is on a disk; set GOMQ_TEST_DIR", strings.Join(try, ", "))
})

// Dir makes a directory on a disk for one test. It is removed when the test
// ends; after a failure with GOMQ_TEST_KEEP set it is kept and named.
func Dir(t testing.TB) string {
	t.Helper()
	base, err := root()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(base, "gomq-test-"+fileName(t.Name())+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("GOMQ_TEST_KEEP") != "" {
			t.Logf("kept: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cannot remove the test's directory: %v", err)
		}
	})
	return dir
}

func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
}

// scratch is a directory for things that live as long as the run, such as the
// binaries under test.
func scratch() (string, error) {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.scratch != "" {
		return run.scratch, nil
	}
	base, err := root()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(base, "gomq-test-run-")
	if err != nil {
		return "", err
	}
	run.scratch, err = filepath.Abs(dir)
	return run.scratch, err
}

var runSeed = sync.OnceValue(func() int64 {
	if n, err := strconv.ParseInt(os.Getenv("GOMQ_SEED"), 10, 64); err == nil {
		return n
	}
	return time.Now().UnixNano()
})

// Rand gives the test its own random numbers, made from the seed of the run
// (GOMQ_SEED) and the test's name. A failed test prints the seed to rerun it.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], uint64(runSeed()))
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	binary.LittleEndian.PutUint64(key[8:], h.Sum64())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("rerun with GOMQ_SEED=%d", runSeed())
		}
	})
	return rand.New(rand.NewChaCha8(key))
}

// Eventually calls ok every few milliseconds until it returns true. It fails
// the test when that has not happened within the limit. It is how a test waits
// for something that no event announces; the limit is for a broken product and
// may be generous.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(wait)
	}
}

// Watch looks for as long as something has to hold: it calls look every few
// milliseconds, and the test fails when that returns an error. The returned function
// ends it; so does the end of the test.
func Watch(t testing.TB, what string, look func() error) (stop func()) {
	t.Helper()
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for pace := time.NewTicker(20 * time.Millisecond); ; {
			if err := look(); err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			select {
			case <-end:
				pace.Stop()
				return
			case <-pace.C:
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(end); <-done })
	t.Cleanup(stop)
	return stop
}

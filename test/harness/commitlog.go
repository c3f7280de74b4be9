package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// SameLog waits until the commit logs of two stores hold the same bytes, file by
// file, from the first file that both have on; files that only one of them has made
// ahead must be zeros. The brokers may run, but nobody may send. It returns the
// number of bytes that were compared, without the zeros at the end.
func SameLog(t testing.TB, limit time.Duration, a, b *Server) (size int64) {
	t.Helper()
	var why string
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		if size, why = compareLogs(a.Store(), b.Store()); why == "" {
			return size
		}
		if time.Now().After(end) {
			t.Fatalf("after %v the commit logs of %s and %s differ: %s\n%s\n%s", limit, a.Name, b.Name, why, a.Log(), b.Log())
		}
	}
}

// compareLogs says in why how the commit logs of two stores differ.
func compareLogs(a, b string) (size int64, why string) {
	names := map[string]bool{}
	var first [2]string
	for i, root := range []string{a, b} {
		files, err := filepath.Glob(filepath.Join(root, "commitlog", "*"))
		if err != nil || len(files) == 0 {
			return 0, fmt.Sprintf("%s has no commit log (%v)", root, err)
		}
		for _, f := range files {
			names[filepath.Base(f)] = true
		}
		first[i] = filepath.Base(slices.Min(files))
	}
	for name := range names {
		if name < max(first[0], first[1]) {
			continue // deleted, or never sent, on the other side
		}
		x, err1 := os.ReadFile(filepath.Join(a, "commitlog", name))
		y, err2 := os.ReadFile(filepath.Join(b, "commitlog", name))
		if len(x) == 0 && os.IsNotExist(err1) {
			x = make([]byte, len(y))
		}
		if len(y) == 0 && os.IsNotExist(err2) {
			y = make([]byte, len(x))
		}
		if !bytes.Equal(x, y) {
			at := 0
			for at < min(len(x), len(y)) && x[at] == y[at] {
				at++
			}
			return 0, fmt.Sprintf("%s at %d, of %d and %d bytes", name, at, len(x), len(y))
		}
		size += int64(len(bytes.TrimRight(x, "\x00")))
	}
	return size, ""
}

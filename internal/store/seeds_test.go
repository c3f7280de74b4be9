package store

import (
	"os"
	"strconv"
	"testing"
)

// seeds yields the seeds of a random test: GOMQ_SEED alone if that is set, else
// n of them, or GOMQ_SEEDS if that is more. A test that fails says which one it
// was.
func seeds(t *testing.T, n int) func(func(uint64) bool) {
	t.Helper()
	if s := os.Getenv("GOMQ_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("GOMQ_SEED=%s: %v", s, err)
		}
		return func(yield func(uint64) bool) { yield(seed) }
	}
	if s := os.Getenv("GOMQ_SEEDS"); s != "" {
		k, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("GOMQ_SEEDS=%s: %v", s, err)
		}
		n = max(n, k)
	}
	return func(yield func(uint64) bool) {
		var seed uint64
		defer func() { // also after a Fatal
			if t.Failed() {
				t.Logf("run it again with GOMQ_SEED=%d", seed)
			}
		}()
		for ; seed < uint64(n); seed++ {
			if !yield(seed) || t.Failed() {
				return
			}
		}
	}
}

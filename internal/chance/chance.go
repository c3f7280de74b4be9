// Package chance gives random tests their seeds, and the one that failed back:
// GOMQ_SEED=n go test runs it again, GOMQ_SEEDS=n tries more of them.
package chance

import (
	"iter"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Seeds yields the seeds of a test that plays many scripts: n, the first one given,
// or GOMQ_SEEDS if that is more; GOMQ_SEED alone if that is set. It ends with the
// first that fails the test, and names it; of a test that has failed before there
// are none.
func Seeds(t testing.TB, first uint64, n int) iter.Seq[uint64] {
	t.Helper()
	if seed, ok := number(t, "GOMQ_SEED"); ok {
		first, n = seed, 1
	} else if more, ok := number(t, "GOMQ_SEEDS"); ok {
		n = max(n, int(more))
	}
	return func(yield func(uint64) bool) {
		if t.Failed() { // by something else
			return
		}
		seed := first
		defer func() { // also after a Fatal
			if t.Failed() {
				t.Logf("run it again with GOMQ_SEED=%d", seed)
			}
		}()
		for range n {
			if !yield(seed) || t.Failed() {
				return
			}
			seed++
		}
	}
}

// Seed is the seed of a test that plays one script: GOMQ_SEED if that is set, else
// any. A test that fails names it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed, ok := number(t, "GOMQ_SEED")
	if !ok {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("run it again with GOMQ_SEED=%d", seed)
		}
	})
	return seed
}

func number(t testing.TB, name string) (v uint64, ok bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return 0, false
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return v, true
}

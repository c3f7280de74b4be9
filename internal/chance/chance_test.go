package chance

import (
	"slices"
	"testing"
)

func TestGivenSeeds(t *testing.T) {
	all := func(first uint64, n int) []uint64 { return slices.Collect(Seeds(t, first, n)) }
	t.Setenv("GOMQ_SEED", "")
	t.Setenv("GOMQ_SEEDS", "")
	if got := all(7, 3); !slices.Equal(got, []uint64{7, 8, 9}) {
		t.Errorf("three from 7 are %v", got)
	}
	if a, b := Seed(t), Seed(t); a == b {
		t.Errorf("any two are both %d", a)
	}
	t.Setenv("GOMQ_SEEDS", "4")
	if got := all(0, 3); len(got) != 4 {
		t.Errorf("four instead of three are %v", got)
	}
	if got := all(0, 5); len(got) != 5 {
		t.Errorf("at least five are %v", got)
	}
	t.Setenv("GOMQ_SEED", "18446744073709551615")
	if got := all(0, 3); !slices.Equal(got, []uint64{1<<64 - 1}) || Seed(t) != got[0] {
		t.Errorf("the one asked for is %v", got)
	}
}

// A script that fails is the last.
func TestFailedSeedIsTheLast(t *testing.T) {
	t.Setenv("GOMQ_SEED", "")
	t.Setenv("GOMQ_SEEDS", "")
	var f failing
	var got []uint64
	for seed := range Seeds(&f, 0, 9) {
		got = append(got, seed)
		f.failed = seed == 2
	}
	if len(got) != 3 || f.said != uint64(2) {
		t.Errorf("after %v the seed %v is named", got, f.said)
	}
}

// failing is a test that may have failed.
type failing struct {
	testing.TB
	failed bool
	said   any
}

func (f *failing) Helper()                      {}
func (f *failing) Failed() bool                 { return f.failed }
func (f *failing) Logf(_ string, values ...any) { f.said = values[0] }

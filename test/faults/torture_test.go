//go:build faults && torture

package faults

import (
	"fmt"
	"testing"

	"gomq/test/harness"
)

// TestTortureKill goes on killing until something is found broken or somebody
// has seen enough. Every round has a store and random numbers of its own; a
// failure prints the seed of the run.
func TestTortureKill(t *testing.T) {
	harness.OnlyGomq(t)
	for round := 0; !t.Failed(); round++ {
		t.Run(fmt.Sprint("round", round), func(t *testing.T) {
			for _, flush := range []string{"SYNC_FLUSH", "ASYNC_FLUSH"} {
				t.Run(flush, func(t *testing.T) { t.Parallel(); kills(t, flush, 100) })
			}
		})
	}
}

// TestTortureLater goes on with delayed messages and transactions as
// TestTortureKill does.
func TestTortureLater(t *testing.T) {
	harness.OnlyGomq(t)
	for round := 0; !t.Failed(); round++ {
		t.Run(fmt.Sprint("round", round), func(t *testing.T) {
			for _, flush := range []string{"SYNC_FLUSH", "ASYNC_FLUSH"} {
				t.Run(flush, func(t *testing.T) { t.Parallel(); later(t, flush, 60) })
			}
		})
	}
}

// TestTortureNetwork goes on with wires that fail as TestTortureKill does.
func TestTortureNetwork(t *testing.T) {
	harness.OnlyGomq(t)
	for round := 0; !t.Failed(); round++ {
		t.Run(fmt.Sprint("round", round), func(t *testing.T) {
			for _, role := range []string{"SYNC_MASTER", "ASYNC_MASTER"} {
				t.Run(role, func(t *testing.T) { t.Parallel(); wireFaults(t, role) })
			}
		})
	}
}

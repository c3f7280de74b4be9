//go:build faults

package faults

import (
	"iter"
	"strings"
)

// linesOf yields the lines of a text without their ends.
func linesOf(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(s) {
			if !yield(strings.TrimRight(line, "\n")) {
				return
			}
		}
	}
}

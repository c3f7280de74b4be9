// Package house holds the tests about the tree as a whole: who may import whom,
// where goroutines start, what is documented, and that generated pages are
// current. docs/ARCHITECTURE.md is the prose of what they check.
package house

//go:build !failpoints

// Package failpoint names the places at which the fault tests stop the process.
// Without the build tag failpoints it is nothing at all.
package failpoint

// Enabled says whether this binary was built with the tag failpoints.
const Enabled = false

// Hit marks a place; see the build with the tag.
func Hit(name string) {}

package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// String gives the problem on one line: place, key and value, text.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		fmt.Fprintf(&b, "%s=%s: ", printable(p.Key), printable(Redact(p.Key, p.Value)))
	}
	b.WriteString(p.Text)
	return b.String()
}

// maxShown is how many bytes of a key or a value a problem shows.
const maxShown = 200

// printable is s, quoted where it holds what would tear a line of a log, and cut
// where it is too long for one.
func printable(s string) string {
	if len(s) > maxShown {
		return fmt.Sprintf("%s... (%d bytes)", printable(strings.ToValidUTF8(s[:maxShown], "")), len(s))
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}

// Refusal returns an error of all fatal problems, or nil.
func Refusal(problems []Problem) error {
	var fatal []string
	for _, p := range problems {
		if p.Level == Fatal {
			fatal = append(fatal, p.String())
		}
	}
	if fatal == nil {
		return nil
	}
	return fmt.Errorf("the configuration is refused:\n  %s", strings.Join(fatal, "\n  "))
}

// Redact hides the values of keys that look like secrets.
func Redact(key, value string) string {
	k := strings.ToLower(key)
	for _, word := range []string{"secret", "password", "token", "credential"} {
		if strings.Contains(k, word) && value != "" {
			return "******"
		}
	}
	return value
}

// nearest returns the candidate that differs least from the key, or "" when
// none is near enough to be a misspelling.
func nearest(key string, candidates []string) string {
	best, limit := "", min(max(2, len(key)/4), len(key)/2)
	low := strings.ToLower(key)
	for _, c := range candidates {
		if d := distance(low, strings.ToLower(c), limit); d <= limit && (best == "" || d < limit) {
			best, limit = c, d
		}
	}
	return best
}

// distance is the number of edits between a and b, or more than limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost = 1 + min(diag, row[j], row[j-1])
			}
			diag, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}

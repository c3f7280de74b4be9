package filter

import "testing"

func TestTags(t *testing.T) {
	const tagA, tagB, aa = 2598919, 2598920, 2112 // Java hashCode of TagA, TagB and of both Aa and BB
	for _, c := range []struct {
		expr string
		code int64
		want bool
	}{
		{"*", 1, true}, {"", 0, true}, {" * ", 7, true}, {"||", 7, true},
		{"TagA", tagA, true}, {"TagA", tagB, false}, {"TagA", 0, false},
		{"TagA || TagB", tagB, true}, {"TagA||TagB", tagA, true},
		{"Aa", aa, true}, {"BB", aa, true}, // equal codes: the client tells them apart
	} {
		if got := ParseTags(c.expr).MatchCode(c.code); got != c.want {
			t.Errorf("%q matches %d: %v", c.expr, c.code, got)
		}
	}
}

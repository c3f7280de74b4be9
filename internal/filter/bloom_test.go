package filter

import (
	"slices"
	"testing"
)

// What the filter of 4.9.7 computes.
func TestBloom(t *testing.T) {
	for _, c := range []struct {
		errors, expect int
		group, topic   string
		bits           int
		want           []int32
	}{
		{20, 32, "g-sql", "TopicSql", 112, []int32{60, 89, 16}},
		{20, 32, "g-日本", "TopicSql", 112, []int32{48, 11, 72}},
		{20, 32, "g-sql", "Other", 112, []int32{31, 49, 67}},
		{20, 32, "please_rename_unique_group_name_4", "TopicTestOfManyThings", 112, []int32{14, 107, 55}},
		{20, 64, "g-sql", "TopicSql", 216, []int32{212, 153, 96}},
		{10, 32, "g-sql", "TopicSql", 160, []int32{76, 137, 64, 149}},
		{1, 100, "g-sql", "TopicSql", 960, []int32{716, 297, 864, 149, 52, 1, 200}},
		{50, 5, "g-sql", "TopicSql", 8, []int32{4}},
		{20, 1, "g-sql", "TopicSql", 8, []int32{4, 1, 0}},
		{99, 1000, "g-sql", "TopicSql", 24, []int32{20}},
	} {
		b := NewBloom(c.errors, c.expect)
		if got := b.Positions(c.group, c.topic); b.Bits() != c.bits || !slices.Equal(got, c.want) || !b.Fits(c.bits, len(c.want)) || b.Fits(c.bits, len(c.want)+1) {
			t.Errorf("%+v: %d bits, %v", c, b.Bits(), got)
		}
	}
}

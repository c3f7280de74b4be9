package meta

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"gomq/internal/filter"
)

// javaFilters is what 4.9.7 wrote, with filters for 64 consumers at 20 % errors.
const javaFilters = `{
	"filterDataByTopic":{
		"Other":{
			"groupFilterData":{
				"g-sql":{
					"bloomFilterData":{
						"bitNum":216,
						"bitPos":[127,89,51]
					},
					"bornTime":1795656451191,
					"clientVersion":7,
					"consumerGroup":"g-sql",
					"dead":true,
					"deadTime":1795656451200,
					"expression":"a IS NULL",
					"expressionType":"SQL92",
					"topic":"Other"
				}
			},
			"topic":"Other"
		},
		"TopicSql":{
			"groupFilterData":{
				"g-sql":{
					"bloomFilterData":{
						"bitNum":216,
						"bitPos":[212,153,96]
					},
					"bornTime":1795656451119,
					"clientVersion":1700000000001,
					"consumerGroup":"g-sql",
					"dead":true,
					"deadTime":1795656451202,
					"expression":"a > 5 AND b = 'x''y'",
					"expressionType":"SQL92",
					"topic":"TopicSql"
				},
				"g-日本":{
					"bloomFilterData":{
						"bitNum":216,
						"bitPos":[112,19,32]
					},
					"bornTime":1795656451185,
					"clientVersion":1700000000002,
					"consumerGroup":"g-日本",
					"dead":false,
					"deadTime":0,
					"expression":"a IN ('日本', '\"')",
					"expressionType":"SQL92",
					"topic":"TopicSql"
				}
			},
			"topic":"TopicSql"
		}
	}
}`

// A file of the original's is read and written as it was, but that nothing in it
// lives until a client says it again; with other sizes of bits it counts for
// nothing, as in the original.
func TestFiltersOfTheOriginal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consumerFilter.json")
	if err := os.WriteFile(path, []byte(javaFilters), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1795656451185 + 60_000)
	load := func(expect int) *Filters {
		f, err := LoadFilters(path, filter.NewBloom(20, expect), func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := load(64)
	if d := f.Table()["TopicSql"]["g-日本"]; d == nil || d.DeadTime != 1795656451185+30_000 || d.Expression != `a IN ('日本', '"')` {
		t.Fatalf("%+v", d)
	}
	f.Said("g-日本", []SQLSub{{Topic: "TopicSql", Expr: `a IN ('日本', '"')`, Version: 1700000000002, Compiles: true}}, func(topic string) bool { return topic == "TopicSql" })
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != javaFilters {
		t.Errorf("written:\n%s\n%v", text, err)
	}
	if n := len(load(32).Table()); n != 0 {
		t.Errorf("%d topics with other sizes", n)
	}
}

// What heartbeats say of a filter, one after another.
func TestFiltersSaid(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	path := filepath.Join(t.TempDir(), "consumerFilter.json")
	f, err := LoadFilters(path, filter.NewBloom(20, 32), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		expr       string // of T; "" is no subscription to it
		version    int64
		bad        bool
		want       string // the expression kept; "" is none
		born, dead int64  // steps, 0 is not dead
	}{
		{"a = 'x", 1, true, "", 0, 0},
		{"a > 1", 2, false, "a > 1", 2, 0},
		{"a > 2", 2, false, "a > 1", 2, 0}, // no newer version
		{"a > 2", 1, false, "a > 1", 2, 0},
		{"a > 1", 3, false, "a > 1", 2, 0},
		{"a > 2", 4, false, "a > 2", 6, 0},
		{"", 0, false, "a > 2", 6, 7},
		{"a > 2", 3, false, "a > 2", 6, 7}, // older than what died
		{"a > 2", 4, false, "a > 2", 6, 0},
		{"a > 'x'", 5, true, "", 0, 0},
		{"a > 3", 6, false, "a > 3", 11, 0},
	} {
		now = time.UnixMilli(1_000_000 + int64(i+1))
		var subs []SQLSub
		if step.expr != "" {
			subs = []SQLSub{{Topic: "T", Expr: step.expr, Version: step.version, Compiles: !step.bad}}
		}
		f.Said("g", subs, func(string) bool { return step.expr != "" })
		d := f.Table()["T"]["g"]
		if d == nil && step.want == "" {
			continue
		}
		if d == nil || d.Expression != step.want || d.BornTime != 1_000_000+step.born || d.Dead() != (step.dead > 0) || d.Dead() && d.DeadTime != 1_000_000+step.dead {
			t.Errorf("step %d, %+v: %+v", i, step, d)
		}
	}
	f.Said("h", []SQLSub{{Topic: "T", Expr: "a", Version: 1, Compiles: true}}, func(string) bool { return true })
	f.Gone("g")
	now = now.Add(time.Hour)
	if f.Clean(2 * time.Hour); f.Table()["T"]["g"] == nil {
		t.Error("forgotten too early")
	}
	if f.Clean(time.Hour); f.Table()["T"]["g"] != nil || f.Table()["T"]["h"] == nil {
		t.Errorf("after an hour: %v", f.Table()["T"])
	}
	f.Gone("h")
	f.Clean(0)
	if err := f.Save(); err != nil || len(f.Table()) != 0 || f.count != 0 || len(f.groups) != 0 {
		t.Errorf("at the end: %v %v %d", f.Table(), err, f.count)
	}
	if text, _ := os.ReadFile(path); string(text) != "{\n\t\"filterDataByTopic\":{}\n}" {
		t.Errorf("written: %s", text)
	}
}

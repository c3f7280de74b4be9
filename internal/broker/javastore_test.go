package broker

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

var bareKey = regexp.MustCompile(`([{,]\s*)(-?\d+)(\s*:)`)

// javaTable is a table of a body or file as Java writes it, with numbers as keys.
func javaTable(t *testing.T, data []byte, name string) map[string]map[string]any {
	t.Helper()
	var all map[string]json.RawMessage
	table := map[string]map[string]any{}
	err := json.Unmarshal(bareKey.ReplaceAll(data, []byte(`$1"$2"$3`)), &all)
	if err == nil {
		err = json.Unmarshal(all[name], &table)
	}
	if err != nil || len(table) == 0 {
		t.Fatalf("%s: %v in %s", name, err, data)
	}
	return table
}

// holds fails for every entry of a Java broker that is not the same in got. Fields
// that only one of them has are left out.
func holds(t *testing.T, what string, got, want map[string]map[string]any) {
	t.Helper()
	for key, fields := range want {
		if got[key] == nil {
			t.Errorf("%s: %q is lost", what, key)
		}
		for f, v := range fields {
			if strings.HasPrefix(key, "%DLQ%") && f == "perm" {
				continue // 4.5 made them unreadable
			}
			if g, ok := got[key][f]; ok && !reflect.DeepEqual(g, v) || !ok && what == "offsets" {
				t.Errorf("%s: %s of %q is %v, was %v", what, f, key, g, v)
			}
		}
	}
}

// A broker on the directory of a Java broker has its topics, its groups with their
// settings and every offset, delivers what waits once, and leaves files that Java
// opens: of the sizes that Java knows, whatever the configuration says here, with
// tables that it reads.
func TestJavaStoreGoesOn(t *testing.T) {
	for _, name := range []string{"4.5.2-clean", "4.5.2-kill", "4.9.7-clean", "4.9.7-kill"} {
		t.Run(name, func(t *testing.T) {
			had := int64(0)
			for _, m := range goldenRecords(t, name) {
				if string(m.Topic()) == "GoldDelay" {
					had++
				}
			}
			root := unpack(t, name)
			read := func(file string) []byte {
				t.Helper()
				data, err := os.ReadFile(filepath.Join(root, "config", file))
				if err != nil {
					t.Fatal(err)
				}
				return data
			}
			topics, groups := javaTable(t, read("topics.json"), "topicConfigTable"), javaTable(t, read("subscriptionGroup.json"), "subscriptionGroupTable")
			offsets := javaTable(t, read("consumerOffset.json"), "offsetTable")
			delays, err := protocol.ParseDelayTable(read("delayOffset.json"))
			if err != nil || len(delays) < 2 {
				t.Fatalf("%v %v", delays, err)
			}
			o := rigOptions(root) // with other file sizes than the store's
			o.FileReservedTime, o.TransactionCheckInterval, o.FlushDelayOffsetInterval = 100_000*time.Hour, time.Hour, 20*time.Millisecond
			r := runOn(t, o, seams{})
			delivered := func() (n int64) {
				for q := range int32(4) {
					n += r.max("GoldDelay", q)
				}
				return n
			}
			for range 2 {
				holds(t, "topics", javaTable(t, r.must(protocol.GetAllTopicConfig, nil, nil).Body, "topicConfigTable"), topics)
				holds(t, "groups", javaTable(t, r.must(protocol.GetAllGroupConfig, nil, nil).Body, "subscriptionGroupTable"), groups)
				holds(t, "offsets", javaTable(t, r.must(protocol.GetAllConsumerOffset, nil, nil).Body, "offsetTable"), offsets)
				due := int64(0)
				for level := range int32(18) {
					due += r.max(message.TopicSchedule, level)
				}
				r.eventually("every level is delivered to its end", func() bool {
					now, err := protocol.ParseDelayTable(r.must(protocol.GetAllDelayOffset, nil, nil).Body)
					if err != nil {
						t.Fatal(err)
					}
					for level, at := range delays {
						if now[level] < at {
							t.Fatalf("level %d was at %d and is at %d", level, at, now[level])
						}
					}
					return sum(now) == due
				})
				if n := had + due - sum(delays); delivered() != n || n-had < 5 {
					t.Errorf("%d messages were delivered in all, want %d, of which %d had waited", delivered(), n, n-had)
				}
				r.create("New", 1)
				for range 100 {
					r.send("New", 0, strings.Repeat("x", 1000))
				}
				r = r.again()
			}
			r.stop()
			filesAsJavas(t, root)
			holds(t, "offsets", javaTable(t, read("consumerOffset.json"), "offsetTable"), offsets)
			holds(t, "groups", javaTable(t, read("subscriptionGroup.json"), "subscriptionGroupTable"), groups)
			if now, err := protocol.ParseDelayTable(read("delayOffset.json")); err != nil || now[17] == 0 || now[18] == 0 {
				t.Errorf("delayOffset.json: %v, %v", now, err)
			}
		})
	}
}

func sum(table protocol.DelayTable) (n int64) {
	for _, at := range table {
		n += at
	}
	return n
}

// filesAsJavas fails for every file that the Java broker of the golden stores would
// refuse for its size (golden/README.md: the sizes that it was configured with).
func filesAsJavas(t *testing.T, root string) {
	t.Helper()
	seen := map[string]int{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		kind, _, _ := strings.Cut(rel, string(filepath.Separator))
		want, ok := map[string]int64{"commitlog": 65536, "consumequeue": 1000, "index": 40 + 4*100 + 20*400, "checkpoint": 4096}[kind]
		seen[kind]++
		if info, err := d.Info(); err != nil || ok && info.Size() != want {
			t.Errorf("%s has %d bytes, want %d (%v)", rel, info.Size(), want, err)
		}
		return nil
	})
	if err != nil || seen["commitlog"] < 5 || seen["consumequeue"] < 20 || seen["index"] == 0 || seen["checkpoint"] != 1 {
		t.Errorf("%v, %v", seen, err)
	}
	if seen["abort"] > 0 {
		t.Error("abort is left: Java would think that its broker was killed")
	}
}

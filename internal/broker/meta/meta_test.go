package meta

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/internal/chance"

	"gomq/internal/protocol"
)

func limits(topics int, queues int32) TopicLimits {
	return TopicLimits{Topics: func() int { return topics }, Queues: func() int32 { return queues }}
}

func clock() func() time.Time {
	n := int64(0)
	var mu sync.Mutex
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		n++
		return time.UnixMilli(1_700_000_000_000 + n)
	}
}

func defaults() []protocol.TopicConfig {
	return TopicDefaults{Cluster: "C", Broker: "host.example", ClusterPerm: true, BrokerPerm: true, AutoCreate: true, DefaultQueues: 8}.BuiltinTopics()
}

func topics(t *testing.T, path string) *Topics {
	t.Helper()
	out, err := LoadTopics(path, defaults(), limits(100, 64), clock())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What is created is there after a restart, with the version it had; the file
// wins over the built-in topics.
func TestTopicsSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topics.json")
	a := topics(t, path)
	if c := a.Get([]byte("TBW102")); c == nil || c.WriteQueueNums != 8 || c.Perm != PermRead|PermWrite|PermInherit {
		t.Fatalf("TBW102 is %+v", c)
	}
	if err := a.Put(protocol.TopicConfig{TopicName: "TBW102", ReadQueueNums: 3, WriteQueueNums: 3, Perm: 7, TopicFilterType: "SINGLE_TAG"}); err != nil {
		t.Fatal(err)
	}
	made, err := a.Create(protocol.TopicConfig{TopicName: "T", ReadQueueNums: 4, WriteQueueNums: 5, Perm: 6, TopicFilterType: "SINGLE_TAG"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.Create(protocol.TopicConfig{TopicName: "T", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 6})
	if err != nil || again != made {
		t.Errorf("a second creation gives %+v %v", again, err)
	}
	b := topics(t, path)
	if c := b.Get([]byte("T")); c == nil || *c != *made {
		t.Errorf("after a restart T is %+v", c)
	}
	if c := b.Get([]byte("TBW102")); c.WriteQueueNums != 3 {
		t.Errorf("the built-in topic won over the file: %+v", c)
	}
	if a.Version() != b.Version() || b.Version().Counter != 2 {
		t.Errorf("version %+v, then %+v", a.Version(), b.Version())
	}
	// The broker's own topic has a dot in its name, and its file loads all the same.
	if b.Get([]byte("host.example")) == nil {
		t.Error("the broker's own topic is gone")
	}
}

func TestTopicsRefuse(t *testing.T) {
	a := topics(t, filepath.Join(t.TempDir(), "topics.json"))
	for _, c := range []protocol.TopicConfig{
		{TopicName: "../etc", ReadQueueNums: 1, WriteQueueNums: 1},
		{TopicName: "", ReadQueueNums: 1, WriteQueueNums: 1},
		{TopicName: "a/b", ReadQueueNums: 1, WriteQueueNums: 1},
		{TopicName: "nul\x00", ReadQueueNums: 1, WriteQueueNums: 1},
		{TopicName: strings.Repeat("x", 128), ReadQueueNums: 1, WriteQueueNums: 1},
		{TopicName: "many", ReadQueueNums: 1, WriteQueueNums: 65},
		{TopicName: "less", ReadQueueNums: -1, WriteQueueNums: 1},
	} {
		if err := a.Put(c); err == nil {
			t.Errorf("%q with %d and %d queues was taken", c.TopicName, c.ReadQueueNums, c.WriteQueueNums)
		}
	}
	n := a.Len()
	for i := n; i < 100; i++ {
		if err := a.Put(protocol.TopicConfig{TopicName: fmt.Sprint("T", i), ReadQueueNums: 1, WriteQueueNums: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Put(protocol.TopicConfig{TopicName: "more", ReadQueueNums: 1, WriteQueueNums: 1}); err == nil || !strings.Contains(err.Error(), "100") {
		t.Errorf("one topic more than the limit: %v", err)
	}
	if err := a.Put(protocol.TopicConfig{TopicName: "T99", ReadQueueNums: 2, WriteQueueNums: 2}); err != nil {
		t.Errorf("changing one at the limit: %v", err)
	}
}

// A name in the file that would lead out of the store refuses to start.
func TestHostileFile(t *testing.T) {
	for _, name := range []string{"../up", "a/b", "..", "."} {
		path := filepath.Join(t.TempDir(), "topics.json")
		text := fmt.Sprintf(`{"dataVersion":{"counter":1,"timestamp":1},"topicConfigTable":{%q:{"topicName":%q,"perm":6,"readQueueNums":1,"writeQueueNums":1}}}`, name, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadTopics(path, defaults(), limits(10, 10), clock()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A damaged or empty file gives way to its .bak; when both are damaged the broker
// does not start with nothing.
func TestFallBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topics.json")
	a := topics(t, path)
	for _, name := range []string{"First", "Second"} {
		if err := a.Put(protocol.TopicConfig{TopicName: name, ReadQueueNums: 1, WriteQueueNums: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"", "{\"topicConfigTable\":"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		b := topics(t, path)
		if b.Get([]byte("First")) == nil || b.Get([]byte("Second")) != nil {
			t.Errorf("with %q the table is not that of the .bak", bad)
		}
	}
	if err := os.WriteFile(path+".bak", []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadTopics(path, defaults(), limits(10, 10), clock()); err == nil || !strings.Contains(err.Error(), ".bak") {
		t.Errorf("both damaged: %v", err)
	}
}

func TestSetOrder(t *testing.T) {
	a := topics(t, filepath.Join(t.TempDir(), "topics.json"))
	if err := a.Put(protocol.TopicConfig{TopicName: "T", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 6}); err != nil {
		t.Fatal(err)
	}
	old := a.Get([]byte("T"))
	v := a.Version()
	if err := a.SetOrder(map[string]string{"T": "b:1", "elsewhere": "b:1"}); err != nil {
		t.Fatal(err)
	}
	if !a.Get([]byte("T")).Order || old.Order {
		t.Error("T is not ordered, or an entry that was handed out has changed")
	}
	if a.Version().Counter != v.Counter+1 {
		t.Error("the version did not rise")
	}
	v = a.Version()
	if err := a.SetOrder(map[string]string{"T": "b:1"}); err != nil || a.Version() != v {
		t.Error("the same again is a change")
	}
	if err := a.SetOrder(map[string]string{}); err != nil || a.Get([]byte("T")).Order {
		t.Error("T stays ordered")
	}
}

func TestGroups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subscriptionGroup.json")
	load := func() *Groups {
		g, err := LoadGroups(path, func() int { return 12 }, clock())
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	g := load()
	if c, err := g.Ensure([]byte("G"), false); c != nil || err != nil {
		t.Errorf("a group that may not be created: %v %v", c, err)
	}
	if c, err := g.Ensure([]byte("CID_RMQ_SYS_TRANS"), false); c == nil || err != nil {
		t.Errorf("a group of the broker's own: %v %v", c, err)
	}
	if c, err := g.Ensure([]byte("../x"), true); c != nil || err == nil {
		t.Errorf("a group whose retry topic would leave the store: %v %v", c, err)
	}
	c, err := g.Ensure([]byte("G"), true)
	if err != nil || *c != NewGroup("G") {
		t.Errorf("created %+v %v", c, err)
	}
	if err := g.Save(); err != nil {
		t.Fatal(err)
	}
	if load().Get([]byte("G")) == nil {
		t.Error("the group is gone after a restart")
	}
	for i := 0; g.Len() < 12; i++ {
		if _, err := g.Ensure(fmt.Append(nil, "g", i), true); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := g.Ensure([]byte("more"), true); c != nil || err == nil {
		t.Errorf("one group more than the limit: %v %v", c, err)
	}
	if err := g.Delete("G"); err != nil || g.Get([]byte("G")) != nil || load().Get([]byte("G")) != nil {
		t.Errorf("deleted: %v", err)
	}
}

// A model: a plain map. Random operations and restarts on both give the same
// table.
func TestOffsetsAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	path := filepath.Join(t.TempDir(), "consumerOffset.json")
	o, err := LoadOffsets(path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	model := protocol.OffsetTable{}
	for range 3000 {
		topic, group, q := fmt.Sprint("T", r.IntN(6)), "%RETRY%g"+fmt.Sprint(r.IntN(4)), r.Int32N(5)
		key := topic + "@" + group
		switch r.IntN(30) {
		case 0:
			o.DropGroup(group)
			maps.DeleteFunc(model, func(k string, _ map[int32]int64) bool { return strings.HasSuffix(k, "@"+group) })
		case 1:
			if err := o.Save(); err != nil {
				t.Fatal(err)
			}
			if o, err = LoadOffsets(path, time.Now); err != nil {
				t.Fatal(err)
			}
		default:
			v := r.Int64N(1 << 40)
			if err := o.Commit([]byte(topic), []byte(group), q, v); err != nil {
				t.Fatal(err)
			}
			if model[key] == nil {
				model[key] = map[int32]int64{}
			}
			model[key][q] = v
		}
		got, ok := o.Query([]byte(topic), []byte(group), q)
		want, there := model[key][q]
		if got != want || ok != there {
			t.Fatalf("%s %d: %d %v, want %d %v", key, q, got, ok, want, there)
		}
	}
	table := o.Table()
	n := 0
	for key, queues := range model {
		n += len(queues)
		if !maps.Equal(table[key], queues) {
			t.Errorf("%s: %v, want %v", key, table[key], queues)
		}
	}
	if len(table) != len(model) || o.keys != len(model) || o.count != n {
		t.Errorf("%d keys, counted %d and %d offsets; want %d and %d", len(table), o.keys, o.count, len(model), n)
	}
}

func TestOffsetsRefuse(t *testing.T) {
	o, err := LoadOffsets(filepath.Join(t.TempDir(), "consumerOffset.json"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		topic, group string
		queue        int32
	}{{"a@b", "g", 0}, {"", "g", 0}, {"T", "", 0}, {"T", "g/../x", 0}, {"T", "g", -1}} {
		if err := o.Commit([]byte(c.topic), []byte(c.group), c.queue, 1); err == nil {
			t.Errorf("%q %q %d was taken", c.topic, c.group, c.queue)
		}
	}
	if len(o.Table()) != 0 {
		t.Error("something was kept")
	}
}

// Commits go on while the table is saved, and what they change is saved next time.
func TestOffsetsSaveBesideCommits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consumerOffset.json")
	o, err := LoadOffsets(path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 500 {
				if err := o.Commit(fmt.Append(nil, "T", i%50), fmt.Append(nil, "g", g), 0, int64(i)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for range 5 {
		if err := o.Save(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if err := o.Save(); err != nil {
		t.Fatal(err)
	}
	back, err := LoadOffsets(path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for key, queues := range o.Table() {
		if !maps.Equal(back.Table()[key], queues) {
			t.Errorf("%s: %v on disk, %v in memory", key, back.Table()[key], queues)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v %v", info.Mode(), err)
	}
}

func BenchmarkCommit(b *testing.B) {
	o, err := LoadOffsets(filepath.Join(b.TempDir(), "consumerOffset.json"), time.Now)
	if err != nil {
		b.Fatal(err)
	}
	topic, group := []byte("BenchTopic"), []byte("BenchGroup")
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		n++
		if err := o.Commit(topic, group, int32(n&7), n); err != nil {
			b.Fatal(err)
		}
	}
}

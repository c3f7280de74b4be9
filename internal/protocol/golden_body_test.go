package protocol

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// body is one kind of body: read, and write again.
type bodyCodec struct {
	name string
	read func(b []byte) (any, error)
	// write nil: a *T with Append of its own
	write func(v any, dst []byte) []byte
}

func codecOf[T interface{ Append([]byte) []byte }](name string, read func([]byte) (T, error)) *bodyCodec {
	return &bodyCodec{name: name,
		read:  func(b []byte) (any, error) { return read(b) },
		write: func(v any, dst []byte) []byte { return v.(T).Append(dst) }}
}

func pointers[T any](m map[string]T) map[string]*T {
	p := map[string]*T{}
	for k, v := range m {
		p[k] = &v
	}
	return p
}

type topicTable struct {
	Topics  map[string]TopicConfig
	Version DataVersion
}

func (t topicTable) Append(dst []byte) []byte {
	return AppendTopicTable(dst, pointers(t.Topics), t.Version)
}

func parseTopicTable(b []byte) (topicTable, error) {
	m, v, err := ParseTopicTable(b)
	return topicTable{m, v}, err
}

type groupTable struct {
	Groups  map[string]GroupConfig
	Version DataVersion
}

func (t groupTable) Append(dst []byte) []byte {
	return AppendGroupTable(dst, pointers(t.Groups), t.Version)
}

func parseGroupTable(b []byte) (groupTable, error) {
	m, v, err := ParseGroupTable(b)
	return groupTable{m, v}, err
}

type standardRoute struct{ *RouteData }

func (r standardRoute) Append(dst []byte) []byte { return r.RouteData.Append(dst, true) }

type olderRoute struct{ *RouteData }

func (r olderRoute) Append(dst []byte) []byte { return r.RouteData.Append(dst, false) }

type topicConfig struct{ TopicConfig }

func (t topicConfig) Append(dst []byte) []byte { return t.TopicConfig.Append(dst) }

type groupConfig struct{ GroupConfig }

func (g groupConfig) Append(dst []byte) []byte { return g.GroupConfig.Append(dst) }

type clientCheck struct{ ClientCheck }

func (c clientCheck) Append(dst []byte) []byte { return c.ClientCheck.Append(dst) }

var bodyCodecs = map[string]*bodyCodec{
	"34":       codecOf("heartbeat", ParseHeartbeat),
	"38-resp":  codecOf("consumer ids", ParseConsumerIDs),
	"41":       codecOf("lock", ParseLockBatch),
	"41-resp":  codecOf("locked", ParseLockedQueues),
	"42":       codecOf("unlock", ParseLockBatch),
	"46":       codecOf("client check", func(b []byte) (clientCheck, error) { c, err := ParseClientCheck(b); return clientCheck{c}, err }),
	"43-resp":  codecOf("offsets", ParseOffsetTable),
	"45-resp":  codecOf("delay", ParseDelayTable),
	"21-resp":  codecOf("topics", parseTopicTable),
	"201-resp": codecOf("groups", parseGroupTable),
	"200":      codecOf("group", func(b []byte) (groupConfig, error) { g, err := ParseGroup(b); return groupConfig{g}, err }),
	"28-resp":  codecOf("runtime info", ParseKVTable),
	"219-resp": codecOf("runtime info", ParseKVTable),
	"106-resp": codecOf("cluster", ParseClusterInfo),
	"206-resp": codecOf("topic list", ParseTopicList),
	"224-resp": codecOf("topic list", ParseTopicList),
	"304-resp": codecOf("topic list", ParseTopicList),
	"305-resp": codecOf("topic list", ParseTopicList),
	"311-resp": codecOf("topic list", ParseTopicList),
	"300-resp": codecOf("group list", func(b []byte) (GroupList, error) { return ParseGroupList(b) }),
	"202-resp": codecOf("topic stats", ParseTopicStats),
	"208-resp": codecOf("consume stats", ParseConsumeStats),
	"203-resp": codecOf("consumers", ParseConsumerConnection),
	"204-resp": codecOf("producers", ParseProducerConnection),
	"322":      codecOf("data version", ParseDataVersion),
	"322-resp": codecOf("data version", ParseDataVersion),
	"351-resp": codecOf("topic", func(b []byte) (topicConfig, error) { t, err := ParseTopic(b); return topicConfig{t}, err }),
	"105-resp": codecOf("route", func(b []byte) (olderRoute, error) { d, err := ParseRouteData(b); return olderRoute{d}, err }),
	"105-resp-standard": codecOf("route", func(b []byte) (standardRoute, error) {
		d, err := ParseRouteData(b)
		return standardRoute{d}, err
	}),
	"103": codecOf("registration", ParseRegisterBody),
}

func (g *golden) bodyCodec(body []byte) *bodyCodec {
	key := fmt.Sprint(g.Code)
	if g.Type == "response" {
		key += "-resp"
	}
	if key == "105-resp" && bytes.Contains(body, []byte(`"0":`)) {
		key += "-standard"
	}
	return bodyCodecs[key]
}

var synFlag = regexp.MustCompile(`"topicSynFlag":\d+,`)

// Bodies of 4.9 are written as they were, but for the order of maps; others say
// the same when they are written and read again.
func TestGoldenBodies(t *testing.T) {
	exact, seen := map[string]int{}, map[string]int{}
	for _, g := range goldens(t) {
		c := g.parse(t)
		k := g.bodyCodec(c.Body)
		if k == nil || len(c.Body) == 0 {
			continue
		}
		v, err := k.read(c.Body)
		if err != nil {
			t.Errorf("%s: %v", g.File, err)
			continue
		}
		seen[k.name]++
		again := k.write(v, []byte("before"))[6:]
		w, err := k.read(again)
		if err != nil || !reflect.DeepEqual(v, w) {
			t.Errorf("%s: read again %v: %+v, want %+v", g.File, err, w, v)
		}
		if c.Language != LangJava || c.Version < 400 || c.Version > 409 || c.Body[0] == 0x78 {
			continue
		}
		exact[k.name]++
		if k.name == "route" {
			again = synFlag.ReplaceAll(again, nil)
		}
		if sortedBytes(again) != sortedBytes(c.Body) {
			t.Errorf("%s: written\n%s, want\n%s", g.File, again, c.Body)
		}
		if !bytes.Contains(c.Body, []byte("},{")) && len(c.Body) < 300 && string(again) != string(c.Body) && k.name != "topic list" {
			t.Logf("%s: in another order\n%s\n%s", g.File, again, c.Body)
		}
	}
	for key, k := range bodyCodecs {
		if seen[k.name] == 0 {
			t.Errorf("no golden body for %s %s", key, k.name)
		}
	}
	t.Log("as they were:", exact)
}

func TestGoldenHeartbeats(t *testing.T) {
	want := map[string]Heartbeat{
		"java-4.9.8/34-HEART_BEAT.2.bin": {ClientID: "192.0.2.2@J498pull@STREAM", Producers: []string{"CLIENT_INNER_PRODUCER"}, Consumers: []ConsumerBeat{{
			GroupName: "J498PullG", ConsumeType: "CONSUME_ACTIVELY", MessageModel: "CLUSTERING", ConsumeFromWhere: "CONSUME_FROM_LAST_OFFSET",
			Subscriptions: []Subscription{{Topic: "J498Topic", SubString: "*", ExpressionType: "TAG"}}}}},
	}
	for _, g := range goldens(t) {
		if w, ok := want[g.File]; ok {
			delete(want, g.File)
			got, err := ParseHeartbeat(g.parse(t).Body)
			if err != nil {
				t.Errorf("%s: %v", g.File, err)
				continue
			}
			for i := range got.Consumers {
				for j := range got.Consumers[i].Subscriptions {
					s := &got.Consumers[i].Subscriptions[j]
					if len(s.TagsSet) == 0 {
						s.TagsSet = nil
					}
					if len(s.CodeSet) == 0 {
						s.CodeSet = nil
					}
				}
			}
			if !reflect.DeepEqual(*got, w) {
				t.Errorf("%s:\n%+v, want\n%+v", g.File, *got, w)
			}
		}
	}
	for name := range want {
		t.Errorf("no golden frame %s", name)
	}
}

// A table as Java wrote it, with the entries put in order: Java's maps have none.
func inOrder(text, indent string) string {
	entry := regexp.MustCompile(`(?s)\n` + indent + `"[^\n]*\{.*?\n` + indent + `\},?`)
	all := entry.FindAllString(text, -1)
	if len(all) == 0 {
		return text
	}
	start := strings.Index(text, all[0])
	end := strings.LastIndex(text, all[len(all)-1]) + len(all[len(all)-1])
	for i := range all {
		all[i] = strings.TrimSuffix(all[i], ",")
	}
	sortStrings(all)
	return text[:start] + strings.Join(all, ",") + text[end:]
}

func sortStrings(list []string) {
	for i := range list {
		for j := i; j > 0 && keyIn(list[j]) < keyIn(list[j-1]); j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

func keyIn(entry string) string { return strings.SplitN(entry, `"`, 3)[1] }

func TestGoldenFiles(t *testing.T) {
	for _, version := range []string{"4.5.2", "4.9.7", "5.3.3"} {
		for name, pretty := range map[string]func([]byte) ([]byte, any, error){
			"topics.json": func(b []byte) ([]byte, any, error) {
				m, v, err := ParseTopicTable(b)
				return PrettyTopicTable(pointers(m), v), m, err
			},
			"subscriptionGroup.json": func(b []byte) ([]byte, any, error) {
				m, v, err := ParseGroupTable(b)
				return PrettyGroupTable(pointers(m), v), m, err
			},
			"consumerOffset.json": func(b []byte) ([]byte, any, error) {
				m, err := ParseOffsetTable(b)
				return m.Pretty(), m, err
			},
			"delayOffset.json": func(b []byte) ([]byte, any, error) {
				m, err := ParseDelayTable(b)
				return m.Pretty(), m, err
			},
		} {
			file := "testdata/config/" + version + "-clean/" + name
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, v, err := pretty(text)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			_, again, err := pretty(got)
			if err != nil || !reflect.DeepEqual(v, again) {
				t.Errorf("%s: read again: %v %v, want %v", file, err, again, v)
			}
			want := inOrder(string(text), "\t\t")
			if version == "5.3.3" { // says more; what 4.9 knows must be the same
				if reflect.ValueOf(v).Len() == 0 {
					t.Errorf("%s: nothing read", file)
				}
				continue
			}
			if string(got) != want {
				t.Errorf("%s: written\n%s\nwant\n%s", file, got, want)
			}
		}
	}
}

package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	archive "gomq/internal/golden"
)

// golden is one frame as the Java originals and other clients sent it, and what
// a recorder of its own made of it. wire.tar.gz holds a session of each client.
type golden struct {
	File       string `json:"file"`
	Code       int32  `json:"code"` // of the request, also in answers
	Type       string `json:"type"`
	Serialize  string `json:"serialize"`
	BodyLength int    `json:"bodyLength"`
	BodyKind   string `json:"bodyKind"`
	Header     struct {
		Code, Version, Opaque, Flag int32
		Language, Remark            string
		ExtFields                   map[string]any
	} `json:"header"`
	frame []byte // with its length field
}

var loadGolden = sync.OnceValues(func() ([]golden, error) {
	list, err := archive.Read("testdata/wire.tar.gz")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, f := range list {
		files[f.Name] = f.Data
	}
	var all []golden
	d := json.NewDecoder(bytes.NewReader(files["index.json"]))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return nil, err
	}
	for i := range all {
		g := &all[i]
		g.frame = files[g.File]
		if len(g.frame) < 8 {
			return nil, fmt.Errorf("no frame %s", g.File)
		}
	}
	return all, nil
})

func goldens(t testing.TB) []golden {
	t.Helper()
	all, err := loadGolden()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 1000 {
		t.Fatalf("%d golden frames, there should be more than a thousand", len(all))
	}
	return all
}

func (g *golden) parse(t testing.TB) *Command {
	t.Helper()
	c := new(Command)
	if err := c.Parse(g.frame[4:]); err != nil {
		t.Fatalf("%s: %v", g.File, err)
	}
	return c
}

func (g *golden) version() string {
	_, v, _ := strings.Cut(g.File[:strings.Index(g.File, "/")], "-")
	return v
}

func TestGoldenFrames(t *testing.T) {
	exact := 0
	for _, g := range goldens(t) {
		if n := binary.BigEndian.Uint32(g.frame); int(n) != len(g.frame)-4 {
			t.Fatalf("%s: length %d of %d", g.File, n, len(g.frame))
		}
		c := g.parse(t)
		h := g.Header
		got := []any{c.Code, c.Version, c.Opaque, c.Flag, c.Language.String(), c.Remark, len(c.Body)}
		want := []any{h.Code, h.Version, h.Opaque, h.Flag, h.Language, h.Remark, g.BodyLength}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read %v, want %v", g.File, got, want)
		}
		if len(c.ext) != len(h.ExtFields) {
			t.Errorf("%s: %d pairs, want %d", g.File, len(c.ext), len(h.ExtFields))
		}
		for k, v := range h.ExtFields {
			if got, ok := c.Get(k); !ok || string(got) != fmt.Sprint(v) {
				t.Errorf("%s: %s is %q, want %q", g.File, k, got, v)
			}
		}
		again := c.AppendTo(nil)
		// What Java and the binary codec write is what we write of it, but for
		// remarks that are there and empty.
		if c.Codec == Binary || !bytes.Contains(g.frame, []byte(`"remark":""`)) && bytes.Contains(g.frame, []byte(`,"serializeTypeCurrentRPC":"JSON","version":`)) {
			exact++
			if !bytes.Equal(again, g.frame) {
				t.Errorf("%s: written again\n%q, was\n%q", g.File, again, g.frame)
			}
			continue
		}
		var d Command
		if err := d.Parse(again[4:]); err != nil || !same(c, &d) {
			t.Errorf("%s: reading what was written again: %v", g.File, err)
		}
	}
	t.Logf("%d frames byte for byte", exact)
	if exact < 900 {
		t.Errorf("only %d frames were compared byte for byte", exact)
	}
}

// same compares what two commands say.
func same(a, b *Command) bool {
	if a.Code != b.Code || a.Language != b.Language || a.Version != b.Version || a.Opaque != b.Opaque || a.Flag != b.Flag ||
		a.Remark != b.Remark || !bytes.Equal(a.Body, b.Body) || a.Codec != b.Codec || len(a.ext) != len(b.ext) {
		return false
	}
	for i := range a.ext {
		if !bytes.Equal(a.ext[i].key, b.ext[i].key) || !bytes.Equal(a.ext[i].value, b.ext[i].value) {
			return false
		}
	}
	return true
}

// requestHeader is the header of a request code, nil for those that have none or
// that this package does not know yet.
func requestHeader(code int32) Header {
	switch code {
	case SendMessage:
		return &SendHeader{}
	case SendMessageV2, SendBatchMessage:
		return &SendHeader{V2: true}
	case PullMessage, LitePullMessage:
		return &PullHeader{}
	case QueryMessage:
		return &QueryHeader{}
	case QueryConsumerOffset:
		return &OffsetHeader{}
	case UpdateConsumerOffset:
		return &OffsetHeader{Update: true}
	case UpdateAndCreateTopic:
		return &CreateTopicHeader{}
	case SearchOffsetByTimestamp:
		return &QueueHeader{Search: true}
	case GetMaxOffset, GetMinOffset, GetEarliestMsgStoreTime:
		return &QueueHeader{}
	case ViewMessageByID:
		return &ViewHeader{}
	case UnregisterClient:
		return &UnregisterClientHeader{}
	case GetConsumerListByGroup, NotifyConsumerIdsChanged, GetConsumerConnectionList:
		return &ConsumerGroupHeader{}
	case GetProducerConnectionList:
		return &ProducerGroupHeader{}
	case PutKVConfig:
		return &KVHeader{Put: true}
	case GetKVConfig, DeleteKVConfig:
		return &KVHeader{}
	case GetKVListByNamespace:
		return &NamespaceHeader{}
	case RegisterBroker:
		return &RegisterHeader{}
	case UnregisterBroker, QueryDataVersion:
		return &BrokerHeader{}
	case GetRouteInfoByTopic:
		return &RouteHeader{}
	case WipeWritePermOfBroker, AddWritePermOfBroker:
		return &BrokerNameHeader{}
	case GetTopicsByCluster:
		return &ClusterHeader{}
	case GetTopicStatsInfo, DeleteTopicInBroker, DeleteTopicInNamesrv, QueryTopicConsumeByWho, GetTopicConfig:
		return &TopicHeader{}
	case DeleteGroup:
		return &DeleteGroupHeader{}
	case ConsumerSendMsgBack:
		return &SendBackHeader{}
	case EndTransaction:
		return &EndHeader{}
	case CheckTransactionState:
		return &CheckHeader{}
	case ResumeCheckHalf:
		return &ResumeHeader{}
	case GetConsumeStats:
		return &ConsumeStatsHeader{}
	}
	return relayHeader(code)
}

func TestGoldenRequestHeaders(t *testing.T) {
	seen := map[int32]int{}
	for _, g := range goldens(t) {
		h := requestHeader(g.Code)
		if g.Type != "request" || h == nil {
			continue
		}
		seen[g.Code]++
		c := g.parse(t)
		if err := c.Decode(h); err != nil {
			t.Errorf("%s: %v", g.File, err)
			continue
		}
		// What was understood, asked anew, is what the peer had said.
		for _, codec := range []Codec{JSON, Binary} {
			r := NewRequest(g.Code, h, nil)
			r.Codec = codec
			var d Command
			if err := d.Parse(r.AppendTo(nil)[4:]); err != nil {
				t.Fatal(err)
			}
			for _, p := range d.ext {
				name := string(p.key)
				was, ok := c.Get(name)
				if !ok && name == "removeOffset" {
					was, ok = c.Get("cleanOffset")
				}
				if ok && string(was) != string(p.value) {
					t.Errorf("%s: %s is %q, was %q", g.File, name, p.value, was)
				}
			}
			again := requestHeader(g.Code)
			if err := d.Decode(again); err != nil || fmt.Sprint(again) != fmt.Sprint(h) {
				t.Errorf("%s: decoded again %v %v, want %v", g.File, again, err, h)
			}
		}
	}
	if len(seen) < 34 {
		t.Errorf("frames of only %d codes: %v", len(seen), seen)
	}
}

// answerHeader is the header of the answer to a request code.
func answerHeader(code int32, c *Command) Header {
	if len(c.ext) == 0 {
		if c.hasExt {
			return &NoFields{}
		}
		return nil
	}
	switch code {
	case SendMessage, SendMessageV2, SendBatchMessage, SendReplyMessageV2:
		_, stored := c.Get("msgId")
		return &SendReply{Failed: !stored}
	case PullMessage, LitePullMessage:
		return &PullReply{}
	case QueryMessage:
		return &QueryReply{}
	case QueryConsumerOffset, SearchOffsetByTimestamp, GetMaxOffset, GetMinOffset:
		return &OffsetReply{}
	case GetEarliestMsgStoreTime:
		return &TimestampReply{}
	case GetKVConfig:
		return &KVReply{}
	case RegisterBroker:
		return &RegisterReply{}
	case QueryDataVersion:
		return &DataVersionReply{}
	case WipeWritePermOfBroker:
		return &WipePermReply{}
	case AddWritePermOfBroker:
		return &AddPermReply{}
	case GetBrokerConfig:
		return &BrokerConfigReply{}
	}
	return nil
}

// Every answer of a 4.9.7 server that gomq gives too is given byte for byte, but
// for the version.
func TestGoldenAnswers(t *testing.T) {
	seen := map[string]int{}
	for _, g := range goldens(t) {
		c := g.parse(t)
		if g.Type != "response" || c.Version != 407 {
			continue
		}
		h := answerHeader(g.Code, c)
		if h == nil && len(c.ext) > 0 {
			continue // a code that is not there yet
		}
		if h != nil {
			if err := c.Decode(h); err != nil {
				t.Errorf("%s: %v", g.File, err)
				continue
			}
		}
		seen[fmt.Sprintf("%T", h)]++
		c.Version = Version
		want := c.AppendTo(nil) // TestGoldenFrames has seen that this is the frame itself
		got := AppendResponse([]byte("before"), c.Codec, c.Opaque, c.Code, c.Remark, h, c.Body)
		if string(got) != "before"+string(want) {
			t.Errorf("%s: answered\n%q, want\n%q", g.File, got[6:], want)
		}
	}
	t.Log(seen)
	for _, h := range []Header{&SendReply{}, &PullReply{}, &QueryReply{}, &OffsetReply{}, &TimestampReply{}, &KVReply{}, &RegisterReply{},
		&DataVersionReply{}, &WipePermReply{}, &AddPermReply{}, &BrokerConfigReply{}, &NoFields{}, nil} {
		if seen[fmt.Sprintf("%T", h)] == 0 {
			t.Errorf("no golden answer with %T", h)
		}
	}
}

// sortedBytes tells two texts apart that differ in more than their order.
func sortedBytes(b []byte) string {
	b = slices.Clone(b)
	slices.Sort(b)
	return string(b)
}

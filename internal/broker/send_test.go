package broker

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/internal/client"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
)

// What is sent is pulled back as it was, and is found by its ids; a restart
// changes nothing.
func TestSendAndPull(t *testing.T) {
	r := run(t, nil)
	r.create("T", 2)
	s := r.send("T", 1, "hello", "KEYS", "k1", "TAGS", "TagA", "WAIT", "true", "UNIQ_KEY", "U1")
	if s.Code != protocol.Success || s.QueueID != 1 || s.QueueOffset != 0 || s.Region != "DefaultRegion" || !s.Trace {
		t.Errorf("answer %+v", s)
	}
	host, offset, err := message.ParseID(string(s.MsgID))
	if err != nil || host.String() != r.addr || offset != 0 {
		t.Errorf("message id %s: %v %d %v", s.MsgID, host, offset, err)
	}
	for range 2 {
		p, list := r.pull("T", 1, 0, "*")
		if p.Code != protocol.Success || p.Status != "FOUND" || p.NextBeginOffset != 1 || p.MinOffset != 0 || p.MaxOffset != 1 || len(list) != 1 {
			t.Fatalf("pulled %+v, %d messages", p, len(list))
		}
		m := list[0]
		if string(m.Body()) != "hello" || string(m.Topic()) != "T" || m.QueueID() != 1 {
			t.Errorf("message %q of %s/%d", m.Body(), m.Topic(), m.QueueID())
		}
		if got, want := string(m.Props()), "KEYS\x01k1\x02UNIQ_KEY\x01U1\x02CLUSTER\x01DefaultCluster\x02TAGS\x01TagA"; got != want {
			t.Errorf("properties %q, want %q", got, want)
		}
		if v, err := r.c.View(t.Context(), r.addr, offset); err != nil || string(v.Body()) != "hello" {
			t.Errorf("by offset: %v", err)
		}
		r = r.again()
	}
}

// rawBatch encodes the body of a SEND_BATCH.
func rawBatch(bodies []string, props ...string) []byte {
	var out []byte
	for i, body := range bodies {
		p := message.AppendProp(nil, "KEYS", fmt.Sprint("k", i))
		for k := 0; k+1 < len(props); k += 2 {
			p = message.AppendProp(p, props[k], props[k+1])
		}
		n := 22 + len(body) + len(p)
		out = binary.BigEndian.AppendUint32(out, uint32(n))
		out = append(out, make([]byte, 8)...)
		out = binary.BigEndian.AppendUint32(out, uint32(i))
		out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
		out = append(out, body...)
		out = binary.BigEndian.AppendUint16(out, uint16(len(p)))
		out = append(out, p...)
	}
	return out
}

func TestBatch(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	h := sendHeader("T", 0, "WAIT", "true")
	h.Batch = true
	s, err := r.c.Send(t.Context(), r.addr, h, rawBatch([]string{"a", "bb", "ccc"}, "WAIT", "true"))
	if err != nil {
		t.Fatal(err)
	}
	ids := strings.Split(string(s.MsgID), ",")
	if len(ids) != 3 || s.QueueOffset != 0 {
		t.Fatalf("answer %+v", s)
	}
	_, list := r.pull("T", 0, 0, "*")
	if len(list) != 3 {
		t.Fatalf("%d messages", len(list))
	}
	for i, m := range list {
		if _, offset, err := message.ParseID(ids[i]); err != nil || offset != m.Offset() {
			t.Errorf("id %d is %s, the message lies at %d", i, ids[i], m.Offset())
		}
		// As CommitLog of 4.9.7 writes it: the member's text, then CLUSTER and what the
		// request itself carries.
		if got, want := string(m.Props()), fmt.Sprintf("KEYS\x01k%d\x02WAIT\x01true\x02CLUSTER\x01DefaultCluster\x02WAIT\x01true", i); got != want {
			t.Errorf("properties %q, want %q", got, want)
		}
		if m.Flag() != int32(i) {
			t.Errorf("flag %d", m.Flag())
		}
	}
	for name, body := range map[string][]byte{"empty": {}, "cut": rawBatch([]string{"a", "b"})[:35], "length": {0xff, 0xff, 0xff, 0xff}} {
		_, err := r.c.Send(t.Context(), r.addr, h, body)
		r.refused(err, protocol.MessageIllegal, "batch")
		if n, _ := r.c.MaxOffset(t.Context(), r.addr, "T", 0); n != 3 {
			t.Fatalf("%s: something of it was stored", name)
		}
	}
}

// A topic that is not there is created after TBW102, with the fewer queues.
func TestAutoCreate(t *testing.T) {
	r := run(t, nil)
	s := r.send("Auto", 3, "x")
	if s.QueueID != 3 {
		t.Errorf("answer %+v", s)
	}
	c := r.b.topics.Get([]byte("Auto"))
	if c == nil || c.WriteQueueNums != 4 || c.ReadQueueNums != 4 || c.Perm != 6 {
		t.Errorf("created %+v", c)
	}
	if _, list := r.pull("Auto", 3, 0, "*"); len(list) != 1 {
		t.Error("its first message is not there")
	}
	r = r.again()
	if r.b.topics.Get([]byte("Auto")) == nil {
		t.Error("gone after a restart")
	}
	// Many at once, all to the same new topic: each is stored once.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := r.c.Send(t.Context(), r.addr, sendHeader("Burst", 0), fmt.Append(nil, i)); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if n, err := r.c.MaxOffset(t.Context(), r.addr, "Burst", 0); n != 20 || err != nil {
		t.Errorf("%d messages %v", n, err)
	}
}

func TestSendRefusals(t *testing.T) {
	r := run(t, func(o *Options) { o.MaxMessageSize = 10_000 })
	r.create("T", 2)
	for _, c := range []struct {
		what   string
		change func(h *protocol.SendHeader)
		body   string
		code   int32
		text   string
	}{
		{"queue", func(h *protocol.SendHeader) { h.QueueID = 99 }, "x", 1,
			"request queueId[99] is illegal, TopicConfig [topicName=T, readQueueNums=2, writeQueueNums=2, perm=RW-, topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false] Producer: 127.0.0.1:"},
		{"blank topic", func(h *protocol.SendHeader) { h.Topic = []byte(" ") }, "x", 1, "The specified topic is blank."},
		{"traversal", func(h *protocol.SendHeader) { h.Topic = []byte("../../x") }, "x", 1, "The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"},
		{"long topic", func(h *protocol.SendHeader) { h.Topic = []byte(strings.Repeat("x", 128)) }, "x", 1, "The specified topic is longer than topic max length."},
		{"half topic", func(h *protocol.SendHeader) { h.Topic = []byte("RMQ_SYS_TRANS_HALF_TOPIC") }, "x", 16, "Sending message to topic[RMQ_SYS_TRANS_HALF_TOPIC] is forbidden."},
		{"schedule topic", func(h *protocol.SendHeader) { h.Topic = []byte("SCHEDULE_TOPIC_XXXX") }, "x", 16, "is forbidden"},
		{"no template", func(h *protocol.SendHeader) { h.Topic, h.DefaultTopic = []byte("N"), []byte("T") }, "x", 17, "topic[N] not exist, apply first please!\nSee http"},
		{"body", func(h *protocol.SendHeader) {}, strings.Repeat("x", 10_001), 13, "msg body length limit 10000B"},
		{"properties", func(h *protocol.SendHeader) { h.Props = message.AppendProp(nil, "a", strings.Repeat("x", 32800)) }, "x", 13, "32767"},
		{"delay", func(h *protocol.SendHeader) { h.Props = message.AppendProp(nil, "DELAY", "3x") }, "x", 1, "DELAY is no number"},
		{"prepared without its property", func(h *protocol.SendHeader) { h.SysFlag = 4 }, "x", 13, "TRAN_MSG is missing"},
		{"batch of a transaction", func(h *protocol.SendHeader) { h.SysFlag, h.Batch = 4, true }, "x", 13, "transaction"},
		{"batch with the property of one", func(h *protocol.SendHeader) { h.Props, h.Batch = message.AppendProp(nil, "TRAN_MSG", "true"), true }, "x", 13, "transaction"},
		{"delayed batch", func(h *protocol.SendHeader) { h.Batch, h.Props = true, message.AppendProp(nil, "DELAY", "3") }, "x", 13, "a batch cannot be delayed"},
	} {
		h := sendHeader("T", 0)
		c.change(&h)
		_, err := r.c.Send(t.Context(), r.addr, h, []byte(c.body))
		if got, _ := client.Code(err); got != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want code %d with %q", c.what, err, c.code, c.text)
		}
	}
	for q := range int32(2) {
		if n, _ := r.c.MaxOffset(t.Context(), r.addr, "T", q); n != 0 {
			t.Errorf("%d refused messages were stored in queue %d", n, q)
		}
	}
	// The answer tells region and trace switch also when the send failed.
	req := protocol.NewRequest(protocol.SendMessage, &protocol.SendHeader{Topic: []byte("T"), QueueID: 99, MaxReconsume: -1}, nil)
	resp, err := r.c.Call(t.Context(), r.addr, req)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := resp.Get("MSG_REGION"); string(v) != "DefaultRegion" {
		t.Errorf("MSG_REGION is %q", v)
	}
	if v, _ := resp.Get("TRACE_ON"); string(v) != "true" {
		t.Errorf("TRACE_ON is %q", v)
	}
	if _, ok := resp.Get("msgId"); ok {
		t.Error("a failed send has a message id")
	}
}

func TestNoAutoCreate(t *testing.T) {
	r := run(t, func(o *Options) { o.AutoCreateTopicEnable = false })
	_, err := r.c.Send(t.Context(), r.addr, sendHeader("N", 0), []byte("x"))
	r.refused(err, protocol.TopicNotExist, "topic[N] not exist, apply first please!")
}

// A retry goes to its topic until it has been tried as often as it may be, then to
// the group's dead letters.
func TestRetryAndDeadLetters(t *testing.T) {
	r := run(t, nil)
	h := sendHeader("%RETRY%RG", 0)
	h.ReconsumeTimes = 3
	if _, err := r.c.Send(t.Context(), r.addr, h, []byte("again")); err != nil {
		t.Fatal(err)
	}
	if n, _ := r.c.MaxOffset(t.Context(), r.addr, "%RETRY%RG", 0); n != 1 {
		t.Error("not in the retry topic")
	}
	h.ReconsumeTimes = 16
	h.Props = message.AppendProp(nil, "DELAY", "18")
	if _, err := r.c.Send(t.Context(), r.addr, h, []byte("dead")); err != nil {
		t.Fatal(err)
	}
	h.ReconsumeTimes, h.MaxReconsume = 2, 2
	if _, err := r.c.Send(t.Context(), r.addr, h, []byte("dead too")); err != nil {
		t.Fatal(err)
	}
	_, list := r.pull("%DLQ%RG", 0, 0, "*")
	if len(list) != 2 || string(list[0].Body()) != "dead" || string(list[1].Body()) != "dead too" || string(list[0].Topic()) != "%DLQ%RG" {
		t.Errorf("dead letters: %d", len(list))
	}
	if err := config.Refusal(r.live.Load().Finish("")); err != nil {
		t.Fatal(err)
	}
}

// A one-way send is stored and not answered.
func TestOneway(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	if err := r.c.SendOneway(t.Context(), r.addr, sendHeader("T", 0), []byte("x")); err != nil {
		t.Fatal(err)
	}
	r.eventually("the one-way message is not there", func() bool { return r.b.store.Queue([]byte("T"), 0).Max() == 1 })
}

// A SYNC_MASTER without a replica stores the message and never says SEND_OK, but
// to a producer that did not want to wait.
func TestSyncMasterAlone(t *testing.T) {
	for _, flush := range []FlushType{AsyncFlush, SyncFlush} {
		t.Run(string(flush), func(t *testing.T) {
			r := run(t, func(o *Options) { o.BrokerRole, o.FlushDiskType = SyncMaster, flush })
			r.create("T", 1)
			if s := r.send("T", 0, "x"); s.Code != protocol.SlaveNotAvailable || len(s.MsgID) != 32 {
				t.Errorf("answer %+v", s)
			}
			if s := r.send("T", 0, "x", "WAIT", "false"); s.Code != protocol.Success {
				t.Errorf("WAIT=false: answer %+v", s)
			}
			if n, _ := r.c.MaxOffset(t.Context(), r.addr, "T", 0); n < 1 {
				t.Error("not stored")
			}
		})
	}
}

// What would break a promise refuses to start.
func TestRefusesToStart(t *testing.T) {
	for text, change := range map[string]func(o *Options){
		"aclEnable=true": func(o *Options) { o.ACLEnable = true },
	} {
		o := rigOptions(t.TempDir())
		change(&o)
		if _, _, err := tryStart(t, &o, nil, seams{}); err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "not yet") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Under SYNC_FLUSH many connections and batches are answered late, each with its
// own place.
func TestSyncFlush(t *testing.T) {
	r := run(t, func(o *Options) { o.FlushDiskType = SyncFlush })
	r.create("T", 4)
	const senders, each = 8, 10
	var mu sync.Mutex
	at := map[string]string{}
	var wg sync.WaitGroup
	for i := range senders {
		wg.Add(1)
		c := r.client()
		go func() {
			defer wg.Done()
			for k := range each {
				body := fmt.Sprintf("%d-%d", i, k)
				s, err := c.Send(t.Context(), r.addr, sendHeader("T", int32(i%4)), []byte(body))
				if err != nil || s.Code != protocol.Success {
					t.Errorf("%+v %v", s, err)
					return
				}
				mu.Lock()
				at[string(s.MsgID)] = body
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	if len(at) != senders*each {
		t.Fatalf("%d different ids", len(at))
	}
	for id, body := range at {
		_, offset, _ := message.ParseID(id)
		if m, err := r.c.View(t.Context(), r.addr, offset); err != nil || string(m.Body()) != body {
			t.Fatalf("%s is %q, want %q: %v", id, m.Body(), body, err)
		}
	}
	// A topic that is created by the send waits for the disk too.
	if s := r.send("Auto", 0, "x"); s.Code != protocol.Success || s.QueueOffset != 0 {
		t.Errorf("to a new topic: %+v", s)
	}
	if n := r.b.send.waiting.Load(); n != 0 {
		t.Errorf("%d sends still counted as waiting", n)
	}
}

// The flags that say which form the hosts of a record have are not the client's to
// set: the record would not be one.
func TestHostFlags(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	h := sendHeader("T", 0)
	h.SysFlag = 0x31
	s, err := r.c.Send(t.Context(), r.addr, h, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	r.send("T", 0, "y")
	_, list := r.pull("T", 0, 0, "*")
	if len(list) != 2 || list[0].SysFlag() != 1 || string(list[1].Body()) != "y" || list[0].BornHost().Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("pulled %d messages, %s", len(list), s.MsgID)
	}
}

// Before a time that is set sends are refused.
func TestNotBefore(t *testing.T) {
	r := run(t, func(o *Options) { o.StartAcceptSendRequestTimeStamp = time.Now().Add(time.Hour).UnixMilli() })
	_, err := r.c.Send(t.Context(), r.addr, sendHeader("T", 0), []byte("x"))
	r.refused(err, protocol.SystemError, "broker unable to service, until 20")
}

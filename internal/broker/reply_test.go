package broker

import (
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

const replyTopic = "DefaultCluster_REPLY_TOPIC"

// replyTo is the header of a reply to a client.
func replyTo(client string, props ...string) *protocol.SendHeader {
	if client != "" {
		props = append(props, message.PropReplyTo, client)
	}
	h := sendHeader(replyTopic, 0, props...)
	return &h
}

// sentReply is the answer to a reply.
func sentReply(t testing.TB, c *protocol.Command) (r protocol.SendReply) {
	t.Helper()
	if err := c.Decode(&r); err != nil {
		t.Fatalf("%d %s: %v", c.Code, c.Remark, err)
	}
	return r
}

func propsIn(text []byte) map[string]string {
	m := map[string]string{}
	message.EachProp(text, func(k, v []byte) bool { m[string(k)] = string(v); return true })
	return m
}

// A reply that a Java client sent in a recorded session goes to the client that it
// names, with the fields that the original sent, and is answered and stored as it
// was there.
func TestRecordedReplies(t *testing.T) {
	files := frames(t)
	r := run(t, nil)
	for _, session := range []string{"java-4.9.8", "java-4.9.8-binary", "java-5.3.3"} {
		name := session + "/325-SEND_REPLY_MESSAGE_V2"
		frame := files[name+".bin"]
		req := parse(t, name, frame)
		text, _ := req.Get("i")
		to, _ := message.Prop(text, message.PropReplyTo)
		a := newAsked(map[int32]remoting.Response{326: {}})
		r.consumer(a, string(to), "CG", protocol.LangJava, 409)
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		got := readAnswer(t, name, conn, req.Opaque)
		want := parse(t, name, files[name+"-resp.bin"])
		if got.Code != want.Code || got.Remark != want.Remark || got.Codec != req.Codec {
			t.Errorf("%s: answered %d %q in %d", name, got.Code, got.Remark, got.Codec)
		}
		for _, field := range []string{"msgId", "queueId", "queueOffset", "MSG_REGION", "TRACE_ON"} {
			if _, ok := got.Get(field); !ok {
				t.Errorf("%s: the answer has no %s", name, field)
			}
		}
		pushed := a.next(t)
		recorded := parse(t, name, files[session+"/326-PUSH_REPLY_MESSAGE_TO_CLIENT.bin"])
		mine, theirs := fieldsIn(pushed), fieldsIn(recorded)
		myProps, theirProps := propsIn([]byte(mine["properties"])), propsIn([]byte(theirs["properties"]))
		for _, m := range []map[string]string{mine, theirs} {
			for _, changing := range []string{"storeTimestamp", "storeHost", "bornHost", "properties"} {
				if m[changing] == "" {
					t.Errorf("%s: no %s", name, changing)
				}
				delete(m, changing)
			}
		}
		for _, m := range []map[string]string{myProps, theirProps} {
			if m[message.PropPushReply] == "" {
				t.Errorf("%s: no time of the push: %v", name, m)
			}
			delete(m, message.PropPushReply)
			delete(m, message.PropRegion) // a hook of the recording 5.3.3 broker
			delete(m, message.PropTraceOn)
		}
		if !maps.Equal(mine, theirs) || !maps.Equal(myProps, theirProps) || pushed.IsOneway() || string(pushed.Body) != string(recorded.Body) {
			t.Errorf("%s: pushed %v %v %q, the original pushed %v %v", name, mine, myProps, pushed.Body, theirs, theirProps)
		}
		stored := sentReply(t, got)
		_, list := r.pull(replyTopic, 0, stored.QueueOffset, "*")
		if len(list) != 1 || string(list[0].Body()) != string(req.Body) || string(list[0].Props()) != string(text) {
			t.Errorf("%s: stored %q", name, list)
		}
	}
}

// What becomes of a reply whose requester is not there, slow, unwilling or gone is
// said in the original's words; it is stored all the same, unless that is off.
func TestReplyFailures(t *testing.T) {
	r := run(t, nil)
	send := func(h *protocol.SendHeader, body string) *protocol.Command {
		t.Helper()
		return r.ask(protocol.SendReplyMessage, h, []byte(body))
	}
	r.consumer(newAsked(map[int32]remoting.Response{326: {}}), "good", "CG", protocol.LangJava, 409)
	r.consumer(newAsked(map[int32]remoting.Response{326: {Code: 1, Remark: "no"}}), "bad", "CG", protocol.LangJava, 409)
	slow := newAsked(nil)
	leaving := r.consumer(slow, "slow", "CG", protocol.LangJava, 409)
	stored := int64(0)
	for _, c := range []struct {
		to   string
		code int32
		text string
	}{
		{"good", protocol.Success, ""},
		{"", protocol.SystemError, "reply message properties[REPLY_TO_CLIENT] is null"},
		{"nobody", protocol.SystemError, "push reply message fail, channel of <nobody> not found."},
		{"bad", protocol.SystemError, "push reply message to badfail. (it answered 1 no)"},
		{"slow", protocol.SystemError, "push reply message to slowfail. (it gave no answer within 1ms)"},
	} {
		r.b.reply.wait = 10 * time.Second
		if c.to == "slow" {
			r.b.reply.wait = time.Millisecond
		}
		resp := send(replyTo(c.to), "to "+c.to)
		if resp.Code != c.code || resp.Remark != c.text {
			t.Errorf("to %q: %d %q", c.to, resp.Code, resp.Remark)
		}
		if got := sentReply(t, resp); got.QueueOffset != stored || len(got.MsgID) != 32 {
			t.Errorf("to %q: stored as %+v, want offset %d", c.to, got, stored)
		}
		stored++
	}
	// It goes away while it has the reply.
	slow.next(t)
	r.b.reply.wait = time.Hour
	done := make(chan *protocol.Command, 1)
	go func() { done <- send(replyTo("slow"), "gone") }()
	slow.next(t)
	if n := r.b.reply.bytes.Load(); n == 0 {
		t.Error("a reply that waits is not counted")
	}
	if resp := leaves(t, leaving, done); resp.Code != protocol.SystemError || !strings.HasPrefix(resp.Remark, "push reply message to slowfail. (") {
		t.Errorf("to one that went: %d %q", resp.Code, resp.Remark)
	}
	if n := r.b.reply.bytes.Load(); n != 0 {
		t.Errorf("%d bytes of replies still wait", n)
	}

	for _, c := range []struct {
		h    func(h *protocol.SendHeader)
		body int
		code int32
		text string
	}{
		{func(h *protocol.SendHeader) { h.Topic = []byte("Nowhere") }, 1, protocol.TopicNotExist, "topic[Nowhere] not exist"},
		{func(h *protocol.SendHeader) { h.Topic = []byte("a/b") }, 1, protocol.SystemError, "illegal characters"},
		{func(h *protocol.SendHeader) { h.Topic = []byte("OFFSET_MOVED_EVENT") }, 1, protocol.NoPermission, "is forbidden"},
		{func(h *protocol.SendHeader) { h.QueueID = 1 }, 1, protocol.SystemError, "request queueId[1] is illegal"},
		{func(*protocol.SendHeader) {}, 5 << 20, protocol.MessageIllegal, "maxMessageSize"},
	} {
		h := replyTo("good")
		c.h(h)
		if resp := send(h, strings.Repeat("x", c.body)); resp.Code != c.code || !strings.Contains(resp.Remark, c.text) {
			t.Errorf("%d %q, want %d %q", resp.Code, resp.Remark, c.code, c.text)
		}
	}
	r.b.reply.bytes.Store(maxReplyBytes)
	if resp := send(replyTo("good"), "x"); resp.Code != protocol.SystemBusy || !strings.Contains(resp.Remark, "wait for their requesters") {
		t.Errorf("with too many: %d %q", resp.Code, resp.Remark)
	}
	r.b.reply.bytes.Store(0)

	if _, err := r.live.Update([]byte("storeReplyMessageEnable=false")); err != nil {
		t.Fatal(err)
	}
	if resp := send(replyTo("good"), "x"); resp.Code != protocol.Success || string(sentReply(t, resp).MsgID) != "0" {
		t.Errorf("not stored: %d %q %+v", resp.Code, resp.Remark, fieldsIn(resp))
	}
	if resp := send(replyTo("nobody"), "x"); resp.Code != protocol.SystemError || fieldsIn(resp)["msgId"] != "" {
		t.Errorf("not stored, not delivered: %d %q %+v", resp.Code, resp.Remark, fieldsIn(resp))
	}
	if q := r.b.store.Queue([]byte(replyTopic), 0); q.Max() != stored+1 {
		t.Errorf("%d replies are stored, want %d", q.Max(), stored+1)
	}
}

package broker

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"gomq/internal/client"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// asked is what a client is asked, and what it says. Nothing is said when say has
// no answer for the code.
type asked struct {
	say  map[int32]remoting.Response
	seen chan *protocol.Command
}

func newAsked(say map[int32]remoting.Response) *asked {
	return &asked{say: say, seen: make(chan *protocol.Command, 10_000)}
}

func (a *asked) Request(_ *remoting.Turn, c *remoting.Call) {
	if c.Req.Code == protocol.NotifyConsumerIdsChanged {
		return
	}
	a.seen <- c.Req.Clone()
	if r, ok := a.say[c.Req.Code]; ok {
		c.Answer(r)
		return
	}
	c.Later() // never
}
func (a *asked) EndTurn(*remoting.Turn) {}
func (a *asked) Closed(*remoting.Conn)  {}

func (a *asked) next(t testing.TB) *protocol.Command {
	t.Helper()
	select {
	case c := <-a.seen:
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("the client was asked nothing")
		return nil
	}
}

// leaves breaks the connection of a client that is being asked, and returns what
// whoever had it asked is told.
func leaves(t *testing.T, c *client.Client, told <-chan *protocol.Command) *protocol.Command {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = c.Stop(ctx)
	select {
	case resp := <-told:
		return resp
	case <-time.After(10 * time.Second):
		t.Fatal("a client that went is waited for")
		return nil
	}
}

// consumer connects a client that answers with a, as id of group, in a language
// and of a version.
func (r *rig) consumer(a *asked, id, group string, language protocol.Language, version int32, topics ...string) *client.Client {
	r.Helper()
	c := client.New(context.Background(), client.Options{Timeout: 10 * time.Second, Handler: a})
	r.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Stop(ctx)
	})
	req := protocol.NewRequest(protocol.HeartBeat, nil, beatOf(id, group, topics...).Append(nil))
	req.Language, req.Version = language, version
	if resp, err := c.Call(r.Context(), r.addr, req); err != nil || resp.Code != protocol.Success {
		r.Fatalf("heartbeat: %+v %v", resp, err)
	}
	return c
}

func said(code int32, body string) remoting.Response {
	return remoting.Response{Code: code, Remark: "said", Body: []byte(body)}
}

// What an administrator asks of a consumer reaches it with all fields, and its
// answer comes back as it was.
func TestRelay(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	sent := r.send("T", 0, "hello", "KEYS", "k")
	a := newAsked(map[int32]remoting.Response{307: said(0, `{"jstack":"}{"}`), 309: said(7, `{"consumeResult":"CR_LATER"}`)})
	r.consumer(a, "me", "CG", protocol.LangJava, 409, "T")

	req := protocol.NewRequest(protocol.GetConsumerRunningInfo, &protocol.RelayHeader{Group: "CG", ClientID: "me"}, nil)
	req.Set("jstackEnable", "true")
	req.Set("AccessKey", "ak")
	req.Set("Signature", "s")
	resp, err := r.c.Call(t.Context(), r.addr, req)
	if err != nil || resp.Code != 0 || resp.Remark != "said" || string(resp.Body) != `{"jstack":"}{"}` {
		t.Errorf("running info %+v %v", resp, err)
	}
	got := a.next(t)
	if fields := fieldsIn(got); got.Code != 307 || got.IsOneway() || !maps.Equal(fields, map[string]string{"consumerGroup": "CG", "clientId": "me", "jstackEnable": "true"}) {
		t.Errorf("the client was asked %d %v", got.Code, fields)
	}

	id := string(sent.MsgID)
	resp = r.ask(protocol.ConsumeMessageDirectly, &protocol.RelayHeader{Group: "CG", ClientID: "me", MsgID: id}, nil)
	if resp.Code != 7 || string(resp.Body) != `{"consumeResult":"CR_LATER"}` {
		t.Errorf("consumed directly: %+v", resp)
	}
	got = a.next(t)
	rec, err := message.ParseRecord(got.Body, true)
	if err != nil || string(rec.Body()) != "hello" || string(rec.Topic()) != "T" || got.Code != 309 {
		t.Errorf("the client was given %d %q %v", got.Code, got.Body, err)
	}
	if name, _ := got.Get("brokerName"); string(name) != "broker-a" {
		t.Errorf("brokerName %q", name)
	}
}

func fieldsIn(c *protocol.Command) map[string]string {
	m := map[string]string{}
	c.Pairs(func(k, v []byte) { m[string(k)] = string(v) })
	return m
}

// Who cannot be asked, and who does not answer, is an answer in words; nothing
// stays behind.
func TestRelayRefusals(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	sent := r.send("T", 0, "hello")
	r.b.relay.wait = time.Millisecond
	a := newAsked(nil)
	r.consumer(a, "old", "CG", protocol.LangJava, 61, "T")
	gone := r.consumer(a, "slow", "CG", protocol.LangJava, 409, "T")
	ask := func(code int32, group, id, msg string) *protocol.Command {
		return r.ask(code, &protocol.RelayHeader{Group: group, ClientID: id, MsgID: msg}, nil)
	}
	for _, c := range []struct {
		code          int32
		group, id, at string
		want          int32
		text          string
	}{
		{307, "CG", "nobody", "", protocol.SystemError, "The Consumer <CG> <nobody> not online"},
		{307, "NG", "slow", "", protocol.SystemError, "The Consumer <NG> <slow> not online"},
		{307, "CG", "old", "", protocol.SystemError, "The Consumer <old> Version <61> too low to finish, please upgrade it to V3_1_8_SNAPSHOT"},
		{309, "CG", "old", string(sent.MsgID), protocol.SystemError, "too low to finish"},
		{309, "CG", "slow", "", protocol.SystemError, "message id"},
		{309, "CG", "slow", "7F00000200007EFF00000000FFFFFFF0", protocol.SystemError, "can not find message by the offset, 4294967280"},
		{307, "CG", "slow", "", protocol.ConsumeMsgTimeout, "consumer <CG> <slow> Timeout: it gave no answer within 1ms"},
		{309, "CG", "slow", string(sent.MsgID), protocol.ConsumeMsgTimeout, "consumer <CG> <slow> Timeout"},
	} {
		if resp := ask(c.code, c.group, c.id, c.at); resp.Code != c.want || !strings.Contains(resp.Remark, c.text) {
			t.Errorf("%d of %s %s %s: %d %q", c.code, c.group, c.id, c.at, resp.Code, resp.Remark)
		}
	}
	// It goes away while it is asked.
	r.b.relay.wait = time.Hour
	done := make(chan *protocol.Command, 1)
	go func() { done <- ask(307, "CG", "slow", "") }()
	for range 3 {
		a.next(t)
	}
	if resp := leaves(t, gone, done); resp.Code != protocol.SystemError || !strings.Contains(resp.Remark, "invoke consumer <CG> <slow> Exception: ") {
		t.Errorf("a client that went: %d %q", resp.Code, resp.Remark)
	}
	if n := r.b.clients.notify.asked.Load(); n != 0 {
		t.Errorf("%d questions still wait", n)
	}
	r.b.clients.notify.asked.Store(maxAsked)
	if resp := ask(307, "CG", "old", ""); resp.Code != protocol.SystemError {
		t.Errorf("%+v", resp)
	}
	r.consumer(a, "new", "CG", protocol.LangJava, 409, "T")
	if resp := ask(307, "CG", "new", ""); resp.Code != protocol.SystemError || !strings.Contains(resp.Remark, "questions wait") {
		t.Errorf("with too many questions: %d %q", resp.Code, resp.Remark)
	}
	r.b.clients.notify.asked.Store(0)
}

// A reset tells each client in its own language where to go on: by time, to the
// end, never forward without force; the broker's own table stays.
func TestReset(t *testing.T) {
	r := run(t, nil)
	r.create("T", 2)
	var times []int64
	for i := range 6 {
		r.send("T", int32(i%2), fmt.Sprint(i))
	}
	_, list := r.pull("T", 0, 0, "*")
	for _, rec := range list {
		times = append(times, rec.StoreTime())
	}
	reset := func(h protocol.ResetHeader) *protocol.Command {
		h.Topic, h.Group = "T", "CG"
		return r.ask(protocol.InvokeResetOffset, &h, nil)
	}
	want := func(resp *protocol.Command, offsets ...int64) {
		t.Helper()
		got, err := protocol.ParseResetBody(resp.Body)
		if resp.Code != protocol.Success || err != nil || len(got) != len(offsets) {
			t.Fatalf("%d %s %v %v", resp.Code, resp.Remark, got, err)
		}
		for i, o := range offsets {
			if got[i].Offset != o || got[i].Queue.BrokerName != "broker-a" {
				t.Errorf("queue %+v, want offset %d", got[i], o)
			}
		}
	}
	if resp := reset(protocol.ResetHeader{Time: 0, Queue: -1}); resp.Code != protocol.SystemError || !strings.HasPrefix(resp.Remark, "THe consumer group <CG> not exist") {
		t.Errorf("without offsets: %d %q", resp.Code, resp.Remark)
	}
	for q := range int32(2) {
		if err := r.c.Commit(t.Context(), r.addr, "CG", "T", q, 2); err != nil {
			t.Fatal(err)
		}
	}
	if resp := reset(protocol.ResetHeader{Time: -1, Queue: -1}); resp.Code != protocol.ConsumerNotOnline || resp.Remark != "Consumer not online, so can not reset offset, Group: CG Topic: T Timestamp: -1" {
		t.Errorf("without clients: %d %q", resp.Code, resp.Remark)
	}
	if resp := r.ask(protocol.InvokeResetOffset, &protocol.ResetHeader{Topic: "N", Group: "CG", Queue: -1}, nil); resp.Code != protocol.SystemError || resp.Remark != "[reset-offset] reset offset failed, no topic in this broker. topic=N" {
		t.Errorf("without a topic: %d %q", resp.Code, resp.Remark)
	}
	java, cpp := newAsked(nil), newAsked(nil)
	r.consumer(java, "j", "CG", protocol.LangGo, 317, "T")
	r.consumer(cpp, "c", "CG", protocol.LangCPP, 333, "T")

	want(reset(protocol.ResetHeader{Time: -1, Force: true, Queue: -1}), 3, 3)
	j, c := java.next(t), cpp.next(t)
	if body := string(j.Body); j.Code != 220 || !j.IsOneway() || body != `{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:3,{"brokerName":"broker-a","queueId":1,"topic":"T"}:3}}` {
		t.Errorf("told %d %s", j.Code, body)
	}
	if fields := fieldsIn(j); !maps.Equal(fields, map[string]string{"topic": "T", "group": "CG", "timestamp": "-1", "isForce": "false"}) {
		t.Errorf("told with %v", fields)
	}
	if body := string(c.Body); c.Code != 220 || body != `{"offsetTable":[{"brokerName":"broker-a","offset":3,"queueId":0,"topic":"T"},{"brokerName":"broker-a","offset":3,"queueId":1,"topic":"T"}]}` {
		t.Errorf("C++ was told %d %s", c.Code, body)
	}
	want(reset(protocol.ResetHeader{Time: -1, Queue: -1}), 2, 2)
	want(reset(protocol.ResetHeader{Time: 0, Queue: -1}), 0, 0)
	want(reset(protocol.ResetHeader{Time: times[0], Force: true, Queue: 0, To: -1}), 0)
	want(reset(protocol.ResetHeader{Time: -1, Force: true, Queue: 1, To: 1}), 1)
	if resp := reset(protocol.ResetHeader{Time: -1, Queue: 1, To: 4}); resp.Code != protocol.SystemError || resp.Remark != "Target offset 4 not in consume queue range [0-3]" {
		t.Errorf("behind the end: %d %q", resp.Code, resp.Remark)
	}
	if resp := reset(protocol.ResetHeader{Time: -1, Queue: 2, To: 0}); resp.Code != protocol.SystemError {
		t.Errorf("no such queue: %d %q", resp.Code, resp.Remark)
	}
	if o, ok, err := r.c.Offset(t.Context(), r.addr, "CG", "T", 0); o != 2 || !ok || err != nil {
		t.Errorf("the table says %d %v %v", o, ok, err)
	}
	r.consumer(newAsked(nil), "old", "CG", protocol.LangJava, 27, "T")
	if resp := reset(protocol.ResetHeader{Time: -1, Queue: -1}); resp.Code != protocol.SystemError || !strings.HasPrefix(resp.Remark, "the client does not support this feature. version=27") {
		t.Errorf("an old client: %d %q", resp.Code, resp.Remark)
	}
}

// What consumers say of themselves is gathered; who does not answer, or nonsense,
// is named and holds up nobody's answer for longer than its time.
func TestConsumerStatus(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	status := func(id string) (protocol.ConsumerStatus, *protocol.Command) {
		t.Helper()
		resp := r.ask(protocol.InvokeClientStatus, &protocol.StatusHeader{Topic: "T", Group: "CG", ClientID: id}, nil)
		s, _ := protocol.ParseConsumerStatus(resp.Body)
		return s, resp
	}
	if _, resp := status(""); resp.Code != protocol.SystemError || resp.Remark != "No Any Consumer online in the consumer group: [CG]" {
		t.Errorf("without clients: %d %q", resp.Code, resp.Remark)
	}
	at := func(offset int) map[int32]remoting.Response {
		return map[int32]remoting.Response{221: said(0, fmt.Sprintf(`{"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:%d}}`, offset))}
	}
	one := newAsked(at(4))
	r.consumer(one, "one", "CG", protocol.LangJava, 409, "T")
	r.consumer(newAsked(at(7)), "two", "CG", protocol.LangJava, 409, "T")
	q := func(offset int64) protocol.ResetBody {
		return protocol.ResetBody{{Queue: protocol.MessageQueue{Topic: "T", BrokerName: "broker-a"}, Offset: offset}}
	}
	if s, resp := status(""); !reflect.DeepEqual(s, protocol.ConsumerStatus{"one": q(4), "two": q(7)}) || resp.Remark != "" {
		t.Errorf("status %v %q", s, resp.Remark)
	}
	if got := fieldsIn(one.next(t)); !maps.Equal(got, map[string]string{"topic": "T", "group": "CG"}) {
		t.Errorf("asked with %v", got)
	}
	if s, _ := status("two"); !reflect.DeepEqual(s, protocol.ConsumerStatus{"two": q(7)}) {
		t.Errorf("status of one %v", s)
	}
	r.b.relay.wait = time.Millisecond
	r.consumer(newAsked(nil), "slow", "CG", protocol.LangJava, 409, "T")
	r.consumer(newAsked(map[int32]remoting.Response{221: said(0, "{{{")}), "mad", "CG", protocol.LangJava, 409, "T")
	r.consumer(newAsked(map[int32]remoting.Response{221: said(3, "")}), "unable", "CG", protocol.LangJava, 409, "T")
	s, resp := status("")
	if !reflect.DeepEqual(s, protocol.ConsumerStatus{"one": q(4), "two": q(7)}) {
		t.Errorf("status %v", s)
	}
	for _, text := range []string{"not heard of: ", "slow: it gave no answer", "mad: ", "unable: it answered 3"} {
		if !strings.Contains(resp.Remark, text) {
			t.Errorf("the remark %q lacks %q", resp.Remark, text)
		}
	}
}

// A broker that stops while a client is asked does not wait for it, and tells who
// asked.
func TestStopWhileAsking(t *testing.T) {
	r := run(t, nil)
	a := newAsked(nil)
	r.b.relay.wait = time.Hour
	r.consumer(a, "slow", "CG", protocol.LangJava, 409, "T")
	done := make(chan error, 1)
	go func() {
		resp, err := r.c.Call(context.Background(), r.addr, protocol.NewRequest(protocol.GetConsumerRunningInfo, &protocol.RelayHeader{Group: "CG", ClientID: "slow"}, nil))
		if err == nil && (resp.Code != protocol.SystemError || !strings.Contains(resp.Remark, "invoke consumer <CG> <slow> Exception: ")) {
			err = fmt.Errorf("answered %d %q", resp.Code, resp.Remark)
		}
		done <- err
	}()
	a.next(t)
	begun := time.Now()
	r.stop()
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

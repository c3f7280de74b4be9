package namesrv

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"gomq/internal/config"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

func dialServer(t testing.TB, s *Server) *remoting.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := remoting.Dial(ctx, s.Addr(), remoting.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(nil) })
	return c
}

func TestEveryCodeIsServed(t *testing.T) {
	// requests.md, section 6 and section 2, rows with srv N of 4.5 and 4.9.
	for _, code := range []int32{100, 101, 102, 103, 104, 105, 106, 205, 206, 216, 219, 224, 304, 311, 312, 313, 318, 319, 322, 327} {
		if _, ok := routes[code]; !ok {
			t.Errorf("%d %s is not served", code, protocol.RequestName(code))
		}
	}
	if len(routes) != 20 {
		t.Errorf("%d codes are served, want 20", len(routes))
	}
}

// TestMissingFields leaves out what is required: each request is answered with
// what is missing, none with silence.
func TestMissingFields(t *testing.T) {
	s := start(t, testOptions(t))
	c := &script{t: t, srv: s}
	conn := dialServer(t, s)
	for code := range routes {
		r := c.call(conn, 409, code, nil, nil)
		switch code {
		case protocol.GetBrokerClusterInfo, protocol.GetAllTopicListFromNS, protocol.GetSystemTopicListFromNS, protocol.GetUnitTopicList,
			protocol.GetHasUnitSubTopicList, protocol.GetHasUnitSubUnunitList, protocol.GetNamesrvConfig, protocol.UpdateNamesrvConfig:
			if r.Code != protocol.Success {
				t.Errorf("%d: code %d %s", code, r.Code, r.Remark)
			}
		default:
			if r.Code != protocol.SystemError || r.Remark == "" {
				t.Errorf("%d without its fields is answered code %d %q", code, r.Code, r.Remark)
			}
		}
	}
}

// TestBombs sends registrations that inflate to far more than they are.
func TestBombs(t *testing.T) {
	s := start(t, testOptions(t))
	c := &script{t: t, srv: s}
	conn := dialServer(t, s)
	var bomb bytes.Buffer
	z, _ := zlib.NewWriterLevel(&bomb, zlib.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 18 {
		z.Write(zeros)
	}
	z.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, body := range [][]byte{bomb.Bytes(), []byte("{"), []byte("nonsense"), {0x78}, []byte(`{"topicConfigSerializeWrapper":17}`), bytes.Repeat([]byte("["), 1<<20)} {
		h := &protocol.RegisterHeader{BrokerName: "b", BrokerAddr: "10.0.0.1:1", ClusterName: "C", Compressed: true, BodyCRC32: protocol.RegisterCRC(body)}
		if r := c.call(conn, 409, protocol.RegisterBroker, h, body); r.Code != protocol.SystemError || r.Remark == "" || len(r.Remark) > 500 {
			t.Errorf("a body of %d bytes is answered code %d, %.100s", len(body), r.Code, r.Remark)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 100<<20 {
		t.Errorf("%d MiB were allocated for it", took>>20)
	}
	if brokers, _ := s.table.size(); brokers != 0 {
		t.Errorf("%d brokers are registered", brokers)
	}
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	o := testOptions(t)
	o.ListenPort = ln.Addr().(*net.TCPAddr).Port
	_, err = Start(context.Background(), NewLive(o), nil, nil)
	if want := fmt.Sprintf("port %d is in use: stop the process that has it, or set listenPort", o.ListenPort); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("started on a port in use: %v", err)
	}
}

// TestKVFiles starts with what a crash or a bad disk may have left.
func TestKVFiles(t *testing.T) {
	const good, older = `{"configTable":{"N":{"k":"new"}}}`, `{"configTable":{"N":{"k":"old"}}}`
	for _, x := range []struct{ name, file, bak, want string }{
		{"neither", "", "", "<none>"},
		{"both", good, older, "new"},
		{"no backup", good, "", "new"},
		{"only the backup", "", older, "old"},
		{"an empty file", "empty", older, "old"},
		{"a torn file", good[:20], older, "old"},
		{"a torn backup", good, older[:20], "new"},
		{"both torn", good[:20], older[:20], "refused"},
		{"an empty file alone", "empty", "", "refused"},
		{"a torn file alone", good[:20], "", "refused"},
		{"empty tables", `{"configTable":{"N":null}}`, "", "<none>"},
		{"no table", `{}`, "", "<none>"},
		{"of another kind", `[1]`, "", "refused"},
	} {
		t.Run(x.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kvConfig.json")
			for name, text := range map[string]string{path: x.file, path + ".bak": x.bak} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(name, []byte(strings.TrimPrefix(text, "empty")), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			k, err := openKV(path, zap.NewNop())
			if x.want == "refused" {
				if err == nil || !strings.Contains(err.Error(), path) {
					t.Fatalf("opened: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, ok := k.get("N", "k")
			if !ok {
				got = "<none>"
			}
			if got != x.want {
				t.Errorf("N/k is %q, want %q", got, x.want)
			}
		})
	}
}

// TestKVDiskFails cannot write: the change is refused and has not happened.
func TestKVDiskFails(t *testing.T) {
	o := testOptions(t)
	dir := filepath.Dir(o.KVConfigPath)
	s := start(t, o)
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	c := &script{t: t, srv: s}
	conn := dialServer(t, s)
	put := func() *protocol.Command {
		return c.call(conn, 409, protocol.PutKVConfig, &protocol.KVHeader{Put: true, Namespace: "N", Key: "k", Value: "v"}, nil)
	}
	if r := put(); r.Code != protocol.SystemError || !strings.Contains(r.Remark, "was not changed") {
		t.Errorf("answered code %d %s", r.Code, r.Remark)
	}
	if r := c.call(conn, 409, protocol.GetKVConfig, &protocol.KVHeader{Namespace: "N", Key: "k"}, nil); r.Code != protocol.QueryNotFound {
		t.Errorf("the value is there all the same: code %d", r.Code)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if r := put(); r.Code != protocol.Success {
		t.Errorf("when the disk works again: code %d %s", r.Code, r.Remark)
	}
}

func TestKVLimit(t *testing.T) {
	o := testOptions(t)
	o.MaxKVConfigBytes = 100
	s := start(t, o)
	c := &script{t: t, srv: s}
	conn := dialServer(t, s)
	put := func(key string, n int) int32 {
		return c.call(conn, 409, protocol.PutKVConfig, &protocol.KVHeader{Put: true, Namespace: "N", Key: key, Value: strings.Repeat("v", n)}, nil).Code
	}
	if put("a", 90) != protocol.Success || put("b", 20) != protocol.SystemError || put("a", 80) != protocol.Success || put("a", 200) != protocol.SystemError {
		t.Error("the limit of 100 bytes does not hold")
	}
}

// TestUpdateIsKept writes an update into the file and starts from it again.
func TestUpdateIsKept(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "namesrv.properties")
	if err := os.WriteFile(file, []byte("# mine\nlistenHost=127.0.0.1\nlistenPort=0\nkvConfigPath="+dir+"/kv.json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func() Options {
		o, problems, err := LoadOptions(file, []config.Flag{{From: "test", Key: "httpPort", Value: "0"}}, nil)
		if err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		return o
	}
	s := start(t, load())
	c := &script{t: t, srv: s}
	if r := c.call(dialServer(t, s), 409, protocol.UpdateNamesrvConfig, nil, []byte("orderMessageEnable=true\nserverChannelMaxIdleTimeSeconds=60")); r.Code != 0 {
		t.Fatal(r.Remark)
	}
	if o := s.live.Load(); !o.OrderMessageEnable || o.ServerChannelMaxIdleTimeSeconds != 120*time.Second {
		t.Errorf("in effect: order %v, idle %v; want true at once, and 120s until the next start", o.OrderMessageEnable, o.ServerChannelMaxIdleTimeSeconds)
	}
	stop(s)
	o := load()
	if !o.OrderMessageEnable || o.ServerChannelMaxIdleTimeSeconds != time.Minute || o.ConfigStorePath != file {
		t.Errorf("after a restart: order %v, idle %v, file %s", o.OrderMessageEnable, o.ServerChannelMaxIdleTimeSeconds, o.ConfigStorePath)
	}
	if text, _ := os.ReadFile(file); !strings.HasPrefix(string(text), "# mine\n") {
		t.Errorf("the file has become\n%s", text)
	}
}

func TestOptions(t *testing.T) {
	o := DefaultOptions()
	if o.ListenPort != 9876 || o.HTTPPort != 29876 || o.ServerChannelMaxIdleTimeSeconds != 2*time.Minute || o.BrokerExpiredTimeMillis != 2*time.Minute ||
		o.ScanNotActiveBrokerInterval != 10*time.Second || !strings.HasSuffix(o.KVConfigPath, "/namesrv/kvConfig.json") || o.OrderMessageEnable {
		t.Errorf("defaults: %+v", o)
	}
	for text, want := range map[string]string{
		"tls.server.mode=only":            "must be one of",
		"listenPort=99999":                "outside",
		"listenPort=9876 ":                "blank",
		"kvConfigPath=":                   "must name a file",
		"listenHost=1.2.3.4:5":            "without a port",
		"httpPort=9876":                   "is needed for listenPort",
		"orderMessageEnable=yes":          "neither true nor false",
		"listenPort=0\nhttpPort=0\nx=1":   "",
		"listenPort=60000":                "",
		"serverSocketRcvBufSize=x":        "whole number",
		"scanNotActiveBrokerInterval=0":   "outside",
		"bindAddress=0.0.0.0":             "",
		"serverWorkerThreads=16":          "",
		"tls.server.mode=disabled\nx.y=z": "",
	} {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := LoadOptions(file, nil, nil)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	// Every key of 4.9.7's nameserver is known.
	t2 := Keys(&o)
	for _, key := range strings.Fields("serverSocketBacklog writeBufferHighWaterMark serverWorkerThreads serverSelectorThreads serverChannelMaxIdleTimeSeconds " +
		"writeBufferLowWaterMark serverSocketRcvBufSize serverAsyncSemaphoreValue kvConfigPath configStorePath clusterTest orderMessageEnable " +
		"serverSocketSndBufSize serverOnewaySemaphoreValue serverCallbackExecutorThreads listenPort rocketmqHome productEnvName " +
		"useEpollNativeSelector serverPooledByteBufAllocatorEnable configBlackList") {
		if t2.Key(key) == nil {
			t.Errorf("%s is not a key", key)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	o := testOptions(t)
	s, err := Start(context.Background(), NewLive(o), nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	c := &script{t: t, srv: s}
	conn := dialServer(t, s)
	body := protocol.RegisterBody{Topics: map[string]protocol.TopicConfig{"T": {TopicName: "T", TopicFilterType: "SINGLE_TAG"}, "U": {TopicName: "U", TopicFilterType: "SINGLE_TAG"}}}
	h := &protocol.RegisterHeader{BrokerName: "b", BrokerAddr: "10.0.0.1:1", ClusterName: "C"}
	for range 3 {
		c.call(conn, 409, protocol.RegisterBroker, h, body.Append(nil))
	}
	want := map[string]float64{"gomq_namesrv_brokers": 1, "gomq_namesrv_topics": 2, "gomq_namesrv_registrations_total": 3, "gomq_namesrv_expired_total": 0, "gomq_connections": 1}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if v, ok := want[f.GetName()]; ok {
			x := f.GetMetric()[0]
			if got := x.GetGauge().GetValue() + x.GetCounter().GetValue(); got != v {
				t.Errorf("%s is %v, want %v", f.GetName(), got, v)
			}
			delete(want, f.GetName())
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	stop(s)
	if s, err = Start(context.Background(), NewLive(testOptions(t)), nil, reg); err != nil {
		t.Fatal(err) // the names are free again
	}
	stop(s)
}

// TestSweeper lets the real clock and the real sweeper find a silent broker.
func TestSweeper(t *testing.T) {
	o := testOptions(t)
	o.BrokerExpiredTimeMillis, o.ScanNotActiveBrokerInterval = 20*time.Millisecond, 5*time.Millisecond
	s := start(t, o)
	c := &script{t: t, srv: s}
	conn := dialServer(t, s)
	body := protocol.RegisterBody{}
	c.call(conn, 409, protocol.RegisterBroker, &protocol.RegisterHeader{BrokerName: "b", BrokerAddr: "10.0.0.1:1", ClusterName: "C"}, body.Append(nil))
	select {
	case <-conn.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("a silent broker still has its connection")
	}
	if brokers, _ := s.table.size(); brokers != 0 {
		t.Errorf("%d brokers are left", brokers)
	}
}

// TestStandstill stops the nameserver's own clock for ten minutes, as a suspended
// machine does: brokers get the time that they could not be heard in.
func TestStandstill(t *testing.T) {
	now := time.Now()
	tb := newTable(2*time.Minute, func() time.Time { return now })
	r := &registration{RegisterHeader: protocol.RegisterHeader{BrokerName: "a", BrokerAddr: "10.0.0.1:1", ClusterName: "C"},
		conn: &link{id: 1, done: make(chan struct{})}, maxBrokers: 9, maxTopics: 9}
	if _, err := tb.register(r); err != nil {
		t.Fatal(err)
	}
	const every = 10 * time.Second
	look := func(after time.Duration) int {
		now = now.Add(after)
		return len(tb.expire(every))
	}
	if look(every) != 0 || look(10*time.Minute) != 0 {
		t.Error("a broker was lost to a standstill")
	}
	for range 10 {
		if look(every) != 0 {
			t.Fatal("it was not given the time")
		}
	}
	if look(every) != 1 {
		t.Error("a broker that stays silent is never lost")
	}
}

// TestRouteIsEncodedOnce looks at the bytes: they are the same until something
// changes.
func TestRouteIsEncodedOnce(t *testing.T) {
	now := time.Now()
	tb := newTable(time.Minute, func() time.Time { return now })
	l := &link{id: 1, done: make(chan struct{})}
	register := func(name string, counter int64, topics ...string) {
		r := &registration{RegisterHeader: protocol.RegisterHeader{BrokerName: name, BrokerAddr: "10.0.0.1:" + fmt.Sprint(len(name)), ClusterName: "C"}, conn: l, maxBrokers: 9, maxTopics: 9}
		r.Version.Counter, r.Topics = counter, map[string]protocol.TopicConfig{}
		for _, x := range topics {
			r.Topics[x] = protocol.TopicConfig{ReadQueueNums: 1}
		}
		if _, err := tb.register(r); err != nil {
			t.Fatal(err)
		}
	}
	register("a", 1, "T", "U")
	first, other := tb.route("T", true), tb.route("T", false)
	if bytes.Equal(first, other) {
		t.Error("both forms are the same")
	}
	register("a", 1, "T", "U")
	register("a", 2, "T", "U", "V")
	if got := tb.route("T", true); &got[0] != &first[0] {
		t.Error("a registration that changes nothing of T made T's route be encoded again")
	}
	if n := testing.AllocsPerRun(100, func() { tb.route("T", true) }); n > 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
	register("bb", 1, "U")
	if got := tb.route("T", true); !bytes.Equal(got, first) {
		t.Error("T's route has changed")
	}
}

func BenchmarkRoute(b *testing.B) {
	o := testOptions(b)
	s := start(b, o)
	conn := dialServer(b, s)
	body := protocol.RegisterBody{Topics: map[string]protocol.TopicConfig{}}
	for i := range 10_000 {
		name := fmt.Sprint("topic-", i)
		body.Topics[name] = protocol.TopicConfig{TopicName: name, ReadQueueNums: 8, WriteQueueNums: 8, Perm: 6, TopicFilterType: "SINGLE_TAG"}
	}
	ctx := context.Background()
	if _, err := conn.Call(ctx, protocol.NewRequest(protocol.RegisterBroker, &protocol.RegisterHeader{BrokerName: "b", BrokerAddr: "10.0.0.1:1", ClusterName: "C"}, body.Append(nil))); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := conn.Call(ctx, protocol.NewRequest(protocol.GetRouteInfoByTopic, &protocol.RouteHeader{Topic: fmt.Sprint("topic-", i%10_000)}, nil)); err != nil {
			b.Fatal(err)
		}
	}
}

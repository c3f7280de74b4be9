package namesrv

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata answer into them")

// TestScripts runs the scripts in testdata against a real nameserver on loopback
// whose clock only the script moves. A line "> command" is done, the lines under
// it are what it must say; see script.do for the commands.
func TestScripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := newScript(t)
			var out bytes.Buffer
			for block := range strings.SplitSeq(strings.TrimRight(string(text), "\n"), "\n") {
				switch {
				case strings.HasPrefix(block, "> "):
					fmt.Fprintln(&out, block)
					if said := strings.TrimRight(s.do(strings.Fields(block[2:])), "\n"); said != "" {
						fmt.Fprintln(&out, said)
					}
				case block == "" || strings.HasPrefix(block, "#"):
					fmt.Fprintln(&out, block)
				}
			}
			if *rewrite {
				if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			got, want := strings.Split(out.String(), "\n"), strings.Split(string(text), "\n")
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Fatalf("line %d:\n  %s\nwant\n  %s", i+1, got[i], want[i])
				}
			}
			if len(got) != len(want) {
				t.Fatalf("%d lines, want %d", len(got), len(want))
			}
		})
	}
}

// clock is a clock that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// script is a nameserver and the connections that a script has made.
type script struct {
	t     *testing.T
	clock *clock
	opts  Options
	srv   *Server
	conns map[string]*remoting.Conn
}

func testOptions(t testing.TB) Options {
	o := DefaultOptions()
	o.ListenHost, o.ListenPort, o.HTTPPort = "127.0.0.1", 0, 0
	o.KVConfigPath = filepath.Join(t.TempDir(), "namesrv", "kvConfig.json")
	return o
}

func start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Start(context.Background(), NewLive(o), zap.NewNop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(s) })
	return s
}

// stop ends a server without waiting for its clients to leave.
func stop(s *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Stop(ctx)
}

func newScript(t *testing.T) *script {
	s := &script{t: t, clock: &clock{now: time.Unix(1700000000, 0)}, opts: testOptions(t), conns: map[string]*remoting.Conn{}}
	s.opts.Now = s.clock.Now
	s.opts.ScanNotActiveBrokerInterval = time.Hour // the script says when
	s.srv = start(t, s.opts)
	return s
}

func (s *script) conn(name string) *remoting.Conn {
	c := s.conns[name]
	if c == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		var err error
		if c, err = remoting.Dial(ctx, s.srv.Addr(), remoting.Options{}, nil); err != nil {
			s.t.Fatal(err)
		}
		s.conns[name] = c
		s.t.Cleanup(func() { c.Close(nil) })
		s.call(c, 409, protocol.GetAllTopicListFromNS, nil, nil) // it is in once this is answered
	}
	return c
}

// call asks as a peer of that version.
func (s *script) call(c *remoting.Conn, version, code int32, h protocol.Header, body []byte) *protocol.Command {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req := protocol.NewRequest(code, h, body)
	req.Version = version
	resp, err := c.Call(ctx, req)
	if err != nil {
		s.t.Fatalf("request %d: %v", code, err)
	}
	return resp
}

// say is an answer as text: its code and remark, unless it succeeded, and what
// text makes of it.
func say(r *protocol.Command, text func(*protocol.Command) string) string {
	if r.Code != protocol.Success {
		return fmt.Sprintf("code %d: %s", r.Code, strings.ReplaceAll(r.Remark, "\n", `\n`))
	}
	if text == nil {
		return "ok"
	}
	return text(r)
}

func body(r *protocol.Command) string { return string(r.Body) }

func topics(r *protocol.Command) string {
	l, err := protocol.ParseTopicList(r.Body)
	if err != nil {
		return err.Error()
	}
	sort.Strings(l.Topics)
	return strings.TrimSpace(l.BrokerAddr + " [" + strings.Join(l.Topics, " ") + "]")
}

// do carries out one command: NAME COMMAND ARGUMENT..., where NAME is a
// connection, made when it is first used, or one of clock, scan, restart and
// config-file.
func (s *script) do(w []string) string {
	switch w[0] {
	case "clock":
		d, err := time.ParseDuration(w[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.clock.move(d)
		return ""
	case "scan":
		s.srv.scan()
		return ""
	case "restart":
		stop(s.srv)
		clear(s.conns)
		s.srv = start(s.t, s.opts)
		return ""
	case "file":
		b, err := os.ReadFile(s.opts.KVConfigPath + strings.Join(w[1:], ""))
		if err != nil {
			return errors.Unwrap(err).Error()
		}
		return string(b)
	}
	c := s.conn(w[0])
	a := append(w[2:], make([]string, 8)...)
	switch cmd := w[1]; cmd {
	case "register", "register-bare":
		return s.register(c, cmd, w[2:])
	case "unregister":
		return say(s.call(c, 409, protocol.UnregisterBroker, s.broker(a), nil), nil)
	case "version":
		var v protocol.DataVersionReply
		r := s.call(c, 409, protocol.QueryDataVersion, s.broker(a), version(a[3]).Append(nil))
		return say(r, func(r *protocol.Command) string {
			if err := r.Decode(&v); err != nil {
				return err.Error()
			}
			return strings.TrimSpace(fmt.Sprintf("changed=%v %s", v.Changed, r.Body))
		})
	case "close":
		return s.close(w[0], c)
	case "ended":
		<-c.Done()
		delete(s.conns, w[0])
		return ""
	case "route":
		ver := int32(409)
		if a[1] != "" {
			n, _ := strconv.Atoi(a[1])
			ver = int32(n)
		}
		return say(s.call(c, ver, protocol.GetRouteInfoByTopic, &protocol.RouteHeader{Topic: a[0], AcceptStandardJSON: a[2] == "standard"}, nil), body)
	case "cluster":
		return say(s.call(c, 409, protocol.GetBrokerClusterInfo, nil, nil), body)
	case "topics":
		if a[0] != "" {
			return say(s.call(c, 409, protocol.GetTopicsByCluster, &protocol.ClusterHeader{Cluster: a[0]}, nil), topics)
		}
		return say(s.call(c, 409, protocol.GetAllTopicListFromNS, nil, nil), topics)
	case "system":
		return say(s.call(c, 409, protocol.GetSystemTopicListFromNS, nil, nil), topics)
	case "unit":
		code, _ := strconv.Atoi(a[0])
		return say(s.call(c, 409, int32(code), nil, nil), topics)
	case "wipe", "add":
		return s.perm(c, cmd, a[0])
	case "delete":
		return say(s.call(c, 409, protocol.DeleteTopicInNamesrv, &protocol.TopicHeader{Topic: a[0], ClusterName: a[1]}, nil), nil)
	case "code":
		code, _ := strconv.Atoi(a[0])
		return say(s.call(c, 409, int32(code), nil, nil), body)
	}
	return s.admin(c, w[1], a)
}

func (s *script) perm(c *remoting.Conn, cmd, name string) string {
	h := &protocol.BrokerNameHeader{BrokerName: name}
	if cmd == "wipe" {
		var r protocol.WipePermReply
		resp := s.call(c, 409, protocol.WipeWritePermOfBroker, h, nil)
		if err := resp.Decode(&r); err != nil {
			return err.Error()
		}
		return say(resp, func(*protocol.Command) string { return fmt.Sprint(r.Topics, " topics") })
	}
	var r protocol.AddPermReply
	resp := s.call(c, 409, protocol.AddWritePermOfBroker, h, nil)
	if err := resp.Decode(&r); err != nil {
		return err.Error()
	}
	return say(resp, func(*protocol.Command) string { return fmt.Sprint(r.Topics, " topics") })
}

func (s *script) admin(c *remoting.Conn, cmd string, a []string) string {
	kv := func(put bool) *protocol.KVHeader {
		return &protocol.KVHeader{Put: put, Namespace: a[0], Key: a[1], Value: a[2]}
	}
	switch cmd {
	case "put":
		return say(s.call(c, 409, protocol.PutKVConfig, kv(true), nil), nil)
	case "get":
		return say(s.call(c, 409, protocol.GetKVConfig, kv(false), nil), func(r *protocol.Command) string {
			var v protocol.KVReply
			if err := r.Decode(&v); err != nil {
				return err.Error()
			}
			return v.Value
		})
	case "remove":
		return say(s.call(c, 409, protocol.DeleteKVConfig, kv(false), nil), nil)
	case "list":
		return say(s.call(c, 409, protocol.GetKVListByNamespace, &protocol.NamespaceHeader{Namespace: a[0]}, nil), body)
	case "update":
		return say(s.call(c, 409, protocol.UpdateNamesrvConfig, nil, []byte(strings.Join(strings.Fields(strings.Join(a, " ")), "\n"))), nil)
	case "config":
		return say(s.call(c, 409, protocol.GetNamesrvConfig, nil, nil), func(r *protocol.Command) string {
			for line := range strings.SplitSeq(string(r.Body), "\n") {
				if strings.HasPrefix(line, a[0]+"=") {
					return line
				}
			}
			return "no such key"
		})
	}
	s.t.Fatalf("no command %q", cmd)
	return ""
}

// broker reads BROKER ID ADDR.
func (s *script) broker(a []string) *protocol.BrokerHeader {
	id, err := strconv.ParseInt(a[1], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return &protocol.BrokerHeader{BrokerName: a[0], BrokerID: id, BrokerAddr: a[2], ClusterName: "C"}
}

// version reads vN.
func version(v string) protocol.DataVersion {
	n, _ := strconv.ParseInt(strings.TrimPrefix(v, "v"), 10, 64)
	return protocol.DataVersion{Timestamp: 1700000000000, Counter: n}
}

// register reads BROKER ID ADDR vN TOPIC=read/write/perm[/flag]... and the
// options cluster:NAME, ha:ADDR, filter:ADDR, zip, badcrc.
func (s *script) register(c *remoting.Conn, cmd string, a []string) string {
	b := s.broker(a)
	h := &protocol.RegisterHeader{BrokerName: b.BrokerName, BrokerAddr: b.BrokerAddr, ClusterName: "C", BrokerID: b.BrokerID, HAServerAddr: strings.Replace(b.BrokerAddr, ":10911", ":10912", 1)}
	r := protocol.RegisterBody{Version: version(a[3]), Topics: map[string]protocol.TopicConfig{}}
	for _, x := range a[4:] {
		if name, spec, ok := strings.Cut(x, "="); ok {
			t := protocol.TopicConfig{TopicName: name, TopicFilterType: "SINGLE_TAG"}
			fmt.Sscanf(strings.ReplaceAll(spec, "/", " "), "%d %d %d %d", &t.ReadQueueNums, &t.WriteQueueNums, &t.Perm, &t.TopicSysFlag)
			r.Topics[name] = t
			continue
		}
		switch key, value, _ := strings.Cut(x, ":"); key {
		case "cluster":
			h.ClusterName = value
		case "ha":
			h.HAServerAddr = value
		case "filter":
			r.FilterServers = append(r.FilterServers, value)
		case "zip":
			h.Compressed = true
		case "badcrc":
			h.BodyCRC32 = 1
		default:
			s.t.Fatalf("what is %q", x)
		}
	}
	ver, data := int32(409), r.Append(nil)
	switch {
	case cmd == "register-bare": // as before 3.0.11
		ver, data = 36, protocol.AppendTopicTable(nil, pointers(r.Topics), r.Version)
	case h.Compressed:
		data = r.AppendCompressed(nil)
	}
	if h.BodyCRC32 == 0 {
		h.BodyCRC32 = protocol.RegisterCRC(data)
	}
	return say(s.call(c, ver, protocol.RegisterBroker, h, data), func(r *protocol.Command) string {
		var reply protocol.RegisterReply
		if err := r.Decode(&reply); err != nil {
			return err.Error()
		}
		return strings.Join(strings.Fields(fmt.Sprintf("ok %s %s %s", reply.MasterAddr, reply.HAServerAddr, r.Body)), " ")
	})
}

func pointers(m map[string]protocol.TopicConfig) map[string]*protocol.TopicConfig {
	out := map[string]*protocol.TopicConfig{}
	for k, v := range m {
		out[k] = &v
	}
	return out
}

// close closes a connection and waits until the nameserver has dealt with it.
func (s *script) close(name string, c *remoting.Conn) string {
	local := c.Local()
	c.Close(nil)
	delete(s.conns, name)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s.srv.table.mu.Lock()
		known := false
		for src := range s.srv.table.sources {
			known = known || src.(*remoting.Conn).Remote() == local
		}
		s.srv.table.mu.Unlock()
		if !known {
			return ""
		}
		if time.Now().After(end) {
			s.t.Fatal("the nameserver does not notice the end of a connection")
		}
	}
}

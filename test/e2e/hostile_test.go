package e2e

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/goclient"
	"gomq/test/harness"
	"gomq/test/raw"
)

// closeLimit is how long a server may keep a connection on which a frame was
// begun and not completed: 10 seconds, the exactness of its sweep, and what a
// busy machine adds.
const closeLimit = 25 * time.Second

// readerLimit is the same for a connection that reads nothing.
const readerLimit = 60 * time.Second

// beside is a normal producer and consumer that run while others are hostile.
type beside struct {
	run    *checker.Run
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sends  atomic.Int64
	worst  atomic.Int64 // longest send, nanoseconds
}

// startBeside keeps one producer and one consumer busy on a topic of their own.
// Neither tries anything twice.
func startBeside(t testing.TB, broker *harness.Server, topic string) *beside {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &beside{run: checker.NewRun(harness.Rand(t)), cancel: cancel}
	producer, consumer := dial(t, broker.Addr()), dial(t, broker.Addr())
	producer.Limit, consumer.Limit = 20*time.Second, 30*time.Second
	if err := producer.NewTopic(topic, 1); err != nil {
		t.Fatal(err)
	}
	b.wg.Add(2)
	go func() {
		defer b.wg.Done()
		for seq := int64(0); ctx.Err() == nil; seq++ {
			m := b.run.Begin(checker.Attempt{ID: checker.ID{Seq: seq}, N: 1}, topic, 0, 300)
			start := time.Now()
			sent, err := producer.Send("pg-beside", topic, 0, goclient.RawProps(m), m.Body)
			if err != nil || sent.Code != raw.Success {
				t.Errorf("the producer beside suffers: %+v, %v", sent, err)
				return
			}
			b.worst.Store(max(b.worst.Load(), int64(time.Since(start))))
			b.run.Acked(m, sent.Queue, sent.Offset, sent.ID)
			b.sends.Add(1)
			time.Sleep(time.Millisecond)
		}
	}()
	go func() {
		defer b.wg.Done()
		for at := int64(0); ; {
			p, err := consumer.Pull("g-beside", topic, 0, at, 32, time.Second)
			if err != nil {
				t.Errorf("the consumer beside suffers: %v", err)
				return
			}
			for _, r := range p.Records {
				b.run.Polled("g-beside", goclient.RawRecord(r))
			}
			at = p.Next
			if ctx.Err() != nil && len(p.Records) == 0 {
				return
			}
		}
	}()
	return b
}

// finish stops both and checks that nothing was lost.
func (b *beside) finish(t testing.TB, broker *harness.Server, topic string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, "a hundred sends beside", func() bool { return b.sends.Load() >= 100 || t.Failed() })
	b.cancel()
	b.wg.Wait()
	c := dial(t, broker.Addr())
	waitIndex(t, c, b.run)
	goclient.Sweep(t, b.run, "end", c, topic, 1)
	goclient.LookUp(t, b.run, c)
	rules := checker.Rules{NoFaults: true, Once: true, Ordered: true, Drained: true, Groups: []string{"g-beside"}, Lookups: true, PlannedSends: 100}
	if v := b.run.Check(rules); !v.Valid() {
		t.Error(v)
	}
	t.Logf("beside: %d sends, the longest took %v", b.sends.Load(), time.Duration(b.worst.Load()).Round(time.Millisecond))
}

// watchRSS reports the highest memory of a process until stopped.
func watchRSS(s *harness.Server) (stop func() (before, most int64)) {
	before := s.RSS()
	done, result := make(chan struct{}), make(chan int64)
	go func() {
		most := before
		for {
			select {
			case <-done:
				result <- most
				return
			case <-time.After(20 * time.Millisecond):
				if s.Running() {
					most = max(most, s.RSS())
				}
			}
		}
	}()
	return func() (int64, int64) { close(done); return before, <-result }
}

// target is a port to be hostile to.
type target struct{ name, addr string }

// TestHostileInput sends what no client sends to every port, while a normal
// producer and consumer go on.
func TestHostileInput(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{})
	targets := []target{{"namesrv", ns.Addr()}, {"broker", broker.Addr()}, {"port-2", broker.VIPAddr()}, {"TLS", overTLS + broker.Addr()}}
	if addr := fmt.Sprintf("127.0.0.1:%d", broker.Ports.HA); harness.Reachable(addr) {
		targets = append(targets, target{"ha", addr})
	}
	w := &world{ns, broker}
	w.topic(t, "Wide") // for readers that do not read
	for i := range 16 {
		if _, err := w.dial(t).Send("pg", "Wide", i%4, "", content(i, 256<<10)); err != nil {
			t.Fatal(err)
		}
	}
	b := startBeside(t, broker, "Beside")
	memory := map[*harness.Server]func() (int64, int64){ns: watchRSS(ns), broker: watchRSS(broker)}
	files := map[*harness.Server]int{ns: ns.Files(), broker: broker.Files()}

	t.Run("attacks", func(t *testing.T) {
		for _, at := range targets {
			for name, attack := range map[string]func(*testing.T, target){
				"BadFrames": badFrames, "Garbage": garbage, "WideHeaders": wideHeaders, "StopMidFrame": stopMidFrame, "SlowWriters": slowWriters,
			} {
				if at.name == "ha" && name != "Garbage" && name != "StopMidFrame" {
					continue // that port does not speak in frames
				}
				if at.name == "TLS" && name != "BadFrames" && name != "StopMidFrame" && name != "WideHeaders" {
					continue // the others are the same once they are through
				}
				t.Run(at.name+"/"+name, func(t *testing.T) { t.Parallel(); attack(t, at) })
			}
			if at.name == "ha" {
				continue
			}
			if at.name == "TLS" {
				t.Run("TLS/Stalled", func(t *testing.T) { t.Parallel(); stalledHandshakes(t, broker.Addr()) })
				t.Run("TLS/SlowReaders", func(t *testing.T) { t.Parallel(); slowReaders(t, at) })
				continue
			}
			t.Run(at.name+"/Bombs", func(t *testing.T) { t.Parallel(); bombs(t, at) })
			t.Run(at.name+"/BadBodies", func(t *testing.T) { t.Parallel(); badBodies(t, at) })
			t.Run(at.name+"/SlowReaders", func(t *testing.T) { t.Parallel(); slowReaders(t, at) })
		}
	})

	b.finish(t, broker, "Beside")
	for _, s := range []*harness.Server{ns, broker} {
		before, most := memory[s]()
		t.Logf("%s: RssAnon %d MiB before, %d MiB at most", s.Role, before>>20, most>>20)
		// What the limits allow: 64 MiB for each thousand of 4,000 hostile
		// connections, 256 MiB of requests and 256 MiB of answers over all.
		if grown := most - before; grown > 768<<20 {
			t.Errorf("%s grew by %d MiB", s.Role, grown>>20)
		}
		harness.Eventually(t, 30*time.Second, s.Role+" to give back its descriptors", func() bool { return s.Files() < files[s]+50 })
		if strings.Contains(s.Log(), "panic") {
			t.Errorf("%s panicked:\n%s", s.Role, s.Log())
		}
	}
	for _, at := range targets {
		if at.name == "ha" {
			continue
		}
		// Everything is still served on every port.
		if cmd, err := dial(t, at.addr).Call(31999, nil, nil); err != nil || cmd.Code != raw.NotSupported {
			t.Errorf("%s afterwards: %+v, %v", at.name, cmd, err)
		}
	}
}

// hostile opens a connection that no reader runs on.
func hostile(t testing.TB, addr string) net.Conn {
	t.Helper()
	under, secret := strings.CutPrefix(addr, overTLS)
	c, err := net.DialTimeout("tcp", under, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if secret {
		return shake(t, c)
	}
	return c
}

// closed waits until the server closes the connection; answers before that
// are allowed.
func closed(c net.Conn, limit time.Duration) error {
	c.SetReadDeadline(time.Now().Add(limit))
	_, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("still open after %v", limit)
	}
	return nil
}

// refusedOrClosed waits for an answer that is not SUCCESS, or the end of the
// connection.
func refusedOrClosed(c net.Conn, limit time.Duration) error {
	c.SetReadDeadline(time.Now().Add(limit))
	cmd, _, err := raw.Read(c)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("neither an answer nor a close within %v", limit)
	case err == nil && cmd.Code == raw.Success:
		return fmt.Errorf("answered with SUCCESS: %+v", cmd)
	}
	return nil
}

func u32(vs ...uint32) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// badFrames: lengths and marks that cannot be. The connection is closed, at
// once where the bytes show it.
func badFrames(t *testing.T, at target) {
	valid := (&raw.Command{Code: 105, Language: "JAVA", Ext: map[string]string{"topic": "T"}}).Encode()
	frames := map[string][]byte{
		"length 0":                  u32(0, 0, 0, 0),
		"length 3":                  u32(3, 0, 0),
		"length -1":                 u32(0xffffffff, 0, 0),
		"length 2^31-1":             u32(0x7fffffff, 10, 0),
		"length 2^31":               u32(0x80000000, 10, 0),
		"length 16 MiB":             u32(16<<20, 10, 0),
		"header longer than frame":  append(u32(20, 17), make([]byte, 30)...),
		"header of 2^24-1":          append(u32(100, 0xffffff), make([]byte, 100)...),
		"serialize type 7":          append(u32(30, 7<<24|26), make([]byte, 26)...),
		"serialize type 255":        append(u32(30, 255<<24|26), make([]byte, 26)...),
		"no header":                 append(u32(34, 0), make([]byte, 30)...),
		"header that is no JSON":    raw.Frame(0, []byte("this is not a header at all"), nil),
		"header that is an array":   raw.Frame(0, []byte("[1,2,3]"), nil),
		"binary header cut short":   raw.Frame(1, make([]byte, 9), nil),
		"binary remark too long":    raw.Frame(1, append(make([]byte, 13), u32(0x7fffffff, 0)...), nil),
		"binary remark negative":    raw.Frame(1, append(make([]byte, 13), u32(0xfffffff0, 0)...), nil),
		"binary ext too long":       raw.Frame(1, append(make([]byte, 17), u32(0x7fffffff)...), nil),
		"binary key beyond the ext": raw.Frame(1, append(append(make([]byte, 17), u32(6)...), 0x7f, 0xff, 1, 2, 3, 4), nil),
		"a valid frame, then junk":  append(slices.Clone(valid), u32(0xdeadbeef, 0xdeadbeef, 1, 2, 3)...),
	}
	for _, name := range slices.Sorted(maps.Keys(frames)) {
		c := hostile(t, at.addr)
		c.Write(frames[name])
		if err := closed(c, closeLimit); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// garbage: other protocols and random bytes.
func garbage(t *testing.T, at target) {
	rng := harness.Rand(t)
	words := [][]byte{
		[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		[]byte("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"),
		[]byte("*1\r\n$4\r\nPING\r\n"),
		{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03}, // the beginning of a TLS hello
		bytes.Repeat([]byte{0xff}, 4096),
		make([]byte, 4096),
	}
	for range 100 {
		b := make([]byte, rng.IntN(8192)+1)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if rng.IntN(2) == 0 && len(b) > 8 {
			// A plausible length, so that more of the frame is looked at.
			binary.BigEndian.PutUint32(b, uint32(len(b)-4))
			binary.BigEndian.PutUint32(b[4:], uint32(rng.IntN(2))<<24|uint32(rng.IntN(len(b))))
		}
		words = append(words, b)
	}
	var conns []net.Conn
	for _, w := range words {
		c := hostile(t, at.addr)
		c.Write(w)
		conns = append(conns, c)
	}
	for i, c := range conns {
		// Half a frame may be what the bytes look like, and a silent
		// connection is allowed: the client goes first.
		if err := closed(c, closeLimit); err != nil && len(words[i]) > 8 && at.name != "ha" {
			t.Errorf("%q...: %v", words[i][:min(len(words[i]), 24)], err)
		}
		c.Close()
	}
}

// wideHeaders: a million fields, deep nesting, long values, wrong text.
func wideHeaders(t *testing.T, at target) {
	var wide, deep bytes.Buffer
	wide.WriteString(`{"code":105,"language":"JAVA","version":409,"opaque":1,"flag":0,"extFields":{`)
	for i := range 1_000_000 {
		if i > 0 {
			wide.WriteByte(',')
		}
		fmt.Fprintf(&wide, `"k%d":"v"`, i)
	}
	wide.WriteString("}}")
	var pairs []byte
	for i := range 1_000_000 {
		pairs = append(pairs, 0, 4, byte(i>>24), byte(i>>16), byte(i>>8), byte(i), 0, 0, 0, 1, 'v')
	}
	binaryWide := append(make([]byte, 17), u32(uint32(len(pairs)))...)
	binaryWide = append(binaryWide, pairs...)
	deep.WriteString(`{"code":105,"extFields":{"a":`)
	deep.Write(bytes.Repeat([]byte("["), 5_000_000))
	headers := map[string][]byte{
		"a million fields":        raw.Frame(0, wide.Bytes(), nil),
		"a million binary fields": raw.Frame(1, binaryWide, nil),
		"five million brackets":   raw.Frame(0, deep.Bytes(), nil),
		"a value of 8 MiB":        raw.Frame(0, fmt.Appendf(nil, `{"code":105,"extFields":{"topic":"%s"}}`, strings.Repeat("x", 8<<20)), nil),
		"escapes":                 raw.Frame(0, fmt.Appendf(nil, `{"code":105,"extFields":{"topic":"%s"}}`, strings.Repeat(`\u0000`, 100_000)), nil),
		"not UTF-8":               raw.Frame(0, []byte("{\"code\":105,\"extFields\":{\"topic\":\"\xff\xfe\xc0\x80\"}}"), nil),
		"half a surrogate":        raw.Frame(0, []byte(`{"code":105,"extFields":{"topic":"\ud800"}}`), nil),
		"the same key twice":      raw.Frame(0, []byte(`{"code":105,"code":31999,"extFields":{"topic":"a","topic":"b"}}`), nil),
		"huge numbers":            raw.Frame(0, []byte(`{"code":99999999999999999999999,"opaque":1e400,"flag":-0.5}`), nil),
		"numbers as text":         raw.Frame(0, []byte(`{"code":"105","extFields":{"topic":{"a":1}}}`), nil),
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		c := hostile(t, at.addr)
		// The server may close before it has read it all.
		c.SetWriteDeadline(time.Now().Add(closeLimit))
		c.Write(headers[name])
		if err := refusedOrClosed(c, closeLimit); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// stopMidFrame: 2,000 connections that stop in the middle of a frame. They are
// closed in time, and new clients get in meanwhile.
func stopMidFrame(t *testing.T, at target) {
	n := 2000
	if at.name == "TLS" {
		n = 300 // each costs a handshake
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && limit.Max < 12000 {
		harness.Skip(t, fmt.Sprintf("needs 12,000 open files, %d are allowed", limit.Max))
	}
	valid := (&raw.Command{Code: 105, Language: "JAVA", Ext: map[string]string{"topic": "T"}, Body: make([]byte, 200)}).Encode()
	rng := harness.Rand(t)
	var conns []net.Conn
	for range n {
		c := hostile(t, at.addr)
		c.Write(valid[:1+rng.IntN(len(valid)-1)])
		conns = append(conns, c)
	}
	if at.name != "ha" {
		if cmd, err := dial(t, at.addr).Call(31999, nil, nil); err != nil || cmd.Code != raw.NotSupported {
			t.Errorf("a new client beside %d stuck ones: %+v, %v", n, cmd, err)
		}
	}
	open := 0
	for _, c := range conns {
		if err := closed(c, closeLimit); err != nil {
			open++
		}
		c.Close()
	}
	if open > 0 && at.name != "ha" {
		t.Errorf("%d of %d connections are still open", open, n)
	}
}

// slowWriters: a byte now and then, which never becomes a frame in time.
func slowWriters(t *testing.T, at target) {
	const n = 100
	valid := (&raw.Command{Code: 105, Language: "JAVA", Ext: map[string]string{"topic": "T"}, Body: make([]byte, 2000)}).Encode()
	var wg sync.WaitGroup
	var kept atomic.Int64
	for range n {
		c := hostile(t, at.addr)
		wg.Add(1)
		go func() {
			defer wg.Done()
			deadline := time.Now().Add(closeLimit)
			for _, b := range valid {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				if time.Now().After(deadline) {
					kept.Add(1)
					return
				}
				time.Sleep(500 * time.Millisecond)
			}
		}()
	}
	wg.Wait()
	if k := kept.Load(); k > 0 {
		t.Errorf("%d of %d connections were allowed to write a byte each half second for %v", k, n, closeLimit)
	}
}

// slowReaders ask for much and read nothing.
func slowReaders(t *testing.T, at target) {
	const n = 20
	ask := (&raw.Command{Code: 206, Language: "JAVA", Version: 409}).Encode()
	if at.name != "namesrv" {
		ask = (&raw.Command{Code: raw.PullMessage, Language: "JAVA", Version: 409, Ext: map[string]string{"consumerGroup": "g-slow", "topic": "Wide", "queueId": "0",
			"queueOffset": "0", "maxMsgNums": "32", "sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0", "subscription": "*", "subVersion": "0", "expressionType": "TAG"}}).Encode()
	}
	// A small window from the first packet on. Made small later it is shrunk,
	// and the kernels on both sides may then wait for each other.
	narrow := net.Dialer{Timeout: 20 * time.Second, Control: func(_, _ string, c syscall.RawConn) (err error) {
		if cerr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10) }); cerr != nil {
			return cerr
		}
		return err
	}}
	var wg sync.WaitGroup
	var kept atomic.Int64
	for range n {
		c, err := narrow.Dial("tcp", strings.TrimPrefix(at.addr, overTLS))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if at.name == "TLS" {
			c = shake(t, c)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			// Answers of up to a quarter of a MiB are asked for until the
			// server has had enough: it stops reading, and as nothing of what
			// it has written goes away, it closes: ten seconds after the
			// kernel's buffers are full.
			deadline := time.Now().Add(readerLimit)
			for time.Now().Before(deadline) {
				c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
				if at.name == "TLS" {
					c.SetWriteDeadline(deadline) // TLS is of no use after a write that was cut off
				}
				if _, err := c.Write(ask); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
			}
			kept.Add(1)
		}()
	}
	wg.Wait()
	if k := kept.Load(); k > 0 {
		t.Errorf("%d of %d connections that read nothing are still open after %v", k, n, readerLimit)
	}
}

// bomb is a zlib stream that inflates to n zeros.
func bomb(n int) []byte {
	var b bytes.Buffer
	z, _ := zlib.NewWriterLevel(&b, zlib.BestCompression)
	zero := make([]byte, 1<<20)
	for ; n > 0; n -= len(zero) {
		z.Write(zero)
	}
	z.Close()
	return b.Bytes()
}

// bombs: registrations and messages that inflate to a thousand times their
// size, and batches whose lengths lie.
func bombs(t *testing.T, at target) {
	big := bomb(512 << 20)
	register := func(body []byte) []byte {
		return (&raw.Command{Code: raw.RegisterBroker, Language: "JAVA", Version: 409, Ext: map[string]string{
			"brokerName": "bomb", "brokerAddr": "127.0.0.1:1", "clusterName": "c", "haServerAddr": "127.0.0.1:2", "brokerId": "0",
			"compressed": "true", "bodyCrc32": fmt.Sprint(crc32.ChecksumIEEE(body) & 0x7fffffff),
		}, Body: body}).Encode()
	}
	// A stream whose inner lengths claim more than there is.
	var lying bytes.Buffer
	z := zlib.NewWriter(&lying)
	z.Write(u32(2))
	z.Write([]byte("{}"))
	z.Write(u32(0x7fffffff, 0x7fffffff))
	z.Close()
	frames := map[string][]byte{
		"zlib bomb":           register(big),
		"lying counts":        register(lying.Bytes()),
		"cut stream":          register(big[:len(big)/2]),
		"not zlib":            register([]byte("\x78\x9cnonsense, that is no stream at all")),
		"JSON of 10 MiB of [": register(bytes.Repeat([]byte("["), 10<<20)),
	}
	batch := func(body []byte) []byte {
		return (&raw.Command{Code: raw.SendBatch, Language: "JAVA", Version: 409, Ext: map[string]string{
			"a": "pg-bomb", "b": "Bombed", "c": "TBW102", "d": "4", "e": "0", "f": "0", "g": "1700000000000", "h": "0", "i": "", "j": "0", "k": "false", "l": "0", "m": "true",
		}, Body: body}).Encode()
	}
	if at.name != "namesrv" {
		frames["batch, negative size"] = batch(u32(0xffffffff, 0, 0, 0, 5, 0, 0))
		frames["batch, size 0"] = batch(u32(0, 0, 0, 0, 0))
		frames["batch, body longer than it"] = batch(u32(30, 0, 0, 0, 0x7fffffff, 0, 0, 0))
		frames["batch, cut in the middle"] = batch(append(u32(100, 0, 0, 0, 50), make([]byte, 20)...))
		long := raw.SendExt("pg-bomb", "Bombed", 0, raw.Props("K", strings.Repeat("v", 40_000)))
		frames["properties of 40,000 bytes"] = (&raw.Command{Code: raw.SendMessage, Language: "JAVA", Ext: long, Body: []byte("x")}).Encode()
	}
	for _, name := range slices.Sorted(maps.Keys(frames)) {
		c := hostile(t, at.addr)
		c.SetWriteDeadline(time.Now().Add(closeLimit))
		c.Write(frames[name])
		if err := refusedOrClosed(c, closeLimit); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// badBodies: every request code with fields and bodies that make no sense, and
// with names that reach for other places. Each is answered or the connection
// is closed; what is answered is never a success that leaves the store.
func badBodies(t *testing.T, at target) {
	rng := harness.Rand(t)
	codes := []int{10, 11, 12, 14, 15, 17, 21, 25, 26, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 41, 42, 43, 45, 46, 100, 101, 102, 103, 104, 105, 106,
		200, 201, 202, 203, 204, 205, 206, 207, 208, 215, 216, 219, 222, 223, 224, 300, 301, 304, 305, 306, 307, 308, 309, 310, 311, 312, 313, 314, 315, 316, 317,
		318, 319, 320, 321, 322, 323, 324, 325, 327, 328, 329, 351, 352, 361, -1, 0, 99999}
	if at.name != "namesrv" {
		codes = slices.DeleteFunc(codes, func(c int) bool { return c == 25 }) // a broker's configuration is left alone here
	}
	names := []string{"../../../../tmp/escape", "/tmp/escape", "..", ".", "", "a/b", "a\x00b", "%2e%2e%2f", strings.Repeat("n", 128), strings.Repeat("n", 65536), "\u202ereversed", "%RETRY%", "%DLQ%../x", "T\n", "TBW102", "-1"}
	fields := []string{"topic", "b", "consumerGroup", "producerGroup", "a", "group", "groupName", "queueId", "e", "queueOffset", "maxMsgNums", "sysFlag", "f", "key", "offset",
		"timestamp", "clientID", "clientId", "brokerName", "brokerAddr", "clusterName", "namespace", "value", "readQueueNums", "writeQueueNums", "perm", "delayLevel", "subscription", "expressionType", "properties", "i", "commitOffset", "brokerId", "compressed", "maxNum", "beginTimestamp", "endTimestamp", "haServerAddr", "suspendTimeoutMillis", "originMsgId", "bodyCrc32", "reconsumeTimes", "commitOrRollback", "commitLogOffset", "tranStateTableOffset", "defaultTopic", "defaultTopicQueueNums", "topicFilterType", "subVersion", "index", "count", "statsName", "statsKey", "filterGroups", "compareGroup", "srcGroup", "destGroup"}
	numbers := []string{"-1", "0", "1", "2147483647", "-2147483648", "9223372036854775807", "-9223372036854775808", "99999999999999999999", "1e9", "NaN", "0x10", " 1", "١"}
	bodies := [][]byte{nil, []byte("{}"), []byte("[]"), []byte("null"), []byte(`{"clientID":null,"consumerDataSet":{"a":1}}`), []byte(`{"mqSet":[null,1,"x",{"queueId":"9999999999999"}]}`),
		bytes.Repeat([]byte("["), 100_000), []byte(`{"groupName":"../../escape","retryMaxTimes":-5}`), []byte("a=b\nlistenPort=x\n"), {0xff, 0xfe, 0x00}, make([]byte, 1<<16)}
	pick := func() string {
		if rng.IntN(2) == 0 {
			return names[rng.IntN(len(names))]
		}
		return numbers[rng.IntN(len(numbers))]
	}
	c, silent := hostile(t, at.addr), 0
	for round := range 3 {
		for _, code := range codes {
			ext := map[string]string{}
			for _, f := range fields {
				if rng.IntN(4) > 0 {
					ext[f] = pick()
				}
			}
			if ext["suspendTimeoutMillis"] != "" {
				ext["suspendTimeoutMillis"] = "100"
			}
			cmd := raw.Command{Code: code, Language: "JAVA", Version: rng.IntN(600) - 50, Opaque: int32(rng.Uint32()), Ext: ext, Body: bodies[rng.IntN(len(bodies))]}
			frame := cmd.Encode()
			if rng.IntN(2) == 0 && code > -2 && code < 32768 && !slices.ContainsFunc(slices.Collect(maps.Values(ext)), func(s string) bool { return len(s) > 32767 }) {
				frame = cmd.EncodeBinary()
			}
			c.SetDeadline(time.Now().Add(15 * time.Second))
			if _, err := c.Write(frame); err == nil {
				_, _, err = raw.Read(c)
				if err == nil {
					continue
				}
				if errors.Is(err, os.ErrDeadlineExceeded) {
					silent++
					t.Errorf("round %d: code %d was not answered", round, code)
				}
			}
			if silent > 5 {
				return
			}
			c.Close()
			c = hostile(t, at.addr)
		}
	}
	if _, err := os.Stat("/tmp/escape"); err == nil {
		t.Error("a name has reached /tmp/escape")
	}
}

// TestOverload: with low admission limits a flood is refused with code 2
// before anything is appended, what is acknowledged is there, what is refused
// is not, and a producer that keeps to the rate gets its messages in.
func TestOverload(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	broker := harness.StartBroker(t, "", harness.Config{Props: map[string]string{
		"flushDiskType": "SYNC_FLUSH", "sendThreadPoolQueueCapacity": "20", "waitTimeMillsInSendQueue": "200",
	}})
	if err := dial(t, broker.Addr()).NewTopic("Flood", 4); err != nil {
		t.Fatal(err)
	}
	run := checker.NewRun(harness.Rand(t))
	stopRSS := watchRSS(broker)
	var wg sync.WaitGroup
	var busy atomic.Int64
	const conns, each = 8, 600
	for p := range conns {
		c := dial(t, broker.Addr())
		c.Limit = 30 * time.Second
		wg.Add(1)
		go func() {
			defer wg.Done()
			// All at once, far above what may wait for the disk.
			type pending struct {
				m    checker.Message
				wait func() (*raw.Command, error)
			}
			var list []pending
			for seq := range each {
				m := run.Begin(checker.Attempt{ID: checker.ID{Producer: p, Seq: int64(seq)}, N: 1}, "Flood", p%4, 500)
				wait, err := c.Go(raw.SendMessage, raw.SendExt("pg-flood", "Flood", p%4, goclient.RawProps(m)), m.Body)
				if err != nil {
					t.Errorf("producer %d: %v", p, err)
					return
				}
				list = append(list, pending{m, wait})
			}
			for _, x := range list {
				cmd, err := x.wait()
				switch {
				case err != nil:
					t.Errorf("%v: %v", x.m.Attempt, err)
					run.Unknown(x.m, err.Error())
				case cmd.Code == raw.Success:
					var q int
					var off int64
					fmt.Sscan(cmd.Ext["queueId"], &q)
					fmt.Sscan(cmd.Ext["queueOffset"], &off)
					run.Acked(x.m, q, off, cmd.Ext["msgId"])
				case cmd.Code == raw.SystemBusy:
					busy.Add(1)
					run.Refused(x.m, cmd.Code, cmd.Remark)
				case cmd.Code == raw.FlushDiskTimeout:
					run.Unknown(x.m, "flush timeout")
				default:
					t.Errorf("%v: code %d: %s", x.m.Attempt, cmd.Code, cmd.Remark)
				}
			}
		}()
	}
	wg.Wait()
	if busy.Load() == 0 {
		t.Error("nothing was refused")
	}
	// Afterwards everything is accepted again.
	c := dial(t, broker.Addr())
	for i := range 20 {
		m := run.Begin(checker.Attempt{ID: checker.ID{Producer: 99, Seq: int64(i)}, N: 1}, "Flood", 0, 500)
		sent, err := c.Send("pg-calm", "Flood", 0, goclient.RawProps(m), m.Body)
		if err != nil || sent.Code != raw.Success {
			t.Fatalf("after the flood: %+v, %v", sent, err)
		}
		run.Acked(m, sent.Queue, sent.Offset, sent.ID)
	}
	waitIndex(t, c, run)
	goclient.Sweep(t, run, "end", c, "Flood", 4)
	goclient.LookUp(t, run, c)
	if v := run.Check(checker.Rules{NoFaults: true, Ordered: true, Lookups: true, PlannedSends: conns * each}); !v.Valid() {
		t.Error(v)
	}
	before, most := stopRSS()
	t.Logf("%d acknowledged, %d refused as busy; RssAnon %d MiB before, %d at most", run.Count(checker.OpAck), busy.Load(), before>>20, most>>20)
	if most-before > 128<<20 {
		t.Errorf("the broker grew by %d MiB", (most-before)>>20)
	}
	m := harness.ReadMetrics(t, broker.HTTP())
	if n, ok := m.Sum("gomq_refusals_total"); !ok || int64(n) < busy.Load() {
		t.Errorf("gomq_refusals_total is %v, %d were refused", n, busy.Load())
	}
}

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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

	"gomq/test/harness"
	"gomq/test/raw"
)

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

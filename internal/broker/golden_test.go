package broker

import (
	"encoding/binary"
	"io"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gomq/internal/golden"
	"gomq/internal/protocol"
)

// frames are the recorded sessions of the official clients with a 4.9.7 broker,
// by file name.
func frames(t *testing.T) map[string][]byte {
	t.Helper()
	list, err := golden.Read("../protocol/testdata/wire.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range list {
		files[f.Name] = f.Data
	}
	return files
}

func parse(t *testing.T, name string, frame []byte) *protocol.Command {
	t.Helper()
	var c protocol.Command
	if err := c.Parse(frame[4:]); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &c
}

// codeOf is the request code in a recording's file name.
func codeOf(name string) int32 {
	text, _, _ := strings.Cut(path.Base(name), "-")
	n, _ := strconv.Atoi(text)
	return int32(n)
}

// The requests that the official clients sent to a 4.9.7 broker get from gomq an
// answer with the code and the fields that they got from it, byte order and
// encoding of the header included where the client chose it.
func TestRecordedRequests(t *testing.T) {
	files := frames(t)
	r := run(t, func(o *Options) {
		o.LongPollingEnable, o.ShortPollingTimeMills, o.EnablePropertyFilter = false, 10*time.Millisecond, true
	})
	// Heartbeats first, then sends, then what looks at them.
	order := []int32{34, 10, 310, 320, 15, 14, 29, 30, 31, 32, 38, 46, 41, 42, 11, 361, 35}
	replayed := map[int32]int{}
	for _, session := range []string{"java-4.5.2", "java-4.9.8", "java-4.9.8-binary", "java-5.3.3", "go-2.1.2", "node-rocketmq"} {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var names []string
		for name := range files {
			if strings.HasPrefix(name, session+"/") && !strings.HasSuffix(name, "-resp.bin") && slices.Contains(order, codeOf(name)) && files[strings.TrimSuffix(name, ".bin")+"-resp.bin"] != nil {
				names = append(names, name)
			}
		}
		slices.SortFunc(names, func(a, b string) int {
			if d := slices.Index(order, codeOf(a)) - slices.Index(order, codeOf(b)); d != 0 {
				return d
			}
			return strings.Compare(a, b)
		})
		for _, name := range names {
			frame := files[name]
			req := parse(t, name, frame)
			if topic, ok := req.Get("b"); ok && r.b.topics.Get(topic) == nil {
				r.create(string(topic), 4)
			} else if topic, ok := req.Get("topic"); ok && r.b.topics.Get(topic) == nil {
				r.create(string(topic), 4)
			}
			if _, err := conn.Write(frame); err != nil {
				t.Fatal(err)
			}
			got := readAnswer(t, name, conn, req.Opaque)
			compare(t, name, req, got, parse(t, name, files[strings.TrimSuffix(name, ".bin")+"-resp.bin"]))
			replayed[req.Code]++
		}
	}
	for _, code := range order {
		if replayed[code] == 0 {
			t.Errorf("no recorded request %d was replayed", code)
		}
	}
	t.Logf("replayed %v", replayed)
}

// readAnswer reads frames until the answer to opaque; what the broker sends by
// itself is passed over.
func readAnswer(t *testing.T, name string, conn net.Conn, opaque int32) *protocol.Command {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		frame := append(head, make([]byte, binary.BigEndian.Uint32(head))...)
		if _, err := io.ReadFull(conn, frame[4:]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c := parse(t, name, frame); c.IsResponse() && c.Opaque == opaque {
			return c
		}
	}
}

// compare holds an answer against the recorded one. What depends on the messages
// that the recorded broker had, and what gomq does not have yet, is left out by
// name.
func compare(t *testing.T, name string, req, got, want *protocol.Command) {
	t.Helper()
	code := want.Code
	if req.Code == protocol.LitePullMessage {
		code = protocol.Success // 4.9.7 does not know it
	}
	if req.Code == protocol.PullMessage || req.Code == protocol.LitePullMessage {
		switch got.Code {
		case protocol.Success, protocol.PullNotFound, protocol.PullRetryImmediately, protocol.PullOffsetMoved:
			for _, field := range []string{"suggestWhichBrokerId", "nextBeginOffset", "minOffset", "maxOffset"} {
				if _, ok := got.Get(field); !ok {
					t.Errorf("%s: no %s", name, field)
				}
			}
		case protocol.SubscriptionNotExist, protocol.SubscriptionNotLatest:
			// Not every heartbeat of the session was recorded.
		default:
			t.Errorf("%s: %d %s", name, got.Code, got.Remark)
		}
		return
	}
	if req.Code == protocol.GetConsumerListByGroup && strings.HasPrefix(got.Remark, "no consumer for this group") {
		return // not every heartbeat of the session was recorded
	}
	if got.Code != code {
		t.Errorf("%s: code %d %q, the original's is %d %q", name, got.Code, got.Remark, code, want.Remark)
		return
	}
	if got.Codec != req.Codec {
		t.Errorf("%s: answered in encoding %d, asked in %d", name, got.Codec, req.Codec)
	}
	if code != want.Code {
		return
	}
	for _, field := range []string{"msgId", "queueId", "queueOffset", "MSG_REGION", "TRACE_ON", "offset", "timestamp"} {
		_, has := got.Get(field)
		if _, had := want.Get(field); had != has {
			t.Errorf("%s: the answer has %s: %v, the original's: %v", name, field, has, had)
		}
	}
	if len(want.Body) > 0 != (len(got.Body) > 0) {
		t.Errorf("%s: a body of %d bytes, the original's has %d", name, len(got.Body), len(want.Body))
	}
	if code != protocol.Success && got.Remark != want.Remark && !samePeer(got.Remark, want.Remark) {
		t.Errorf("%s: remark %q, the original's is %q", name, got.Remark, want.Remark)
	}
}

// samePeer compares remarks that end in the client's address.
func samePeer(a, b string) bool {
	a, _, ok := strings.Cut(a, "127.0.0.1:")
	b, _, _ = strings.Cut(b, "127.0.0.1:")
	return ok && a == b
}

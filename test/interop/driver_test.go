//go:build interop || interop_all

package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gomq/test/harness"
)

// callLimit is how long one command to a client program may take. It is for a
// broken product; the longest good command is a client's own time-out.
const callLimit = 90 * time.Second

// message is one that a consumer received, as its client decoded it.
type message struct {
	Event          string            `json:"event"`
	Consumer       string            `json:"consumer"`
	Topic          string            `json:"topic"`
	Tags           string            `json:"tags"`
	Keys           string            `json:"keys"`
	MsgID          string            `json:"msgId"`
	OffsetMsgID    string            `json:"offsetMsgId"`
	QueueID        int               `json:"queueId"`
	QueueOffset    int64             `json:"queueOffset"`
	Body           []byte            `json:"body"`
	Properties     map[string]string `json:"properties"`
	SysFlag        int               `json:"sysFlag"`
	Flag           int               `json:"flag"`
	StoreSize      int               `json:"storeSize"`
	ReconsumeTimes int               `json:"reconsumeTimes"`
	BornTimestamp  int64             `json:"bornTimestamp"`
	StoreTimestamp int64             `json:"storeTimestamp"`
	LogOffset      int64             `json:"commitLogOffset"`
	BornHost       string            `json:"bornHost"`
	StoreHost      string            `json:"storeHost"`

	arrived time.Time
	nth     int // of all that the client program received
}

// queue names a queue as clients do.
type queue struct {
	Topic   string `json:"topic"`
	Broker  string `json:"broker"`
	QueueID int    `json:"queueId"`
}

// sent is what a client made of the answer to one message.
type sent struct {
	Status      string `json:"status"`
	MsgID       string `json:"msgId"`
	OffsetMsgID string `json:"offsetMsgId"`
	Queue       queue  `json:"queue"`
	QueueOffset int64  `json:"queueOffset"`
	Region      string `json:"region"`
	Error       string `json:"error"`
	Code        int    `json:"code"`
}

// driver is a running client program: commands go in, answers and events come
// out. It serves many tests at a time.
type driver struct {
	name string // for topics and groups: client, version, header
	cmd  *exec.Cmd
	log  string // file with the program's standard error

	write sync.Mutex
	in    io.WriteCloser

	mu      sync.Mutex
	nextID  int
	waiting map[int]chan json.RawMessage
	seen    map[string][]message // by consumer
	events  int                  // messages of all of them
	changed chan struct{}        // closed and replaced whenever seen grows
	ready   chan json.RawMessage
	ended   chan struct{}
}

// topics numbers the topics and groups of a run.
var topics atomic.Int64

// launch starts a client program. It is stopped when the test ends; it also ends
// by itself when the test binary dies, because its standard input ends then.
func launch(t testing.TB, name string, cmd *exec.Cmd) *driver {
	t.Helper()
	d := &driver{name: name, cmd: cmd, waiting: map[int]chan json.RawMessage{}, seen: map[string][]message{},
		changed: make(chan struct{}), ready: make(chan json.RawMessage, 1), ended: make(chan struct{})}
	if cmd.Dir == "" {
		cmd.Dir = harness.Dir(t)
	}
	d.log = filepath.Join(cmd.Dir, "driver.stderr")
	stderr, err := os.Create(d.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if d.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stderr.Close()
	go d.read(stdout)
	t.Cleanup(func() { d.stop(t) })
	select {
	case line := <-d.ready:
		t.Logf("%s: %s", name, line)
	case <-d.ended:
		t.Fatalf("%s ended at its start\n%s", name, d.logTail())
	case <-time.After(60 * time.Second):
		t.Fatalf("%s was not ready within a minute\n%s", name, d.logTail())
	}
	return d
}

func (d *driver) stop(t testing.TB) {
	d.in.Close()
	select {
	case <-d.ended:
	case <-time.After(20 * time.Second):
		t.Errorf("%s did not end within 20 s of the end of its input\n%s", d.name, d.logTail())
		d.cmd.Process.Kill()
		<-d.ended
	}
	d.cmd.Wait()
	if t.Failed() {
		t.Logf("end of the log of %s:\n%s", d.name, d.logTail())
	}
}

func (d *driver) logTail() string {
	text, _ := os.ReadFile(d.log)
	const most = 8000
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return string(text)
}

func (d *driver) read(stdout io.Reader) {
	defer close(d.ended)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var head struct {
			ID    int    `json:"id"`
			Event string `json:"event"`
		}
		line := json.RawMessage(strings.Clone(lines.Text()))
		if err := json.Unmarshal(line, &head); err != nil {
			continue // a library's own print
		}
		d.mu.Lock()
		switch {
		case head.Event == "ready":
			d.ready <- line
		case head.Event == "message":
			var m message
			if err := json.Unmarshal(line, &m); err == nil {
				m.arrived, m.nth = time.Now(), d.events
				d.events++
				d.seen[m.Consumer] = append(d.seen[m.Consumer], m)
				close(d.changed)
				d.changed = make(chan struct{})
			}
		default:
			if c := d.waiting[head.ID]; c != nil {
				delete(d.waiting, head.ID)
				c <- line
			}
		}
		d.mu.Unlock()
	}
}

// call sends a command with its arguments (key, value, key, value) and returns
// the answer, which may say that the command failed.
func (d *driver) call(t testing.TB, verb string, args ...any) json.RawMessage {
	t.Helper()
	answer := make(chan json.RawMessage, 1)
	d.mu.Lock()
	d.nextID++
	id := d.nextID
	d.waiting[id] = answer
	d.mu.Unlock()

	var line strings.Builder
	fmt.Fprintf(&line, "%d %s", id, verb)
	for i := 0; i+1 < len(args); i += 2 {
		fmt.Fprintf(&line, " %s=%s", url.QueryEscape(fmt.Sprint(args[i])), url.QueryEscape(fmt.Sprint(args[i+1])))
	}
	line.WriteByte('\n')
	d.write.Lock()
	_, err := io.WriteString(d.in, line.String())
	d.write.Unlock()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", d.name, verb, err, d.logTail())
	}
	select {
	case a := <-answer:
		return a
	case <-d.ended:
		t.Fatalf("%s ended during %s\n%s", d.name, verb, d.logTail())
	case <-time.After(callLimit):
		t.Fatalf("%s: no answer to %s within %v\n%s", d.name, verb, callLimit, d.logTail())
	}
	return nil
}

// do is call for a command that must succeed; T is what to make of the answer.
func do[T any](t testing.TB, d *driver, verb string, args ...any) T {
	t.Helper()
	answer := d.call(t, verb, args...)
	var head struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	var result T
	if err := json.Unmarshal(answer, &head); err != nil {
		t.Fatalf("%s: %v in %s", verb, err, answer)
	}
	if !head.OK {
		t.Fatalf("%s %v: %s", verb, args, head.Error)
	}
	if err := json.Unmarshal(answer, &result); err != nil {
		t.Fatalf("%s: %v in %s", verb, err, answer)
	}
	return result
}

// refused is call for a command that must fail; it returns the RocketMQ code (0
// if none) and the text.
func refused(t testing.TB, d *driver, verb string, args ...any) (int, string) {
	t.Helper()
	var head struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
		Code  int    `json:"code"`
	}
	answer := d.call(t, verb, args...)
	if err := json.Unmarshal(answer, &head); err != nil {
		t.Fatalf("%s: %v in %s", verb, err, answer)
	}
	if head.OK {
		t.Fatalf("%s %v was not refused: %s", verb, args, answer)
	}
	return head.Code, head.Error
}

type none struct{}

// send sends messages and returns the results, all of which must be SEND_OK.
func (d *driver) send(t testing.TB, args ...any) []sent {
	t.Helper()
	results := do[struct{ Results []sent }](t, d, "send", args...).Results
	for i, r := range results {
		if r.Status != "SEND_OK" {
			t.Fatalf("message %d of send %v: status %q, code %d, error %q", i, args, r.Status, r.Code, r.Error)
		}
	}
	return results
}

// received returns what the consumer has received until now.
func (d *driver) received(consumer string) []message {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]message(nil), d.seen[consumer]...)
}

// await waits until the consumers together have received n messages and returns
// them; more than n fail the test.
func (d *driver) await(t testing.TB, n int, limit time.Duration, consumers ...string) []message {
	t.Helper()
	deadline := time.After(limit)
	for {
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		var all []message
		for _, c := range consumers {
			all = append(all, d.received(c)...)
		}
		if len(all) > n {
			t.Fatalf("%v received %d messages instead of %d: %s", consumers, len(all), n, brief(all))
		}
		if len(all) == n {
			return all
		}
		select {
		case <-changed:
		case <-d.ended:
			t.Fatalf("%s ended\n%s", d.name, d.logTail())
		case <-deadline:
			t.Fatalf("%v received %d of %d messages within %v: %s", consumers, len(all), n, limit, brief(all))
		}
	}
}

func brief(all []message) string {
	var b strings.Builder
	for i, m := range all {
		if i == 60 {
			b.WriteString(" ...")
			break
		}
		body := m.Body
		if len(body) > 24 {
			body = body[:24]
		}
		fmt.Fprintf(&b, " %d/%d:%q", m.QueueID, m.QueueOffset, body)
	}
	return b.String()
}

// fresh returns a name for a topic or group that nothing else of the run uses.
func (d *driver) fresh(what string) string {
	clean := strings.NewReplacer(".", "", "/", "_", "-", "").Replace(d.name)
	return fmt.Sprintf("%s_%s_%d", what, clean, topics.Add(1))
}

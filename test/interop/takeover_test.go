//go:build interop || interop_all

package interop

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gomq/test/harness"
	"gomq/test/raw"
)

// become makes a stopped server one of gomq or of a Java version.
func become(t testing.TB, s *harness.Server, kind string) {
	t.Helper()
	if kind == "gomq" {
		s.Become("gomq", "")
		return
	}
	s.Become("java", jars(t, "server", kind))
}

// serverOf is the harness's configuration for gomq or a Java version.
func serverOf(t testing.TB, kind string, props map[string]string) harness.Config {
	t.Helper()
	if kind == "gomq" {
		return gomqServer(props)
	}
	return javaServer(t, kind, props)
}

// verified runs gomq store verify on the directory of a broker that has ended.
func verified(t testing.TB, s *harness.Server) {
	t.Helper()
	if out, err := exec.Command(harness.Build(t), "store", "verify", s.Store()).CombinedOutput(); err != nil {
		t.Errorf("gomq store verify: %v\n%s", err, out)
	}
}

// takeover is one directory that goes from broker to broker, and what has been put
// into it.
type takeover struct {
	*testing.T
	broker *harness.Server
	conn   *raw.Conn
	round  int
	kind   string

	want  []string          // keys of the plain messages and of what is due or committed by now
	ids   map[string]string // message ids of the plain ones
	soon  string            // key of the delayed message that is due in the next round
	later int64             // messages that wait for long
	open  []string          // transactions that nobody has ended
	place int64             // of the group
}

const (
	takenTopic, takenGroup, takenProducer = "Taken", "g-taken", "pg-taken"
	takenSoon, takenLater                 = "2", "3" // delay levels
)

// TestTakeover: a broker's directory goes from Java to gomq and back to Java, with
// the same properties file. Each finds what the ones before have left: messages by
// offset, key and id, delayed messages that are due and those that still wait, open
// transactions, topics, groups and the places of consumers.
func TestTakeover(t *testing.T) {
	needJava(t)
	t.Parallel()
	for _, version := range []string{"4.5.2", "4.9.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			x := &takeover{T: t, ids: map[string]string{}}
			x.broker = harness.StartBroker(t, "", javaServer(t, version, map[string]string{"brokerFastFailureEnable": "false",
				"mappedFileSizeCommitLog": "1048576", "messageDelayLevel": "1s 5s 1h", "flushConsumerOffsetInterval": "1000", "flushDelayOffsetInterval": "1000",
				"transactionTimeOut": "500", "transactionCheckInterval": "500", "transactionCheckMax": "1000"}))
			for i, kind := range []string{version, "gomq", version, "gomq"} {
				x.round, x.kind = i, kind
				if i > 0 {
					become(t, x.broker, kind)
					x.broker.Start()
				}
				x.conn = dial(t, x.broker.Addr())
				x.found()
				x.settle()
				x.leave()
				x.conn.Close()
				x.broker.Stop()
			}
			verified(t, x.broker)
		})
	}
}

func (x *takeover) fatal(what string, err error) {
	x.Helper()
	if err != nil {
		x.Fatalf("round %d, %s: %s: %v", x.round, x.kind, what, err)
	}
}

// found looks for everything that was left.
func (x *takeover) found() {
	if x.round == 0 {
		x.fatal("topic", x.conn.NewTopic(takenTopic, 1))
		_, err := x.conn.Do(raw.CreateGroup, nil, []byte(`{"groupName":"`+takenGroup+`","consumeEnable":true,"consumeFromMinEnable":true,"consumeBroadcastEnable":false,"retryQueueNums":3,"retryMaxTimes":5,"brokerId":0,"whichBrokerWhenConsumeSlowly":1,"notifyConsumerIdsChangedEnable":true}`))
		x.fatal("group", err)
		x.fatal("producer", x.conn.Produce("taken", takenProducer))
		return
	}
	x.fatal("producer", x.conn.Produce("taken", takenProducer))
	x.commitOpen()
	x.want = append(x.want, x.soon)
	harness.Eventually(x, arrival, fmt.Sprintf("round %d, %s: %s is delivered", x.round, x.kind, x.soon), func() bool { return slices.Contains(x.keys(), x.soon) })
	if more, less := apart(x.keys(), x.want); len(more)+len(less) > 0 {
		x.Errorf("round %d, %s: %v are there and should not be, %v are not", x.round, x.kind, more, less)
	}
	for key, id := range x.ids {
		r, err := x.conn.ByID(id)
		if err != nil || r.Keys() != key || string(r.Body) != "body of "+key {
			x.Errorf("round %d, %s: %s by id: %+v, %v", x.round, x.kind, key, r, err)
		}
		if list, err := x.conn.ByKey(takenTopic, key); err != nil || len(list) != 1 || list[0].ID != id {
			x.Errorf("round %d, %s: %s by key: %+v, %v", x.round, x.kind, key, list, err)
		}
	}
	if n, err := x.conn.Offset(raw.MaxOffset, "SCHEDULE_TOPIC_XXXX", 2); err != nil || n != x.later {
		x.Errorf("round %d, %s: %d messages wait, want %d, %v", x.round, x.kind, n, x.later, err)
	}
	if at, err := x.conn.Committed(takenGroup, takenTopic, 0); err != nil || at != x.place {
		x.Errorf("round %d, %s: the group is at %d, want %d, %v", x.round, x.kind, at, x.place, err)
	}
	all, err := x.conn.Do(raw.AllGroups, nil, nil)
	x.fatal("groups", err)
	if i := bytes.Index(all.Body, []byte(`"groupName":"`+takenGroup+`"`)); i < 0 || !bytes.Contains(all.Body, []byte(`"retryMaxTimes":5`)) || !bytes.Contains(all.Body, []byte(`"retryQueueNums":3`)) {
		x.Errorf("round %d, %s: the groups are %s", x.round, x.kind, all.Body)
	}
}

// keys are those in the topic, each as often as it is there.
func (x *takeover) keys() (keys []string) {
	x.Helper()
	list, err := x.conn.Sweep(takenTopic, 0)
	x.fatal("sweep", err)
	for _, r := range list {
		keys = append(keys, r.Keys())
	}
	return keys
}

// commitOpen answers the questions about the transactions that are open: all but
// the one of this round are committed, and nothing else is asked about.
func (x *takeover) commitOpen() {
	x.Helper()
	for wait := slices.Clone(x.open); len(wait) > 0; {
		q := x.question()
		key := q.Message.Keys()
		i := slices.Index(wait, key)
		if i < 0 && !slices.Contains(x.open, key) {
			x.Fatalf("round %d, %s: asked about %s", x.round, x.kind, key)
		}
		if i < 0 {
			continue // asked twice
		}
		x.fatal("commit", x.conn.Answer(q, raw.Commit))
		wait = slices.Delete(wait, i, i+1)
	}
	x.want = append(x.want, x.open...)
	for _, key := range x.open {
		harness.Eventually(x, arrival, key+" is delivered", func() bool { return slices.Contains(x.keys(), key) })
	}
	x.open = nil
}

func (x *takeover) question() raw.Question {
	x.Helper()
	q, err := raw.ParseQuestion(<-x.conn.Pushed())
	x.fatal("question", err)
	return q
}

// apart is what only one of two lists holds, or holds more often.
func apart(a, b []string) (onlyA, onlyB []string) {
	n := map[string]int{}
	for _, k := range a {
		n[k]++
	}
	for _, k := range b {
		n[k]--
	}
	for k, n := range n {
		if n > 0 {
			onlyA = append(onlyA, k)
		} else if n < 0 {
			onlyB = append(onlyB, k)
		}
	}
	return onlyA, onlyB
}

// settle waits until a broker of 4.5.2 has written down how far its delay levels
// have come: it does so ten seconds after its start and then at each interval, not
// when it stops, and what it has delivered since is delivered again by whoever is
// next, be that a broker of 4.5.2.
func (x *takeover) settle() {
	x.Helper()
	if x.kind != "4.5.2" || x.round == 0 {
		return
	}
	n, err := x.conn.Offset(raw.MaxOffset, "SCHEDULE_TOPIC_XXXX", 1)
	x.fatal("delay queue", err)
	harness.Eventually(x, arrival, "the progress of the delay levels is on the disk", func() bool {
		b, _ := os.ReadFile(filepath.Join(x.broker.Store(), "config", "delayOffset.json"))
		return strings.Contains(strings.Join(strings.Fields(string(b)), ""), fmt.Sprintf("2:%d", n))
	})
}

// leave puts something of each kind into the store.
func (x *takeover) leave() {
	name := func(what string) string {
		return fmt.Sprintf("%s-%d-%s", what, x.round, strings.ReplaceAll(x.kind, ".", ""))
	}
	for i := range 40 {
		key := fmt.Sprintf("%s-%d", name("plain"), i)
		s, err := x.conn.Send(takenProducer, takenTopic, 0, raw.Props("KEYS", key), []byte("body of "+key))
		x.fatal("send", err)
		x.ids[key] = s.ID
		x.want = append(x.want, key)
	}
	x.place = int64(len(x.want) - 7)
	// The group steps back, which gomq notes in the file in a member of its own.
	x.fatal("commit", x.conn.Commit(takenGroup, takenTopic, 0, x.place+1))
	x.fatal("commit", x.conn.Commit(takenGroup, takenTopic, 0, x.place))
	begin := func(what string) raw.Half {
		h, err := x.conn.Begin(takenProducer, takenTopic, 0, fmt.Sprintf("%030X%02X", len(what), x.round), name(what), []byte(what))
		x.fatal("begin", err)
		return h
	}
	x.fatal("end", x.conn.End(begin("committed"), raw.Commit))
	x.want = append(x.want, name("committed"))
	x.fatal("end", x.conn.End(begin("rolledback"), raw.Rollback))
	begin("open")
	x.open = append(x.open, name("open"))
	x.later++
	for level, what := range map[string]string{takenLater: "later", takenSoon: "soon"} {
		_, err := x.conn.Send(takenProducer, takenTopic, 0, raw.Props("KEYS", name(what), "DELAY", level), []byte(what))
		x.fatal("delayed", err)
	}
	x.soon = name("soon")
	if slices.Contains(x.keys(), x.soon) {
		x.Fatalf("round %d, %s: %s was delivered before the broker stopped, nothing is left to the next", x.round, x.kind, x.soon)
	}
}

package delay

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gomq/internal/message"
)

func TestParseLevels(t *testing.T) {
	l, err := ParseLevels(" 1s  5m 2h 10d")
	if err != nil || len(l) != 4 || l[0] != time.Second || l[1] != 5*time.Minute || l[2] != 2*time.Hour || l[3] != 240*time.Hour {
		t.Errorf("%v %v", l, err)
	}
	for level, want := range map[int]time.Duration{-1: 0, 0: 0, 1: time.Second, 4: 240 * time.Hour, 99: 240 * time.Hour} {
		if got := l.Of(level); got != want {
			t.Errorf("level %d waits %s, want %s", level, got, want)
		}
	}
	for text, item := range map[string]string{"1s 5x": `"5x"`, "5": `"5"`, "s": `"s"`, "-1s": `"-1s"`, "0s": `"0s"`, "1.5s": `"1.5s"`, "1s,2s": `"1s,2s"`, "99999999999999d": `"99999999999999d"`,
		"9223372036854775808s": `"9223372036854775808s"`, "1S": `"1S"`, "": "at least one", strings.Repeat("1s ", 256): "256"} {
		if l, err := ParseLevels(text); err == nil || !strings.Contains(err.Error(), item) {
			t.Errorf("%q: %v %v", text, l, err)
		}
	}
}

func TestLevel(t *testing.T) {
	for value, want := range map[string]int{"3": 3, "+3": 3, "03": 3, "0": 0, "-1": 0, "": -1, "x": -1, "3 ": -1, "2147483647": 2147483647, "2147483648": -1} {
		if got, ok := Level([]byte(value)); ok && got != want || ok != (want >= 0) {
			t.Errorf("%q is level %d %v, want %d", value, got, ok, want)
		}
	}
}

// In and out again: the text of 4.9.7, the real topic and queue, the rest as it
// was. A level above the highest is written as that.
func TestDivertAndRestore(t *testing.T) {
	levels := Levels{time.Second, time.Minute}
	host := netip.MustParseAddrPort("127.0.0.1:1")
	var p message.PropSet
	m := message.Message{Topic: []byte("GoldDelay"), QueueID: 3, BornHost: host, StoreHost: host, Body: []byte("b"), Prepared: 7}
	p.Parse([]byte("KEYS\x01k\x02DELAY\x0125\x02WAIT\x01true\x02TAGS\x01A"))
	levels.Divert(&m, &p, 25)
	m.Props = p.AppendTo(nil)
	want := "REAL_TOPIC\x01GoldDelay\x02KEYS\x01k\x02DELAY\x012\x02WAIT\x01true\x02TAGS\x01A\x02REAL_QID\x013"
	if string(m.Topic) != message.TopicSchedule || m.QueueID != 1 || string(m.Props) != want {
		t.Errorf("%s/%d %q", m.Topic, m.QueueID, m.Props)
	}
	rec, err := message.AppendRecord(nil, &m)
	if err != nil {
		t.Fatal(err)
	}
	r := message.Record(rec)
	r.Place(0, 0, 1000)
	if due := levels.Due(r); due != 61_000 {
		t.Errorf("due at %d", due)
	}
	// A Java 4.5.2 broker ends the text with a separator.
	m.Props = append(m.Props, 2)
	if _, err := Restore(nil, &m, &p); err != nil || string(m.Topic) != "GoldDelay" || m.QueueID != 3 || m.Prepared != 0 || string(m.Props) != want {
		t.Errorf("%s/%d %q %v", m.Topic, m.QueueID, m.Props, err)
	}
	for props, want := range map[string]error{"DELAY\x011": ErrNowhere, "REAL_TOPIC\x01T": ErrNowhere, "REAL_TOPIC\x01T\x02REAL_QID\x01x": ErrNowhere,
		"REAL_TOPIC\x01RMQ_SYS_TRANS_HALF_TOPIC\x02REAL_QID\x010": ErrHalf} {
		m := message.Message{Props: []byte(props)}
		if _, err := Restore(nil, &m, &p); !errors.Is(err, want) {
			t.Errorf("%q: %v", props, err)
		}
	}
}

// Records that name no delay are due at once: brokers of 4.9 lose the due time in
// some recoveries.
func TestDueWithoutDelay(t *testing.T) {
	for props, want := range map[string]int64{"TAGS\x01TagA": 2598919, "": 0, "DELAY\x010\x02TAGS\x01TagA": 2598919, "DELAY\x01x": 0, "DELAY\x011": 1000} {
		rec, err := message.AppendRecord(nil, &message.Message{Topic: []byte("T"), Props: []byte(props)})
		if err != nil {
			t.Fatal(err)
		}
		if got := (Levels{time.Second}).Due(message.Record(rec)); got != want {
			t.Errorf("%q is due at %d, want %d", props, got, want)
		}
	}
}

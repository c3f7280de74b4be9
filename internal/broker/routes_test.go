package broker

import (
	"fmt"
	"strings"
	"testing"

	"gomq/internal/protocol"
)

// Every request code that RocketMQ knows is in the table, or there is a reason
// why it is not.
func TestEveryCodeHasAPlace(t *testing.T) {
	rows := map[int32]Request{}
	for _, r := range Requests() {
		rows[r.Code] = r
		if r.Name == "" {
			t.Errorf("the table has %d, which no version knows", r.Code)
		}
		if r.NotYet != "" && r.Differs != "" {
			t.Errorf("%d %s is not served and differs: %s", r.Code, r.Name, r.Differs)
		}
	}
	known := 0
	for code := range int32(210_000) {
		name := protocol.RequestName(code)
		if name == "" {
			continue
		}
		known++
		_, routed := rows[code]
		switch why := Absent(code); {
		case !routed && why == "":
			t.Errorf("%d %s is neither in the table nor is there a reason", code, name)
		case routed && why != "":
			t.Errorf("%d %s is in the table, and a reason says it is not: %s", code, name, why)
		}
	}
	if known < 100 {
		t.Errorf("only %d codes are known", known)
	}
}

// What is not served is answered 3 at once, with the reason; so is every number
// there is.
func TestNotServed(t *testing.T) {
	r := run(t, nil)
	for _, row := range Requests() {
		if row.NotYet == "" {
			continue
		}
		if resp := r.ask(row.Code, nil, nil); resp.Code != protocol.RequestCodeNotSupported || !strings.Contains(resp.Remark, notYet) {
			t.Errorf("%d %s: %d %s", row.Code, row.Name, resp.Code, resp.Remark)
		}
	}
	for _, code := range []int32{0, 54, 9999, -1, 511, 512, 200050, 1 << 30, -1 << 31} {
		if resp := r.ask(code, nil, nil); resp.Code != protocol.RequestCodeNotSupported || resp.Remark != fmt.Sprintf(" request type %d not supported", code) {
			t.Errorf("%d: %d %q", code, resp.Code, resp.Remark)
		}
	}
}

// Every request that is served survives a header and a body of nonsense, and the
// broker serves on.
func TestNonsense(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	bodies := [][]byte{nil, {}, []byte("{"), []byte("[]"), []byte(`{"a":{"a":{"a":1}}}`), []byte("\x00\xff\xfe"), []byte(strings.Repeat("[", 10_000))}
	headers := [][]string{
		nil,
		{"topic", "T", "queueId", "x"},
		{"topic", "../../etc", "consumerGroup", "../g", "queueId", "-5", "queueOffset", "9223372036854775807", "maxMsgNums", "2147483647", "sysFlag", "-1", "offset", "-9223372036854775808"},
		{"a", "g", "b", strings.Repeat("t", 30_000), "e", "0", "f", "0", "g", "0", "h", "0", "m", "true"},
		{"consumerGroup", "CG", "topic", "T", "queueId", "0", "queueOffset", "0", "maxMsgNums", "1", "sysFlag", "2", "suspendTimeoutMillis", "-9223372036854775808", "commitOffset", "0", "timestamp", "-1",
			"key", "\x01\x02", "maxNum", "2147483647", "beginTimestamp", "-1", "endTimestamp", "-1", "producerGroup", "", "groupName", "", "clientID", ""},
	}
	for _, row := range Requests() {
		for i, body := range bodies {
			for j, h := range headers {
				req := protocol.NewRequest(row.Code, nil, body)
				for k := 0; k+1 < len(h); k += 2 {
					req.Set(h[k], h[k+1])
				}
				if _, err := r.c.Call(t.Context(), r.addr, req); err != nil {
					t.Fatalf("%d %s with body %d and header %d: %v", row.Code, row.Name, i, j, err)
				}
			}
		}
	}
	if s := r.send("T", 0, "x"); s.Code != protocol.Success {
		t.Errorf("afterwards: %+v", s)
	}
}

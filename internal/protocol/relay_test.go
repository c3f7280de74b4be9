package protocol

import (
	"reflect"
	"testing"
	"time"
)

// relayHeader is requestHeader for what brokers pass on to clients.
func relayHeader(code int32) Header {
	switch code {
	case GetConsumerRunningInfo, ConsumeMessageDirectly:
		return &RelayHeader{}
	case InvokeResetOffset, ResetConsumerOffset:
		return &ResetHeader{}
	case InvokeClientStatus, GetClientStatus:
		return &StatusHeader{}
	case QueryConsumeTimeSpan:
		return &GroupTopicHeader{}
	case CloneGroupOffset:
		return &CloneHeader{}
	case QueryCorrectionOffset:
		return &CorrectionHeader{}
	case GetBrokerConsumeStats:
		return &BrokerStatsHeader{}
	case ViewBrokerStatsData:
		return &ViewStatsHeader{}
	case QueryConsumeQueue:
		return &QueueViewHeader{}
	case SendReplyMessageV2:
		return &SendHeader{V2: true}
	case PushReplyMessage:
		return &PushReplyHeader{}
	}
	return nil
}

// clientStatus is the body of the answer to 221, which gomq only reads.
type clientStatus struct{ ResetBody }

func (c clientStatus) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("consumerTable")
	w.open('{')
	w.end()
	w.key("messageQueueTable")
	w.queueOffsets(c.ResetBody)
	w.end()
	return w.b
}

func init() {
	time.Local = time.UTC // as where the bodies of 303, which hold local time, were recorded
	bodyCodecs["220"] = codecOf("reset", ParseResetBody)
	bodyCodecs["222-resp"] = codecOf("reset", ParseResetBody)
	bodyCodecs["221-resp"] = codecOf("client status", func(b []byte) (clientStatus, error) { s, err := ParseClientStatus(b); return clientStatus{s}, err })
	bodyCodecs["223-resp"] = codecOf("consumer status", ParseConsumerStatus)
	bodyCodecs["303-resp"] = codecOf("time spans", ParseTimeSpans)
	bodyCodecs["315-resp"] = codecOf("statistics", ParseStatsView)
	bodyCodecs["317-resp"] = codecOf("broker consume stats", ParseBrokerStats)
	bodyCodecs["321-resp"] = codecOf("queue", ParseQueueView)
	bodyCodecs["328-resp"] = codecOf("producers", ParseProducerTable)
	bodyCodecs["308-resp"] = codecOf("corrections", ParseCorrections)
}

// Go clients take the body of 220 apart as text; C++ clients read a list.
func TestResetBodies(t *testing.T) {
	b := ResetBody{{Queue: MessageQueue{"T", "broker-a", 0}, Offset: 123}, {Queue: MessageQueue{"T", "broker-a", 1}}}
	java := `{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:123,{"brokerName":"broker-a","queueId":1,"topic":"T"}:0}}`
	if got := string(b.Append(nil)); got != java {
		t.Errorf("for Java and Go\n%s, want\n%s", got, java)
	}
	c := `{"offsetTable":[{"brokerName":"broker-a","offset":123,"queueId":0,"topic":"T"},{"brokerName":"broker-a","offset":0,"queueId":1,"topic":"T"}]}`
	if got := string(b.AppendForC(nil)); got != c {
		t.Errorf("for C++\n%s, want\n%s", got, c)
	}
	// What a Go client answers to 221 has blanks and quoted keys in some versions.
	for _, text := range []string{`{"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:123}}`,
		`{ "messageQueueTable": { {"topic":"T", "brokerName":"broker-a", "queueId":0} : 123 } }`} {
		got, err := ParseClientStatus([]byte(text))
		if err != nil || !reflect.DeepEqual(got, b[:1]) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	if _, err := ParseClientStatus([]byte(`{"messageQueueTable":{7:8}}`)); err == nil {
		t.Error("a key that is no queue was taken")
	}
}

// What a broker asks of clients is written as Java brokers write it.
func TestGoldenQuestions(t *testing.T) {
	seen := map[int32]int{}
	for _, g := range goldens(t) {
		c := g.parse(t)
		h := relayHeader(g.Code)
		switch g.Code {
		case ResetConsumerOffset, GetClientStatus, PushReplyMessage:
		default:
			continue
		}
		if g.Type != "request" || c.Version != 407 || c.Decode(h) != nil {
			continue
		}
		seen[g.Code]++
		again := NewRequest(g.Code, h, c.Body)
		again.Version, again.Opaque, again.Flag = c.Version, c.Opaque, c.Flag
		if got := again.AppendTo(nil); string(got) != string(g.frame) {
			t.Errorf("%s: written\n%q, want\n%q", g.File, got, g.frame)
		}
	}
	if len(seen) != 3 {
		t.Errorf("golden questions: %v", seen)
	}
}

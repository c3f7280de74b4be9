package protocol

import (
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// What fastjson takes, the reader takes (wire.md section 14.2).
func TestReaderLeniency(t *testing.T) {
	for _, text := range []string{
		`{"offsetTable":{"T@G":{0:10,1:7}}}`,
		`{"offsetTable":{"T@G":{"0":10,"1":"7"}}}`,
		`{offsetTable:{'T@G':{0:10,1:7.9}}}`,
		`{,"offsetTable":{,,"T@G":{0:10,,1:7,},},}`,
		"// first\n{/* a * comment */\"offsetTable\" : {\"T\\u0040G\"\t:\r\n{ 0 : 10 , '1' : 7L } } } // last",
		`{"dataVersion":{"counter":1},"groupTopicMap":{"G":["T"]},"OFFSET_TABLE":{"T@G":{0:10,1:7}},"x":[[],{},{"y":null},-1.5e9,true,false,null,'s']}`,
		`{"offsetTable":{"old":{0:1}},"offsetTable":{"T@G":{0:10,1:7}}}`,
	} {
		got, err := ParseOffsetTable([]byte(text))
		delete(got, "old") // of a table that comes twice both are kept
		if err != nil || !reflect.DeepEqual(got, OffsetTable{"T@G": {0: 10, 1: 7}}) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{``, ` `, `null x`, `{`, `{"offsetTable":`, `{"offsetTable":{`, `{"offsetTable":{"T":{0:1}}`, `{"offsetTable":{"T":{x:1}}}`,
		`{"offsetTable":{"T":{0:x}}}`, `{"offsetTable":{"T":{0:{}}}}`, `{"offsetTable":{"T":{2147483648:1}}}`, `{"offsetTable":[]}`, `[]`, `{"a" 1}`, `{"a":}`, `{"a":/}`,
		`{"a":/*}`, `{"a":"}`, `{"a":"\q"}`, `{"a":"\`, `{"a":'\u12'}`, `{"a":1}}`, `{"a":1e999}{`, `{"offsetTable":{"T":{0:1e30}}}`,
		`{"x":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`, `{"x":` + strings.Repeat(`{"a":`, 100000)} {
		if got, err := ParseOffsetTable([]byte(text)); err == nil {
			t.Errorf("%.80s was read as %v", text, got)
		} else if !strings.HasPrefix(err.Error(), "consumer offsets: byte ") {
			t.Errorf("%.80s: %v", text, err)
		}
	}
}

func TestReaderDefaults(t *testing.T) {
	g, err := ParseGroup([]byte(`{"groupName":"G","retryMaxTimes":null,"consumeEnable":"false","brokerId":"3","consumeFromMinEnable":0,"attributes":{"a":"b"}}`))
	want := GroupConfig{GroupName: "G", ConsumeBroadcastEnable: true, RetryQueueNums: 1, RetryMaxTimes: 16, BrokerID: 3, WhichBrokerWhenConsumeSlowly: 1, NotifyConsumerIdsChangedEnable: true}
	if err != nil || g != want {
		t.Errorf("%+v %v", g, err)
	}
	topics, v, err := ParseTopicTable([]byte(`{"dataVersion":{"counter":"2","timestamp":1},"topicConfigTable":{"A":{},"B":{"topicFilterType":1,"topicName":"B","order":true},"C":null}}`))
	wantTopics := map[string]TopicConfig{
		"A": {TopicName: "A", ReadQueueNums: 16, WriteQueueNums: 16, Perm: 6, TopicFilterType: "SINGLE_TAG"},
		"B": {TopicName: "B", ReadQueueNums: 16, WriteQueueNums: 16, Perm: 6, TopicFilterType: "MULTI_TAG", Order: true},
		"C": {TopicName: "C", ReadQueueNums: 16, WriteQueueNums: 16, Perm: 6, TopicFilterType: "SINGLE_TAG"},
	}
	if err != nil || v != (DataVersion{Timestamp: 1, Counter: 2}) || !reflect.DeepEqual(topics, wantTopics) {
		t.Errorf("%+v %v %v", topics, v, err)
	}
	l, err := ParseLockBatch([]byte(`{"clientId":"c","consumerGroup":"g"}`))
	if err != nil || l.ClientID != "c" || l.Group != "g" || l.Queues != nil {
		t.Errorf("%+v %v", l, err)
	}
	if _, err := ParseHeartbeat(make([]byte, MaxClientBody+1)); err == nil {
		t.Error("a heartbeat above the limit was read")
	}
}

// Maps whose keys are objects, as Java writes them and as JSON would have to.
func TestObjectKeys(t *testing.T) {
	want := TopicStats{{Queue: MessageQueue{"T{}:\"", "broker-a", 1}, MinOffset: 1, MaxOffset: 12, LastUpdate: 1700000000000}, {Queue: MessageQueue{"U", "b", 0}}}
	text := string(want.Append(nil))
	if text != `{"offsetTable":{{"brokerName":"broker-a","queueId":1,"topic":"T{}:\""}:{"lastUpdateTimestamp":1700000000000,"maxOffset":12,"minOffset":1},`+
		`{"brokerName":"b","queueId":0,"topic":"U"}:{"lastUpdateTimestamp":0,"maxOffset":0,"minOffset":0}}}` {
		t.Error(text)
	}
	for _, text := range []string{text, `{"offsetTable":{"{\"topic\":\"T{}:\\\"\",\"brokerName\":\"broker-a\",\"queueId\":\"1\"}":{"lastUpdateTimestamp":1700000000000,"maxOffset":12,"minOffset":1},{topic:'U',brokerName:"b"}:{}}}`} {
		got, err := ParseTopicStats([]byte(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{`{"offsetTable":{{"topic":"T":{}}}`, `{"offsetTable":{{"queueId":"x"}:{}}}`, `{"offsetTable":{T:{}}}`} {
		if got, err := ParseTopicStats([]byte(text)); err == nil {
			t.Errorf("%s was read as %+v", text, got)
		}
	}
}

func TestJavaDouble(t *testing.T) {
	for v, want := range map[float64]string{0: "0.0", 1: "1.0", -2.5: "-2.5", 0.18333333333333332: "0.18333333333333332", 0.001: "0.001", 0.0001: "1.0E-4",
		1.5e-7: "1.5E-7", 9999999: "9999999.0", 1e7: "1.0E7", 123456789: "1.23456789E8", math.NaN(): "null", math.Inf(-1): "null"} {
		w := writer{}
		w.open('{')
		w.float("v", v)
		if got := string(w.b); got != `{"v":`+want {
			t.Errorf("%v is %s, want %s", v, got, want)
		}
	}
}

func TestRouteForms(t *testing.T) {
	d := &RouteData{OrderTopicConf: "b/中:4", Brokers: []BrokerData{{Cluster: "C", BrokerName: "b", Addrs: map[int64]string{1: "h:2", 0: "h:1"}}},
		Queues: []QueueData{{"b", 8, 4, 6, 2}}}
	rest := `"queueDatas":[{"brokerName":"b","perm":6,"readQueueNums":8,"topicSynFlag":2,"topicSysFlag":2,"writeQueueNums":4}]}`
	for standard, want := range map[bool]string{
		false: `{"brokerDatas":[{"brokerAddrs":{0:"h:1",1:"h:2"},"brokerName":"b","cluster":"C"}],"filterServerTable":{},"orderTopicConf":"b/中:4",` + rest,
		true:  `{"brokerDatas":[{"brokerAddrs":{"0":"h:1","1":"h:2"},"brokerName":"b","cluster":"C"}],"filterServerTable":{},"orderTopicConf":"b\/\u4E2D:4",` + rest,
	} {
		if got := string(d.Append(nil, standard)); got != want {
			t.Errorf("standard %v:\n%s, want\n%s", standard, got, want)
		}
		d.FilterServers = map[string][]string{}
		if got, err := ParseRouteData([]byte(want)); err != nil || !reflect.DeepEqual(got, d) {
			t.Errorf("%+v %v", got, err)
		}
	}
	for v, want := range map[int32]bool{0: false, 317: false, 400: false, 401: true, 479: true} {
		if StandardRoute(v, &RouteHeader{}) != want || !StandardRoute(v, &RouteHeader{AcceptStandardJSON: true}) {
			t.Errorf("version %d", v)
		}
	}
}

func TestEmptyTables(t *testing.T) {
	for want, got := range map[string]string{
		"{\n\t\"offsetTable\":{}\n}":                                string(OffsetTable{}.Pretty()),
		"{\n\t\"offsetTable\":{\n\t\t\"T@G\":{}\n\t}\n}":            string(OffsetTable{"T@G": {}}.Pretty()),
		"{\n\t\"offsetTable\":{1:2\n\t}\n}":                         string(DelayTable{1: 2}.Pretty()),
		`{"offsetTable":{}}`:                                        string(DelayTable{}.Append(nil)),
		`{"table":{}}`:                                              string(KVTable{}.Append(nil)),
		`{"topicList":[]}`:                                          string(TopicList{}.Append(nil)),
		`{"brokerAddr":"a:1","topicList":["x"]}`:                    string(TopicList{[]string{"x"}, "a:1"}.Append(nil)),
		`{"brokerAddrTable":{},"clusterAddrTable":{}}`:              string((&ClusterInfo{}).Append(nil)),
		`{"brokerDatas":[],"filterServerTable":{},"queueDatas":[]}`: string((&RouteData{}).Append(nil, true)),
		`{"lockOKMQSet":[]}`:                                        string(LockedQueues(nil).Append(nil)),
		"{\n\t\"dataVersion\":{\n\t\t\"counter\":1,\n\t\t\"timestamp\":2\n\t},\n\t\"topicConfigTable\":{}\n}": string(PrettyTopicTable(nil, DataVersion{2, 1})),
	} {
		if got != want {
			t.Errorf("%s, want %s", fmt.Sprint(got), want)
		}
	}
}

// What a body becomes in memory is bounded by its size, whatever it says.
func TestBodyMemory(t *testing.T) {
	fill := func(open, piece, end string) []byte {
		return []byte(open + strings.Repeat(piece, (1<<20)/len(piece)) + end)
	}
	numbered := func(open, format, end string) []byte {
		b := []byte(open)
		for i := 0; len(b) < 1<<20; i++ {
			b = fmt.Appendf(b, format, i)
		}
		return append(b, end...)
	}
	for name, tc := range map[string]struct {
		body  []byte
		parse func([]byte) error
	}{
		"heartbeat groups":    {fill(`{"consumerDataSet":[`, `{"groupName":"g"},`, `]}`), func(b []byte) error { _, err := ParseHeartbeat(b); return err }},
		"heartbeat nothings":  {fill(`{"consumerDataSet":[`, `{},`, `]}`), func(b []byte) error { _, err := ParseHeartbeat(b); return err }},
		"heartbeat producers": {fill(`{"producerDataSet":[`, `{"groupName":1},`, `]}`), func(b []byte) error { _, err := ParseHeartbeat(b); return err }},
		"subscriptions":       {fill(`{"consumerDataSet":[{"groupName":"g","subscriptionDataSet":[`, `{"topic":"t"},`, `]}]}`), func(b []byte) error { _, err := ParseHeartbeat(b); return err }},
		"tags":                {fill(`{"consumerDataSet":[{"subscriptionDataSet":[{"tagsSet":[`, `"tag",`, `]}]}]}`), func(b []byte) error { _, err := ParseHeartbeat(b); return err }},
		"names":               {numbered(`{`, `"unknown%d":[],`, `}`), func(b []byte) error { _, err := ParseHeartbeat(b); return err }},
		"escapes":             {fill(`{"clientID":"`, `\u4e2d`, `"}`), func(b []byte) error { _, err := ParseHeartbeat(b); return err }},
		"locks":               {fill(`{"mqSet":[`, `{},`, `]}`), func(b []byte) error { _, err := ParseLockBatch(b); return err }},
		"registration":        {numbered(`{"topicConfigTable":{`, `%d:{},`, `}}`), func(b []byte) error { _, err := ParseRegisterBody(b); return err }},
		"offsets":             {numbered(`{"offsetTable":{`, `%d:{},`, `}}`), func(b []byte) error { _, err := ParseOffsetTable(b); return err }},
		"offsets of a queue":  {numbered(`{"offsetTable":{"T@G":{`, `%d:1,`, `}}}`), func(b []byte) error { _, err := ParseOffsetTable(b); return err }},
		"route":               {fill(`{"queueDatas":[`, `{},`, `]}`), func(b []byte) error { _, err := ParseRouteData(b); return err }},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := tc.parse(tc.body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		n := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(tc.body))
		t.Logf("%s: %.1f bytes allocated a byte", name, n)
		if n > 100 {
			t.Errorf("%s: %d bytes became %d", name, len(tc.body), after.TotalAlloc-before.TotalAlloc)
		}
	}
	if _, err := ParseTopicList(fill(`{"topicList":[`, `1,`, `]}`)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too long a list: %v", err)
	}
	table := numbered(`{"topicConfigTable":{`, `%d:{},`, `}}`)
	for i := 0; len(table) < 4<<20; i++ {
		table = append(fmt.Appendf(table[:len(table)-2], `"t%d":{},`, i), `}}`...)
	}
	if _, _, err := ParseTopicTable(table); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too many topics: %v", err)
	}
}

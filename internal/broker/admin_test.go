package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gomq/internal/client"
	"gomq/internal/config"
	"gomq/internal/protocol"
)

func (r *rig) ask(code int32, h protocol.Header, body []byte) *protocol.Command {
	r.Helper()
	resp, err := r.c.Call(r.Context(), r.addr, protocol.NewRequest(code, h, body))
	if err != nil {
		r.Fatal(err)
	}
	return resp
}

func TestTopicAdministration(t *testing.T) {
	r := run(t, nil)
	ctx := t.Context()
	r.create("T", 3)
	r.send("T", 1, "x")
	stats, err := r.c.TopicStats(ctx, r.addr, "T")
	if err != nil || len(stats) != 3 {
		t.Fatalf("statistics %v %v", stats, err)
	}
	for _, q := range stats {
		full := q.Queue.QueueID == 1
		if q.Queue.BrokerName != "broker-a" || (q.MaxOffset == 1) != full || (q.LastUpdate > 0) != full {
			t.Errorf("queue %+v", q)
		}
	}
	_, err = r.c.TopicStats(ctx, r.addr, "N")
	r.refused(err, protocol.TopicNotExist, "topic[N] not exist")

	all, version, err := r.c.TopicConfigs(ctx, r.addr)
	if err != nil || all["T"].WriteQueueNums != 3 || version != r.b.topics.Version() {
		t.Errorf("all topics: %+v %+v %v", all["T"], version, err)
	}
	if resp := r.ask(protocol.GetTopicConfig, &protocol.TopicHeader{Topic: "T"}, nil); resp.Code != protocol.Success || !strings.Contains(string(resp.Body), `"writeQueueNums":3`) {
		t.Errorf("one topic: %d %s", resp.Code, resp.Body)
	}
	if resp := r.ask(protocol.GetTopicConfig, &protocol.TopicHeader{Topic: "N"}, nil); resp.Code != protocol.TopicNotExist {
		t.Errorf("no topic: %d %s", resp.Code, resp.Remark)
	}

	for _, c := range []struct{ topic, text string }{
		{"TBW102", "The topic[TBW102] is conflict with system topic."}, {"broker-a", "is conflict with system topic."}, {"DefaultCluster", "is conflict with system topic."},
		{"rmq_sys_x", "is conflict with system topic."}, {"../x", "illegal characters"}, {"", "blank"},
	} {
		err := r.c.CreateTopic(ctx, r.addr, protocol.TopicConfig{TopicName: c.topic, ReadQueueNums: 1, WriteQueueNums: 1, Perm: 6, TopicFilterType: "SINGLE_TAG"})
		if c.topic == "" {
			if err == nil {
				t.Error("a topic without a name was taken")
			}
			continue
		}
		r.refused(err, protocol.SystemError, c.text)
		r.refused(r.c.DeleteTopic(ctx, r.addr, c.topic), protocol.SystemError, c.text)
	}
	err = r.c.CreateTopic(ctx, r.addr, protocol.TopicConfig{TopicName: "Many", ReadQueueNums: 1, WriteQueueNums: 1025, Perm: 6, TopicFilterType: "SINGLE_TAG"})
	r.refused(err, protocol.SystemError, "between 0 and 1024")

	resp := r.ask(protocol.GetSystemTopicListFromB, nil, nil)
	list, err := protocol.ParseTopicList(resp.Body)
	for _, want := range []string{"TBW102", "SCHEDULE_TOPIC_XXXX", "broker-a", "DefaultCluster", "DefaultCluster_REPLY_TOPIC"} {
		if !slices.Contains(list.Topics, want) {
			t.Errorf("%s is no system topic: %v", want, err)
		}
	}

	if err := r.c.DeleteTopic(ctx, r.addr, "T"); err != nil {
		t.Fatal(err)
	}
	_, err = r.c.Pull(ctx, r.addr, pullHeader("CG", "T", 0, 0, "*"))
	r.refused(err, protocol.TopicNotExist, "topic[T] not exist")
	if _, err := os.Stat(filepath.Join(r.live.Load().StorePathRootDir, "consumequeue", "T")); !os.IsNotExist(err) {
		t.Errorf("its queues are still on the disk: %v", err)
	}
}

func TestGroupAdministration(t *testing.T) {
	r := run(t, nil)
	ctx := t.Context()
	r.create("T", 2)
	for i := range 4 {
		r.send("T", int32(i%2), "x")
	}
	g := protocol.GroupConfig{GroupName: "CG", ConsumeEnable: true, RetryQueueNums: 2, RetryMaxTimes: 3, NotifyConsumerIdsChangedEnable: true}
	if err := r.c.CreateGroup(ctx, r.addr, g); err != nil {
		t.Fatal(err)
	}
	all, version, err := r.c.GroupConfigs(ctx, r.addr)
	if err != nil || all["CG"] != g || version != r.b.groups.Version() || all["TOOLS_CONSUMER"].GroupName == "" {
		t.Errorf("groups %+v %v", all["CG"], err)
	}
	if err := r.c.Commit(ctx, r.addr, "CG", "T", 0, 1); err != nil {
		t.Fatal(err)
	}
	stats, err := r.c.ConsumeStats(ctx, r.addr, "CG", "")
	if err != nil || len(stats.Queues) != 2 {
		t.Fatalf("statistics %+v %v", stats, err)
	}
	for _, q := range stats.Queues {
		want := protocol.ConsumeQueueStats{Queue: q.Queue, BrokerOffset: 2}
		if q.Queue.QueueID == 0 {
			want.ConsumerOffset, want.LastTimestamp = 1, q.LastTimestamp
			if q.LastTimestamp <= 0 {
				t.Errorf("no time of the last message: %+v", q)
			}
		}
		if q != want {
			t.Errorf("queue %+v, want %+v", q, want)
		}
	}
	if stats, err := r.c.ConsumeStats(ctx, r.addr, "Nobody", ""); err != nil || len(stats.Queues) != 0 {
		t.Errorf("of nobody: %+v %v", stats, err)
	}
	for _, bad := range []protocol.GroupConfig{{GroupName: "../x"}, {GroupName: strings.Repeat("g", 121)}, {GroupName: "Q", RetryQueueNums: 5000}} {
		if err := r.c.CreateGroup(ctx, r.addr, bad); err == nil {
			t.Errorf("%q with %d retry queues was taken", bad.GroupName, bad.RetryQueueNums)
		}
	}
	// Its offsets stay when it is deleted, unless they are to go too.
	for _, with := range []bool{false, true} {
		if err := r.c.DeleteGroup(ctx, r.addr, "CG", with); err != nil {
			t.Fatal(err)
		}
		if _, there := r.b.offsets.Query([]byte("T"), []byte("CG"), 0); there == with {
			t.Errorf("deleted with offsets %v, there are offsets: %v", with, there)
		}
	}
}

func TestQueries(t *testing.T) {
	r := run(t, nil)
	ctx := t.Context()
	r.create("T", 1)
	var last client.Sent
	for i := range 5 {
		last = r.send("T", 0, fmt.Sprint(i), "KEYS", "same "+fmt.Sprint("own", i), "UNIQ_KEY", fmt.Sprint("U", i))
	}
	r.eventually("the index does not follow", func() bool { return r.b.store.Indexed.Load() == r.b.store.MaxOffset() })
	h := protocol.QueryHeader{Topic: "T", Key: "same", MaxNum: 10, Begin: 0, End: time.Now().Add(time.Hour).UnixMilli()}
	list, err := r.c.Query(ctx, r.addr, h)
	if err != nil || len(list) != 5 {
		t.Errorf("by key: %d %v", len(list), err)
	}
	h.MaxNum = 2
	if list, err := r.c.Query(ctx, r.addr, h); err != nil || len(list) != 2 {
		t.Errorf("two by key: %d %v", len(list), err)
	}
	h.Key, h.UniqueKey = "U3", true
	if list, err := r.c.Query(ctx, r.addr, h); err != nil || len(list) != 1 || string(list[0].Body()) != "3" {
		t.Errorf("by unique key: %d %v", len(list), err)
	}
	h.Key = "none"
	_, err = r.c.Query(ctx, r.addr, h)
	r.refused(err, protocol.QueryNotFound, "can not find message, maybe time range not correct")
	for _, at := range []int64{1, -1, 1 << 62, r.b.store.MaxOffset()} {
		_, err := r.c.View(ctx, r.addr, at)
		r.refused(err, protocol.SystemError, "can not find message by the offset, "+strconv.FormatInt(at, 10))
	}
	_ = last
}

func TestConfigOverTheNetwork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broker.conf")
	if err := os.WriteFile(file, []byte("# kept\nbrokerName=broker-a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := config.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, func(o *Options) { o.Source = src })
	ctx := t.Context()
	text, version, err := r.c.Config(ctx, r.addr)
	if err != nil || !strings.Contains(text, "brokerName=broker-a\n") || version.Counter != 0 {
		t.Errorf("configuration %+v %v", version, err)
	}
	if err := r.c.UpdateConfig(ctx, r.addr, "maxTransferCountOnMessageInMemory=5"); err != nil {
		t.Fatal(err)
	}
	if n := r.live.Load().MaxTransferCountOnMessageInMemory; n != 5 {
		t.Errorf("in effect is %d", n)
	}
	if data, _ := os.ReadFile(file); !strings.Contains(string(data), "# kept\n") || !strings.Contains(string(data), "maxTransferCountOnMessageInMemory=5") {
		t.Errorf("the file has %q", data)
	}
	if _, version, _ := r.c.Config(ctx, r.addr); version.Counter != 1 {
		t.Errorf("the version is %+v", version)
	}
	for _, c := range []struct {
		update string
		code   int32
		text   string
	}{
		{"storePathRootDir=/elsewhere", protocol.NoPermission, "Can not update config in black list."},
		{"rocketmqHome=/x", protocol.NoPermission, "Can not update config in black list."},
		{"noSuchKey=1", protocol.SystemError, "noSuchKey"},
		{"maxTransferCountOnMessageInMemory=many", protocol.SystemError, "maxTransferCountOnMessageInMemory"},
	} {
		err := r.c.UpdateConfig(ctx, r.addr, c.update)
		if code, _ := client.Code(err); code != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want code %d with %q", c.update, err, c.code, c.text)
		}
	}
}

func TestRuntimeInfo(t *testing.T) {
	r := run(t, nil)
	r.create("T", 1)
	for range 3 {
		r.send("T", 0, "x")
	}
	r.pull("T", 0, 0, "*")
	r.pull("T", 0, 3, "*")
	info, err := r.c.RuntimeInfo(t.Context(), r.addr)
	if err != nil {
		t.Fatal(err)
	}
	// requests.md 3.5, the keys of 4.9.
	for _, key := range strings.Fields(`brokerVersion brokerVersionDesc bootTimestamp runtime msgPutTotalYesterdayMorning msgPutTotalTodayMorning msgPutTotalTodayNow
		msgGetTotalYesterdayMorning msgGetTotalTodayMorning msgGetTotalTodayNow putTps getTotalTps getFoundTps getMissTps getTransferedTps getTransferredTps
		putMessageTimesTotal putMessageSizeTotal putMessageAverageSize putMessageEntireTimeMax getMessageEntireTimeMax putMessageDistributeTime
		sendThreadPoolQueueSize sendThreadPoolQueueCapacity sendThreadPoolQueueHeadWaitTimeMills pullThreadPoolQueueSize pullThreadPoolQueueCapacity
		pullThreadPoolQueueHeadWaitTimeMills queryThreadPoolQueueSize queryThreadPoolQueueCapacity queryThreadPoolQueueHeadWaitTimeMills EndTransactionQueueSize
		EndTransactionThreadPoolQueueCapacity dispatchBehindBytes dispatchMaxBuffer pageCacheLockTimeMills earliestMessageTimeStamp startAcceptSendRequestTimeStamp
		commitLogMinOffset commitLogMaxOffset commitLogDiskRatio consumeQueueDiskRatio remainTransientStoreBufferNumbs remainHowManyDataToCommit
		remainHowManyDataToFlush commitLogDirCapacity putMessageFailedTimes putLatency99 putLatency999`) {
		if _, ok := info[key]; !ok {
			t.Errorf("no %s", key)
		}
	}
	for key, want := range map[string]string{"brokerVersion": "409", "brokerVersionDesc": "V4_9_8", "msgPutTotalTodayNow": "3", "msgGetTotalTodayNow": "3", "putMessageTimesTotal": "3",
		"commitLogMinOffset": "0", "commitLogMaxOffset": num(r.b.store.MaxOffset()), "putMessageSizeTotal": num(r.b.store.MaxOffset()), "sendThreadPoolQueueCapacity": "10000"} {
		if info[key] != want {
			t.Errorf("%s is %s, want %s", key, info[key], want)
		}
	}
	if parts := strings.Fields(info["putTps"]); len(parts) != 3 {
		t.Errorf("putTps is %q", info["putTps"])
	}
	if ratio, err := strconv.ParseFloat(info["commitLogDiskRatio"], 64); err != nil || ratio <= 0 || ratio > 1 {
		t.Errorf("commitLogDiskRatio is %q", info["commitLogDiskRatio"])
	}
}

// Totals at midnight, and rates over the last ten seconds, minute and ten minutes.
func TestSamples(t *testing.T) {
	now := time.Date(2026, 1, 1, 23, 59, 0, 0, time.Local)
	s := newStats(func() time.Time { return now })
	for i := range 130 {
		s.stored.n.Add(int64(10))
		if i >= 120 {
			s.stored.n.Add(90)
		}
		now = now.Add(time.Second)
		if err := s.tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.sampled.rates(func(x sample) int64 { return x.put }); got != "100 25 16.976744186046513" {
		t.Errorf("rates %q", got)
	}
	if put, _ := s.sampled.days(); put.today != 600 || put.yesterday != 0 {
		t.Errorf("at midnight %+v", put)
	}
	g := s.group("T", "G")
	for range 20 {
		g.out.add(600, 0)
		now = now.Add(10 * time.Second)
		s.remember()
	}
	if got := s.consumeTPS("T", "G"); got != 60 {
		t.Errorf("%v messages a second", got)
	}
	if got := s.consumeTPS("T", "N"); got != 0 {
		t.Errorf("of nobody %v", got)
	}
}

// Invented groups cannot fill the memory or the metrics.
func TestStatsAreBounded(t *testing.T) {
	s := newStats(time.Now)
	for i := range maxPairs + 100 {
		s.got("T", fmt.Sprint("g", i), 1, 10, 0, 1)
	}
	if n := len(s.topics["T"].groups); n > maxPairs+1 {
		t.Errorf("%d groups are counted apart", n)
	}
	if n := s.group("T", otherGroup).out.n.Load(); n < 99 {
		t.Errorf("%d messages under %s", n, otherGroup)
	}
	s.forget("T")
	if s.pairs != 0 || len(s.topics) != 0 {
		t.Errorf("%d pairs of %d topics after the topic was deleted", s.pairs, len(s.topics))
	}
}

func TestMetrics(t *testing.T) {
	f := newFakeNames(t)
	r := run(t, withNames(f))
	r.create("T", 1)
	r.send("T", 0, strings.Repeat("x", 2000))
	r.pull("T", 0, 0, "*")
	r.beat(r.c, beatOf("a", "CG", "T"))
	if err := r.c.Commit(t.Context(), r.addr, "CG", "T", 0, 0); err != nil {
		t.Fatal(err)
	}
	value := r.metrics()
	for key, want := range map[string]float64{
		"rocketmq_broker_permission":     6,
		"rocketmq_topic_number":          float64(r.b.topics.Len()),
		"rocketmq_consumer_group_number": float64(r.b.groups.Len()),
		"rocketmq_messages_in_total is_system=false message_type=normal topic=T":                  1,
		"rocketmq_message_size is_system=false message_type=normal topic=T":                       1,
		"rocketmq_messages_out_total consumer_group=CG is_retry=false is_system=false topic=T":    1,
		"rocketmq_producer_connections language=JAVA protocol_type=remoting version=V4_9_8":       1,
		"rocketmq_consumer_lag_messages consumer_group=CG is_retry=false is_system=false topic=T": 1,
		"rocketmq_processor_watermark processor=send":                                             0,
		"gomq_parked_pulls":                       0,
		"gomq_nameserver_up nameserver=" + f.addr: 1,
		"rocketmq_consumer_connections consume_mode=push consumer_group=CG is_system=false language=JAVA protocol_type=remoting version=V4_9_8": 1,
	} {
		if got, ok := value[key]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", key, got, ok, want)
		}
	}
	for _, key := range []string{"rocketmq_throughput_in_total is_system=false message_type=normal topic=T", "rocketmq_throughput_out_total consumer_group=CG is_retry=false is_system=false topic=T",
		"rocketmq_storage_size storage_medium=disk storage_type=local"} {
		if value[key] < 2000 {
			t.Errorf("%s is %v", key, value[key])
		}
	}
	if _, ok := value["rocketmq_consumer_lag_latency consumer_group=CG is_retry=false is_system=false topic=T"]; !ok {
		t.Error("no rocketmq_consumer_lag_latency")
	}
	if got := versionName(317); got != "V4_5_2" {
		t.Errorf("317 is %s", got)
	}
	if got := versionName(479); got != "V5_3_3" {
		t.Errorf("479 is %s", got)
	}
	if got := versionName(316); got != "V4_5_2_SNAPSHOT" {
		t.Errorf("316 is %s", got)
	}
	if got := versionName(78); got != "other" {
		t.Errorf("78 is %s", got)
	}
}

// metrics is every metric's value, for histograms their count, by name and labels
// but those of the node.
func (r *rig) metrics() map[string]float64 {
	r.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	value := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				switch l.GetName() {
				case "cluster", "node_type", "node_id":
				default:
					key += " " + l.GetName() + "=" + l.GetValue()
				}
			}
			switch {
			case m.Counter != nil:
				value[key] = m.Counter.GetValue()
			case m.Gauge != nil:
				value[key] = m.Gauge.GetValue()
			case m.Histogram != nil:
				value[key] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return value
}

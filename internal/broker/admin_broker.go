package broker

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
	"gomq/internal/store/segment"
)

// brokerDesk is the broker's own configuration and state: 25, 26, 28.
type brokerDesk struct {
	live   *config.Live[Options]
	log    *zap.Logger
	store  *store.Store
	topics *meta.Topics
	names  *registrar
	stats  *stats
	send   *sender
	delays *delayer
	lanes  *lanes
}

// updateConfig is UPDATE_BROKER_CONFIG (25).
func (s *brokerDesk) updateConfig(c *remoting.Call) (remoting.Response, error) {
	before := s.live.Load().BrokerPermission
	applied, err := s.live.Update(c.Req.Body)
	if err != nil {
		s.log.Warn("a change of the configuration was refused", zap.Stringer("from", c.Conn.Remote()), zap.Error(err))
		return remoting.Response{}, err
	}
	for _, a := range applied {
		s.log.Info("configuration changed by request", zap.String("key", a.Key), zap.String("old", a.Old), zap.String("new", a.New),
			zap.Bool("atOnce", a.Change == config.Hot), zap.Stringer("from", c.Conn.Remote()))
	}
	if s.live.Load().BrokerPermission != before {
		s.topics.Touch() // every topic is registered with another permission from now on
		s.names.announce(false)
	}
	return remoting.Response{}, nil
}

// getConfig is GET_BROKER_CONFIG (26).
func (s *brokerDesk) getConfig(*remoting.Call) (remoting.Response, error) {
	stamp, counter := s.live.Version()
	return remoting.Response{Header: &protocol.BrokerConfigReply{Version: protocol.DataVersion{Timestamp: stamp.UnixMilli(), Counter: counter}}, Body: s.live.Text()}, nil
}

// runtimeInfo is GET_BROKER_RUNTIME_INFO (28); the keys are those of requests.md
// 3.5. What gomq does not have (thread pools, a page cache lock, a transient
// pool) is reported as what comes nearest or as 0.
func (s *brokerDesk) runtimeInfo(*remoting.Call) (remoting.Response, error) {
	o := s.live.Load()
	t := protocol.KVTable{}
	s.identity(t, o)
	s.traffic(t)
	s.queues(t, o)
	s.storage(t, o)
	s.delays.progress(func(level int, next, max int64) {
		if max > 0 {
			t[fmt.Sprint("scheduleMessageOffset_", level)] = fmt.Sprintf("%d,%d", next, max)
		}
	})
	return remoting.Response{Body: t.Append(nil)}, nil
}

func (s *brokerDesk) identity(t protocol.KVTable, o *Options) {
	t["brokerVersion"] = strconv.Itoa(protocol.Version)
	t["brokerVersionDesc"] = "V4_9_8"
	t["bootTimestamp"] = num(s.stats.started.UnixMilli())
	up := s.stats.now().Sub(s.stats.started)
	t["runtime"] = fmt.Sprintf("[ %d days, %d hours, %d minutes, %d seconds ]", int(up.Hours())/24, int(up.Hours())%24, int(up.Minutes())%60, int(up.Seconds())%60)
	t["startAcceptSendRequestTimeStamp"] = num(o.StartAcceptSendRequestTimeStamp)
	t["brokerActive"] = "true"
	t[greetsKey] = greets
}

func (s *brokerDesk) traffic(t protocol.KVTable) {
	st := s.stats
	put, bytes, out := st.stored.n.Load(), st.stored.bytes.Load(), st.out.n.Load()
	dayPut, dayGet := st.sampled.days()
	t["msgPutTotalYesterdayMorning"], t["msgPutTotalTodayMorning"], t["msgPutTotalTodayNow"] = num(dayPut.yesterday), num(dayPut.today), num(put)
	t["msgGetTotalYesterdayMorning"], t["msgGetTotalTodayMorning"], t["msgGetTotalTodayNow"] = num(dayGet.yesterday), num(dayGet.today), num(out)
	t["putTps"] = st.sampled.rates(func(x sample) int64 { return x.put })
	t["getFoundTps"] = st.sampled.rates(func(x sample) int64 { return x.found })
	t["getMissTps"] = st.sampled.rates(func(x sample) int64 { return x.missed })
	t["getTotalTps"] = st.sampled.rates(func(x sample) int64 { return x.found + x.missed })
	transferred := st.sampled.rates(func(x sample) int64 { return x.out })
	t["getTransferedTps"], t["getTransferredTps"] = transferred, transferred // 4.x and 5.x spell it differently
	t["putMessageTimesTotal"] = num(max(put, 1))                             // never below 1 in the original: tools divide by it
	t["putMessageSizeTotal"] = num(bytes)
	t["putMessageAverageSize"] = fmt.Sprint(float64(bytes) / float64(max(put, 1)))
	t["putMessageFailedTimes"] = num(st.failed.Load())
	t["putMessageEntireTimeMax"] = num(time.Duration(st.putMax.Load()).Milliseconds())
	t["getMessageEntireTimeMax"] = num(time.Duration(st.getMax.Load()).Milliseconds())
	t["putMessageDistributeTime"] = st.distribution()
	p99, p999 := st.putLatency(0.99), st.putLatency(0.999)
	t["putLatency99"], t["putLatency999"] = p99, p999
}

func (s *brokerDesk) queues(t protocol.KVTable, o *Options) {
	for name, q := range map[string][2]int{
		"send":  {int(s.send.waiting.Load()), o.SendThreadPoolQueueCapacity},
		"pull":  {s.lanes.pull.Waiting(), o.PullThreadPoolQueueCapacity},
		"query": {s.lanes.query.Waiting(), laneQueue},
	} {
		t[name+"ThreadPoolQueueSize"], t[name+"ThreadPoolQueueCapacity"] = strconv.Itoa(q[0]), strconv.Itoa(q[1])
		t[name+"ThreadPoolQueueHeadWaitTimeMills"] = "0"
	}
	t["EndTransactionQueueSize"], t["EndTransactionThreadPoolQueueCapacity"] = strconv.Itoa(s.lanes.trans.Waiting()), strconv.Itoa(o.EndTransactionPoolQueueCapacity)
	t["pageCacheLockTimeMills"] = num(s.store.LockHeld().Milliseconds())
	t["dispatchMaxBuffer"] = "0"
	t["dispatchBehindBytes"] = num(max(s.store.Appended.Load()-s.store.Dispatched.Load(), 0))
	t["remainTransientStoreBufferNumbs"] = "2147483647" // as the original without the pool
	t["remainHowManyDataToCommit"] = "0"
	t["remainHowManyDataToFlush"] = size(s.store.Undurable())
}

func (s *brokerDesk) storage(t protocol.KVTable, o *Options) {
	so := StoreOptions(o)
	t["commitLogMinOffset"], t["commitLogMaxOffset"] = num(s.store.MinOffset()), num(s.store.MaxOffset())
	t["earliestMessageTimeStamp"] = num(s.earliest())
	used, free, err := segment.Disk{}.Usage(so.Root)
	ratio := -1.0
	if err == nil && used+free > 0 {
		ratio = float64(used) / float64(used+free)
	}
	text := strconv.FormatFloat(ratio, 'f', -1, 64)
	t["commitLogDiskRatio"], t["consumeQueueDiskRatio"] = text, text
	t["commitLogDiskRatio_"+so.CommitLogDir] = text
	t["commitLogDirCapacity"] = fmt.Sprintf("Total : %s, Free : %s.", size(int64(used+free)), size(int64(free)))
	if t["goVersion"] = runtime.Version(); so.CommitLogDir == "" {
		delete(t, "commitLogDiskRatio_")
	}
}

// earliest is the store time of the first message, -1 without any.
func (s *brokerDesk) earliest() int64 {
	r, err := s.store.ReadRecord(s.store.MinOffset())
	if err != nil {
		return -1
	}
	return r.StoreTime()
}

// distribution is the text of putMessageDistributeTime.
func (s *stats) distribution() string {
	names := [...]string{"<=0ms", "0~10ms", "10~50ms", "50~100ms", "100~200ms", "200~500ms", "500ms~1s", "1~2s", "2~3s", "3~4s", "4~5s", "5~10s", "10s~"}
	var b strings.Builder
	for i, name := range names {
		fmt.Fprintf(&b, "[%s]:%d ", name, s.putTime[i].Load())
	}
	return b.String()
}

// putLatency is the upper bound, in ms, of the time that a share of the appends
// took.
func (s *stats) putLatency(share float64) string {
	var all, sum int64
	for i := range s.putTime {
		all += s.putTime[i].Load()
	}
	for i, bound := range putBounds {
		if sum += s.putTime[i].Load(); float64(sum) >= share*float64(all) {
			return num(bound.Milliseconds())
		}
	}
	return num(time.Duration(s.putMax.Load()).Milliseconds())
}

func num(n int64) string { return strconv.FormatInt(n, 10) }

// size is bytes in the words of the original.
func size(n int64) string {
	const unit = 1024.0
	if n < 1024 {
		return num(n) + " B"
	}
	f := float64(n) / unit
	for _, u := range [...]string{"KiB", "MiB", "GiB"} {
		if f < unit {
			return strconv.FormatFloat(f, 'f', 1, 64) + " " + u
		}
		f /= unit
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " TiB"
}

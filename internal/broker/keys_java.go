package broker

import (
	"errors"
	"strconv"

	"gomq/internal/config"
	"gomq/internal/role"
)

// idle is a row of a key that gomq accepts and that changes nothing in it.
func idle(name, kind, def string, change config.Change, doc string) config.Key {
	return config.Key{Name: name, Type: kind, Default: def, Change: change, Tier: 3, Effect: config.NoEffect, Doc: doc}
}

// later is a row of a key whose feature gomq does not have.
func later(name, kind, def string, change config.Change, doc string) config.Key {
	k := idle(name, kind, def, change, doc)
	k.Effect = config.NotYet
	return k
}

// workers is a row of a thread pool's size; def says how it is computed.
func workers(name, def string, size func(cpu int) int, doc string) config.Key {
	k := idle(name, "int", def, config.Restart, doc)
	k.Auto, k.Range = processors(size), "1.."
	return k
}

// important marks a row that -m prints.
func important(k config.Key) config.Key {
	k.Important = true
	return k
}

// seeds is an idle row of the keys that stand in nearly every broker's file.
func seeds(name, def, doc string) config.Key {
	k := idle(name, "int", def, config.Hot, doc)
	k.Tier, k.Range = 1, "0.."
	return k
}

// lanesOfJava are the thread pools and queues of the original (config.md
// section 5). gomq has no thread for a request: requests run where they are
// read, or in a bounded lane.
func lanesOfJava() config.Section {
	fixed := func(name, def, what string) config.Key {
		k := idle(name, "int", def, config.Restart, "Threads for "+what+".")
		k.Range = "1.."
		return k
	}
	queue := func(name, def, what string) config.Key {
		k := idle(name, "int", def, config.Restart, "Requests that may wait for a thread: "+what+".")
		k.Range = "1.."
		return k
	}
	plus16 := func(cpu int) int { return 16 + 2*cpu }
	sends := workers("sendMessageThreadPoolNums", "min(processors, 4)", func(cpu int) int { return min(cpu, 4) }, "Threads for sends.")
	pulls := workers("pullMessageThreadPoolNums", "16+2*processors", plus16, "Threads for pulls.")
	sends.Tier, pulls.Tier = 1, 1
	return config.Section{Title: "Threads of the original", Doc: "Accepted so that existing files load. gomq has no thread for each request; sendThreadPoolQueueCapacity and pullThreadPoolQueueCapacity do have an effect and are above.", Keys: []config.Key{
		sends, pulls,
		workers("putMessageFutureThreadPoolNums", "min(processors, 4)", func(cpu int) int { return min(cpu, 4) }, "Threads that finish sends."),
		workers("processReplyMessageThreadPoolNums", "16+2*processors", plus16, "Threads for replies."),
		workers("queryMessageThreadPoolNums", "8+processors", func(cpu int) int { return 8 + cpu }, "Threads for queries."),
		fixed("adminBrokerThreadPoolNums", "16", "administration"),
		fixed("clientManageThreadPoolNums", "32", "clients that leave"),
		fixed("consumerManageThreadPoolNums", "32", "offsets and consumer lists"),
		workers("heartbeatThreadPoolNums", "min(32, processors)", func(cpu int) int { return min(32, cpu) }, "Threads for heartbeats."),
		workers("endTransactionThreadPoolNums", "max(8+2*processors, 4*min(processors, 4))", func(cpu int) int { return max(8+2*cpu, 4*min(cpu, 4)) }, "Threads for ends of transactions."),
		queue("putThreadPoolQueueCapacity", "10000", "finished sends"),
		queue("replyThreadPoolQueueCapacity", "10000", "replies"),
		queue("queryThreadPoolQueueCapacity", "20000", "queries"),
		queue("clientManagerThreadPoolQueueCapacity", "1000000", "clients that leave"),
		queue("consumerManagerThreadPoolQueueCapacity", "1000000", "offsets and consumer lists"),
		queue("heartbeatThreadPoolQueueCapacity", "50000", "heartbeats"),
		idle("flushConsumerOffsetHistoryInterval", "int", "60000", config.Fixed, "Nothing reads it in the original either."),
		idle("filterServerNums", "int", "0", config.Fixed, "Started programs by shell in 4.5; no version of gomq runs a program."),
		idle("highSpeedMode", "bool", "false", config.Fixed, "Nothing reads it in the original either."),
		idle("commercialEnable", "bool", "true", config.Fixed, "Nothing reads it in the original either."),
		idle("commercialTimerCount", "int", "1", config.Fixed, "Nothing reads it in the original either."),
		idle("commercialTransCount", "int", "1", config.Fixed, "Nothing reads it in the original either."),
		idle("commercialBigCount", "int", "1", config.Fixed, "Nothing reads it in the original either."),
		idle("maxDelayTime", "int", "40", config.Fixed, "Nothing reads it in the original either."),
		{Name: "messageStorePlugIn", Type: "string", Tier: 3, Effect: config.NotYet, Check: refuseSet("names Java classes, which gomq cannot run"),
			Doc: "Java classes around the store: a value refuses to start."},
	}}
}

// storeOfJava are keys of the original's store that have nothing to act on here
// (config.md section 6), and DLedger, which refuses to start.
func storeOfJava() config.Section {
	noDLedger := "asks for DLedger (Raft) replication, which gomq does not have; the broker would keep one copy where the file promises a majority"
	return config.Section{Title: "Store of the original", Doc: "Accepted so that existing files load. gomq flushes everything at each interval and has neither an off-heap write pool nor a choice of locks.", Keys: []config.Key{
		seeds("flushCommitLogLeastPages", "4", "Pages that are gathered before a flush."),
		seeds("flushConsumeQueueLeastPages", "2", "Pages that are gathered before a flush of the queues."),
		seeds("flushCommitLogThoroughInterval", "10000", "Time after which a flush does not wait for pages, in milliseconds."),
		seeds("flushConsumeQueueThoroughInterval", "60000", "The same for the queues, in milliseconds."),
		important(idle("flushCommitLogTimed", "bool", "true", config.Hot, "Whether the original sleeps a whole interval; gomq does not flush when there is nothing to flush.")),
		important(idle("commitIntervalCommitLog", "int", "200", config.Hot, "Period of the write pool, in milliseconds.")),
		idle("commitCommitLogLeastPages", "int", "4", config.Hot, "Pages gathered by the write pool."),
		idle("commitCommitLogThoroughInterval", "int", "200", config.Hot, "Longest wait of the write pool, in milliseconds."),
		idle("flushLeastPagesWhenWarmMapedFile", "int", "4096", config.Hot, "Pages between two flushes while a new file is touched."),
		idle("warmMapedFileEnable", "bool", "false", config.Hot, "Touch new files; gomq allocates them ahead instead."),
		idle("useReentrantLockWhenPutMessage", "bool", "true", config.Restart, "Kind of lock of the log."),
		important(idle("transientStorePoolEnable", "bool", "false", config.Restart, "The write pool itself: messages in it are lost when the process dies, so gomq has none.")),
		idle("transientStorePoolSize", "int", "5", config.Restart, "Buffers of the write pool."),
		idle("fastFailIfNoBufferInStorePool", "bool", "false", config.Hot, "Refuse sends when the write pool is used up."),
		idle("putMsgIndexHightWater", "int", "600000", config.Fixed, "Nothing reads it in the original either."),
		idle("debugLockEnable", "bool", "false", config.Hot, "Write the threads' stacks when the log is held for long; see /debug/pprof."),
		idle("diskFallRecorded", "bool", "true", config.Hot, "Statistics of how far pulls lag."),
		idle("duplicationEnable", "bool", "false", config.Fixed, "An unfinished way of replication in the original."),
		idle("mappedFileSizeConsumeQueueExt", "int", "50331648", config.Fixed, "Size of consume queue extension files."),
		idle("bitMapLengthConsumeQueueExt", "int", "64", config.Fixed, "Bits of an entry in them."),
		{Name: "readOnlyCommitLogStorePaths", Type: "string", Tier: 3, Effect: config.NotYet, Check: refuseSet("names further commit log paths; gomq keeps the log in one directory and would not see the rest of it"),
			Doc: "Commit log paths that take no new files: a value refuses to start."},
		{Name: "enableDLegerCommitLog", Type: "bool", Default: "false", Tier: 3, Effect: config.NotYet, Check: refuseIf("true", noDLedger),
			Doc: "DLedger (Raft) replication: true refuses to start."},
		later("dLegerGroup", "string", "", config.Fixed, "DLedger: name of the group."),
		later("dLegerPeers", "string", "", config.Fixed, "DLedger: members of the group."),
		later("dLegerSelfId", "string", "", config.Fixed, "DLedger: this member."),
		later("preferredLeaderId", "string", "", config.Fixed, "DLedger: the member that should lead."),
		important(later("storePathDLedgerCommitLog", "string", "", config.Fixed, "DLedger: directory of its log.")),
		later("enableBatchPush", "bool", "false", config.Fixed, "DLedger: entries in batches."),
		later("enableLmq", "bool", "false", config.Restart, "Light message queues."),
		later("enableMultiDispatch", "bool", "false", config.Hot, "One message in several queues."),
		later("maxLmqConsumeQueueNum", "int", "20000", config.Hot, "Most light message queues."),
		idle("enableScheduleAsyncDeliver", "bool", "false", config.Restart, "Delayed messages delivered without waiting for each: gomq always stores many at once."),
		idle("scheduleAsyncDeliverMaxPendingLimit", "int", "2000", config.Hot, "Most of them in flight in a level."),
		idle("scheduleAsyncDeliverMaxResendNum2Blocked", "int", "3", config.Hot, "Attempts before a level waits."),
		idle("rocketmq.broker.multiPathSplitter", "string", ",", config.Fixed, "What separates several commit log paths."),
		idle("rocketmq.broker.rebalance.lockMaxLiveTime", "int", "60000", config.Fixed, "Life of an order lock, in milliseconds; gomq keeps the original's 60 s."),
	}}
}

// networkOfJava are the threads, semaphores and buffers of the original's
// network library (config.md section 7).
func networkOfJava() config.Section {
	n := func(name, def, doc string) config.Key { return idle(name, "int", def, config.Restart, doc) }
	b := func(name, def, doc string) config.Key { return idle(name, "bool", def, config.Restart, doc) }
	keys := append(role.NetworkOfJava(),
		n("clientWorkerThreads", "4", "Threads of outgoing connections."),
		workers("clientCallbackExecutorThreads", "processors", func(cpu int) int { return cpu }, "Threads for answers to this process."),
		n("clientOnewaySemaphoreValue", "65535", "Outgoing one-way requests in flight."),
		n("clientAsyncSemaphoreValue", "65535", "Outgoing requests in flight."),
		n("connectTimeoutMillis", "3000", "How long an outgoing connection may take, in milliseconds; gomq keeps the original's 3 s."),
		n("clientChannelMaxIdleTimeSeconds", "120", "Idle time of outgoing connections."),
		n("clientSocketSndBufSize", "0", "Send buffer of outgoing connections."),
		n("clientSocketRcvBufSize", "0", "Receive buffer of outgoing connections."),
		b("clientCloseSocketIfTimeout", "true", "Close an outgoing connection whose request timed out."),
		n("channelNotActiveInterval", "60000", "Nothing reads it in the original either."),
		b("clientPooledByteBufAllocatorEnable", "false", "Pooled buffers of outgoing connections."),
	)
	for _, p := range []struct{ name, kind, def string }{
		{"frameMaxLength", "int", "16777216"}, {"nettyPooledByteBufAllocatorEnable", "bool", "false"},
		{"clientAsyncSemaphoreValue", "int", "65535"}, {"clientOnewaySemaphoreValue", "int", "65535"},
		{"socket.backlog", "int", "1024"}, {"client.worker.size", "int", "4"}, {"client.connect.timeout", "int", "3000"},
		{"client.channel.maxIdleTimeSeconds", "int", "120"}, {"client.closeSocketIfTimeout", "bool", "true"},
		{"write.buffer.high.water.mark", "int", "0"}, {"write.buffer.low.water.mark", "int", "0"},
	} {
		keys = append(keys, idle("com.rocketmq.remoting."+p.name, p.kind, p.def, config.Fixed, "A Java system property; gomq keeps its default."))
	}
	return config.Section{Title: "Network of the original", Doc: "Accepted so that existing files load.", Keys: keys}
}

// laterVersions are keys of RocketMQ 5 (config.md section 9) that a file may
// hold already. Those that promise a number of copies, another master or
// another kind of store refuse to start.
func laterVersions() config.Section {
	refuse := func(name, kind, def, allowed, why, doc string) config.Key {
		k := later(name, kind, def, config.Fixed, doc+" Another value than the default refuses to start.")
		k.Check = func(value string) error {
			if value != allowed {
				return errors.New(why)
			}
			return nil
		}
		return k
	}
	copies := "asks for a number of copies that gomq cannot promise yet"
	l := func(name, kind, def, doc string) config.Key { return later(name, kind, def, config.Fixed, doc) }
	n := func(name string, def int, doc string) config.Key { return l(name, "int", strconv.Itoa(def), doc) }
	b := func(name, def, doc string) config.Key { return l(name, "bool", def, doc) }
	return config.Section{Title: "RocketMQ 5", Doc: "Keys of RocketMQ 5.3 for things that gomq does not have. A store with RocksDB, a controller and replica counts refuse to start; the rest is a warning.", Keys: []config.Key{
		refuse("storeType", "string", "default", "default", "asks for a store in RocksDB; gomq reads and writes plain files only", "Kind of store."),
		refuse("enableControllerMode", "bool", "false", "false", "lets a controller choose the master; without one gomq would be a second master", "A controller chooses the master."),
		refuse("inSyncReplicas", "int", "1", "1", copies, "Copies that a send waits for."),
		refuse("minInSyncReplicas", "int", "1", "1", copies, "Least copies below which sends are refused."),
		refuse("allAckInSyncStateSet", "bool", "false", "false", copies, "A send waits for every copy."),
		n("totalReplicas", 1, "Copies of a set."),
		b("enableAutoInSyncReplicas", "false", "Fewer copies where slaves are missing."),
		n("haMaxTimeSlaveNotCatchup", 15000, "Time after which a slave is no copy, in milliseconds."),
		l("controllerAddr", "string", "", "Addresses of controllers."),
		n("brokerHeartbeatInterval", 1000, "Time between two signs of life to the nameservers, in milliseconds."),
		n("brokerNotActiveTimeoutMillis", 10000, "Time after which a broker is gone, in milliseconds."),
		b("enableSlaveActingMaster", "false", "A slave does some of a dead master's work."),
		b("enableRemoteEscape", "false", "Delayed messages of a dead master go to another one."),
		b("lockInStrictMode", "false", "Order locks are asked of every copy."),
		b("timerWheelEnable", "true", "Messages at any time in the future."),
		n("timerPrecisionMs", 1000, "Their precision."),
		n("timerMaxDelaySec", 259200, "Their longest delay."),
		n("timerRollWindowSlot", 172800, "Slots of their wheel."),
		n("mappedFileSizeTimerLog", 104857600, "Size of a file of their log."),
		b("timerInterceptDelayLevel", "false", "They take over delay levels."),
		n("reviveQueueNum", 8, "Pop consumers."), n("reviveInterval", 1000, "Pop consumers."), n("reviveAckWaitMs", 180000, "Pop consumers."),
		n("popPollingSize", 1024, "Pop consumers."), n("popPollingMapSize", 100000, "Pop consumers."),
		b("enablePopBufferMerge", "false", "Pop consumers."), b("enableRetryTopicV2", "false", "Pop consumers."),
		n("popFromRetryProbability", 20, "Pop consumers."), b("popConsumerKVServiceEnable", "false", "Pop consumers."),
		l("defaultMessageRequestMode", "string", "PULL", "How consumers that leave it open get messages."),
		b("enableCompaction", "true", "Topics that keep the last message of a key."),
		b("recallMessageEnable", "false", "Messages in the future can be taken back."),
		b("useServerSideResetOffset", "true", "Offsets are reset in the broker."),
		b("enableSingleTopicRegister", "false", "Registration of one topic at a time."),
		b("enableSplitRegistration", "false", "Registration in pieces."),
		n("maxStatsIdleTimeInMinutes", -1, "Age at which idle statistics go."),
		n("putMessageTimeout", 8000, "Longest wait of a send for copies, in milliseconds."),
		n("deleteFileBatchMax", 10, "Most files deleted in one round."),
		{Name: "metricsExporterType", Type: "string", Default: "DISABLE", Tier: 3, Effect: config.NoEffect,
			Doc: "gomq always serves Prometheus metrics on httpPort."},
	}}
}

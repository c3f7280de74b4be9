package broker

import (
	"gomq/internal/config"
)

// replicationKeys says how the set keeps copies (config.md section 6).
func replicationKeys(o *Options) config.Section {
	return config.Section{Title: "Replication", Doc: "How the set keeps copies. A SYNC_MASTER without a slave answers SLAVE_NOT_AVAILABLE, never SEND_OK.", Keys: []config.Key{
		{Name: "brokerRole", Field: &o.BrokerRole, Default: "ASYNC_MASTER", Range: "ASYNC_MASTER | SYNC_MASTER | SLAVE", Tier: 1, Important: true,
			Doc: "ASYNC_MASTER answers a send by itself, SYNC_MASTER once a slave has the message too. SLAVE copies a master and serves reads."},
		{Name: "haMasterAddress", Field: &o.HAMasterAddress, Check: checkHostPort, Change: config.Restart, Tier: 2, Important: true,
			Doc: "On a slave: host:port of its master's replication port. Empty: learnt from the nameservers."},
		{Name: "haSendHeartbeatInterval", Field: &o.HASendHeartbeatInterval, Default: "5000", Unit: "ms", Range: "10..", Change: config.Hot, Tier: 2,
			Doc: "Time between two signs of life on an idle replication connection."},
		{Name: "haHousekeepingInterval", Field: &o.HAHousekeepingInterval, Default: "20000", Unit: "ms", Range: "10..", Change: config.Hot, Tier: 2,
			Doc: "A replication connection without a sign of life for this long is closed."},
		{Name: "haTransferBatchSize", Field: &o.HATransferBatchSize, Default: "32768", Unit: "B", Range: "1024..16777216", Change: config.Hot, Tier: 2,
			Doc: "Most bytes of the log in one piece of replication."},
		{Name: "haSlaveFallbehindMax", Field: &o.HASlaveFallbehindMax, Default: "268435456", Unit: "B", Range: "0..", Change: config.Hot, Tier: 2,
			Aliases: []config.Alias{{Name: "haMaxGapNotInSync", Quiet: true}},
			Doc:     "A slave further behind does not count for SYNC_MASTER."},
		{Name: "slaveTimeout", Field: &o.SlaveTimeout, Default: "3000", Unit: "ms", Range: "1..", Change: config.Hot, Tier: 2,
			Doc: "A send to a SYNC_MASTER is answered FLUSH_SLAVE_TIMEOUT after this time; its message stays stored."},
		{Name: "haPeers", Field: &o.HAPeers, Check: checkPeers, Tier: 2,
			Doc: "gomq's own: addresses or networks of slaves that count for SYNC_MASTER without being registered, with ; between them."},
		{Name: "haRepairWaitSeconds", Field: &o.HARepairWaitSeconds, Default: "30", Unit: "s", Range: "0..86400", Change: config.Restart, Tier: 2,
			Doc: "gomq's own: how long a master that was killed waits, before it opens, for a slave that has the end of its log. 0: not at all."},
		{Name: "haCatchUpRate", Field: &o.HACatchUpRate, Default: "230686720", Unit: "B/s", Range: "0..", Change: config.Hot, Tier: 2,
			Doc: "gomq's own: most bytes a second for a slave that lags (32 MiB; at a SYNC_MASTER haSlaveFallbehindMax) while messages come. 0: no limit. Without new messages there is none."},
		{Name: "slaveReadEnable", Field: &o.SlaveReadEnable, Default: "false", Change: config.Hot, Tier: 2,
			Doc: "Suggest a slave to consumers that lag behind what the master has in memory (accessMessageInMemoryMaxRatio): that of the group's whichBrokerWhenConsumeSlowly; others its brokerId."},
		{Name: "offsetCheckInSlave", Field: &o.OffsetCheckInSlave, Default: "false", Change: config.Hot, Tier: 3,
			Doc: "A slave corrects offsets that are out of its range; false: it leaves them to the master, which may have more."},
	}}
}

// sendKeys says when a send is refused (config.md sections 3, 5, 6).
func sendKeys(o *Options) config.Section {
	return config.Section{Title: "Sending", Doc: "When a send is refused. Busy is answered before anything is stored, with code 2 and the cause that was measured.", Keys: []config.Key{
		{Name: "maxMessageSize", Field: &o.MaxMessageSize, Default: "4194304", Unit: "B", Range: "1..16777216", Clamp: true, Change: config.Restart, Tier: 1,
			Doc: "Most bytes of a message's body."},
		{Name: "brokerFastFailureEnable", Field: &o.BrokerFastFailureEnable, Default: "true", Change: config.Hot, Tier: 2,
			Doc: "false switches the next three limits off."},
		{Name: "waitTimeMillsInSendQueue", Field: &o.WaitTimeMillsInSendQueue, Default: "200", Unit: "ms", Range: "1..", Change: config.Hot, Tier: 2,
			Doc: "A send that waited longer from its first byte to its append is refused."},
		{Name: "osPageCacheBusyTimeOutMills", Field: &o.OSPageCacheBusyTimeOutMills, Default: "1000", Unit: "ms", Range: "1..", Change: config.Hot, Tier: 2,
			Doc: "Sends are refused while one append has held the log for longer."},
		{Name: "sendThreadPoolQueueCapacity", Field: &o.SendThreadPoolQueueCapacity, Default: "10000", Range: "1..", Change: config.Restart, Tier: 2,
			Doc: "Sends that may wait for flush or slave at a time."},
		{Name: "maxUndurableBytes", Field: &o.MaxUndurableBytes, Default: "268435456", Unit: "B", Range: "1048576..", Change: config.Hot, Tier: 2,
			Doc: "gomq's own: bytes that may be stored and not yet on the disk; above it sends are refused, whatever brokerFastFailureEnable says."},
		{Name: "startAcceptSendRequestTimeStamp", Field: &o.StartAcceptSendRequestTimeStamp, Default: "0", Range: "0..", Change: config.Hot, Tier: 3,
			Doc: "Sends before this time, in milliseconds since 1970, are refused with code 1."},
	}}
}

// pullKeys says how much a pull gets and how long it waits (config.md
// sections 5, 6).
func pullKeys(o *Options) config.Section {
	return config.Section{Title: "Pulling", Doc: "How much a pull gets and how long it waits.", Keys: []config.Key{
		{Name: "longPollingEnable", Field: &o.LongPollingEnable, Default: "true", Change: config.Hot, Tier: 2,
			Doc: "A pull that finds nothing waits for a message as long as its client asked; false: for shortPollingTimeMills."},
		{Name: "shortPollingTimeMills", Field: &o.ShortPollingTimeMills, Default: "1000", Unit: "ms", Range: "1..", Change: config.Hot, Tier: 3,
			Doc: "See longPollingEnable."},
		{Name: "notifyConsumerIdsChangedEnable", Field: &o.NotifyConsumerIdsChangedEnable, Default: "true", Change: config.Hot, Tier: 2,
			Doc: "Tell the consumers of a group when one joins or leaves."},
		{Name: "waitTimeMillsInPullQueue", Field: &o.WaitTimeMillsInPullQueue, Default: "5000", Unit: "ms", Range: "1..", Change: config.Hot, Tier: 2, Effect: config.NoEffect,
			Doc: "Limit of a pull's wait for a thread; a pull does not wait for one here, and the ones that go to a lane are bounded by pullThreadPoolQueueCapacity."},
		{Name: "waitTimeMillsInHeartbeatQueue", Field: &o.WaitTimeMillsInHeartbeatQueue, Default: "31000", Unit: "ms", Range: "1..", Change: config.Hot, Tier: 3, Effect: config.NoEffect,
			Doc: "Limit of a heartbeat's wait for a thread."},
		{Name: "pullThreadPoolQueueCapacity", Field: &o.PullThreadPoolQueueCapacity, Default: "100000", Range: "1..", Change: config.Restart, Tier: 2,
			Doc: "Pulls that may wait for a worker at a time; only cold ones need a worker."},
		{Name: "maxTransferBytesOnMessageInMemory", Field: &o.MaxTransferBytesOnMessageInMemory, Default: "262144", Unit: "B", Range: "1..16777216", Change: config.Hot, Tier: 2, Important: true,
			Doc: "Most bytes in one answer when the messages are recent."},
		{Name: "maxTransferCountOnMessageInMemory", Field: &o.MaxTransferCountOnMessageInMemory, Default: "32", Range: "1..65536", Change: config.Hot, Tier: 2, Important: true,
			Doc: "Most messages in one answer when they are recent."},
		{Name: "maxTransferBytesOnMessageInDisk", Field: &o.MaxTransferBytesOnMessageInDisk, Default: "65536", Unit: "B", Range: "1..16777216", Change: config.Hot, Tier: 2, Important: true,
			Doc: "Most bytes in one answer when the messages are old."},
		{Name: "maxTransferCountOnMessageInDisk", Field: &o.MaxTransferCountOnMessageInDisk, Default: "8", Range: "1..65536", Change: config.Hot, Tier: 2, Important: true,
			Doc: "Most messages in one answer when they are old."},
		{Name: "accessMessageInMemoryMaxRatio", Field: &o.AccessMessageInMemoryMaxRatio, Default: "40", Unit: "%", Range: "0..100", Change: config.Hot, Tier: 2, Important: true,
			Doc: "Messages nearer to the end of the log than this share of the memory are recent."},
		{Name: "enablePropertyFilter", Field: &o.EnablePropertyFilter, Default: "false", Change: config.Hot, Tier: 2,
			Doc: "Allow subscriptions with SQL92 expressions; without it they are refused with code 1."},
		{Name: "enableCalcFilterBitMap", Field: &o.EnableCalcFilterBitMap, Default: "false", Change: config.Hot, Tier: 2, Effect: config.NoEffect,
			Doc: "Filter bits beside the queue entries, which save the original a look at some messages; here every expression is evaluated."},
		{Name: "expectConsumerNumUseFilter", Field: &o.ExpectConsumerNumUseFilter, Default: "32", Range: "1..1000000", Change: config.Restart, Tier: 3,
			Doc: "Consumers that filter bits are sized for: only consumerFilter.json says so, for a Java broker that reads it."},
		{Name: "maxErrorRateOfBloomFilter", Field: &o.MaxErrorRateOfBloomFilter, Unit: "%", Default: "20", Range: "1..99", Change: config.Restart, Tier: 3,
			Doc: "Rate of error that they are sized for."},
		{Name: "filterDataCleanTimeSpan", Field: &o.FilterDataCleanTimeSpan, Default: "86400000", Unit: "ms", Range: "0..", Change: config.Hot, Tier: 3,
			Doc: "Age at which consumerFilter.json forgets the SQL92 subscription of a group that is gone."},
		{Name: "filterSupportRetry", Field: &o.FilterSupportRetry, Default: "false", Change: config.Hot, Tier: 3,
			Doc: "Apply SQL92 expressions to retried messages too, by the topic that they were in first."},
		{Name: "enableScheduleMessageStats", Field: &o.EnableScheduleMessageStats, Default: "true", Change: config.Hot, Tier: 3,
			Doc: "Count delayed messages when they are delivered, as pulled from SCHEDULE_TOPIC_XXXX by the group SCHEDULE_CONSUMER."},
		{Name: "commercialBaseCount", Field: &o.CommercialBaseCount, Default: "1", Range: "1..", Change: config.Hot, Tier: 3, Effect: config.NoEffect,
			Doc: "A factor for accounting hooks of the original."},
		{Name: "transferMsgByHeap", Field: &o.TransferMsgByHeap, Default: "true", Change: config.Hot, Tier: 3, Effect: config.NoEffect,
			Doc: "How the original copies; the bytes are the same."},
	}}
}

// transactionKeys says how half messages are followed up (config.md section 5).
func transactionKeys(o *Options) config.Section {
	return config.Section{Title: "Transactions", Doc: "How half messages are followed up.", Keys: []config.Key{
		{Name: "rejectTransactionMessage", Field: &o.RejectTransactionMessage, Default: "false", Change: config.Hot, Tier: 2, Important: true,
			Doc: "Refuse half messages with code 16."},
		{Name: "transactionTimeOut", Field: &o.TransactionTimeOut, Default: "6000", Unit: "ms", Range: "0..", Change: config.Hot, Tier: 2, Important: true,
			Doc: "Age of a half message at its first check."},
		{Name: "transactionCheckMax", Field: &o.TransactionCheckMax, Default: "15", Range: "1..", Change: config.Hot, Tier: 2, Important: true,
			Doc: "Checks before a half message is put aside."},
		{Name: "transactionCheckInterval", Field: &o.TransactionCheckInterval, Default: "60000", Unit: "ms", Range: "10..", Change: config.Restart, Tier: 2, Important: true,
			Doc: "Time between two rounds of checks."},
		{Name: "checkTransactionMessageEnable", Type: "bool", Default: "true", Tier: 1, Effect: config.NoEffect, Missed: true,
			Doc: "No version that reads it is in use: checks run on every master. rejectTransactionMessage refuses transactions."},
		{Name: "waitTimeMillsInTransactionQueue", Field: &o.WaitTimeMillsInTransactionQueue, Default: "3000", Unit: "ms", Range: "1..", Change: config.Hot, Tier: 3, Effect: config.NoEffect,
			Doc: "Limit of an end of transaction's wait for a thread."},
		{Name: "endTransactionPoolQueueCapacity", Field: &o.EndTransactionPoolQueueCapacity, Default: "100000", Range: "1..", Change: config.Restart, Tier: 3,
			Doc: "Ends of transactions that may wait at a time."},
	}}
}

// securityKeys says who may come in (config.md sections 2, 5, 7). What is asked
// for and missing refuses to start: going on without it would open a door that
// the file says is shut.
func securityKeys(o *Options) config.Section {
	return config.Section{Title: "Security", Doc: "Who may come in. What is asked for here and missing in gomq refuses to start.", Keys: []config.Key{
		{Name: "aclEnable", Field: &o.ACLEnable, Default: "false", Change: config.Fixed, Tier: 2, Important: true,
			Check: refuseIf("true", "asks for access control, which gomq does not have yet; without it every client could read and write everything"),
			Doc:   "Access control lists. Not yet in gomq: true refuses to start."},
		{Name: "rocketmq.acl.plain.file", Type: "string", Default: "/conf/plain_acl.yml", Tier: 3, Effect: config.NotYet,
			Doc: "File of the access control list."},
		{Name: "configBlackList", Field: &o.ConfigBlackList, Default: "configBlackList;brokerConfigPath", Tier: 2,
			Doc: "Keys that may not be set over the network, beyond those that never may."},
	}}
}

// limitKeys protects the broker from its clients.
func limitKeys(o *Options) config.Section {
	return o.LimitKeys([]config.Key{
		{Name: "maxLongPollsPerConnection", Field: &o.MaxLongPollsPerConnection, Default: "16384", Range: "1..", Change: config.Hot, Tier: 3, Doc: "Waiting pulls of one connection; one for each queue is usual."},
		{Name: "maxSubscriptionsPerConnection", Field: &o.MaxSubscriptionsPerConnection, Default: "1000", Range: "1..", Change: config.Hot, Tier: 3, Doc: "Subscriptions that one connection may register."},
		{Name: "maxTopics", Field: &o.MaxTopics, Default: "50000", Range: "1..", Change: config.Hot, Tier: 3, Doc: "Topics."},
		{Name: "maxGroups", Field: &o.MaxGroups, Default: "50000", Range: "1..", Change: config.Hot, Tier: 3, Doc: "Consumer groups."},
		{Name: "maxQueuesPerTopic", Field: &o.MaxQueuesPerTopic, Default: "1024", Range: "1..65536", Change: config.Hot, Tier: 3, Doc: "Queues of one topic."},
		{Name: "maxNewTopicsPerSecond", Field: &o.MaxNewTopicsPerSecond, Default: "10", Range: "1..", Change: config.Hot, Tier: 3, Doc: "Topics that one client may make by sending to them, a second."},
		{Name: "maxNewTopicsBurst", Field: &o.MaxNewTopicsBurst, Default: "100", Range: "1..", Change: config.Hot, Tier: 3, Doc: "Topics that it may make at once before that rate counts."},
	}...)
}

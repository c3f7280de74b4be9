package broker

import (
	"gomq/internal/config"
	"gomq/internal/role"
)

// identityKeys says who the broker is and whom it tells (config.md section 5).
func identityKeys(o *Options) config.Section {
	return config.Section{Title: "Identity", Doc: "Who the broker is and whom it tells.", Keys: []config.Key{
		{Name: "brokerClusterName", Field: &o.BrokerClusterName, Default: "DefaultCluster", Check: checkName, Tier: 1, Important: true,
			Doc: "Name of the cluster; a topic of this name exists too."},
		{Name: "brokerName", Field: &o.BrokerName, Default: "the host name", Auto: hostName, Check: checkName, Tier: 1, Important: true,
			Doc: "Name of the set of a master and its slaves; a topic of this name exists too."},
		{Name: "brokerId", Field: &o.BrokerID, Default: "0", Range: "0..", Tier: 1, Important: true,
			Doc: "0 on a master, whatever is written; above 0 and unique in its set on a slave."},
		{Name: "namesrvAddr", Field: &o.NamesrvAddr, Env: "NAMESRV_ADDR", Check: checkNamesrv, Tier: 1, Change: config.Restart, Important: true,
			Doc: "The nameservers, host:port with ; between them; the broker registers with every one of them. Empty: nowhere."},
		{Name: "brokerIP1", Field: &o.BrokerIP1, Default: "this machine's address", Auto: localAddress, Check: role.CheckHost, Tier: 2, Important: true,
			Doc: "Address that clients are told to connect to, and the store host of every message. Set it where a machine has several networks, and in containers."},
		{Name: "brokerIP2", Field: &o.BrokerIP2, Default: "this machine's address", Auto: localAddress, Check: role.CheckHost, Tier: 2,
			Doc: "Address that slaves are told to copy from."},
		{Name: "brokerPermission", Field: &o.BrokerPermission, Default: "6", Range: "0..7", Change: config.Hot, Tier: 2,
			Doc: "Read 4 plus write 2. Other than 6 it replaces the permission of every topic in the registration."},
		{Name: "regionId", Field: &o.RegionID, Default: "DefaultRegion", Change: config.Hot, Tier: 2,
			Doc: "The MSG_REGION of answers and messages."},
		{Name: "registerBrokerTimeoutMills", Field: &o.RegisterBrokerTimeoutMills, Default: "6000", Unit: "ms", Range: "1..", Change: config.Hot, Tier: 2,
			Doc: "How long one nameserver may take to answer a registration."},
		{Name: "registerNameServerPeriod", Field: &o.RegisterNameServerPeriod, Default: "30000", Unit: "ms", Range: "10000..60000", Clamp: true, Change: config.Restart, Tier: 2,
			Doc: "Time between two registrations."},
		{Name: "forceRegister", Field: &o.ForceRegister, Default: "true", Change: config.Hot, Tier: 2,
			Doc: "Register each period without asking first whether the nameserver has the current data."},
		{Name: "compressedRegister", Field: &o.CompressedRegister, Default: "false", Change: config.Hot, Tier: 2,
			Doc: "Deflate the body of registrations."},
		{Name: "fetchNamesrvAddrByAddressServer", Field: &o.FetchNamesrvAddrByAddressServer, Default: "false", Change: config.Restart, Tier: 3, Important: true, Effect: config.NotYet,
			Doc: "Ask an HTTP address server for the nameservers when namesrvAddr is empty."},
		{Name: "rmqAddressServerDomain", Type: "string", Default: "jmenv.tbsite.net", Tier: 3, Effect: config.NotYet,
			Doc: "Host of that address server."},
		{Name: "rmqAddressServerSubGroup", Type: "string", Default: "nsaddr", Tier: 3, Effect: config.NotYet,
			Doc: "Last part of the path asked there."},
		{Name: "rocketmqHome", Type: "string", Env: "ROCKETMQ_HOME", Tier: 3, Effect: config.NoEffect,
			Doc: "Installation directory of the original; gomq needs none."},
	}}
}

// listenKeys says where clients come in (config.md section 7).
func listenKeys(o *Options) config.Section {
	return config.Section{Title: "Listening", Doc: "Where clients come in. listenPort, the port two below it (the VIP port) and the one above it (replication) must be free.", Keys: append([]config.Key{
		{Name: "listenPort", Field: &o.ListenPort, Default: "10911", Range: "3..65534", Tier: 1,
			Doc: "Port for clients."},
		{Name: "haListenPort", Field: &o.HAListenPort, Default: "listenPort+1", Auto: func() string { return "0" }, Range: "0..65535", Tier: 3,
			Doc: "Always listenPort+1, as in RocketMQ 4.9, which ignores what is written here."},
	}, o.ListenKeys()...)}
}

// isolateLog is a key of the original's logging alone.
var isolateLog = idle("isolateLogEnable", "bool", "false", config.Restart, "A log directory for each broker; gomq writes to stderr and leaves files to whoever started it.")

// topicKeys says what exists without being asked for (config.md section 5).
func topicKeys(o *Options) config.Section {
	return config.Section{Title: "Topics and groups", Doc: "What exists without being asked for.", Keys: []config.Key{
		{Name: "defaultTopicQueueNums", Field: &o.DefaultTopicQueueNums, Default: "8", Range: "1..1024", Change: config.Restart, Tier: 1,
			Doc: "Queues of the template topic TBW102 when it is made, and so of topics made by a first send. A TBW102 of an existing store wins."},
		{Name: "autoCreateTopicEnable", Field: &o.AutoCreateTopicEnable, Default: "true", Change: config.Hot, Tier: 1, Important: true,
			Doc: "An unknown topic is made by the first send to it. Switched off it takes effect at once, switched on at the next start."},
		{Name: "autoCreateSubscriptionGroup", Field: &o.AutoCreateSubscriptionGroup, Default: "true", Change: config.Hot, Tier: 1, Important: true,
			Doc: "An unknown consumer group is made when it is first used; otherwise its pulls are answered with code 26."},
		{Name: "clusterTopicEnable", Field: &o.ClusterTopicEnable, Default: "true", Change: config.Restart, Tier: 3,
			Doc: "The topic named as the cluster may be read and written."},
		{Name: "brokerTopicEnable", Field: &o.BrokerTopicEnable, Default: "true", Change: config.Restart, Tier: 3,
			Doc: "The topic named as the broker may be read and written."},
		{Name: "traceTopicEnable", Field: &o.TraceTopicEnable, Default: "false", Change: config.Restart, Tier: 2, Important: true,
			Doc: "Make the topic for message traces at start."},
		{Name: "msgTraceTopicName", Field: &o.MsgTraceTopicName, Default: "RMQ_SYS_TRACE_TOPIC", Check: checkName, Change: config.Restart, Tier: 2, Important: true,
			Doc: "Name of that topic."},
		{Name: "traceOn", Field: &o.TraceOn, Default: "true", Change: config.Hot, Tier: 2,
			Doc: "TRACE_ON of answers: whether clients that trace should send their traces."},
		{Name: "messageDelayLevel", Field: &o.MessageDelayLevel, Default: "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h", Check: checkDelays, Change: config.Restart, Tier: 2,
			Doc: "Delays of the levels 1, 2, ... of delayed messages, units s, m, h and d; 255 levels at most. Retries use the levels from 3 on. A change counts for messages sent after it."},
		{Name: "enableDetailStat", Field: &o.EnableDetailStat, Default: "true", Change: config.Restart, Tier: 3, Effect: config.NotYet,
			Doc: "Keep statistics for each group and queue too."},
		{Name: "autoDeleteUnusedStats", Field: &o.AutoDeleteUnusedStats, Default: "false", Change: config.Hot, Tier: 3, Effect: config.NotYet,
			Doc: "Drop statistics with their topic or group."},
		{Name: "storeReplyMessageEnable", Field: &o.StoreReplyMessageEnable, Default: "true", Change: config.Hot, Tier: 3,
			Doc: "Store the replies of request-reply calls too."},
	}}
}

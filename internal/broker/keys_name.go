package broker

import (
	"errors"
	"net/netip"
	"strings"

	"gomq/internal/config"
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
		{Name: "brokerIP1", Field: &o.BrokerIP1, Default: "this machine's address", Auto: localAddress, Check: checkHost, Tier: 2, Important: true,
			Doc: "Address that clients are told to connect to, and the store host of every message. Set it where a machine has several networks, and in containers."},
		{Name: "brokerIP2", Field: &o.BrokerIP2, Default: "this machine's address", Auto: localAddress, Check: checkHost, Tier: 2,
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

// listenKeys says where clients come in (config.md section 7; httpPort and
// listenHost are gomq's own).
func listenKeys(o *Options) config.Section {
	return config.Section{Title: "Listening", Doc: "Where clients come in. listenPort, the port two below it (the VIP port) and the one above it (replication) must be free.", Keys: []config.Key{
		{Name: "listenPort", Field: &o.ListenPort, Default: "10911", Range: "3..65534", Tier: 1,
			Doc: "Port for clients."},
		{Name: "listenHost", Field: &o.ListenHost, Check: checkHost, Tier: 2,
			Doc: "gomq's own: address of this machine to listen on. Empty: all interfaces."},
		{Name: "haListenPort", Field: &o.HAListenPort, Default: "listenPort+1", Auto: func() string { return "0" }, Range: "0..65535", Tier: 3,
			Doc: "Always listenPort+1, as in RocketMQ 4.9, which ignores what is written here."},
		{Name: "httpPort", Field: &o.HTTPPort, Default: "listenPort+20000", Auto: func() string { return "-1" }, Range: "0..65535", Tier: 2,
			Aliases: []config.Alias{{Name: "metricsPromExporterPort", Quiet: true}},
			Doc:     "gomq's own: port of /metrics, /healthz, /readyz and /debug/pprof; 0 is off. When it is set and taken the broker does not start."},
		{Name: "httpHost", Field: &o.HTTPHost, Default: "127.0.0.1", Check: checkHost, Tier: 2,
			Aliases: []config.Alias{{Name: "metricsPromExporterHost", Quiet: true}},
			Doc:     "gomq's own: address of that port. A Prometheus on another machine needs it set, for example to 0.0.0.0; pprof is then open to that network as well."},
		{Name: "serverChannelMaxIdleTimeSeconds", Field: &o.ServerChannelMaxIdleTimeSeconds, Default: "120", Unit: "s", Range: "1..", Change: config.Restart, Tier: 2,
			Doc: "A connection on which nothing moves is closed after this time."},
		{Name: "serverSocketSndBufSize", Field: &o.ServerSocketSndBufSize, Default: "0", Unit: "B", Range: "0..2147483647", Change: config.Restart, Tier: 2,
			Aliases: []config.Alias{{Name: "com.rocketmq.remoting.socket.sndbuf.size", Quiet: true}},
			Doc:     "Send buffer of a socket; 0 leaves it to the kernel."},
		{Name: "serverSocketRcvBufSize", Field: &o.ServerSocketRcvBufSize, Default: "0", Unit: "B", Range: "0..2147483647", Change: config.Restart, Tier: 2,
			Aliases: []config.Alias{{Name: "com.rocketmq.remoting.socket.rcvbuf.size", Quiet: true}},
			Doc:     "Receive buffer of a socket; 0 leaves it to the kernel."},
	}}
}

// logKeys says what the process writes about itself; gomq's own.
func logKeys(o *Options) config.Section {
	return config.Section{Title: "Logging", Doc: "What the process writes to stderr about itself. gomq's own keys; the flags --log-level and --log-format win.", Keys: []config.Key{
		{Name: "logLevel", Field: &o.LogLevel, Default: "info", Range: "debug | info | warn | error", Env: "GOMQ_LOG_LEVEL", Change: config.Hot, Tier: 2,
			Doc: "The least level that is written."},
		{Name: "logFormat", Field: &o.LogFormat, Default: "auto", Range: "auto | console | json", Env: "GOMQ_LOG_FORMAT", Change: config.Restart, Tier: 2,
			Doc: "auto is console on a terminal and json otherwise."},
		{Name: "isolateLogEnable", Type: "bool", Default: "false", Change: config.Restart, Tier: 3, Effect: config.NoEffect,
			Doc: "A log directory for each broker; gomq writes to stderr and leaves files to whoever started it."},
	}}
}

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
		{Name: "messageDelayLevel", Field: &o.MessageDelayLevel, Default: "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h", Check: checkDelays, Change: config.Restart, Tier: 2, Effect: config.NotYet,
			Doc: "Delays of the levels 1, 2, ... of delayed messages, units s, m, h and d."},
		{Name: "enableDetailStat", Field: &o.EnableDetailStat, Default: "true", Change: config.Restart, Tier: 3, Effect: config.NotYet,
			Doc: "Keep statistics for each group and queue too."},
		{Name: "autoDeleteUnusedStats", Field: &o.AutoDeleteUnusedStats, Default: "false", Change: config.Hot, Tier: 3, Effect: config.NotYet,
			Doc: "Drop statistics with their topic or group."},
		{Name: "storeReplyMessageEnable", Field: &o.StoreReplyMessageEnable, Default: "true", Change: config.Hot, Tier: 3, Effect: config.NotYet,
			Doc: "Store the replies of request-reply calls too."},
	}}
}

// checkHost takes what may stand for one host: a name or an address, no port.
func checkHost(value string) error {
	if _, err := netip.ParseAddr(value); value == "" || err == nil {
		return nil
	}
	if strings.ContainsAny(value, ":/;, \t") {
		return errors.New("must be one host name or IP address without a port")
	}
	return nil
}

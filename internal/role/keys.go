package role

import (
	"errors"
	"net/netip"
	"strings"

	"gomq/internal/config"
)

// ListenKeys say where clients come in, beside listenPort (config.md section 7;
// httpPort and listenHost are gomq's own).
func (o *Common) ListenKeys() []config.Key {
	return []config.Key{
		{Name: "listenHost", Field: &o.ListenHost, Check: CheckHost, Tier: 2, Aliases: []config.Alias{{Name: "bindAddress", Quiet: true}},
			Doc: "gomq's own: address of this machine to listen on. Empty: all interfaces."},
		{Name: "httpPort", Field: &o.HTTPPort, Default: "listenPort+20000", Auto: func() string { return "-1" }, Range: "0..65535", Tier: 2,
			Aliases: []config.Alias{{Name: "metricsPromExporterPort", Quiet: true}},
			Doc:     "gomq's own: port of /metrics, /healthz, /readyz and /debug/pprof; 0 is off. When it is set and taken the process does not start."},
		{Name: "httpHost", Field: &o.HTTPHost, Default: "127.0.0.1", Check: CheckHost, Tier: 2,
			Aliases: []config.Alias{{Name: "metricsPromExporterHost", Quiet: true}},
			Doc:     "gomq's own: address of that port. A Prometheus on another machine needs it set, for example to 0.0.0.0; pprof is then open to that network as well."},
		{Name: "serverChannelMaxIdleTimeSeconds", Field: &o.ServerChannelMaxIdleTimeSeconds, Default: "120", Unit: "s", Range: "1..", Change: config.Restart, Tier: 2,
			Doc: "A connection on which nothing moves is closed after this time; what was registered over it, clients or brokers, is gone with it."},
		{Name: "serverSocketSndBufSize", Field: &o.ServerSocketSndBufSize, Default: "0", Unit: "B", Range: "0..2147483647", Change: config.Restart, Tier: 2,
			Aliases: []config.Alias{{Name: "com.rocketmq.remoting.socket.sndbuf.size", Quiet: true}},
			Doc:     "Send buffer of a socket; 0 leaves it to the kernel."},
		{Name: "serverSocketRcvBufSize", Field: &o.ServerSocketRcvBufSize, Default: "0", Unit: "B", Range: "0..2147483647", Change: config.Restart, Tier: 2,
			Aliases: []config.Alias{{Name: "com.rocketmq.remoting.socket.rcvbuf.size", Quiet: true}},
			Doc:     "Receive buffer of a socket; 0 leaves it to the kernel."},
	}
}

// LogKeys say what the process writes about itself; gomq's own.
func (o *Common) LogKeys(own ...config.Key) config.Section {
	return config.Section{Title: "Logging", Doc: "What the process writes to stderr about itself. gomq's own keys; the flags --log-level and --log-format win.", Keys: append([]config.Key{
		{Name: "logLevel", Field: &o.LogLevel, Default: "info", Range: "debug | info | warn | error", Env: "GOMQ_LOG_LEVEL", Change: config.Hot, Tier: 2,
			Doc: "The least level that is written."},
		{Name: "logFormat", Field: &o.LogFormat, Default: "auto", Range: "auto | console | json", Env: "GOMQ_LOG_FORMAT", Change: config.Restart, Tier: 2,
			Doc: "auto is console on a terminal and json otherwise."},
	}, own...)}
}

// LimitKeys protect the process from its clients; gomq's own. own are the role's.
func (o *Common) LimitKeys(own ...config.Key) config.Section {
	return config.Section{Title: "Limits", Doc: "gomq's own keys: what one client, and all of them together, may take.", Keys: append([]config.Key{
		{Name: "maxConnections", Field: &o.MaxConnections, Default: "10000", Range: "1..", Change: config.Restart, Tier: 3, Doc: "Connections at a time, never more than the limit of open files less 256."},
		{Name: "maxConnectionsPerIP", Field: &o.MaxConnectionsPerIP, Default: "5000", Range: "1..", Change: config.Restart, Tier: 3, Doc: "Connections at a time from one address; loopback is exempt."},
		{Name: "maxRequestsInFlight", Field: &o.MaxRequestsInFlight, Default: "16384", Range: "1..", Change: config.Restart, Tier: 3, Doc: "Requests of one connection that wait for their answers; more are answered SYSTEM_BUSY."},
		{Name: "maxOutboundBytes", Field: &o.MaxOutboundBytes, Default: "67108864", Unit: "B", Range: "1048576..", Change: config.Restart, Tier: 3, Doc: "Bytes that wait to be written to one connection; more close it."},
		{Name: "maxInboundBytes", Field: &o.MaxInboundBytes, Default: "268435456", Unit: "B", Range: "16777216..", Change: config.Restart, Tier: 3, Doc: "Bytes of half-read requests over all connections; more wait their turn."},
	}, own...)}
}

// CheckHost takes what may stand for one host: a name or an address, no port.
func CheckHost(value string) error {
	if _, err := netip.ParseAddr(value); value == "" || err == nil {
		return nil
	}
	if strings.ContainsAny(value, ":/;, \t") {
		return errors.New("must be one host name or IP address without a port")
	}
	return nil
}

// NetworkOfJava are keys of the original's network objects that have nothing to
// act on here (config.md section 7).
func NetworkOfJava() []config.Key {
	n := func(name, kind, def, doc string) config.Key {
		return config.Key{Name: name, Type: kind, Default: def, Change: config.Restart, Tier: 3, Effect: config.NoEffect, Doc: doc}
	}
	return []config.Key{
		n("serverWorkerThreads", "int", "8", "Threads for coding."),
		n("serverCallbackExecutorThreads", "int", "0", "Threads for requests without their own."),
		n("serverSelectorThreads", "int", "3", "Threads for sockets."),
		n("serverOnewaySemaphoreValue", "int", "256", "One-way calls under way to clients."),
		n("serverAsyncSemaphoreValue", "int", "64", "Calls under way to clients."),
		n("serverSocketBacklog", "int", "1024", "Connections that wait to be accepted; gomq takes the system's limit."),
		n("serverPooledByteBufAllocatorEnable", "bool", "true", "Pooled buffers."),
		n("useEpollNativeSelector", "bool", "false", "Native epoll."),
		n("writeBufferHighWaterMark", "int", "0", "Bytes at which a connection stops taking answers; maxOutboundBytes is gomq's."),
		n("writeBufferLowWaterMark", "int", "0", "Bytes at which it takes them again."),
	}
}

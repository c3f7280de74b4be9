package namesrv

import (
	"net"
	"time"

	"gomq/internal/config"
)

// Options is the whole configuration of a nameserver as plain values. A field
// has the name of its key in the properties file (docs/CONFIG.md); Keys ties the
// two together and holds the defaults, DefaultOptions returns them.
type Options struct {
	// Source is what was read to make these options: the file that
	// UPDATE_NAMESRV_CONFIG rewrites. nil (tests): an update lives until the
	// nameserver stops.
	Source *config.Source

	// Seams for tests; no keys.
	Now      func() time.Time // nil: time.Now
	Listener net.Listener     // nil: ListenHost and ListenPort

	// Listening.
	ListenPort                      int    // 0 (tests): the system chooses
	ListenHost                      string // address to listen on; empty: all interfaces
	HTTPHost                        string // metrics, health, pprof
	HTTPPort                        int    // 0: off
	HTTPPortConfigured              bool   // false: the default port; its being taken is a warning and not fatal
	ServerChannelMaxIdleTimeSeconds time.Duration
	ServerSocketSndBufSize          int // bytes, 0: the kernel's choice
	ServerSocketRcvBufSize          int

	// Routes.
	OrderMessageEnable          bool          // routes carry the ORDER_TOPIC_CONFIG of their topic
	BrokerExpiredTimeMillis     time.Duration // a broker not heard of for longer is gone
	ScanNotActiveBrokerInterval time.Duration // how often that is looked at; first after 5 s when this is longer

	// Files.
	KVConfigPath    string
	ConfigStorePath string // the -c file, or where the original would put one; written to only when it is the -c file
	RocketmqHome    string // nothing reads it

	// Security.
	ConfigBlackList []string // keys that no update over the network may name
	TLSServerMode   string   // disabled, permissive

	// Limits.
	MaxConnections      int
	MaxConnectionsPerIP int // loopback exempt
	MaxRequestsInFlight int // per connection
	MaxOutboundBytes    int64
	MaxInboundBytes     int64 // all connections together
	MaxBrokers          int
	MaxTopics           int
	MaxKVConfigBytes    int

	// Logging.
	LogLevel  string
	LogFormat string
}

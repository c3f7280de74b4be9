package namesrv

import (
	"net"
	"time"

	"gomq/internal/role"
)

// Options is the whole configuration of a nameserver as plain values. A field
// has the name of its key in the properties file (docs/CONFIG.md); Keys ties the
// two together and holds the defaults, DefaultOptions returns them.
type Options struct {
	role.Common

	// Seams for tests; no keys.
	Now      func() time.Time // nil: time.Now
	Listener net.Listener     // nil: ListenHost and ListenPort

	// Routes.
	OrderMessageEnable          bool          // routes carry the ORDER_TOPIC_CONFIG of their topic
	BrokerExpiredTimeMillis     time.Duration // a broker not heard of for longer is gone
	ScanNotActiveBrokerInterval time.Duration // how often that is looked at; first after 5 s when this is longer

	// Files.
	KVConfigPath    string
	ConfigStorePath string // the -c file, or where the original would put one; written to only when it is the -c file
	RocketmqHome    string // nothing reads it

	// Limits.
	MaxBrokers       int
	MaxTopics        int
	MaxKVConfigBytes int
}

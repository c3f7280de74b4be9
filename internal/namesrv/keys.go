package namesrv

import (
	"errors"
	"os/user"
	"path/filepath"

	"gomq/internal/config"
	"gomq/internal/role"
)

// Keys returns the table of a nameserver's keys, bound to o. It changes nothing
// in o. The keys, their defaults and marks are those of RocketMQ 4.9.8 (config.md
// sections 7 and 8); those with gomq in their description are gomq's own.
func Keys(o *Options) *config.Table {
	return config.NewTable("the nameserver", listenKeys(o), routeKeys(o), fileKeys(o), o.LogKeys(), securityKeys(o), o.TLSKeys(false), limitKeys(o),
		config.Section{Title: "Network of the original", Doc: "Accepted so that existing files load.", Keys: role.NetworkOfJava()}, laterVersions())
}

// DefaultOptions returns what a nameserver has without a file, a flag and an
// environment. Paths come from the machine.
func DefaultOptions() Options { return role.Default(Keys) }

// LoadOptions makes options of the defaults, the environment (getenv may be
// nil), the properties file (empty: none) and the flags, later ones winning. The
// problems are what there is to say; an error means that some are fatal or the
// file cannot be read.
func LoadOptions(file string, flags []config.Flag, getenv func(string) string) (Options, []config.Problem, error) {
	return role.Load(Keys, file, flags, getenv)
}

// NewLive makes the changeable configuration of a running nameserver.
func NewLive(o Options) *config.Live[Options] { return role.NewLive(o, Keys) }

// Finish derives what follows from other keys.
func (o *Options) Finish(file string) []config.Problem {
	if file != "" {
		o.ConfigStorePath = file // as in the original: what was loaded is what updates go to
	}
	return o.FinishHTTP(file, o.ListenPort)
}

func listenKeys(o *Options) config.Section {
	return config.Section{Title: "Listening", Doc: "Where clients and brokers come in.", Keys: append([]config.Key{
		{Name: "listenPort", Field: &o.ListenPort, Default: "9876", Range: "0..65535", Tier: 1, Important: true,
			Doc: "Port of the nameserver; 0 lets the system choose one."},
	}, o.ListenKeys()...)}
}

func routeKeys(o *Options) config.Section {
	return config.Section{Title: "Routes", Doc: "What clients are told and how long a silent broker counts as alive.", Keys: []config.Key{
		{Name: "orderMessageEnable", Field: &o.OrderMessageEnable, Default: "false", Change: config.Hot, Tier: 2,
			Doc: "The route of a topic carries its order configuration (KV namespace ORDER_TOPIC_CONFIG)."},
		{Name: "brokerExpiredTimeMillis", Field: &o.BrokerExpiredTimeMillis, Default: "120000", Unit: "ms", Range: "1..", Change: config.Restart, Tier: 3,
			Doc: "gomq's own: a broker that has not registered for longer is gone. The original's time is fixed; brokers register every 30 s."},
		{Name: "scanNotActiveBrokerInterval", Field: &o.ScanNotActiveBrokerInterval, Default: "10000", Unit: "ms", Range: "1..", Change: config.Restart, Tier: 3,
			Doc: "How often silent brokers are looked for, first after 5 s or after this time when it is shorter. A key of 5.x; the time is fixed in 4.9."},
		{Name: "clusterTest", Type: "bool", Default: "false", Change: config.Restart, Tier: 3, Effect: config.NotYet,
			Doc: "Ask another environment's nameserver for unknown topics."},
		{Name: "productEnvName", Type: "string", Default: "center", Change: config.Restart, Tier: 3, Effect: config.NoEffect,
			Doc: "That environment's name; only with clusterTest."},
	}}
}

func fileKeys(o *Options) config.Section {
	return config.Section{Title: "Files", Doc: "Where the nameserver keeps what must outlive it: the KV configuration. Routes live in memory only.", Keys: []config.Key{
		{Name: "kvConfigPath", Field: &o.KVConfigPath, Default: "${user.home}/namesrv/kvConfig.json", Auto: func() string { return homeFile("kvConfig.json") }, Tier: 2, Important: true,
			Check: notEmpty, Doc: "File of the KV configuration; KVFILE.bak is the generation before."},
		{Name: "configStorePath", Field: &o.ConfigStorePath, Default: "${user.home}/namesrv/namesrv.properties", Auto: func() string { return homeFile("namesrv.properties") }, Tier: 2,
			Doc: "Always the file given with -c, which updates over the network go to; without one they last until the nameserver stops."},
		{Name: "rocketmqHome", Field: &o.RocketmqHome, Env: "ROCKETMQ_HOME", Tier: 3,
			Doc: "Accepted; gomq needs no installation directory."},
	}}
}

func securityKeys(o *Options) config.Section {
	return config.Section{Title: "Security", Doc: "Who may come in. What is asked for here and missing in gomq refuses to start.", Keys: []config.Key{
		{Name: "configBlackList", Field: &o.ConfigBlackList, Default: "configBlackList;configStorePath;kvConfigPath", Tier: 2,
			Doc: "Keys that may not be set over the network. Of gomq's keys only those marked restart or at once may be set at all."},
	}}
}

func limitKeys(o *Options) config.Section {
	return o.LimitKeys([]config.Key{
		{Name: "maxBrokers", Field: &o.MaxBrokers, Default: "10000", Range: "1..", Change: config.Hot, Tier: 3, Doc: "Brokers registered at a time, slaves included; more are refused."},
		{Name: "maxTopics", Field: &o.MaxTopics, Default: "500000", Range: "1..", Change: config.Hot, Tier: 3, Doc: "Topics known at a time; a registration that would bring more is refused."},
		{Name: "maxKVConfigBytes", Field: &o.MaxKVConfigBytes, Default: "16777216", Unit: "B", Range: "1024..", Change: config.Hot, Tier: 3, Doc: "Bytes of the KV configuration's keys and values; more are refused."},
	}...)
}

// laterVersions are keys that only 5.x has.
func laterVersions() config.Section {
	n := func(name, kind, def string, effect config.Effect, doc string) config.Key {
		return config.Key{Name: name, Type: kind, Default: def, Change: config.Restart, Tier: 3, Effect: effect, Doc: doc}
	}
	return config.Section{Title: "RocketMQ 5", Doc: "Keys that 4.9 does not have.", Keys: []config.Key{
		n("returnOrderTopicConfigToBroker", "bool", "true", config.NoEffect, "Brokers are always told the order configuration."),
		n("supportActingMaster", "bool", "false", config.NotYet, "A slave stands in for a lost master in routes."),
		n("notifyMinBrokerIdChanged", "bool", "false", config.NotYet, "Tell brokers when their set's least id changes."),
		n("deleteTopicWithBrokerRegistration", "bool", "false", config.NotYet, "A registration takes the topics away that it lacks."),
		n("needWaitForService", "bool", "false", config.NotYet, "Refuse routes for a while after the start."),
		n("waitSecondsForService", "int", "45", config.NotYet, "How long that is, s."),
		n("enableControllerInNamesrv", "bool", "false", config.NotYet, "Run a controller beside the nameserver."),
		n("enableAllTopicList", "bool", "true", config.NotYet, "Serve the list of all topics."),
		n("enableTopicList", "bool", "true", config.NotYet, "Serve the lists of topics."),
		n("clientRequestThreadPoolNums", "int", "8", config.NoEffect, "Threads for routes."),
		n("defaultThreadPoolNums", "int", "16", config.NoEffect, "Threads for other requests."),
		n("clientRequestThreadPoolQueueCapacity", "int", "50000", config.NoEffect, "Route requests that wait for a thread."),
		n("defaultThreadPoolQueueCapacity", "int", "10000", config.NoEffect, "Other requests that wait for a thread."),
		n("unRegisterBrokerQueueCapacity", "int", "3000", config.NoEffect, "Removals that wait for a thread."),
	}}
}

// homeFile is a file of Java's ${user.home}/namesrv: the home of the passwd
// entry, not of the variable HOME.
func homeFile(name string) string {
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		return filepath.Join(u.HomeDir, "namesrv", name)
	}
	return filepath.Join("namesrv", name)
}

func notEmpty(value string) error {
	if value == "" {
		return errors.New("must name a file")
	}
	return nil
}

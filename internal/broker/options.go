package broker

import (
	"time"

	"gomq/internal/role"
)

// Role is brokerRole: what the broker does for its set.
type Role string

// The roles of RocketMQ 4.9 (config.md section 6).
const (
	AsyncMaster Role = "ASYNC_MASTER" // answers a send without asking a slave
	SyncMaster  Role = "SYNC_MASTER"  // answers a send once a registered slave has it
	Slave       Role = "SLAVE"        // copies a master's log, serves reads only
)

// FlushType is flushDiskType: what SEND_OK says about the disk.
type FlushType string

// The two flush types.
const (
	AsyncFlush FlushType = "ASYNC_FLUSH" // answered from memory, flushed every FlushIntervalCommitLog
	SyncFlush  FlushType = "SYNC_FLUSH"  // answered once the disk has it
)

// Options is the whole configuration of a broker as plain values. A field has
// the name of its key in the properties file (docs/CONFIG.md tells each key's
// meaning, range and whether it may change while running); Keys ties the two
// together and holds the defaults, DefaultOptions returns them. The broker
// reads Options and nothing else.
type Options struct {
	role.Common

	// Identity: who the broker is and whom it tells.

	BrokerClusterName string // also the name of a topic, see ClusterTopicEnable
	BrokerName        string // name of the set of a master and its slaves; also the name of a topic
	BrokerID          int64  // 0 is the master whatever the file says; a slave's is > 0 and unique in its set
	BrokerIP1         string // address registered for clients and stored as each message's store host
	BrokerIP2         string // address of the HA port given to slaves
	BrokerPermission  int32  // 4 read + 2 write; other than 6 it replaces the permission of every topic registered
	RegionID          string // MSG_REGION of answers and messages

	NamesrvAddr                     []string      // host:port each; empty: the broker registers nowhere
	RegisterBrokerTimeoutMills      time.Duration // for each nameserver
	RegisterNameServerPeriod        time.Duration // 10 s to 60 s
	ForceRegister                   bool          // false: ask the nameservers' data version first
	CompressedRegister              bool          // deflate the registration
	FetchNamesrvAddrByAddressServer bool

	// Listening: beside what both roles have.

	HAListenPort   int // always ListenPort+1, as in 4.9
	FastListenPort int // always ListenPort-2

	// Topics: what exists without being asked for.

	DefaultTopicQueueNums       int32 // queues of TBW102 when it is created
	AutoCreateTopicEnable       bool
	AutoCreateSubscriptionGroup bool
	ClusterTopicEnable          bool
	BrokerTopicEnable           bool
	TraceTopicEnable            bool
	MsgTraceTopicName           string
	TraceOn                     bool // TRACE_ON in answers: clients then send traces
	MessageDelayLevel           string
	EnableDetailStat            bool
	AutoDeleteUnusedStats       bool
	StoreReplyMessageEnable     bool

	// Storage: where data lies and in what pieces.

	StorePathRootDir           string
	StorePathCommitLog         string // empty: Root/commitlog
	StorePathConsumeQueue      string // empty: Root/consumequeue
	StorePathIndex             string // empty: Root/index
	StoreCheckpoint            string // empty: Root/checkpoint
	AbortFile                  string // empty: Root/abort
	MappedFileSizeCommitLog    int64  // bytes; the files of an existing store win
	MappedFileSizeConsumeQueue int64  // bytes, a multiple of 20; the files of an existing store win
	EnableConsumeQueueExt      bool
	MessageIndexEnable         bool
	MessageIndexSafe           bool
	MaxHashSlotNum             int
	MaxIndexNum                int
	MaxMsgsNumBatch            int // most results of a query by key
	DefaultQueryMaxNum         int // most results of a query by unique key
	CheckCRCOnRecover          bool
	MaxMappedQueues            int // queue files mapped at a time

	// Flushing: when bytes reach the disk.

	FlushDiskType               FlushType
	FlushIntervalCommitLog      time.Duration
	FlushIntervalConsumeQueue   time.Duration
	SyncFlushTimeout            time.Duration // FLUSH_DISK_TIMEOUT after this
	WriteWithoutMmap            *bool         // nil: pwrite under SYNC_FLUSH, the mapping otherwise
	FlushConsumerOffsetInterval time.Duration
	FlushDelayOffsetInterval    time.Duration

	// Retention: when data goes.

	DeleteWhen                         string        // hours of the day, "04" or "4;16"
	FileReservedTime                   time.Duration // age at which a log file may go
	DiskMaxUsedSpaceRatio              int           // percent, 10..95; above it old files go outside DeleteWhen too
	DiskSpaceWarningLevelRatio         int           // percent; above it no message is taken
	DiskSpaceCleanForciblyRatio        int           // percent; above it files go whatever their age
	CleanFileForciblyEnable            bool
	CleanResourceInterval              time.Duration
	DeleteCommitLogFilesInterval       time.Duration
	DeleteConsumeQueueFilesInterval    time.Duration
	DestroyMapedFileIntervalForcibly   time.Duration
	RedeleteHangedFileInterval         time.Duration
	DisableConsumeIfConsumerReadSlowly bool
	ConsumerFallbehindThreshold        int64
	FilterDataCleanTimeSpan            time.Duration

	// Replication: how the set keeps copies.

	BrokerRole              Role
	HAMasterAddress         string // slave: fixed HA address of the master; empty: learnt from the nameservers
	HASendHeartbeatInterval time.Duration
	HAHousekeepingInterval  time.Duration
	HATransferBatchSize     int
	HACatchUpRate           int64         // bytes/s for a slave that lags while messages come; 0 = no limit
	HASlaveFallbehindMax    int64         // bytes; a slave further behind does not count for SYNC_MASTER
	SlaveTimeout            time.Duration // FLUSH_SLAVE_TIMEOUT after this
	HAPeers                 []string      // addresses or CIDRs of slaves that count without being registered
	HARepairWaitSeconds     time.Duration // an unclean master waits this long for a slave with its lost tail; 0: not at all
	SlaveReadEnable         bool          // suggest a slave to pulls that lag
	OffsetCheckInSlave      bool

	// Sending: when a send is refused.

	MaxMessageSize                  int // bytes of a body
	BrokerFastFailureEnable         bool
	WaitTimeMillsInSendQueue        time.Duration // age of a Turn at its append
	OSPageCacheBusyTimeOutMills     time.Duration // time the put lock is held
	SendThreadPoolQueueCapacity     int           // sends that wait for flush or replica
	MaxUndurableBytes               int64         // appended and not yet on the disk
	StartAcceptSendRequestTimeStamp int64         // epoch ms; sends before it are refused

	// Pulling: how much a pull gets and how long it waits.

	LongPollingEnable                 bool
	ShortPollingTimeMills             time.Duration
	NotifyConsumerIdsChangedEnable    bool
	WaitTimeMillsInPullQueue          time.Duration
	WaitTimeMillsInHeartbeatQueue     time.Duration
	PullThreadPoolQueueCapacity       int // pulls waiting in a lane
	MaxTransferBytesOnMessageInMemory int
	MaxTransferCountOnMessageInMemory int
	MaxTransferBytesOnMessageInDisk   int
	MaxTransferCountOnMessageInDisk   int
	AccessMessageInMemoryMaxRatio     int // percent of the memory that counts as hot
	EnablePropertyFilter              bool
	EnableCalcFilterBitMap            bool
	ExpectConsumerNumUseFilter        int
	MaxErrorRateOfBloomFilter         int // percent
	FilterSupportRetry                bool
	EnableScheduleMessageStats        bool
	CommercialBaseCount               int
	TransferMsgByHeap                 bool
	MaxLongPollsPerConnection         int
	MaxSubscriptionsPerConnection     int

	// Transactions: how half messages are followed up.

	RejectTransactionMessage        bool
	TransactionTimeOut              time.Duration // age of a half message at its first check
	TransactionCheckMax             int
	TransactionCheckInterval        time.Duration
	WaitTimeMillsInTransactionQueue time.Duration
	EndTransactionPoolQueueCapacity int

	// Limits: protect the broker from its clients (gomq's own keys).

	MaxTopics             int
	MaxGroups             int
	MaxQueuesPerTopic     int32
	MaxNewTopicsPerSecond int // per client
	MaxNewTopicsBurst     int
	ACLEnable             bool
}

package protocol

// Request codes of tier 1 and what the foundation serves; the whole list with
// names is in RequestName (requests.md section 2).
const (
	SendMessage               int32 = 10
	PullMessage               int32 = 11
	QueryMessage              int32 = 12
	QueryConsumerOffset       int32 = 14
	UpdateConsumerOffset      int32 = 15
	UpdateAndCreateTopic      int32 = 17
	GetAllTopicConfig         int32 = 21
	UpdateBrokerConfig        int32 = 25
	GetBrokerConfig           int32 = 26
	GetBrokerRuntimeInfo      int32 = 28
	SearchOffsetByTimestamp   int32 = 29
	GetMaxOffset              int32 = 30
	GetMinOffset              int32 = 31
	GetEarliestMsgStoreTime   int32 = 32
	ViewMessageByID           int32 = 33
	HeartBeat                 int32 = 34
	UnregisterClient          int32 = 35
	ConsumerSendMsgBack       int32 = 36
	EndTransaction            int32 = 37
	GetConsumerListByGroup    int32 = 38
	CheckTransactionState     int32 = 39
	NotifyConsumerIdsChanged  int32 = 40
	LockBatchMQ               int32 = 41
	UnlockBatchMQ             int32 = 42
	GetAllConsumerOffset      int32 = 43
	GetAllDelayOffset         int32 = 45
	CheckClientConfig         int32 = 46
	PutKVConfig               int32 = 100
	GetKVConfig               int32 = 101
	DeleteKVConfig            int32 = 102
	RegisterBroker            int32 = 103
	UnregisterBroker          int32 = 104
	GetRouteInfoByTopic       int32 = 105
	GetBrokerClusterInfo      int32 = 106
	UpdateAndCreateGroup      int32 = 200
	GetAllGroupConfig         int32 = 201
	GetTopicStatsInfo         int32 = 202
	GetConsumerConnectionList int32 = 203
	GetProducerConnectionList int32 = 204
	WipeWritePermOfBroker     int32 = 205
	GetAllTopicListFromNS     int32 = 206
	DeleteGroup               int32 = 207
	GetConsumeStats           int32 = 208
	DeleteTopicInBroker       int32 = 215
	DeleteTopicInNamesrv      int32 = 216
	GetKVListByNamespace      int32 = 219
	GetTopicsByCluster        int32 = 224
	QueryTopicConsumeByWho    int32 = 300
	GetSystemTopicListFromNS  int32 = 304
	GetSystemTopicListFromB   int32 = 305
	SendMessageV2             int32 = 310
	GetUnitTopicList          int32 = 311
	GetHasUnitSubTopicList    int32 = 312
	GetHasUnitSubUnunitList   int32 = 313
	UpdateNamesrvConfig       int32 = 318
	GetNamesrvConfig          int32 = 319
	SendBatchMessage          int32 = 320
	QueryDataVersion          int32 = 322
	AddWritePermOfBroker      int32 = 327
	GetTopicConfig            int32 = 351
	LitePullMessage           int32 = 361
)

// Response codes (requests.md section 4).
const (
	Success                 int32 = 0
	SystemError             int32 = 1
	SystemBusy              int32 = 2
	RequestCodeNotSupported int32 = 3
	FlushDiskTimeout        int32 = 10
	SlaveNotAvailable       int32 = 11
	FlushSlaveTimeout       int32 = 12
	MessageIllegal          int32 = 13
	ServiceNotAvailable     int32 = 14
	VersionNotSupported     int32 = 15
	NoPermission            int32 = 16
	TopicNotExist           int32 = 17
	PullNotFound            int32 = 19
	PullRetryImmediately    int32 = 20
	PullOffsetMoved         int32 = 21
	QueryNotFound           int32 = 22
	SubscriptionParseFailed int32 = 23
	SubscriptionNotExist    int32 = 24
	SubscriptionNotLatest   int32 = 25
	GroupNotExist           int32 = 26
	FilterDataNotExist      int32 = 27
	FilterDataNotLatest     int32 = 28
	ConsumerNotOnline       int32 = 206
	ConsumeMsgTimeout       int32 = 207
)

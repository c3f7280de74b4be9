package raw

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Request codes that the tests use.
const (
	SendMessage          = 10
	PullMessage          = 11
	QueryMessage         = 12
	QueryConsumerOffset  = 14
	UpdateConsumerOffset = 15
	CreateTopic          = 17
	SearchOffset         = 29
	MaxOffset            = 30
	MinOffset            = 31
	EarliestStoreTime    = 32
	ViewMessage          = 33
	HeartBeat            = 34
	Unregister           = 35
	SendMessageBack      = 36
	ConsumerList         = 38
	RegisterBroker       = 103
	RouteInfo            = 105
	ClusterInfo          = 106
	CreateGroup          = 200
	AllGroups            = 201
	TopicStats           = 202
	TopicList            = 206
	DeleteGroup          = 207
	DeleteTopic          = 215
	DeleteTopicInNamesrv = 216
	SendMessageV2        = 310
	SendBatch            = 320
)

// Answer codes that the tests judge by.
const (
	Success           = 0
	SystemError       = 1
	SystemBusy        = 2
	NotSupported      = 3
	FlushDiskTimeout  = 10
	SlaveNotAvailable = 11
	FlushSlaveTimeout = 12
	MessageIllegal    = 13
	NotAvailable      = 14
	NoPermission      = 16
	TopicNotExist     = 17
	PullNotFound      = 19
	PullRetry         = 20
	PullOffsetMoved   = 21
	QueryNotFound     = 22
)

// CodeError is an answer that is not SUCCESS.
type CodeError struct {
	Request int
	Code    int
	Remark  string
}

func (e *CodeError) Error() string {
	return fmt.Sprintf("request %d: code %d: %s", e.Request, e.Code, e.Remark)
}

// Do is Call with every answer but SUCCESS turned into a *CodeError.
func (c *Conn) Do(code int, ext map[string]string, body []byte) (*Command, error) {
	cmd, err := c.Call(code, ext, body)
	if err != nil {
		return nil, err
	}
	if cmd.Code != Success {
		return cmd, &CodeError{Request: code, Code: cmd.Code, Remark: cmd.Remark}
	}
	return cmd, nil
}

// Sent is the answer to a send. Code is one of those that mean "stored":
// Success, FlushDiskTimeout, SlaveNotAvailable, FlushSlaveTimeout.
type Sent struct {
	Code   int
	ID     string
	Queue  int
	Offset int64
}

// SendExt is the header of a SEND_MESSAGE.
func SendExt(group, topic string, queue int, props string) map[string]string {
	return map[string]string{
		"producerGroup": group, "topic": topic, "defaultTopic": "TBW102", "defaultTopicQueueNums": "4",
		"queueId": strconv.Itoa(queue), "sysFlag": "0", "bornTimestamp": strconv.FormatInt(time.Now().UnixMilli(), 10),
		"flag": "0", "properties": props, "reconsumeTimes": "0", "unitMode": "false", "batch": "false",
	}
}

// Send sends one message and waits for the answer.
func (c *Conn) Send(group, topic string, queue int, props string, body []byte) (*Sent, error) {
	cmd, err := c.Call(SendMessage, SendExt(group, topic, queue, props), body)
	if err != nil {
		return nil, err
	}
	switch cmd.Code {
	case Success, FlushDiskTimeout, SlaveNotAvailable, FlushSlaveTimeout:
	default:
		return nil, &CodeError{Request: SendMessage, Code: cmd.Code, Remark: cmd.Remark}
	}
	s := &Sent{Code: cmd.Code, ID: cmd.Ext["msgId"]}
	if s.Queue, err = strconv.Atoi(cmd.Ext["queueId"]); err != nil {
		return nil, fmt.Errorf("queueId of the answer: %w", err)
	}
	if s.Offset, err = strconv.ParseInt(cmd.Ext["queueOffset"], 10, 64); err != nil {
		return nil, fmt.Errorf("queueOffset of the answer: %w", err)
	}
	return s, nil
}

// Pulled is the answer to a pull.
type Pulled struct {
	Code           int // Success, PullNotFound, PullRetry or PullOffsetMoved
	Next, Min, Max int64
	Suggest        int64 // the broker id to ask next, 0 = the master
	Records        []*Record
}

// Pull reads at most most messages at the offset. It carries its own
// subscription to everything, so the group need not be online. wait > 0 lets
// the broker hold the request for so long.
func (c *Conn) Pull(group, topic string, queue int, offset int64, most int, wait time.Duration) (*Pulled, error) {
	flag := 4
	if wait > 0 {
		flag |= 2
	}
	cmd, err := c.Call(PullMessage, map[string]string{
		"consumerGroup": group, "topic": topic, "queueId": strconv.Itoa(queue),
		"queueOffset": strconv.FormatInt(offset, 10), "maxMsgNums": strconv.Itoa(most),
		"sysFlag": strconv.Itoa(flag), "commitOffset": "0",
		"suspendTimeoutMillis": strconv.FormatInt(wait.Milliseconds(), 10),
		"subscription":         "*", "subVersion": "0", "expressionType": "TAG",
	}, nil)
	if err != nil {
		return nil, err
	}
	p := &Pulled{Code: cmd.Code}
	switch cmd.Code {
	case Success, PullNotFound, PullRetry, PullOffsetMoved:
	default:
		return nil, &CodeError{Request: PullMessage, Code: cmd.Code, Remark: cmd.Remark}
	}
	for name, to := range map[string]*int64{"nextBeginOffset": &p.Next, "minOffset": &p.Min, "maxOffset": &p.Max, "suggestWhichBrokerId": &p.Suggest} {
		if *to, err = strconv.ParseInt(cmd.Ext[name], 10, 64); err != nil {
			return nil, fmt.Errorf("%s of the answer: %w", name, err)
		}
	}
	if cmd.Code == Success {
		p.Records, err = ParseRecords(cmd.Body)
	}
	return p, err
}

// Offset asks for MaxOffset or MinOffset of a queue.
func (c *Conn) Offset(code int, topic string, queue int) (int64, error) {
	cmd, err := c.Do(code, map[string]string{"topic": topic, "queueId": strconv.Itoa(queue)}, nil)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(cmd.Ext["offset"], 10, 64)
}

// Sweep reads all messages of a queue from its minimum to its maximum offset.
func (c *Conn) Sweep(topic string, queue int) ([]*Record, error) {
	at, err := c.Offset(MinOffset, topic, queue)
	if err != nil {
		return nil, err
	}
	end, err := c.Offset(MaxOffset, topic, queue)
	if err != nil {
		return nil, err
	}
	var all []*Record
	for at < end {
		p, err := c.Pull("sweep", topic, queue, at, 32, 0)
		if err != nil {
			return nil, fmt.Errorf("%s queue %d at %d: %w", topic, queue, at, err)
		}
		if p.Code != Success || len(p.Records) == 0 {
			return all, fmt.Errorf("%s queue %d at %d: code %d with %d records, next %d, min %d, max %d", topic, queue, at, p.Code, len(p.Records), p.Next, p.Min, p.Max)
		}
		if p.Next <= at {
			return all, fmt.Errorf("%s queue %d at %d: next offset is %d", topic, queue, at, p.Next)
		}
		all = append(all, p.Records...)
		at = p.Next
	}
	return all, nil
}

// ByKey asks for the messages of a topic with a key.
func (c *Conn) ByKey(topic, key string) ([]*Record, error) {
	cmd, err := c.Do(QueryMessage, map[string]string{
		"topic": topic, "key": key, "maxNum": "32", "beginTimestamp": "0",
		"endTimestamp": strconv.FormatInt(time.Now().Add(24*time.Hour).UnixMilli(), 10),
	}, nil)
	if e, ok := err.(*CodeError); ok && e.Code == QueryNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseRecords(cmd.Body)
}

// ByID asks for the message at a physical offset, as a message id names it.
func (c *Conn) ByID(id string) (*Record, error) {
	if len(id) < 16 {
		return nil, fmt.Errorf("message id %q", id)
	}
	at, err := strconv.ParseUint(id[len(id)-16:], 16, 64)
	if err != nil {
		return nil, err
	}
	cmd, err := c.Do(ViewMessage, map[string]string{"offset": strconv.FormatUint(at, 10)}, nil)
	if err != nil {
		return nil, err
	}
	list, err := ParseRecords(cmd.Body)
	if err != nil || len(list) != 1 {
		return nil, fmt.Errorf("view of %s: %d records, %v", id, len(list), err)
	}
	return list[0], nil
}

// Committed asks for a group's offset; -1 when the broker knows none.
func (c *Conn) Committed(group, topic string, queue int) (int64, error) {
	cmd, err := c.Do(QueryConsumerOffset, map[string]string{"consumerGroup": group, "topic": topic, "queueId": strconv.Itoa(queue)}, nil)
	if e, ok := err.(*CodeError); ok && e.Code == QueryNotFound {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(cmd.Ext["offset"], 10, 64)
}

// Commit stores a group's offset.
func (c *Conn) Commit(group, topic string, queue int, offset int64) error {
	_, err := c.Do(UpdateConsumerOffset, map[string]string{"consumerGroup": group, "topic": topic,
		"queueId": strconv.Itoa(queue), "commitOffset": strconv.FormatInt(offset, 10)}, nil)
	return err
}

// SendBack gives back a message that lies at log in the broker's log, which its
// group could not do: it comes again after the level's delay, or becomes a dead
// letter when it was tried most times already; most < 0 leaves that to the group.
func (c *Conn) SendBack(group, topic string, log int64, level, most int) error {
	ext := map[string]string{"group": group, "offset": strconv.FormatInt(log, 10), "delayLevel": strconv.Itoa(level), "originTopic": topic, "unitMode": "false"}
	if most >= 0 {
		ext["maxReconsumeTimes"] = strconv.Itoa(most)
	}
	_, err := c.Do(SendMessageBack, ext, nil)
	return err
}

// NewTopic creates or changes a topic on a broker.
func (c *Conn) NewTopic(topic string, queues int) error {
	n := strconv.Itoa(queues)
	_, err := c.Do(CreateTopic, map[string]string{"topic": topic, "defaultTopic": "TBW102", "readQueueNums": n, "writeQueueNums": n,
		"perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false"}, nil)
	return err
}

// NewGroup creates a consumer group on a broker.
func (c *Conn) NewGroup(group string) error {
	_, err := c.Do(CreateGroup, nil, fmt.Appendf(nil, `{"groupName":%q,"consumeEnable":true,"retryMaxTimes":16,"retryQueueNums":1}`, group))
	return err
}

// Route is what a nameserver says about a topic.
type Route struct {
	QueueDatas []struct {
		BrokerName                          string
		ReadQueueNums, WriteQueueNums, Perm int
	}
	BrokerDatas []struct {
		Cluster, BrokerName string
		BrokerAddrs         map[string]string
	}
}

// Route asks a nameserver for a topic's brokers and queues.
func (c *Conn) Route(topic string) (*Route, error) {
	cmd, err := c.Do(RouteInfo, map[string]string{"topic": topic}, nil)
	if err != nil {
		return nil, err
	}
	r := &Route{}
	return r, json.Unmarshal(cmd.Body, r)
}

// Named asks a nameserver over a connection of its own, as a client does that has
// just come, who serves a topic: addresses by broker name and id ("broker-a 0"). It
// names nobody when it knows no route; an error says that it does not answer.
func Named(namesrv, topic string) (map[string]string, error) {
	c, err := Dial(namesrv)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.Limit = 2 * time.Second
	r, err := c.Route(topic)
	var code *CodeError
	if errors.As(err, &code) && code.Code == TopicNotExist {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	who := map[string]string{}
	for _, b := range r.BrokerDatas {
		for id, addr := range b.BrokerAddrs {
			who[b.BrokerName+" "+id] = addr
		}
	}
	return who, nil
}

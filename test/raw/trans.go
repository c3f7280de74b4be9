package raw

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Requests of transactions.
const (
	EndTransaction     = 37
	CheckTransaction   = 39
	ConsumerConnection = 203
	ProducerConnection = 204
)

// Outcomes of a transaction.
const (
	Unknown  = 0
	Commit   = 8
	Rollback = 12
)

// Topics of transactions.
const (
	HalfTopic  = "RMQ_SYS_TRANS_HALF_TOPIC"
	AsideTopic = "TRANS_CHECK_MAX_TIME_TOPIC"
	TransGroup = "CID_RMQ_SYS_TRANS"
)

// Half is a half message as its producer knows it.
type Half struct {
	Group  string
	Offset int64 // in the queue of half messages
	Log    int64 // in the log
	MsgID  string
}

// Produce tells the broker that this connection is a producer of the group.
func (c *Conn) Produce(clientID, group string) error {
	b, err := json.Marshal(map[string]any{"clientID": clientID, "consumerDataSet": []any{}, "producerDataSet": []any{map[string]string{"groupName": group}}})
	if err != nil {
		return err
	}
	_, err = c.Do(HeartBeat, nil, b)
	return err
}

// Begin sends a half message. uniq is its unique key.
func (c *Conn) Begin(group, topic string, queue int, uniq, key string, body []byte) (h Half, err error) {
	ext := SendExt(group, topic, queue, Props("TRAN_MSG", "true", "PGROUP", group, "UNIQ_KEY", uniq, "KEYS", key, "WAIT", "true"))
	ext["sysFlag"] = "4"
	cmd, err := c.Do(SendMessage, ext, body)
	if err != nil {
		return h, err
	}
	id := cmd.Ext["msgId"]
	if len(id) < 16 {
		return h, fmt.Errorf("the answer's msgId is %q", id)
	}
	h = Half{Group: group, MsgID: uniq}
	if h.Log, err = strconv.ParseInt(id[len(id)-16:], 16, 64); err != nil {
		return h, fmt.Errorf("the answer's msgId: %w", err)
	}
	h.Offset, err = strconv.ParseInt(cmd.Ext["queueOffset"], 10, 64)
	return h, err
}

// End ends a transaction and waits for the answer.
func (c *Conn) End(h Half, outcome int) error {
	_, err := c.Do(EndTransaction, h.ext(outcome, false), nil)
	return err
}

func (h Half) ext(outcome int, check bool) map[string]string {
	return map[string]string{"producerGroup": h.Group, "tranStateTableOffset": strconv.FormatInt(h.Offset, 10), "commitLogOffset": strconv.FormatInt(h.Log, 10),
		"commitOrRollback": strconv.Itoa(outcome), "fromTransactionCheck": strconv.FormatBool(check), "msgId": h.MsgID, "transactionId": h.MsgID}
}

// Question is what a broker asks with CHECK_TRANSACTION_STATE.
type Question struct {
	Half
	Message *Record
}

// ParseQuestion reads a request that Pushed has delivered.
func ParseQuestion(cmd *Command) (q Question, err error) {
	if cmd.Code != CheckTransaction || cmd.Flag != FlagOneWay {
		return q, fmt.Errorf("request %d with flag %d", cmd.Code, cmd.Flag)
	}
	q.MsgID = cmd.Ext["msgId"]
	if q.Offset, err = strconv.ParseInt(cmd.Ext["tranStateTableOffset"], 10, 64); err != nil {
		return q, err
	}
	if q.Log, err = strconv.ParseInt(cmd.Ext["commitLogOffset"], 10, 64); err != nil {
		return q, err
	}
	list, err := ParseRecords(cmd.Body)
	if err != nil || len(list) != 1 {
		return q, fmt.Errorf("the question about %d has %d messages: %v", q.Offset, len(list), err)
	}
	q.Message = list[0]
	q.Group = q.Message.Props["PGROUP"]
	return q, nil
}

// Answer ends the transaction that was asked about, one-way as clients do.
func (c *Conn) Answer(q Question, outcome int) error {
	return c.OneWay(EndTransaction, q.ext(outcome, true), nil)
}

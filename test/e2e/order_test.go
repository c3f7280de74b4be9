package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// TestOrderConfiguration: what an administrator puts into ORDER_TOPIC_CONFIG (mqadmin
// updateTopic -o true, updateOrderConf) comes to producers with the route, and
// makes the topic an ordered one at its brokers with their next registration; it
// goes the same way.
func TestOrderConfiguration(t *testing.T) {
	t.Parallel()
	ns := harness.StartNamesrv(t, harness.Config{Props: map[string]string{"orderMessageEnable": "true"}})
	broker := harness.StartBroker(t, ns.Addr(), harness.Config{Props: map[string]string{"registerNameServerPeriod": "10000"}})
	w := &world{ns, broker}
	topic := w.topic(t, "Ordered")
	n, c := dial(t, ns.Addr()), w.dial(t)
	const put, get, del, allTopics = 100, 101, 102, 21
	kv := map[string]string{"namespace": "ORDER_TOPIC_CONFIG", "key": topic, "value": "broker-a:3"}
	route := func() string {
		cmd, err := n.Do(raw.RouteInfo, map[string]string{"topic": topic, "acceptStandardJsonOnly": "true"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var r struct{ OrderTopicConf string }
		if err := json.Unmarshal(cmd.Body, &r); err != nil {
			t.Fatal(err)
		}
		return r.OrderTopicConf
	}
	ordered := func() bool {
		cmd, err := c.Do(allTopics, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var all struct {
			TopicConfigTable map[string]struct {
				Order          bool
				WriteQueueNums int
			}
		}
		if err := json.Unmarshal(cmd.Body, &all); err != nil {
			t.Fatal(err)
		}
		if x := all.TopicConfigTable[topic]; x.WriteQueueNums != 4 || all.TopicConfigTable["TBW102"].Order {
			t.Fatalf("%+v", all)
		}
		return all.TopicConfigTable[topic].Order
	}
	// nudge makes the broker register before its time.
	nudge := func(name string) {
		if err := c.NewTopic(name, 1); err != nil {
			t.Fatal(err)
		}
	}
	if route() != "" || ordered() {
		t.Fatal("the topic is ordered from the start")
	}
	if _, err := n.Do(put, kv, nil); err != nil {
		t.Fatal(err)
	}
	if got := route(); got != "broker-a:3" {
		t.Errorf("the route says %q", got)
	}
	if cmd, err := n.Do(get, kv, nil); err != nil || cmd.Ext["value"] != "broker-a:3" {
		t.Errorf("%+v, %v", cmd, err)
	}
	nudge("NudgeOne")
	harness.Eventually(t, 40*time.Second, "the topic ordered at the broker", ordered)
	// Changing the topic does not take that away: administrators name it by the
	// nameserver's configuration only.
	if err := c.NewTopic(topic, 4); err != nil {
		t.Fatal(err)
	}
	if !ordered() {
		t.Error("a change of the topic made it unordered")
	}
	// A broker that may not be written refuses ordered topics, whose producers have
	// nowhere else to go.
	if _, err := c.Do(25, nil, []byte("brokerPermission=4\n")); err != nil {
		t.Fatal(err)
	}
	_, err := c.Send("pg", topic, 0, "", []byte("x"))
	var code *raw.CodeError
	if !errors.As(err, &code) || code.Code != raw.NoPermission {
		t.Errorf("a send to a broker without write permission: %v", err)
	}
	if _, err := n.Do(del, kv, nil); err != nil {
		t.Fatal(err)
	}
	if got := route(); got != "" {
		t.Errorf("after the deletion the route says %q", got)
	}
	nudge("NudgeTwo")
	harness.Eventually(t, 40*time.Second, "the topic unordered at the broker", func() bool { return !ordered() })
	if _, err := c.Send("pg", topic, 0, "", fmt.Append(nil, "x")); err != nil {
		t.Errorf("a send to the topic that is not ordered any more: %v", err)
	}
}

package protocol

import (
	"reflect"
	"strings"
	"testing"
)

// Lists of topics and groups as 5.3.3 sends them, and what is no such list.
func TestConfigLists(t *testing.T) {
	topics, err := ParseTopicConfigs([]byte(`{"topicConfigList":[{"attributes":{"+a":"b"},"order":false,"perm":4,"readQueueNums":3,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":2},{"topicName":"U"}]}`))
	want := []TopicConfig{{TopicName: "T", ReadQueueNums: 3, WriteQueueNums: 2, Perm: 4, TopicFilterType: "SINGLE_TAG"}, {TopicName: "U", ReadQueueNums: 16, WriteQueueNums: 16, Perm: 6, TopicFilterType: "SINGLE_TAG"}}
	if err != nil || !reflect.DeepEqual(topics, want) {
		t.Errorf("%v %+v", err, topics)
	}
	groups, err := ParseGroupConfigs([]byte(`{"groupConfigList":[{"groupName":"G","retryMaxTimes":3,"consumeEnable":false}]}`))
	if err != nil || len(groups) != 1 || groups[0].GroupName != "G" || groups[0].RetryMaxTimes != 3 || groups[0].ConsumeEnable || !groups[0].ConsumeBroadcastEnable {
		t.Errorf("%v %+v", err, groups)
	}
	for _, text := range []string{"", "{}", `{"topicConfigList":7}`, `{"topicConfigList":[`, `{"topicConfigList":[` + strings.Repeat(`{"topicName":"T"},`, MaxList+1) + `]}`} {
		if list, err := ParseTopicConfigs([]byte(text)); err == nil {
			t.Errorf("%.60s: read as %d topics", text, len(list))
		}
	}
}

func TestSubscriptionReply(t *testing.T) {
	s := SubscriptionReply{Group: "G", Topic: "T", Subscription: &Subscription{Topic: "T", SubString: "*", ExpressionType: "TAG"}}
	want := `{"group":"G","subscriptionData":{"classFilterMode":false,"codeSet":[],"expressionType":"TAG","subString":"*","subVersion":0,"tagsSet":[],"topic":"T"},"topic":"T"}`
	if got := string(s.Append(nil)); got != want {
		t.Errorf("%s", got)
	}
	s.Subscription = nil
	if got := string(s.Append(nil)); got != `{"group":"G","topic":"T"}` {
		t.Errorf("%s", got)
	}
}

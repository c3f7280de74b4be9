//go:build interop || interop_all

package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
)

// toolsHome is a directory with what the command line tool wants to find.
func toolsHome(t testing.TB) string {
	t.Helper()
	home := harness.Dir(t)
	if err := os.MkdirAll(filepath.Join(home, "conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "conf", "logback_tools.xml"), []byte("<configuration/>"), 0o644); err != nil {
		t.Fatal(err)
	}
	return home
}

// toolCodes: what the administration client asks the broker for.
func toolCodes(t *testing.T, e *env) {
	topic, group, _, _ := e.consuming(t, "tools", 8)
	addr := e.c.broker.Addr()
	spans := do[struct {
		Spans []struct {
			Queue                     queue
			Min, Max, Consumed, Delay int64
		}
	}](t, e.driver, "timeSpans", "name", e.admin, "topic", topic, "group", group).Spans
	if len(spans) != 4 {
		t.Errorf("time spans %+v", spans)
	}
	for _, s := range spans {
		if s.Min <= 0 || s.Max < s.Min || s.Consumed != s.Max || s.Delay != 0 {
			t.Errorf("time span %+v", s)
		}
	}
	copied := e.fresh("copied")
	do[none](t, e.driver, "cloneOffset", "name", e.admin, "from", group, "to", copied, "topic", topic)
	e.committed(t, topic, copied, 8)
	stats := do[struct{ Minute, Day int64 }](t, e.driver, "brokerStats", "name", e.admin, "addr", addr, "stats", "TOPIC_PUT_NUMS", "key", topic)
	if serverVersion == "" && (stats.Minute != 8 || stats.Day != 8) {
		t.Errorf("statistics %+v", stats)
	}
	if code, text := refused(t, e.driver, "brokerStats", "name", e.admin, "addr", addr, "stats", "TOPIC_PUT_NUMS", "key", "N"); code != 1 || !strings.Contains(text, "The stats <TOPIC_PUT_NUMS> <N> not exist") {
		t.Errorf("no such statistics: %d %s", code, text)
	}
	all := do[struct {
		Addr   string
		Queues map[string]int64
	}](t, e.driver, "brokerConsumeStats", "name", e.admin, "addr", addr, "group", group)
	if all.Addr != addr || len(all.Queues) < 4 || all.Queues[topic+"/0"] != 0 {
		t.Errorf("statistics of the broker's groups %+v", all)
	}
	entries := do[struct {
		Min, Max int64
		Entries  int
		Filter   string
	}](t, e.driver, "queueEntries", "name", e.admin, "addr", addr, "topic", topic, "queue", 1, "index", 0, "count", 10, "group", group)
	if serverVersion == "" && (entries.Min != 0 || entries.Max != 2 || entries.Entries != 2 || entries.Filter != "null") {
		t.Errorf("entries %+v", entries)
	}
	if code, text := refused(t, e.driver, "queueEntries", "name", e.admin, "addr", addr, "topic", topic, "queue", 99); code != 1 || !strings.Contains(text, "99@"+topic+" is not exist!") {
		t.Errorf("no such queue: %d %s", code, text)
	}
	clean := do[struct{ Queues, Topics bool }](t, e.driver, "clean", "name", e.admin, "addr", addr)
	if !clean.Queues || !clean.Topics {
		t.Errorf("cleaned %+v", clean)
	}
}

// mqadmin: commands of the tool print of gomq what they print of the original
// (the texts are those of recorded sessions with 4.9.7).
func mqadmin(t *testing.T, e *env) {
	topic, group, consumer, all := e.consuming(t, "mqadmin", 8)
	id, addr, ns := e.clientID(t, group), e.c.broker.Addr(), e.c.ns.Addr()
	run := func(command string, patterns ...string) {
		t.Helper()
		printed := do[struct{ Printed string }](t, e.driver, "mqadmin", "command", command+" -n "+ns).Printed
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(printed) {
				t.Errorf("mqadmin %s printed\n%s\nwithout %s", command, printed, p)
			}
		}
	}
	q := regexp.QuoteMeta
	run("consumerStatus -g "+group, `#Index     #ClientId`, `(?m)^1 +`+q(id)+` +V4_9_8 +\d+/`+q(id), `Same subscription in the same group of consumer`, `Rebalance OK`)
	run("consumerStatus -g "+group+" -i "+id, `PROP_CONSUME_TYPE +: CONSUME_PASSIVELY`, `Topic: `+q(topic)+` +ClassFilter: false +SubExpression: \*`)
	run("consumerProgress -g "+group, q(topic)+` +\S+ +0 +2 +2 +0 +20\d\d-`, `Consume TPS: \d+\.\d\d`, `Diff Total: 0`)
	run("consumerProgress -g "+group+" -s true", q(topic)+` +\S+ +0 +2 +2 +\d+\.\d+\.\d+\.\d+ +0 +20\d\d-`)
	run("consumerConnection -g "+group, q(id)+` +127\.0\.0\.1:\d+ +JAVA +V4_9_8`, `ConsumeType: CONSUME_PASSIVELY`, `MessageModel: CLUSTERING`)
	run("producerConnection -g "+e.producer+" -t "+topic, `0001 +\S+@`+q(e.producer)+` +127\.0\.0\.1:\d+ +JAVA +V4_9_8`)
	run("producerConnection -g NoSuchPG -t "+topic, `CODE: 1 +DESC: the producer group\[NoSuchPG\] not exist`)
	run("brokerConsumeStats -b "+addr, q(topic)+` +`+q(group)+` +\S+ +0 +2 +2 +0 +20\d\d-`, `Diff Total: \d+`)
	run("producer -b "+addr, `producer group \(`+q(e.producer)+`\) instance : clientId=\S+@`+q(e.producer)+`,remoteIP=/127\.0\.0\.1:\d+, language=JAVA, version=409, lastUpdateTimestamp=\d+`)
	run("queryCq -t "+topic+" -q 0 -i 0 -c 1 -b "+addr+" -g "+group, `Subscription data: `, `"subString":"\*"`, `Filter data: \s+null`, `max: 2, min: 0`,
		`ConsumeQueueData\{physicOffset=\d+, physicSize=\d+, tagsCode=0, extendDataJson='null', bitMap='null', eval=false, msg='null'\}`)
	run("cleanExpiredCQ -b "+addr, `^success`)
	run("cleanUnusedTopic -b "+addr, `^success`)
	run("deleteExpiredCommitLog -b "+addr, `^success`)
	run("queryMsgByUniqueKey -i "+all[3].MsgID+" -t "+topic+" -g "+group+" -d "+id, `ConsumeMessageDirectlyResult \[order=false, autoCommit=true, consumeResult=CR_SUCCESS, remark=null, spentTimeMills=\d+\]`)
	e.await(t, 9, arrival, consumer)
	run("queryMsgByKey -t "+topic+" -k mqadmin3", all[3].MsgID+` +3 +0|`+all[3].MsgID+` +\d +\d`)
	run("queryMsgByKey -t "+topic+" -k nokey", `CODE: 208 +DESC: query message by key finished, but no message`)
	run("statsAll -t "+topic, q(topic)+` +`+q(group)+` +0 +\d+\.\d\d +\d+\.\d\d +8 +8`)
	copied := e.fresh("copied")
	run("cloneGroupOffset -s "+group+" -d "+copied+" -t "+topic, `clone group offset success\. srcGroup\[`+q(group)+`\], destGroup=\[`+q(copied)+`\], topic\[`+q(topic)+`\]`)
	e.committed(t, topic, copied, 8)
	run("skipAccumulatedMessage -g "+group+" -t "+topic, `#brokerName +#queueId +#offset`, `(?m)^\S+ +0 +2`)
	// Nobody of this group is connected: the tool sets the offsets itself.
	run("resetOffsetByTime -g "+copied+" -t "+topic+" -s 1000", `\[`+q(copied)+`\], topic\[`+q(topic)+`\], force\[true\]`, `(?m)^\S+ +0 +2 +2 +0 +0 *$`)
	b := dial(t, addr)
	defer b.Close()
	for n := range 4 {
		if at, err := b.Committed(copied, topic, n); err != nil || at != 0 {
			t.Errorf("queue %d of a group that is not connected is at %d, %v", n, at, err)
		}
	}
}

// toolCodes5: what the administration client of 5.x asks of the broker beside that,
// and a reset of one queue.
func toolCodes5(t *testing.T, e *env) {
	topic, group, consumer, _ := e.consuming(t, "tools5", 8)
	addr := e.c.broker.Addr()
	if got := do[struct{ Topics []string }](t, e.driver, "topicsOf", "name", e.admin, "group", group).Topics; !slices.Contains(got, topic) {
		t.Errorf("the group's topics are %v", got)
	}
	if got := do[struct{ Expression string }](t, e.driver, "subscriptionOf", "name", e.admin, "group", group, "topic", topic).Expression; got != "*" {
		t.Errorf("it subscribes with %q", got)
	}
	topics, groups := []string{e.fresh("list"), e.fresh("list")}, []string{e.fresh("list"), e.fresh("list")}
	do[none](t, e.driver, "topicList", "name", e.admin, "addr", addr, "topics", strings.Join(topics, ","), "queues", 3)
	for _, name := range topics {
		harness.Eventually(t, arrival, "the route of "+name, func() bool { return routed(t, e.driver, e.admin, name, 3) })
	}
	do[none](t, e.driver, "groupList", "name", e.admin, "addr", addr, "groups", strings.Join(groups, ","), "retries", 5)
	for _, name := range groups {
		got := do[struct {
			Group   string
			Retries int
		}](t, e.driver, "groupOf", "name", e.admin, "addr", addr, "group", name)
		if got.Group != name || got.Retries != 5 {
			t.Errorf("group %+v", got)
		}
	}
	do[none](t, e.driver, "resetQueue", "name", e.admin, "addr", addr, "topic", topic, "group", group, "queue", 2, "offset", 1)
	all := e.await(t, 9, arrival, consumer)
	if m := all[8]; m.QueueID != 2 || m.QueueOffset != 1 {
		t.Errorf("after the reset came %+v", m)
	}
	time.Sleep(quiet)
	e.await(t, 9, 0, consumer)
}

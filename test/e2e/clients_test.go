package e2e

import (
	"testing"

	"gomq/test/harness"
)

// TestGoClient runs everything that needs no broker of its own against one.
func TestGoClient(t *testing.T) {
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{Props: map[string]string{"enablePropertyFilter": "true"}})
	w := &world{ns, broker}
	// The subtests run in parallel inside a group, so that the servers live
	// until all have ended.
	t.Run("group", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *world){
			"SyncSend": syncSend, "AsyncSend": asyncSend, "OneWaySend": oneWaySend, "BatchSend": batchSend,
			"PushConsumer": pushConsumer, "PullConsumer": pullConsumer, "PullFrom": pullFrom, "Rebalance": rebalance,
			"Broadcast": broadcast, "Orderly": orderly, "Tags": tags, "SQL92": sql92, "Differ": differ, "Codecs": codecs, "Properties": properties, "Circle": circle, "BroadcastAgain": broadcastAgain, "AutoCreate": autoCreate, "Topics": topics, "Groups": groups,
			"Lookup": lookup, "LongPoll": longPoll, "VIPPort": vipPort, "OffsetsByTime": offsetsByTime,
			"UnknownCode": unknownCode, "BinaryHeader": binaryHeader,
			"RequestReply": requestReply, "AskConsumer": askConsumer, "SlowConsumer": slowConsumer, "AdminCodes": adminCodes,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, w)
			})
		}
	})
}

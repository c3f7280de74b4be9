//go:build interop || interop_all

package interop

import (
	"sync"
	"testing"
	"time"

	"gomq/test/checker"
	"gomq/test/harness"
)

// TestMasterKilled: clients of RocketMQ with their usual retries work with the user's
// cluster on gomq, and a master is killed. Producers go on with the other one and no
// send fails; a consumer that was reading and one that begins now get from the slave
// what the dead master had; when it is back, both masters take messages.
func TestMasterKilled(t *testing.T) {
	needJava(t)
	for _, client := range []string{"4.5.2", "4.9.8"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			w := walkOn(t, client, harness.SeedConfig{Kind: "gomq"})
			stop, wg := make(chan struct{}), sync.WaitGroup{}
			wg.Add(1)
			go func() { defer wg.Done(); w.send(stop) }()
			halt := sync.OnceFunc(func() { close(stop); wg.Wait() })
			t.Cleanup(halt)
			w.whole()
			w.bothGrow()
			w.unharmed()

			at := time.Now()
			w.Masters[0].Kill()
			w.run.Killed("broker-a", "kill -9", at)
			w.grows("sends acknowledged by broker-b", &w.acked[1], 100)
			w.consumed(w.consumer)
			w.consumed(w.consume("g-walk-late"))
			w.unharmed()

			w.Masters[0].Start()
			w.whole()
			w.bothGrow()
			w.unharmed()
			halt()
			for group, consumer := range w.judge(200) {
				t.Logf("%s: %d sent, %d delivered to %s", client, w.run.Count(checker.OpSend), len(w.d.received(consumer)), group)
			}
		})
	}
}

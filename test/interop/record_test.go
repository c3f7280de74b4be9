//go:build interop || interop_all

package interop

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// TestSameRecord: what a gomq broker stores of a send is what a 4.9.7 broker stores
// of it, byte for byte but for times, addresses and places: properties in the same
// order, the same ones dropped and added.
func TestSameRecord(t *testing.T) {
	needJava(t)
	t.Parallel()
	rng := harness.Rand(t)
	const topic = "SameRecord"
	props := map[string]string{"brokerFastFailureEnable": "false"}
	sides := []*raw.Conn{
		sideOf(t, gomqServer(props), topic),
		sideOf(t, javaServer(t, "4.9.7", props), topic),
	}
	at := 0 // offset in the queue
	for i := range 120 {
		text := somePropsOf(rng, i)
		ext := raw.SendExt("pg-same", topic, 0, text)
		ext["bornTimestamp"], ext["flag"], ext["sysFlag"] = "1700000000123", strconv.Itoa(i), strconv.Itoa([]int{0, 1, 0x201}[i%3])
		body, n := fmt.Appendf(nil, "body %d", i), 1
		if i%6 == 5 {
			ext["batch"], n = "true", 3
			body = nil
			for k := range n {
				body = appendInBatch(body, fmt.Sprint("member ", k), strings.TrimSuffix(somePropsOf(rng, i+k), "\x02"))
			}
		}
		var records [2][]string
		for k, c := range sides {
			if _, err := c.Do(raw.SendMessage, ext, body); err != nil {
				t.Fatalf("side %d, %q: %v", k, text, err)
			}
			for m := range n {
				records[k] = append(records[k], masked(stored(t, c, topic, at+m)))
			}
		}
		at += n
		for m := range n {
			if records[0][m] != records[1][m] {
				t.Errorf("%q, %d of %d, is stored as\n%q, by the original as\n%q", text, m, n, records[0][m], records[1][m])
			}
		}
	}
	t.Run("Delayed", func(t *testing.T) { sameDelayed(t, sides, topic, at) })
}

// appendInBatch appends one message as the body of a batch has it.
func appendInBatch(dst []byte, body, props string) []byte {
	be := binary.BigEndian
	dst = be.AppendUint32(dst, uint32(4*5+len(body)+2+len(props)))
	dst = append(dst, make([]byte, 12)...) // magic, checksum and flag
	dst = append(be.AppendUint32(dst, uint32(len(body))), body...)
	return append(be.AppendUint16(dst, uint16(len(props))), props...)
}

// stored is the record at an offset of queue 0.
func stored(t *testing.T, c *raw.Conn, topic string, offset int) (rec []byte) {
	t.Helper()
	return storedIn(t, c, topic, 0, offset)
}

func storedIn(t *testing.T, c *raw.Conn, topic string, queue, offset int) (rec []byte) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, "the message", func() bool {
		cmd, err := c.Call(raw.PullMessage, map[string]string{"consumerGroup": "g-same", "topic": topic, "queueId": strconv.Itoa(queue), "queueOffset": strconv.Itoa(offset),
			"maxMsgNums": "1", "sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0", "subscription": "*", "subVersion": "0", "expressionType": "TAG"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rec = cmd.Body
		return cmd.Code == raw.Success
	})
	return rec
}

func sideOf(t *testing.T, c harness.Config, topic string) *raw.Conn {
	t.Helper()
	ns := harness.StartNamesrv(t, gomqServer(nil))
	b := harness.StartBroker(t, ns.Addr(), c)
	conn := dial(t, b.Addr())
	t.Cleanup(func() { conn.Close() })
	if err := conn.NewTopic(topic, 1); err != nil {
		t.Fatal(err)
	}
	return conn
}

// masked is a record without its log offset, the addresses' ports and the store
// time, its properties as text.
func masked(rec []byte) string {
	for _, span := range [][2]int{{28, 36}, {52, 56}, {56, 64}, {68, 72}} {
		clear(rec[span[0]:span[1]])
	}
	at := 88 + int(binary.BigEndian.Uint32(rec[84:]))
	at += 1 + int(rec[at]) + 2
	return hex.EncodeToString(rec[4:at]) + " " + string(rec[at:])
}

// somePropsOf draws a property text, the first ones by hand.
func somePropsOf(rng *rand.Rand, i int) string {
	byHand := []string{"", "KEYS\x01k\x02TAGS\x01t\x02UNIQ_KEY\x01u\x02WAIT\x01true\x02", "WAIT\x01false", "CLUSTER\x01other\x02a\x01b", "a\x01\x02b\x01x", "\x01x\x02y", "a\x01b\x01c",
		"a\x011\x02b\x012\x02a\x013", "\x02\x02a\x01b\x02\x02", "日本\x01値\x02ü\x01é\x02😀\x01😀"}
	if i < len(byHand) {
		return byHand[i]
	}
	n := 1 + rng.IntN(12)
	if i%20 == 0 {
		n = 90 + rng.IntN(120) // the original's table grows
	}
	names := []string{"KEYS", "TAGS", "UNIQ_KEY", "WAIT", "region", "price", "color", "orderId", "userId", "Aa", "BB", "AaAa", "BBBB", "AaBB", "BBAa", "MSG_REGION", "TRACE_ON", "名前", "a", "b", "c"}
	var b strings.Builder
	for range n {
		name := names[rng.IntN(len(names))]
		if n > 20 || rng.IntN(3) == 0 {
			name = "p" + strconv.Itoa(rng.IntN(100_000))
		}
		fmt.Fprintf(&b, "%s\x01v%d\x02", name, rng.IntN(1000))
	}
	return b.String()
}

package e2e

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// bomb is a zlib stream that inflates to n zeros.
func bomb(n int) []byte {
	var b bytes.Buffer
	z, _ := zlib.NewWriterLevel(&b, zlib.BestCompression)
	zero := make([]byte, 1<<20)
	for ; n > 0; n -= len(zero) {
		z.Write(zero)
	}
	z.Close()
	return b.Bytes()
}

// bombs: registrations and messages that inflate to a thousand times their
// size, and batches whose lengths lie.
func bombs(t *testing.T, at target) {
	big := bomb(512 << 20)
	register := func(body []byte) []byte {
		return (&raw.Command{Code: raw.RegisterBroker, Language: "JAVA", Version: 409, Ext: map[string]string{
			"brokerName": "bomb", "brokerAddr": "127.0.0.1:1", "clusterName": "c", "haServerAddr": "127.0.0.1:2", "brokerId": "0",
			"compressed": "true", "bodyCrc32": fmt.Sprint(crc32.ChecksumIEEE(body) & 0x7fffffff),
		}, Body: body}).Encode()
	}
	// A stream whose inner lengths claim more than there is.
	var lying bytes.Buffer
	z := zlib.NewWriter(&lying)
	z.Write(u32(2))
	z.Write([]byte("{}"))
	z.Write(u32(0x7fffffff, 0x7fffffff))
	z.Close()
	frames := map[string][]byte{
		"zlib bomb":           register(big),
		"lying counts":        register(lying.Bytes()),
		"cut stream":          register(big[:len(big)/2]),
		"not zlib":            register([]byte("\x78\x9cnonsense, that is no stream at all")),
		"JSON of 10 MiB of [": register(bytes.Repeat([]byte("["), 10<<20)),
	}
	batch := func(body []byte) []byte {
		return (&raw.Command{Code: raw.SendBatch, Language: "JAVA", Version: 409, Ext: map[string]string{
			"a": "pg-bomb", "b": "Bombed", "c": "TBW102", "d": "4", "e": "0", "f": "0", "g": "1700000000000", "h": "0", "i": "", "j": "0", "k": "false", "l": "0", "m": "true",
		}, Body: body}).Encode()
	}
	if at.name != "namesrv" {
		frames["batch, negative size"] = batch(u32(0xffffffff, 0, 0, 0, 5, 0, 0))
		frames["batch, size 0"] = batch(u32(0, 0, 0, 0, 0))
		frames["batch, body longer than it"] = batch(u32(30, 0, 0, 0, 0x7fffffff, 0, 0, 0))
		frames["batch, cut in the middle"] = batch(append(u32(100, 0, 0, 0, 50), make([]byte, 20)...))
		long := raw.SendExt("pg-bomb", "Bombed", 0, raw.Props("K", strings.Repeat("v", 40_000)))
		frames["properties of 40,000 bytes"] = (&raw.Command{Code: raw.SendMessage, Language: "JAVA", Ext: long, Body: []byte("x")}).Encode()
	}
	for _, name := range slices.Sorted(maps.Keys(frames)) {
		c := hostile(t, at.addr)
		c.SetWriteDeadline(time.Now().Add(closeLimit))
		c.Write(frames[name])
		if err := refusedOrClosed(c, closeLimit); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// badBodies: every request code with fields and bodies that make no sense, and
// with names that reach for other places. Each is answered or the connection
// is closed; what is answered is never a success that leaves the store.
func badBodies(t *testing.T, at target) {
	rng := harness.Rand(t)
	codes := []int{10, 11, 12, 14, 15, 17, 21, 25, 26, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 41, 42, 43, 45, 46, 100, 101, 102, 103, 104, 105, 106,
		200, 201, 202, 203, 204, 205, 206, 207, 208, 215, 216, 219, 222, 223, 224, 300, 301, 304, 305, 306, 307, 308, 309, 310, 311, 312, 313, 314, 315, 316, 317,
		318, 319, 320, 321, 322, 323, 324, 325, 327, 328, 329, 351, 352, 361, -1, 0, 99999}
	if at.name != "namesrv" {
		codes = slices.DeleteFunc(codes, func(c int) bool { return c == 25 }) // a broker's configuration is left alone here
	}
	names := []string{"../../../../tmp/escape", "/tmp/escape", "..", ".", "", "a/b", "a\x00b", "%2e%2e%2f", strings.Repeat("n", 128), strings.Repeat("n", 65536), "\u202ereversed", "%RETRY%", "%DLQ%../x", "T\n", "TBW102", "-1"}
	fields := []string{"topic", "b", "consumerGroup", "producerGroup", "a", "group", "groupName", "queueId", "e", "queueOffset", "maxMsgNums", "sysFlag", "f", "key", "offset",
		"timestamp", "clientID", "clientId", "brokerName", "brokerAddr", "clusterName", "namespace", "value", "readQueueNums", "writeQueueNums", "perm", "delayLevel", "subscription", "expressionType", "properties", "i", "commitOffset", "brokerId", "compressed", "maxNum", "beginTimestamp", "endTimestamp", "haServerAddr", "suspendTimeoutMillis", "originMsgId", "bodyCrc32", "reconsumeTimes", "commitOrRollback", "commitLogOffset", "tranStateTableOffset", "defaultTopic", "defaultTopicQueueNums", "topicFilterType", "subVersion", "index", "count", "statsName", "statsKey", "filterGroups", "compareGroup", "srcGroup", "destGroup"}
	numbers := []string{"-1", "0", "1", "2147483647", "-2147483648", "9223372036854775807", "-9223372036854775808", "99999999999999999999", "1e9", "NaN", "0x10", " 1", "١"}
	bodies := [][]byte{nil, []byte("{}"), []byte("[]"), []byte("null"), []byte(`{"clientID":null,"consumerDataSet":{"a":1}}`), []byte(`{"mqSet":[null,1,"x",{"queueId":"9999999999999"}]}`),
		bytes.Repeat([]byte("["), 100_000), []byte(`{"groupName":"../../escape","retryMaxTimes":-5}`), []byte("a=b\nlistenPort=x\n"), {0xff, 0xfe, 0x00}, make([]byte, 1<<16)}
	pick := func() string {
		if rng.IntN(2) == 0 {
			return names[rng.IntN(len(names))]
		}
		return numbers[rng.IntN(len(numbers))]
	}
	c, silent := hostile(t, at.addr), 0
	for round := range 3 {
		for _, code := range codes {
			ext := map[string]string{}
			for _, f := range fields {
				if rng.IntN(4) > 0 {
					ext[f] = pick()
				}
			}
			if ext["suspendTimeoutMillis"] != "" {
				ext["suspendTimeoutMillis"] = "100"
			}
			cmd := raw.Command{Code: code, Language: "JAVA", Version: rng.IntN(600) - 50, Opaque: int32(rng.Uint32()), Ext: ext, Body: bodies[rng.IntN(len(bodies))]}
			frame := cmd.Encode()
			if rng.IntN(2) == 0 && code > -2 && code < 32768 && !slices.ContainsFunc(slices.Collect(maps.Values(ext)), func(s string) bool { return len(s) > 32767 }) {
				frame = cmd.EncodeBinary()
			}
			c.SetDeadline(time.Now().Add(15 * time.Second))
			if _, err := c.Write(frame); err == nil {
				_, _, err = raw.Read(c)
				if err == nil {
					continue
				}
				if errors.Is(err, os.ErrDeadlineExceeded) {
					silent++
					t.Errorf("round %d: code %d was not answered", round, code)
				}
			}
			if silent > 5 {
				return
			}
			c.Close()
			c = hostile(t, at.addr)
		}
	}
	if _, err := os.Stat("/tmp/escape"); err == nil {
		t.Error("a name has reached /tmp/escape")
	}
}

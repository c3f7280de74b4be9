package protocol

import (
	"encoding/binary"
	"testing"
)

// A send's header as Java 4.9.8 sends it, of the length that performance.md
// section 4 measures (404 bytes).
const sendV2JSON = `{"code":310,"extFields":{"a":"ProducerGroup1","b":"TopicTest","c":"TBW102","d":"4","e":"3","f":"0","g":"1700000000000","h":"0",` +
	`"i":"KEYS\u0001OrderID188\u0002UNIQ_KEY\u00017F0000010A4B18B4AAC2123456780000\u0002WAIT\u0001true\u0002TAGS\u0001TagA","j":"0","k":"false","m":"false","n":"broker-a"},` +
	`"flag":0,"language":"JAVA","opaque":123456,"serializeTypeCurrentRPC":"JSON","version":409}`

func frameOf(codec Codec, header string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(codec)<<24|uint32(len(header)))
	return append(b, header...)
}

func BenchmarkParseSend(b *testing.B) {
	var plain Command
	if err := plain.Parse(frameOf(JSON, sendV2JSON)); err != nil {
		b.Fatal(err)
	}
	plain.Codec = Binary
	for _, bc := range []struct {
		name  string
		frame []byte
	}{{"json", frameOf(JSON, sendV2JSON)}, {"binary", plain.AppendTo(nil)[4:]}} {
		b.Run(bc.name, func(b *testing.B) {
			var c Command
			h := SendHeader{V2: true}
			b.ReportAllocs()
			b.SetBytes(int64(len(bc.frame) - 4))
			for b.Loop() {
				if err := c.Parse(bc.frame); err != nil {
					b.Fatal(err)
				}
				if err := c.Decode(&h); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendSendReply(b *testing.B) {
	for _, codec := range []Codec{JSON, Binary} {
		b.Run([]string{"json", "binary"}[codec], func(b *testing.B) {
			h := SendReply{MsgID: []byte("7F00000100002A9F00000000000A1B2C"), QueueID: 3, QueueOffset: 123456, Region: "DefaultRegion", Trace: true}
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendResponse(buf[:0], codec, 123456, Success, "", &h, nil)
			}
		})
	}
}

func BenchmarkPull(b *testing.B) {
	b.Run("parse", func(b *testing.B) {
		frame := frameOf(JSON, `{"code":11,"extFields":{"queueId":"1","maxMsgNums":"32","sysFlag":"2","suspendTimeoutMillis":"15000","commitOffset":"0","bname":"broker-a","topic":"TopicTest","queueOffset":"1234567","expressionType":"TAG","subVersion":"1700000000000","consumerGroup":"ConsumerGroup1"},"flag":0,"language":"JAVA","opaque":123456,"serializeTypeCurrentRPC":"JSON","version":409}`)
		var c Command
		var h PullHeader
		b.ReportAllocs()
		b.SetBytes(int64(len(frame) - 4))
		for b.Loop() {
			if err := c.Parse(frame); err != nil {
				b.Fatal(err)
			}
			if err := c.Decode(&h); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reply", func(b *testing.B) {
		h := PullReply{NextBeginOffset: 1234599, MaxOffset: 2000000}
		buf := make([]byte, 0, 1024)
		b.ReportAllocs()
		for b.Loop() {
			buf = AppendResponse(buf[:0], JSON, 123456, Success, "FOUND", &h, nil)
		}
	})
}

package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"gomq/internal/chance"
)

func parseJSONHeader(t *testing.T, header string) *Command {
	t.Helper()
	c := new(Command)
	if err := c.Parse(frameOf(JSON, header)); err != nil {
		t.Fatalf("%s: %v", header, err)
	}
	return c
}

func TestJSONHeaderLeniency(t *testing.T) {
	for _, tc := range []struct{ header, want string }{
		{`{}`, `0 JAVA 0 0 0 "" []`},
		{" {\t\"code\" : 310 ,\r\n\"opaque\":-7, \"flag\":2,\"version\":333,\"language\":\"CPP\"}\n", `310 CPP 333 -7 2 "" []`},
		{`{"code":"105","language":"KLINGON","remark":null,"version":null,"extFields":null}`, `105 OTHER 0 0 0 "" []`},
		{`{"language":9,"remark":"a\/b\"\\\b\f\n\r\t"}`, `0 GO 0 0 0 "a/b\"\\\b\f\n\r\t" []`},
		{`{"language":77,"remark":"x"}`, `0 OTHER 0 0 0 "x" []`},
		{`{"extFields":{"a":3,"b":-1.5,"c":true,"d":false,"e":null,"f":{"x":[1,"}"]},"g":[{}],"h":""}}`, `0 JAVA 0 0 0 "" [a=3 b=-1.5 c=true d=false h=]`},
		{`{"extFields":{"a":"1","b":"2","a":"3"}}`, `0 JAVA 0 0 0 "" [a=3 b=2]`},
		{`{"extFields":{"a":"1","b":"2","a":null}}`, `0 JAVA 0 0 0 "" [b=2]`},
		{`{"extFields":{"a":"1"},"unknown":{"deep":[[[{"k":"]"}]]]},"code":7}`, `7 JAVA 0 0 0 "" [a=1]`},
		{`{"extFields":{"\u0061b":"k\u0001v\u0002\u4e2d\uD83D\uDE00\ud83d!\udc00"}}`, "0 JAVA 0 0 0 \"\" [ab=k\x01v\x02中😀\uFFFD!\uFFFD]"},
		{`{"extFields":{"i":"中\u0001😀"},"remark":"中"}`, "0 JAVA 0 0 0 \"中\" [i=中\x01😀]"},
		{`{"extFields":{,"a":"1",,},"code":1,}`, `1 JAVA 0 0 0 "" [a=1]`},
	} {
		c := parseJSONHeader(t, tc.header)
		var pairs []string
		c.Pairs(func(k, v []byte) { pairs = append(pairs, string(k)+"="+string(v)) })
		got := fmt.Sprintf("%d %v %d %d %d %q %v", c.Code, c.Language, c.Version, c.Opaque, c.Flag, c.Remark, pairs)
		if got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.header, got, tc.want)
		}
	}
}

func manyPairs(n int) string {
	var b strings.Builder
	b.WriteString(`{"extFields":{`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"k%d":"%d"`, i, i)
	}
	b.WriteString(`}}`)
	return b.String()
}

func TestHeaderLimits(t *testing.T) {
	if c := parseJSONHeader(t, manyPairs(MaxPairs)); len(c.ext) != MaxPairs {
		t.Errorf("%d pairs, want %d", len(c.ext), MaxPairs)
	} else if v, _ := c.Get("k255"); string(v) != "255" {
		t.Errorf("the last pair is %q", v)
	}
	parseJSONHeader(t, `{"x":`+strings.Repeat("[", maxDepth)+strings.Repeat("]", maxDepth)+`}`)
	parseJSONHeader(t, `{"remark":"`+strings.Repeat("x", MaxHeader-13)+`"}`)

	bad := map[string][]byte{
		"no mark":                {0, 0, 0},
		"header beyond frame":    {0, 0, 0, 3, '{', '}'},
		"unknown encoding":       {2, 0, 0, 2, '{', '}'},
		"no header":              {0, 0, 0, 0},
		"header too long":        frameOf(JSON, `{"remark":"`+strings.Repeat("x", MaxHeader-12)+`"}`),
		"too many pairs":         frameOf(JSON, manyPairs(MaxPairs+1)),
		"the same pair for ever": frameOf(JSON, `{"extFields":{`+strings.Repeat(`"a":"b",`, MaxPairs+1)+`}}`),
		"too deep":               frameOf(JSON, `{"x":`+strings.Repeat("[", maxDepth+1)+strings.Repeat("]", maxDepth+1)+`}`),
		"text behind":            frameOf(JSON, `{}x`),
		"short binary":           frameOf(Binary, strings.Repeat("\x00", 20)),
		"binary remark":          frameOf(Binary, strings.Repeat("\x00", 13)+"\xff\xff\xff\xff"+strings.Repeat("\x00", 8)),
		"binary pairs":           frameOf(Binary, strings.Repeat("\x00", 17)+"\x00\x00\x00\x05"+"\x00\x01a\x00"),
		"binary pair too long":   frameOf(Binary, strings.Repeat("\x00", 17)+"\x00\x00\x00\x08"+"\x00\x01a\x00\x00\x00\x02b"),
		"binary negative value":  frameOf(Binary, strings.Repeat("\x00", 17)+"\x00\x00\x00\x08"+"\x00\x01a\xff\xff\xff\xffb"),
		"binary key too long":    frameOf(Binary, strings.Repeat("\x00", 17)+"\x00\x00\x00\x08"+"\xff\xffa\x00\x00\x00\x01b"),
		"binary too many":        frameOf(Binary, strings.Repeat("\x00", 17)+"\x00\x00\x08\x08"+strings.Repeat("\x00\x01a\x00\x00\x00\x01b", MaxPairs+1)),
	}
	for _, h := range []string{``, `[]`, `{`, `{"`, `{"code`, `{"code"`, `{"code":`, `{"code":1`, `{"code":1,`, `{"code":x}`, `{"code":99999999999}`,
		`{"code":1.5}`, `{"remark":"\`, `{"remark":"\u00`, `{"remark":"\q"}`, `{"remark":"\u00zz"}`, `{"extFields":{"a`, `{"extFields":{"a":"`, `{"extFields":{"a":"b\`,
		`{"extFields":{"a":"b"`, `{"extFields":{"a":{]}}`, `{"extFields":{"a":[}`, `{"x":{"y":"}`, `{a:1}`, `{"code":1}}`, `{"extFields":{"a":}}`} {
		bad["json "+h] = frameOf(JSON, h)
	}
	var c Command
	for name, frame := range bad {
		if err := c.Parse(frame); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, tc := range []struct {
		header string
		h      Header
		want   string
	}{
		{`{"code":11,"extFields":{"topic":"t","consumerGroup":"g","queueId":"0","queueOffset":"0","maxMsgNums":"1"}}`, &PullHeader{}, "the header field sysFlag of request 11 PULL_MESSAGE is missing"},
		{`{"code":30,"extFields":{"topic":"t","queueId":"x"}}`, &QueueHeader{}, `the header field queueId of request 30 GET_MAX_OFFSET has a value that does not fit: "x"`},
		{`{"code":30,"extFields":{"topic":"t","queueId":""}}`, &QueueHeader{}, `the header field queueId of request 30 GET_MAX_OFFSET has a value that does not fit: ""`},
		{`{"code":30,"extFields":{"topic":"t","queueId":"2147483648"}}`, &QueueHeader{}, "does not fit"},
		{`{"code":33,"extFields":{"offset":"9223372036854775808"}}`, &ViewHeader{}, "does not fit"},
		{`{"code":33}`, &ViewHeader{}, "the header field offset of request 33 VIEW_MESSAGE_BY_ID is missing"},
		{`{"code":26,"extFields":{"version":"no json"}}`, &BrokerConfigReply{}, "version"},
	} {
		err := parseJSONHeader(t, tc.header).Decode(tc.h)
		var e *Error
		if !errors.As(err, &e) || e.Code != SystemError || !strings.Contains(e.Remark, tc.want) {
			t.Errorf("%s: %v, want %s", tc.header, err, tc.want)
		}
	}
	// An optional number that is empty is as good as missing, and what a header
	// held from another request is gone.
	h := SendHeader{V2: true, Props: []byte("old"), ReconsumeTimes: 5, UnitMode: true, Batch: true, MaxReconsume: 3}
	c := parseJSONHeader(t, `{"code":310,"extFields":{"a":"g","b":"t","c":"TBW102","d":4,"e":-1,"f":0,"g":1,"h":0,"l":"","j":""}}`)
	if err := c.Decode(&h); err != nil {
		t.Fatal(err)
	}
	if h.Props != nil || h.ReconsumeTimes != 0 || h.UnitMode || h.Batch || h.MaxReconsume != -1 || h.QueueID != -1 || h.DefaultTopicQueues != 4 {
		t.Errorf("%+v", h)
	}
	for _, tc := range []struct {
		value string
		want  bool
	}{{"true", true}, {"TRUE", true}, {"tRuE", true}, {"yes", false}, {"", false}, {"truee", false}} {
		var r RouteHeader
		if err := parseJSONHeader(t, `{"extFields":{"topic":"t","acceptStandardJsonOnly":"`+tc.value+`"}}`).Decode(&r); err != nil || r.AcceptStandardJSON != tc.want {
			t.Errorf("%q is %v, %v", tc.value, r.AcceptStandardJSON, err)
		}
	}
}

func TestAtoi(t *testing.T) {
	for _, tc := range []struct {
		text string
		n    int64
		ok   bool
	}{{"0", 0, true}, {"-0", 0, true}, {"+7", 7, true}, {"9223372036854775807", 1<<63 - 1, true}, {"-9223372036854775808", -1 << 63, true},
		{"9223372036854775808", 0, false}, {"-9223372036854775809", 0, false}, {"99999999999999999999", 0, false}, {"", 0, false}, {"-", 0, false},
		{"1 ", 0, false}, {"1.0", 0, false}, {"0x1", 0, false}, {"00000000000000000001", 0, false}} {
		if n, ok := atoi([]byte(tc.text)); ok != tc.ok || ok && n != tc.n {
			t.Errorf("%q is %d %v, want %d %v", tc.text, n, ok, tc.n, tc.ok)
		}
	}
}

func TestSetGetClone(t *testing.T) {
	c := NewRequest(GetMaxOffset, &QueueHeader{Topic: []byte("t"), QueueID: 3}, []byte("body"))
	c.Set("bname", "a")
	c.Set("bname", "b")
	frame := c.AppendTo(nil)
	want := `{"code":30,"extFields":{"queueId":"3","topic":"t","bname":"b"},"flag":0,"language":"JAVA","opaque":0,"serializeTypeCurrentRPC":"JSON","version":409}body`
	if string(frame[8:]) != want {
		t.Errorf("%s, want %s", frame[8:], want)
	}
	var d Command
	if err := d.Parse(frame[4:]); err != nil {
		t.Fatal(err)
	}
	e := d.Clone()
	clear(frame)
	if v, ok := e.Get("bname"); !ok || string(v) != "b" || string(e.Body) != "body" || !bytes.Equal(e.AppendTo(nil)[8:], []byte(want)) {
		t.Errorf("the clone changed with the frame: %s", e.AppendTo(nil))
	}
	if _, ok := e.Get("nothing"); ok {
		t.Error("got a pair that is not there")
	}
}

// An answer is appended behind what stands there already, and its body may be
// appended later.
func TestBeginResponse(t *testing.T) {
	for _, codec := range []Codec{JSON, Binary} {
		h := &PullReply{NextBeginOffset: 5, MaxOffset: 9}
		b, mark := BeginResponse([]byte("other"), codec, -3, PullNotFound, "say \"no\"\n", h)
		b = EndResponse(append(b, "records"...), mark)
		if n := binary.BigEndian.Uint32(b[5:]); int(n) != len(b)-9 {
			t.Errorf("length %d of %d", n, len(b)-9)
		}
		if !bytes.Equal(b[5:], AppendResponse(nil, codec, -3, PullNotFound, "say \"no\"\n", h, []byte("records"))) {
			t.Error("in two parts it is another answer")
		}
		var c Command
		if err := c.Parse(b[9:]); err != nil {
			t.Fatal(err)
		}
		var again PullReply
		if err := c.Decode(&again); err != nil || again != *h || c.Remark != "say \"no\"\n" || c.Opaque != -3 || c.Code != PullNotFound ||
			!c.IsResponse() || c.IsOneway() || string(c.Body) != "records" || c.Version != Version || c.Language != LangJava {
			t.Errorf("%+v %+v %v", c, again, err)
		}
	}
}

func TestQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 `""`,
		"plain text/slash 中 😀":             `"plain text/slash 中 😀"`,
		"\x00\x01\x02\b\t\n\v\f\r\x1f\"\\": `"\u0000\u0001\u0002\b\t\n\u000B\f\r\u001F\"\\"`,
		"\x7f\u0080\u009f\u00a0\u2027\u2028\u2029\u202a": `"\u007F\u0080\u009F` + "\u00a0\u2027" + `\u2028\u2029` + "\u202a" + `"`,
		"\xc2":      "\"\xc2\"",
		"\xe2\x80":  "\"\xe2\x80\"",
		"\xff\xc2x": "\"\xff\xc2x\"",
	} {
		if got := appendQuoted(nil, in); string(got) != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
		if got := appendQuoted(nil, []byte(in)); string(got) != want {
			t.Errorf("bytes %q are %s, want %s", in, got, want)
		}
	}
	if got := string(appendASCII(nil, "a/\"\\\n中😀\x7f\xff")); got != `"a\/\"\\\n\u4E2D\uD83D\uDE00\u007F\uFFFD"` {
		t.Error(got)
	}
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	for range 5000 {
		b := make([]byte, r.IntN(24))
		for i := range b {
			b[i] = byte('a' + r.IntN(26))
			if r.IntN(12) == 0 {
				b[i] = byte(r.Uint32())
			}
		}
		if got, want := AppendResponse(nil, JSON, 1, 0, "", &KVReply{string(b)}, nil), string(appendQuoted(nil, b)); !bytes.Contains(got, []byte(`{"value":`+want+`}`)) {
			t.Fatalf("%q was answered as %q", b, got)
		}
		// What is written is read as it was, whatever stands around it.
		frame := frameOf(JSON, `{"extFields":{"k":`+string(appendQuoted(nil, b))+`}}`)
		var c Command
		if err := c.Parse(frame); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if v, _ := c.Get("k"); !bytes.Equal(v, b) {
			t.Fatalf("%q was read as %q", b, v)
		}
	}
}

// The requests and answers of every message cost no allocation.
func TestNoAllocations(t *testing.T) {
	var c Command
	send, pull, query, commit := SendHeader{V2: true}, PullHeader{}, OffsetHeader{}, OffsetHeader{Update: true}
	requests := map[string]Header{
		sendV2JSON: &send,
		`{"code":11,"extFields":{"queueId":"1","maxMsgNums":"32","sysFlag":"2","suspendTimeoutMillis":"15000","commitOffset":"0","bname":"broker-a","topic":"T","queueOffset":"0","expressionType":"TAG","subVersion":"1795438021143","consumerGroup":"G"},"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":409}`: &pull,
		`{"code":14,"extFields":{"consumerGroup":"G","topic":"T","queueId":0}}`:                       &query,
		`{"code":15,"extFields":{"consumerGroup":"G","topic":"T","queueId":"0","commitOffset":"17"}}`: &commit,
	}
	for text, h := range requests {
		frame := frameOf(JSON, text)
		if n := testing.AllocsPerRun(100, func() {
			if c.Parse(frame) != nil || c.Decode(h) != nil {
				t.Fatal(text)
			}
		}); n != 0 {
			t.Errorf("%T: %v allocations", h, n)
		}
	}
	buf := make([]byte, 0, 1024)
	id := []byte("7F00000100002A9F00000000000A1B2C")
	for _, h := range []Header{&SendReply{MsgID: id, Region: "DefaultRegion", Trace: true}, &PullReply{}, &OffsetReply{}} {
		for _, codec := range []Codec{JSON, Binary} {
			if n := testing.AllocsPerRun(100, func() { buf = AppendResponse(buf[:0], codec, 7, Success, "FOUND", h, nil) }); n != 0 {
				t.Errorf("%T: %v allocations", h, n)
			}
		}
	}
}

func TestRequestName(t *testing.T) {
	seen := map[string]int32{}
	for code, name := range lowNames {
		if name == "" {
			continue
		}
		if other, twice := seen[name]; twice {
			t.Errorf("%s is %d and %d", name, other, code)
		}
		seen[name] = int32(code)
		if RequestName(int32(code)) != name {
			t.Errorf("%d is %q", code, RequestName(int32(code)))
		}
	}
	for code, name := range highNames {
		if RequestName(code) != name || code < int32(len(lowNames)) && lowNames[code] != "" {
			t.Errorf("%d is %q", code, RequestName(code))
		}
	}
	for _, g := range goldens(t) {
		if g.Code != 9999 && RequestName(g.Code) == "" {
			t.Errorf("%s: %d has no name", g.File, g.Code)
		}
	}
	for _, code := range []int32{-1, 0, 54, 9999, 1 << 30} {
		if n := RequestName(code); n != "" {
			t.Errorf("%d is %s", code, n)
		}
	}
}

package message

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf16"

	"gomq/internal/chance"
)

// TestHashCode holds the hash against Java's definition, over UTF-16 units, and
// two values that Java printed (store.md section 3).
func TestHashCode(t *testing.T) {
	if h := HashCode([]byte("TagA")); h != 2598919 {
		t.Error(h)
	}
	if h := HashCode([]byte("TopicTest#key")); h != 85128477 {
		t.Error(h)
	}
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	alphabet := []rune("abcXYZ019 _é标签😀\u07ff\uffff")
	for range 2000 {
		var text []rune
		for range r.IntN(24) {
			text = append(text, alphabet[r.IntN(len(alphabet))])
		}
		var want int32
		for _, u := range utf16.Encode(text) {
			want = 31*want + int32(u)
		}
		s := string(text)
		if got := HashCode([]byte(s)); got != want {
			t.Fatalf("%q has %d, want %d", s, got, want)
		}
		cut := strings.IndexByte(s, ' ')
		if cut >= 0 && HashMore(HashCode([]byte(s[:cut])), []byte(s[cut:])) != want {
			t.Fatalf("%q hashed in two parts", s)
		}
	}
}

func TestProps(t *testing.T) {
	text := []byte("A\x011\x02\x02x\x02B\x01\x02C\x01a\x01b\x02A\x012\x02KEYS\x01k1 k2")
	var all []string
	EachProp(text, func(n, v []byte) bool { all = append(all, fmt.Sprintf("%s=%q", n, v)); return true })
	if got := strings.Join(all, " "); got != `A="1" C="a\x01b" A="2" KEYS="k1 k2"` {
		t.Error(got)
	}
	for name, want := range map[string]string{"A": "2", "C": "a\x01b", "KEYS": "k1 k2", "B": "", "KEY": "", "x": ""} {
		if v, ok := Prop(text, name); string(v) != want || ok != (want != "") {
			t.Errorf("%s: %q %v", name, v, ok)
		}
	}
	p := AppendProp(nil, "A", "1")
	p = AppendProp(p, "B", "2")
	p = AppendProp(append(p, 2), "C", "3")
	if string(p) != "A\x011\x02B\x012\x02C\x013" {
		t.Errorf("%q", p)
	}
	if TagsCode([]byte("TAGS\x01TagA")) != 2598919 || TagsCode([]byte("TAG\x01TagA")) != 0 {
		t.Error("TagsCode")
	}
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	pieces := []string{"TAGS\x01", "KEYS\x01", "UNIQ_KEY\x01", "TAGS", "\x01", "\x02", "a", "b c", "UNIQ_KEYS\x01x", "WAIT\x01true\x02"}
	for range 5000 {
		var b []byte
		for range r.IntN(12) {
			b = append(b, pieces[r.IntN(len(pieces))]...)
		}
		n := Note(b)
		for name, got := range map[string][]byte{PropTags: n.Tags, PropKeys: n.Keys, PropUniqKey: n.UniqKey} {
			if want, ok := Prop(b, name); !bytes.Equal(got, want) || ok != (got != nil) {
				t.Fatalf("%s of %q is %q, want %q", name, b, got, want)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { Prop(text, "KEYS"); TagsCode(text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestID(t *testing.T) {
	for _, c := range []struct{ host, want string }{
		{"127.0.0.1:10911", "7F00000100002A9F0000000000000400"},
		{"[2001:db8::1]:10911", "20010DB800000000000000000000000100002A9F0000000000000400"},
	} {
		host := netip.MustParseAddrPort(c.host)
		id := string(AppendID(nil, host, 1024))
		if id != c.want {
			t.Errorf("%s: %s", c.host, id)
		}
		if h, off, err := ParseID(id); h != host || off != 1024 || err != nil {
			t.Errorf("%s: %v %d %v", id, h, off, err)
		}
	}
	for _, bad := range []string{"", "7F", strings.Repeat("G", 32), strings.Repeat("F", 32)} {
		if _, _, err := ParseID(bad); err == nil {
			t.Errorf("%q is an id", bad)
		}
	}
}

func batchEntry(flag int32, body, props string) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(nil, uint32(22+len(body)+len(props)))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = be.AppendUint32(b, uint32(flag))
	b = append(be.AppendUint32(b, uint32(len(body))), body...)
	return append(be.AppendUint16(b, uint16(len(props))), props...)
}

func TestEachBatch(t *testing.T) {
	b := append(batchEntry(1, "one", "A\x011"), batchEntry(2, "", "")...)
	var got []string
	if err := EachBatch(b, func(flag int32, body, props []byte) error {
		got = append(got, fmt.Sprintf("%d %s %q", flag, body, props))
		return nil
	}); err != nil || strings.Join(got, ";") != `1 one "A\x011";2  ""` {
		t.Error(got, err)
	}
	for i := range b {
		if i == len(batchEntry(1, "one", "A\x011")) || i == 0 {
			continue
		}
		if EachBatch(b[:i], func(int32, []byte, []byte) error { return nil }) == nil {
			t.Errorf("a batch cut at %d is fine", i)
		}
	}
	lying := bytes.Clone(b)
	binary.BigEndian.PutUint32(lying[16:], 0x7fffffff)
	if EachBatch(lying, func(int32, []byte, []byte) error { return nil }) == nil {
		t.Error("a body longer than its entry")
	}
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"", " ", "a/b", "../x", "a b", "a\x00", "é", strings.Repeat("t", 128)} {
		if ValidTopic(bad) == nil {
			t.Errorf("topic %q is valid", bad)
		}
	}
	for _, good := range []string{"T", "%RETRY%g", "a-b_c|d%", strings.Repeat("t", 127)} {
		if err := ValidTopic(good); err != nil {
			t.Errorf("topic %q: %v", good, err)
		}
	}
	long := strings.Repeat("g", MaxGroupLen)
	if ValidGroup(long) != nil || ValidGroup(long+"g") == nil || ValidTopic(RetryTopic(long)) != nil || ValidGroup("a/b") == nil || ValidGroup("") == nil {
		t.Error("groups")
	}
	if !NotForSending([]byte(TopicSchedule)) || NotForSending([]byte("T")) || !IsSystemTopic("rmq_sys_x") || IsSystemTopic("T") {
		t.Error("system topics")
	}
}

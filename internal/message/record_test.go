package message

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"gomq/internal/chance"
)

func randomMessage(r *rand.Rand) *Message {
	text := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('a' + r.IntN(26))
		}
		return b
	}
	host := func() netip.AddrPort {
		if r.IntN(2) == 0 {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(256)), 0, 1}), uint16(r.IntN(65536)))
		}
		var ip [16]byte
		for i := range ip {
			ip[i] = byte(r.IntN(256))
		}
		ip[0] = 0x20
		return netip.AddrPortFrom(netip.AddrFrom16(ip), uint16(r.IntN(65536)))
	}
	return &Message{Topic: text(1 + r.IntN(MaxTopicLen)), QueueID: r.Int32(), Flag: int32(r.Uint32()), SysFlag: SysFlag(r.Uint32()), BornTime: r.Int64(),
		BornHost: host(), StoreHost: host(), Reconsume: r.Int32(), Prepared: r.Int64(), Body: text(r.IntN(300)), Props: text(r.IntN(200))}
}

// TestRecordRoundTrip: what is appended is what is read, whatever the client's
// flags say of the hosts, and behind other records as well as alone.
func TestRecordRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	var log []byte
	for range 2000 {
		m := randomMessage(r)
		at := len(log)
		var err error
		if log, err = AppendRecord(log, m); err != nil {
			t.Fatal(err)
		}
		rec, err := ParseRecord(log[at:], true)
		if err != nil {
			t.Fatalf("%v of %+v", err, m)
		}
		rec.Place(7, int64(at), 99)
		hosts := SysFlag(0)
		if m.BornHost.Addr().Is6() {
			hosts |= BornHostV6
		}
		if m.StoreHost.Addr().Is6() {
			hosts |= StoreHostV6
		}
		want := m.SysFlag&^(BornHostV6|StoreHostV6) | hosts
		switch {
		case int(rec.Size()) != RecordSize(m) || rec.QueueOffset() != 7 || rec.Offset() != int64(at) || rec.StoreTime() != 99,
			rec.QueueID() != m.QueueID || rec.Flag() != m.Flag || rec.SysFlag() != want || rec.BornTime() != m.BornTime,
			rec.BornHost() != m.BornHost || rec.StoreHost() != m.StoreHost || rec.Reconsume() != m.Reconsume || rec.Prepared() != m.Prepared,
			!bytes.Equal(rec.Body(), m.Body) || !bytes.Equal(rec.Topic(), m.Topic) || !bytes.Equal(rec.Props(), m.Props):
			t.Fatalf("%+v was read back differently", m)
		}
		if len(log) > 1<<20 {
			log = log[:0]
		}
	}
}

func TestRecordDamage(t *testing.T) {
	m := &Message{Topic: []byte("T"), Body: []byte("body"), Props: []byte("A\x01b"), BornHost: netip.MustParseAddrPort("1.2.3.4:5"), StoreHost: netip.MustParseAddrPort("1.2.3.4:6")}
	good, err := AppendRecord(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[at:], b)
		return c
	}
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"cut", good[:len(good)-1], ErrShort},
		{"head only", good[:7], ErrShort},
		{"magic", change(4, 1), ErrMagic},
		{"blank", AppendBlank(nil, 100), ErrBlank},
		{"negative size", change(0, 0xff, 0xff, 0xff, 0xff), ErrLength},
		{"body longer than the record", change(84, 0, 0, 1, 0), ErrLength},
		{"negative body", change(84, 0x80, 0, 0, 0), ErrLength},
		{"topic length 0", change(92, 0), ErrLength},
		{"negative topic", change(92, 0x81), ErrLength},
		{"properties", change(94, 0, 9), ErrLength},
		{"body changed", change(88, 'B'), ErrCRC},
	} {
		if _, err := ParseRecord(c.b, true); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := AppendRecord(nil, &Message{Topic: bytes.Repeat([]byte("t"), 128)}); !errors.Is(err, ErrTopicLength) {
		t.Error(err)
	}
	if _, err := AppendRecord(nil, &Message{Topic: []byte("T"), Props: make([]byte, 32768)}); !errors.Is(err, ErrPropsLength) {
		t.Error(err)
	}
}

func FuzzRecord(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		b, _ := AppendRecord(nil, randomMessage(r))
		f.Add(b)
	}
	f.Add(AppendBlank(nil, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := ParseRecord(b, true)
		if err != nil {
			return
		}
		if n := len(rec.Body()) + len(rec.Topic()) + len(rec.Props()); n >= len(b) {
			t.Fatalf("%d bytes of parts in %d", n, len(b))
		}
		_, _, _, _ = rec.BornHost(), rec.StoreHost(), rec.StoreTime(), rec.Prepared()
		EachProp(rec.Props(), func(_, _ []byte) bool { return true })
		EachBatch(rec.Body(), func(int32, []byte, []byte) error { return nil })
	})
}

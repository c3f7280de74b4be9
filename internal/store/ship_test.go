package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gomq/internal/chance"
	"gomq/internal/message"
	"gomq/internal/store/simdisk"
)

// ship copies the log of m to s in pieces of random sizes, as replication would.
func ship(t *testing.T, r *rand.Rand, m, s *Store) {
	t.Helper()
	at := s.MaxOffset()
	if s.Empty() {
		at = m.MinOffset()
	}
	var rest []byte
	buf := make([]byte, 1+r.IntN(5000))
	for from := at; from < m.MaxOffset(); {
		n, err := m.ReadRaw(buf, from, m.MaxOffset())
		if err != nil || n == 0 {
			t.Fatalf("reading at %d: %d, %v", from, n, err)
		}
		from += int64(n)
		rest = append(rest, buf[:n]...)
		used, err := s.AppendRaw(at, rest)
		if err != nil {
			t.Fatal(err)
		}
		at += int64(used)
		rest = rest[used:]
	}
	if len(rest) > 0 || s.MaxOffset() != m.MaxOffset() {
		t.Fatalf("%d bytes are left, %d of %d arrived", len(rest), s.MaxOffset(), m.MaxOffset())
	}
}

// sameLog says that b holds what a does from where b begins.
func sameLog(t *testing.T, a, b *Store) {
	t.Helper()
	if a.MaxOffset() != b.MaxOffset() {
		t.Fatalf("one ends at %d, the other at %d", a.MaxOffset(), b.MaxOffset())
	}
	x, y := make([]byte, 4096), make([]byte, 4096)
	for at := max(a.MinOffset(), b.MinOffset()); at < a.MaxOffset(); {
		n, err := a.ReadRaw(x, at, a.MaxOffset())
		k, err2 := b.ReadRaw(y, at, b.MaxOffset())
		if err != nil || err2 != nil || n != k || !bytes.Equal(x[:n], y[:k]) {
			t.Fatalf("at %d: %d and %d bytes differ (%v, %v)", at, n, k, err, err2)
		}
		at += int64(n)
	}
}

// sameQueues says that readers of b see what readers of a see.
func sameQueues(t *testing.T, a, b *Store) {
	t.Helper()
	for _, q := range a.Queues() {
		p := b.Queue([]byte(q.Topic()), q.ID())
		if p.Max() != q.Max() {
			t.Fatalf("%s ends at %d and %d", q, q.Max(), p.Max())
		}
		from := max(q.Min(), p.Min())
		if x, y := pull(t, a, q, from), pull(t, b, p, from); len(x) != len(y) {
			t.Fatalf("%s has %d and %d messages from %d on", q, len(x), len(y), from)
		}
	}
}

func waitFor(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Dispatched.Wait(t.Context(), s.MaxOffset()); err != nil {
		t.Fatal(err)
	}
}

// What is shipped in pieces of any size arrives as the same log with the same
// queues, under both flush types and writers, over file ends, after restarts, and
// when the copy begins in the middle.
func TestShipping(t *testing.T) {
	for seed := range chance.Seeds(t, 0, 12) {
		r := rand.New(rand.NewPCG(seed, 3))
		mo, so := small(t), small(t)
		mo.MaxMessageSize, so.MaxMessageSize = 30_000, 30_000
		mo.SyncFlush, so.SyncFlush = r.IntN(2) == 0, r.IntN(2) == 0
		m, s := open(t, mo), open(t, so)
		for round := range 6 {
			for i := range 60 {
				send(t, m, fmt.Sprint("T", r.IntN(3)), int32(r.IntN(2)), make([]byte, r.IntN(3000)), fmt.Sprintf("KEYS\x01k%d-%d\x02", round, i))
			}
			if r.IntN(4) == 0 {
				send(t, m, "Large", 0, make([]byte, 20_000+r.IntN(10_000)), "")
			}
			if round == 0 && seed%3 == 0 { // the slave comes when the first files are gone
				for m.log.Len() > 2 {
					if err := m.log.DropFirst(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if round >= 1 {
				ship(t, r, m, s)
				waitFor(t, s)
				sameLog(t, m, s)
				sameQueues(t, m, s)
			}
			if r.IntN(3) == 0 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, so)
			}
		}
		if err := s.Indexed.Wait(t.Context(), s.MaxOffset()); err != nil {
			t.Fatal(err)
		}
		found := 0
		for topic := range 3 {
			at, _, _, err := s.Lookup([]byte(fmt.Sprint("T", topic)), []byte("k5-7"), 0, time.Now().UnixMilli()+1000, 10)
			if err != nil {
				t.Fatal(err)
			}
			found += len(at)
		}
		if found == 0 {
			t.Error("the key of a message that was shipped is not found")
		}
		for _, st := range []*Store{m, s} {
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A topic that was deleted and made again on the master begins again on the copy.
func TestShippingOfATopicMadeAgain(t *testing.T) {
	for _, sync := range []bool{false, true} {
		mo, so := small(t), small(t)
		so.SyncFlush = sync
		m, s := open(t, mo), open(t, so)
		for i := range 50 {
			send(t, m, "T", 0, fmt.Appendf(nil, "old %d", i), "")
		}
		if err := m.DropQueue("T"); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			send(t, m, "T", 0, fmt.Appendf(nil, "new %d", i), "")
		}
		ship(t, rand.New(rand.NewPCG(1, 1)), m, s)
		waitFor(t, s)
		check := func() {
			t.Helper()
			got := pull(t, s, s.Queue([]byte("T"), 0), 0)
			if len(got) != 20 || string(got[19].Body()) != "new 19" {
				t.Fatalf("%d messages", len(got))
			}
		}
		check()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, so)
		check()
		if err := errors.Join(s.Close(), m.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// What does not belong at the end of the log is refused with its place, and
// nothing of it is stored.
func TestShippingRefusals(t *testing.T) {
	m, s := open(t, small(t)), open(t, small(t))
	defer m.Close()
	defer s.Close()
	for i := range 5 {
		send(t, m, "T", 0, fmt.Appendf(nil, "body %d", i), "")
	}
	whole := make([]byte, m.MaxOffset())
	if _, err := m.ReadRaw(whole, 0, m.MaxOffset()); err != nil {
		t.Fatal(err)
	}
	size := int(sizeWord(whole))
	if used, err := s.AppendRaw(0, whole[:size]); err != nil || used != size {
		t.Fatal(used, err)
	}
	change := func(at int, to ...byte) []byte {
		b := bytes.Clone(whole[size:])
		copy(b[at:], to)
		return b
	}
	for name, c := range map[string]struct {
		at   int64
		p    []byte
		want error
	}{
		"a gap":            {int64(size) + 1, whole[size:], errGap},
		"again":            {0, whole, errGap},
		"another place":    {int64(size), whole[:size], errMisplaced},
		"no magic":         {int64(size), change(4, 1, 2, 3, 4), message.ErrMagic},
		"a flipped body":   {int64(size), change(90, 'x'), message.ErrCRC},
		"too large":        {int64(size), change(0, 0x7f), errHuge},
		"beyond the file":  {int64(size), change(0, 0, 1, 0, 0), message.ErrLength},
		"too small":        {int64(size), change(0, 0, 0, 0, 9), message.ErrLength},
		"a blank too soon": {int64(size), message.AppendBlank(nil, 100), errBlank},
		"no such queue":    {int64(size), change(12, 0x7f), errNoQueue},
		"a wild number":    {int64(size), change(20, 0x01), errInconsistent},
	} {
		used, err := s.AppendRaw(c.at, c.p)
		var raw *RawError
		if used != 0 || !errors.As(err, &raw) || !errors.Is(err, c.want) || raw.Offset != c.at {
			t.Errorf("%s: %d bytes used, %v", name, used, err)
		}
	}
	if used, err := s.AppendRaw(int64(size), whole[size:size+50]); used != 0 || err != nil {
		t.Errorf("half a record: %d, %v", used, err)
	}
	if used, err := s.AppendRaw(int64(size), whole[size:]); used != len(whole)-size || err != nil {
		t.Errorf("the rest: %d, %v", used, err)
	}
	sameQueues(t, m, s)
	if _, err := m.ReadRaw(whole, m.MaxOffset(), m.MaxOffset()+1); !errors.Is(err, ErrNoRecord) {
		t.Errorf("reading behind the end: %v", err)
	}
}

// The power may go at any moment while an empty log is begun in the middle, and
// while it takes its first records: the store opens again, and what comes once more
// fits.
func TestPowerCutWhileLogBeginsAnew(t *testing.T) {
	m := open(t, small(t))
	defer m.Close()
	for range 120 {
		send(t, m, "T", 0, make([]byte, 2000), "")
	}
	for m.log.Len() > 2 {
		if err := m.log.DropFirst(); err != nil {
			t.Fatal(err)
		}
	}
	reached := 0
	for k := 1; ; k++ {
		d := simdisk.New()
		o := Options{Root: "/store", CommitLogFileSize: 64 << 10, ConsumeQueueFileSize: 1000, SyncFlush: k%2 == 0, FS: d, FlushInterval: time.Millisecond, FlushQueueInterval: time.Millisecond}
		s := open(t, o)
		d.PowerOffAt(k)
		r := rand.New(rand.NewPCG(uint64(k), 5))
		at, rest, buf := m.MinOffset(), []byte(nil), make([]byte, 30_000)
		for from := at; from < m.MaxOffset() && !d.Off(); {
			n, err := m.ReadRaw(buf, from, m.MaxOffset())
			if err != nil {
				t.Fatal(err)
			}
			from += int64(n)
			rest = append(rest, buf[:n]...)
			used, err := s.AppendRaw(at, rest)
			if err != nil && !d.Off() {
				t.Fatalf("power off at %d: %v", k, err)
			}
			at += int64(used)
			rest = rest[used:]
			if from == m.MaxOffset() {
				_ = s.Durable.Wait(t.Context(), at)
			}
		}
		d.PowerOffAt(0) // before the look: the flushers work on, and may be who reaches k
		if !d.Off() {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
		reached++
		crashProcess(s)
		o.FS = d.Crash(uint64(k), []float64{0, 0.5, 1}[k%3])
		s = open(t, o)
		ship(t, r, m, s)
		waitFor(t, s)
		sameLog(t, m, s)
		sameQueues(t, m, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, o)
		sameLog(t, m, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if reached < 5 {
		t.Errorf("only %d power cuts", reached)
	}
}

// Damaged bytes are refused or make a store that is whole all the same: nothing
// panics, and after a restart log, queues and index fit together.
func TestShippingOfDamage(t *testing.T) {
	m := open(t, small(t))
	defer m.Close()
	for i := range 60 {
		send(t, m, fmt.Sprint("T", i%3), int32(i%2), make([]byte, 50+i*13), fmt.Sprintf("KEYS\x01k%d\x02", i))
	}
	whole := make([]byte, m.MaxOffset())
	if n, err := m.ReadRaw(whole, 0, m.MaxOffset()); err != nil || n != len(whole) {
		t.Fatal(n, err)
	}
	refused, took := 0, 0
	for seed := range chance.Seeds(t, 0, 60) {
		r := rand.New(rand.NewPCG(seed, 17))
		o := small(t)
		o.FS, o.Root, o.SyncFlush = simdisk.New(), "/store", r.IntN(2) == 0
		s := open(t, o)
		b := bytes.Clone(whole)
		for range 1 + r.IntN(3) {
			switch at := r.IntN(len(b) - 200); r.IntN(3) {
			case 0:
				b[at] ^= byte(1 + r.IntN(255))
			case 1:
				clear(b[at : at+1+r.IntN(100)])
			default:
				copy(b[at:], b[r.IntN(at+1):])
			}
		}
		used, err := s.AppendRaw(0, b)
		if err != nil {
			refused++
		}
		took += used
		if int64(used) != s.MaxOffset() {
			t.Fatalf("%d bytes used, the log ends at %d (%v)", used, s.MaxOffset(), err)
		}
		waitFor(t, s)
		if err := s.Indexed.Wait(t.Context(), s.MaxOffset()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var lines []string
		sum, err := Verify(t.Context(), o, func(p Problem) { lines = append(lines, p.String()) })
		if err != nil || len(lines) > 0 {
			t.Fatalf("%v, %+v\n%v", err, sum, lines)
		}
		if s = open(t, o); s.MaxOffset() != int64(used) {
			t.Fatalf("after a restart the log ends at %d, it had %d", s.MaxOffset(), used)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 || took == 0 {
		t.Errorf("%d refused, %d bytes taken", refused, took)
	}
}

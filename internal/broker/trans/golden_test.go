package trans

import (
	"bytes"
	"errors"
	"path"
	"slices"
	"testing"

	"gomq/internal/golden"
	"gomq/internal/message"
)

// goldenLog is the records of a store that an original has written, by their
// offsets (store/testdata/README.md).
func goldenLog(t *testing.T, name string) map[int64]message.Record {
	t.Helper()
	files, err := golden.Read("../../store/testdata/" + name + ".tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	log := map[int64]message.Record{}
	for _, f := range files {
		if path.Base(path.Dir(f.Name)) != "commitlog" {
			continue
		}
		for b := f.Data; len(b) > message.MinRecord; {
			rec, err := message.ParseRecord(b, false)
			if errors.Is(err, message.ErrBlank) || errors.Is(err, message.ErrMagic) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			log[rec.Offset()] = rec
			b = b[len(rec):]
		}
	}
	return log
}

// placed is m as the record that want is, where want is.
func placed(t *testing.T, m message.Message, want message.Record) message.Record {
	t.Helper()
	if !m.StoreHost.IsValid() {
		m.StoreHost, m.BornHost, m.BornTime = want.StoreHost(), want.BornHost(), want.BornTime()
	}
	b, err := message.AppendRecord(nil, &m)
	if err != nil {
		t.Fatal(err)
	}
	message.Record(b).Place(want.QueueOffset(), want.Offset(), want.StoreTime())
	return b
}

// text is a record without its length and without the separator that 4.5.2 puts
// behind the last property.
func text(r message.Record) string {
	return string(r[4:len(r)-len(r.Props())-2]) + string(bytes.TrimSuffix(r.Props(), []byte{2}))
}

// From the half messages that live brokers have stored come, byte for byte, the
// records that those brokers made of them: committed messages, op records, copies
// that were asked about, half messages that were put aside. But for the user's flag
// of copies, as docs/COMPAT.md says.
func TestGoldenRecords(t *testing.T) {
	for _, name := range []string{"4.9.7-clean", "4.9.7-kill", "4.5.2-clean"} {
		t.Run(name, func(t *testing.T) {
			log := goldenLog(t, name)
			seen := map[string]int{}
			byKey := map[string][]message.Record{} // half messages by unique key, in order
			offsets := []int64{}
			for at := range log {
				offsets = append(offsets, at)
			}
			slices.Sort(offsets)
			halves := map[int64]bool{}
			for _, at := range offsets {
				want := log[at]
				key := prop(want, message.PropUniqKey)
				switch topic := string(want.Topic()); {
				case topic == "GoldTx" && want.SysFlag()&message.TxMask == message.Commit:
					m, err := committed(log[want.Prepared()])
					if err != nil {
						t.Fatal(err)
					}
					if got := placed(t, m, want); !bytes.Equal(got, want) {
						t.Errorf("committed\n%q, the original's is\n%q", got, want)
					}
					seen["committed"]++
				case topic == message.TopicOpHalf:
					var half int64
					if !ended(want, func(n int64) { half = n }) || !halves[half] {
						t.Errorf("the op record %q ends %d", want, half)
					}
					got := placed(t, op(half), want)
					if text(got) != text(want) {
						t.Errorf("op record\n%q, the original's is\n%q", got, want)
					}
					seen["op"]++
				case topic == message.TopicHalf:
					halves[want.QueueOffset()] = true
					before := byKey[key]
					byKey[key] = append(before, want)
					if len(before) == 0 {
						checkHalf(t, want, name == "4.5.2-clean")
						seen["half"]++
						continue
					}
					m := asked(before[len(before)-1])
					m.Flag = 0
					if got := placed(t, m, want); text(got) != text(want) {
						t.Errorf("asked about\n%q, the original's is\n%q", got, want)
					}
					seen["copy"]++
				case topic == message.TopicCheckMax:
					if got := placed(t, putAside(byKey[key][len(byKey[key])-1]), want); !bytes.Equal(got, want) {
						t.Errorf("put aside\n%q, the original's is\n%q", got, want)
					}
					seen["aside"]++
				}
			}
			t.Log(seen)
			for _, kind := range []string{"committed", "op", "half", "copy", "aside"} {
				if seen[kind] < 2 {
					t.Errorf("%d records: %s", seen[kind], kind)
				}
			}
		})
	}
}

// checkHalf stamps what must have been sent, and compares. 4.9 takes WAIT out first
// and puts it back, old does not.
func checkHalf(t *testing.T, want message.Record, old bool) {
	t.Helper()
	m, err := bound(want)
	if err != nil {
		t.Fatal(err)
	}
	var sent []byte
	message.EachProp(want.Props(), func(name, value []byte) bool {
		if n := string(name); n != message.PropRealTopic && n != message.PropRealQueue && (old || n != message.PropWait) {
			sent = message.AppendProp(sent, n, string(value))
		}
		return true
	})
	m.Props, m.SysFlag = sent, m.SysFlag|message.Prepared
	var p message.PropSet
	p.Parse(sent)
	if wait := prop(want, message.PropWait); !old {
		p.Set(message.PropWait, []byte(wait))
	}
	if _, err := Stamp(&m, &p, nil); err != nil {
		t.Fatal(err)
	}
	if got := placed(t, m, want); text(got) != text(want) {
		t.Errorf("half message\n%q, the original's is\n%q", got, want)
	}
}

func prop(r message.Record, name string) string {
	v, _ := message.Prop(r.Props(), name)
	return string(v)
}

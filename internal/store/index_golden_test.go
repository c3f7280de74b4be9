package store

import (
	"bytes"
	"path"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"gomq/internal/message"
	"gomq/internal/store/simdisk"
)

func hashesOf(r message.Record) []int32 {
	if r.SysFlag()&message.TxMask == message.Rollback {
		return nil
	}
	return appendKeyHashes(nil, message.HashCode([]byte(string(r.Topic())+"#")), r.Props())
}

func TestIndexWritesTheBytesOfTheOriginal(t *testing.T) {
	for _, version := range []string{"4.9.7-clean", "4.5.2-clean"} {
		t.Run(version, func(t *testing.T) {
			golden := loadGolden(t, version)
			names := dirFiles(golden, "/store/index")
			d := simdisk.New()
			var made int
			now := func() time.Time {
				name := path.Base(names[made])
				made++
				at, err := time.ParseInLocation("20060102150405.000", name[:14]+"."+name[14:], time.Local)
				if err != nil {
					t.Fatal(err)
				}
				return at
			}
			x, err := openIndex(d, "/store/index", 100, 400, now, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range goldenRecords(t, golden) {
				if err := x.put(r.Offset(), r.StoreTime(), hashesOf(r)); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := x.flush(true); err != nil {
				t.Fatal(err)
			}
			if got := dirFiles(d, "/store/index"); !slices.Equal(got, names) {
				t.Fatalf("files %v, the original has %v", got, names)
			}
			for _, name := range names {
				got, want := d.ReadFile(name), golden.ReadFile(name)
				if version == "4.5.2-clean" {
					copy(got[32:36], want[32:36]) // counts every entry as a used slot
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s differs from byte %d on", name, firstDifference(got, want))
				}
			}
		})
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestIndexReadsTheOriginals(t *testing.T) {
	for _, version := range []string{"4.9.7-clean", "4.5.2-clean"} {
		t.Run(version, func(t *testing.T) {
			d := loadGolden(t, version)
			rs := goldenRecords(t, d)
			byOffset := map[int64]message.Record{}
			for _, r := range rs {
				byOffset[r.Offset()] = r
			}
			// The configured shape is another one: that of the files wins.
			x := openTestIndex(t, d, 77, 5000)
			if x.want != (indexShape{100, 400}) {
				t.Fatalf("shape %+v", x.want)
			}
			if end := x.end(); end != rs[len(rs)-1].Offset() {
				t.Errorf("end %d, the last record lies at %d", end, rs[len(rs)-1].Offset())
			}
			for _, q := range loadQueries(t, version).ByKey {
				hash := keyHash(message.HashCode([]byte(q.Topic+"#")), []byte(q.Key))
				got, err := x.find(hash, 0, 1<<62, 1000, nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range q.PhysicalOffsets {
					if !slices.Contains(got, want) {
						t.Errorf("%s#%s: %v lacks %d", q.Topic, q.Key, got, want)
					}
				}
				for _, at := range got {
					if r := byOffset[at]; r == nil || !slices.Contains(hashesOf(r), hash) {
						t.Errorf("%s#%s: the record at %d has no such key", q.Topic, q.Key, at)
					}
				}
			}
			// What is put again changes nothing; what follows is added.
			before := d.ReadFile(x.newest().path)
			for _, r := range rs[len(rs)-20:] {
				if err := x.put(r.Offset(), r.StoreTime(), hashesOf(r)); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(d.ReadFile(x.newest().path), before) {
				t.Error("putting the last records again changed the file")
			}
			if err := x.put(x.end()+500, 1<<41, []int32{12345}); err != nil {
				t.Fatal(err)
			}
			if got, err := x.find(12345, 0, 1<<62, 10, nil); err != nil || len(got) != 1 {
				t.Errorf("the new key: %v, %v", got, err)
			}
		})
	}
}

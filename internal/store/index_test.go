package store

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"gomq/internal/chance"
	"gomq/internal/store/segment"
	"gomq/internal/store/simdisk"
)

func openTestIndex(t testing.TB, fs segment.FS, slots, entries int) *index {
	t.Helper()
	x, err := openIndex(fs, "/store/index", slots, entries, time.Now, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// keyed is a record as the index sees it.
type keyed struct {
	offset, time int64
	hashes       []int32
}

// randomKeyed makes records with few different hashes; some have none.
func randomKeyed(r *rand.Rand, n int) []keyed {
	out := make([]keyed, n)
	at, ms := int64(r.IntN(3))*100, int64(1_700_000_000_000)
	for i := range out {
		out[i] = keyed{offset: at, time: ms}
		for range r.IntN(4) {
			out[i].hashes = append(out[i].hashes, int32(r.IntN(60))*7919)
		}
		at += 100 + int64(r.IntN(400))
		ms += int64(r.IntN(3000))
	}
	return out
}

// findAll is what find must answer, newest first, without regard to time.
func findAll(records []keyed, hash int32) (offsets []int64) {
	for _, r := range slices.Backward(records) {
		for range slices.Collect(each(r.hashes, hash)) {
			offsets = append(offsets, r.offset)
		}
	}
	return offsets
}

func each(hashes []int32, hash int32) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i, h := range hashes {
			if h == hash && !yield(i) {
				return
			}
		}
	}
}

func checkIndex(t *testing.T, x *index, records []keyed) {
	t.Helper()
	for i := range int32(60) {
		got, err := x.find(i*7919, 0, 1<<62, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := findAll(records, i*7919); !slices.Equal(got, want) {
			t.Fatalf("hash %d: found %v, put %v", i*7919, got, want)
		}
	}
}

func putAll(t *testing.T, x *index, records []keyed) {
	t.Helper()
	for _, r := range records {
		if err := x.put(r.offset, r.time, r.hashes); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIndexFindsByTimeAndCount(t *testing.T) {
	x := openTestIndex(t, simdisk.New(), 8, 10)
	var records []keyed
	for i := range int64(40) { // one record a second, several files
		records = append(records, keyed{1000 + i*100, 1_700_000_000_000 + i*1000, []int32{5, int32(i) + 100}})
	}
	putAll(t, x, records)
	at := func(i int64) int64 { return 1_700_000_000_000 + i*1000 }
	for _, c := range []struct {
		begin, end int64
		limit      int
		from, n    int64 // newest record found, how many
	}{
		{at(0), at(39), 100, 39, 40},
		{at(0), at(39), 3, 39, 3},
		{at(10), at(12), 100, 12, 3},
		{at(35), at(99), 100, 39, 5},
		{at(40), at(99), 100, 0, 0},
		{0, at(0) - 1, 100, 0, 0},
	} {
		got, err := x.find(5, c.begin, c.end, c.limit, nil)
		if err != nil {
			t.Fatal(err)
		}
		var want []int64
		for i := range c.n {
			want = append(want, 1000+(c.from-i)*100)
		}
		// The first entry of a file has a time of its own: the original's quirk.
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %v, want %v", c, got, want)
		}
	}
	if ms, off := x.last(); ms != at(39) || off != 1000+39*100 {
		t.Errorf("last: %d, %d", ms, off)
	}
}

func TestIndexAfterCleanAndUncleanStops(t *testing.T) {
	for seed := range chance.Seeds(t, 0, 50) {
		r := rand.New(rand.NewPCG(seed, 1))
		all := randomKeyed(r, 300)
		slots, entries := 1+r.IntN(40), 5+r.IntN(150)

		// What the files would be without any stop.
		plain := simdisk.New()
		ref := openTestIndex(t, plain, slots, entries)
		putAll(t, ref, all)

		d := simdisk.New()
		durable, put := int64(0), 0
		for put < len(all) {
			x := openTestIndex(t, d, slots, entries)
			logEnd := int64(1 << 40)
			switch {
			case put == 0:
			case durable < 0: // a clean stop
				x.known(all[put-1].offset + 1)
			default:
				if err := x.trim(durable); err != nil {
					t.Fatal(err)
				}
				if r.IntN(3) == 0 { // the log has lost something, too
					put -= r.IntN(min(put, 30))
					logEnd = all[put].offset
				}
			}
			if err := x.truncate(logEnd); err != nil {
				t.Fatal(err)
			}
			if put > 0 && x.end() > max(all[put-1].offset+1, logEnd%(1<<40)) {
				t.Fatalf("seed %d: end %d, the last record is at %d", seed, x.end(), all[put-1].offset)
			}
			durable = 0
			again := slices.IndexFunc(all, func(k keyed) bool { return k.offset >= x.end() })
			if again < 0 {
				again = put
			}
			putAll(t, x, all[again:put])
			if r.IntN(4) == 0 {
				checkIndex(t, x, all[:put])
			}
			for range r.IntN(120) {
				if put == len(all) {
					break
				}
				putAll(t, x, all[put:put+1])
				put++
				if r.IntN(20) == 0 {
					var err error
					if durable, _, err = x.flush(false); err != nil {
						t.Fatal(err)
					}
				}
			}
			if r.IntN(3) == 0 || put == len(all) {
				if _, safe, err := x.flush(true); err != nil || len(x.files) > 0 && safe != x.newest().h.endTime {
					t.Fatal(safe, err)
				}
				if err := x.close(); err != nil {
					t.Fatal(err)
				}
				durable = -1
			}
			d.PowerOff()
			d = d.Crash(r.Uint64(), r.Float64())
		}
		x := openTestIndex(t, d, slots, entries)
		checkIndex(t, x, all)
		if bad := d.Holes(); len(bad) > 0 {
			t.Fatalf("seed %d: mapped writes without blocks: %v", seed, bad)
		}
		sameIndexFiles(t, seed, d, plain)
	}
}

// sameIndexFiles compares all files but for their names.
func sameIndexFiles(t *testing.T, seed uint64, a, b *simdisk.Sim) {
	t.Helper()
	as, bs := dirFiles(a, "/store/index"), dirFiles(b, "/store/index")
	if len(as) != len(bs) {
		t.Fatalf("seed %d: %d files, %d without a stop", seed, len(as), len(bs))
	}
	for i := range as {
		if x, y := a.ReadFile(as[i]), b.ReadFile(bs[i]); !bytes.Equal(x, y) {
			t.Fatalf("seed %d: file %d differs at byte %d from the one without a stop", seed, i, firstDifference(x, y))
		}
	}
}

// Readers run beside the writer, the flusher and the deletion; the race detector
// watches, and every record found must have the hash.
func TestIndexReadersBesideTheWriter(t *testing.T) {
	x := openTestIndex(t, simdisk.New(), 50, 200)
	records := randomKeyed(rand.New(rand.NewPCG(4, 1)), 3000)
	byOffset := map[int64][]int32{}
	for _, r := range records {
		byOffset[r.offset] = r.hashes
	}
	turn := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 9))
			for range turn {
				hash := int32(r.IntN(60)) * 7919
				got, err := x.find(hash, 0, 1<<62, 50, nil)
				if err != nil {
					t.Error(err)
					return
				}
				for _, at := range got {
					if !slices.Contains(byOffset[at], hash) {
						t.Errorf("the record at %d has no key of hash %d", at, hash)
					}
				}
			}
		})
	}
	for i, r := range records {
		if err := x.put(r.offset, r.time, r.hashes); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			turn <- struct{}{}
		}
		if i%100 == 0 {
			if _, _, err := x.flush(false); err != nil {
				t.Fatal(err)
			}
		}
		if i%500 == 499 {
			if err := x.dropBelow(records[i-400].offset); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(turn)
	wg.Wait()
}

func TestIndexPutAllocatesNothing(t *testing.T) {
	x := openTestIndex(t, simdisk.New(), 1000, 1_000_000)
	at, hashes := int64(0), []int32{1, 2}
	n := testing.AllocsPerRun(1000, func() {
		at += 100
		hashes[0], hashes[1] = int32(at), int32(at*7)
		if err := x.put(at, 1_700_000_000_000+at, hashes); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a put", n)
	}
}

func BenchmarkIndexPut(b *testing.B) {
	dir := b.TempDir()
	x, err := openIndex(segment.Disk{}, dir, defaultHashSlots, defaultIndexEntries, time.Now, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	hashes := make([]int32, 128)
	at := int64(0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i += 2 {
		if i %= len(hashes); i == 0 {
			for j := range hashes {
				hashes[j] = r.Int32()
			}
			x.warm(hashes)
		}
		at += 1200
		if err := x.put(at, 1_700_000_000_000+at, hashes[i:i+2]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2, "ns/key")
	if err := x.close(); err != nil {
		b.Fatal(err)
	}
}

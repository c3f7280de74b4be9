package store

import (
	"errors"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"gomq/internal/store/simdisk"
)

func TestIndexTrimsByTimeAsTheOriginal(t *testing.T) {
	d := simdisk.New()
	x := openTestIndex(t, d, 10, 20)
	var records []keyed
	for i := range int64(50) {
		records = append(records, keyed{i * 100, 1_700_000_000_000 + i*1000, []int32{int32(i)}})
	}
	putAll(t, x, records)
	_, safe, err := x.flush(false)
	if err != nil || safe != records[37].time { // two full files of 19
		t.Fatal(safe, err)
	}
	x = openTestIndex(t, d.Restart(), 10, 20)
	if err := x.trimTime(safe); err != nil {
		t.Fatal(err)
	}
	if len(x.files) != 2 || x.end() != records[37].offset {
		t.Errorf("%d files, end %d", len(x.files), x.end())
	}
}

func TestIndexGoesOnWhenThereIsSpaceAgain(t *testing.T) {
	d := simdisk.New()
	d.SetCapacity(1 << 40)
	x := openTestIndex(t, d, 10, 30)
	records := randomKeyed(rand.New(rand.NewPCG(1, 1)), 200)
	failed := 0
	for i, r := range records {
		if i%7 == 0 {
			d.Inject(simdisk.Fault{Op: []simdisk.Op{simdisk.OpAllocate, simdisk.OpCreate}[i%2], Err: syscall.ENOSPC})
		}
		for {
			err := x.put(r.offset, r.time, r.hashes)
			if err == nil {
				break
			}
			if failed++; !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			if x.end() > r.offset {
				t.Fatal("the record that failed counts as put")
			}
		}
	}
	if failed < 10 {
		t.Errorf("only %d puts failed", failed)
	}
	checkIndex(t, x, records)
}

func TestIndexDeletesWhatIsNoIndexFile(t *testing.T) {
	d := simdisk.New()
	x := openTestIndex(t, d, 10, 20)
	var records []keyed
	for i := range int64(50) {
		records = append(records, keyed{i * 100, 1_700_000_000_000 + i*1000, []int32{int32(i), 1000}})
	}
	putAll(t, x, records)
	if _, _, err := x.flush(true); err != nil {
		t.Fatal(err)
	}
	names := dirFiles(d, "/store/index")
	spoil := map[string]func(d *simdisk.Sim, name string){
		"short":    func(d *simdisk.Sim, name string) { d.WriteFile(name, make([]byte, 37), time.Now()) },
		"empty":    func(d *simdisk.Sim, name string) { d.WriteFile(name, nil, time.Now()) },
		"odd size": func(d *simdisk.Sim, name string) { d.WriteFile(name, make([]byte, 4321), time.Now()) },
		"zeros":    func(d *simdisk.Sim, name string) { d.Edit(name, func(b []byte) { clear(b) }) },
		"count":    func(d *simdisk.Sim, name string) { d.Edit(name, func(b []byte) { b[36] = 1 }) },
	}
	for what, fn := range spoil {
		for i := 1; i < len(names); i++ {
			c := d.Restart()
			fn(c, names[i])
			c.WriteFile("/store/index/notes.txt", []byte("not ours"), time.Now())
			x := openTestIndex(t, c, 10, 20)
			if err := x.bury(true); err != nil {
				t.Fatal(err)
			}
			if len(x.files) != i && what != "zeros" || len(x.files) > i+1 {
				t.Errorf("%s: file %d of %d: %d were kept", what, i, len(names), len(x.files))
			}
			for _, r := range records {
				if r.offset >= x.end() {
					putAll(t, x, []keyed{r})
				}
			}
			got, err := x.find(1000, 0, 1<<62, 1000, nil)
			if err != nil || len(got) != len(records) {
				t.Errorf("%s: file %d: %d of %d records found after rebuilding (%v)", what, i, len(got), len(records), err)
			}
			if c.ReadFile("/store/index/notes.txt") == nil {
				t.Error("a file that is not ours was deleted")
			}
			d = d.Restart()
		}
	}
}

func TestIndexFollowsTheLogsMinimum(t *testing.T) {
	d := simdisk.New()
	x := openTestIndex(t, d, 10, 20)
	records := randomKeyed(rand.New(rand.NewPCG(3, 1)), 300)
	putAll(t, x, records)
	if _, _, err := x.flush(false); err != nil {
		t.Fatal(err)
	}
	n := len(x.files)
	if err := x.dropBelow(records[150].offset); err != nil {
		t.Fatal(err)
	}
	if len(x.files) >= n || x.files[0].h.endOffset < records[150].offset {
		t.Errorf("%d of %d files left, the first ends at %d", len(x.files), n, x.files[0].h.endOffset)
	}
	for i := range int32(60) {
		got, err := x.find(i*7919, 0, 1<<62, 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range findAll(records[150:], i*7919) {
			if !slices.Contains(got, want) {
				t.Fatalf("%d is gone", want)
			}
		}
	}
	if err := x.dropBelow(1 << 60); err != nil || len(x.files) != 1 || len(dirFiles(d, "/store/index")) != 1 {
		t.Errorf("%v, %d files left", err, len(x.files))
	}
}

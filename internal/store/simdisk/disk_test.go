package simdisk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"

	"gomq/internal/store/segment"
)

var _ segment.FS = (*Sim)(nil)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// file makes a file of some pages, durable with its name.
func file(t *testing.T, s *Sim, name string, pages int) segment.Handle {
	t.Helper()
	must(t, s.MkdirAll("/d"))
	h, err := s.OpenFile(name, os.O_RDWR|os.O_CREATE)
	must(t, err)
	must(t, h.Allocate(0, int64(pages)*pageSize))
	must(t, h.Sync())
	must(t, s.SyncDir("/d"))
	must(t, s.SyncDir("/"))
	return h
}

func TestOnlySyncedBytesSurvive(t *testing.T) {
	s := New()
	h := file(t, s, "/d/f", 4)
	m, err := h.Map(4*pageSize, true)
	must(t, err)
	m.Bytes()[0] = 1
	m.Bytes()[pageSize] = 2
	must(t, m.Sync(0, 1))
	_, err = h.WriteAt([]byte{3}, 2*pageSize)
	must(t, err)
	if m.Bytes()[2*pageSize] != 3 {
		t.Error("a mapping does not show what was written to the file")
	}
	for _, c := range []struct {
		survival float64
		want     [3]byte
	}{{0, [3]byte{1, 0, 0}}, {1, [3]byte{1, 2, 3}}} {
		s.PowerOff()
		b := s.Crash(1, c.survival).ReadFile("/d/f")
		// With survival 1 a torn page may still miss its first sector.
		for i, want := range c.want {
			if got := b[i*pageSize]; got != want && (c.survival == 0 || i == 0 || got != 0) {
				t.Errorf("survival %v: page %d starts with %d, want %d", c.survival, i, got, want)
			}
		}
	}
	if _, err := h.WriteAt([]byte{4}, 0); !errors.Is(err, ErrOff) {
		t.Errorf("a write without power: %v", err)
	}
}

func TestPagesAreTornBySectors(t *testing.T) {
	s := New()
	h := file(t, s, "/d/f", 64)
	_, err := h.WriteAt(bytes.Repeat([]byte{7}, 64*pageSize), 0)
	must(t, err)
	s.PowerOff()
	b := s.Crash(5, 0.5).ReadFile("/d/f")
	var whole, none, torn int
	for at := 0; at < len(b); at += pageSize {
		var sectors int
		for i := at; i < at+pageSize; i += sectorSize {
			switch {
			case bytes.Equal(b[i:i+sectorSize], bytes.Repeat([]byte{7}, sectorSize)):
				sectors++
			case !bytes.Equal(b[i:i+sectorSize], make([]byte, sectorSize)):
				t.Fatalf("the sector at %d is mixed", i)
			}
		}
		switch sectors {
		case 0:
			none++
		case 8:
			whole++
		default:
			torn++
		}
	}
	if whole == 0 || none == 0 || torn == 0 {
		t.Errorf("of 64 pages %d survived, %d did not, %d are torn", whole, none, torn)
	}
	if again := s.Crash(5, 0.5).ReadFile("/d/f"); !bytes.Equal(again, b) {
		t.Error("the same seed gave another disk")
	}
	if other := s.Crash(6, 0.5).ReadFile("/d/f"); bytes.Equal(other, b) {
		t.Error("another seed gave the same disk")
	}
}

func TestNamesNeedSyncDir(t *testing.T) {
	s := New()
	file(t, s, "/d/kept", 1)
	file(t, s, "/d/removed", 1)
	file(t, s, "/d/a", 1)
	must(t, s.Remove("/d/removed"))
	must(t, s.Rename("/d/a", "/d/b"))
	h, err := s.OpenFile("/d/new", os.O_RDWR|os.O_CREATE|os.O_EXCL)
	must(t, err)
	must(t, h.Sync())
	if got := s.Restart().Files(); !slices.Equal(got, []string{"/d/b", "/d/kept", "/d/new"}) {
		t.Errorf("the next process sees %v", got)
	}
	if got := s.Crash(1, 0).Files(); !slices.Equal(got, []string{"/d/a", "/d/kept", "/d/removed"}) {
		t.Errorf("after the cut: %v", got)
	}
	seen := map[string]bool{}
	for seed := range uint64(64) {
		c := s.Crash(seed, 0.5).Files()
		seen[fmt.Sprint(c)] = true
		if slices.Contains(c, "/d/a") == slices.Contains(c, "/d/b") {
			t.Fatalf("the rename is half done: %v", c)
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d outcomes of three changes, want 8", len(seen))
	}
}

func TestSyncDirTakesTheNamesHistoryAlong(t *testing.T) {
	s := New()
	file(t, s, "/d/x", 1)
	must(t, s.MkdirAll("/e"))
	must(t, s.SyncDir("/"))
	for i := range 3 {
		h, err := s.OpenFile("/e/t", os.O_RDWR|os.O_CREATE)
		must(t, err)
		_, err = h.WriteAt([]byte{byte(i)}, 0)
		must(t, err)
		must(t, h.Sync())
		must(t, s.Rename("/e/t", "/d/x"))
	}
	must(t, s.SyncDir("/e"))
	c := s.Crash(1, 0)
	if b := c.ReadFile("/d/x"); len(b) != 1 || b[0] != 2 {
		t.Errorf("/d/x holds %v", b)
	}
	if c.ReadFile("/e/t") != nil {
		t.Error("the renamed file is in both places")
	}
}

func TestRestartKeepsWhatIsNotDurableInDanger(t *testing.T) {
	s := New()
	h := file(t, s, "/d/f", 1)
	_, err := h.WriteAt([]byte("kept"), 0)
	must(t, err)
	must(t, s.MkdirAll("/late"))
	s = s.Restart()
	if got := string(s.ReadFile("/d/f")[:4]); got != "kept" {
		t.Errorf("after the restart: %q", got)
	}
	if _, err := s.Stat("/late"); err != nil {
		t.Error(err)
	}
	s = s.Crash(1, 0)
	if got := s.ReadFile("/d/f")[0]; got != 0 {
		t.Error("bytes that were never synced survived the power cut")
	}
	if _, err := s.Stat("/late"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory that was never synced: %v", err)
	}
}

func TestAFailedSyncLosesThePage(t *testing.T) {
	s := New()
	h := file(t, s, "/d/f", 2)
	_, err := h.WriteAt([]byte{1}, 0)
	must(t, err)
	fired := s.Inject(Fault{Op: OpSync, Path: "/d/f", K: 1})
	if err := h.Sync(); !errors.Is(err, syscall.EIO) || fired() != 1 {
		t.Fatalf("the armed sync: %v, fired %d", err, fired())
	}
	must(t, h.Sync()) // the trap: it says that all is well
	if b := s.ReadFile("/d/f"); b[0] != 1 {
		t.Error("the page cache forgot the page")
	}
	if b := s.Restart().Crash(1, 1).ReadFile("/d/f"); b[0] != 0 {
		t.Error("the page that the kernel took for clean is on the disk")
	}

	s = s.Restart()
	h, err = s.OpenFile("/d/f", os.O_RDWR)
	must(t, err)
	_, err = h.WriteAt([]byte{2}, pageSize) // dirty, and nothing has failed: stays
	must(t, err)
	must(t, h.DropCache(0, 2*pageSize))
	if b := s.ReadFile("/d/f"); b[0] != 0 || b[pageSize] != 2 {
		t.Errorf("after DropCache: %d and %d", b[0], b[pageSize])
	}
	_, err = h.WriteAt([]byte{1}, 0) // the same byte once more makes it dirty again
	must(t, err)
	must(t, h.Sync())
	if b := s.Crash(1, 0).ReadFile("/d/f"); b[0] != 1 {
		t.Error("the page that was written again and synced is not on the disk")
	}
}

func TestFaults(t *testing.T) {
	s := New()
	h := file(t, s, "/d/f", 1)
	fired := s.Inject(Fault{Op: OpWrite, Path: "f", K: 2, Err: syscall.ENOSPC, Short: 3})
	_, err := h.WriteAt([]byte("aaaaa"), 0)
	must(t, err)
	n, err := h.WriteAt([]byte("bbbbb"), 0)
	if n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the short write: %d, %v", n, err)
	}
	if got := string(s.ReadFile("/d/f")[:5]); got != "bbbaa" {
		t.Errorf("after the short write: %q", got)
	}
	_, err = h.WriteAt([]byte("ccccc"), 0)
	must(t, err)
	if fired() != 1 {
		t.Errorf("fired %d times", fired())
	}
	sticky := s.Inject(Fault{Path: "/d", K: 2, Sticky: true})
	must(t, h.Sync())
	for range 3 {
		if err := s.SyncDir("/d"); !errors.Is(err, syscall.EIO) {
			t.Error("a sticky fault healed: ", err)
		}
	}
	if sticky() != 3 {
		t.Errorf("the sticky fault fired %d times", sticky())
	}
	s.Heal()
	must(t, s.SyncDir("/d"))
	before := s.Ops()
	s.PowerOffAt(2)
	must(t, h.Sync())
	if err := h.Sync(); !errors.Is(err, ErrOff) || s.Ops() != before+2 {
		t.Errorf("operation %d of %d: %v", s.Ops(), before+2, err)
	}
}

func TestCapacity(t *testing.T) {
	s := New()
	s.SetCapacity(4 * pageSize)
	h := file(t, s, "/d/f", 2)
	must(t, h.Truncate(64*pageSize))
	if err := h.Allocate(0, 5*pageSize); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("5 pages of 4: %v", err)
	}
	must(t, h.Allocate(0, 4*pageSize))
	if used, free, _ := s.Usage("/d"); used != 4*pageSize || free != 0 {
		t.Errorf("used %d, free %d", used, free)
	}
	if _, err := h.WriteAt([]byte{1}, 5*pageSize); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write beyond: %v", err)
	}
	m, err := h.Map(64*pageSize, true)
	must(t, err)
	m.Bytes()[3*pageSize] = 1
	if got := s.Holes(); len(got) != 0 {
		t.Errorf("holes: %v", got)
	}
	m.Bytes()[10*pageSize+5] = 1
	if got := s.Holes(); !slices.Equal(got, []string{"/d/f:40960"}) {
		t.Errorf("holes: %v", got)
	}
	must(t, m.Unmap())
	must(t, h.Zero(3*pageSize, 10))
	if s.ReadFile("/d/f")[3*pageSize] != 0 || s.Used() != 4*pageSize {
		t.Error("Zero left the byte, or took blocks")
	}
	must(t, s.Remove("/d/f"))
	if s.Used() != 0 {
		t.Errorf("an empty disk has %d bytes in use", s.Used())
	}
}

// touch reads a byte as the store's guarded function does.
func touch(b []byte, write bool) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("fault: %v", v)
		}
	}()
	if write {
		b[0]++
	} else if b[0] == 0xff {
		return errors.New("unexpected")
	}
	return nil
}

func TestBadPagesAndUseAfterUnmapFault(t *testing.T) {
	s := Faulty()
	h := file(t, s, "/d/f", 3)
	m, err := h.Map(3*pageSize, true)
	must(t, err)
	s.BadPage("/d/f", pageSize+7, false)
	s.BadPage("/d/f", 2*pageSize, true)
	if err := touch(m.Bytes(), true); err != nil {
		t.Error(err)
	}
	if touch(m.Bytes()[pageSize:], false) == nil || touch(m.Bytes()[2*pageSize:], true) == nil {
		t.Error("a bad page did not fault")
	}
	if err := touch(m.Bytes()[2*pageSize:], false); err != nil {
		t.Error(err)
	}
	if _, err := h.ReadAt(make([]byte, 10), pageSize); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading the bad page from the file: %v", err)
	}
	if err := m.Sync(0, 3*pageSize); !errors.Is(err, syscall.EIO) {
		t.Errorf("syncing it: %v", err)
	}
	s.Heal()
	if err := touch(m.Bytes()[pageSize:], true); err != nil {
		t.Error(err)
	}
	b := m.Bytes()
	must(t, m.Unmap())
	if touch(b, false) == nil {
		t.Error("a page can be read after Unmap")
	}
	if s.ReadFile("/d/f")[pageSize] != 1 {
		t.Error("Unmap lost what was written")
	}
	s.BadPage("/d/f", 0, false)
	if s.Crash(1, 1).ReadFile("/d/f") == nil {
		t.Error("the file is gone")
	}
}

func TestLocksErrorsAndTimes(t *testing.T) {
	s := New()
	now := time.Unix(1000, 0)
	s.SetNow(func() time.Time { return now })
	l, err := s.Lock("/lock")
	must(t, err)
	if _, err := s.Lock("/lock"); !errors.Is(err, segment.ErrLocked) {
		t.Errorf("the second lock: %v", err)
	}
	must(t, l.Close())
	l, err = s.Lock("/lock")
	must(t, err)
	defer l.Close()
	if _, err := s.OpenFile("/none/f", os.O_RDWR); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if got, err := s.ReadDir("/none"); err != nil || len(got) != 0 {
		t.Errorf("ReadDir of nothing: %v, %v", got, err)
	}
	must(t, s.Remove("/none"))
	h := file(t, s, "/d/f", 1)
	m, err := h.Map(pageSize, true)
	must(t, err)
	now = time.Unix(2000, 0)
	m.Bytes()[0] = 1
	must(t, m.Sync(0, 1))
	now = time.Unix(3000, 0)
	must(t, m.Sync(0, 1)) // nothing to write
	e, err := s.Stat("/d/f")
	if err != nil || !e.ModTime.Equal(time.Unix(2000, 0)) || e.Size != pageSize {
		t.Errorf("%+v, %v", e, err)
	}
	must(t, s.RemoveAll("/d"))
	if got := s.Files(); !slices.Equal(got, []string{"/lock"}) {
		t.Errorf("files: %v", got)
	}
}

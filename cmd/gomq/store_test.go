package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gomq/internal/message"
	"gomq/internal/store"
)

// TestStoreVerify: a good store verifies with status 0, one with a changed byte
// does not and names the place.
func TestStoreVerify(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Root: dir, CommitLogFileSize: 1 << 20, MaxHashSlots: 100, MaxIndexEntries: 400, IndexEnabled: true}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := store.NewBatch()
	host := netip.MustParseAddrPort("127.0.0.1:1")
	q := s.Queue([]byte("T"), 0)
	for range 3 {
		if _, err := b.Add(q, &message.Message{Topic: []byte("T"), Body: []byte("some body"), BornHost: host, StoreHost: host, Props: []byte("KEYS\x01k")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Append(b, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "broker.properties")
	if err := os.WriteFile(conf, []byte("storePathRootDir="+dir+"\nmaxHashSlotNum=100\nmaxIndexNum=400\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		c := storeCommand()
		var out strings.Builder
		c.SetOut(&out)
		c.SetErr(&out)
		c.SilenceUsage = true
		c.SetArgs(args)
		err := c.ExecuteContext(t.Context())
		return out.String(), err
	}
	if out, err := run("verify", "-c", conf); err != nil || !strings.Contains(out, "3 records") || !strings.Contains(out, "3 entries") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run("verify", "-o", "json", "-c", conf); err != nil || !strings.Contains(out, `"Records": 3`) {
		t.Errorf("%v\n%s", err, out)
	}
	empty := t.TempDir()
	if out, err := run("verify", empty); err == nil || !strings.Contains(err.Error(), "there is no store in "+empty) {
		t.Errorf("of nothing: %v\n%s", err, out)
	}
	if entries, err := os.ReadDir(empty); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
	log := filepath.Join(dir, "commitlog", strings.Repeat("0", 20))
	bytes, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	bytes[90] ^= 1
	if err := os.WriteFile(log, bytes, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := run("verify", "-c", conf); err == nil || !strings.Contains(out, "log "+log+" at 0") {
		t.Errorf("a changed body: %v\n%s", err, out)
	}
	if _, err := run("verify"); err == nil {
		t.Error("verify of nothing is fine")
	}
}

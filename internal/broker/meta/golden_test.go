package meta

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The files of Java brokers load, and what is in them is what their sessions did.
// Written by us and read again nothing has changed.
func TestFilesOfTheOriginals(t *testing.T) {
	for _, version := range []string{"4.5.2", "4.9.7", "5.3.3"} {
		t.Run(version, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"topics.json", "subscriptionGroup.json", "consumerOffset.json"} {
				data, err := os.ReadFile(filepath.Join("../../protocol/testdata/config", version+"-clean", name))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				topics := topics(t, filepath.Join(dir, "topics.json"))
				for name, queues := range map[string]int32{"GoldPlain": 4, "GoldTx": 2, "%RETRY%GoldRetryGroup": 1} {
					if c := topics.Get([]byte(name)); c == nil || c.WriteQueueNums != queues || c.Perm != PermRead|PermWrite {
						t.Errorf("%s is %+v", name, c)
					}
				}
				if topics.Version().Counter == 0 || topics.Version().Timestamp < 1_700_000_000_000 {
					t.Errorf("version %+v", topics.Version())
				}
				groups, err := LoadGroups(filepath.Join(dir, "subscriptionGroup.json"), func() int { return 100 }, clock())
				if err != nil {
					t.Fatal(err)
				}
				if g := groups.Get([]byte("GoldRetryGroup")); g == nil || g.RetryMaxTimes != 1 || !g.ConsumeEnable {
					t.Errorf("GoldRetryGroup is %+v", g)
				}
				offsets, err := LoadOffsets(filepath.Join(dir, "consumerOffset.json"), time.Now)
				if err != nil {
					t.Fatal(err)
				}
				for queue := range int32(4) {
					if at, ok := offsets.Query([]byte("GoldPlain"), []byte("GoldAllGroup"), queue); at != 75 || !ok {
						t.Errorf("GoldAllGroup in queue %d: %d %v", queue, at, ok)
					}
				}
				if err := topics.Put(*topics.Get([]byte("GoldPlain"))); err != nil {
					t.Fatal(err)
				}
				if err := groups.Put(*groups.Get([]byte("GoldRetryGroup"))); err != nil {
					t.Fatal(err)
				}
				if err := offsets.Commit([]byte("More"), []byte("G"), 0, 1); err != nil {
					t.Fatal(err)
				}
				if err := offsets.Save(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

package meta

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The progress of a Java broker loads, is written in its form, and what was not
// settled is not written.
func TestDelays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "delayOffset.json")
	if err := os.WriteFile(path, []byte("{\n\t\"offsetTable\":{1:14,2:2,17:0,-1:5,3:-7\n\t}\n}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := LoadDelays(path)
	if err != nil {
		t.Fatal(err)
	}
	if d.Get(1) != 14 || d.Get(2) != 2 || d.Get(3) != 0 || d.Get(18) != 0 || len(d.Saved()) != 3 {
		t.Errorf("loaded %v", d.Saved())
	}
	if err := d.Save(func() error { t.Error("there is nothing to save"); return nil }); err != nil {
		t.Error(err)
	}
	d.Set(1, 20)
	d.Set(5, 0)
	no := errors.New("not on the disk")
	if err := d.Save(func() error { return no }); !errors.Is(err, no) || d.Saved()[1] != 14 {
		t.Errorf("saved what is not settled: %v %v", err, d.Saved())
	}
	// What changes while it waits belongs to the next time.
	if err := d.Save(func() error { d.Set(1, 30); return nil }); err != nil || d.Saved()[1] != 20 || d.Get(1) != 30 {
		t.Errorf("saved %v, %v", d.Saved(), err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "{\n\t\"offsetTable\":{1:20,2:2,17:0\n\t}\n}" {
		t.Errorf("the file is %q %v", text, err)
	}
	if err := d.Save(func() error { return nil }); err != nil {
		t.Error(err)
	}
	if d, err = LoadDelays(path); err != nil || d.Get(1) != 30 {
		t.Errorf("loaded again: %d %v", d.Get(1), err)
	}
	for _, name := range []string{path, path + ".bak"} {
		if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := LoadDelays(path); err == nil {
		t.Error("a damaged file loads")
	}
}

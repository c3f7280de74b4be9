package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// live makes a running configuration from a file with the text; empty: no file.
func live(t *testing.T, text string) (*Live[options], string) {
	t.Helper()
	var o options
	file := ""
	if text != "" {
		file = filepath.Join(t.TempDir(), "f.properties")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	src, problems, err := Load(table(&o), file, nil, nil)
	if err := errors.Join(err, Refusal(problems)); err != nil {
		t.Fatal(err)
	}
	check := func(o *options) error {
		if o.Low > o.High {
			return errors.New("low is above high")
		}
		return nil
	}
	return NewLive(o, src, table, check), file
}

func content(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A hot key counts at once, a restart key at the next start; both are in the
// file, whose comments and order stay.
func TestUpdate(t *testing.T) {
	l, file := live(t, "# who\nname=n\n# wait\nwait=100\nsizeInTens=3\nunknown=kept\n")
	var told []*options
	l.OnUpdate(func(o *options) { told = append(told, o) })
	before := l.Load()
	done, err := l.Update([]byte("wait=200\nqueues=8\nsize=50\naddrs=h\\:1;i:2\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Applied{{"wait", "100", "200", Hot}, {"queues", "4", "8", Restart}, {"size", "30", "50", Hot}, {"addrs", "", "h:1;i:2", Hot}}
	if !slices.Equal(done, want) {
		t.Errorf("applied %+v, want %+v", done, want)
	}
	o := l.Load()
	if o.Wait != 200*time.Millisecond || o.Queues != 4 || o.Size != 50 || len(o.Addrs) != 2 {
		t.Errorf("in effect: %+v", o)
	}
	if before.Wait != 100*time.Millisecond || before.Size != 30 {
		t.Errorf("options that were handed out have changed: %+v", before)
	}
	if len(told) != 1 || told[0] != o {
		t.Errorf("told %d times", len(told))
	}
	text := "# who\nname=n\n# wait\nwait=200\nsize=50\nunknown=kept\nqueues=8\naddrs=h:1;i:2\n"
	if got := content(t, file); got != text {
		t.Errorf("file\n%s\nwant\n%s", got, text)
	}
	if _, n := l.Version(); n != 1 {
		t.Errorf("version %d", n)
	}
	var next options
	if _, problems, err := Load(table(&next), file, nil, nil); err != nil || Refusal(problems) != nil || next.Queues != 8 {
		t.Errorf("the next start: %+v %v %v", next, problems, err)
	}
}

// What is wrong with any line refuses the whole update: nothing in effect,
// nothing in the file, nobody told.
func TestUpdateRefused(t *testing.T) {
	l, file := live(t, "name=n\nwait=100\n")
	l.Forbid(func(*options) []string { return []string{"age"} })
	l.OnUpdate(func(*options) { t.Error("told of a refused update") })
	before, text := l.Load(), content(t, file)
	for update, want := range map[string]struct {
		key, text string
		forbidden bool
	}{
		"size=1\nname=other":         {"name", "may not be set over the network", true},
		"size=1\nport=11":            {"port", "may not be set", true},
		"size=1\nage=1":              {"age", "may not be set", true},
		"size=1\nmissing=true":       {"missing", "may not be set", true},
		"size=1\nwiat=5":             {"wiat", "the nearest one is wait", false},
		"size=1\nwait=soon":          {"wait", "soon is not a whole number", false},
		"size=1\nwait=0":             {"wait", "0 is outside", false},
		"size=1\nlong=true ":         {"long", "ends with a blank", false},
		"size=1\nqueues=x":           {"queues", "x is not a whole number", false},
		"size=1\nsizeInTens=x":       {"sizeInTens", "x is no count of tens", false},
		"high=0":                     {"update", "low is above high", false},
		"low=10":                     {"update", "low is above high", false},
		"rocketmqHome=/tmp;rm -rf /": {"rocketmqHome", "is not a key", false},
	} {
		_, err := l.Update([]byte(update))
		var r *Refused
		if !errors.As(err, &r) || r.Key != want.key || r.Forbidden != want.forbidden || !strings.Contains(r.Error(), want.text) {
			t.Errorf("%q: error %v, want %+v", update, err, want)
		}
	}
	for _, update := range []string{"=x", "a=\\u1", strings.Repeat("size=1\n", maxUpdate/7+1)} {
		if _, err := l.Update([]byte(update)); err == nil {
			t.Errorf("%.20q was accepted", update)
		}
	}
	if l.Load() != before || content(t, file) != text {
		t.Error("a refused update changed something")
	}
	if _, n := l.Version(); n != 0 {
		t.Errorf("version %d", n)
	}
}

// A restart key that was accepted earlier is looked at together with the next
// update: the file must always start.
func TestUpdateWithPending(t *testing.T) {
	l, file := live(t, "high=9\n")
	if _, err := l.Update([]byte("low=8")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Update([]byte("high=5")); err == nil {
		t.Fatal("high=5 was accepted, although low=8 counts at the next start")
	}
	if done, err := l.Update([]byte("low=8")); err != nil || len(done) != 0 {
		t.Errorf("the same again: %v %v", done, err)
	}
	if done, err := l.Update([]byte("low=2\nhigh=5")); err != nil || len(done) != 2 || done[0].Old != "8" {
		t.Errorf("both together: %+v %v", done, err)
	}
	if o := l.Load(); o.Low != 1 || o.High != 5 {
		t.Errorf("in effect %+v", o)
	}
	if got := content(t, file); got != "high=5\nlow=2\n" {
		t.Errorf("file %q", got)
	}
}

// Tools read the whole table and send it back with one value changed; the keys
// that may not be set are then in it with the value they have.
func TestUpdateWithWholeTable(t *testing.T) {
	l, file := live(t, "name=n\npassword=hush\nuseless=7\nmy.secret=x\n")
	text := string(l.Text())
	if strings.Contains(text, "hush") || strings.Contains(text, "my.secret=x") || !strings.Contains(text, "useless=7\n") {
		t.Errorf("text\n%s", text)
	}
	text = strings.Replace(text, "wait=500", "wait=250", 1)
	text = strings.Replace(text, "my.secret=******\n", "", 1)
	done, err := l.Update([]byte(text))
	if err != nil || !slices.Equal(done, []Applied{{"wait", "500", "250", Hot}}) {
		t.Fatalf("%+v %v", done, err)
	}
	if o := l.Load(); o.Password != "hush" {
		t.Errorf("the password became %q", o.Password)
	}
	if got := content(t, file); got != "name=n\npassword=hush\nuseless=7\nmy.secret=x\nwait=250\n" {
		t.Errorf("file %q", got)
	}
	done, err = l.Update([]byte("password=new\n"))
	if err != nil || len(done) != 1 || done[0].Old != "******" || done[0].New != "******" {
		t.Errorf("a secret in the report: %+v %v", done, err)
	}
}

func TestUpdateWithoutFile(t *testing.T) {
	l, _ := live(t, "")
	if _, err := l.Update([]byte("queues=8")); err == nil || !strings.Contains(err.Error(), "no -c file") {
		t.Errorf("a restart key without a file: %v", err)
	}
	if _, err := l.Update([]byte("wait=7")); err != nil {
		t.Error(err)
	}
	if o := l.Load(); o.Wait != 7*time.Millisecond {
		t.Errorf("in effect %+v", o)
	}
	if !strings.Contains(string(l.Text()), "wait=7\n") {
		t.Error("the dump does not show the update")
	}
}

// When the file cannot be written the update is not in effect either.
func TestUpdateNotWritten(t *testing.T) {
	l, file := live(t, "wait=100\n")
	if err := os.Mkdir(file+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	before := l.Load()
	if _, err := l.Update([]byte("wait=200")); err == nil || !strings.Contains(err.Error(), "could not be written") {
		t.Errorf("error %v", err)
	}
	if l.Load() != before || content(t, file) != "wait=100\n" {
		t.Error("something changed")
	}
}

func TestLiveConcurrent(t *testing.T) {
	l, _ := live(t, "")
	if _, err := l.Update([]byte("high=9\nsize=9")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(2)
		go func() {
			defer wg.Done()
			for range 50 {
				if o := l.Load(); int64(o.High) != o.Size {
					t.Errorf("half an update was seen: %+v", o)
				}
				_ = l.Text()
			}
		}()
		go func() {
			defer wg.Done()
			for range 25 {
				_, _ = l.Update([]byte("high=100\nsize=100"))
				_, _ = l.Update([]byte("high=9\nsize=9"))
			}
		}()
	}
	wg.Wait()
}

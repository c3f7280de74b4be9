package config

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Live holds the options that are in effect and swaps them whole when an update
// is accepted. Load is wait free; a room takes the pointer for one piece of work
// and keeps no value of it across a blocking call. Safe for concurrent use.
type Live[T any] struct {
	keys  func(*T) *Table
	check func(*T) error
	now   func() time.Time

	cur atomic.Pointer[T]

	mu      sync.Mutex // one update at a time; guards the rest
	src     *Source
	pending map[string]string // keys that were written to the file for the next start
	stamp   time.Time
	counter int64
	updated []func(*T)
}

// NewLive takes options that were loaded from src (nil: nothing to write an
// update to). keys makes the table for a value of T; check may be nil and is
// asked whether the fields of a changed value fit together.
func NewLive[T any](o T, src *Source, keys func(*T) *Table, check func(*T) error) *Live[T] {
	l := &Live[T]{keys: keys, check: check, now: time.Now, src: src, pending: map[string]string{}}
	l.stamp = l.now()
	l.cur.Store(&o)
	return l
}

// Load returns the options in effect. They are never written to.
func (l *Live[T]) Load() *T { return l.cur.Load() }

// OnUpdate adds a function that is told of every accepted change, before the
// update is answered; it must not block and not call Update.
func (l *Live[T]) OnUpdate(fn func(*T)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.updated = append(l.updated, fn)
}

// Version tells when the options last changed and how often: the data version
// that GET_BROKER_CONFIG reports (requests.md, code 26).
func (l *Live[T]) Version() (stamp time.Time, counter int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stamp, l.counter
}

// Text is the body of GET_BROKER_CONFIG and GET_NAMESRV_CONFIG: key=value lines
// of all keys, then of the lines of the file that are no keys. Values of keys
// that look like secrets are hidden.
func (l *Live[T]) Text() []byte {
	l.mu.Lock()
	src := l.src
	l.mu.Unlock()
	o := *l.cur.Load()
	t := l.keys(&o)
	var b bytes.Buffer
	for _, name := range t.Names() {
		value := t.Value(name)
		if k := t.Key(name); k.Field == nil {
			if v, ok := src.get(name); ok {
				value = v
			}
		}
		fmt.Fprintf(&b, "%s=%s\n", name, Redact(name, value))
	}
	src.Each(func(key, value string, _ int) {
		if t.Key(key) == nil {
			fmt.Fprintf(&b, "%s=%s\n", key, Redact(key, value))
		}
	})
	return b.Bytes()
}

func (s *Source) get(key string) (string, bool) {
	if s == nil {
		return "", false
	}
	return s.Get(key)
}

// Applied is one key of an accepted update.
type Applied struct {
	Key, Old, New string // secrets are hidden
	Change        Change // Hot: in effect now; Restart: in the file, in effect at the next start
}

// Refused is the error of an update that was not allowed; nothing of it was
// applied. Its text names the key.
type Refused struct {
	Key       string
	Text      string
	Forbidden bool // the key exists and may not be set over the network (NO_PERMISSION)
}

// Error implements error.
func (r *Refused) Error() string { return fmt.Sprintf("%s: %s; nothing was changed", r.Key, r.Text) }

// Update applies the body of UPDATE_BROKER_CONFIG or UPDATE_NAMESRV_CONFIG: Java
// properties text. All of it is checked first, then written to the file, then
// put into effect; when anything is wrong nothing changes. Only keys that the
// table marks Hot or Restart may be set (an allow-list), a Restart key only
// where there is a file to keep it. A value that is in effect already is fine
// for every key and changes nothing: tools send back whole tables.
func (l *Live[T]) Update(text []byte) ([]Applied, error) {
	in, err := Parse("update", text)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := *l.cur.Load()
	after := before
	was, will := l.keys(&before), l.keys(&after)
	if err := allowed(in, will, l.src != nil && l.src.File != ""); err != nil {
		return nil, err
	}
	var done []Applied
	out := l.src
	pending := map[string]string{}
	var bad error
	in.Each(func(key, value string, _ int) {
		if bad != nil {
			return
		}
		k := will.Key(key)
		old := was.Value(key)
		if p, ok := l.pending[k.Name]; ok {
			old = p
		} else if v, ok := l.src.get(k.Name); ok && k.Field == nil {
			old = v
		}
		if value == old {
			return
		}
		if bad = refusal(key, will, value); bad != nil {
			return
		}
		if k.Change == Restart {
			pending[k.Name] = value
			keepField(k, was.Value(key))
		}
		if out != nil {
			out = out.With(k.Name, value)
		}
		done = append(done, Applied{Key: k.Name, Old: Redact(k.Name, old), New: Redact(k.Name, value), Change: k.Change})
	})
	if bad != nil || len(done) == 0 {
		return nil, bad
	}
	return done, l.commit(&after, out, pending)
}

// commit writes the file and swaps the options.
func (l *Live[T]) commit(after *T, out *Source, pending map[string]string) error {
	if l.check != nil {
		if err := l.check(after); err != nil {
			return &Refused{Key: "update", Text: err.Error()}
		}
	}
	if out != nil && out.File != "" {
		if err := out.Save(); err != nil {
			return fmt.Errorf("the update was not applied, because %s could not be written: %w", out.File, err)
		}
	}
	l.src = out
	for k, v := range pending {
		l.pending[k] = v
	}
	l.stamp = l.now()
	l.counter++
	l.cur.Store(after)
	for _, fn := range l.updated {
		fn(after)
	}
	return nil
}

// allowed checks the whole list of keys before any value is looked at: one that
// is forbidden refuses the request, as the black list of 4.9.8 does.
func allowed(in *Source, t *Table, hasFile bool) error {
	var err error
	in.Each(func(key, value string, _ int) {
		if err != nil {
			return
		}
		k := t.Key(key)
		switch {
		case k == nil:
			r := &Refused{Key: key, Text: "is not a key of " + t.Role}
			if near := nearest(key, t.Names()); near != "" {
				r.Text += "; the nearest one is " + near
			}
			err = r
		case t.Value(key) == value:
		case k.Change == Fixed:
			err = &Refused{Key: key, Forbidden: true, Text: "may not be set over the network; change it in the file and restart"}
		case k.Change == Restart && !hasFile:
			err = &Refused{Key: key, Text: "takes effect at a start only, and there is no -c file to keep it in"}
		}
	})
	return err
}

func refusal(key string, t *Table, value string) error {
	for _, p := range t.Set("update", key, value) {
		if p.Level == Fatal {
			return &Refused{Key: key, Text: Redact(key, value) + " " + p.Text}
		}
	}
	return nil
}

// keepField puts the value in effect back after the new one was checked.
func keepField(k *Key, value string) { _ = k.store(value) }

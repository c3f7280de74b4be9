package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
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
	forbid  func(*T) []string
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

// Forbid sets a function that names keys which may not be set over the network
// although the table allows it (configBlackList). It is called before the first
// Update.
func (l *Live[T]) Forbid(keys func(*T) []string) { l.forbid = keys }

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

// maxUpdate bounds the text of one update in bytes; all keys of a table with
// their values are a tenth of it.
const maxUpdate = 256 << 10

// Update applies the body of UPDATE_BROKER_CONFIG or UPDATE_NAMESRV_CONFIG: Java
// properties text. All of it is checked first, then written to the file, then
// put into effect; when anything is wrong nothing changes. Only keys that the
// table marks Hot or Restart may be set (an allow-list), a Restart key only
// where there is a file to keep it. A value that is in effect already is fine
// for every key and changes nothing: tools send back whole tables.
func (l *Live[T]) Update(text []byte) ([]Applied, error) {
	if len(text) > maxUpdate {
		return nil, fmt.Errorf("an update of %d bytes; the limit is %d", len(text), maxUpdate)
	}
	in, err := Parse("update", text)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := &update[T]{l: l, out: l.src, pending: map[string]string{}}
	before := *l.cur.Load()
	u.after, u.next = before, before
	u.was, u.will, u.start = l.keys(&before), l.keys(&u.after), l.keys(&u.next)
	changes, err := l.changes(in, u.was, &before)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		if err := u.set(c); err != nil {
			return nil, err
		}
	}
	if len(u.done) == 0 {
		return nil, nil
	}
	return u.done, l.commit(u)
}

// update is one update while it is being checked.
type update[T any] struct {
	l                *Live[T]
	after            T // in effect when the update is accepted
	next             T // in effect at the next start
	was, will, start *Table
	out              *Source
	pending          map[string]string
	done             []Applied
}

// change is one key of an update under its real name.
type change struct {
	key   *Key
	as    string // as it was spelt
	value string
	old   string
}

// set checks the value of one change and puts it where it belongs.
func (u *update[T]) set(c change) error {
	for _, t := range []*Table{u.will, u.start} {
		for _, p := range t.Set("update", c.key.Name, c.value) {
			if p.Level == Fatal {
				return &Refused{Key: c.as, Text: Redact(c.as, c.value) + " " + p.Text}
			}
		}
	}
	k := u.will.Key(c.key.Name)
	if k.Change == Restart {
		u.pending[k.Name] = c.value
		if err := k.store(u.was.Value(k.Name)); err != nil {
			return &Refused{Key: c.as, Text: err.Error()}
		}
	}
	if u.out != nil {
		var older []string
		for _, a := range k.Aliases {
			older = append(older, a.Name)
		}
		u.out = u.out.With(k.Name, c.value, older...)
	}
	u.done = append(u.done, Applied{Key: k.Name, Old: Redact(k.Name, c.old), New: Redact(k.Name, c.value), Change: k.Change})
	return nil
}

// commit writes the file and swaps the options.
func (l *Live[T]) commit(u *update[T]) error {
	if l.check != nil {
		for name, value := range l.pending {
			if _, again := u.pending[name]; !again {
				_ = u.start.Key(name).store(value) // was checked when it was set
			}
		}
		if err := errors.Join(l.check(&u.after), l.check(&u.next)); err != nil {
			return &Refused{Key: "update", Text: err.Error()}
		}
	}
	if u.out != nil && u.out.File != "" {
		if err := u.out.Save(); err != nil {
			return fmt.Errorf("the update was not applied, because %s could not be written: %w", u.out.File, err)
		}
	}
	l.src = u.out
	for k, v := range u.pending {
		l.pending[k] = v
	}
	l.stamp = l.now()
	l.counter++
	l.cur.Store(&u.after)
	for _, fn := range l.updated {
		fn(&u.after)
	}
	return nil
}

// changes returns what the update would change, the last line of each key. All
// keys are looked at before any value: one that is forbidden refuses the whole
// request, as the black list of 4.9.8 does.
func (l *Live[T]) changes(in *Source, t *Table, o *T) ([]change, error) {
	var forbidden []string
	if l.forbid != nil {
		forbidden = l.forbid(o)
	}
	var order []change
	at := map[string]int{}
	var err error
	in.Each(func(key, value string, _ int) {
		if err != nil {
			return
		}
		k := t.Key(key)
		if k == nil {
			r := &Refused{Key: key, Text: "is not a key of " + t.Role}
			if near := nearest(key, t.Names()); near != "" {
				r.Text += "; the nearest one is " + near
			}
			err = r
			return
		}
		c := change{key: k, as: key, value: value, old: l.valueOf(t, k)}
		if a := t.rows[key].alias(key); a != nil && a.Convert != nil {
			if c.value, err = a.Convert(value); err != nil {
				err = &Refused{Key: key, Text: Redact(key, value) + " " + err.Error()}
				return
			}
		}
		err = l.mayChange(c, slices.Contains(forbidden, key) || slices.Contains(forbidden, k.Name))
		if i, ok := at[k.Name]; ok {
			order[i] = c
			return
		}
		at[k.Name] = len(order)
		order = append(order, c)
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(order, func(c change) bool { return c.same() }), nil
}

// same reports whether the key has the value already; a hidden secret that comes
// back from a dump counts as the secret.
func (c change) same() bool { return c.value == c.old || c.value == Redact(c.key.Name, c.old) }

func (l *Live[T]) mayChange(c change, forbidden bool) error {
	switch {
	case c.same():
		return nil
	case c.key.Change == Fixed, forbidden:
		return &Refused{Key: c.as, Forbidden: true, Text: "may not be set over the network; change it in the file and restart"}
	case c.key.Change == Restart && (l.src == nil || l.src.File == ""):
		return &Refused{Key: c.as, Text: "takes effect at a start only, and there is no -c file to keep it in"}
	}
	return nil
}

// valueOf is what was last set for the key: in effect, or kept for the next
// start.
func (l *Live[T]) valueOf(t *Table, k *Key) string {
	if v, ok := l.pending[k.Name]; ok {
		return v
	}
	if v, ok := l.src.get(k.Name); ok && k.Field == nil {
		return v
	}
	return t.Value(k.Name)
}

package segment

import (
	"sync"
	"time"
)

// retryAfter is how long a failure to create the next file stands before it is
// tried again: on a full disk every attempt costs.
const retryAfter = time.Second

// Ahead keeps the next file of a list ready: whole, synced and named, so that the
// writer changes files without waiting for the disk.
type Ahead struct {
	l    *List
	want chan struct{} // has a token when Make should run

	mu     sync.Mutex // held while a file is made: who comes then waits for it
	next   *File
	failed error
	at     time.Time // of the failure
	closed bool
}

// NewAhead prepares files for l. Somebody must call Make whenever Want delivers.
func NewAhead(l *List) *Ahead { return &Ahead{l: l, want: make(chan struct{}, 1)} }

// Want delivers when a file should be made.
func (a *Ahead) Want() <-chan struct{} { return a.want }

// Wish asks for a file; it does not wait.
func (a *Ahead) Wish() {
	select {
	case a.want <- struct{}{}:
	default:
	}
}

// Make creates the next file if it is not there.
func (a *Ahead) Make() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next != nil || a.closed {
		return nil
	}
	return a.make()
}

// make creates the next file. Held: mu.
func (a *Ahead) make() error {
	if a.failed != nil && time.Since(a.at) < retryAfter {
		return a.failed
	}
	f, err := a.l.Create(a.l.End(), true, 0)
	if err != nil {
		a.failed, a.at = err, time.Now()
		return err
	}
	a.next, a.failed = f, nil
	return nil
}

// Failed is why the next file could not be made, nil if there is no trouble.
func (a *Ahead) Failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

// Take adds the next file to the list and returns it; it makes it if it is not
// ready, and waits if it is just being made. On an error nothing has changed.
func (a *Ahead) Take() (*File, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil {
		if err := a.make(); err != nil {
			return nil, err
		}
	}
	f := a.next
	a.next = nil
	a.l.Add(f)
	a.Wish()
	return f, nil
}

// Restart removes all files of the list and makes the first one anew, which
// begins at base. Nobody may use the files. After an error the list may be empty.
func (a *Ahead) Restart(base int64) (*File, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.next; f != nil {
		a.next = nil
		if err := a.l.Discard(f); err != nil {
			return nil, err
		}
	}
	if err := a.l.Truncate(0); err != nil {
		return nil, err
	}
	f, err := a.l.Create(base, true, 0)
	if err != nil {
		return nil, err
	}
	a.l.Add(f)
	a.Wish()
	return f, nil
}

// Close removes a file that was made and not taken.
func (a *Ahead) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.next == nil {
		return nil
	}
	f := a.next
	a.next = nil
	return a.l.Discard(f)
}

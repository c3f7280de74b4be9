package meta

import (
	"maps"
	"sync"

	"gomq/internal/protocol"
)

// Delays is how far the messages of each delay level have been delivered, kept in
// delayOffset.json (store.md section 12). It has one mutex.
type Delays struct {
	file file

	mu       sync.Mutex
	table    protocol.DelayTable // level (from 1) -> the next offset in its queue
	gen      uint64              // rises with every change
	saved    protocol.DelayTable // as on the disk
	savedGen uint64
}

// LoadDelays reads the table from path, or starts an empty one. Levels below 1 and
// offsets below 0 are left out.
func LoadDelays(path string) (*Delays, error) {
	d := &Delays{file: file{path: path}, table: protocol.DelayTable{}}
	_, err := d.file.load(func(data []byte) error {
		t, err := protocol.ParseDelayTable(data)
		if err != nil {
			return err
		}
		maps.DeleteFunc(t, func(level int32, offset int64) bool { return level < 1 || offset < 0 })
		d.table = t
		return nil
	})
	d.saved = maps.Clone(d.table)
	return d, err
}

// Get is the offset of a level, 0 when there is none.
func (d *Delays) Get(level int) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table[int32(level)]
}

// Set changes the offset of a level. A level that is at 0 is not listed, as in 4.9.
func (d *Delays) Set(level int, next int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.table[int32(level)] != next {
		d.table[int32(level)] = next
		d.gen++
	}
}

// Saved is a copy of the table as it is on the disk.
func (d *Delays) Saved() protocol.DelayTable {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.saved)
}

// Save writes the table when it has changed since the last time. What it writes is
// the table as it was before settle is called, which may wait until everything
// that the table calls delivered is on the disk; its error is returned and nothing
// is written.
func (d *Delays) Save(settle func() error) error {
	d.mu.Lock()
	t, gen := maps.Clone(d.table), d.gen
	done := maps.Equal(t, d.saved)
	d.mu.Unlock()
	if done {
		return nil
	}
	if err := settle(); err != nil {
		return err
	}
	if err := d.file.save(gen, func() ([]byte, uint64) { return t.Pretty(), gen }); err != nil {
		return err
	}
	d.mu.Lock()
	if gen >= d.savedGen {
		d.saved, d.savedGen = t, gen
	}
	d.mu.Unlock()
	return nil
}

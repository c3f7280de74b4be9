package segment

import "sync"

// Maps bounds how many files are mapped at a time (vm.max_map_count, page
// tables). A file that nobody uses and that was not used since the hand passed it
// last is unmapped when a newcomer needs the place; one in use never is, so the
// bound can be exceeded by the number of files in use.
type Maps struct {
	max int

	mu   sync.Mutex // guards the rest, and place in every file of ring
	ring []*File
	hand int
}

// NewMaps bounds the mapped files to n, at least 1.
func NewMaps(n int) *Maps { return &Maps{max: max(n, 1)} }

// Len is how many files are mapped.
func (p *Maps) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ring)
}

// add takes in a file that has just been mapped. Held: f.mu.
func (p *Maps) add(f *File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := 2 * len(p.ring); len(p.ring) >= p.max && n > 0; n-- {
		p.hand %= len(p.ring)
		old := p.ring[p.hand]
		if old.used.Swap(false) || !old.evict() {
			p.hand++
			continue
		}
		p.take(old)
	}
	f.place = len(p.ring)
	p.ring = append(p.ring, f)
}

// remove takes out a file that is being unmapped for good. Held: f.mu.
func (p *Maps) remove(f *File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take(f)
}

// take removes f from the ring. Held: mu.
func (p *Maps) take(f *File) {
	if f.place < 0 {
		return
	}
	last := len(p.ring) - 1
	p.ring[f.place] = p.ring[last]
	p.ring[f.place].place = f.place
	p.ring[last] = nil
	p.ring = p.ring[:last]
	f.place = -1
}

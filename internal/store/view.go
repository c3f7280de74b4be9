package store

import (
	"fmt"
	"slices"

	"gomq/internal/store/segment"
)

// keepCold is what a view keeps of its buffer for bytes read from the disk.
const keepCold = 1 << 20

// span is some bytes of a log file, or of the view's buffer.
type span struct {
	f  *segment.File // nil: in the buffer
	at int64         // in the file or in the buffer
	n  int64
}

// View holds the records that Get found: their places in the mapped log, which
// stays mapped until Release, or their bytes if they came from the disk. It
// belongs to one goroutine.
type View struct {
	spans []span
	files []*segment.File // acquired
	buf   []byte
}

// file acquires the log file f, once.
func (v *View) file(f *segment.File) error {
	if n := len(v.files); n > 0 && v.files[n-1] == f {
		return nil
	}
	if err := f.Acquire(); err != nil {
		return err
	}
	v.files = append(v.files, f)
	return nil
}

// add appends bytes of a file that has been acquired.
func (v *View) add(f *segment.File, at, n int64) {
	if k := len(v.spans) - 1; k >= 0 && v.spans[k].f == f && v.spans[k].at+v.spans[k].n == at {
		v.spans[k].n += n
		return
	}
	v.spans = append(v.spans, span{f: f, at: at, n: n})
}

// read appends n bytes of f at off of the log by reading them from the disk, and
// returns them.
func (v *View) read(f *segment.File, off, n int64) ([]byte, error) {
	at := len(v.buf)
	v.buf = slices.Grow(v.buf, int(n))[:at+int(n)]
	b := v.buf[at:]
	if err := f.Pread(b, off); err != nil {
		v.buf = v.buf[:at]
		return nil, err
	}
	v.add(nil, int64(at), n)
	return b, nil
}

// unread takes back the last n bytes that read appended.
func (v *View) unread(n int64) {
	v.buf = v.buf[:len(v.buf)-int(n)]
	k := len(v.spans) - 1
	if v.spans[k].n -= n; v.spans[k].n == 0 {
		v.spans = v.spans[:k]
	}
}

// AppendTo appends the records to dst, back to back. An error, with dst
// unchanged, means that the disk could not give a mapped page.
func (v *View) AppendTo(dst []byte) ([]byte, error) {
	var n int64
	for i := range v.spans {
		n += v.spans[i].n
	}
	out := slices.Grow(dst, int(n))
	at := len(out)
	out = out[:at+int(n)]
	var in *segment.File
	err := segment.Guard(func() error {
		for i := range v.spans {
			sp := &v.spans[i]
			from := v.buf
			if in = sp.f; in != nil {
				from = in.Bytes()
			}
			at += copy(out[at:], from[sp.at:sp.at+sp.n])
		}
		return nil
	})
	if err != nil {
		return dst, fmt.Errorf("%s: %w", in.Path(), err)
	}
	return out, nil
}

// Release lets the files go and empties the view. It may be called more than
// once.
func (v *View) Release() {
	for i, f := range v.files {
		f.Release()
		v.files[i] = nil
	}
	v.files, v.spans, v.buf = v.files[:0], v.spans[:0], v.buf[:0]
	if cap(v.buf) > keepCold {
		v.buf = nil
	}
}

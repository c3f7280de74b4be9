package meta

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"gomq/internal/config"
)

// file is one JSON file of the config directory. It is replaced whole and
// durably (config.Replace), with the generation before kept as NAME.bak.
type file struct {
	path string

	mu    sync.Mutex // held while writing; one writer at a time
	saved uint64     // the newest generation on disk
}

// load hands the file's bytes to parse. A file that is missing, empty or does
// not parse gives way to its .bak; both missing is a fresh start (found false).
// When one of them is there and neither parses, load refuses rather than start
// with nothing: the error names both.
func (f *file) load(parse func([]byte) error) (found bool, err error) {
	var problems []error
	for _, name := range []string{f.path, f.path + ".bak"} {
		data, err := os.ReadFile(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			problems = append(problems, err)
			continue
		case len(data) == 0:
			if name == f.path {
				problems = append(problems, fmt.Errorf("%s is empty", name))
			}
			continue
		}
		if err = parse(data); err == nil {
			return true, nil
		}
		problems = append(problems, fmt.Errorf("%s: %w", name, err))
	}
	if len(problems) == 0 {
		return false, nil
	}
	return false, fmt.Errorf("%w; repair it from a copy, or remove it and its .bak to start without what it held", errors.Join(problems...))
}

// save writes generation gen unless that or a newer one is on disk already.
// Callers that come while another writes wait, and mostly find theirs done.
func (f *file) save(gen uint64, encode func() (data []byte, gen uint64)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if gen <= f.saved {
		return nil
	}
	data, gen := encode()
	if err := config.Replace(f.path, data); err != nil {
		return fmt.Errorf("saving %s: %w", f.path, err)
	}
	f.saved = gen
	return nil
}

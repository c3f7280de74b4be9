// Package golden reads the archives of what the originals have written: stores and
// recorded sessions. They lie in the testdata of the room that they are about; tests
// of several rooms read them.
package golden

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"time"
)

// File is a file or a directory of an archive.
type File struct {
	Name string // with slashes; a directory's ends with one
	Dir  bool
	Data []byte
	Time time.Time // of its last change
}

// Read returns what is in a .tar.gz, in its order.
func Read(archive string) (files []File, err error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", archive, err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", archive, h.Name, err)
		}
		files = append(files, File{Name: h.Name, Dir: h.Typeflag == tar.TypeDir, Data: b, Time: h.ModTime})
	}
}

package segment

import (
	"errors"
	"io"
)

// ErrLocked is returned by Lock when somebody else holds the lock.
var ErrLocked = errors.New("locked by another process")

// Disk is the real file system.
type Disk struct{}

func (Disk) OpenFile(path string, flag int) (Handle, error)   { panic("not yet") }
func (Disk) ReadDir(dir string) ([]Entry, error)              { panic("not yet") }
func (Disk) Stat(path string) (Entry, error)                  { panic("not yet") }
func (Disk) MkdirAll(dir string) error                        { panic("not yet") }
func (Disk) Rename(from, to string) error                     { panic("not yet") }
func (Disk) Remove(path string) error                         { panic("not yet") }
func (Disk) RemoveAll(dir string) error                       { panic("not yet") }
func (Disk) SyncDir(dir string) error                         { panic("not yet") }
func (Disk) Usage(path string) (used, free uint64, err error) { panic("not yet") }
func (Disk) Lock(path string) (io.Closer, error)              { panic("not yet") }

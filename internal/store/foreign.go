package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// foreignDirs are directories of stores that this is not.
var foreignDirs = map[string]string{
	"consumequeue_ext":     "a consume queue extension",
	"batchconsumequeue":    "batch consume queues",
	"consumequeue_rocksdb": "RocksDB queues",
	"consumequeue_r":       "RocksDB queues",
	"rocksdbstore":         "RocksDB queues",
}

// refuseForeign refuses stores of kinds that this is not, before anything is
// touched.
func (s *Store) refuseForeign() error {
	if strings.Contains(s.o.CommitLogDir, ",") {
		if _, err := s.fs.Stat(s.o.CommitLogDir); err != nil {
			return fmt.Errorf("storePathCommitLog=%s names several directories: multi-path logs are not supported", s.o.CommitLogDir)
		}
	}
	entries, err := s.fs.ReadDir(s.o.Root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		why := foreignDirs[e.Name]
		if strings.HasPrefix(e.Name, "dledger-") {
			why = "a DLedger log"
		}
		if !e.Dir || why == "" {
			continue
		}
		inside, err := s.fs.ReadDir(s.path(e.Name))
		if err != nil {
			return err
		}
		if len(inside) > 0 {
			return fmt.Errorf("%s holds %s, which is not supported; nothing was changed", s.path(e.Name), why)
		}
	}
	topics, err := s.fs.ReadDir(s.o.ConsumeQueueDir)
	if err != nil {
		return err
	}
	for _, e := range topics {
		if e.Dir && strings.HasPrefix(e.Name, "%LMQ%") {
			return fmt.Errorf("%s holds light queues (LMQ), which are not supported; nothing was changed", filepath.Join(s.o.ConsumeQueueDir, e.Name))
		}
	}
	return s.refuseTimers()
}

const (
	// wheelSlot is the length of a slot of RocketMQ 5's timer wheel: time i64,
	// first and last place in the timer log i64, number i32, magic i32 (seen in a
	// store of 5.3.3; the time counts in units of the wheel's precision, 1 s).
	wheelSlot = 32
	// wheelMillis is from where on a slot's time is taken for ms.
	wheelMillis = 100_000_000_000
)

// refuseTimers refuses a store of RocketMQ 5 whose timer wheel holds messages that
// are not due yet: nobody would deliver them. Up to when the wheel has been read
// says the first i64, ms, of config/timercheck. A wheel without such messages is
// left alone.
func (s *Store) refuseTimers() error {
	wheel, err := s.fs.OpenFile(s.path("timerwheel"), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer wheel.Close()
	size, err := wheel.Size()
	if err != nil {
		return err
	}
	read, err := s.timersRead()
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for off := int64(0); off+wheelSlot <= size; off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), (size-off)/wheelSlot*wheelSlot)]
		if n, err := wheel.ReadAt(b, off); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
			return err
		}
		for ; len(b) > 0; b = b[wheelSlot:] {
			due, number := int64(binary.BigEndian.Uint64(b)), int32(binary.BigEndian.Uint32(b[24:]))
			if due < wheelMillis {
				due *= 1000
			}
			if number > 0 && due > read {
				return fmt.Errorf("%s has messages of RocketMQ 5's timers that are not due yet, which are not supported: let a 5.x broker deliver or recall them; nothing was changed", s.path("timerwheel"))
			}
		}
	}
	return nil
}

// timersRead is up to when the timer wheel has been read, ms; 0 if that is not
// known.
func (s *Store) timersRead() (int64, error) {
	h, err := s.fs.OpenFile(s.path("config/timercheck"), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer h.Close()
	var b [8]byte
	if err := readFull(h, b[:], 0); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil
}

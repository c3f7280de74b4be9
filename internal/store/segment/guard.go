package segment

import (
	"fmt"
	"runtime/debug"
)

// FaultError is what touching a mapped byte gives that the disk cannot give or
// take: a bad block, a file cut short behind our back, no space under it.
type FaultError struct{ Addr uintptr }

func (e *FaultError) Error() string {
	return fmt.Sprintf("the system could not provide the mapped page at %#x (bad block, or the file was cut short)", e.Addr)
}

// Guard runs fn, and it alone makes it safe to touch mapped bytes: a fault on the
// way becomes a *FaultError, and what fn would have done after it does not
// happen. Any other panic passes. It costs a few nanoseconds and allocates
// nothing unless fn does, so take it once for a Turn or a read, not for a byte.
func Guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if v := recover(); v != nil {
			f, ok := v.(interface{ Addr() uintptr })
			if !ok {
				panic(v)
			}
			err = &FaultError{Addr: f.Addr()}
		}
	}()
	return fn()
}

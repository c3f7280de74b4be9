package message

import (
	"encoding/binary"
	"fmt"
)

// EachBatch walks the body of a SEND_BATCH: per message, big endian, size i32
// (of the whole entry), magic i32, crc i32 (both unused), flag i32, body length
// i32, body, properties length i16, properties (wire.md section 19). The slices
// are borrowed. It ends with fn's error, or with what is wrong with the bytes.
func EachBatch(b []byte, fn func(flag int32, body, props []byte) error) error {
	be := binary.BigEndian
	for n := 0; len(b) > 0; n++ {
		if len(b) < 22 {
			return fmt.Errorf("message %d of the batch is cut off", n)
		}
		size, body := int64(int32(be.Uint32(b))), int64(int32(be.Uint32(b[16:])))
		if size < 22 || size > int64(len(b)) || body < 0 || 22+body > size {
			return fmt.Errorf("message %d of the batch: size %d with a body of %d, %d bytes left", n, size, body, len(b))
		}
		props := int64(int16(be.Uint16(b[20+body:])))
		if props < 0 || 22+body+props != size {
			return fmt.Errorf("message %d of the batch: size %d with a body of %d and properties of %d", n, size, body, props)
		}
		if err := fn(int32(be.Uint32(b[12:])), b[20:20+body], b[22+body:size]); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

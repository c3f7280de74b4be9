package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"gomq/internal/protocol"
)

// next cuts the next whole frame without its length field; nil when there is
// none yet.
func (w *wire) next() []byte {
	b := w.in[w.r:w.w]
	if len(b) < 4 {
		return nil
	}
	n := int(binary.BigEndian.Uint32(b))
	if len(b) < 4+n {
		return nil
	}
	w.r += 4 + n
	return b[4 : 4+n]
}

const maxAnswer = 16 << 20

// lot is how much one read may bring: to look at much at a time, and to move what
// is no whole answer yet seldom, makes the generator light.
const lot = 64 << 10

// room makes place for the next read, in a larger buffer when an answer asks
// for one.
func (w *wire) room() {
	need := lot
	if w.w-w.r >= 4 {
		need = max(need, 4+min(int(binary.BigEndian.Uint32(w.in[w.r:])), maxAnswer)-(w.w-w.r))
	}
	switch {
	case w.r == w.w:
		w.r, w.w = 0, 0
	case len(w.in)-w.w < need:
		w.w = copy(w.in, w.in[w.r:w.w])
		w.r = 0
	}
	if len(w.in)-w.w < need {
		w.in = append(make([]byte, 0, 2*(w.w+need)), w.in[:w.w]...)[:2*(w.w+need)]
	}
}

var (
	codeKey   = []byte(`"code":`)
	opaqueKey = []byte(`"opaque":`)
	errAnswer = errors.New("the broker's answer is no frame of this protocol")
)

// lookAt finds the two numbers of an answer that matter here. A whole decoder
// would cost more than the rest of the generator.
func lookAt(f []byte) (a answer, err error) {
	if len(f) < 4 {
		return a, errAnswer
	}
	mark := binary.BigEndian.Uint32(f)
	n := int(mark & 0xffffff)
	if n > len(f)-4 {
		return a, errAnswer
	}
	a.header, a.body = f[4:4+n], f[4+n:]
	if protocol.Codec(mark>>24) == protocol.Binary {
		if n < 21 {
			return a, errAnswer
		}
		a.code, a.opaque = int32(int16(binary.BigEndian.Uint16(a.header))), int32(binary.BigEndian.Uint32(a.header[5:]))
		return a, nil
	}
	c, ok1 := numberAfter(a.header, codeKey)
	o, ok2 := numberAfter(a.header, opaqueKey)
	if !ok1 || !ok2 {
		return a, fmt.Errorf("%w: %.200q", errAnswer, a.header)
	}
	a.code, a.opaque = int32(c), int32(o)
	return a, nil
}

// remark is what an answer says beside its code.
func remark(header []byte) string {
	codec := protocol.Binary
	if bytes.HasPrefix(header, []byte("{")) {
		codec = protocol.JSON
	}
	var c protocol.Command
	frame := binary.BigEndian.AppendUint32(nil, uint32(codec)<<24|uint32(len(header)))
	if c.Parse(append(frame, header...)) != nil {
		return fmt.Sprintf("%.300q", header)
	}
	return c.Remark
}

func numberAfter(b, key []byte) (n int64, ok bool) {
	i := bytes.Index(b, key)
	if i < 0 {
		return 0, false
	}
	negative := false
	for i += len(key); i < len(b); i++ {
		switch c := b[i]; {
		case c >= '0' && c <= '9':
			n, ok = n*10+int64(c-'0'), true
		case c == '-' && !ok:
			negative = true
		default:
			if negative {
				n = -n
			}
			return n, ok
		}
	}
	return n, ok
}

// request is one request as a whole frame whose opaque is slot's.
func request(o *Options, code int32, slot int, h protocol.Header, body []byte) []byte {
	c := protocol.NewRequest(code, h, body)
	c.Codec = o.Codec
	c.Opaque = firstOpaque + int32(slot)
	return c.AppendTo(nil)
}

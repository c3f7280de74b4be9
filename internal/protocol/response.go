package protocol

import (
	"encoding/binary"
	"sync"
)

// AppendResponse appends a whole frame that answers opaque. header may be nil.
// Answers carry our version and language JAVA. A 4.x client needs the pairs to
// be there for codes 0, 10, 11, 12 of a send and 0, 19, 20, 21 of a pull.
func AppendResponse(dst []byte, codec Codec, opaque, code int32, remark string, header Header, body []byte) []byte {
	dst, mark := BeginResponse(dst, codec, opaque, code, remark, header)
	dst = append(dst, body...)
	return EndResponse(dst, mark)
}

// BeginResponse is AppendResponse up to the body: append that, then call
// EndResponse with mark, which patches the length.
func BeginResponse(dst []byte, codec Codec, opaque, code int32, remark string, header Header) (b []byte, mark int) {
	mark = len(dst)
	if codec == Binary {
		dst = appendBinaryHead(dst, code, LangJava, Version, opaque, FlagResponse, remark)
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		if header != nil {
			dst = appendFields(dst, codec, header)
			binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
		}
	} else {
		if code == Success {
			dst = append(dst, "\x00\x00\x00\x00\x00\x00\x00\x00{\"code\":0"...)
		} else {
			dst = appendInt(append(dst, "\x00\x00\x00\x00\x00\x00\x00\x00{\"code\":"...), int64(code))
		}
		if header != nil {
			dst = append(dst, `,"extFields":{`...)
			dst = appendFields(dst, codec, header)
			dst = append(dst, '}')
		}
		dst = append(dst, `,"flag":1,"language":"JAVA","opaque":`...)
		dst = appendInt(dst, int64(opaque))
		if remark != "" {
			dst = appendQuoted(append(dst, `,"remark":`...), remark)
		}
		dst = append(dst, `,"serializeTypeCurrentRPC":"JSON","version":409}`...)
	}
	endHeader(dst, mark, codec)
	return dst, mark
}

// EndResponse ends what BeginResponse began.
func EndResponse(b []byte, mark int) []byte {
	binary.BigEndian.PutUint32(b[mark:], uint32(len(b)-mark-4))
	return b
}

var fieldsPool = sync.Pool{New: func() any { return new(Fields) }}

// appendFields appends the pairs of a header in one of the encodings. The
// answers of every message are named: their Fields stay on the stack.
func appendFields(dst []byte, codec Codec, header Header) []byte {
	switch h := header.(type) {
	case *SendReply:
		f := Fields{encoding: true, codec: codec, out: dst}
		h.Fields(&f)
		return f.out
	case *PullReply:
		f := Fields{encoding: true, codec: codec, out: dst}
		h.Fields(&f)
		return f.out
	case *OffsetReply:
		f := Fields{encoding: true, codec: codec, out: dst}
		h.Fields(&f)
		return f.out
	}
	f := fieldsPool.Get().(*Fields)
	*f = Fields{encoding: true, codec: codec, out: dst}
	header.Fields(f)
	dst = f.out
	*f = Fields{}
	fieldsPool.Put(f)
	return dst
}

// appendJSONTail appends what follows extFields in a JSON header.
func appendJSONTail(dst []byte, flag int32, language Language, opaque int32, remark string, version int32) []byte {
	dst = appendInt(append(dst, `,"flag":`...), int64(flag))
	dst = append(dst, `,"language":"`...)
	dst = append(dst, language.String()...)
	dst = appendInt(append(dst, `","opaque":`...), int64(opaque))
	if remark != "" {
		dst = appendQuoted(append(dst, `,"remark":`...), remark)
	}
	dst = appendInt(append(dst, `,"serializeTypeCurrentRPC":"JSON","version":`...), int64(version))
	return append(dst, '}')
}

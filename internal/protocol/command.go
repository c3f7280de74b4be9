// Package protocol is every word spoken on the wire: frames, headers, request
// and response codes, and the bodies that are not messages. It knows bytes,
// never sockets.
package protocol

// Codec is how a header is encoded: the first byte of a frame's mark.
type Codec uint8

// The two header encodings (wire.md sections 3 and 5).
const (
	JSON   Codec = 0
	Binary Codec = 1 // "ROCKETMQ"
)

// The bits of Command.Flag.
const (
	FlagResponse int32 = 1
	FlagOneway   int32 = 2
)

// Version is what gomq says it is: RocketMQ 4.9.8 (wire.md section 6).
const Version = 409

// Command is one frame: a request or an answer. After Parse its text and bytes
// are borrowed from the frame.
type Command struct {
	Code     int32
	Language Language
	Version  int32
	Opaque   int32
	Flag     int32
	Remark   string
	Body     []byte
	Codec    Codec
	// The header's pairs; see Get, Set, Decode.
	ext []pair
	raw []byte // JSON strings with escapes are undone here
}

type pair struct{ key, value []byte }

// IsResponse says whether the command answers one.
func (c *Command) IsResponse() bool { return c.Flag&FlagResponse != 0 }

// IsOneway says whether nobody waits for an answer.
func (c *Command) IsOneway() bool { return c.Flag&FlagOneway != 0 }

// Header is a request's or an answer's own fields. One method names them all: it
// decodes, encodes and checks.
type Header interface{ Fields(f *Fields) }

// Error is an error that is told to the peer: a response code and its remark.
type Error struct {
	Code   int32
	Remark string
}

func (e *Error) Error() string { return e.Remark }

// NewRequest makes a request in JSON with our language and version; header and
// body may be nil. Opaque and Flag are set by the connection.
func NewRequest(code int32, header Header, body []byte) *Command { panic("not yet") }

// Parse reads a frame without its length field: mark, header, body. On an error
// the connection is to be closed. It allocates nothing in steady state: c keeps
// its slices from one Parse to the next. Limits: header inside the frame and at
// most 256 KiB, 256 pairs, a JSON header's nesting at most 64.
func (c *Command) Parse(frame []byte) error { panic("not yet") }

// AppendTo appends the command as a whole frame, length field included.
func (c *Command) AppendTo(dst []byte) []byte { panic("not yet") }

// Clone copies the command with everything it borrows.
func (c *Command) Clone() *Command { panic("not yet") }

// Get is the value of a pair of the header, borrowed; a key that comes twice
// counts last.
func (c *Command) Get(key string) (value []byte, ok bool) { panic("not yet") }

// Set adds a pair.
func (c *Command) Set(key, value string) { panic("not yet") }

// Decode fills h from the header's pairs. A field that is required and missing
// or does not parse is an *Error with code SYSTEM_ERROR that names it.
func (c *Command) Decode(h Header) error { panic("not yet") }

// AppendResponse appends a whole frame that answers opaque. header may be nil.
// Answers carry our version and language JAVA. A 4.x client needs the pairs to
// be there for codes 0, 10, 11, 12 of a send and 0, 19, 20, 21 of a pull.
func AppendResponse(dst []byte, codec Codec, opaque, code int32, remark string, header Header, body []byte) []byte {
	panic("not yet")
}

// BeginResponse is AppendResponse up to the body: append that, then call
// EndResponse with mark, which patches the length.
func BeginResponse(dst []byte, codec Codec, opaque, code int32, remark string, header Header) (b []byte, mark int) {
	panic("not yet")
}

// EndResponse ends what BeginResponse began.
func EndResponse(b []byte, mark int) []byte { panic("not yet") }


// RequestName is the name of a request code that RocketMQ 4.5 to 5.3 know, ""
// for others.
func RequestName(code int32) string { panic("not yet") }

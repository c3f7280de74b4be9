package protocol

// Fields is the one header codec: a Header's Fields method calls it once for
// each field, and it decodes, encodes (JSON or binary) or checks, as it was
// made for. Names are those of RocketMQ 4.9.8 (requests.md); a nil or zero value
// of an optional field is left out when encoding only where the method says so.
type Fields struct {
	c   *Command // decoding from
	at  int      // the pair to look at first: peers send fields in a fixed order
	err *Error   // the first thing wrong

	encoding bool
	codec    Codec
	out      []byte
	n        int // pairs written
}

// Bytes is a text field, borrowed when decoding. Encoding leaves out nil.
func (f *Fields) Bytes(name string, v *[]byte, required bool) { panic("not yet") }

// String is a text field. Encoding leaves out "" unless required.
func (f *Fields) String(name string, v *string, required bool) { panic("not yet") }

// Int32 is a number field; a missing optional one keeps what v had.
func (f *Fields) Int32(name string, v *int32, required bool) { panic("not yet") }

// Int64 is a number field; a missing optional one keeps what v had.
func (f *Fields) Int64(name string, v *int64, required bool) { panic("not yet") }

// Bool is true for "true" in any case, false for anything else.
func (f *Fields) Bool(name string, v *bool, required bool) { panic("not yet") }

// Encoding says whether the fields are being written.
func (f *Fields) Encoding() bool { return f.encoding }

// bad notes that a field's value is not what the field holds.
func (f *Fields) bad(name, value string) { panic("not yet") }

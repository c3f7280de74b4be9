package protocol

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
)

// A zlib body may inflate to maxInflated bytes and to inflateRatio times its own
// size.
const (
	maxInflated  = 16 << 20
	inflateRatio = 64
)

// ParseRegisterBody reads the body of 103 in each form that brokers send: JSON,
// zlib (known by its first byte, not by the header), the bare topic table of
// brokers before 3.0.11; no body is an empty table. Inflated it may have 64
// times its size and 16 MiB.
func ParseRegisterBody(body []byte) (*RegisterBody, error) {
	reg := &RegisterBody{Topics: map[string]TopicConfig{}}
	if len(body) == 0 {
		return reg, nil
	}
	var err error
	if body[0] == 0x78 { // zlib's; text begins with a brace
		if body, err = inflate(body); err == nil {
			err = reg.parseLines(body)
		}
	} else {
		err = reg.parseJSON(body)
	}
	if err != nil {
		return nil, err
	}
	return reg, nil
}

func (reg *RegisterBody) parseJSON(body []byte) error {
	return readBody("registration", body, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "topicconfigserializewrapper":
				r.topicTable(&reg.Topics, &reg.Version)
			case "filterserverlist":
				reg.FilterServers = r.strings()
			default:
				r.topicTableMember(name, reg.Topics, &reg.Version)
			}
		})
	})
}

func inflate(body []byte) ([]byte, error) {
	limit := min(maxInflated, inflateRatio*len(body))
	z, err := zlib.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("registration: %w", err)
	}
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(z, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("registration: inflating %d bytes: %w", len(body), err)
	}
	if n > int64(limit) {
		return nil, fmt.Errorf("registration: %d bytes inflate to more than %d", len(body), limit)
	}
	return out.Bytes(), nil
}

// lines reads what is inside a zlib body: 4-byte numbers and texts with their
// length before them. The first error stays.
type lines struct {
	b   []byte
	err error
}

func (l *lines) int(what string, most int) int {
	if l.err != nil {
		return 0
	}
	if len(l.b) < 4 {
		l.err = fmt.Errorf("registration: it ends where the %s should be", what)
		return 0
	}
	n := int32(binary.BigEndian.Uint32(l.b))
	l.b = l.b[4:]
	if n < 0 || int(n) > most {
		l.err = fmt.Errorf("registration: %s is %d, allowed are %d", what, n, most)
		return 0
	}
	return int(n)
}

func (l *lines) text(what string) []byte {
	n := l.int("length of the "+what, len(l.b))
	if l.err == nil && n > len(l.b) {
		l.err = fmt.Errorf("registration: a %s of %d bytes, %d are left", what, n, len(l.b))
	}
	if l.err != nil {
		return nil
	}
	t := l.b[:n]
	l.b = l.b[n:]
	return t
}

// parseLines reads the inflated form (wire.md section 17): version as JSON, the
// number of topics, each as text, filter servers as JSON; what 5.x adds behind
// them, its queue mappings, is not looked at.
func (reg *RegisterBody) parseLines(b []byte) error {
	l := lines{b: b}
	version := l.text("data version")
	if l.err == nil {
		reg.Version, l.err = ParseDataVersion(version)
	}
	count := l.int("number of topics", min(MaxTableEntries, len(b)/4))
	for range count {
		text := l.text("topic")
		if l.err != nil {
			break
		}
		t, err := parseTopicLine(text)
		if err != nil {
			return err
		}
		reg.Topics[t.TopicName] = t
	}
	servers := l.text("list of filter servers")
	if l.err == nil && len(servers) > 0 {
		l.err = readBody("filter servers", servers, func(r *reader) { reg.FilterServers = r.strings() })
	}
	return l.err
}

// parseTopicLine reads "name read write perm SINGLE_TAG", to which 5.x adds
// attributes as JSON, which are ignored.
func parseTopicLine(text []byte) (t TopicConfig, err error) {
	f := bytes.SplitN(text, []byte(" "), 6)
	if len(f) < 5 || len(f[0]) == 0 {
		return t, fmt.Errorf("registration: the topic %.80q has fewer than 5 fields", text)
	}
	t.TopicName = string(f[0])
	for i, v := range []*int32{&t.ReadQueueNums, &t.WriteQueueNums, &t.Perm} {
		n, ok := atoi(f[i+1])
		if !ok || int64(int32(n)) != n {
			return t, fmt.Errorf("registration: the topic %.80q has %.20q where a number should be", text, f[i+1])
		}
		*v = int32(n)
	}
	t.TopicFilterType = filterTypes[0]
	if string(f[4]) == filterTypes[1] {
		t.TopicFilterType = filterTypes[1]
	}
	return t, nil
}

// Append appends the body in JSON, topics sorted.
func (reg *RegisterBody) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.strings("filterServerList", reg.FilterServers)
	w.key("topicConfigSerializeWrapper")
	w.open('{')
	w.key("dataVersion")
	w.dataVersion(reg.Version)
	w.key("topicConfigTable")
	w.open('{')
	for _, name := range sorted(reg.Topics) {
		t := reg.Topics[name]
		w.key(name)
		w.topic(&t)
	}
	w.end()
	w.end()
	w.end()
	return w.b
}

// AppendCompressed appends the body as brokers with compressedRegister=true send
// it. Order and topicSysFlag of the topics are lost in it.
func (reg *RegisterBody) AppendCompressed(dst []byte) []byte {
	var b []byte
	line := func(f func([]byte) []byte) {
		at := len(b)
		b = f(append(b, 0, 0, 0, 0))
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	line(reg.Version.Append)
	b = binary.BigEndian.AppendUint32(b, uint32(len(reg.Topics)))
	for _, name := range sorted(reg.Topics) {
		t := reg.Topics[name]
		line(func(b []byte) []byte {
			b = append(append(b, t.TopicName...), ' ')
			for _, n := range []int32{t.ReadQueueNums, t.WriteQueueNums, t.Perm} {
				b = append(strconv.AppendInt(b, int64(n), 10), ' ')
			}
			return append(b, t.TopicFilterType...)
		})
	}
	line(func(b []byte) []byte {
		w := writer{b: b}
		w.open('[')
		for _, s := range reg.FilterServers {
			w.item()
			w.text(s)
		}
		w.endList()
		return w.b
	})
	out := bytes.NewBuffer(dst)
	z, _ := zlib.NewWriterLevel(out, zlib.BestCompression) // the level is a valid one
	z.Write(b)                                             // a Buffer does not fail
	z.Close()
	return out.Bytes()
}

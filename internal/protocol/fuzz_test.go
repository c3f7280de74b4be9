package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"testing"
	"unicode/utf8"
)

// eachShape calls f with one golden frame of each code, client family and kind.
func eachShape(f *testing.F, visit func(g *golden, c *Command)) {
	seen := map[string]bool{}
	all := goldens(f)
	for i := range all {
		g := &all[i]
		shape := g.File[:bytes.IndexAny([]byte(g.File), ".-")] + filepath.Base(g.File)[:3] + g.Type + g.Serialize + g.BodyKind
		if !seen[shape] {
			seen[shape] = true
			visit(g, g.parse(f))
		}
	}
}

func FuzzFrame(f *testing.F) {
	eachShape(f, func(g *golden, c *Command) { f.Add(g.frame[4:]) })
	f.Fuzz(func(t *testing.T, frame []byte) {
		was := bytes.Clone(frame)
		var c Command
		if c.Parse(frame) != nil {
			return
		}
		if len(c.ext) > MaxPairs || len(c.raw) > len(frame) {
			t.Fatalf("%d pairs, %d bytes of text from a frame of %d", len(c.ext), len(c.raw), len(frame))
		}
		again := c.AppendTo(nil)
		if binary.BigEndian.Uint32(again) != uint32(len(again)-4) {
			t.Fatal("the length is wrong")
		}
		if binary.BigEndian.Uint32(again[4:])&0xFFFFFF > MaxHeader {
			return // escapes made it longer than what is read
		}
		var d Command
		if err := d.Parse(again[4:]); err != nil || !same(&c, &d) || !same(&c, c.Clone()) {
			t.Fatalf("%v: %q became %q", err, frame, again)
		}
		if h := requestHeader(c.Code); h != nil && c.Decode(h) == nil {
			r := NewRequest(c.Code, h, nil)
			r.Codec = c.Codec
			if err := d.Parse(r.AppendTo(nil)[4:]); err != nil {
				t.Fatalf("%+v: %v", h, err)
			}
			// Empty values are absent in binary: a required one may be missing now.
			if again := requestHeader(c.Code); c.Codec == JSON && (d.Decode(again) != nil || !reflect.DeepEqual(h, emptied(h, again))) {
				t.Fatalf("%+v became %+v", h, again)
			}
		}
		if !bytes.Equal(frame, was) {
			t.Fatal("reading changed the frame")
		}
	})
}

// emptied makes empty slices of b nil where a has nil and the other way round:
// absent and empty text are the same to all handlers.
func emptied(a, b any) any {
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range x.NumField() {
		if x.Field(i).Kind() == reflect.Slice && x.Field(i).Len() == 0 && y.Field(i).Len() == 0 {
			y.Field(i).Set(x.Field(i))
		}
	}
	return b
}

// A header that is standard JSON means what encoding/json makes of it.
func FuzzJSONHeader(f *testing.F) {
	eachShape(f, func(g *golden, c *Command) {
		if c.Codec == JSON {
			n := binary.BigEndian.Uint32(g.frame[4:]) & 0xFFFFFF
			f.Add(g.frame[8 : 8+n])
		}
	})
	f.Fuzz(func(t *testing.T, header []byte) {
		if len(header) > 1<<16 {
			return
		}
		var c Command
		if err := c.Parse(frameOf(JSON, string(header))); err != nil || !utf8.Valid(header) {
			return
		}
		var members map[string]json.RawMessage
		var pairs map[string]*string
		var remark string
		if json.Unmarshal(header, &members) != nil || members["extFields"] != nil && json.Unmarshal(members["extFields"], &pairs) != nil {
			return
		}
		n := 0
		for k, v := range pairs {
			if v == nil {
				continue
			}
			n++
			if got, ok := c.Get(k); !ok || string(got) != *v {
				t.Fatalf("%q: %q is %q, want %q", header, k, got, *v)
			}
		}
		if len(c.ext) != n {
			t.Fatalf("%q: %d pairs, want %d", header, len(c.ext), n)
		}
		if members["remark"] != nil && json.Unmarshal(members["remark"], &remark) == nil && c.Remark != remark {
			t.Fatalf("%q: remark %q, want %q", header, c.Remark, remark)
		}
	})
}

func FuzzBinaryHeader(f *testing.F) {
	eachShape(f, func(g *golden, c *Command) {
		c.Codec = Binary
		frame := c.AppendTo(nil)
		n := binary.BigEndian.Uint32(frame[4:]) & 0xFFFFFF
		f.Add(frame[8 : 8+n])
	})
	f.Fuzz(func(t *testing.T, header []byte) {
		if len(header) > 1<<16 {
			return
		}
		var c, d Command
		if c.Parse(frameOf(Binary, string(header))) != nil {
			return
		}
		again := c.AppendTo(nil)
		if len(again) > len(header)+8 {
			t.Fatalf("%q grew to %q", header, again)
		}
		if err := d.Parse(again[4:]); err != nil || !same(&c, &d) {
			t.Fatalf("%v: %q became %q", err, header, again)
		}
	})
}

// twice reads a body, writes it and reads it again, two times: what was written
// is read as it was.
func twice(t *testing.T, k *bodyCodec, body []byte) {
	v, err := k.read(body)
	if err != nil {
		return
	}
	for range 2 {
		text := k.write(v, nil)
		w, err := k.read(text)
		if err != nil {
			t.Fatalf("%s: %q was written as %q: %v", k.name, body, text, err)
		}
		if again := k.write(w, nil); !bytes.Equal(text, again) {
			t.Fatalf("%s: %q was written as %q and then as %q", k.name, body, text, again)
		}
		v = w
	}
}

func seedBodies(f *testing.F, add func(key string, body []byte)) {
	eachShape(f, func(g *golden, c *Command) {
		if len(c.Body) > 0 && g.bodyCodec(c.Body) != nil {
			key := filepath.Base(g.File)[:3]
			add(key, c.Body)
		}
	})
}

func FuzzHeartbeat(f *testing.F) {
	seedBodies(f, func(key string, body []byte) {
		if key == "34-" {
			f.Add(body)
		}
	})
	f.Add([]byte(heartbeatOfCPP))
	f.Fuzz(func(t *testing.T, body []byte) { twice(t, bodyCodecs["34"], body) })
}

func FuzzRegisterBody(f *testing.F) {
	seedBodies(f, func(key string, body []byte) {
		if key == "103" {
			f.Add(body)
		}
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		twice(t, bodyCodecs["103"], body)
		if reg, err := ParseRegisterBody(body); err == nil {
			ParseRegisterBody(reg.AppendCompressed(nil)) // names with blanks do not survive it
		}
	})
}

func FuzzRouteData(f *testing.F) {
	seedBodies(f, func(key string, body []byte) {
		if key == "105" || key == "106" {
			f.Add(body)
		}
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, key := range []string{"105-resp", "105-resp-standard", "106-resp"} {
			twice(t, bodyCodecs[key], body)
		}
	})
}

// FuzzTables is all other bodies and files; which says how the text is read.
func FuzzTables(f *testing.F) {
	var keys []string
	for key := range bodyCodecs {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	seedBodies(f, func(key string, body []byte) {
		for i, k := range keys {
			if k[:2] == key[:2] {
				f.Add(uint8(i), body)
			}
		}
	})
	files, err := filepath.Glob("testdata/config/*/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for i, k := range keys {
			if map[string]string{"topics.json": "21-resp", "subscriptionGroup.json": "201-resp", "consumerOffset.json": "43-resp", "delayOffset.json": "45-resp"}[filepath.Base(file)] == k {
				f.Add(uint8(i), text)
			}
		}
	}
	// Bodies that are only read here, or of which there is no original's.
	others := []func([]byte) error{
		func(b []byte) error { _, err := ParseTopicConfigs(b); return err },
		func(b []byte) error { _, err := ParseGroupConfigs(b); return err },
		func(b []byte) error { _, _, err := ParseOffsets(b); return err },
		func(b []byte) error { _, err := ParseHAStatus(b); return err },
	}
	for i, text := range []string{
		`{"topicConfigList":[{"attributes":{"+a":"b"},"perm":4,"topicName":"T","writeQueueNums":2}]}`,
		`{"groupConfigList":[{"groupName":"G","retryMaxTimes":3,"consumeEnable":false}]}`,
		`{"offsetTable":{"T@G":{0:5,1:7}}}`,
		string((&HAStatus{Master: true, End: 5, Slaves: []HASlave{{Addr: "10.0.0.1:1", Ack: 5}}}).Append(nil)),
	} {
		if err := others[i]([]byte(text)); err != nil {
			f.Fatalf("%s: %v", text, err)
		}
		f.Add(uint8(len(keys)+i), []byte(text))
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		if i := int(which) % (len(keys) + len(others)); i < len(keys) {
			twice(t, bodyCodecs[keys[i]], body)
		} else {
			_ = others[i-len(keys)](body) // must only come back
		}
	})
}

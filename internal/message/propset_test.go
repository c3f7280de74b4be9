package message

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"gomq/internal/chance"
)

// What a Java broker of 4.9.7 stored when it put REAL_TOPIC and REAL_QID into the
// properties of delayed messages and rewrote them (golden/store/4.9.7-clean). DELAY
// and WAIT share a bucket: in a send WAIT is put last, in a retry before DELAY.
func TestPropSetOrder(t *testing.T) {
	for _, c := range []struct {
		what, client string
		change       func(s *PropSet)
		want         string
	}{
		{"a delayed message", "KEYS=k200 UNIQ_KEY=U WAIT=true DELAY=1 TAGS=TagA", func(s *PropSet) {
			s.Set("CLUSTER", []byte("DefaultCluster"))
			wait, _ := s.Get("WAIT")
			s.Delete("WAIT")
			s.Set("WAIT", wait)
			s.Set("REAL_TOPIC", []byte("GoldDelay"))
			s.SetInt("REAL_QID", 0)
		}, "REAL_TOPIC=GoldDelay KEYS=k200 UNIQ_KEY=U CLUSTER=DefaultCluster DELAY=1 WAIT=true TAGS=TagA REAL_QID=0"},
		{"a retry", "KEYS=twice-2 UNIQ_KEY=U CLUSTER=C TAGS=a-b_c", func(s *PropSet) {
			s.Set("RETRY_TOPIC", []byte("GoldRetry"))
			s.Set("WAIT", []byte("false"))
			s.SetInt("DELAY", 1)
			s.Set("ORIGIN_MESSAGE_ID", []byte("ID"))
			s.Set("REAL_TOPIC", []byte("%RETRY%GoldRetryGroup"))
			s.SetInt("REAL_QID", 0)
		}, "REAL_TOPIC=%RETRY%GoldRetryGroup ORIGIN_MESSAGE_ID=ID RETRY_TOPIC=GoldRetry KEYS=twice-2 UNIQ_KEY=U CLUSTER=C WAIT=false DELAY=1 TAGS=a-b_c REAL_QID=0"},
		// Thirteen properties: the table has grown to 32 buckets and begins elsewhere.
		{"a retry of many properties", "a=5 city=x KEYS=twice-5 UNIQ_KEY=U CLUSTER=C TAGS=TagB long=l", func(s *PropSet) {
			s.Set("RETRY_TOPIC", []byte("GoldRetry"))
			s.Set("WAIT", []byte("false"))
			s.SetInt("DELAY", 1)
			s.Set("ORIGIN_MESSAGE_ID", []byte("ID"))
			s.Set("REAL_TOPIC", []byte("%RETRY%GoldRetryGroup"))
			s.SetInt("REAL_QID", 0)
		}, "a=5 city=x long=l REAL_TOPIC=%RETRY%GoldRetryGroup ORIGIN_MESSAGE_ID=ID RETRY_TOPIC=GoldRetry KEYS=twice-5 UNIQ_KEY=U CLUSTER=C WAIT=false DELAY=1 TAGS=TagB REAL_QID=0"},
		{"nothing", "", func(*PropSet) {}, ""},
		{"twice", "A=1 B=2 A=3", func(s *PropSet) { s.Delete("none") }, "A=3 B=2"},
	} {
		var s PropSet
		s.Parse(propText(c.client))
		c.change(&s)
		if got, want := string(s.AppendTo(nil)), string(propText(c.want)); got != want {
			t.Errorf("%s:\n got %q\nwant %q", c.what, got, want)
		}
	}
}

func propText(s string) []byte {
	out := []byte(s)
	for i, c := range out {
		switch c {
		case '=':
			out[i] = nameEnd
		case ' ':
			out[i] = propEnd
		}
	}
	return out
}

// A model: a Go map. Whatever is done to both, they hold the same, and a text that
// is written and read again stays as it is.
func TestPropSetAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	var s PropSet
	for range 300 {
		model := map[string]string{}
		var text []byte
		name := func() string {
			// "Aa" and "BB" have one hash.
			return []string{"Aa", "BB", "AaAa", "BBBB", "AaBB", "n", "DELAY", "WAIT", "é"}[r.IntN(9)] + []string{"", "1", "22"}[r.IntN(3)]
		}
		for range r.IntN(30) {
			n, v := name(), strconv.Itoa(r.IntN(99))
			text = AppendProp(text, n, v)
			model[n] = v
		}
		s.Parse(text)
		for range r.IntN(20) {
			n := name()
			switch r.IntN(3) {
			case 0:
				s.Delete(n)
				delete(model, n)
			case 1:
				v := r.Int64()
				s.SetInt(n, v)
				model[n] = strconv.FormatInt(v, 10)
			}
			got, ok := s.Get(n)
			if want, there := model[n]; string(got) != want || ok != there {
				t.Fatalf("%s is %q %v, want %q %v", n, got, ok, want, there)
			}
		}
		out := s.AppendTo(nil)
		n := 0
		EachProp(out, func(name, value []byte) bool {
			if n++; model[string(name)] != string(value) {
				t.Fatalf("%s=%s in %q", name, value, out)
			}
			return true
		})
		if n != len(model) {
			t.Fatalf("%d of %d properties in %q", n, len(model), out)
		}
		if n > 0 && slices.Contains(out[len(out)-1:], propEnd) {
			t.Fatalf("%q ends in a separator", out)
		}
	}
}

// A text full of names of one hash, or of one name, costs no more than another.
func TestPropSetHostile(t *testing.T) {
	var text []byte
	for i := 0; len(text) < MaxPropsLen-16; i++ {
		name := make([]byte, 0, 12)
		for b := range 6 {
			name = append(name, []string{"Aa", "BB"}[i>>b&1]...)
		}
		text = AppendProp(text, string(name), "v")
	}
	var s PropSet
	s.Parse(text)
	if len(s.items) != 64 {
		t.Errorf("%d properties", len(s.items))
	}
	out := make([]byte, 0, len(text))
	if n := testing.AllocsPerRun(10, func() { s.Parse(text); s.AppendTo(out) }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// The figures that rows can have.
const (
	rate  = "msg/s"
	cpu   = "broker us/msg"
	p50   = "p50 us"
	p99   = "p99 us"
	mbs   = "MB/s"
	mib   = "MiB"
	secs  = "s"
	count = "count"
)

// row is one line: the values of all rounds, by figure.
type row struct {
	name   string
	values map[string][]float64
}

func (r *row) add(figure string, v float64) { r.values[figure] = append(r.values[figure], v) }

type table struct{ rows []*row }

// row finds or makes a row.
func (t *table) row(name string) *row {
	for _, r := range t.rows {
		if r.name == name {
			return r
		}
	}
	r := &row{name: name, values: map[string][]float64{}}
	t.rows = append(t.rows, r)
	return r
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 1 {
		return s[n/2]
	} else if n > 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return 0
}

// spread is how far the rounds lie apart, in percent of their median.
func spread(v []float64) float64 {
	if m := median(v); m > 0 {
		return 100 * (slices.Max(v) - slices.Min(v)) / m
	}
	return 0
}

func (t *table) print(w io.Writer) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	figures := []string{rate, mbs, cpu, p50, p99, mib, secs, count}
	fmt.Fprint(out, "row\t")
	for _, f := range figures {
		fmt.Fprintf(out, "%s\t", f)
	}
	fmt.Fprintln(out, "spread %\trounds\t")
	for _, r := range t.rows {
		fmt.Fprintf(out, "%s\t", r.name)
		main := ""
		for _, f := range figures {
			v := r.values[f]
			if len(v) == 0 {
				fmt.Fprint(out, "-\t")
				continue
			}
			if main == "" {
				main = f
			}
			fmt.Fprintf(out, "%s\t", number(f, median(v)))
		}
		if main == "" {
			fmt.Fprintln(out, "-\t0\t")
			continue
		}
		fmt.Fprintf(out, "%.0f\t%d\t\n", spread(r.values[main]), len(r.values[main]))
	}
	out.Flush()
}

func number(figure string, v float64) string {
	switch figure {
	case rate, p50, p99:
		return fmt.Sprintf("%.0f", v)
	case cpu, secs, count:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// sendFrame is one SEND_MESSAGE_V2 as a Java client would send it.
func sendFrame() []byte {
	header := `{"code":310,"extFields":{"a":"BenchGroup","b":"BenchTopic","c":"TBW102","d":"4","e":"0","f":"0","g":"1700000000000","h":"0",` +
		`"i":"WAIT\u0001true","j":"0","k":"false","l":"16","m":"false"},"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":409}`
	body := make([]byte, 1024)
	f := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)+len(body)))
	f = binary.BigEndian.AppendUint32(f, uint32(len(header)))
	return append(append(f, header...), body...)
}

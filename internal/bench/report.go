package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteTable prints results for people.
func WriteTable(w io.Writer, results ...Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "what\tmsg/s\tMB/s\tp50 us\tp90 us\tp99 us\tp99.9 us\tmax us\trefused\tbroker us/msg\tbroker CPU %\tgenerator us/msg\tbroker anon MiB\t")
	for _, r := range results {
		server := "-\t-"
		anon := "-"
		if r.ServerLoad > 0 {
			server = fmt.Sprintf("%.2f\t%.0f", r.ServerCPU, r.ServerLoad)
			anon = fmt.Sprintf("%.0f", r.RSSAnon)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%s\t%.2f\t%s\t\n",
			r.Name, r.PerSecond, r.MBs, r.P50, r.P90, r.P99, r.P999, r.Max, r.Refused, server, r.Generator, anon)
	}
	return t.Flush()
}

// WriteJSON prints one object a line.
func WriteJSON(w io.Writer, results ...Result) error {
	e := json.NewEncoder(w)
	for _, r := range results {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

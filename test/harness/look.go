package harness

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// View is what `gomq cluster status -o json` prints.
type View struct {
	Nameservers []struct {
		Address, Error string
		Brokers        int
	}
	Sets []struct {
		Cluster, Name string
		Brokers       []struct {
			ID      int64
			Address string
			Gomq    bool
			Copy    *struct {
				LagBytes, LagMessages *int64
				InSync                *bool
			}
		}
	}
	Problems []string
}

// Look asks the command, as an operator does.
func Look(t testing.TB, namesrv string) (v View) {
	t.Helper()
	out, err := exec.Command(Build(t), "cluster", "status", "-n", namesrv, "-o", "json").Output()
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("gomq cluster status: %v\n%s", err, out)
	}
	if (err == nil) != (len(v.Problems) == 0) {
		t.Fatalf("gomq cluster status ends with %v and names the problems %q", err, v.Problems)
	}
	return v
}

package house_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// floor is the storey of each room. A room may import rooms of lower storeys
// only. Between the five floors of docs/ARCHITECTURE.md lie half storeys: what
// every room may use (failpoint), the command above the tools, the desks below
// the broker, the simulated disk above the real one. What only tests may import
// lies above everything.
var floor = map[string]int{
	"cmd/gomq": 50,

	"internal/bench": 40,

	"internal/broker": 30, "internal/namesrv": 30,
	"internal/broker/meta": 25, "internal/broker/clients": 25, "internal/broker/hold": 25, "internal/broker/delay": 25, "internal/broker/trans": 25,

	"internal/store": 20, "internal/client": 20, "internal/role": 20,

	"internal/remoting": 10, "internal/ha": 10, "internal/filter": 10, "internal/acl": 10,
	"internal/store/segment": 10, "internal/store/simdisk": 15,

	"internal/protocol": 1, "internal/message": 0, "internal/config": 0, "internal/watermark": 0, "internal/task": 0,

	"internal/failpoint": -1,

	"internal/golden": 98, "internal/chance": 98, "internal/role/roletest": 98, "internal/remoting/remotingtest": 98,
	"internal/house": 99,
}

// not says what a room may not import although it lies lower, and why.
var not = map[string]map[string]string{
	"internal/store":          {"internal/remoting": noNetwork, "internal/protocol": noNetwork, "internal/filter": "a matcher is passed in", "internal/config": noConfig, "net": noNetwork},
	"internal/store/segment":  {"internal/protocol": noNetwork, "internal/message": "files hold bytes", "internal/config": noConfig, "net": noNetwork},
	"internal/protocol":       {"net": "the vocabulary knows bytes, never sockets", "net/http": "the vocabulary knows bytes, never sockets"},
	"internal/remoting":       {"internal/config": noConfig, "internal/message": "sockets know no meanings"},
	"internal/broker/meta":    {"internal/remoting": noSockets, "net": noSockets, "internal/store": "a desk has its own files only"},
	"internal/broker/clients": {"internal/remoting": noSockets, "net": noSockets, "internal/store": noStore, "internal/config": noConfig},
	"internal/broker/hold":    {"internal/remoting": noSockets, "net": noSockets, "internal/store": noStore, "internal/config": noConfig},
	"internal/broker/trans":   {"internal/remoting": noSockets, "net": noSockets, "internal/store": "it declares what it needs of one", "internal/config": noConfig},
	"internal/broker/delay":   {"internal/remoting": noSockets, "net": noSockets, "internal/store": noStore, "internal/config": noConfig},
	"internal/namesrv":        {"internal/store": noStore, "internal/client": "a nameserver calls nobody", "net/http": "the HTTP port is the command's"},
	"internal/broker":         {"net/http": "the HTTP port is the command's"},
}

const (
	noNetwork = "the store knows neither network nor protocol"
	noSockets = "desks are tested without a socket"
	noStore   = "it has no disk"
	noConfig  = "it gets plain options, never the configuration"
)

// outside says which room may use which module from elsewhere. zap is a
// constructor argument and may be used anywhere above the bottom floor.
var outside = map[string][]string{
	"github.com/spf13/cobra":                  {"cmd/gomq"},
	"github.com/magiconair/properties":        {"internal/config"},
	"github.com/prometheus/client_golang":     {"cmd/gomq", "internal/broker", "internal/namesrv", "internal/remoting", "internal/store", "internal/ha"},
	"golang.org/x/sys":                        {"internal/store/segment", "internal/bench"},
	"github.com/HdrHistogram/hdrhistogram-go": {"internal/bench"},
	"go.uber.org/zap":                         {"cmd/gomq", "internal/bench", "internal/broker", "internal/namesrv", "internal/role", "internal/store", "internal/client", "internal/remoting", "internal/ha", "internal/task"},
}

const module = "gomq/"

// imports returns what each room of the product imports, tests left out.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	list := map[string][]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list[strings.TrimPrefix(p.ImportPath, module)] = p.Imports
	}
}

// broken says what is wrong with room importing dep, or "".
func broken(room, dep string) string {
	inside, ours := strings.CutPrefix(dep, module)
	if why := not[room][inside]; why != "" {
		return why
	}
	if ours {
		below, known := floor[inside]
		switch {
		case !known:
			return inside + " has no floor"
		case below >= floor[room]:
			return "imports point down only"
		}
		return ""
	}
	if !strings.Contains(strings.SplitN(dep, "/", 2)[0], ".") {
		return "" // the standard library
	}
	for mod, rooms := range outside {
		if dep == mod || strings.HasPrefix(dep, mod+"/") {
			for _, r := range rooms {
				if r == room {
					return ""
				}
			}
			return "outside modules stay where docs/ARCHITECTURE.md puts them"
		}
	}
	return "not a module that the product uses (docs/DEPENDENCIES.md)"
}

// Imports only point down the floors of docs/ARCHITECTURE.md.
func TestFloors(t *testing.T) {
	rooms := imports(t)
	if len(rooms) < 10 {
		t.Fatalf("go list names %d packages", len(rooms))
	}
	for room, deps := range rooms {
		if _, ok := floor[room]; !ok {
			t.Errorf("%s has no floor: give it one in this test and in docs/ARCHITECTURE.md", room)
			continue
		}
		for _, dep := range deps {
			if why := broken(room, dep); why != "" {
				t.Errorf("%s imports %s: %s", room, dep, why)
			}
		}
	}
}

// The test itself finds what it is for.
func TestFloorsFindsBreaks(t *testing.T) {
	for _, c := range [][2]string{
		{"internal/protocol", "gomq/internal/remoting"},
		{"internal/ha", "gomq/internal/store"},
		{"internal/store", "gomq/internal/remoting"},
		{"internal/broker/hold", "gomq/internal/remoting"},
		{"internal/broker/meta", "gomq/internal/broker"},
		{"internal/broker", "gomq/internal/namesrv"},
		{"internal/store", "gomq/internal/somewhere"},
		{"internal/store", "gomq/internal/golden"},
		{"internal/protocol", "net"},
		{"internal/store", "github.com/spf13/cobra"},
		{"internal/store", "example.com/unknown"},
	} {
		if broken(c[0], c[1]) == "" {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
	for _, c := range [][2]string{{"internal/broker", "gomq/internal/store"}, {"internal/store", "gomq/internal/store/segment"}, {"internal/store", "os"}} {
		if why := broken(c[0], c[1]); why != "" {
			t.Errorf("%s may not import %s: %s", c[0], c[1], why)
		}
	}
}

// passing is what handing a Registerer on takes.
var passing = map[string]bool{"Registerer": true, "WrapRegistererWith": true, "Labels": true}

// Metrics are made in files named metrics.go; elsewhere a Registerer is handed on
// and nothing else.
func TestMetricsFiles(t *testing.T) {
	set, files := sources(t)
	for _, f := range files {
		if path.Base(f.path) == "metrics.go" || strings.HasPrefix(f.path, "cmd/") {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "prometheus" && !passing[sel.Sel.Name] {
				t.Errorf("%s: prometheus.%s belongs into a file metrics.go", set.Position(n.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
}

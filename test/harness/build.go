package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

var built struct {
	mu   sync.Mutex
	path map[string]string
	err  map[string]error
}

// Build returns the path of a gomq binary made from the tree around this
// module as a release is made (static, without cgo), with the build tags given.
// Each set of tags is built once a run. GOMQ_BIN replaces the one without tags.
func Build(t testing.TB, tags ...string) string {
	t.Helper()
	key := strings.Join(tags, ",")
	if bin := os.Getenv("GOMQ_BIN"); bin != "" && key == "" {
		return bin
	}
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.path == nil {
		built.path, built.err = map[string]string{}, map[string]error{}
	}
	if _, ok := built.path[key]; !ok {
		built.path[key], built.err[key] = build(key)
	}
	if err := built.err[key]; err != nil {
		t.Fatal(err)
	}
	return built.path[key]
}

func build(tags string) (string, error) {
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "gomq")
	if tags != "" {
		bin += "-" + strings.ReplaceAll(tags, ",", "-")
	}
	cmd := exec.Command("go", "build", "-trimpath", "-tags", tags, "-o", bin, "./cmd/gomq")
	cmd.Dir = Tree()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/gomq (tags %q): %v\n%s", tags, err, out)
	}
	return bin, nil
}

// Tree is the directory of the product's module, the parent of this one.
func Tree() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

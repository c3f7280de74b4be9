//go:build interop || interop_all

package interop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gomq/test/harness"
)

// downloadLimit is how long one set of jars or modules may take to arrive.
const downloadLimit = 5 * time.Minute

// missing ends the test because the machine lacks something: as skipped, or as
// failed where the run demands everything.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv("INTEROP_REQUIRE") != "" {
		t.Fatal(reason)
	}
	harness.Skip(t, reason)
}

// tool is the path of a program of the machine.
func tool(t testing.TB, name, what string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "no %s: %s is not installed", name, what)
	}
	return path
}

// needJava ends the test unless a JDK and Maven are there.
func needJava(t testing.TB) {
	t.Helper()
	tool(t, "java", "a JDK (17 or later)")
	tool(t, "javac", "a JDK (17 or later)")
	tool(t, "mvn", "Maven")
}

func sourceDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// cached returns the directory of that name in the cache and fills it first if
// it is not there. The filling happens beside it and is renamed at its end, under
// a lock, so that an interrupted or a concurrent run leaves no half directory.
func cached(t testing.TB, name string, fill func(dir string) error) string {
	t.Helper()
	root := os.Getenv("GOMQ_INTEROP_CACHE")
	if root == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatalf("no cache directory (%v); set GOMQ_INTEROP_CACHE", err)
		}
		root = filepath.Join(user, "gomq-interop")
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, name)
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	tmp, err := os.MkdirTemp(root, name+".tmp-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	start := time.Now()
	if err := fill(tmp); err != nil {
		var fetch *fetchError
		if errors.As(err, &fetch) {
			missing(t, "cannot fetch %s: %v", name, err)
		}
		t.Fatalf("%s: %v", name, err)
	}
	t.Logf("fetched %s in %.1f s", name, time.Since(start).Seconds())
	if err := os.Rename(tmp, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fetchError says that something could not be downloaded; it is the machine's
// or the network's fault and no failure of the product.
type fetchError struct{ err error }

func (e *fetchError) Error() string { return e.err.Error() }

// fetch runs a package tool in a directory.
func fetch(dir, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), downloadLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		const most = 500
		if len(out) > most {
			out = out[len(out)-most:]
		}
		return &fetchError{fmt.Errorf("%s: %w: %s", name, err, strings.Join(strings.Fields(string(out)), " "))}
	}
	return nil
}

// jars returns the directory with the jars of a version: the set "client" (with
// the administration client) or "server" (nameserver and broker).
func jars(t testing.TB, set, version string) string {
	t.Helper()
	needJava(t)
	return cached(t, "java-"+set+"-"+version, func(dir string) error {
		err := fetch(dir, "mvn", "-q", "-B", "-f", filepath.Join(sourceDir(), "java", "pom.xml"), "dependency:copy-dependencies",
			"-P", set, "-Drocketmq.version="+version, "-DoutputDirectory="+dir)
		if err != nil {
			return err
		}
		want := map[string]string{"client": "client", "server": "broker"}[set]
		_, err = os.Stat(filepath.Join(dir, "rocketmq-"+want+"-"+version+".jar"))
		return err
	})
}

// classes returns the directory with the driver's classes, compiled against the
// jars of that client version.
func classes(t testing.TB, version string) string {
	t.Helper()
	lib := jars(t, "client", version)
	sources, err := filepath.Glob(filepath.Join(sourceDir(), "java", "driver", "gomq", "interop", "*.java"))
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources of the driver (%v)", err)
	}
	sources = slices.DeleteFunc(sources, func(s string) bool {
		switch filepath.Base(s) {
		case "LitePulling.java", "Requesting.java":
			return !hasLite(version)
		case "Asking5.java":
			return !strings.HasPrefix(version, "5.")
		}
		return false
	})
	return compiled(t, "java-classes-"+version, lib, sources)
}

// compiled returns the directory with the classes of sources, compiled against the
// jars of lib. Its name is kept apart by what the sources say.
func compiled(t testing.TB, name, lib string, sources []string) string {
	t.Helper()
	var all []byte
	for _, s := range sources {
		text, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	return cached(t, name+"-"+digest(all), func(dir string) error {
		args := append([]string{"-nowarn", "-proc:none", "-d", dir, "-cp", lib + "/*"}, sources...)
		if out, err := exec.Command("javac", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("javac: %w\n%s", err, out)
		}
		return nil
	})
}

// hasLite says whether the client version has the lite pull consumer and requests
// with replies (since 4.6.0).
func hasLite(version string) bool { return !strings.HasPrefix(version, "4.5.") }

// digest is a short name for content.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

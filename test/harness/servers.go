package harness

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// bootLimit is how long a server may take from exec to its boot line. It is
// generous because other work may share the machine; a virtual machine that
// warms up needs the most.
const bootLimit = 180 * time.Second

// Kind is the implementation under test: "gomq" or "java".
func Kind() string {
	if k := os.Getenv("GOMQ_TEST_SERVER"); k != "" {
		return k
	}
	return "gomq"
}

// OnlyGomq skips a test that speaks of something the originals do not have.
func OnlyGomq(t testing.TB) {
	t.Helper()
	if Kind() != "gomq" {
		Skip(t, "only for gomq")
	}
}

// Config says how to start a server. The zero value is a plain one.
type Config struct {
	Kind  string            // "" = Kind()
	Bin   string            // a gomq binary, "" = Build(t)
	Props map[string]string // put into the properties file, over the defaults
	Env   []string          // added to the environment
	Under []string          // a command to start it under, e.g. strace and its options
	Ports Ports             // zero = NewPorts
	Dir   string            // zero = Dir(t)
	Host  string            // the address that clients use, "" = 127.0.0.1
	// Exact: Props are all there is in the file.
	Exact bool
	// JavaLib is the directory with the jars of a Java original, "" = GOMQ_TEST_JAVA_LIB.
	JavaLib string
	// NoWait returns at once instead of waiting for the boot line.
	NoWait bool
}

// Server is a running nameserver or broker.
type Server struct {
	*Proc
	Config
	Role string // "namesrv", "broker" or "standalone"
	Conf string // path of its properties file
	t    testing.TB
	runs int
}

// Addr is where clients connect.
func (s *Server) Addr() string { return s.at(s.Ports.Listen) }

// VIPAddr is the broker's second port, Listen - 2.
func (s *Server) VIPAddr() string { return s.at(s.Ports.VIP) }

// HTTP is the base address of its HTTP port, e.g. http://127.0.0.1:13001.
func (s *Server) HTTP() string { return "http://" + s.at(s.Ports.HTTP) }

// Store is the broker's storePathRootDir.
func (s *Server) Store() string { return s.Props["storePathRootDir"] }

func (s *Server) at(port int) string {
	if s.Host == "" {
		return fmt.Sprintf("127.0.0.1:%d", port)
	}
	return fmt.Sprintf("%s:%d", s.Host, port)
}

// StartNamesrv starts a nameserver and waits for its boot line.
func StartNamesrv(t testing.TB, c Config) *Server {
	t.Helper()
	s := newServer(t, "namesrv", c)
	s.defaults(map[string]string{
		"listenPort":   fmt.Sprint(s.Ports.Listen),
		"kvConfigPath": filepath.Join(s.Dir, "namesrv", "kvConfig.json"),
	})
	s.Start()
	return s
}

// StartBroker starts a broker that registers with the nameservers of namesrv
// ("host:port;host:port", or "" for none) and waits for its boot line. Small
// files and loopback addresses unless Props says otherwise.
func StartBroker(t testing.TB, namesrv string, c Config) *Server {
	t.Helper()
	s := newServer(t, "broker", c)
	s.defaults(map[string]string{
		"listenPort":                 fmt.Sprint(s.Ports.Listen),
		"brokerName":                 "broker-a",
		"brokerClusterName":          "DefaultCluster",
		"brokerId":                   "0",
		"brokerIP1":                  "127.0.0.1",
		"brokerIP2":                  "127.0.0.1",
		"brokerRole":                 "ASYNC_MASTER",
		"flushDiskType":              "ASYNC_FLUSH",
		"storePathRootDir":           filepath.Join(s.Dir, "store"),
		"storePathCommitLog":         filepath.Join(s.Dir, "store", "commitlog"),
		"mappedFileSizeCommitLog":    fmt.Sprint(16 << 20),
		"mappedFileSizeConsumeQueue": fmt.Sprint(20 * 20000),
		"diskMaxUsedSpaceRatio":      "95",
		// A machine that many tests share is slow at times; refusals for that
		// are tested where they are meant.
		"waitTimeMillsInSendQueue":    "20000",
		"osPageCacheBusyTimeOutMills": "20000",
	})
	if namesrv != "" && s.Props["namesrvAddr"] == "" {
		s.Props["namesrvAddr"] = namesrv
	}
	s.Start()
	return s
}

// StartPair starts a nameserver and one broker registered with it.
func StartPair(t testing.TB, c Config) (ns, broker *Server) {
	t.Helper()
	ns = StartNamesrv(t, Config{Kind: c.Kind, Bin: c.Bin})
	return ns, StartBroker(t, ns.Addr(), c)
}

func newServer(t testing.TB, role string, c Config) *Server {
	t.Helper()
	if c.Kind == "" {
		c.Kind = Kind()
	}
	if c.Kind == "gomq" && c.Bin == "" {
		c.Bin = Build(t)
	}
	if c.Ports == (Ports{}) {
		c.Ports = NewPorts(t)
	}
	if c.Dir == "" {
		c.Dir = Dir(t)
	}
	return &Server{Config: c, Role: role, t: t}
}

// defaults fills what the test did not set; a value of "-" leaves the key out.
func (s *Server) defaults(m map[string]string) {
	if s.Exact {
		return
	}
	if s.Kind == "gomq" {
		m["httpPort"] = fmt.Sprint(s.Ports.HTTP)
	}
	maps.Copy(m, s.Props)
	s.Props = m
}

// Start starts the server again with its present Config, after it has ended.
// Props may be changed in between.
func (s *Server) Start() {
	s.t.Helper()
	if s.Proc != nil && s.Running() {
		s.t.Fatalf("%s is started while it runs", s.Name)
	}
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s.Props)) {
		if v := s.Props[k]; v != "-" {
			fmt.Fprintf(&text, "%s=%s\n", k, v)
		}
	}
	s.Conf = filepath.Join(s.Dir, s.Role+".properties")
	if err := os.WriteFile(s.Conf, []byte(text.String()), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.runs++
	spec := Spec{Name: fmt.Sprintf("%s-%d", s.Role, s.runs), Dir: s.Dir, Env: s.Env}
	switch s.Kind {
	case "gomq":
		spec.Path, spec.Args = s.Bin, []string{s.Role, "-c", s.Conf}
	case "java":
		s.java(&spec)
	default:
		s.t.Fatalf("no server of kind %q", s.Kind)
	}
	if len(s.Under) > 0 {
		spec.Args = append(append(slices.Clone(s.Under[1:]), spec.Path), spec.Args...)
		spec.Path = s.Under[0]
	}
	s.Proc = Start(s.t, spec)
	if !s.NoWait {
		s.WaitBoot()
	}
}

// Restart stops the server with SIGTERM, fails the test unless it exits with
// status 0 (143 is what Java gives), and starts it again.
func (s *Server) Restart() {
	s.t.Helper()
	code := s.Stop()
	if want := 0; s.Kind == "java" {
		want = 143
		if code != want {
			s.t.Fatalf("%s: exit code %d after SIGTERM\n%s", s.Name, code, s.Log())
		}
	} else if code != want {
		s.t.Fatalf("%s: exit code %d after SIGTERM\n%s", s.Name, code, s.Log())
	}
	s.Start()
}

// WaitBoot waits for the line with which the server says that it serves.
func (s *Server) WaitBoot() {
	s.t.Helper()
	switch s.Role {
	case "namesrv":
		s.WaitLine(`^The Name Server boot success\.`, bootLimit)
	case "broker":
		s.WaitLine(`^The broker\[.*\] boot success\.`, bootLimit)
	}
}

// Reachable says whether something accepts connections at the address.
func Reachable(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

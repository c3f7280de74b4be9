package harness

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Seed is the cluster of conf/2m-2s-sync: two hosts with a nameserver, a master
// and the slave of the other host's master each. Its files are used as they are but
// for addresses, ports and directories.
type Seed struct {
	Names   [2]*Server // nameservers, by host
	Masters [2]*Server // broker-a on host 0, broker-b on host 1
	Slaves  [2]*Server // of broker-a, on host 1, and of broker-b, on host 0
	Namesrv string     // of both, as clients are given it
	Hosts   [2]string
}

// SeedConfig says how a Seed is started. The zero value is the user's, on gomq.
type SeedConfig struct {
	Hosts   [2]string // addresses of this machine; zero: 127.0.0.2 and 127.0.0.3
	Kind    string    // of all servers at first, "" = Kind()
	JavaLib string
	// Props are put into the brokers' files.
	Props map[string]string
}

// StartSeed starts all six and waits for their boot lines.
func StartSeed(t testing.TB, how SeedConfig) *Seed {
	t.Helper()
	c := newSeed(t, how)
	together(c.Names[0], c.Names[1])
	together(c.Masters[0], c.Masters[1], c.Slaves[0], c.Slaves[1])
	return c
}

// together starts servers and then waits for all of their boot lines.
func together(servers ...*Server) {
	for _, s := range servers {
		s.NoWait = true
		s.Start()
	}
	for _, s := range servers {
		s.WaitBoot()
		s.NoWait = false
	}
}

func newSeed(t testing.TB, how SeedConfig) *Seed {
	t.Helper()
	if how.Hosts == [2]string{} {
		how.Hosts = [2]string{"127.0.0.2", "127.0.0.3"}
	}
	c := &Seed{Hosts: how.Hosts}
	for i, host := range c.Hosts {
		s := newServer(t, "namesrv", Config{Kind: how.Kind, JavaLib: how.JavaLib, Host: host, Exact: true})
		s.Props = map[string]string{"listenHost": host, "httpHost": host, "listenPort": strconv.Itoa(s.Ports.Listen), "httpPort": strconv.Itoa(s.Ports.HTTP),
			"kvConfigPath": filepath.Join(s.Dir, "kvConfig.json")}
		c.Names[i] = s
	}
	c.Namesrv = c.Names[0].Addr() + ";" + c.Names[1].Addr()
	for i, set := range []string{"broker-a", "broker-b"} {
		c.Masters[i] = c.broker(t, set, c.Hosts[i], how)
		c.Slaves[i] = c.broker(t, set+"-s", c.Hosts[1-i], how)
	}
	return c
}

// broker is one of the user's brokers on a host of this machine.
func (c *Seed) broker(t testing.TB, file, host string, how SeedConfig) *Server {
	t.Helper()
	s := newServer(t, "broker", Config{Kind: how.Kind, JavaLib: how.JavaLib, Host: host, Exact: true})
	s.Props = readProps(t, filepath.Join(Tree(), "conf", "2m-2s-sync", file+".properties"))
	for k, v := range s.Props {
		if strings.HasPrefix(v, "/rocketmq/") {
			s.Props[k] = s.Dir + v
		}
	}
	for k, v := range map[string]string{"namesrvAddr": c.Namesrv, "listenPort": strconv.Itoa(s.Ports.Listen), "httpPort": strconv.Itoa(s.Ports.HTTP),
		"listenHost": host, "httpHost": host, "brokerIP1": host, "brokerIP2": host} {
		s.Props[k] = v
	}
	maps.Copy(s.Props, how.Props)
	return s
}

// readProps reads a properties file of plain key=value lines.
func readProps(t testing.TB, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	props := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if k, v, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			props[k] = v
		}
	}
	return props
}

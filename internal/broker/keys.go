package broker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"gomq/internal/broker/delay"
	"gomq/internal/config"
	"gomq/internal/role"
)

// Keys returns the table of a broker's keys, bound to o. It changes nothing in
// o. The keys, their defaults and marks are those of RocketMQ 4.9.8 (config.md
// sections 5-7); those with gomq in their description are gomq's own.
func Keys(o *Options) *config.Table {
	return config.NewTable("the broker",
		identityKeys(o), listenKeys(o), o.LogKeys(isolateLog), topicKeys(o), storageKeys(o), flushKeys(o), retentionKeys(o),
		replicationKeys(o), sendKeys(o), pullKeys(o), transactionKeys(o), securityKeys(o), o.TLSKeys(true), limitKeys(o),
		lanesOfJava(), storeOfJava(), networkOfJava(), laterVersions())
}

// DefaultOptions returns what a broker has without a file, a flag and an
// environment. Names, addresses and paths come from the machine.
func DefaultOptions() Options { return role.Default(Keys) }

// LoadOptions makes options of the defaults, the environment (getenv may be
// nil), the properties file (empty: none) and the flags, later ones winning. The
// problems are what there is to say; an error means that some are fatal or the
// file cannot be read.
func LoadOptions(file string, flags []config.Flag, getenv func(string) string) (Options, []config.Problem, error) {
	return role.Load(Keys, file, flags, getenv)
}

// NewLive makes the changeable configuration of a running broker.
func NewLive(o Options) *config.Live[Options] { return role.NewLive(o, Keys) }

// Finish derives what follows from other keys (config.md section 1, "forced
// after loading") and checks what one key alone cannot show.
func (o *Options) Finish(file string) []config.Problem {
	var problems []config.Problem
	say := func(level config.Level, key, value, text string) {
		problems = append(problems, config.Problem{Level: level, File: file, Line: o.Source.Line(key), Key: key, Value: value, Text: text})
	}
	if o.BrokerRole == Slave {
		if o.BrokerID <= 0 {
			say(config.Fatal, "brokerId", strconv.FormatInt(o.BrokerID, 10), "Slave's brokerId must be > 0")
		}
	} else if o.BrokerID != 0 {
		say(config.Warning, "brokerId", strconv.FormatInt(o.BrokerID, 10), "is taken as 0, because brokerRole="+string(o.BrokerRole)+" makes it a master")
		o.BrokerID = 0
	}
	if want := o.ListenPort + 1; o.HAListenPort != want {
		if o.HAListenPort != 0 {
			say(config.Warning, "haListenPort", strconv.Itoa(o.HAListenPort), fmt.Sprintf("is always listenPort+1 as in RocketMQ 4.9, here %d", want))
		}
		o.HAListenPort = want
	}
	o.FastListenPort = o.ListenPort - 2
	problems = append(problems, o.FinishHTTP(file, o.FastListenPort, o.ListenPort, o.HAListenPort)...)
	if n := o.MappedFileSizeConsumeQueue % 20; n != 0 {
		o.MappedFileSizeConsumeQueue += 20 - n
	}
	return problems
}

func hostName() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "DEFAULT_BROKER"
}

// homeStore is Java's ${user.home}/store: the home of the passwd entry, not of
// the variable HOME.
func homeStore() string {
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		return filepath.Join(u.HomeDir, "store")
	}
	return "store"
}

// localAddress is the address a broker registers when none is set: the first
// IPv4 that is neither loopback nor 192.168, else the last IPv4, else the first
// IPv6 (config.md section 2). Hosts with several networks need brokerIP1.
func localAddress() string {
	last, v6 := "", ""
	faces, _ := net.Interfaces()
	for _, face := range faces {
		if face.Flags&net.FlagUp == 0 || strings.HasPrefix(face.Name, "docker") || strings.HasPrefix(face.Name, "br-") || strings.HasPrefix(face.Name, "virbr") {
			continue
		}
		addrs, _ := face.Addrs()
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() {
				continue
			}
			switch ip := p.Addr().String(); {
			case p.Addr().Is4() && !strings.HasPrefix(ip, "192.168"):
				return ip
			case p.Addr().Is4():
				last = ip
			case v6 == "":
				v6 = ip
			}
		}
	}
	switch {
	case last != "":
		return last
	case v6 != "":
		return v6
	}
	return "127.0.0.1"
}

func checkNamesrv(value string) error {
	if value == "" {
		return nil
	}
	bad := fmt.Errorf("The Name Server Address[%s] illegal, please set it as follows, \"127.0.0.1:9876;192.168.0.1:9876\"", value) //nolint // the text that scripts know
	for _, a := range strings.Split(strings.TrimRight(value, ";"), ";") {
		if checkHostPort(a) != nil {
			return bad
		}
	}
	return nil
}

func checkHostPort(value string) error {
	if value == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(value)
	if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 1 || n > 65535 || host == "" || strings.ContainsAny(value, " \t") {
		return errors.New("is not host:port")
	}
	return nil
}

var hour = regexp.MustCompile(`^([01]?[0-9]|2[0-3])$`)

// checkHours refuses what Java accepts and then fails on at every round of
// cleaning, so that nothing is ever deleted (config.md section 1).
func checkHours(value string) error {
	items := strings.Split(strings.TrimRight(value, ";"), ";")
	for _, h := range items {
		if !hour.MatchString(h) {
			return fmt.Errorf("must be hours of the day (00 to 23) with ; between them, for example 04 or 04;16; %q is none", h)
		}
	}
	return nil
}

func checkDelays(value string) error {
	_, err := delay.ParseLevels(value)
	return err
}

func checkPeers(value string) error {
	for _, p := range strings.Split(value, ";") {
		p = strings.TrimSpace(p)
		_, err := netip.ParseAddr(p)
		if _, perr := netip.ParsePrefix(p); p != "" && err != nil && perr != nil {
			return fmt.Errorf("must be addresses or networks with ; between them, for example 10.0.0.5;10.0.1.0/24; %q is none", p)
		}
	}
	return nil
}

// setName is what a broker's or cluster's name may be: it becomes a topic's.
var setName = regexp.MustCompile(`^[%|a-zA-Z0-9_.-]{1,127}$`)

func checkName(value string) error {
	if !setName.MatchString(value) || strings.Contains(value, "..") {
		return errors.New("must have 1 to 127 letters, digits, or characters of %|_.-")
	}
	return nil
}

func onePath(value string) error {
	if strings.Contains(value, ",") {
		return errors.New("names several paths; gomq keeps the commit log in one directory and would not see the rest of an existing log")
	}
	return nil
}

// refuseIf refuses a value whose feature gomq lacks where going on without it
// would break a promise.
func refuseIf(bad, why string) func(string) error {
	return func(value string) error {
		if strings.EqualFold(value, bad) {
			return errors.New(why)
		}
		return nil
	}
}

func refuseSet(why string) func(string) error {
	return func(value string) error {
		if value != "" {
			return errors.New(why)
		}
		return nil
	}
}

func processors(f func(cpu int) int) func() string {
	return func() string { return strconv.Itoa(f(runtime.NumCPU())) }
}

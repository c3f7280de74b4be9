// Package role is what a broker and a nameserver have in common as processes that
// are configured and listen: the keys of listening, logging and limits, how a
// file becomes options, and what those mean for the connections.
package role

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"gomq/internal/config"
	"gomq/internal/remoting"
)

// Common are the options that both roles have; each embeds them in its own. A
// field has the name of its key (docs/CONFIG.md).
type Common struct {
	TLS

	// Source is what was read to make these options: the file that an update over
	// the network rewrites and the lines of it that are not fields. nil (tests): an
	// update lives until the process stops.
	Source *config.Source

	// Listening: where clients come in.

	ListenPort                      int    // a nameserver's may be 0 (tests): the system chooses
	ListenHost                      string // address to listen on; empty: all interfaces
	HTTPHost                        string // metrics, health, pprof
	HTTPPort                        int    // 0: off
	HTTPPortConfigured              bool   // false: the default port; its being taken is a warning and not fatal
	ServerChannelMaxIdleTimeSeconds time.Duration
	ServerSocketSndBufSize          int // bytes, 0: the kernel's choice
	ServerSocketRcvBufSize          int

	// Logging: what the process says about itself.

	LogLevel  string // debug, info, warn, error
	LogFormat string // auto, console, json

	// Limits: protect the process from its clients (gomq's own keys).

	MaxConnections      int
	MaxConnectionsPerIP int // loopback exempt
	MaxRequestsInFlight int // per connection
	MaxOutboundBytes    int64
	MaxInboundBytes     int64 // all connections together
	ConfigBlackList     []string
}

// Options is a pointer to a role's options, which embed Common.
type Options[T any] interface {
	*T
	// Finish derives what follows from other keys and checks what one key alone
	// cannot show; file is for what is said about it, empty when options have been
	// changed while running.
	Finish(file string) []config.Problem
	common() *Common
}

func (o *Common) common() *Common { return o }

// Load makes options of the defaults, the environment (getenv may be nil), the
// properties file (empty: none) and the flags, later ones winning. The problems
// are what there is to say; an error means that some are fatal or the file cannot
// be read.
func Load[T any, P Options[T]](keys func(*T) *config.Table, file string, flags []config.Flag, getenv func(string) string) (T, []config.Problem, error) {
	return load[T, P](keys, file, flags, getenv, (*Common).loadTLS)
}

// load is Load; with is what is done with the keys of both roles.
func load[T any, P Options[T]](keys func(*T) *config.Table, file string, flags []config.Flag, getenv func(string) string,
	with func(*Common, *config.Table, func(string) string) []config.Problem) (T, []config.Problem, error) {
	var o T
	t := keys(&o)
	src, problems, err := config.Load(t, file, flags, getenv)
	if err != nil {
		return o, problems, err
	}
	c := P(&o).common()
	c.Source, c.HTTPPortConfigured = src, t.Given("httpPort")
	problems = append(problems, with(c, t, getenv)...)
	problems = append(problems, P(&o).Finish(file)...)
	return o, problems, config.Refusal(problems)
}

// Default returns what a role has without a file, a flag and an environment.
// Names, addresses and paths come from the machine; no file of it is read.
func Default[T any, P Options[T]](keys func(*T) *config.Table) T {
	none := func(*Common, *config.Table, func(string) string) []config.Problem { return nil }
	o, _, err := load[T, P](keys, "", nil, nil, none)
	if err != nil {
		panic("role: the defaults of a key table are refused: " + err.Error())
	}
	return o
}

// NewLive makes the changeable configuration of a running role.
func NewLive[T any, P Options[T]](o T, keys func(*T) *config.Table) *config.Live[T] {
	l := config.NewLive(o, P(&o).common().Source, keys, func(o *T) error { return config.Refusal(P(o).Finish("")) })
	l.Forbid(func(o *T) []string { return P(o).common().ConfigBlackList })
	return l
}

// FinishHTTP gives the HTTP port its default and refuses one that is needed for
// the ports that the role listens on.
func (o *Common) FinishHTTP(file string, taken ...int) []config.Problem {
	say := func(level config.Level, value, text string) []config.Problem {
		return []config.Problem{{Level: level, File: file, Line: o.Source.Line("httpPort"), Key: "httpPort", Value: value, Text: text}}
	}
	if o.HTTPPort < 0 {
		if o.HTTPPort = o.ListenPort + 20000; o.HTTPPort > 65535 {
			o.HTTPPort = 0
			return say(config.Note, "", fmt.Sprintf("listenPort=%d leaves no default port for metrics and health; set httpPort", o.ListenPort))
		}
	}
	if o.HTTPPort != 0 && slices.Contains(taken, o.HTTPPort) {
		return say(config.Fatal, strconv.Itoa(o.HTTPPort), "is needed for listenPort, which takes "+strings.Trim(fmt.Sprint(taken), "[]"))
	}
	return nil
}

// Door is how the role's first port is opened and what its connections may take.
// The error is a file of a certificate that cannot be used.
func (o *Common) Door(log *zap.Logger, m *remoting.Metrics) (remoting.Options, error) {
	t, err := o.serveTLS(log)
	return remoting.Options{
		Addr:     net.JoinHostPort(o.ListenHost, strconv.Itoa(o.ListenPort)),
		MaxConns: o.MaxConnections, MaxConnsPerIP: o.MaxConnectionsPerIP, MaxInFlight: o.MaxRequestsInFlight,
		MaxOutbound: int(o.MaxOutboundBytes), MaxInbound: o.MaxInboundBytes, IdleTimeout: o.ServerChannelMaxIdleTimeSeconds,
		SendBuffer: o.ServerSocketSndBufSize, ReceiveBuffer: o.ServerSocketRcvBufSize,
		TLS: t, Log: log, Metrics: m,
	}, err
}

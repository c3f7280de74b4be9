package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"gomq/internal/broker"
)

func brokerCommand() *cobra.Command {
	var f roleFlags
	c := &cobra.Command{
		Use:   "broker [-c FILE]",
		Short: "Run a broker",
		Long: `Run a broker until SIGTERM or SIGINT: it then leaves the nameservers, answers
what is in flight, flushes and exits with status 0. A second signal ends it at
once; what was acknowledged under SYNC_FLUSH is safe all the same.

The options are those of mqbroker and the file is RocketMQ's properties file;
'gomq config check FILE' says what it means here. Logs go to stderr.`,
		Example: `  gomq broker -n 127.0.0.1:9876
  gomq broker -c conf/2m-2s-sync/broker-a.properties
  gomq broker -c broker.properties -m
  NAMESRV_ADDR="ns1:9876;ns2:9876" nohup gomq broker -c broker.properties 2>> broker.log &`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, problems, err := broker.LoadOptions(f.file, f.keys(true), getenv)
			if err != nil {
				return refused(err, problems)
			}
			if done, err := f.printed(c, broker.Keys(&o)); done {
				return err
			}
			p := newProcess(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), o.LogLevel, o.LogFormat)
			defer p.close()
			say(p.log, problems)
			if p.http, err = p.serveHTTP(httpOptions{o.HTTPHost, o.HTTPPort, o.HTTPPortConfigured}); err != nil {
				return &exit{exitException, p.whyNot(err, brokerPorts(&o), o.StorePathRootDir, "storePathRootDir")}
			}
			b, err := p.startBroker(o, p.registry)
			if err != nil {
				return err
			}
			return p.end(p.serve(c.Context(), b))
		},
	}
	f.add(c, true)
	return c
}

func brokerPorts(o *broker.Options) []portUse {
	return []portUse{{o.ListenPort, "listenPort"}, {o.FastListenPort, "listenPort-2, the VIP port"}, {o.HAListenPort, "listenPort+1, the replication port"}, {o.HTTPPort, "httpPort"}}
}

// startBroker starts a broker and says so as scripts expect it.
func (p *process) startBroker(o broker.Options, reg prometheus.Registerer) (*broker.Broker, error) {
	p.log.Info("starting the broker", zap.String("version", buildInfo().Version), zap.String("name", o.BrokerName), zap.String("cluster", o.BrokerClusterName),
		zap.String("role", string(o.BrokerRole)), zap.String("flush", string(o.FlushDiskType)), zap.String("store", o.StorePathRootDir))
	live := broker.NewLive(o)
	live.OnUpdate(func(o *broker.Options) { setLevel(p.level, o.LogLevel) })
	b, err := broker.Start(p.group.Context(), live, p.log, reg)
	if err != nil {
		return nil, &exit{startStatus(err), p.whyNot(err, brokerPorts(&o), o.StorePathRootDir, "storePathRootDir")}
	}
	_, port, _ := net.SplitHostPort(b.Addr())
	addr := net.JoinHostPort(o.BrokerIP1, port)
	line := fmt.Sprintf("The broker[%s, %s] boot success. serializeType=JSON", o.BrokerName, addr)
	if len(o.NamesrvAddr) > 0 {
		line += " and name server is " + strings.Join(o.NamesrvAddr, ";")
	}
	fmt.Fprintln(p.stdout, line)
	p.log.Info("the broker serves", zap.String("listen", b.Addr()), zap.String("advertised", addr), zap.Strings("namesrvAddr", o.NamesrvAddr))
	if n, err := strconv.Atoi(port); err == nil {
		p.checkAdvertised(o.BrokerIP1, n)
	}
	return b, nil
}

// startStatus is the exit status of a role that did not start: a store that does
// not load is -3 in the original, a port that is taken -1.
func startStatus(err error) int {
	if isListen(err) {
		return exitException
	}
	return exitRefused
}

// end turns what serve returned into the process's end.
func (p *process) end(err error) error {
	if err != nil {
		return &exit{exitException, err}
	}
	p.log.Info("stopped")
	return nil
}

var _ server = (*broker.Broker)(nil)

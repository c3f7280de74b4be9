package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"gomq/internal/broker"
	"gomq/internal/config"
	"gomq/internal/namesrv"
)

type standaloneFlags struct {
	data, file    string
	port, namesrv int
	level, format string
}

func standaloneCommand() *cobra.Command {
	var f standaloneFlags
	c := &cobra.Command{
		Use:   "standalone",
		Short: "Run a nameserver and a broker in this process, to try gomq",
		Long: `Run a nameserver and a broker in this process: loopback only, no configuration,
small files in one directory that is named at the start. The files are those of
any RocketMQ broker. Any RocketMQ client that is told the nameserver's address
can send and consume.`,
		Example: `  gomq standalone
  gomq standalone --data /var/tmp/try --port 11911 --namesrv-port 9877
  gomq standalone -c my.properties          # broker keys, over those of standalone`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.flags(c)
	return c
}

func (f *standaloneFlags) flags(c *cobra.Command) {
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.data, "data", "d", "gomq-data", "directory for everything that is kept")
	fs.IntVar(&f.port, "port", 10911, "the broker's port; the ones two below and one above are used too")
	fs.IntVar(&f.namesrv, "namesrv-port", 9876, "the nameserver's port")
	fs.StringVarP(&f.file, "configFile", "c", "", "properties file with broker keys")
	logFlags(c, &f.level, &f.format)
}

// brokerKeys are the broker's keys in a standalone process, without those that
// the file sets and the command line does not.
func (f *standaloneFlags) brokerKeys(c *cobra.Command, src *config.Source) []config.Flag {
	var out []config.Flag
	for _, k := range []struct{ flag, key, value string }{
		{"", "brokerName", "broker-a"}, {"", "brokerIP1", "127.0.0.1"}, {"", "brokerIP2", "127.0.0.1"}, {"", "listenHost", "127.0.0.1"},
		{"port", "listenPort", strconv.Itoa(f.port)},
		{"namesrv-port", "namesrvAddr", fmt.Sprintf("127.0.0.1:%d", f.namesrv)},
		{"data", "storePathRootDir", filepath.Join(f.data, "store")},
		{"", "mappedFileSizeCommitLog", "67108864"}, {"", "mappedFileSizeConsumeQueue", "600000"},
	} {
		given := k.flag != "" && c.Flags().Changed(k.flag)
		if _, set := src.Get(k.key); set && !given {
			continue
		}
		from := "standalone"
		if given {
			from = "--" + k.flag
		}
		out = append(out, config.Flag{From: from, Key: k.key, Value: k.value})
	}
	return append(out, logKeys(f.level, f.format)...)
}

// namesrvKeys are the nameserver's keys in a standalone process: what the file says
// of TLS is meant for both.
func (f *standaloneFlags) namesrvKeys(src *config.Source) []config.Flag {
	out := []config.Flag{
		{From: "standalone", Key: "listenHost", Value: "127.0.0.1"},
		{From: "--namesrv-port", Key: "listenPort", Value: strconv.Itoa(f.namesrv)},
		{From: "standalone", Key: "kvConfigPath", Value: filepath.Join(f.data, "namesrv", "kvConfig.json")},
		{From: "standalone", Key: "httpPort", Value: "0"},
	}
	src.Each(func(key, value string, _ int) {
		if key == "tls.server.mode" || key == "tls.config.file" || key == "tls.test.mode.enable" || strings.HasPrefix(key, "tls.server.") {
			out = append(out, config.Flag{From: f.file, Key: key, Value: value})
		}
	})
	return append(out, logKeys(f.level, f.format)...)
}

func (f *standaloneFlags) options(c *cobra.Command) (n namesrv.Options, b broker.Options, problems []config.Problem, err error) {
	if f.data, err = filepath.Abs(f.data); err != nil {
		return n, b, nil, err
	}
	var src *config.Source
	if f.file != "" {
		if src, err = config.ReadFile(f.file); err != nil {
			return n, b, nil, err
		}
	}
	if n, problems, err = namesrv.LoadOptions("", f.namesrvKeys(src), getenv); err != nil {
		return n, b, problems, err
	}
	b, more, err := broker.LoadOptions(f.file, f.brokerKeys(c, src), getenv)
	return n, b, append(problems, more...), err
}

func (f *standaloneFlags) run(c *cobra.Command) error {
	n, o, problems, err := f.options(c)
	if err != nil {
		return refused(err, problems)
	}
	p := newProcess(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), o.LogLevel, o.LogFormat)
	defer p.close()
	say(p.log, problems)
	if err := os.MkdirAll(f.data, 0o700); err != nil {
		return &exit{exitException, p.whyNot(err, nil, f.data, "--data")}
	}
	if p.http, err = p.serveHTTP(httpOptions{o.HTTPHost, o.HTTPPort, o.HTTPPortConfigured}); err != nil {
		return &exit{exitException, p.whyNot(err, brokerPorts(&o), f.data, "--data")}
	}
	p.options = map[string]string{"listenPort": "--namesrv-port", "kvConfigPath": "--data"}
	ns, err := p.startNamesrv(n, prometheus.WrapRegistererWith(prometheus.Labels{"part": "namesrv"}, p.registry))
	if err != nil {
		return err
	}
	p.options = map[string]string{"listenPort": "--port", "storePathRootDir": "--data"}
	b, err := p.startBroker(o, prometheus.WrapRegistererWith(prometheus.Labels{"part": "broker"}, p.registry))
	if err != nil {
		return p.withStop(err, ns)
	}
	f.welcome(c.ErrOrStderr(), o, p.http != nil)
	return p.end(p.serve(c.Context(), ns, b))
}

func (p *process) withStop(err error, s ...server) error {
	if stopErr := p.stop(s); stopErr != nil {
		p.log.Warn(stopErr.Error())
	}
	return err
}

// welcome says where everything is and how to go on.
func (f *standaloneFlags) welcome(w io.Writer, o broker.Options, metrics bool) {
	fmt.Fprintf(w, `
  nameserver   127.0.0.1:%d      what clients are configured with
  broker       127.0.0.1:%d
  data         %s
`, f.namesrv, o.ListenPort, f.data)
	if metrics {
		fmt.Fprintf(w, "  metrics      http://%s:%d/metrics\n", o.HTTPHost, o.HTTPPort)
	}
	fmt.Fprintf(w, `
First messages, in another terminal:
  gomq bench send --time 2s --addr 127.0.0.1:%d
or with an official client: set its nameserver to 127.0.0.1:%d (README.md has
programs in Go and Java to paste). Ctrl-C stops; the data stays.

`, o.ListenPort, f.namesrv)
}

package main

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"gomq/internal/namesrv"
)

func namesrvCommand() *cobra.Command {
	var f roleFlags
	c := &cobra.Command{
		Use:   "namesrv [-c FILE]",
		Short: "Run a nameserver",
		Long: `Run a nameserver until SIGTERM or SIGINT. Brokers register with every
nameserver and clients ask any of them where a topic is; a nameserver keeps
nothing on disk but the KV configuration, so run two or three side by side.

The options are those of mqnamesrv. Logs go to stderr.`,
		Example: `  gomq namesrv
  gomq namesrv -c conf/namesrv.conf
  nohup gomq namesrv 2>> namesrv.log &`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o, problems, err := namesrv.LoadOptions(f.file, f.keys(false), getenv)
			if err != nil {
				return refused(err, problems)
			}
			if f.file != "" {
				fmt.Fprintf(c.OutOrStdout(), "load config properties file OK, %s\n", f.file)
			}
			if done, err := f.printed(c, namesrv.Keys(&o)); done {
				return err
			}
			p := newProcess(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), o.LogLevel, o.LogFormat)
			defer p.close()
			say(p.log, problems)
			if p.http, err = p.serveHTTP(httpOptions{o.HTTPHost, o.HTTPPort, o.HTTPPortConfigured}); err != nil {
				return &exit{exitException, p.whyNot(err, namesrvPorts(&o), o.KVConfigPath, "kvConfigPath")}
			}
			s, err := p.startNamesrv(o, p.registry)
			if err != nil {
				return err
			}
			return p.end(p.serve(c.Context(), s))
		},
	}
	f.add(c, false)
	return c
}

func namesrvPorts(o *namesrv.Options) []portUse {
	return []portUse{{o.ListenPort, "listenPort"}, {o.HTTPPort, "httpPort"}}
}

// startNamesrv starts a nameserver and says so as scripts expect it.
func (p *process) startNamesrv(o namesrv.Options, reg prometheus.Registerer) (*namesrv.Server, error) {
	p.log.Info("starting the nameserver", zap.String("version", buildInfo().Version), zap.String("kvConfigPath", o.KVConfigPath))
	live := namesrv.NewLive(o)
	live.OnUpdate(func(o *namesrv.Options) { setLevel(p.level, o.LogLevel) })
	s, err := namesrv.Start(p.group.Context(), live, p.log, reg)
	if err != nil {
		return nil, &exit{startStatus(err), p.whyNot(err, namesrvPorts(&o), o.KVConfigPath, "kvConfigPath")}
	}
	fmt.Fprintln(p.stdout, "The Name Server boot success. serializeType=JSON")
	p.log.Info("the nameserver serves", zap.String("listen", s.Addr()))
	return s, nil
}

var _ server = (*namesrv.Server)(nil)

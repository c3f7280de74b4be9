package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gomq/internal/bench"
	"gomq/internal/protocol"
)

// benchCommand is `gomq bench`: the load generator.
func benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Load a broker and measure it",
		Long: `Load a broker and measure messages a second, latency and, with --pid, the
broker's processor time a message. Any broker that speaks RocketMQ's remoting
protocol can be at the other end.

The shape of a load is CONNECTIONS x IN FLIGHT: 64 x 1 is 64 clients that wait
for each answer, 1 x 64 --each is one client with 64 sending threads, 8 x 32 is
the most that a machine can do.`,
	}
	c.AddCommand(
		benchVerb("send", "Send messages and wait for the answers", `  gomq bench send                                     # 8 x 32, 1 KiB bodies, 10 s, 127.0.0.1:10911
  gomq bench send --conns 1 --depth 64 --each --pid $(pgrep -f 'gomq broker')
  gomq bench send --rate 20000 -o json                # latency at a fixed rate`, bench.Send),
		benchVerb("pull", "Read what a topic holds, again and again", `  gomq bench send && gomq bench pull --conns 1 --depth 8
  gomq bench pull --sql "TAGS = 'TagB'"                # nothing matches`, bench.Pull),
		benchVerb("e2e", "Measure the way from a producer to a waiting consumer", `  gomq bench e2e --rate 500 --conns 4`, bench.EndToEnd),
	)
	return c
}

func benchVerb(name, short, example string, run func(context.Context, bench.Options) (bench.Result, error)) *cobra.Command {
	o := bench.Options{}
	binary, output := false, "table"
	c := &cobra.Command{
		Use: name, Short: short, Example: example, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if binary {
				o.Codec = protocol.Binary
			}
			if output != "table" && output != "json" {
				return fmt.Errorf("-o %s: table and json are possible", output)
			}
			if output == "table" {
				fmt.Fprintf(os.Stderr, "%s against %s: %d x %d, %v and then %v measured\n", name, o.Addr, o.Conns, o.Depth, o.Warm, o.Time)
			}
			r, err := run(c.Context(), o)
			if err != nil {
				return err
			}
			if output == "json" {
				return bench.WriteJSON(c.OutOrStdout(), r)
			}
			return bench.WriteTable(c.OutOrStdout(), r)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.Addr, "addr", "a", "127.0.0.1:10911", "the broker, host:port")
	f.StringVarP(&o.Topic, "topic", "t", "BenchTopic", "topic; sends create it where the broker allows that")
	f.StringVarP(&o.Group, "group", "g", "BenchGroup", "group of the producer or consumer")
	f.IntVar(&o.Queues, "queues", 4, "queues of the topic to use")
	conns, depth := 8, 32
	switch name {
	case "pull":
		conns, depth = 1, 8
	case "e2e":
		conns, depth = 1, 1
	}
	f.IntVar(&o.Conns, "conns", conns, "connections")
	f.IntVar(&o.Depth, "depth", depth, "requests in flight on each connection")
	f.BoolVar(&o.Each, "each", false, "one write call a request, as real clients do")
	f.BoolVar(&binary, "binary", false, "headers in the binary encoding instead of JSON")
	f.IntVar(&o.Size, "size", 1024, "bytes of a body")
	f.Float64Var(&o.Rate, "rate", 0, "requests a second over all connections; 0 = as fast as the answers come (e2e: 1000)")
	f.IntVar(&o.Batch, "batch", 32, "messages a pull asks for")
	if name == "pull" {
		f.StringVar(&o.SQL, "sql", "", "an SQL92 expression to pull by; then the messages that the broker looks at are counted (enablePropertyFilter=true)")
	}
	f.DurationVar(&o.Warm, "warm", time.Second, "time before the measurement")
	f.DurationVar(&o.Time, "time", 10*time.Second, "time measured")
	f.IntVar(&o.PID, "pid", 0, "the broker's process on this machine, for its CPU and memory")
	f.IntVar(&o.CPU, "cpu", -1, "keep the generator on this processor")
	f.BoolVar(&o.Refuse, "allow-refusals", false, "count answers other than success instead of ending")
	f.StringVarP(&output, "output", "o", "table", "table or json")
	return c
}

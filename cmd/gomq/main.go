// Command gomq is Apache RocketMQ's nameserver and broker in one binary, with
// the tools around them: `gomq help` lists the roles.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// Exit statuses, as scripts around the original know them (config.md section 2).
const (
	exitUsage     = 1   // an option that does not exist, a check that found something
	exitException = 255 // Java's -1: a missing file, a port in use, a failure while running
	exitRefused   = 253 // Java's -3: a bad nameserver address or slave id, a store that does not load
)

// exit is an error with the status that the process ends with. A nil error says
// nothing more: what there is to say has been said.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program with its surroundings as arguments; it returns the exit
// status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand()
	parsed := false
	root.PersistentPreRun = func(*cobra.Command, []string) { parsed = true }
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var e *exit
	if errors.As(err, &e) {
		if e.err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", command.CommandPath(), e.err)
		}
		return e.code
	}
	if parsed {
		fmt.Fprintf(stderr, "%s: %v\n", command.CommandPath(), err)
		return exitUsage
	}
	// What cobra refuses: an unknown command or option, a missing argument. The
	// original prints its help then, so this does too.
	fmt.Fprintf(stderr, "%s: %v\n\n%s", command.CommandPath(), err, command.UsageString())
	return exitUsage
}

func rootCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "gomq",
		Short: "Apache RocketMQ's nameserver and broker in one binary",
		Long: `gomq serves RocketMQ's clients: nameserver and broker in one static binary, on
RocketMQ's files and with RocketMQ's configuration.

  gomq standalone            try it: both roles in this process, no configuration
  gomq namesrv               a nameserver
  gomq broker -c FILE        a broker with RocketMQ's properties file
  gomq config check FILE     what a properties file means here, before it is used
  gomq cluster status -n NS  who is there, who copies whom, what is wrong`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.CompletionOptions.DisableDefaultCmd = true
	c.AddCommand(namesrvCommand(), brokerCommand(), standaloneCommand(), configCommand(), clusterCommand(), storeCommand(), benchCommand(), versionCommand())
	return c
}

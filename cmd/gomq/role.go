package main

import (
	"os"

	"github.com/spf13/cobra"

	"gomq/internal/config"
)

// roleFlags are the options of `gomq broker` and `gomq namesrv`: those of
// mqbroker and mqnamesrv, and the log's.
type roleFlags struct {
	file, namesrv      string
	printAll, printKey bool
	level, format      string
}

func (f *roleFlags) add(c *cobra.Command, important bool) {
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.file, "configFile", "c", "", "properties file; updates over the network are written back to it")
	fs.StringVarP(&f.namesrv, "namesrvAddr", "n", "", "nameservers, host:port with ; between them; wins over namesrvAddr of the file")
	fs.BoolVarP(&f.printAll, "printConfigItem", "p", false, "print all keys with the values in effect, and exit")
	if important {
		fs.BoolVarP(&f.printKey, "printImportantConfig", "m", false, "print the important ones only, and exit")
	}
	logFlags(c, &f.level, &f.format)
}

func logFlags(c *cobra.Command, level, format *string) {
	c.Flags().StringVar(level, "log-level", "", "debug, info, warn or error (key logLevel)")
	c.Flags().StringVar(format, "log-format", "", "auto, console or json (key logFormat); auto is console on a terminal and json otherwise")
}

// keys are the flags as keys of the role's table; withNamesrv is false for the
// nameserver, which accepts -n and does nothing with it, as the original.
func (f *roleFlags) keys(withNamesrv bool) []config.Flag {
	var out []config.Flag
	if f.namesrv != "" && withNamesrv {
		out = append(out, config.Flag{From: "-n", Key: "namesrvAddr", Value: f.namesrv})
	}
	return append(out, logKeys(f.level, f.format)...)
}

func logKeys(level, format string) []config.Flag {
	var out []config.Flag
	if level != "" {
		out = append(out, config.Flag{From: "--log-level", Key: "logLevel", Value: level})
	}
	if format != "" {
		out = append(out, config.Flag{From: "--log-format", Key: "logFormat", Value: format})
	}
	return out
}

// refused is the exit of a configuration that may not be used: what the original
// checks itself has its status, everything else is an exception there.
func refused(err error, problems []config.Problem) error {
	code := exitException
	for _, p := range problems {
		if p.Level == config.Fatal && (p.Key == "namesrvAddr" || p.Key == "brokerId") {
			code = exitRefused
		}
	}
	return &exit{code: code, err: err}
}

// printed is what -p and -m do.
func (f *roleFlags) printed(c *cobra.Command, t *config.Table) (done bool, err error) {
	if !f.printAll && !f.printKey {
		return false, nil
	}
	return true, t.Print(c.OutOrStdout(), !f.printAll)
}

func getenv(name string) string { return os.Getenv(name) }

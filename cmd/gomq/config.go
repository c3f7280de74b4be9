package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gomq/internal/broker"
	"gomq/internal/config"
	"gomq/internal/namesrv"
)

// keyRole is one role's keys as the config commands see them.
type keyRole struct {
	name string
	load func(file string, flags []config.Flag, getenv func(string) string) (*config.Table, []config.Problem, error)
}

func keyRoles() []keyRole {
	return []keyRole{
		{"broker", func(file string, flags []config.Flag, getenv func(string) string) (*config.Table, []config.Problem, error) {
			o, problems, err := broker.LoadOptions(file, flags, getenv)
			return broker.Keys(&o), problems, err
		}},
		{"namesrv", func(file string, flags []config.Flag, getenv func(string) string) (*config.Table, []config.Problem, error) {
			o, problems, err := namesrv.LoadOptions(file, flags, getenv)
			return namesrv.Keys(&o), problems, err
		}},
	}
}

// roleNamed returns the role of that name; "auto" is the one that knows more of
// the file's keys. When that does not decide it is the broker, unless the file is
// named after the nameserver.
func roleNamed(name, file string) (keyRole, error) {
	roles := keyRoles()
	if name == "auto" {
		if name := strings.ToLower(filepath.Base(file)); strings.Contains(name, "namesrv") || strings.Contains(name, "nameserver") {
			slices.Reverse(roles)
		}
		best, most := roles[0], -1
		var src *config.Source
		if file != "" {
			var err error
			if src, err = config.ReadFile(file); err != nil {
				return best, err
			}
		}
		for _, r := range roles {
			t, _, _ := r.load("", nil, nil)
			n := 0
			src.Each(func(key, _ string, _ int) {
				if t.Key(key) != nil {
					n++
				}
			})
			if n > most {
				best, most = r, n
			}
		}
		return best, nil
	}
	for _, r := range roles {
		if r.name == name {
			return r, nil
		}
	}
	return keyRole{}, fmt.Errorf("--role %s: broker, namesrv and auto are possible", name)
}

func configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check a configuration file, show what is in effect, explain a key",
		Long: `Work with RocketMQ's properties files without starting anything. All of it, the
start of a role included, comes from one table of keys: docs/CONFIG.md.`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		Args: cobra.NoArgs,
	}
	c.AddCommand(configCheck(), configShow(), configExplain(), configRequests())
	return c
}

func roleFlag(c *cobra.Command, role *string) {
	c.Flags().StringVar(role, "role", "auto", "broker, namesrv, or auto: whichever knows more of the file's keys")
}

// finding is a problem as JSON.
type finding struct {
	Level   string `json:"level"`
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Text    string `json:"text"`
	Nearest string `json:"nearest,omitempty"`
}

var levelNames = [...]string{config.Note: "note", config.Warning: "warning", config.Fatal: "error"}

func findings(problems []config.Problem) (list []finding, failed bool) {
	list = []finding{}
	for _, p := range problems {
		f := finding{Level: levelNames[p.Level], Line: p.Line, Key: p.Key, Text: p.Text, Nearest: p.Near}
		if p.Unknown {
			f.Level = "error" // a start only warns of it: old files must still boot
		}
		failed = failed || f.Level == "error"
		list = append(list, f)
	}
	return list, failed
}

func configCheck() *cobra.Command {
	var role, output string
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a properties file",
		Long: `Say what is wrong with a properties file, line by line: values that do not parse,
misspelt keys with the nearest known one, keys that have no effect here, and
what would refuse to start. The status is 1 when there is an error; a misspelt
key is one here, while a start only warns of it.`,
		Example: `  gomq config check conf/2m-2s-sync/broker-a.properties
  gomq config check /etc/rocketmq/namesrv.conf --role namesrv -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			asJSON, err := wantsJSON(output)
			if err != nil {
				return err
			}
			r, err := roleNamed(role, args[0])
			if err != nil {
				return err
			}
			_, problems, err := r.load(args[0], nil, nil)
			if err != nil && len(problems) == 0 {
				return err
			}
			list, failed := findings(problems)
			if asJSON {
				err = writeJSON(c.OutOrStdout(), map[string]any{"file": args[0], "role": r.name, "ok": !failed, "findings": list})
			} else {
				err = writeFindings(c.OutOrStdout(), args[0], r.name, problems, failed)
			}
			if err == nil && failed {
				err = &exit{code: exitUsage}
			}
			return err
		},
	}
	roleFlag(c, &role)
	outputFlag(c, &output)
	return c
}

func writeFindings(w io.Writer, file, role string, problems []config.Problem, failed bool) error {
	list, _ := findings(problems)
	for i, p := range problems {
		if p.File == "" {
			p.File = file
		}
		if _, err := fmt.Fprintf(w, "%-7s  %s\n", list[i].Level, p); err != nil {
			return err
		}
	}
	verdict := "can be used"
	if failed {
		verdict = "has errors"
	}
	_, err := fmt.Fprintf(w, "%s: %s as the configuration of a %s\n", file, verdict, map[string]string{"broker": "broker", "namesrv": "nameserver"}[role])
	return err
}

// shown is one key as `config show -o json` prints it.
type shown struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func configShow() *cobra.Command {
	var role, output, file string
	var important bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Print every key with the value that would be in effect",
		Long: `Print every key with the value that would be in effect for a role started here
with this file and this environment. Secrets are hidden.`,
		Example: `  gomq config show -c broker.properties
  gomq config show -c broker.properties --important
  gomq config show --role namesrv -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			asJSON, err := wantsJSON(output)
			if err != nil {
				return err
			}
			r, err := roleNamed(role, file)
			if err != nil {
				return err
			}
			t, problems, err := r.load(file, nil, getenv)
			if err != nil {
				return refused(err, problems)
			}
			if !asJSON {
				return t.Print(c.OutOrStdout(), important)
			}
			list := []shown{}
			for _, name := range t.Names() {
				if !important || t.Key(name).Important {
					list = append(list, shown{name, config.Redact(name, t.Value(name))})
				}
			}
			return writeJSON(c.OutOrStdout(), list)
		},
	}
	c.Flags().StringVarP(&file, "configFile", "c", "", "properties file")
	c.Flags().BoolVarP(&important, "important", "m", false, "the important ones only")
	roleFlag(c, &role)
	outputFlag(c, &output)
	return c
}

func configExplain() *cobra.Command {
	var role string
	c := &cobra.Command{
		Use:     "explain KEY",
		Short:   "Say what a key means, its default, its range and when it takes effect",
		Example: "  gomq config explain flushDiskType\n  gomq config explain mapedFileSizeConsumeQueue",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			nearest, known := "", false
			for _, r := range keyRoles() {
				if role != "auto" && role != r.name {
					continue
				}
				t, _, err := r.load("", nil, nil)
				if err != nil {
					return err
				}
				near, ok := t.Explain(c.OutOrStdout(), args[0])
				known = known || ok
				if nearest == "" {
					nearest = near
				}
				if ok {
					fmt.Fprintf(c.OutOrStdout(), "  role      %s\n", r.name)
				}
			}
			switch {
			case known:
				return nil
			case nearest != "":
				return fmt.Errorf("%s is no key; the nearest one is %s", args[0], nearest)
			}
			return fmt.Errorf("%s is no key; docs/CONFIG.md has all of them", args[0])
		},
	}
	roleFlag(c, &role)
	return c
}

// request is one row of what the roles answer.
type request struct {
	Role   string `json:"role"`
	Code   int32  `json:"code"`
	Name   string `json:"name"`
	Served bool   `json:"served"`
	Note   string `json:"note,omitempty"`
}

func configRequests() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "requests",
		Short: "List the request codes that brokers and nameservers answer",
		Long: `List the request codes of RocketMQ 4.9 as this gomq answers them, from the same
tables that requests are told apart by. What is not served is answered with code
3 and the reason.`,
		Example: "  gomq config requests\n  gomq config requests -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			asJSON, err := wantsJSON(output)
			if err != nil {
				return err
			}
			list := requests()
			if asJSON {
				return writeJSON(c.OutOrStdout(), list)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "ROLE\tCODE\tNAME\tSERVED\tNOTE")
			for _, r := range list {
				served := "yes"
				if !r.Served {
					served = "no"
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", r.Role, r.Code, r.Name, served, r.Note)
			}
			return errors.Join(w.Flush())
		},
	}
	outputFlag(c, &output)
	return c
}

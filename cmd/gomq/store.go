package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gomq/internal/broker"
	"gomq/internal/store"
)

func storeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "store",
		Short: "Look at the files of a broker that is not running",
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
		Args:  cobra.NoArgs,
	}
	c.AddCommand(storeVerify())
	return c
}

// mostShown bounds the problems that are printed.
const mostShown = 100

func storeVerify() *cobra.Command {
	var file, output string
	c := &cobra.Command{
		Use:   "verify [DIRECTORY]",
		Short: "Check every record, queue entry and index entry of a store",
		Long: `Read a store and hold its parts against each other: each record of the log with
its checksum and place, that every record has its entry in its queue and every
entry its record, and that the index has all keys. Nothing is changed. The store
must not be open.

The status is 0 when nothing is wrong.`,
		Example: `  gomq store verify gomq-data/store
  gomq store verify -c broker.properties     # where the file names other directories`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			asJSON, err := wantsJSON(output)
			if err != nil {
				return err
			}
			o, err := verifyOptions(file, args)
			if err != nil {
				return err
			}
			return verifyStore(c, o, asJSON)
		},
	}
	c.Flags().StringVarP(&file, "configFile", "c", "", "the broker's properties file, for its paths")
	outputFlag(c, &output)
	return c
}

func verifyOptions(file string, args []string) (store.Options, error) {
	if file == "" && len(args) == 0 {
		return store.Options{}, errors.New("name the store's directory (storePathRootDir), or the broker's file with -c")
	}
	bo, _, err := broker.LoadOptions(file, nil, nil)
	if err != nil {
		return store.Options{}, err
	}
	if len(args) == 0 {
		return broker.StoreOptions(&bo), nil
	}
	return store.Options{Root: args[0], IndexEnabled: bo.MessageIndexEnable}, nil
}

func verifyStore(c *cobra.Command, o store.Options, asJSON bool) error {
	var problems []store.Problem
	sum, err := store.Verify(c.Context(), o, func(p store.Problem) {
		if len(problems) < mostShown {
			problems = append(problems, p)
		}
	})
	if err != nil {
		return err
	}
	if asJSON {
		err = writeJSON(c.OutOrStdout(), struct {
			store.Summary
			Found []store.Problem
		}{sum, problems})
	} else {
		err = printVerified(c.OutOrStdout(), sum, problems)
	}
	if err == nil && sum.Problems > 0 {
		err = fmt.Errorf("%s: %d problems", o.Root, sum.Problems)
	}
	return err
}

func printVerified(w io.Writer, sum store.Summary, problems []store.Problem) error {
	for _, p := range problems {
		fmt.Fprintln(w, p)
	}
	if n := sum.Problems - int64(len(problems)); n > 0 {
		fmt.Fprintf(w, "and %d more\n", n)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "log\t%d to %d, %d records\n", sum.Start, sum.End, sum.Records)
	fmt.Fprintf(t, "queues\t%d, %d entries\n", sum.Queues, sum.Entries)
	fmt.Fprintf(t, "index\t%d files, %d entries\n", sum.IndexFiles, sum.IndexEntries)
	fmt.Fprintf(t, "records of topics that are gone\t%d\n", sum.Orphans)
	fmt.Fprintf(t, "closed cleanly\t%t\n", sum.Clean)
	fmt.Fprintf(t, "problems\t%d\n", sum.Problems)
	return t.Flush()
}

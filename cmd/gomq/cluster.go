package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gomq/internal/client"
	"gomq/internal/remoting"
)

func clusterCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cluster",
		Short: "Look at running clusters",
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
		Args:  cobra.NoArgs,
	}
	c.AddCommand(clusterStatus())
	return c
}

func clusterStatus() *cobra.Command {
	var namesrv, output string
	var wait time.Duration
	var secret tlsFlags
	c := &cobra.Command{
		Use:   "status -n ADDR[;ADDR]",
		Short: "Show who is there, who copies whom, and what is wrong",
		Long: `Ask every nameserver for its brokers and every broker for its figures.

  ROLE      master, or slave with its brokerId
  PUT/s     messages stored a second, over the last ten seconds; a slave stores
            what its master stores
  GET/s     messages that consumers got a second, in the same time
  LAG       what the slave has not acknowledged: bytes of the master's log, and
            messages that consumers can see. RocketMQ tells no messages, and 4.x no bytes either: there it is
            the difference of the ends of the logs
  IN SYNC   yes: the slave's acknowledgement lets a SYNC_MASTER answer SEND_OK
  LAST ACK  how long ago the slave acknowledged last; an idle slave does so every
            haSendHeartbeatInterval (5 s)

Below the table are sentences about what is not as it should be: a nameserver that
does not answer, a set without a master, a slave that does not copy, a SYNC_MASTER
that nobody copies. The status is 0 when there are none and 1 otherwise. Brokers of
RocketMQ have fewer columns.`,
		Example: `  gomq cluster status -n "10.0.0.1:9876;10.0.0.2:9876"
  gomq cluster status -n 127.0.0.1:9876 -o json
  watch gomq cluster status -n 127.0.0.1:9876`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			asJSON, err := wantsJSON(output)
			if err != nil {
				return err
			}
			if namesrv == "" {
				namesrv = getenv("NAMESRV_ADDR")
			}
			if namesrv == "" {
				return errors.New("name the nameservers with -n (or NAMESRV_ADDR), host:port with ; between them")
			}
			over, err := secret.dial()
			if err != nil {
				return err
			}
			return showCluster(c, strings.Split(namesrv, ";"), client.Options{Timeout: wait, Remoting: remoting.Options{TLS: over}}, asJSON)
		},
	}
	c.Flags().StringVarP(&namesrv, "namesrvAddr", "n", "", "nameservers, host:port with ; between them")
	c.Flags().DurationVar(&wait, "timeout", 3*time.Second, "how long one peer may take")
	secret.add(c)
	outputFlag(c, &output)
	return c
}

func showCluster(c *cobra.Command, namesrv []string, o client.Options, asJSON bool) error {
	peers := client.New(c.Context(), o)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = peers.Stop(ctx)
	}()
	k := peers.NameServers(namesrv).Cluster(c.Context())
	var err error
	if asJSON {
		err = writeJSON(c.OutOrStdout(), k)
	} else {
		err = printCluster(c.OutOrStdout(), k, time.Now())
	}
	if err == nil && len(k.Problems) > 0 {
		err = &exit{code: exitUsage}
	}
	return err
}

// printCluster prints the table and the sentences.
func printCluster(w io.Writer, k *client.Cluster, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAMESERVER\tBROKERS")
	for _, n := range k.Nameservers {
		brokers := fmt.Sprint(n.Brokers)
		if n.Error != "" {
			brokers = "no answer"
		}
		fmt.Fprintf(t, "%s\t%s\n", n.Addr, brokers)
	}
	_ = t.Flush() // what cannot be written here cannot be below
	if len(k.Sets) > 0 {
		fmt.Fprintln(t, "\nCLUSTER\tBROKER\tROLE\tADDRESS\tVERSION\tPUT/s\tGET/s\tLAG\tIN SYNC\tLAST ACK")
	}
	for _, s := range k.Sets {
		for _, b := range s.Brokers {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Cluster, s.Name, rank(&b), b.Addr, software(&b), rate(b.PutTPS), rate(b.GetTPS), copyColumns(b.Slave, now))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(k.Problems) > 0 {
		fmt.Fprintln(w)
	}
	for _, p := range k.Problems {
		fmt.Fprintf(w, "! %s\n", p)
	}
	return nil
}

func rank(b *client.Broker) string {
	if b.ID == 0 {
		return "master"
	}
	return fmt.Sprintf("slave %d", b.ID)
}

func software(b *client.Broker) string {
	switch {
	case b.Error != "":
		return "no answer"
	case b.Gomq:
		return "gomq " + b.Version
	}
	return "RocketMQ " + b.Version
}

func rate(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", *v)
}

// copyColumns are LAG, IN SYNC and LAST ACK.
func copyColumns(y *client.Copy, now time.Time) string {
	if y == nil {
		return "\t\t"
	}
	lag, sync, ack := "-", "-", "-"
	if y.LagBytes != nil {
		lag = fmt.Sprintf("%d B", *y.LagBytes)
	}
	if y.LagMessages != nil {
		lag += fmt.Sprintf(", %d msg", *y.LagMessages)
	}
	if y.InSync != nil {
		sync = map[bool]string{true: "yes", false: "no"}[*y.InSync]
	}
	if y.LastAck != nil {
		ack = max(now.Sub(*y.LastAck), 0).Round(100 * time.Millisecond).String()
	}
	return lag + "\t" + sync + "\t" + ack
}

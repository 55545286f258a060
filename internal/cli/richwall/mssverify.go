package richwall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"richwall/internal/mss"
)

type verifyOptions struct {
	mssOptions
	connections int
	span        time.Duration
	quiet       bool
}

func newVerify() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Try on a clone of this machine whether what richwall mss says is true",
		Long: `Clones this machine's network into network namespaces of its own, sends TCP connections
through the clone along each path, and shows what was measured beside what richwall mss
says. Nothing of this machine is changed, and no packet leaves it.

What is cloned: links with their names, numbers and MTUs, addresses, routes of all tables,
the routing policy, IPsec policies, settings of the kernel, and the packet filter: nftables,
both kinds of iptables, and ipset, whoever made the rules. Each link that leaves the machine
has an end in the clone, from which segments are sent and at which they are seen.

Each connection is a SYN and the SYN/ACK that answers it, over IPv4 and IPv6, in either
direction between each two paths, with each MSS at which rules may decide otherwise. The
MTU is measured with packets of several sizes, through tunnels that go over their links.

  says       what richwall mss says: yes, no, in part, not needed
  measured   yes if no segment left with more than fits; no if each did; in part;
             not seen if none came through: the packet filter has let none pass

What cannot be cloned is said. A link that needs a program or a key, such as WireGuard,
is a plain link in the clone, with its name and MTU; what it goes over is not measured.

The exit status is 0 if all that was measured is as richwall mss says, 1 if something is
not, 3 if nothing disagrees, but something could not be cloned or measured, and 2 if there
is no clone at all.`,
		Example: `  richwall mss verify
  richwall mss verify --json | jq '.paths[] | select(.disagreements)'
  richwall mss verify && echo 'it is so'`,
		Args:              words(0, 0, "no argument, only options"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.IntVar(&o.connections, "connections", 2000, "how many connections to try at most, a `NUMBER` from 1 to 20000; each path has its turn")
	f.DurationVar(&o.span, "for", time.Minute, "give up after this `TIME`, such as 30s or 5m")
	f.BoolVar(&o.quiet, "quiet", false, "do not say on standard error how far it is")
	f.BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

// mostConnections is how many may be tried.
const mostConnections = 20000

func (o *verifyOptions) run(cmd *cobra.Command) error {
	switch {
	case o.connections < 1 || o.connections > mostConnections:
		return fmt.Errorf("cannot try %d connections: say a number from 1 to %d", o.connections, mostConnections)
	case o.span <= 0:
		return fmt.Errorf("cannot end after %s: say a time such as 30s", o.span)
	}
	ctx, stop := interruptible(cmd)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.span)
	defer cancel()
	progress := newReporter(cmd.ErrOrStderr(), o.quiet)
	v, err := o.verify(ctx, progress.say)
	progress.end()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("cannot verify within %s: give more with --for, or try fewer connections with --connections", o.span)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; nothing was measured, and nothing of this machine was changed")
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("cannot verify: reading the packet filter and making network namespaces needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN): %w", err)
	case err != nil:
		return err
	}
	if o.json {
		err = printJSON(cmd.OutOrStdout(), v)
	} else {
		err = v.Text(cmd.OutOrStdout())
	}
	switch {
	case err != nil:
		return err
	case v.Disagrees:
		return exitError{status: 1}
	case !v.Whole:
		return exitError{status: 3}
	}
	return nil
}

func (o *verifyOptions) verify(ctx context.Context, say func(string)) (*mss.Verification, error) {
	machine, err := mss.Read()
	if err != nil {
		return nil, err
	}
	rules, notes := mss.ReadRules(ctx)
	machine.Notes = append(machine.Notes, notes...)
	options := mss.Options{Rules: rules, RulesUnknown: len(notes) > 0}
	return mss.Verify(ctx, machine, options, mss.Bounds{Connections: o.connections, Progress: say})
}

// reporter tells a person how far long work is: in one line on a terminal, elsewhere a line now and then.
type reporter struct {
	to       io.Writer
	terminal bool
	last     time.Time
	shown    bool
}

// often is how often it is told elsewhere.
const often = 5 * time.Second

func newReporter(to io.Writer, quiet bool) *reporter {
	p := &reporter{to: to, last: time.Now()}
	if quiet {
		p.to = io.Discard
	}
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err == nil {
		p.terminal = true
	}
	return p
}

func (p *reporter) say(text string) {
	switch {
	case p.terminal:
		fmt.Fprintf(p.to, "\r\x1b[K%s", text)
		p.shown = true
	case time.Since(p.last) >= often:
		fmt.Fprintln(p.to, text)
		p.last = time.Now()
	}
	if f, is := p.to.(interface{ Flush() error }); is {
		_ = f.Flush() // that it cannot be told is no reason to end
	}
}

// end takes the line away.
func (p *reporter) end() {
	if p.shown {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}

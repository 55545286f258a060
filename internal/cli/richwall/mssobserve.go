package richwall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"richwall/internal/mss/observe"
	"richwall/internal/printable"
)

type observeOptions struct {
	device string
	read   string
	span   time.Duration
	plot   string
	top    int
	limit  int
	covers []float64
	json   bool
}

func newObserve() *cobra.Command {
	var o observeOptions
	cmd := &cobra.Command{
		Use:   "observe",
		Short: "Count the TCP maximum segment sizes that other machines offer",
		Long: `Counts which maximum segment size (MSS) each endpoint offers: an address that sends TCP
segments with SYN set, be it a SYN or a SYN/ACK. Each counts once, with the first offer
that is seen of it.

It listens on the interfaces of this machine until Ctrl-C or the end of --for, and leaves
out what this machine sends itself; that needs root or CAP_NET_RAW. With --read it reads
what tcpdump -w or Wireshark wrote, pcap or pcapng: Ethernet, VLANs, PPPoE, raw IP,
loopback and Linux cooked. Ctrl-C prints what was seen so far.

Up to --limit endpoints the counts are exact. Beyond it one endpoint in two, four, … is
counted, chosen by a hash of the address, so that memory stays the same and the shares
remain those of all; the report says so.`,
		Example: `  richwall mss observe --interface ppp0 --for 60s
  richwall mss observe --read peers.pcap --plot mss.svg
  tcpdump -i any -s 128 -w - 'tcp[13] & 2 != 0 or ip6' | richwall mss observe --read -`,
		Args:              words(0, 0, "no argument, only options"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.device, "interface", "", "listen on this `IF`; without it, on all")
	f.StringVar(&o.read, "read", "", "read this `FILE` instead; - is standard input")
	f.DurationVar(&o.span, "for", 0, "stop after this `TIME`, such as 60s or 5m")
	f.StringVar(&o.plot, "plot", "", "also draw the cumulative shares to this SVG `FILE`")
	f.IntVar(&o.top, "top", 10, "how many of the most common values to print, as a `NUMBER` from 1")
	f.IntVar(&o.limit, "limit", observe.DefaultLimit, "how many endpoints to remember at most, as a `NUMBER` from 1; each takes up to 30 bytes")
	f.Float64SliceVar(&o.covers, "cover", []float64{90, 95, 99}, "look for the clamps that suit these shares of the endpoints, a `LIST` in percent")
	f.BoolVar(&o.json, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("interface", "read")
	cmd.MarkFlagsMutuallyExclusive("for", "read")
	return cmd
}

// check says which flag's value cannot be.
func (o *observeOptions) check() error {
	for _, p := range o.covers {
		if !(p > 0 && p <= 100) {
			return fmt.Errorf("cannot cover %g %% of the endpoints: a share is above 0 and at most 100", p)
		}
	}
	slices.Sort(o.covers)
	switch {
	case o.span < 0:
		return fmt.Errorf("cannot listen for %s: say a time such as 60s", o.span)
	case o.top < 1:
		return fmt.Errorf("cannot print %d values: say 1 or more", o.top)
	case o.limit < 1:
		return fmt.Errorf("cannot remember %d endpoints: say 1 or more", o.limit)
	}
	return nil
}

// plotColumns is how wide the plot is.
const plotColumns = 78

func (o *observeOptions) run(cmd *cobra.Command) error {
	if err := o.check(); err != nil {
		return err
	}
	c := observe.NewCounter(o.limit)
	source, stats, err := o.count(cmd, c)
	if err != nil && stats.Packets == 0 && !errors.Is(err, context.Canceled) {
		return err
	}
	report := c.Report(source, stats, o.covers)
	if printErr := o.print(cmd, report); printErr != nil {
		return printErr
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(cmd.ErrOrStderr(), "richwall: interrupted before the end of the file; these figures are of what came before")
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w; the figures above are of what came before", source, err)
	}
	return nil
}

func (o *observeOptions) print(cmd *cobra.Command, r *observe.Report) error {
	if o.plot != "" {
		if err := writeSVG(o.plot, r); err != nil {
			return err
		}
	}
	if o.json {
		return printJSON(cmd.OutOrStdout(), r)
	}
	return r.Text(cmd.OutOrStdout(), o.top, plotColumns)
}

func writeSVG(path string, r *observe.Report) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("cannot draw the plot: %w", err)
	}
	err = r.SVG(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("cannot draw the plot: %w", err)
	}
	return nil
}

// count counts what the flags say, and says where it came from.
func (o *observeOptions) count(cmd *cobra.Command, c *observe.Counter) (source string, s observe.Stats, err error) {
	line := newStatusLine(cmd.ErrOrStderr())
	defer line.clear()
	if o.read != "" {
		return o.file(cmd, c, line)
	}
	l, err := observe.Listen(o.device)
	if err != nil {
		return "", s, err
	}
	defer l.Close()
	ctx, stop := interruptible(cmd)
	defer stop()
	if o.span > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.span)
		defer cancel()
	}
	source = "all interfaces"
	if o.device != "" {
		source = o.device
	}
	start := time.Now()
	s, err = l.Run(ctx, c, func(s observe.Stats) {
		line.show(func() string {
			return fmt.Sprintf("%s: %d endpoints, %d SYNs, %s; Ctrl-C ends", source, c.Endpoints(), s.SYNs, time.Since(start).Round(time.Second))
		})
	})
	return source, s, err
}

// file reads a capture, with a bar of how much of it is done.
func (o *observeOptions) file(cmd *cobra.Command, c *observe.Counter, line *statusLine) (string, observe.Stats, error) {
	in, source, size := cmd.InOrStdin(), "standard input", int64(0)
	if o.read != "-" {
		f, err := os.Open(o.read)
		if err != nil {
			return "", observe.Stats{}, fmt.Errorf("cannot read the capture: %w", err)
		}
		defer f.Close()
		in, source = f, o.read
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
	}
	ctx, stop := interruptible(cmd)
	defer stop()
	start := time.Now()
	s, err := observe.ReadFile(ctx, in, c, func(done int64) {
		line.show(func() string { return progress(done, size, c.Endpoints(), time.Since(start)) })
	})
	if err != nil && s.Packets == 0 {
		err = fmt.Errorf("cannot read %s: %w", source, err)
	}
	return source, s, err
}

// progress is how much of a file was read, size 0 if nobody knows how long it is, and how long the rest takes.
func progress(done, size int64, endpoints int, spent time.Duration) string {
	const width, megabyte = 30, 1e6
	text := fmt.Sprintf("%.0f MB, %d endpoints", float64(done)/megabyte, endpoints)
	if size <= 0 {
		return text
	}
	share := min(float64(done)/float64(size), 1)
	bar := make([]byte, width)
	for i := range bar {
		bar[i] = '.'
		if float64(i) < share*width {
			bar[i] = '#'
		}
	}
	text = fmt.Sprintf("[%s] %3.0f %%, %s", bar, 100*share, text)
	if share > 0.01 {
		left := time.Duration(float64(spent) * (1 - share) / share)
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return text
}

// statusLine is a line on a terminal that is written over again and again.
type statusLine struct {
	w     io.Writer // nil if it is no terminal
	last  time.Time
	shown bool
}

func newStatusLine(w io.Writer) *statusLine {
	if p, ok := w.(*printable.Writer); ok {
		w = p.Unwrap() // the line is the program's own
	}
	f, ok := w.(*os.File)
	if !ok {
		return &statusLine{}
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return &statusLine{}
	}
	return &statusLine{w: f}
}

// eraseLine goes to the start of the line and erases it (ECMA-48, 8.3.41).
const eraseLine = "\r\x1b[K"

// show replaces the line, but only a few times a second.
func (l *statusLine) show(text func() string) {
	const pause = 200 * time.Millisecond
	if l.w == nil || time.Since(l.last) < pause {
		return
	}
	l.last, l.shown = time.Now(), true
	fmt.Fprint(l.w, eraseLine, text())
}

// clear takes the line away.
func (l *statusLine) clear() {
	if l.shown {
		fmt.Fprint(l.w, eraseLine)
	}
}

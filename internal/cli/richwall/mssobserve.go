package richwall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"richwall/internal/mss/observe"
	"richwall/internal/printable"
)

type observeOptions struct {
	device    string
	read      string
	span      time.Duration
	plots     []string
	names     []string
	addresses bool
	sizes     []string
	top       int
	limit     int
	advise    bool
	covers    []float64
	json      bool

	pictures []*picture
	origins  []observe.Names
	ranges   []observe.Range
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
what tcpdump -w or Wireshark wrote, pcap or pcapng, packed by gzip or not: Ethernet, VLANs,
PPPoE, PPP, MPLS, LLC and SNAP, 802.11, raw IP, loopback, NFLOG and Linux cooked. What it
does not understand it counts, and says so. Ctrl-C prints what was seen so far.

The report has no addresses. --names counts the endpoints by network and by country, and
--addresses lists the endpoints and their prefixes. It has no rules either: --advise says
which clamp suits the peers.

Up to --limit endpoints the counts are exact. Beyond it one endpoint in two, four, … is
counted, chosen by a hash of the address, so that memory stays the same and the shares
remain those of all; the report says so.`,
		Example: `  richwall mss observe --interface ppp0 --for 60s
  richwall mss observe --read peers.pcap --advise
  richwall mss observe --read peers.pcap --plot frequency=mss.svg --plot families=families.svg
  richwall mss observe --read peers.pcap --names asn.mmdb --names country.mmdb
  richwall mss observe --read peers.pcap --addresses --mss 0-500,1461-65535
  tcpdump -i any -s 128 -w - 'tcp[13] & 2 != 0 or ip6' | richwall mss observe --read -`,
		Args:              words(0, 0, "no argument, only options"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.device, "interface", "", "listen on this `IF`; without it, on all")
	f.StringVar(&o.read, "read", "", "read this `FILE` instead; - is standard input")
	f.DurationVar(&o.span, "for", 0, "stop after this `TIME`, such as 60s or 5m")
	f.StringArrayVar(&o.plots, "plot", nil, "also draw a picture to an SVG file, as `KIND=FILE`, where KIND is "+strings.Join(observe.Figures, ", ")+"; a FILE alone is cumulative; may be given again")
	f.StringArrayVar(&o.names, "names", nil, "count by network and country, from this `FILE`: MMDB, or CSV of prefix, network and perhaps country; may be given again")
	f.BoolVar(&o.addresses, "addresses", false, "also print endpoints and their prefixes, by MSS")
	f.StringSliceVar(&o.sizes, "mss", nil, "with --addresses: only these sizes, a `LIST` such as 0-500,9000")
	f.IntVar(&o.top, "top", 10, "how many of the most common values, networks, prefixes and endpoints to print, as a `NUMBER` from 1")
	f.IntVar(&o.limit, "limit", observe.DefaultLimit, "how many endpoints to remember at most, as a `NUMBER` from 1; each takes up to 50 bytes")
	f.BoolVar(&o.advise, "advise", false, "also say which clamp suits the peers")
	f.Float64SliceVar(&o.covers, "cover", []float64{90, 95, 99}, "with --advise: the shares of the endpoints that a clamp is to suit, a `LIST` in percent")
	f.BoolVar(&o.json, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("interface", "read")
	cmd.MarkFlagsMutuallyExclusive("for", "read")
	return cmd
}

// check says which flag's value cannot be.
func (o *observeOptions) check(cmd *cobra.Command) error {
	switch {
	case cmd.Flags().Changed("cover") && !o.advise:
		return errors.New("--cover goes with --advise")
	case cmd.Flags().Changed("mss") && !o.addresses:
		return errors.New("--mss goes with --addresses")
	}
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

// prepare reads and opens all that the flags name, so that nothing is wrong with them when the counting ends.
func (o *observeOptions) prepare() error {
	for _, text := range o.sizes {
		r, err := sizeRange(text)
		if err != nil {
			return err
		}
		o.ranges = append(o.ranges, r)
	}
	for _, path := range o.names {
		names, err := observe.ReadNames(path)
		if err != nil {
			return fmt.Errorf("cannot read the names in %s: %w", path, err)
		}
		o.origins = append(o.origins, names)
	}
	for _, plot := range o.plots {
		p, err := openPicture(plot)
		if err != nil {
			return fmt.Errorf("cannot draw the plot: %w", err)
		}
		o.pictures = append(o.pictures, p)
	}
	return nil
}

// sizeRange reads 536 or 0-500.
func sizeRange(text string) (observe.Range, error) {
	low, high, two := strings.Cut(text, "-")
	if !two {
		high = low
	}
	a, errA := strconv.ParseUint(low, 10, 16)
	b, errB := strconv.ParseUint(high, 10, 16)
	if errA != nil || errB != nil || a > b {
		return observe.Range{}, fmt.Errorf("cannot look for an MSS of %q: say a number from 0 to 65535, or two as in 0-500", text)
	}
	return observe.Range{Low: int(a), High: int(b)}, nil
}

// plotColumns is how wide the plot is.
const plotColumns = 78

func (o *observeOptions) run(cmd *cobra.Command) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	defer o.discard()
	if err := o.prepare(); err != nil {
		return err
	}
	c := observe.NewCounter(o.limit)
	source, stats, err := o.count(cmd, c)
	if err != nil && stats.Packets == 0 && !errors.Is(err, context.Canceled) {
		return err
	}
	report, reportErr := o.report(cmd, c, source, stats)
	if reportErr != nil {
		return reportErr
	}
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

// report adds to the report what the flags ask for.
func (o *observeOptions) report(cmd *cobra.Command, c *observe.Counter, source string, stats observe.Stats) (*observe.Report, error) {
	r := c.Report(source, stats)
	if len(o.origins) > 0 {
		line := newStatusLine(cmd.ErrOrStderr())
		defer line.clear()
		tables, err := c.Origins(o.origins, func(done int) {
			line.show(func() string { return fmt.Sprintf("%d of %d endpoints looked up", done, c.Endpoints()) })
		})
		if err != nil {
			return nil, err
		}
		r.Origins = tables
	}
	if o.addresses {
		r.Who = c.Who(o.ranges, o.top)
	}
	if o.advise {
		r.Advise(o.covers)
	}
	return r, nil
}

func (o *observeOptions) print(cmd *cobra.Command, r *observe.Report) error {
	for _, p := range o.pictures {
		if err := p.draw(r); err != nil {
			return fmt.Errorf("cannot draw the plot: %w", err)
		}
	}
	if o.json {
		return printJSON(cmd.OutOrStdout(), r)
	}
	return r.Text(cmd.OutOrStdout(), o.top, plotColumns)
}

// picture is a figure and the file that it is drawn to: a temporary one beside it takes its place when it is whole.
type picture struct {
	figure string
	path   string
	file   *os.File
}

// openPicture reads KIND=FILE, and makes sure that the file can be written.
func openPicture(text string) (*picture, error) {
	p := &picture{figure: "cumulative", path: text}
	if figure, path, ok := strings.Cut(text, "="); ok && slices.Contains(observe.Figures, figure) {
		p.figure, p.path = figure, path
	}
	if p.path == "" {
		return nil, fmt.Errorf("%q names no file", text)
	}
	if info, err := os.Stat(p.path); err == nil && !info.Mode().IsRegular() {
		p.file, err = os.OpenFile(p.path, os.O_WRONLY, 0) // such as /dev/stdout
		return p, err
	}
	file, err := os.CreateTemp(filepath.Dir(p.path), ".richwall-*.svg")
	if err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", p.path, errors.Unwrap(err))
	}
	p.file = file
	return p, nil
}

func (p *picture) temporary() bool { return p.file.Name() != p.path }

func (p *picture) draw(r *observe.Report) error {
	err := r.Figure(p.figure, p.file)
	if err == nil && p.temporary() {
		err = p.file.Chmod(0o644)
	}
	if closeErr := p.file.Close(); err == nil {
		err = closeErr
	}
	if err == nil && p.temporary() {
		err = os.Rename(p.file.Name(), p.path)
	}
	return err
}

// discard takes away what was not drawn.
func (o *observeOptions) discard() {
	for _, p := range o.pictures {
		p.file.Close()
		if p.temporary() {
			os.Remove(p.file.Name())
		}
	}
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
			return fmt.Sprintf("%s: %d endpoints, %d SYNs, %s; Ctrl-C ends", printable.Item(source), c.Endpoints(), s.SYNs, time.Since(start).Round(time.Second))
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

// statusLine is a line on a terminal that is written over again and again. Where there is no terminal, lines follow one
// another, each after twice the time of the one before.
type statusLine struct {
	w     io.Writer
	place bool // it is a terminal
	last  time.Time
	pause time.Duration
	shown bool
}

// Times between two lines: on a terminal, and at first elsewhere.
const terminalPause, plainPause = 200 * time.Millisecond, 10 * time.Second

func newStatusLine(w io.Writer) *statusLine {
	line := &statusLine{w: w, last: time.Now(), pause: plainPause}
	if p, ok := w.(*printable.Writer); ok {
		w = p.Unwrap() // the line is the program's own
	}
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return &statusLine{w: f, place: true, pause: terminalPause}
		}
	}
	return line
}

// eraseLine goes to the start of the line and erases it (ECMA-48, 8.3.41).
const eraseLine = "\r\x1b[K"

// show replaces the line, or adds one, but not all the time.
func (l *statusLine) show(text func() string) {
	if time.Since(l.last) < l.pause {
		return
	}
	l.last = time.Now()
	if l.place {
		l.shown = true
		fmt.Fprint(l.w, eraseLine, text())
		return
	}
	l.pause *= 2
	fmt.Fprintln(l.w, "richwall:", text())
}

// clear takes the line away.
func (l *statusLine) clear() {
	if l.shown {
		fmt.Fprint(l.w, eraseLine)
	}
}

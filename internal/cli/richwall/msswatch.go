package richwall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"richwall/internal/mss"
	"richwall/internal/mss/watch"
	"richwall/zones"
)

type watchOptions struct {
	directories
	device string
	about  []string
	read   bool
	span   time.Duration
	limit  int
	json   bool

	only []watch.Filter
}

func newWatch() *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch what becomes of the MSS, and of large segments, of the connections through this machine",
		Long: `Follows the TCP connections through this machine, and says of each, as it happens:

  opened    which MSS the SYN and the SYN/ACK had as they came in and as they left, by which
            interfaces and zones, and which rule lowered them
  too big   that somebody said by ICMP that a segment is too large, and whether the message
            was passed on to who sent the segment
  LOST      that large segments are lost while small ones are answered, and on which side:
            beyond an interface, before it, or here
  arrived   that they were answered after all
  hangs     that a connection of this machine itself hangs already when the watching begins.
            Connections keep the MSS that they began with, whatever is clamped since
  closed    the largest segments of both sides that were answered, whether they had Don't
            Fragment (DF), and how many were sent again

Sizes of segments are those of IP packets, as an MTU is: 40 bytes more than the MSS over
IPv4, 60 over IPv6. Of what this machine sends or receives itself, one side is seen only.

A segment is called lost when it was sent three times, and what was sent since did not get
through either, 2.5 seconds after the third time; at once if small ones are answered in
between. It is not if another segment as large gets through to the same address, if small
ones are lost too, or if the other side has no room.

At the end stands the rule to add. The end is Ctrl-C, or that of --for. The exit status is
then 1 if segments were lost.

On a terminal one screen is written over and over, with the newest connections; elsewhere,
and with --json, each event is a line. It listens on all interfaces but lo, because what
comes in by one leaves by another. That needs root, or CAP_NET_RAW; for the names of rules
root. It changes nothing.

With --read it does the same with two captures of the same time, taken by tcpdump -w or
Wireshark on both sides of a router.`,
		Example: `  richwall mss watch
  richwall mss watch --interface ppp0 --connection 192.0.2.0/24:443
  richwall mss watch --for 60s --json | jq -c 'select(.event == "black_hole")'
  tcpdump -i lan -s 128 -w before.pcap & tcpdump -i ppp0 -s 128 -w after.pcap
  richwall mss watch --read before.pcap after.pcap`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.read {
				return words(2, 2, "two captures, one of each side of the router")(cmd, args)
			}
			return words(0, 0, "no argument, only options; --read takes two files")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.directories.flags(cmd)
	f := cmd.Flags()
	f.Lookup("config").Usage = "the `DIR` of the configuration that names the zones; without it, /etc/firewalld if it is there"
	f.StringVar(&o.device, "interface", "", "show only connections that come in or leave by this `IF`; of files, before or after")
	f.StringArrayVar(&o.about, "connection", nil, "show only connections of this `FILTER`: an address or prefix, a port, or both, as in 192.0.2.0/24:443; may be given again, and then all must hold")
	f.BoolVar(&o.read, "read", false, "read two captures instead: before.pcap after.pcap")
	f.DurationVar(&o.span, "for", 0, "stop after this `TIME`, such as 60s or 5m")
	f.IntVar(&o.limit, "limit", watch.DefaultLimit, "how many connections to follow at a time, as a `NUMBER` from 1; each takes some 500 bytes")
	f.BoolVar(&o.json, "json", false, "print JSON, an object in each line")
	cmd.MarkFlagsMutuallyExclusive("for", "read")
	cmd.MarkFlagsMutuallyExclusive("config", "read")
	return cmd
}

func (o *watchOptions) run(cmd *cobra.Command, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	zone, err := o.zones(cmd)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(cmd)
	defer stop()
	show := o.screen(cmd)
	options := watch.Options{Limit: o.limit, Zone: zone, Only: o.only, Device: o.device, Event: show.event}
	var summary watch.Summary
	if o.read {
		summary, err = o.files(ctx, options, args)
	} else {
		summary, err = o.live(ctx, cmd, options, show)
	}
	if err != nil && summary.Event == "" {
		return err
	}
	show.end(&summary)
	if show.err != nil {
		return show.err
	}
	if err == nil && len(summary.Holes) > 0 {
		return exitError{1, nil}
	}
	return err
}

// check says which flag's value cannot be.
func (o *watchOptions) check() error {
	for _, text := range o.about {
		f, err := watch.ParseFilter(text)
		if err != nil {
			return err
		}
		o.only = append(o.only, f)
	}
	switch {
	case o.span < 0:
		return fmt.Errorf("cannot watch for %s: say a time such as 60s", o.span)
	case o.limit < 1:
		return fmt.Errorf("cannot follow %d connections: say 1 or more", o.limit)
	}
	if o.device == "" || o.read {
		return nil
	}
	if _, err := net.InterfaceByName(o.device); err != nil {
		return fmt.Errorf("cannot watch %s: there is no such interface", o.device)
	}
	return nil
}

// zones is a function that names the zone of what is at an address behind an interface, as the configuration has it.
func (o *watchOptions) zones(cmd *cobra.Command) (func(string, netip.Addr) string, error) {
	if o.config == "" {
		if _, err := os.Stat(systemConfig); err != nil || o.read {
			return nil, nil
		}
		o.config = systemConfig
	}
	cfg, err := o.load(cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	return zoneNamer(cfg), nil
}

// zoneNamer names the zone of an address behind an interface: that of its source, or else that of the interface, or else the
// default zone. Sources that are MAC addresses or ipsets are not asked.
func zoneNamer(cfg *zones.Config) func(string, netip.Addr) string {
	bySource, byInterface := map[netip.Prefix]string{}, map[string]string{}
	for _, name := range zones.Names(cfg.Zones) {
		for _, source := range cfg.Zones[name].Sources {
			if p, err := netip.ParsePrefix(source); err == nil {
				bySource[p.Masked()] = name
			} else if a, err := netip.ParseAddr(source); err == nil {
				bySource[netip.PrefixFrom(a, a.BitLen())] = name
			}
		}
		for _, iface := range cfg.Zones[name].Interfaces {
			byInterface[iface] = name
		}
	}
	return func(iface string, a netip.Addr) string {
		for bits := a.BitLen(); bits >= 0 && len(bySource) > 0; bits-- {
			if p, err := a.Prefix(bits); err == nil && bySource[p] != "" {
				return bySource[p]
			}
		}
		if name := byInterface[iface]; name != "" {
			return name
		}
		return cfg.Conf.DefaultZone
	}
}

// files watches what two captures have.
func (o *watchOptions) files(ctx context.Context, options watch.Options, paths []string) (s watch.Summary, err error) {
	var files [2]*os.File
	for i, path := range paths {
		if files[i], err = os.Open(path); err != nil {
			return s, fmt.Errorf("cannot read the capture: %w", err)
		}
		defer files[i].Close()
	}
	options.Name = func(number int) string {
		return map[int]string{watch.BeforeFile: "before", watch.AfterFile: "after"}[number]
	}
	w := watch.New(options)
	packets, err := watch.Files(ctx, w, files[0], files[1])
	if err != nil && packets == 0 {
		return s, err
	}
	w.Finish()
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted before the end of the files; what is said is of what came before")
	}
	return w.Summary(0), err
}

// live watches this machine until it is interrupted, or its time is over.
func (o *watchOptions) live(ctx context.Context, cmd *cobra.Command, options watch.Options, show *screen) (s watch.Summary, err error) {
	debug.SetGCPercent(25) // of the connections nothing is thrown away but at their end
	l, err := watch.Listen()
	if err != nil {
		return s, err
	}
	defer l.Close()
	if o.span > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.span)
		defer cancel()
	}
	k := knownRules{ctx: ctx}
	for _, note := range k.read() {
		fmt.Fprintf(cmd.ErrOrStderr(), "richwall: %s\n", note)
	}
	options.Name, options.Clamps = watch.Names(), k.lowered
	w := watch.New(options)
	show.begin(w)
	own, err := watch.Hanging()
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "richwall: %v\n", err)
	}
	for _, one := range own {
		show.hangs(one)
	}
	lost, err := l.Run(ctx, w, show.tick)
	w.Finish()
	return w.Summary(lost), err
}

// knownRules are the rules of the packet filter. They are read again when they do not tell what lowered an MSS, but not all
// the time, and beside the watching.
type knownRules struct {
	ctx    context.Context
	clamps atomic.Pointer[mss.Clamps]
	busy   atomic.Bool
	last   time.Time
}

// readEvery is the least time between two readings of the rules.
const readEvery = 10 * time.Second

// read reads them, and says what of them cannot be read.
func (k *knownRules) read() []string {
	rules, notes := mss.ReadRules(k.ctx)
	k.clamps.Store(mss.NewClamps(rules))
	k.last = time.Now()
	return notes
}

func (k *knownRules) lowered(p mss.Passage) []string {
	names := k.clamps.Load().Lowered(p)
	if names == nil && !k.busy.Load() && time.Since(k.last) > readEvery {
		k.busy.Store(true)
		k.last = time.Now()
		go func() {
			rules, _ := mss.ReadRules(k.ctx)
			k.clamps.Store(mss.NewClamps(rules))
			k.busy.Store(false)
		}()
	}
	return names
}

// screen shows what is watched: on a terminal one picture after the other in the same place, elsewhere a line for each event.
type screen struct {
	w        io.Writer
	json     bool
	terminal *terminal // nil if there is none
	watcher  *watch.Watcher
	newest   []watch.Event // on a terminal, the newest last
	holes    []watch.Event
	own      []string // lines about this machine's own connections
	start    time.Time
	err      error
}

func (o *watchOptions) screen(cmd *cobra.Command) *screen {
	s := &screen{w: cmd.OutOrStdout(), json: o.json, start: time.Now()}
	if !o.json && !o.read {
		s.terminal = terminalOf(s.w)
	}
	return s
}

func (s *screen) begin(w *watch.Watcher) { s.watcher = w }

// hangs shows a connection of this machine itself.
func (s *screen) hangs(one watch.Socket) {
	if s.terminal != nil {
		s.own = append(s.own, one.Line())
		return
	}
	s.print(struct {
		Event  string       `json:"event"`
		Socket watch.Socket `json:"socket"`
	}{"hangs", one}, one.Line())
}

// mostShown is how many events a screen has at most.
const mostShown = 200

func (s *screen) event(e watch.Event) {
	if s.terminal == nil {
		s.print(e, e.Line())
		return
	}
	if e.Kind == watch.KindHole {
		s.holes = keep(s.holes, e)
		return
	}
	if e.Kind != watch.KindClosed {
		s.newest = keep(s.newest, e)
	}
}

// keep adds an event to a list, whose oldest ones go.
func keep(list []watch.Event, e watch.Event) []watch.Event {
	if len(list) >= mostShown {
		list = slices.Delete(list, 0, len(list)-mostShown+1)
	}
	return append(list, e)
}

// print prints a value as JSON, or else a line.
func (s *screen) print(v any, line string) {
	if s.err != nil {
		return
	}
	if s.json {
		s.err = writeJSON(s.w, v, "")
		return
	}
	_, s.err = fmt.Fprintln(s.w, line)
}

// tick is called several times a second.
func (s *screen) tick() {
	if s.terminal != nil {
		s.terminal.draw(s.picture)
		return
	}
	if f, ok := s.w.(interface{ Flush() error }); ok && s.err == nil {
		s.err = f.Flush()
	}
}

// picture is what stands on a terminal of so many columns and lines: what is lost in full, and the newest of the rest.
func (s *screen) picture(columns, height int) []string {
	t := s.watcher.Summary(0).Totals
	lines := []string{fmt.Sprintf("%d connections, %d SYN and %d SYN/ACK seen in and out, %d lowered, %s; Ctrl-C ends",
		t.Connections, t.SYN.Both, t.SYNACK.Both, t.Lowered, time.Since(s.start).Round(time.Second))}
	for i := len(s.holes) - 1; i >= 0 && len(lines) < height/2; i-- {
		lines = append(lines, folded(s.holes[i].Line(), columns)...)
	}
	for i := 0; i < len(s.own) && len(lines) < height*2/3; i++ {
		lines = append(lines, folded(s.own[i], columns)...)
	}
	for i := len(s.newest) - 1; i >= 0 && len(lines) < height; i-- {
		lines = append(lines, s.newest[i].Line())
	}
	return lines[:min(len(lines), height)]
}

// end shows the summary.
func (s *screen) end(summary *watch.Summary) {
	if s.terminal != nil {
		s.terminal.clear()
		for _, e := range s.holes {
			fmt.Fprintln(s.w, e.Line())
		}
		for _, line := range s.own {
			fmt.Fprintln(s.w, line)
		}
		s.terminal = nil
	}
	if s.json {
		s.print(summary, "")
		return
	}
	if s.err == nil {
		_, s.err = io.WriteString(s.w, summary.Text())
	}
}

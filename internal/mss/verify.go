package mss

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"richwall/grammar"
	"richwall/internal/mss/clone"
)

// Verification is what packets have shown of a machine's clone, beside what Advise says of the machine.
type Verification struct {
	Paths     []Verified `json:"paths"`
	Disagrees bool       `json:"disagrees"`            // of any path
	Whole     bool       `json:"whole"`                // all was cloned, and something of each path was measured
	Tried     int        `json:"connections_tried"`    // with each MSS
	Passed    int        `json:"connections_passed"`   // that were answered, both ways
	Apart     int        `json:"connections_apart"`    // whose answer has left by another interface than the SYN has come by
	NotCloned []string   `json:"not_cloned,omitempty"` // a sentence each
	Notes     []string   `json:"notes,omitempty"`      // of the machine, as Advise has them
	seen      []connection
}

// Verified is a path, with what was measured of it.
type Verified struct {
	Name          string     `json:"name"`
	Interface     string     `json:"interface"`
	Says          State      `json:"says"` // whether it is clamped
	MTU           int        `json:"mtu"`  // bytes, that it is said to carry
	MeasuredMTU   int        `json:"measured_mtu,omitempty"`
	OrMore        bool       `json:"or_more,omitempty"` // nothing larger can come to it
	Segments      []Measured `json:"segments,omitempty"`
	Disagreements []string   `json:"disagreements,omitempty"` // a sentence each
	NotMeasured   []string   `json:"not_measured,omitempty"`  // a sentence each
	path          *Path
}

// Measured is what came of segments of a kind.
type Measured struct {
	Family   grammar.Family `json:"family"`
	Segment  string         `json:"segment"` // as in a Meeting
	Says     State          `json:"says"`
	Measured State          `json:"measured"` // NotSeen if none has come
	Fits     int            `json:"fits"`     // MSS
	Low      int            `json:"lowest,omitempty"`
	High     int            `json:"highest,omitempty"`
	Count    int            `json:"segments"`
	Example  string         `json:"example,omitempty"` // of what was too large
}

// NotSeen is the state of a kind of segments of which none has come.
const NotSeen State = "not seen"

// Bounds are how far a verification goes.
type Bounds struct {
	Connections int               // that are tried at most, with each MSS
	Progress    func(text string) // is told what is being done; nil for nobody
}

// mostOffers is how many MSS a connection is tried with.
const mostOffers = 6

// Verify clones the network namespace of the calling thread twice, sends connections through along each path of the machine, and compares. Of the two
// clones one shows what segments announce on either side of each link, a tunnel's too; in the other tunnels go over the links below, and it
// shows what size gets through. m and o are what Advise is told. When the context ends, so does it, with an error.
func Verify(ctx context.Context, m *Machine, o Options, bounds Bounds) (*Verification, error) {
	if bounds.Progress == nil {
		bounds.Progress = func(string) {}
	}
	bounds.Progress("reading the machine")
	reading, err := clone.Read(ctx)
	if err != nil {
		return nil, err
	}
	report := Advise(m, o)
	v := &verifier{machine: m.with(o), report: report, rules: merge(o.Rules), bounds: bounds, main: map[bool]bool{}, result: &Verification{NotCloned: reading.Notes, Notes: report.Notes}}
	for i := range report.Paths {
		p := &report.Paths[i]
		v.result.Paths = append(v.result.Paths, Verified{Name: p.Name, Interface: p.Interface, Says: p.Clamped, MTU: p.Fit.MTU, path: p})
	}
	if err := v.segments(ctx, reading); err != nil {
		return nil, err
	}
	if err := v.sizes(ctx, reading); err != nil {
		return nil, err
	}
	v.conclude()
	return v.result, nil
}

type verifier struct {
	machine *Machine
	report  *Report
	rules   *Rules
	bounds  Bounds
	result  *Verification
	port    uint16        // the last source port
	main    map[bool]bool // what mainOnly has found
}

// nextPort is a source port that no connection has had for long.
func (v *verifier) nextPort() uint16 {
	const first, last = 10000, 65000
	v.port = max(first, v.port%last+1)
	return v.port
}

// connection is one that is tried.
type connection struct {
	in       string // interface
	src, dst netip.Addr
	sport    uint16
	dport    uint16
	offer    int // MSS that both ends announce
	out      string
	port     string // by which of the ports of out the SYN was seen
	real     netip.Addr
	syn      int // MSS as it came out; 0 if the SYN did not
	back     string
	answer   int // the same of the SYN/ACK
}

// doors are the ports that connections are tried to, one after the other while nothing passes: a filter lets some in and others not.
var doors = []uint16{443, 22, 40443}

// segments sends connections through a clone in which each link ends outside.
func (v *verifier) segments(ctx context.Context, reading *clone.Reading) error {
	v.bounds.Progress("cloning the machine")
	c, err := reading.Make(ctx, false)
	if err != nil {
		return err
	}
	defer c.Close()
	v.notCloned(c.Notes)
	list := v.connections(c)
	v.result.Tried = len(list)
	for begin := 0; begin < len(list); begin += atOnce {
		v.bounds.Progress(fmt.Sprintf("connections: %d of %d", begin, len(list)))
		if err := v.handshakes(ctx, c, list[begin:min(begin+atOnce, len(list))]); err != nil {
			return err
		}
	}
	for _, one := range list {
		if one.answer != 0 {
			v.result.Passed++
		}
		v.compare(one)
	}
	v.result.seen = list
	return nil
}

// atOnce is how many connections are tried together.
const atOnce = 512

func (v *verifier) notCloned(list []string) {
	for _, n := range list {
		if !slices.Contains(v.result.NotCloned, n) {
			v.result.NotCloned = append(v.result.NotCloned, n)
		}
	}
}

// handshakes tries connections, and notes in them what has come.
func (v *verifier) handshakes(ctx context.Context, c *clone.Clone, list []connection) error {
	ids := make([]uint32, len(list))
	for _, door := range doors {
		var pending []int
		var syns []clone.Segment
		for i := range list {
			if one := &list[i]; one.syn == 0 {
				one.dport, one.sport = door, v.nextPort()
				pending = append(pending, i)
				syns = append(syns, clone.Segment{In: one.in, Src: netip.AddrPortFrom(one.src, one.sport), Dst: netip.AddrPortFrom(one.dst, one.dport), MSS: one.offer})
			}
		}
		got, err := c.Exchange(ctx, syns)
		if err != nil {
			return err
		}
		var answers []clone.Segment
		var answered []int
		for k, i := range pending {
			a, ok := inTheOpen(got[k])
			if !ok {
				continue
			}
			one := &list[i]
			one.out, one.port, one.real, one.syn, ids[i] = a.Out, a.Port, a.Dst.Addr(), a.MSS, syns[k].ID
			answered = append(answered, i)
			answers = append(answers, clone.Segment{In: a.Out, Port: a.Port, Src: a.Dst, Dst: a.Src, Answers: ids[i], MSS: one.offer})
		}
		if got, err = c.Exchange(ctx, answers); err != nil {
			return err
		}
		for k, i := range answered {
			if a, ok := inTheOpen(got[k]); ok {
				list[i].back, list[i].answer = a.Out, a.MSS
			}
		}
	}
	return nil
}

// inTheOpen is the first arrival that is no part of a tunnel.
func inTheOpen(list []clone.Arrival) (clone.Arrival, bool) {
	i := slices.IndexFunc(list, func(a clone.Arrival) bool { return a.Out != "" && a.MSS != 0 })
	if i < 0 {
		return clone.Arrival{}, false
	}
	return list[i], true
}

// connections are those to try: between each two paths, to and from several of the addresses that they lead to, with each MSS at which rules may
// decide otherwise.
func (v *verifier) connections(c *clone.Clone) []connection {
	var pairs [][]connection
	for _, six := range []bool{false, true} {
		if six && !v.machine.Forward6 || !six && !v.machine.Forward4 {
			continue
		}
		for i := range v.report.Paths {
			for j := range v.report.Paths {
				from, to := &v.report.Paths[i], &v.report.Paths[j]
				if i == j || from.tunnel || !slices.Contains(from.families, six) || !slices.Contains(to.families, six) || !c.Reaches(from.Interface) || from.Interface == to.Interface && !from.internet && !to.internet {
					continue
				}
				pairs = append(pairs, v.between(from, to, six))
			}
		}
	}
	var list []connection
	for n := 0; len(list) < v.bounds.Connections; n++ { // each pair has its turn
		any := false
		for _, p := range pairs {
			if n < len(p) && len(list) < v.bounds.Connections {
				list, any = append(list, p[n]), true
			}
		}
		if !any {
			break
		}
	}
	return list
}

// between are connections from what one path leads to, to what another does, with each MSS in turn.
func (v *verifier) between(from, to *Path, six bool) []connection {
	header := header4
	if six {
		header = header6
	}
	widest := max(from.fits(six), to.fits(six), Ethernet-header)
	offers := v.rules.offers(min(from.fits(six), to.fits(six))+1, widest)
	slices.Reverse(offers)
	if len(offers) > mostOffers {
		offers = append(offers[:mostOffers-1], offers[len(offers)-1])
	}
	sources, targets := v.addresses(from, six), v.addresses(to, six)
	var list []connection
	for n := range max(len(sources)*len(targets), 1) {
		if len(sources) == 0 || len(targets) == 0 {
			break
		}
		src, dst := sources[n%len(sources)], targets[(n/len(sources)+n)%len(targets)]
		for _, offer := range offers {
			if offer <= mostMSS && src != dst {
				list = append(list, connection{in: from.Interface, src: src, dst: dst, offer: offer})
			}
		}
	}
	return list
}

// mostMSS is the largest MSS of an IP packet's room.
const mostMSS = 65535 - header4

// mostAddresses is how many addresses of a path are tried.
const mostAddresses = 6

// addresses are some that a path leads to: of its first prefixes, of its last one, and of those that the routing policy chooses by.
func (v *verifier) addresses(p *Path, six bool) []netip.Addr {
	var list []netip.Addr
	add := func(prefix netip.Prefix, n int) {
		if a := host(prefix, n); a.Is6() == six && p.leads(a) >= 0 && len(list) < mostAddresses && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	prefixes := p.prefixes(six)
	for i, prefix := range prefixes {
		if i < 2 || i == len(prefixes)-1 {
			add(prefix, 0)
		}
	}
	for _, r := range v.machine.Rules {
		for _, prefix := range []netip.Prefix{r.From, r.To} {
			if limited(prefix) {
				add(prefix, 0)
			}
		}
	}
	for _, prefix := range prefixes {
		add(prefix, 1)
	}
	return list
}

// prefixes are those that a path leads to.
func (p *Path) prefixes(six bool) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range p.Routes {
		if prefix, ok := routePrefix(text); ok && prefix.Addr().Is6() == six {
			list = append(list, prefix)
		}
	}
	return list
}

// routePrefix is the prefix that routeText has made a text of.
func routePrefix(text string) (netip.Prefix, bool) {
	switch text {
	case "default (IPv4)":
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
	case "default (IPv6)":
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix, err == nil
}

// leads is the length of the longest prefix of a path that has an address, in bits; −1 for none.
func (p *Path) leads(a netip.Addr) int {
	longest := -1
	for _, prefix := range p.prefixes(a.Is6()) {
		if prefix.Contains(a) {
			longest = max(longest, prefix.Bits())
		}
	}
	return longest
}

// anywhere are addresses that stand for the Internet (RFC 5737, RFC 3849).
var anywhere = map[bool][]netip.Addr{
	false: {netip.MustParseAddr("198.51.100.77"), netip.MustParseAddr("203.0.113.77")},
	true:  {netip.MustParseAddr("2001:db8:77::77"), netip.MustParseAddr("2001:db8::77")},
}

// host is an address of a prefix, one of two.
func host(p netip.Prefix, n int) netip.Addr {
	if internet(p) && p.Contains(anywhere[p.Addr().Is6()][n]) {
		return anywhere[p.Addr().Is6()][n]
	}
	free := p.Addr().BitLen() - p.Bits()
	a := p.Masked().Addr()
	step := min(77+n*33, 1<<min(free, 7)-2) // neither the first nor the last, which may be of the network
	for range step {
		a = a.Next()
	}
	return a
}

// mainOnly says whether the table main alone decides about a family, and no other one has routes.
func (v *verifier) mainOnly(six bool) bool {
	if known, ok := v.main[six]; ok {
		return known
	}
	only := !slices.ContainsFunc(v.machine.policy(six), func(r RoutingRule) bool { return !r.plain() || r.Table != tableMain && r.Table != tableDefault }) &&
		!slices.ContainsFunc(v.machine.Routes, func(r Route) bool { return r.To.Addr().Is6() == six && r.table() != tableMain })
	v.main[six] = only
	return only
}

// pathsTo are the paths by an interface that may lead to an address. Where there are other tables than main, all that lead there may;
// else the one with the longest prefix does.
func (v *verifier) pathsTo(iface string, a netip.Addr) []*Verified {
	var list []*Verified
	longest := -1
	plain := v.mainOnly(a.Is6())
	for i := range v.result.Paths {
		one := &v.result.Paths[i]
		bits := one.path.leads(a)
		if one.Interface != iface || bits < 0 || one.path.tunnel {
			continue
		}
		if plain && bits > longest {
			list, longest = nil, bits
		}
		if !plain || bits == longest {
			list = append(list, one)
		}
	}
	return list
}

// compare adds what came of a connection to the paths that it went over. What a segment announces on its way from one link to another limits what
// goes over either. Where the answer goes another way than the SYN came, the SYN's way is not that to who sent it.
func (v *verifier) compare(c connection) {
	if c.syn == 0 {
		return
	}
	outward := c.in == c.back && v.carriesMore(c.in, c.src, c.out, c.real)
	inward := c.in == c.back && v.carriesMore(c.out, c.real, c.in, c.src)
	syn := fmt.Sprintf("a SYN from %s by %s to %s by %s, offering %d", c.src, c.in, c.dst, c.out, c.offer)
	v.add(c.out, c.real, c.in, "SYN out", c.offer, c.syn, outward, syn)
	if c.answer == 0 {
		return
	}
	answer := fmt.Sprintf("a SYN/ACK to %s by %s from %s by %s, offering %d", c.src, c.back, c.dst, c.out, c.offer)
	if c.back == c.in {
		v.add(c.in, c.src, c.out, "SYN in", c.offer, c.syn, inward, syn)
	}
	v.add(c.out, c.real, c.back, "SYN/ACK in", c.offer, c.answer, outward, answer)
	v.add(c.back, c.src, c.out, "SYN/ACK out", c.offer, c.answer, inward, answer)
	switch {
	case c.in != c.back:
		v.result.Apart++
	case c.in != c.out: // what comes and goes by one interface is not what is said of it
		v.limits(c.back, c.src, c.out, c.syn, syn)
		v.limits(c.out, c.real, c.in, c.answer, answer)
	}
}

// carriesMore says whether each path by an interface that may lead to an address carries more than those of another one to another address.
func (v *verifier) carriesMore(iface string, to netip.Addr, other string, than netip.Addr) bool {
	six, most := to.Is6(), 0
	for _, one := range v.pathsTo(other, than) {
		most = max(most, one.path.fits(six))
	}
	return !slices.ContainsFunc(v.pathsTo(iface, to), func(one *Verified) bool { return one.path.fits(six) <= most })
}

// limits looks at what a segment announces, as who sends by its limit sees it: segments of at most that, and of at most what carries them to the
// machine, go by an interface to an address.
func (v *verifier) limits(iface string, to netip.Addr, from string, mss int, what string) {
	six := to.Is6()
	list := v.pathsTo(iface, to)
	i := slices.IndexFunc(v.machine.Links, func(l Link) bool { return l.Name == from })
	if len(list) == 0 || i < 0 {
		return
	}
	fits := 0
	for _, one := range list {
		if one.Says != Clamped && one.Says != NotNeeded {
			return
		}
		fits = max(fits, one.path.fits(six))
	}
	if sent := min(mss, v.machine.MSS(v.machine.Links[i], six)); sent > fits {
		list[0].disagree("It says %s, but %s, has left with %d: segments of %d bytes are sent by %s, and %d fit.", list[0].Says, what, mss, sent, iface, fits)
	}
}

// add adds a segment, with what it announced before and after, to the paths by an interface to an address, if the interface on the
// other side is that of a wider path. alike says that the answer goes back by
// where the SYN came, and that the other path carries more: else what is smaller may be so by another one.
func (v *verifier) add(iface string, to netip.Addr, from, segment string, before, after int, alike bool, what string) {
	six := to.Is6()
	list := v.pathsTo(iface, to)
	for _, one := range list {
		p := one.path
		if p.Clamped == NotNeeded && p.Why == nothingForwarded {
			one.disagree("It says that %s, but %s, has come.", p.Why, what)
		}
		wide := slices.ContainsFunc(p.wider(v.report.Paths, six), func(o other) bool { return o.iface == from })
		m := one.segment(p, segment, six)
		if !wide || m == nil || before <= p.fits(six) || len(list) > 1 { // of several paths it is not sure which it took
			continue
		}
		m.meet(after, what)
		if m.Says == Clamped && after > m.Fits || m.Says == Unclamped && after <= m.Fits && alike {
			one.disagree("It says %s for %s of %s, but %s, has left with %d: %d fit.", m.Says, segment, m.Family, what, after, m.Fits)
		}
	}
}

func (one *Verified) disagree(format string, args ...any) {
	const most = 3
	if len(one.Disagreements) < most {
		one.Disagreements = append(one.Disagreements, fmt.Sprintf(format, args...))
	}
}

// segment is what was measured of a kind of segments, nil if nothing is said of it.
func (one *Verified) segment(p *Path, segment string, six bool) *Measured {
	family := grammar.IPv4
	if six {
		family = grammar.IPv6
	}
	for i := range one.Segments {
		if m := &one.Segments[i]; m.Family == family && m.Segment == segment {
			return m
		}
	}
	for _, met := range p.Segments {
		if met.Family == family && met.Segment == segment {
			one.Segments = append(one.Segments, Measured{Family: family, Segment: segment, Says: met.Clamped, Measured: NotSeen, Fits: p.fits(six)})
			return &one.Segments[len(one.Segments)-1]
		}
	}
	return nil
}

// meet counts a segment.
func (m *Measured) meet(mss int, what string) {
	m.Count++
	if m.Low == 0 {
		m.Low = mss
	}
	m.Low, m.High = min(m.Low, mss), max(m.High, mss)
	if mss > m.Fits && m.Example == "" {
		m.Example = what
	}
	switch {
	case m.High <= m.Fits:
		m.Measured = Clamped
	case m.Low > m.Fits:
		m.Measured = Unclamped
	default:
		m.Measured = InPart
	}
}

// conclude says what was not measured, and whether all agrees.
func (v *verifier) conclude() {
	r := v.result
	slices.Sort(r.NotCloned)
	r.Notes = slices.DeleteFunc(slices.Clone(r.Notes), func(n string) bool { return slices.Contains(r.NotCloned, n) })
	r.Whole = len(r.NotCloned) == 0
	for i := range r.Paths {
		one := &r.Paths[i]
		for _, met := range one.path.Segments {
			one.segment(one.path, met.Segment, met.Family == grammar.IPv6)
		}
		place := func(m Measured) int { return slices.IndexFunc(legs, func(l leg) bool { return l.name == m.Segment }) }
		slices.SortFunc(one.Segments, func(a, b Measured) int {
			return cmp.Or(strings.Compare(string(a.Family), string(b.Family)), cmp.Compare(place(a), place(b)))
		})
		if len(one.Segments) > 0 && !slices.ContainsFunc(one.Segments, func(m Measured) bool { return m.Count > 0 }) {
			why := "No connection that was tried comes through the packet filter, or by this path alone."
			if one.path.tunnel {
				why = "What it encrypts cannot be looked into."
			}
			one.NotMeasured = append(one.NotMeasured, why)
		}
		r.Disagrees = r.Disagrees || len(one.Disagreements) > 0
		r.Whole = r.Whole && len(one.NotMeasured) == 0
	}
}

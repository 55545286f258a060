package eval_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"richwall/compile/eval"
	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/internal/lab"
	"richwall/zones"
)

// What the evaluator says of a packet is what the kernel does: real packets are sent from a client, a server and a second
// server, to each other and to the firewall between them, through the rulesets of the project's test data and of random
// configurations. Each arrives where the evaluator says, from the address and with the MSS that it says, or gets the answer
// that it says, or is lost; and it is logged as often.
func TestTheKernelDecidesAlike(t *testing.T) {
	if missing := lab.Missing("nft", "ipset", "iptables-restore", "ip6tables-restore"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	all := configurations(t)
	for seed := range uint64(10) {
		all = append(all, configuration{fmt.Sprintf("random-%d", seed), folding(randomConfig(t, seed, 3, 12), pick(rand.New(rand.NewPCG(seed, 4)), "no", "yes", "yes"))})
	}
	seen := map[string]int{}
	for i, c := range all {
		tried := backends
		if strings.HasPrefix(c.name, "clamp/") || strings.HasPrefix(c.name, "scenarios/") { // many, and much the same
			tried = backends[i%2:][:1]
		}
		for _, backend := range tried {
			rs, ok := tryCompile(withCounters(c.Config), backend)
			if !ok || rs.Flowtable != nil {
				continue // refused there, or for devices that the lab does not have
			}
			t.Run(c.name+"/"+string(backend), func(t *testing.T) {
				err := compareWithKernel(t, rs, uint64(i), 24, seen)
				if err != nil { // the lab gives up when the machine is too busy for it
					err = compareWithKernel(t, rs, uint64(i), 24, seen)
				}
				if err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	t.Logf("packets by what became of them: %v", seen)
	for _, outcome := range []string{"accept", "drop", "reject", "dnat", "masquerade", "clamp", "log"} {
		if seen[outcome] == 0 {
			t.Errorf("no packet of the test has met %s", outcome)
		}
	}
}

// withCounters is a configuration whose rules of nftables count packets.
func withCounters(config *zones.Config) *zones.Config {
	conf := *config.Conf
	conf.NftablesCounters = true
	return config.WithConf(&conf)
}

// attempt is a probe, and the evaluator's opinion of it.
type attempt struct {
	probe  lab.Probe
	packet eval.Packet
	want   eval.Result
}

// bench is a lab with a ruleset in it.
type bench struct {
	*lab.Lab
	evaluator *eval.Evaluator
	owner     map[netip.Addr]lab.Host // of addresses that the firewall has routes for
}

var links = map[lab.Host]string{lab.Client: lab.ClientLink, lab.Server: lab.ServerLink, lab.DMZ: lab.DMZLink, lab.FirewallHost: ""}

var hostAt = map[string]lab.Host{lab.ClientLink: lab.Client, lab.ServerLink: lab.Server, lab.DMZLink: lab.DMZ}

// compareWithKernel sends packets through a ruleset. The error is the lab's.
func compareWithKernel(t *testing.T, rs *ir.Ruleset, seed uint64, packets int, seen map[string]int) error {
	l, err := lab.New(t.Context(), lab.Options{DMZ: true})
	if err != nil {
		return err
	}
	defer l.Close()
	loadRuleset(t, l.Firewall(), rs)
	b := &bench{l, eval.New(rs), map[netip.Addr]lab.Host{}}
	n, r := namesOf(rs), rand.New(rand.NewPCG(seed, 3))
	var tried []attempt
	met := map[*ir.Rule]bool{} // rules with a limit: a second packet may be beyond it
	for len(tried) < packets {
		a := b.attempt(n, r)
		switch {
		case a.want.Verdict != eval.Unknown && !a.comesBack() && !a.beyondLimit(met):
			tried = append(tried, a)
			continue
		case a.want.Verdict == eval.Unknown && !strings.Contains(a.want.Why, "direct interface"):
			t.Errorf("packet %+v: unknown, as %s", a.packet, a.want.Why)
		}
		packets--
	}
	probes := make([]lab.Probe, len(tried))
	for i, a := range tried {
		probes[i] = a.probe
	}
	results, err := l.Probe(t.Context(), probes)
	if err != nil {
		return err
	}
	logs := map[ir.Families]int{}
	for i, a := range tried {
		a.compare(t, results[i])
		a.count(seen)
		logs[a.packet.Family] += len(a.want.Logs)
	}
	if !limited(rs) {
		compareLogs(t, l.Firewall(), rs.Backend, logs)
	}
	return nil
}

// compareLogs compares how often log rules have seen a packet. Those that are for IPv6 too may have seen more than the probes: a
// host whose link comes up looks for routers and listeners.
func compareLogs(t *testing.T, firewall *lab.Namespace, backend ir.Backend, want map[ir.Families]int) {
	t.Helper()
	if backend == ir.NFTables {
		if got := logged(t, firewall, "nft", "list", "ruleset"); got < want[ir.V4]+want[ir.V6] {
			t.Errorf("%d packets were logged, want %d", got, want[ir.V4]+want[ir.V6])
		}
		return
	}
	if got := logged(t, firewall, "iptables-save", "-c"); got != want[ir.V4] {
		t.Errorf("%d packets of IPv4 were logged, want %d", got, want[ir.V4])
	}
	if got := logged(t, firewall, "ip6tables-save", "-c"); got < want[ir.V6] {
		t.Errorf("%d packets of IPv6 were logged, want %d", got, want[ir.V6])
	}
}

// attempt makes a probe of what the rules are about.
func (b *bench) attempt(n *names, r *rand.Rand) attempt {
	hosts := []lab.Host{lab.Client, lab.Server, lab.DMZ}
	from, to := pick(r, hosts...), pick(r, append(hosts, lab.FirewallHost, lab.FirewallHost)...)
	if from == to {
		to = lab.FirewallHost
	}
	if to != lab.FirewallHost && r.IntN(8) == 0 {
		from = lab.FirewallHost
	}
	random := n.packet(r) // what is not about a path
	p := eval.Packet{
		Path: eval.Forward, In: links[from], Out: links[to], Family: random.Family, SourcePort: 40000, DestPort: random.DestPort,
		EtherSource: strings.Replace(clientMAC, "01:02", fmt.Sprintf("%02x:02", slices.Index(hosts, from)+1), 1),
		EtherDest:   fmt.Sprintf("02:00:00:00:%02x:01", slices.Index(hosts, from)+1),
	}
	a := attempt{probe: lab.Probe{From: from, To: to, Family: lab.Family(p.Family.String()), Port: p.DestPort, ReplyMSS: 1460}}
	switch random.Protocol {
	case 17:
		p.Protocol, a.probe.Protocol = 17, lab.UDP
	case 1, 58:
		p.Protocol, p.ICMPType, a.probe.Protocol = random.Protocol, map[int]int{1: 8, 58: 128}[random.Protocol], lab.ICMP
		p.SourcePort, p.DestPort = 0, 0
	default:
		p.Protocol, p.MSS, p.Flags = 6, pick(r, 536, 1200, 1460, 8940), pick(r, eval.SYN, eval.SYN, eval.SYN, eval.SYN, eval.ACK, eval.RST)
		p.PathMSS = pathMTU(from, to) - map[ir.Families]int{ir.V4: 40, ir.V6: 60}[p.Family] // less the headers of IP and TCP
		if p.Flags == eval.RST {
			p.State = eval.StateInvalid // nothing that a connection could start with
		}
		a.probe.MSS, a.probe.Flags = p.MSS, lab.Flags(p.Flags)
	}
	p.Source = b.address(n, r, p.Family, from, to)
	p.Destination = b.address(n, r, p.Family, to, from)
	a.probe.Source, a.probe.Destination = p.Source, p.Destination
	switch lab.FirewallHost {
	case from:
		p.Path, a.probe.Source = eval.Output, netip.Addr{}
	case to:
		p.Path, a.probe.Destination = eval.Input, netip.Addr{}
	}
	a.packet, a.want = p, b.evaluator.Evaluate(p)
	if d := a.want.DNAT; d != nil && d.Addr.IsValid() && p.Path != eval.Output { // it goes on to whoever has the address
		p.Path, p.Out = eval.Forward, b.route(d.Addr)
		a.packet, a.want = p, b.evaluator.Evaluate(p)
	}
	return a
}

// comesBack says whether a packet is sent back to its sender, where it cannot be told from an answer.
func (a *attempt) comesBack() bool {
	return a.packet.In != "" && a.want.Packet.Path == eval.Forward && a.packet.In == a.packet.Out
}

// beyondLimit says whether a packet meets a rule with a limit that another one has met, and notes those that it meets.
func (a *attempt) beyondLimit(met map[*ir.Rule]bool) bool {
	beyond := false
	for _, step := range a.want.Trace {
		if slices.ContainsFunc(step.Rule.Matches, isLimit) {
			beyond = beyond || met[step.Rule]
			met[step.Rule] = true
		}
	}
	return beyond
}

func isLimit(m ir.Match) bool { _, ok := m.(ir.Limit); return ok }

// pathMTU is the smaller MTU of the firewall's links on the way between two hosts, in bytes.
func pathMTU(from, to lab.Host) int {
	for _, h := range []lab.Host{from, to} {
		if h != lab.FirewallHost && h != lab.Client {
			return lab.DefaultMTU
		}
	}
	return lab.ClientMTU
}

// address is one that the rules name, if it can be a host's and is not another's; or else the host's own.
func (b *bench) address(n *names, r *rand.Rand, f ir.Families, h, peer lab.Host) netip.Addr {
	if h == lab.FirewallHost {
		link := slices.Index([]lab.Host{lab.Client, lab.Server, lab.DMZ}, peer) + 1
		return netip.MustParseAddr(map[ir.Families]string{ir.V4: fmt.Sprintf("10.%d.0.1", link), ir.V6: fmt.Sprintf("fd00:%d::1", link)}[f])
	}
	a := n.address(r, f, links[h])
	if owner, taken := b.owner[a]; taken && owner != h || !possible(a) {
		return ends[f][links[h]]
	}
	b.owner[a] = h
	return a
}

var impossible = []netip.Prefix{ // those of the lab's links, and what is no host's
	netip.MustParsePrefix("10.0.0.0/13"), netip.MustParsePrefix("fd00::/13"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/16"), netip.MustParsePrefix("127.0.0.0/8"),
}

// possible says whether a host can have an address beside its own.
func possible(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !slices.ContainsFunc(impossible, func(p netip.Prefix) bool { return p.Contains(a) })
}

// route is the link that the firewall sends packets for an address out by.
func (b *bench) route(a netip.Addr) string {
	for _, list := range ends {
		for link, own := range list {
			if own == a {
				return link
			}
		}
	}
	if h, ok := b.owner[a]; ok {
		return links[h]
	}
	return lab.ServerLink
}

// compare says where a packet fared otherwise than the evaluator says.
func (a *attempt) compare(t *testing.T, got lab.Result) {
	t.Helper()
	want := a.want
	var wrong []string
	check := func(what string, got, want any) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s %v, want %v", what, got, want))
		}
	}
	switch want.Verdict {
	case eval.Accept:
		at := lab.FirewallHost
		if want.Packet.Path != eval.Input {
			at = hostAt[want.Packet.Out]
		}
		check("arrived at", got.At, at)
		check("MSS", got.MSS, want.Packet.MSS)
		if a.packet.Path == eval.Forward {
			check("masqueraded:", got.Source.Addr() != a.packet.Source, want.Masquerade)
		}
	default:
		check("arrived at", got.At, lab.Host(""))
		kind, answer := replyOf(want, a.packet)
		check("reply", got.Reply.Kind, kind)
		check("ICMP", eval.Answer{Reset: answer.Reset, Type: got.Reply.Type, Code: got.Reply.Code}, answer)
	}
	if wrong != nil {
		t.Errorf("packet %+v:\n%s\n%s", a.packet, strings.Join(wrong, "\n"), describe(want))
	}
}

// replyOf is what the sender gets of a packet that does not arrive. A reset is not answered with another.
func replyOf(r eval.Result, p eval.Packet) (lab.ReplyKind, eval.Answer) {
	switch {
	case r.Verdict != eval.Reject, r.Answer.Reset && p.Flags&eval.RST != 0:
		return lab.NoReply, eval.Answer{}
	case r.Answer.Reset:
		return lab.GotRST, r.Answer
	}
	return lab.GotICMP, r.Answer
}

// count notes what the packet is an example of.
func (a *attempt) count(seen map[string]int) {
	seen[string(a.want.Verdict)]++
	for name, met := range map[string]bool{
		"dnat": a.want.DNAT != nil, "masquerade": a.want.Masquerade, "clamp": a.want.Packet.MSS < a.packet.MSS, "log": a.want.Logs != nil,
	} {
		if met {
			seen[name]++
		}
	}
}

// limited says whether rules hold back what is beyond a rate: the test's packets are.
func limited(rs *ir.Ruleset) bool {
	for _, c := range rs.Chains {
		for _, r := range c.Rules {
			if slices.ContainsFunc(r.Matches, isLimit) {
				return true
			}
		}
	}
	return false
}

// loadRuleset lets the programs that a ruleset is for load it.
func loadRuleset(t *testing.T, ns *lab.Namespace, rs *ir.Ruleset) {
	t.Helper()
	run := func(write func(b *strings.Builder) error, program string, args ...string) {
		t.Helper()
		var b strings.Builder
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		_, err := ns.Run(t.Context(), b.String(), program, args...)
		switch {
		case err != nil && strings.Contains(err.Error(), "not supported"):
			t.Skip(err) // by this kernel
		case err != nil:
			t.Fatal(err)
		}
	}
	if rs.Backend == ir.NFTables {
		run(func(b *strings.Builder) error {
			notes, err := nft.Write(b, rs, nft.Options{})
			if notes != nil {
				t.Skip(notes[0])
			}
			return err
		}, "nft", "-f", "-")
		return
	}
	run(func(b *strings.Builder) error { return iptables.WriteSets(b, rs) }, "ipset", "restore")
	run(func(b *strings.Builder) error { return iptables.Write(b, rs, ir.V4, iptables.Options{}) }, "iptables-restore")
	run(func(b *strings.Builder) error { return iptables.Write(b, rs, ir.V6, iptables.Options{}) }, "ip6tables-restore")
}

var logCounter = regexp.MustCompile(`(?m)^.*?(?:\slog .*counter packets (\d+)|counter packets (\d+) bytes \d+ log\b|^\[(\d+):\d+\] .*-j (?:LOG|NFLOG|AUDIT)).*$`)

// logged is how many packets the log rules have seen that a program lists.
func logged(t *testing.T, ns *lab.Namespace, program string, args ...string) int {
	t.Helper()
	text, err := ns.Run(t.Context(), "", program, args...)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, m := range logCounter.FindAllStringSubmatch(text, -1) {
		count, err := strconv.Atoi(m[1] + m[2] + m[3])
		if err != nil {
			t.Fatal(err)
		}
		sum += count
	}
	return sum
}

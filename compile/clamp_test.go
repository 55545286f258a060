package compile_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/lab"
	"richwall/zones"
)

// TestClamp sends the handshakes of each case of testdata/clamp through a firewall, and compares the MSS that arrives. A case
// is an archive of the files of a configuration folder. It starts with a sentence about it, and goes on with lines of these
// kinds:
//
//	[BACKEND] FAMILY FROM → TO SYN SYN/ACK [OPTION…]
//	link mtu N           of the link between firewall and server
//	route ADDRESS mtu N  on the firewall
//	logged N             packets in all, by rules of the kernel's log
//	counted N            packets in all, by rules that clamp, with NftablesCounters
//	refused BACKEND: …   what the configuration is refused with
//	backend BACKEND      the case is not tried on the other
//	untracked            connection tracking leaves all packets out
//	synproxy             the firewall answers SYNs to port 80 by SYNPROXY, with an MSS of 1460
//	# …                  a remark
//
// BACKEND is nftables or iptables, and without it a line is for both; FAMILY ipv4, ipv6 or both; FROM and TO two of client
// (at c0), server (s0), dmz (d0) and firewall. SYN and SYN/ACK are what arrives: the MSS in bytes, "none" for a segment
// without one, "same" for the one that was offered, "lost" for no segment. Options are
//
//	offers=N/M           the MSS of SYN and SYN/ACK; 0 means none; without it 1460 both, but the firewall offers what fits its link
//	port=N               instead of 80
//	src=ADDRESS          of the SYN, instead of FROM's own
//	dst=ADDRESS          of the SYN, instead of TO's own
//	at=HOST              where the SYN arrives, instead of at TO
//	data=N               bytes of data in the SYN
func TestClamp(t *testing.T) {
	paths, err := filepath.Glob("../testdata/clamp/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			c := readClampCase(t, path)
			for _, backend := range c.backends {
				t.Run(string(backend), func(t *testing.T) { c.run(t, backend) })
			}
		})
	}
}

// clampCase is a configuration and what becomes of handshakes.
type clampCase struct {
	config     *zones.Config
	backends   []ir.Backend
	options    lab.Options
	routes     [][]string // arguments of ip
	logged     int        // −1: not said
	counted    int        // −1: not said
	others     []string   // tables of nftables beside
	refused    map[ir.Backend]string
	handshakes []handshake
}

// handshake is a line of the table. Expected are MSS values in bytes, or one of the constants below.
type handshake struct {
	line        string
	backend     string // empty for both
	probe       lab.Probe
	at          lab.Host
	syn, synack int
}

const (
	same = -1
	lost = -2
)

var expected = map[string]int{"same": same, "lost": lost, "none": 0}

var clampDirective = regexp.MustCompile(`^(?:(link) mtu (\d+)|(route) (\S+) mtu (\d+)|(logged) (\d+)|(refused) (\w+): (.*)|(backend) (\w+)|untracked|synproxy|(counted) (\d+))$`)

func readClampCase(t *testing.T, path string) *clampCase {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &clampCase{
		config: loadArchive(t, archive), backends: []ir.Backend{ir.NFTables, ir.IPTables}, options: lab.Options{DMZ: true}, logged: -1, counted: -1,
		refused: map[ir.Backend]string{},
	}
	sentence, rest, _ := strings.Cut(string(archive.Comment), "\n\n")
	if !strings.HasSuffix(strings.TrimSpace(sentence), ".") {
		t.Errorf("the case does not start with a sentence: %q", sentence)
	}
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if m := clampDirective.FindStringSubmatch(line); m != nil {
			c.directive(m)
		} else if hs, err := readHandshakes(line); err == nil {
			c.handshakes = append(c.handshakes, hs...)
		} else {
			t.Fatalf("%q: %v", line, err)
		}
	}
	return c
}

func (c *clampCase) directive(m []string) {
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	switch {
	case m[1] != "":
		c.options.MTU = number(m[2])
	case m[3] != "":
		device, via := "c0", "10.1.0.2"
		if strings.HasPrefix(m[4], "fd00") {
			via = "fd00:1::2"
		}
		c.routes = append(c.routes, []string{"route", "replace", m[4], "via", via, "dev", device, "mtu", m[5]})
	case m[6] != "":
		c.logged = number(m[7])
	case m[13] != "":
		c.counted = number(m[14])
	case others[m[0]] != "":
		c.others = append(c.others, others[m[0]])
	case m[8] != "":
		c.refused[ir.Backend(m[9])] = m[10]
	default:
		c.backends = []ir.Backend{ir.Backend(m[12])}
	}
}

// readHandshakes reads a line of the table: a handshake for each family.
func readHandshakes(line string) ([]handshake, error) {
	h := handshake{line: line, probe: lab.Probe{Port: 80, MSS: 1460, ReplyMSS: 1460}}
	words := strings.Fields(line)
	if slices.Contains(backends, words[0]) {
		h.backend, words = words[0], words[1:]
	}
	if len(words) < 6 || words[2] != "→" {
		return nil, fmt.Errorf("it is no line of the table")
	}
	h.probe.From, h.probe.To, h.at = lab.Host(words[1]), lab.Host(words[3]), lab.Host(words[3])
	for i, mss := range []*int{&h.syn, &h.synack} {
		n, known := expected[words[4+i]]
		if !known {
			var err error
			if n, err = strconv.Atoi(words[4+i]); err != nil {
				return nil, err
			}
		}
		*mss = n
	}
	for _, word := range words[6:] {
		key, value, _ := strings.Cut(word, "=")
		set := handshakeOptions[key]
		if set == nil {
			return nil, fmt.Errorf("there is no option %q", key)
		}
		if err := set(&h, value); err != nil {
			return nil, err
		}
	}
	families := map[string][]lab.Family{"ipv4": {lab.IPv4}, "ipv6": {lab.IPv6}, "both": {lab.IPv4, lab.IPv6}}[words[0]]
	if families == nil {
		return nil, fmt.Errorf("there is no family %q", words[0])
	}
	var list []handshake
	for _, f := range families {
		h.probe.Family = f
		list = append(list, h)
	}
	return list, nil
}

var backends = []string{string(ir.NFTables), string(ir.IPTables)}

var handshakeOptions = map[string]func(h *handshake, value string) error{
	"offers": func(h *handshake, value string) error {
		_, err := fmt.Sscanf(value, "%d/%d", &h.probe.MSS, &h.probe.ReplyMSS)
		return err
	},
	"port": func(h *handshake, value string) (err error) { h.probe.Port, err = strconv.Atoi(value); return err },
	"data": func(h *handshake, value string) (err error) { h.probe.Payload, err = strconv.Atoi(value); return err },
	"src":  func(h *handshake, value string) (err error) { h.probe.Source, err = netip.ParseAddr(value); return err },
	"dst": func(h *handshake, value string) (err error) {
		h.probe.Destination, err = netip.ParseAddr(value)
		return err
	},
	"at": func(h *handshake, value string) error { h.at = lab.Host(value); return nil },
}

// run loads the case on one back end and sends its handshakes.
func (c *clampCase) run(t *testing.T, backend ir.Backend) {
	rs, err := compile.Compile(c.config, backend)
	if want := c.refused[backend]; want != "" {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want that it is refused with %q", err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	checkClampChains(t, rs)
	l := newClampLab(t, c.options)
	loadRuleset(t, l.Firewall(), rs)
	for _, table := range c.others {
		if _, err := l.Firewall().Run(t.Context(), table, "nft", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	var sent []handshake
	var probes []lab.Probe
	for _, h := range c.handshakes {
		if h.backend == "" || h.backend == string(backend) {
			sent, probes = append(sent, h), append(probes, h.probe)
		}
	}
	c.setRoutes(t, l, probes)
	results, err := l.Probe(t.Context(), probes)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range sent {
		h.compare(t, results[i])
	}
	if c.counted >= 0 {
		if got := sumOf(t, l.Firewall(), backend, clampCounter); got != c.counted {
			t.Errorf("%d packets were counted by clamps, want %d", got, c.counted)
		}
	}
	if c.logged >= 0 {
		if got := logged(t, l.Firewall(), backend); got != c.logged {
			t.Errorf("%d packets were logged, want %d", got, c.logged)
		}
	}
}

// others are tables of other programs, by the word for each.
var others = map[string]string{
	"untracked": `table inet untracked {
	chain prerouting {
		type filter hook prerouting priority raw
		notrack
	}
	chain output {
		type filter hook output priority raw
		notrack
	}
}`,
	"synproxy": `table inet proxy {
	chain prerouting {
		type filter hook prerouting priority raw
		tcp dport 80 tcp flags syn notrack
	}
	chain forward {
		type filter hook forward priority filter
		ct state invalid,untracked tcp dport 80 synproxy mss 1460 wscale 7 timestamp sack-perm
	}
}`,
}

// setRoutes sets the case's routes, in place of those that the lab makes for addresses when it first sends to them.
func (c *clampCase) setRoutes(t *testing.T, l *lab.Lab, probes []lab.Probe) {
	t.Helper()
	if c.routes == nil {
		return
	}
	if _, err := l.Probe(t.Context(), probes); err != nil {
		t.Fatal(err)
	}
	for _, route := range c.routes {
		if _, err := l.Firewall().Run(t.Context(), "", "ip", route...); err != nil {
			t.Fatal(err)
		}
	}
}

func newClampLab(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	if missing := lab.Missing("nft", "ipset", "iptables-restore", "ip6tables-restore", "ip"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	l, err := lab.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// loadRuleset lets the programs that a ruleset is for load it.
func loadRuleset(t *testing.T, ns *lab.Namespace, rs *ir.Ruleset) {
	t.Helper()
	for _, o := range outputs {
		if o.backend != rs.Backend || o.loader == nil {
			continue
		}
		var b strings.Builder
		if err := o.print(&b, rs, false); err != nil {
			t.Fatal(err)
		}
		args := slices.DeleteFunc(slices.Clone(o.loader[1:]), func(a string) bool { return a == "-c" })
		if _, err := ns.Run(t.Context(), b.String(), o.loader[0], args...); err != nil {
			t.Fatal(err)
		}
	}
}

// compare says where a handshake went otherwise than its line has it.
func (h handshake) compare(t *testing.T, r lab.Result) {
	t.Helper()
	word := func(mss int) string {
		for name, n := range expected {
			if n == mss {
				return name
			}
		}
		return strconv.Itoa(mss)
	}
	check := func(what string, arrived bool, offered, got, want int) {
		switch {
		case !arrived:
			got = lost
		case want == same:
			want = offered
		}
		if got != want {
			t.Errorf("%s\n%s: the %s arrives with %s, not %s", h.line, h.probe.Family, what, word(got), word(want))
		}
	}
	check("SYN", r.At == h.at, h.probe.MSS, r.MSS, h.syn)
	check("SYN/ACK", r.Reply.Kind == lab.GotSYNACK, r.Offered, r.Reply.MSS, h.synack)
}

var logCounter = regexp.MustCompile(`(?m)^.*(?:counter packets (\d+) .*log prefix|^\[(\d+):\d+\] .*-j (?:LOG|NFLOG)).*$`)

var clampCounter = regexp.MustCompile(`(?m)^.*(?:counter packets (\d+) .*maxseg size set|^\[(\d+):\d+\] .*-j TCPMSS).*$`)

// logged is how many packets the log rules of a firewall have seen.
func logged(t *testing.T, ns *lab.Namespace, backend ir.Backend) int {
	t.Helper()
	return sumOf(t, ns, backend, logCounter)
}

// sumOf is how many packets the rules have seen whose lines match, in which the number is one of two groups.
func sumOf(t *testing.T, ns *lab.Namespace, backend ir.Backend, lines *regexp.Regexp) int {
	t.Helper()
	commands := [][]string{{"nft", "list", "ruleset"}}
	if backend == ir.IPTables {
		commands = [][]string{{"iptables-save", "-c"}, {"ip6tables-save", "-c"}}
	}
	sum := 0
	for _, c := range commands {
		text, err := ns.Run(t.Context(), "", c[0], c[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range lines.FindAllStringSubmatch(text, -1) {
			n, err := strconv.Atoi(m[1] + m[2])
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// A packet that is no SYN costs one comparison: of a chain that the kernel enters at mangle priority, clamps have one rule,
// which tests for SYN. It is there only where it leads to a clamp.
func checkClampChains(t *testing.T, rs *ir.Ruleset) {
	t.Helper()
	for _, chain := range rs.Chains {
		entered := chain.Hook != nil && chain.Hook.Type == "filter" && chain.Hook.Priority == -150 && chain.Hook.Hook != "prerouting"
		if rs.Backend == ir.IPTables {
			entered = chain.Builtin && chain.Table == "mangle" && chain.Name != "PREROUTING"
		}
		if !entered {
			continue
		}
		var rules []*ir.Rule
		for _, r := range chain.Rules {
			if !reflect.DeepEqual(r.Actions, []ir.Action{ir.Jump{Chain: chain.Name + "_direct"}}) { // of the direct interface
				rules = append(rules, r)
			}
		}
		if len(rules) == 0 && rs.Backend == ir.IPTables {
			continue // the kernel's own chain
		}
		if len(rules) != 1 || !reflect.DeepEqual(rules[0].Matches, []ir.Match{ir.SYN{}}) {
			t.Fatalf("chain %s has %d rules: %s", chain.Name, len(rules), rules)
		}
		if jump, ok := rules[0].Actions[0].(ir.Jump); !ok || !leadsToClamp(rs, chain.Table, jump.Chain) {
			t.Errorf("chain %s leads to no clamp", chain.Name)
		}
	}
}

// leadsToClamp says whether a chain, or one it jumps to, clamps, or refuses sizes.
func leadsToClamp(rs *ir.Ruleset, table, name string) bool {
	i := slices.IndexFunc(rs.Chains, func(c *ir.Chain) bool { return c.Table == table && c.Name == name })
	if i < 0 {
		return false
	}
	if strings.Contains(name, "MSS_") {
		return len(rs.Chains[i].Rules) > 0
	}
	for _, r := range rs.Chains[i].Rules {
		for _, a := range r.Actions {
			jump, ok := a.(ir.Jump)
			if _, clamp := a.(ir.ClampMSS); clamp || ok && leadsToClamp(rs, table, jump.Chain) {
				return true
			}
		}
	}
	return false
}

// A VPN's usual complaint: the page loads and the file does not get there. A link on the way is smaller than both ends know, and
// nothing tells them. What firewalld makes of a clamp lets downloads through, and uploads only with luck.
func TestClampLetsLargePacketsNeverBeSent(t *testing.T) {
	const linkMTU, size = 1280, 10_000_000
	var transfers []lab.Transfer
	for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
		for _, upload := range []bool{false, true} {
			transfers = append(transfers, lab.Transfer{Family: family, Upload: upload, Port: 80, Size: size})
		}
	}
	for _, c := range []struct {
		what             string
		rule, own        string
		download, upload string
	}{
		{"no clamp", ``, "both", lab.Stalled, lab.Stalled},
		{"a clamp as firewalld's", `<rule><tcp-mss-clamp mtu="1280"/></rule>`, "initiator", lab.Finished, lab.Stalled},
		{"a clamp", `<rule><tcp-mss-clamp mtu="1280"/></rule>`, "both", lab.Finished, lab.Finished},
		{"a clamp of one size", `<rule><tcp-mss-clamp value="1220"/></rule>`, "both", lab.Finished, lab.Finished},
		{"a clamp that is too large", `<rule><tcp-mss-clamp value="1241"/></rule>`, "both", lab.Stalled, lab.Stalled},
	} {
		for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
			t.Run(c.what+"/"+string(backend), func(t *testing.T) {
				rs, err := compile.Compile(vpnConfig(t, c.rule, c.own), backend)
				if err != nil {
					t.Fatal(err)
				}
				l := newClampLab(t, lab.Options{PathMTU: linkMTU})
				loadRuleset(t, l.Firewall(), rs)
				results, err := l.Transfer(t.Context(), transfers)
				if err != nil {
					t.Fatal(err)
				}
				for i, got := range results {
					want := c.download
					if transfers[i].Upload {
						want = c.upload
					}
					if got.Outcome != want {
						t.Errorf("%+v: it %s at %d bytes, with packets of %d; want that it %s", transfers[i], got.Outcome, got.Arrived, got.Packet, want)
					}
				}
			})
		}
	}
}

// vpnConfig is a configuration whose zone for the client has a rule.
func vpnConfig(t *testing.T, rule, own string) *zones.Config {
	t.Helper()
	return loadArchive(t, txtar.Parse([]byte(`
-- richwall.conf --
TCPMSSClamp=`+own+`
-- zones/vpn.xml --
<zone target="ACCEPT">
  <interface name="c0"/>
  `+rule+`
</zone>
-- zones/internet.xml --
<zone target="ACCEPT"><interface name="s0"/></zone>
`)))
}

// loadArchive is the configuration whose files an archive has.
func loadArchive(t *testing.T, archive *txtar.Archive) *zones.Config {
	t.Helper()
	dir := t.TempDir()
	files, err := txtar.FS(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	return loadConfig(t, dir)
}

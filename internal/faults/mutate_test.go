package faults

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"richwall/internal/cli/richwall"
	"richwall/internal/daemon"
	"richwall/internal/irgen"
	"richwall/internal/lab"
	"richwall/internal/statedir"
	"richwall/internal/testlog"
)

// sound is a configuration that lets in one port and what some addresses send, and has a bit of everything. It does not let in
// ssh, which the shipped configuration does.
var sound = map[string]string{
	"firewalld.conf": "DefaultZone=public\nCleanupOnExit=no\nLockdown=no\nIPv6_rpfilter=yes\nIndividualCalls=no\nLogDenied=off\n" +
		"FirewallBackend=nftables\nFlushAllOnReload=yes\nRFC3964_IPv4=yes\nNftablesFlowtable=off\nNftablesCounters=no\nNftablesTableOwner=yes\n",
	"richwall.conf": "TCPMSSClamp=both\nIPNoPMTUDisc=keep\nOnForeignChange=repair\n",
	"zones/public.xml": `<?xml version="1.0" encoding="utf-8"?>
<zone target="default">
  <short>Public</short>
  <interface name="c0"/>
  <port port="4242" protocol="tcp"/>
  <service name="odd"/>
  <port port="8000-8100" protocol="tcp"/>
  <source-port port="5353" protocol="udp"/>
  <icmp-block name="redirect"/>
  <forward-port port="2222" protocol="tcp" to-port="22"/>
  <rule priority="-5" family="ipv4">
    <source address="192.0.2.0/24"/>
    <port port="443" protocol="tcp"/>
    <log prefix="web " level="info"><limit value="3/m"/></log>
    <accept/>
  </rule>
  <rule family="ipv4">
    <source ipset="blocked"/>
    <drop/>
  </rule>
  <rule>
    <tcp-mss-clamp value="1360"/>
  </rule>
  <forward/>
</zone>
`,
	"zones/inside.xml": `<?xml version="1.0" encoding="utf-8"?>
<zone target="%%REJECT%%" ingress-priority="10">
  <interface name="s0"/>
  <source address="203.0.113.0/24"/>
  <masquerade/>
  <port port="http" protocol="tcp"/>
</zone>
`,
	"services/odd.xml": `<?xml version="1.0" encoding="utf-8"?>
<service>
  <short>Odd</short>
  <port port="7000" protocol="udp"/>
  <port port="7001-7005" protocol="tcp"/>
  <destination ipv4="224.0.0.251"/>
  <include service="dns"/>
</service>
`,
	"ipsets/blocked.xml": `<?xml version="1.0" encoding="utf-8"?>
<ipset type="hash:net">
  <option name="maxelem" value="1000"/>
  <entry>198.51.100.0/24</entry>
  <entry>192.0.2.77</entry>
</ipset>
`,
	"policies/through.xml": `<?xml version="1.0" encoding="utf-8"?>
<policy target="CONTINUE" priority="-1">
  <ingress-zone name="public"/>
  <egress-zone name="inside"/>
  <service name="http"/>
  <rule family="ipv4"><destination address="10.2.0.2"/><accept/></rule>
</policy>
`,
}

// strange are values to put in the place of others.
var strange = []string{"", "0", "-1", "1", "22", "65535", "65536", "99999999999999999999", "tcp", "udp", "sctp", "icmp", "no", "yes", "true",
	"DROP", "%%REJECT%%", "CONTINUE", "ANY", "HOST", "public", "inside", "nosuch", "192.0.2.1", "192.0.2.0/33", "2001:db8::/32", "0.0.0.0",
	"hash:ip", "hash:mac", "ipv4", "ipv6", "pmtu", "a b", "&amp;", "ä", "\x00", "\xff", strings.Repeat("x", 300), "../public", "%s", "$(id)"}

var (
	value   = regexp.MustCompile(`"[^"]*"|=[^\n"<>]*\n`)
	element = regexp.MustCompile(`(?m)^ *<.*>\n`)
)

// mutations make one text of another; one that has nothing to work on returns the same.
var mutations = []func(*rand.Rand, string) string{
	func(r *rand.Rand, s string) string { // a byte is another one
		i := r.IntN(len(s))
		return s[:i] + string([]byte{byte(r.IntN(256))}) + s[i+1:]
	},
	func(r *rand.Rand, s string) string { // a bit is
		b, i := []byte(s), r.IntN(len(s))
		b[i] ^= 1 << r.IntN(8)
		return string(b)
	},
	func(r *rand.Rand, s string) string { return s[:r.IntN(len(s))] }, // written half
	func(r *rand.Rand, s string) string { // a piece is missing
		i := r.IntN(len(s))
		return s[:i] + s[i+r.IntN(min(40, len(s)-i)):]
	},
	func(r *rand.Rand, s string) string { // a piece is full of zeros, as after a crash of the machine
		i := r.IntN(len(s))
		n := r.IntN(min(100, len(s)-i))
		return s[:i] + strings.Repeat("\x00", n) + s[i+n:]
	},
	func(r *rand.Rand, s string) string {
		return replaceOne(r, value, s, func(old string) string { // another value
			if old[0] == '"' {
				return `"` + strange[r.IntN(len(strange))] + `"`
			}
			return "=" + strange[r.IntN(len(strange))] + "\n"
		})
	},
	func(r *rand.Rand, s string) string {
		return replaceOne(r, element, s, func(string) string { return "" })
	},
	func(r *rand.Rand, s string) string {
		return replaceOne(r, element, s, func(old string) string { return old + old })
	},
	func(r *rand.Rand, s string) string { // an element stands elsewhere
		moved := ""
		s = replaceOne(r, element, s, func(old string) string { moved = old; return "" })
		return replaceOne(r, element, s, func(old string) string { return old + moved })
	},
}

func replaceOne(r *rand.Rand, pattern *regexp.Regexp, s string, with func(string) string) string {
	places := pattern.FindAllStringIndex(s, -1)
	if places == nil {
		return s
	}
	at := places[r.IntN(len(places))]
	return s[:at[0]] + with(s[at[0]:at[1]]) + s[at[1]:]
}

// mutant is a daemon whose files are spoiled.
type mutant struct {
	*testing.T
	*daemon.Daemon
	lab   *lab.Lab
	other *lab.Namespace // where nothing is but what the files are compiled to
	dir   string
	state *statedir.Dir
	log   testlog.Log
}

// newMutant starts a daemon with a configuration in which nothing is wrong, which keeps it as the last good one.
func newMutant(t *testing.T, files map[string]string) *mutant {
	m := &mutant{T: t, lab: newLab(t, "nft"), dir: t.TempDir()}
	var err error
	if m.state, err = statedir.For(t.TempDir(), m.dir); err != nil {
		t.Fatal(err)
	}
	if m.other, err = lab.NewNamespace(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.other.Close)
	write(t, m.dir, files)
	m.start()
	return m
}

func (m *mutant) start() {
	m.Helper()
	m.log.Reset()
	m.Daemon = newDaemon(m.dir, m.state, m.lab.Firewall().Do, slog.New(slog.NewTextHandler(&m.log, nil)))
	if err := m.Start(context.Background()); err != nil {
		m.Fatalf("the daemon does not start: %v", err)
	}
}

// runsWhatFilesSay checks that the rules in the kernel are those that "richwall compile" makes of the files.
func (m *mutant) runsWhatFilesSay(what string) {
	m.Helper()
	var text, notes bytes.Buffer
	if status := richwall.Main([]string{"compile", "--config", m.dir, "--to", "nft"}, strings.NewReader(""), &text, &notes); status != 0 {
		m.Fatalf("richwall compile ends with %d where the daemon runs what the files say, and says\n%s%s\nthe log says\n%s", status, &notes, what, m.log.String())
	}
	if _, err := m.other.Run(m.Context(), "flush ruleset\n"+text.String(), "nft", "-f", "-"); err != nil {
		m.Fatalf("%v: %s", err, what)
	}
	if d := tableDifference(table(m.T, m.other), table(m.T, m.lab.Firewall())); d != "" {
		m.Fatalf("what runs is not what the files say: %s: %s\nthe log says\n%s", d, what, m.log.String())
	}
}

// probed are ports that packets are sent to: the one that sound opens, ssh, which the shipped configuration opens, and others.
var probed = []int{4242, 22, closedPort, 80, 443, 7003, 8050, 8051, 60000}

// door is where a packet from the client may come in.
type door struct {
	family lab.Family
	port   int
}

// from is the address of the client.
func (d door) from() netip.Addr {
	if d.family == lab.IPv4 {
		return netip.MustParseAddr("10.1.0.2")
	}
	return netip.MustParseAddr("fd00:1::2")
}

// open are those of the probed ports that are open.
func (m *mutant) open() map[door]bool {
	m.Helper()
	var probes []lab.Probe
	for _, p := range probed {
		for _, f := range []lab.Family{lab.IPv4, lab.IPv6} {
			probes = append(probes, lab.Probe{From: lab.Client, To: lab.FirewallHost, Family: f, Port: p})
		}
	}
	results, err := m.lab.Probe(m.Context(), probes)
	if err != nil {
		m.Fatal(err)
	}
	open := map[door]bool{}
	for i, r := range results {
		if r.At != "" {
			open[door{probes[i].Family, probes[i].Port}] = true
		}
	}
	return open
}

// strict is sound with a default zone of its own, which lets in less than any shipped one, and a set by which it drops what the client
// sends to one of its open ports.
func strict() map[string]string {
	files := maps.Clone(sound)
	delete(files, "zones/public.xml")
	files["firewalld.conf"] = strings.Replace(sound["firewalld.conf"], "DefaultZone=public", "DefaultZone=outside", 1)
	files["zones/outside.xml"] = strings.NewReplacer("  <interface name=\"c0\"/>\n", "",
		"<source ipset=\"blocked\"/>\n", "<source ipset=\"blocked\"/>\n    <port port=\"8050\" protocol=\"tcp\"/>\n").Replace(sound["zones/public.xml"])
	files["policies/through.xml"] = strings.Replace(sound["policies/through.xml"], `"public"`, `"outside"`, 1)
	files["ipsets/blocked.xml"] = strings.Replace(sound["ipsets/blocked.xml"], "192.0.2.77", "10.1.0.2", 1)
	return files
}

// Configurations that bytes, values or structure were changed in, or that were written half, are read by reloads and starts. A
// reload either refuses the files, and then the rules stay to the letter, or runs what the files say, as does a start that can use
// all of them. What is accepted opens nothing that was closed, unless the files say so when they are read in another way. A start
// that cannot use them, or not all of them, opens nothing but what the last configuration without an error or the files that were
// not spoiled open: not ssh, by which the shipped configuration could be told.
//
// RICHWALL_MUTATIONS is how many there are; RICHWALL_SEED repeats a run.
func TestSpoiledFiles(t *testing.T) {
	whole := strict()
	m := newMutant(t, whole)
	random := rand.New(rand.NewPCG(irgen.Seed(t), 0))
	names := slices.Sorted(maps.Keys(whole))
	counts := map[string]int{}
	asWritten := m.open()
	for _, at := range []door{{lab.IPv4, 4242}, {lab.IPv6, 4242}, {lab.IPv4, 8051}, {lab.IPv6, 8050}} {
		if !asWritten[at] {
			t.Errorf("%v is closed", at)
		}
	}
	for at := range asWritten {
		if !read(whole).opens(at) {
			t.Errorf("%v is open, and should not be", at)
		}
	}
	good := asWritten
	for n := range int(irgen.Setting(t, "RICHWALL_MUTATIONS", 300)) {
		write(t, m.dir, whole)
		name := names[random.IntN(len(names))]
		spoiled := mutations[random.IntN(len(mutations))](random, whole[name])
		write(t, m.dir, map[string]string{name: spoiled})
		what := fmt.Sprintf("configuration %d, with %s spoiled:\n%q", n, name, spoiled)
		refused := false
		if n%3 == 0 {
			if err := m.Stop(t.Context()); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			m.start()
			counts["start "+string(m.Snapshot().State)]++
		} else {
			how := m.reload(what, n%5 == 0)
			counts[how]++
			refused = how == reloadRefused
		}
		files := maps.Clone(whole)
		files[name] = spoiled
		said, open := read(files), m.open()
		accepted := m.Snapshot().State == daemon.Running
		if accepted && !refused {
			m.runsWhatFilesSay(what)
		}
		for at := range open {
			if !good[at] && !asWritten[at] && !(accepted && said.opens(at)) {
				t.Fatalf("%v is open, was not with the last good configuration, and is not to be by the files: %s\nthe log says\n%s", at, what, m.log.String())
			}
		}
		if accepted {
			if !refused {
				m.runsWhatFilesSay(what)
			}
			good = open
		}
	}
	t.Log(counts)
	write(t, m.dir, whole)
	if err := m.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if open := m.open(); !maps.Equal(open, asWritten) {
		t.Errorf("%v are open with the sound configuration", open)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

const reloadRefused = "reload refused"

// reload reloads, and says how that went. When it is refused nothing may have changed; listed compares the kernel's rules, too.
func (m *mutant) reload(what string, listed bool) string {
	m.Helper()
	before := m.Snapshot()
	var rules string
	if listed {
		rules = table(m.T, m.lab.Firewall())
	}
	err := m.Reload(m.Context())
	if err == nil {
		return "reload accepted"
	}
	after := m.Snapshot()
	if after.Runtime != before.Runtime || after.Permanent != before.Permanent || after.State != before.State {
		m.Fatalf("a reload was refused (%v) and changed something: %s", err, what)
	}
	if listed && tableDifference(rules, table(m.T, m.lab.Firewall())) != "" {
		m.Fatalf("a reload was refused (%v) and changed the rules: %s", err, what)
	}
	return reloadRefused
}

// A file of XML that somebody has written a part of is refused by a reload, wherever it ends, and nothing changes; once it is
// whole it is read.
func TestHalfWrittenFiles(t *testing.T) {
	m := newMutant(t, sound)
	defer m.Stop(t.Context())
	rules := table(t, m.lab.Firewall())
	for name, text := range sound {
		if !strings.HasSuffix(name, ".xml") {
			continue
		}
		whole := strings.TrimSpace(text)
		for end := 0; end < len(whole); end += 17 {
			write(t, m.dir, map[string]string{name: whole[:end]})
			if err := m.Reload(t.Context()); err == nil {
				t.Errorf("%s is accepted when it ends after %q", name, whole[max(0, end-30):end])
			}
		}
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if d := tableDifference(rules, table(t, m.lab.Firewall())); d != "" {
		t.Errorf("reloads that were refused changed the rules: %s", d)
	}
	if err := m.Reload(t.Context()); err != nil {
		t.Errorf("whole files are refused: %v", err)
	}
}

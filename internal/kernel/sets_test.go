package kernel_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/zones"
)

// span is a range of addresses, both ends included.
type span struct{ low, high netip.Addr }

func spanOf(t *testing.T, text string) span {
	t.Helper()
	if low, high, ok := strings.Cut(text, "-"); ok {
		return span{netip.MustParseAddr(low), netip.MustParseAddr(high)}
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		return span{addr, addr}
	}
	last := prefix.Addr().As4()
	for bit := prefix.Bits(); bit < 32; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	return span{prefix.Addr(), netip.AddrFrom4(last)}
}

// inKernel are the addresses that the kernel has in a set, as few ranges in order.
func inKernel(t *testing.T, ns *lab.Namespace, backend ir.Backend, set string) []span {
	t.Helper()
	var list []span
	if backend == ir.IPTables {
		for line := range strings.Lines(run(t, ns, "", "ipset", "save", set)) {
			if element, ok := strings.CutPrefix(line, "add "+set+" "); ok {
				list = append(list, spanOf(t, strings.Fields(element)[0]))
			}
		}
	} else {
		list = nftElements(t, run(t, ns, "", "nft", "-j", "list", "set", "inet", "firewalld", set))
	}
	slices.SortFunc(list, func(a, b span) int { return a.low.Compare(b.low) })
	var union []span
	for _, s := range list {
		if n := len(union); n > 0 && !union[n-1].high.Next().Less(s.low) {
			union[n-1].high = slices.MaxFunc([]netip.Addr{union[n-1].high, s.high}, netip.Addr.Compare)
		} else {
			union = append(union, s)
		}
	}
	return union
}

// nftElements are the elements in a listing of nft in JSON: "10.0.0.1", {"prefix": {"addr": …, "len": …}} or
// {"range": [low, high]}, or {"elem": {"val": …}} around one of them in a set with a timeout.
func nftElements(t *testing.T, listing string) (list []span) {
	t.Helper()
	var found struct {
		Nftables []struct {
			Set struct{ Elem []json.RawMessage }
		}
	}
	if err := json.Unmarshal([]byte(listing), &found); err != nil {
		t.Fatal(err)
	}
	for _, object := range found.Nftables {
		for _, raw := range object.Set.Elem {
			var timed struct{ Elem struct{ Val json.RawMessage } }
			if json.Unmarshal(raw, &timed) == nil && timed.Elem.Val != nil {
				raw = timed.Elem.Val
			}
			var wide struct {
				Prefix struct {
					Addr string
					Len  int
				}
				Range []string
			}
			var text string
			switch {
			case json.Unmarshal(raw, &text) == nil:
			case json.Unmarshal(raw, &wide) != nil:
				t.Fatalf("%s is no element", raw)
			case wide.Range != nil:
				text = wide.Range[0] + "-" + wide.Range[1]
			default:
				text = fmt.Sprintf("%s/%d", wide.Prefix.Addr, wide.Prefix.Len)
			}
			list = append(list, spanOf(t, text))
		}
	}
	return list
}

// missed is the entries of which an address is in no element.
func missed(t *testing.T, entries []string, elements []span) (list []string) {
	t.Helper()
	for _, text := range entries {
		entry := spanOf(t, text)
		i, found := slices.BinarySearchFunc(elements, entry.low, func(s span, a netip.Addr) int { return s.low.Compare(a) })
		if !found {
			i--
		}
		if i < 0 || elements[i].high.Less(entry.high) {
			list = append(list, text)
		}
	}
	return list
}

// blocking is a configuration whose default zone drops what comes from a set.
func blocking(t *testing.T, set *zones.IPSet) *zones.Config {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/zones/public.xml", `<zone target="ACCEPT"><rule><source ipset="`+set.Name+`"/><drop/></rule></zone>`)
	write(t, dir+"/firewalld.conf", "NftablesTableOwner=no\n")
	write(t, dir+"/ipsets/"+set.Name+".xml", string(zones.WriteIPSet(set)))
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if cfg == nil {
		t.Fatal(problems)
	}
	return cfg
}

// A rule of the direct interface may look up a set of the same configuration that is not in the kernel yet: the check does not refuse it, and
// still refuses one that nobody makes.
func TestDirectRuleOfANewSet(t *testing.T) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for name, right := range map[string]bool{"blocked": true, "nobodys": false} {
			dir := t.TempDir()
			write(t, dir+"/ipsets/blocked.xml", `<ipset type="hash:ip"><entry>192.0.2.1</entry></ipset>`)
			write(t, dir+"/direct.xml", `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-m set --match-set `+name+` src -j DROP</rule></direct>`)
			cfg, problems := zones.Load(zones.Dirs{System: dir})
			if err := problems.Err(); err != nil {
				t.Fatal(err)
			}
			rs, err := compile.Compile(cfg, backend)
			if err != nil {
				t.Fatal(err)
			}
			next := &kernel.Desired{Rules: rs}
			if backend == ir.NFTables {
				if next.Direct, err = compile.Direct(cfg); err != nil {
					t.Fatal(err)
				}
			}
			k := open(t, namespace(t), backend)
			if err := k.Check(next); (err == nil) != right {
				t.Errorf("%s: the check of a rule that looks up %s says: %v", backend, name, err)
			}
			if err := k.Commit(t.Context(), next); (err == nil) != right {
				t.Errorf("%s: the commit of a rule that looks up %s says: %v", backend, name, err)
			}
		}
	}
}

// A block list of 100,000 entries, of which 1,000 overlap with others, blocks every address in it; on both back ends.
func TestLargeSetWithOverlaps(t *testing.T) {
	kernel.Needs(t, tableTools...)
	set := &zones.IPSet{Meta: zones.Meta{Name: "blocked"}, Type: "hash:net", Options: map[string]string{"maxelem": "200000"}}
	for n := range 99_000 / kernel.RaceFactor {
		m := n * 7919 % (1 << 20)
		set.Entries = append(set.Entries, fmt.Sprintf("10.%d.%d.%d", 16+m>>16, m>>8&255, m&255))
	}
	for n := range 1000 / kernel.RaceFactor { // some within others, and ranges across them
		if base := n * 4 % 4096; n%3 == 0 {
			set.Entries = append(set.Entries, fmt.Sprintf("10.%d.%d.7-10.%d.%d.60", 16+base>>8, base&255, 16+base>>8, base&255))
		} else {
			set.Entries = append(set.Entries, fmt.Sprintf("10.%d.%d.%d/%d", 16+base>>8, base&255, 64*(n%4), 26+n%2))
		}
	}
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		l, err := lab.New(t.Context(), lab.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		rs, err := compile.Compile(blocking(t, set), backend)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, open(t, l.Firewall(), backend), &kernel.Desired{Rules: rs})
		listed := inKernel(t, l.Firewall(), backend, "blocked")
		if list := missed(t, set.Entries, listed); len(list) > 0 {
			t.Errorf("%d entries are not all in the kernel's set, such as %s", len(list), list[0])
		}
		var probes []lab.Probe
		sources := []string{"10.16.0.0", "10.16.0.7", "10.16.0.59", "10.16.4.64", "10.17.8.70", "10.31.255.254", "192.0.2.1"}
		for _, source := range sources {
			probes = append(probes, lab.Probe{From: lab.Client, To: lab.FirewallHost, Port: 80, Source: netip.MustParseAddr(source)})
		}
		results, err := l.Probe(t.Context(), probes)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			blocked := missed(t, sources[i:i+1], listed) == nil
			if blocked != (r.At == "") {
				t.Errorf("a packet from %s arrived at %q; in the set it is %v", sources[i], r.At, blocked)
			}
		}
	})
}

// timedBed is a running firewall with a set whose entries end after an hour.
type timedBed struct {
	t       *testing.T
	ns      *lab.Namespace
	backend ir.Backend
	k       kernel.Kernel
	config  *zones.Config
	history compile.History
}

func newTimedBed(t *testing.T, backend ir.Backend, typ string) *timedBed {
	t.Helper()
	b := &timedBed{t: t, ns: namespace(t), backend: backend}
	b.k = open(t, b.ns, backend)
	b.config = blocking(t, &zones.IPSet{Meta: zones.Meta{Name: "guests"}, Type: typ, Options: map[string]string{"timeout": "3600"}})
	b.do()
	return b
}

func (b *timedBed) do(edits ...zones.Edit) {
	b.t.Helper()
	next, err := zones.Apply(b.config, edits...)
	if err != nil {
		b.t.Fatal(err)
	}
	rs, history, err := b.history.Compile(next, b.backend)
	if err != nil {
		b.t.Fatal(err)
	}
	commit(b.t, b.k, &kernel.Desired{Rules: rs})
	b.config, b.history = next, history
}

func guests(key zones.Key, entries ...string) (object zones.Object, item zones.Item) {
	return zones.Object{Kind: zones.KindIPSet, Name: "guests"}, zones.Item{Key: key, Args: entries}
}

func (b *timedBed) add(entry string) {
	o, i := guests(zones.KeyEntry, entry)
	b.do(zones.Add(zones.Runtime, o, i))
}

func (b *timedBed) remove(entry string) {
	o, i := guests(zones.KeyEntry, entry)
	b.do(zones.Remove(zones.Runtime, o, i))
}

var (
	nftLeft   = regexp.MustCompile(`([0-9./-]+) (?:timeout \S+ )?expires (\S+?)[, ]`)
	ipsetLeft = regexp.MustCompile(`add guests (\S+) timeout (\d+)`)
)

// left is how long the kernel's elements still have.
func (b *timedBed) left() map[string]time.Duration {
	b.t.Helper()
	m := map[string]time.Duration{}
	if b.backend == ir.IPTables {
		for _, f := range ipsetLeft.FindAllStringSubmatch(run(b.t, b.ns, "", "ipset", "save", "guests"), -1) {
			n, _ := strconv.Atoi(f[2])
			m[f[1]] = time.Duration(n) * time.Second
		}
		return m
	}
	listing := strings.ReplaceAll(run(b.t, b.ns, "", "nft", "list", "set", "inet", "firewalld", "guests"), "\n", " ")
	for _, f := range nftLeft.FindAllStringSubmatch(listing, -1) {
		d, err := time.ParseDuration(f[2])
		if err != nil {
			b.t.Fatal(err)
		}
		m[f[1]] = d
	}
	return m
}

// Entries that are added to a set with a timeout while the firewall runs reach the kernel. They keep the time that they have
// left when something else is changed, and even when the set is made anew; to add one again starts its time anew.
func TestTimedEntries(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		b := newTimedBed(t, backend, "hash:ip")
		b.add("10.0.0.1")
		b.add("10.0.0.2")
		first := b.left()
		if len(first) != 2 || first["10.0.0.1"] > time.Hour || first["10.0.0.1"] < 59*time.Minute {
			t.Fatalf("the set has %v", first)
		}
		for b.left()["10.0.0.2"] > first["10.0.0.2"]-1500*time.Millisecond {
			time.Sleep(100 * time.Millisecond)
		}
		b.do(zones.Add(zones.Runtime, zones.Object{Kind: zones.KindZone, Name: "public"}, zones.Item{Key: zones.KeyPort, Args: []string{"80", "tcp"}}))
		b.add("10.0.0.3")
		b.add("10.0.0.1")
		b.check("after other changes", first["10.0.0.2"])
		rs, err := compile.Compile(b.config, backend)
		if err != nil {
			t.Fatal(err)
		}
		fresh := open(t, b.ns, backend) // which knows nothing of what is there
		commit(t, fresh, &kernel.Desired{Rules: rs})
		b.k, b.history = fresh, compile.History{}
		b.check("after the set was made anew", first["10.0.0.2"])
		b.do()
		b.remove("10.0.0.2")
		if got := b.left(); len(got) != 2 || got["10.0.0.2"] != 0 {
			t.Errorf("without 10.0.0.2 the set has %v", got)
		}
	})
}

// check tells when 10.0.0.2 has not less than it had at first by the second that has passed, or another one not more.
func (b *timedBed) check(when string, first time.Duration) {
	b.t.Helper()
	got := b.left()
	if len(got) != 3 || got["10.0.0.2"] > first-time.Second || got["10.0.0.1"] <= got["10.0.0.2"] || got["10.0.0.3"] <= got["10.0.0.2"] {
		b.t.Errorf("%s the set has %v; at first 10.0.0.2 had %v", when, got, first)
	}
}

// What another program does with the entries of such a set does not stop changes of it.
func TestTimedEntriesOfOthers(t *testing.T) {
	b := newTimedBed(t, ir.NFTables, "hash:net")
	b.add("10.0.0.0/24")
	run(t, b.ns, "", "nft", "delete element inet firewalld guests { 10.0.0.0/24 }")
	b.add("10.0.0.0/24")
	run(t, b.ns, "", "nft", "add element inet firewalld guests { 10.1.0.1 }")
	b.add("10.1.0.0/16")
	if got := b.left(); got["10.0.0.0/24"] == 0 || got["10.1.0.0/16"] == 0 {
		t.Errorf("the set has %v", got)
	}
}

// Entries that overlap are in the kernel until the last of them ends, and one that has ended makes no trouble.
func TestTimedOverlaps(t *testing.T) {
	b := newTimedBed(t, ir.NFTables, "hash:net")
	b.add("10.0.0.0/24")
	b.add("10.0.0.7")
	b.add("10.0.0.0-10.0.1.9")
	if got := inKernel(t, b.ns, ir.NFTables, "guests"); missed(t, []string{"10.0.0.0-10.0.1.9"}, got) != nil {
		t.Errorf("the set has %v", got)
	}
	set := *b.config.IPSets["guests"]
	set.Timed = []zones.TimedEntry{{Text: "10.5.0.1", Until: time.Now().Add(-time.Minute)}, {Text: "10.5.0.0/16", Until: time.Now().Add(time.Hour)}}
	b.config = b.config.WithIPSet(&set)
	b.do()
	if got := inKernel(t, b.ns, ir.NFTables, "guests"); missed(t, []string{"10.5.0.0/16"}, got) != nil {
		t.Errorf("the set has %v", got)
	}
}

// A commit that is refused leaves the set as it was, with ipset too.
func TestRefusedSetChangeIsUndone(t *testing.T) {
	b := newTimedBed(t, ir.IPTables, "hash:ip")
	b.add("10.0.0.1")
	before := b.left()
	set := *b.config.IPSets["guests"]
	set.Timed = append(slices.Clone(set.Timed), zones.TimedEntry{Text: "10.0.0.2", Until: time.Now().Add(time.Hour)})
	rs, err := compile.Compile(b.config.WithIPSet(&set), ir.IPTables)
	if err != nil {
		t.Fatal(err)
	}
	rs.Sets[0].Elements = append(slices.Clip(rs.Sets[0].Elements), ir.NewElement("nonsense", ir.Part{}))
	if err := b.k.Commit(context.Background(), &kernel.Desired{Rules: rs}); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v", err)
	}
	if got := b.left(); len(got) != len(before) {
		t.Errorf("the set had %v, and has %v", before, got)
	}
}

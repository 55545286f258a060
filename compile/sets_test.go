package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/zones"
)

// texts are the elements of a set as ipset takes them.
func texts(set *ir.Set) []string {
	var list []string
	for _, e := range set.Elements {
		list = append(list, e.Text)
	}
	return list
}

func ipset(typ string, entries ...string) *zones.IPSet {
	return &zones.IPSet{Meta: zones.Meta{Name: "s"}, Type: typ, Entries: entries}
}

// With nftables each address is in one element alone: what another entry covers is left out, ranges that overlap are joined,
// and of entries of several fields one is cut.
func TestMergedEntries(t *testing.T) {
	for _, test := range []struct{ typ, entries, want string }{
		{"hash:net", "10.0.0.0/8 10.1.0.0/16 10.0.0.0/8", "10.0.0.0/8"},
		{"hash:net", "10.0.0.9-10.0.0.20 10.0.0.1-10.0.0.10 10.0.1.1", "10.0.0.1-10.0.0.20 10.0.1.1"},
		{"hash:net", "10.0.0.128-10.0.0.255 10.0.0.0-10.0.0.130", "10.0.0.0/24"},
		{"hash:ip", "10.0.0.2 10.0.0.1", "10.0.0.1 10.0.0.2"},
		{"hash:net,port", "10.0.0.0/24,80-90 10.0.0.0/16,85", "10.0.0.0/16,tcp:85 10.0.0.0/24,tcp:80-84 10.0.0.0/24,tcp:86-90"},
		{"hash:net,port", "10.0.0.0/24,80-90 10.0.0.0/8,70-100 10.0.0.1,udp:85", "10.0.0.0/8,tcp:70-100 10.0.0.1,udp:85"},
		{"hash:ip,port", "10.0.0.1-10.0.0.4,80-90 10.0.0.3-10.0.0.9,85-95", "10.0.0.1-10.0.0.2,tcp:80-90 10.0.0.3-10.0.0.4,tcp:80-84 10.0.0.3-10.0.0.9,tcp:85-95"},
		{"hash:mac", "00:11:22:33:44:55 00:11:22:AA:44:55 00:11:22:aa:44:55", "00:11:22:33:44:55 00:11:22:aa:44:55"},
		{"hash:net,iface", "10.0.0.0/8,eth0 10.1.0.0/16,eth1 10.1.0.0/16,eth0", "10.0.0.0/8,eth0 10.1.0.0/16,eth1"},
		{"hash:ip,mark", "10.0.0.1,0x10 10.0.0.1,16 10.0.0.1,17", "10.0.0.1,0x10 10.0.0.1,0x11"},
	} {
		set, errs := compileSet(ipset(test.typ, strings.Fields(test.entries)...), nil, nil, true)
		got, want := texts(set), strings.Fields(test.want)
		slices.Sort(got)
		slices.Sort(want)
		if errs != nil || !slices.Equal(got, want) {
			t.Errorf("%s %s: got %v, want %v; %v", test.typ, test.entries, got, want, errs)
		}
	}
}

// An entry that had taken in others gives them back when it is removed.
func TestRemovedEntryGivesBack(t *testing.T) {
	before := ipset("hash:net", "10.1.0.0/16", "10.0.0.0/8", "10.2.0.0/16")
	was, _ := compileSet(before, nil, nil, true)
	set, _ := compileSet(ipset("hash:net", "10.1.0.0/16", "10.2.0.0/16"), before, was, true)
	if got := texts(set); len(was.Elements) != 1 || !slices.Equal(got, []string{"10.1.0.0/16", "10.2.0.0/16"}) {
		t.Errorf("%v became %v", texts(was), got)
	}
}

// With ipset entries stand as they are: it takes any.
func TestEntriesForIPSet(t *testing.T) {
	set, _ := compileSet(ipset("hash:net", "10.1.0.0/16", "10.0.0.0/8"), nil, nil, false)
	if got := texts(set); !slices.Equal(got, []string{"10.1.0.0/16", "10.0.0.0/8"}) {
		t.Error(got)
	}
}

// Entries that cross one another in too many ways are an error that names two of them.
func TestTooManyPieces(t *testing.T) {
	var entries []string
	for i := range 250 {
		entries = append(entries, fmt.Sprintf("10.0.0.0/8,%d", 1+2*i), fmt.Sprintf("10.%d.0.0/16,1-60000", i))
	}
	if _, errs := compileSet(ipset("hash:net,port", entries...), nil, nil, true); errs == nil || !strings.Contains(errs.Error(), "such as 10.") {
		t.Errorf("got %v", errs)
	}
}

// randomEntry is an entry of a set; many of them overlap.
func randomEntry(r *rand.Rand, typ string) string {
	addr := func(wide bool) string {
		a := netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(r.IntN(256))})
		switch {
		case wide && r.IntN(10) == 0:
			return netip.PrefixFrom(a, 24+r.IntN(8)).Masked().String()
		case wide && r.IntN(10) == 0:
			b := a
			for range r.IntN(9) {
				b = b.Next()
			}
			return a.String() + "-" + b.String()
		}
		return a.String()
	}
	port := func() string {
		low := 1 + r.IntN(20)
		if r.IntN(8) == 0 {
			return fmt.Sprintf("udp:%d-%d", low, low+r.IntN(10))
		}
		return fmt.Sprint(low)
	}
	switch typ {
	case "hash:net,port":
		return addr(true) + "," + port()
	case "hash:ip,port,ip":
		return addr(true) + "," + port() + "," + addr(false)
	}
	return addr(true)
}

// otherEntries is a set after a few random changes of its entries.
func otherEntries(r *rand.Rand, def *zones.IPSet) *zones.IPSet {
	next := *def
	next.Entries = slices.Clone(def.Entries)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(next.Entries) + 1)
		if r.IntN(2) == 0 && at < len(next.Entries) {
			next.Entries = slices.Delete(next.Entries, at, at+1)
		} else if e := randomEntry(r, def.Type); !slices.Contains(next.Entries, e) {
			if r.IntN(2) == 0 {
				at = len(next.Entries)
			}
			next.Entries = slices.Insert(next.Entries, at, e)
		}
	}
	return &next
}

// However a set came to its entries, it has the elements that it would have from the start.
func TestChangedSetIsTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, typ := range []string{"hash:net", "hash:ip", "hash:net,port", "hash:ip,port,ip"} {
		for _, merge := range []bool{true, false} {
			for range 20 {
				def := ipset(typ)
				for range 60 {
					if e := randomEntry(r, typ); !slices.Contains(def.Entries, e) {
						def.Entries = append(def.Entries, e)
					}
				}
				set, _ := compileSet(def, nil, nil, merge)
				for range 30 {
					next := otherEntries(r, def)
					changed, _ := compileSet(next, def, set, merge)
					anew, errs := compileSet(next, nil, nil, merge)
					if errs != nil || !slices.Equal(texts(changed), texts(anew)) {
						t.Fatalf("%s: %v to %v: got\n%v, want\n%v; %v", typ, def.Entries, next.Entries, texts(changed), texts(anew), errs)
					}
					def, set = next, changed
				}
			}
		}
	}
}

// Some entries more or less, at one place or several, leave the elements of the others what they were, in memory too.
func TestElementsAreReused(t *testing.T) {
	before := ipset("hash:ip,port", "10.0.0.1,80", "10.0.0.2,80", "10.0.0.3,80")
	was, _ := compileSet(before, nil, nil, true)
	for _, entries := range [][]string{
		{"10.0.0.1,80", "10.0.0.2,80", "10.0.0.3,80", "10.0.0.0,80"}, {"10.0.0.1,80", "10.0.0.3,80"},
		{"10.0.0.2,80", "10.0.0.3,80", "10.0.0.4,80"}, {"10.0.0.9,80", "10.0.0.1,80", "10.0.0.3,80", "10.0.0.4,80"},
	} {
		set, _ := compileSet(ipset("hash:ip,port", entries...), before, was, true)
		third := slices.IndexFunc(set.Elements, func(e ir.Element) bool { return e.Is(&was.Elements[2]) })
		if len(set.Elements) != len(entries) || third < 0 {
			t.Errorf("%v: elements were made anew", entries)
		}
	}
	if set, _ := compileSet(before, before, was, true); set != was {
		t.Error("the same ipset is compiled again")
	}
}

// Of entries that end by themselves each address stays until the last of them ends.
func TestTimedEntries(t *testing.T) {
	soon, late := time.Unix(1000, 0), time.Unix(2000, 0)
	def := ipset("hash:net")
	def.Timed = []zones.TimedEntry{{Text: "10.0.0.0/24", Until: soon}, {Text: "10.0.0.1", Until: late}}
	set, errs := compileSet(def, nil, nil, true)
	got := map[string]int64{}
	for _, e := range set.Elements {
		got[e.Text] = e.Until().Unix()
	}
	want := map[string]int64{"10.0.0.0": 1000, "10.0.0.1": 2000, "10.0.0.2-10.0.0.255": 1000}
	if errs != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v; %v", got, want, errs)
	}
	next := *def
	next.Timed = append(slices.Clone(def.Timed), zones.TimedEntry{Text: "10.9.0.0/16", Until: late})
	if set, _ = compileSet(&next, def, set, true); len(set.Elements) != 4 || set.Elements[3].Until() == nil {
		t.Errorf("with one more it has %v", texts(set))
	}
}

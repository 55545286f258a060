package zones

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Entries that overlap are named, each once, with the larger one that they overlap with.
func TestOverlaps(t *testing.T) {
	for _, test := range []struct {
		typ     string
		entries []string
		want    []Overlap
	}{
		{"hash:net", []string{"10.1.0.0/16", "10.0.0.0/8", "192.0.2.1"}, []Overlap{{"10.1.0.0/16", "10.0.0.0/8"}}},
		{"hash:ip", []string{"10.0.0.1-10.0.0.9", "10.0.0.5-10.0.0.20"}, []Overlap{{"10.0.0.5-10.0.0.20", "10.0.0.1-10.0.0.9"}}},
		{"hash:net,port", []string{"10.0.0.0/8,80-90", "10.0.0.1,85", "10.0.0.1,udp:85", "10.0.0.1,91"}, []Overlap{{"10.0.0.1,85", "10.0.0.0/8,80-90"}}},
		{"hash:ip,port", []string{"10.0.0.1,80", "10.0.0.1,tcp:80"}, []Overlap{{"10.0.0.1,tcp:80", "10.0.0.1,80"}}},
		{"hash:mac", []string{"00:11:22:33:44:aa", "00:11:22:33:44:AA", "00:11:22:33:44:ab"}, []Overlap{{"00:11:22:33:44:AA", "00:11:22:33:44:aa"}}},
		{"hash:net,iface", []string{"10.0.0.0/8,eth0", "10.0.0.1,eth1", "10.0.0.1,eth0"}, []Overlap{{"10.0.0.1,eth0", "10.0.0.0/8,eth0"}}},
		{"hash:ip,mark", []string{"10.0.0.1,1", "10.0.0.1,0x1", "10.0.0.1,2"}, []Overlap{{"10.0.0.1,0x1", "10.0.0.1,1"}}},
	} {
		set := &IPSet{Type: test.typ, Entries: test.entries}
		if got := set.Overlaps(); !slices.Equal(got, test.want) {
			t.Errorf("%s %v: got %v, want %v", test.typ, test.entries, got, test.want)
		}
	}
	set := &IPSet{Type: "hash:net", Entries: []string{"2001:db8::/32", "2001:db8:1::/48"}, Options: map[string]string{"family": "inet6"}}
	if got := set.Overlaps(); !slices.Equal(got, []Overlap{{"2001:db8:1::/48", "2001:db8::/32"}}) {
		t.Errorf("IPv6: got %v", got)
	}
}

// Of many entries that overlap the first are named, and the rest counted.
func TestOverlapText(t *testing.T) {
	set := &IPSet{Type: "hash:net", Entries: []string{"10.0.0.0/8"}}
	for n := range 1000 {
		set.Entries = append(set.Entries, fmt.Sprintf("10.0.%d.%d", n>>8, n&255))
	}
	want := "entries overlap, and what they have in common counts once: 10.0.0.0 with 10.0.0.0/8, 10.0.0.1 with 10.0.0.0/8, " +
		"10.0.0.2 with 10.0.0.0/8, 10.0.0.3 with 10.0.0.0/8, 10.0.0.4 with 10.0.0.0/8, and 995 more"
	if got := OverlapText(set.Overlaps()); got != want {
		t.Error(got)
	}
	if got := OverlapText(nil); got != "" {
		t.Error(got)
	}
}

// What is read in the least time is read as it should be, and nothing else is.
func TestPlainIPv4(t *testing.T) {
	for text, want := range map[string]uint32{"0.0.0.0": 0, "10.0.0.1": 10<<24 + 1, "255.255.255.255": 1<<32 - 1, "1.20.3.100": 1<<24 + 20<<16 + 3<<8 + 100} {
		if got, ok := plainIPv4(text); !ok || got != want {
			t.Errorf("%s: got %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "1.2.3", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "00.0.0.0", "1.2.3.4/8", "1.2.3.4-1.2.3.9", "::1", "1.2.3.4294967296"} {
		if got, ok := plainIPv4(text); ok {
			t.Errorf("%q is %d", text, got)
		}
	}
}

// timed are the entries of a set that end by themselves, with the seconds that each has left.
func timed(s *IPSet, at time.Time) (list []string) {
	for _, e := range s.Timed {
		list = append(list, fmt.Sprintf("%s %.0f", e.Text, e.Until.Sub(at).Seconds()))
	}
	return list
}

// An entry of a running set with a timeout ends after that, counted from when it was added last, unless it is removed before.
// The list of a set for which that has happened often enough gets shorter again.
func TestTimedEntries(t *testing.T) {
	clock := time.Unix(1000, 0)
	now = func() time.Time { return clock }
	defer func() { now = time.Now }()
	o := Object{KindIPSet, "s"}
	c := builtins(t).WithIPSet(&IPSet{Meta: Meta{Name: "s"}, Type: "hash:net", Options: map[string]string{"timeout": "60"}})
	do := func(want string, edits ...Edit) {
		t.Helper()
		c = must(t, c, edits...)
		if got := fmt.Sprint(timed(c.IPSets["s"], clock)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	do("[10.0.0.1 60]", Add(Runtime, o, item("entry 10.0.0.1")))
	clock = clock.Add(10 * time.Second)
	do("[10.0.0.1 50 10.0.1.0/24 60]", Add(Runtime, o, item("entry 10.0.1.9/24")))
	do("[10.0.1.0/24 60 10.0.0.1 60]", Add(Runtime, o, item("entry 10.0.0.1")))
	do("[10.0.1.0/24 60 10.0.0.1 60 10.0.0.2 60]", Update(Runtime, o, Settings{KeyEntry: [][]string{{"10.0.0.2"}}}))
	do("[10.0.0.1 60 10.0.0.2 60]", Remove(Runtime, o, item("entry 10.0.1.0/24")))
	clock = clock.Add(61 * time.Second)
	if _, err := Apply(c, Remove(Runtime, o, item("entry 10.0.0.1"))); errorText(err) != "NOT_ENABLED: '10.0.0.1' not in 's'" {
		t.Errorf("an entry that has ended is removed: %v", err)
	}
	do("[10.0.0.1 -1 10.0.0.2 -1 10.0.0.3 60]", Add(Runtime, o, item("entry 10.0.0.3")))
	clock = clock.Add(2 * time.Second)
	do("[10.0.0.3 58 10.0.0.4 60]", Add(Runtime, o, item("entry 10.0.0.4")))
	do("[]", Update(Runtime, o, Settings{KeyEntry: [][]string{}}))
}

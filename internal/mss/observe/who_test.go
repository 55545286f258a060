package observe

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// peers are two networks that opened connections, and one that answered.
func peers() *Counter {
	c := NewCounter(100)
	for i, from := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.9", "2001:db8:1::1", "2001:db8:1:ffff::2", "2001:db8:2::1"} {
		c.Add(Offer{From: netip.MustParseAddr(from), MSS: []int{1460, 1460, 88, None, 1440, 1440, 9000}[i]})
	}
	c.Add(Offer{From: netip.MustParseAddr("203.0.113.7"), MSS: 1400, ACK: true})
	return c
}

// Whose offers were seen: prefixes with the most endpoints first, endpoints with the smallest offers first.
func TestWho(t *testing.T) {
	who := peers().Who(nil, 3)
	prefix, address := netip.MustParsePrefix, netip.MustParseAddr
	want := &Who{
		SYN: Whose{
			Prefixes:    []PrefixOffers{{prefix("2001:db8:1::/48"), 1440, 2}, {prefix("192.0.2.0/24"), 1460, 2}, {prefix("198.51.100.0/24"), None, 1}},
			PrefixCount: 5,
			Endpoints: []EndpointOffer{{address("198.51.100.9"), None}, {address("192.0.2.3"), 88},
				{address("2001:db8:1::1"), 1440}},
			EndpointsAll: 7,
		},
		SYNACK: Whose{
			Prefixes: []PrefixOffers{{prefix("203.0.113.0/24"), 1400, 1}}, PrefixCount: 1,
			Endpoints: []EndpointOffer{{address("203.0.113.7"), 1400}}, EndpointsAll: 1,
		},
	}
	if !reflect.DeepEqual(who, want) {
		t.Errorf("got %+v, want %+v", who, want)
	}
	some := peers().Who([]Range{{0, 500}, {9000, 9000}}, 10).SYN
	if len(some.Endpoints) != 2 || some.Endpoints[0].MSS != 88 || some.Endpoints[1].MSS != 9000 || some.PrefixCount != 2 {
		t.Errorf("%+v", some)
	}
	text, err := json.Marshal(who.SYN.Endpoints[:2])
	if want := `[{"address":"198.51.100.9","mss":null},{"address":"192.0.2.3","mss":88}]`; err != nil || string(text) != want {
		t.Errorf("got %s, %v; want %s", text, err, want)
	}
}

// Nobody's address is in a report that was not asked for addresses.
func TestAddressesAreNotPrintedUnasked(t *testing.T) {
	c := peers()
	r := c.Report("eth0", Stats{SYNs: 8})
	r.Advise([]float64{90})
	names, err := parsePrefixes(strings.NewReader("192.0.2.0/24,Example\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Origins, err = c.Origins([]Names{names}, nil); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out := text(t, r) + string(asJSON)
	for _, name := range Figures {
		out += figure(t, r, name)
	}
	for _, address := range []string{"192.0.2", "198.51.100", "203.0.113", "2001:db8"} {
		if strings.Contains(out, address) {
			t.Errorf("%s is in %s", address, out)
		}
	}
	r.Who = c.Who(nil, 10)
	if out := text(t, r); !strings.Contains(out, "192.0.2.3") || !strings.Contains(out, "2001:db8:1::/48") {
		t.Error(out)
	}
}

// Of very many, the first are found in little memory.
func TestTheFirstOfMany(t *testing.T) {
	b := best[int]{most: 3, compare: func(a, b int) int { return a - b }}
	for i := range 100_000 {
		b.add(i * 7919 % 100_003)
		if len(b.list) > 2000 {
			t.Fatalf("%d are kept", len(b.list))
		}
	}
	if got := b.sorted(); !reflect.DeepEqual(got, []int{0, 1, 2}) || b.all != 100_000 {
		t.Errorf("got %v of %d", got, b.all)
	}
}

// A CSV file has a prefix, a network and perhaps a country in each line; the longest prefix counts.
func TestNamesOfPrefixes(t *testing.T) {
	n, err := parseNames([]byte("prefix,network,country\n# comment\n192.0.2.0/24, \"AS64496 Example, Inc.\", DE\n" +
		"192.0.2.128/25,AS64497 Other\n2001:db8::/32,AS64498,NL\n198.51.100.7,Single\n"))
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]Origin{
		"192.0.2.1":    {"AS64496 Example, Inc.", "DE"},
		"192.0.2.129":  {"AS64497 Other", ""},
		"2001:db8::1":  {"AS64498", "NL"},
		"198.51.100.7": {"Single", ""},
		"198.51.100.8": {},
		"2001:db9::1":  {},
	} {
		if got, err := n.Origin(netip.MustParseAddr(address)); got != want || err != nil {
			t.Errorf("%s: got %+v, %v; want %+v", address, got, err, want)
		}
	}
}

// What is wrong with a file of names is said with its line.
func TestBrokenNames(t *testing.T) {
	for data, want := range map[string]string{
		"":                             "neither MMDB, nor CSV",
		"a,b\nc,d\n":                   `line 2: "c" is no prefix`,
		"192.0.2.0/24,x\n192.0.2.0/33": `line 2: "192.0.2.0/33" is no prefix`,
		"192.0.2.0/24\n":               "line 1: there is no name behind 192.0.2.0/24",
		"\"":                           "neither MMDB nor CSV",
		"…" + mmdbMark:                 "no sound MMDB file",
	} {
		if _, err := parseNames([]byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", data, err, want)
		}
	}
}

// mmdb is a small MMDB file: all of 192.0.2.0/24 and of 2001:db8::/32 is one record of fields. The tree has a node for
// each bit of the prefixes (https://maxmind.github.io/MaxMind-DB/).
func mmdb(record []byte) []byte {
	four, six := netip.MustParsePrefix("::192.0.2.0/120"), netip.MustParsePrefix("2001:db8::/32")
	type node [2]int // 0: nothing; −1: the record; else a node
	nodes := []node{{}}
	for _, p := range []netip.Prefix{four, six} {
		at, a := 0, p.Addr().As16()
		for i := range p.Bits() {
			bit := a[i/8] >> (7 - i%8) & 1
			switch {
			case i == p.Bits()-1:
				nodes[at][bit] = -1
			case nodes[at][bit] == 0:
				nodes = append(nodes, node{})
				nodes[at][bit] = len(nodes) - 1
				at = len(nodes) - 1
			default:
				at = nodes[at][bit]
			}
		}
	}
	var file []byte
	for _, n := range nodes {
		for _, to := range n {
			switch to {
			case 0:
				to = len(nodes)
			case -1:
				to = len(nodes) + 16
			}
			file = append(file, byte(to>>16), byte(to>>8), byte(to))
		}
	}
	file = append(file, make([]byte, 16)...)
	file = append(append(file, record...), mmdbMark...)
	number := func(n int) []byte { return []byte{0xa2, byte(n >> 8), byte(n)} } // 16 bits
	return append(file, mmdbMap(
		"binary_format_major_version", number(2), "binary_format_minor_version", number(0), "build_epoch", []byte{0x01, 0x02, 1},
		"database_type", mmdbText("Test"), "description", mmdbMap(), "ip_version", number(6), "languages", []byte{0, 4},
		"node_count", []byte{0xc4, 0, 0, byte(len(nodes) >> 8), byte(len(nodes))}, "record_size", number(24))...)
}

func mmdbText(s string) []byte {
	if len(s) >= 29 {
		return append([]byte{0x5d, byte(len(s) - 29)}, s...)
	}
	return append([]byte{0x40 | byte(len(s))}, s...)
}

func mmdbMap(fields ...any) []byte {
	b := []byte{0xe0 | byte(len(fields)/2)}
	for i := 0; i < len(fields); i += 2 {
		b = append(append(b, mmdbText(fields[i].(string))...), fields[i+1].([]byte)...)
	}
	return b
}

// MMDB files are read as different publishers write them.
func TestNamesFromMMDB(t *testing.T) {
	asn := []byte{0xc4, 0, 0, 0xfb, 0xf0} // 64496
	for name, c := range map[string]struct {
		record []byte
		want   Origin
	}{
		"MaxMind's networks":  {mmdbMap("autonomous_system_number", asn, "autonomous_system_organization", mmdbText("Example")), Origin{"AS64496 Example", ""}},
		"MaxMind's countries": {mmdbMap("country", mmdbMap("iso_code", mmdbText("DE"))), Origin{"", "DE"}},
		"IPinfo":              {mmdbMap("asn", mmdbText("AS64496"), "as_name", mmdbText("Example"), "country", mmdbText("Germany"), "country_code", mmdbText("DE")), Origin{"AS64496 Example", "DE"}},
		"a very long name":    {mmdbMap("autonomous_system_number", asn, "autonomous_system_organization", mmdbText(strings.Repeat("é", 130))), Origin{"AS64496 " + strings.Repeat("é", 96) + "…", ""}},
		"something else":      {mmdbMap("city", mmdbText("Berlin")), Origin{}},
	} {
		path := filepath.Join(t.TempDir(), "names.mmdb")
		if err := os.WriteFile(path, mmdb(c.record), 0o644); err != nil {
			t.Fatal(err)
		}
		n, err := ReadNames(path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for address, want := range map[string]Origin{"192.0.2.7": c.want, "2001:db8::1": c.want, "198.51.100.1": {}, "2001:db9::1": {}} {
			if got, err := n.Origin(netip.MustParseAddr(address)); got != want || err != nil {
				t.Errorf("%s, %s: got %+v, %v; want %+v", name, address, got, err, want)
			}
		}
	}
	if _, err := ReadNames("nowhere.mmdb"); err == nil {
		t.Error("a file that is not there is read")
	}
}

// The endpoints are counted by network and by country, from two files.
func TestOrigins(t *testing.T) {
	networks, err := parsePrefixes(strings.NewReader("192.0.2.0/24,AS64496 \x1b[2JExample\n2001:db8::/32,AS64497\n"))
	if err != nil {
		t.Fatal(err)
	}
	countries, err := parsePrefixes(strings.NewReader("0.0.0.0/0,,DE\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := peers()
	r := c.Report("a\x1b[2J\nfile", Stats{SYNs: 8})
	if r.Origins, err = c.Origins([]Names{networks, countries}, nil); err != nil {
		t.Fatal(err)
	}
	want := []OriginTable{
		{"network", 6, []OriginGroup{
			{"AS64496 \x1b[2JExample", 3, 3, 1, 0, 0, []Value{{1460, 2, 2. / 3}, {88, 1, 1. / 3}}},
			{"AS64497", 3, 3, 0, 2, 1, []Value{{1440, 2, 2. / 3}, {9000, 1, 1. / 3}}},
		}},
		{"country", 5, []OriginGroup{{"DE", 5, 4, 1, 1, 0, []Value{{1460, 2, .5}, {1400, 1, .25}, {88, 1, .25}}}}},
	}
	if !reflect.DeepEqual(r.Origins, want) {
		t.Errorf("got %+v, want %+v", r.Origins, want)
	}
	out := text(t, r)
	if strings.Contains(out, "\x1b") || !strings.Contains(out, "AS64496 ?[2JExample") || !strings.HasPrefix(out, "a?[2J?file: ") {
		t.Errorf("a name reaches the terminal as it is: %q", out)
	}
	compareGolden(t, "origins", out)
}

// Files of names that others made do no harm.
func FuzzNames(f *testing.F) {
	f.Add(mmdb(mmdbMap("country", mmdbMap("iso_code", mmdbText("DE")))))
	f.Add([]byte("192.0.2.0/24,AS64496,DE\n2001:db8::/32,AS64497\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := parseNames(data)
		if err != nil {
			return
		}
		for _, a := range []string{"192.0.2.1", "2001:db8::1", "0.0.0.0", "ffff::"} {
			if o, err := n.Origin(netip.MustParseAddr(a)); err != nil && o != (Origin{}) {
				t.Errorf("%s: %+v beside %v", a, o, err)
			}
		}
	})
}

package mss

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

// The segments of connections from lan to wan, over IPv4.
var (
	synOut   = segment{in: "lan", out: "wan"}
	synackIn = segment{in: "wan", out: "lan", reply: true}
	synIn    = segment{in: "wan", out: "lan"}
)

// meets is what a segment meets that announces what an Ethernet host does.
func meets(r *Rules, s segment) []Found {
	mss := Ethernet - header4
	if s.six {
		mss = Ethernet - header6
	}
	var by findings
	merge([]*Rules{r}).after(s, 0, mss, &by)
	return by.list
}

// clampsOf are the clamps that a segment meets; those that depend on something are negative, and 0 is the path's MTU.
func clampsOf(r *Rules, s segment) []int {
	var list []int
	for _, f := range meets(r, s) {
		if f.Sure {
			list = append(list, f.Size)
		} else {
			list = append(list, -f.Size)
		}
	}
	return list
}

func TestIPTables(t *testing.T) {
	const clampTo = " -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300"
	for name, c := range map[string]struct {
		rules        string
		out, in, syn []int // SYN out, SYN/ACK in, SYN in
	}{
		"every SYN":          {"-A FORWARD" + clampTo, []int{1300}, []int{1300}, []int{1300}},
		"the path's MTU":     {"-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu", []int{0}, []int{0}, []int{0}},
		"what leaves":        {"-A FORWARD -o wan" + clampTo, []int{1300}, nil, nil},
		"what comes in":      {"-A FORWARD -i wa+" + clampTo, nil, []int{1300}, []int{1300}},
		"not what leaves":    {"-A FORWARD ! -o wan" + clampTo, nil, []int{1300}, []int{1300}},
		"only SYNs":          {"-A FORWARD -p tcp --syn -j TCPMSS --set-mss 1300", []int{1300}, nil, []int{1300}},
		"some addresses":     {"-A FORWARD -s 10.0.0.0/8" + clampTo, []int{-1300}, []int{-1300}, []int{-1300}},
		"a usual range":      {"-A FORWARD -m tcpmss --mss 1361:1536 -p tcp -j TCPMSS --set-mss 1300", []int{1300}, []int{1300}, []int{1300}},
		"an unusual range":   {"-A FORWARD -m tcpmss --mss 1461:1536 -p tcp -j TCPMSS --set-mss 1300", nil, nil, nil},
		"UDP":                {"-A FORWARD -p udp -j TCPMSS --set-mss 1300", nil, nil, nil},
		"behind established": {"-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD" + clampTo, []int{1300}, nil, []int{1300}},
		"behind DNAT":        {"-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT\n-A FORWARD" + clampTo, []int{-1300}, []int{-1300}, []int{-1300}},
		"one direction":      {"-A FORWARD -m conntrack --ctdir ORIGINAL" + clampTo, []int{1300}, nil, []int{1300}},
		"behind a log":       {"-A FORWARD -j LOG --log-prefix \"a -j DROP \"\n-A FORWARD" + clampTo, []int{1300}, []int{1300}, []int{1300}},
		"with a comment":     {"-A FORWARD -m comment --comment \"for -o ppp0\"" + clampTo, []int{1300}, []int{1300}, []int{1300}},
		"in a chain":         {"-A mine" + clampTo + "\n-A FORWARD -o wan -j mine", []int{1300}, nil, nil},
		"behind a return":    {"-A mine -o wan -j RETURN\n-A mine" + clampTo + "\n-A FORWARD -j mine", nil, []int{1300}, []int{1300}},
		"behind a goto":      {"-A FORWARD -o wan -g none\n-A FORWARD" + clampTo, nil, []int{1300}, []int{1300}},
		"behind some drops":  {"-A FORWARD -s 10.0.0.1 -j DROP\n-A FORWARD" + clampTo, []int{-1300}, []int{-1300}, []int{-1300}},
		"of what this sends": {"-A OUTPUT" + clampTo, nil, nil, nil},
		"chains in a circle": {"-A a -j b\n-A b -j a\n-A FORWARD -j a\n-A FORWARD" + clampTo, []int{-1300}, []int{-1300}, []int{-1300}},
	} {
		text := "*mangle\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:mine - [0:0]\n" + c.rules + "\nCOMMIT\n"
		r := ParseIPTables(text, false)
		if o, i, s := clampsOf(r, synOut), clampsOf(r, synackIn), clampsOf(r, synIn); !slices.Equal(o, c.out) || !slices.Equal(i, c.in) || !slices.Equal(s, c.syn) {
			t.Errorf("%s: got %v, %v, %v; want %v, %v, %v", name, o, i, s, c.out, c.in, c.syn)
		}
		if six := clampsOf(r, segment{in: "lan", out: "wan", six: true}); six != nil {
			t.Errorf("%s: iptables clamps IPv6: %v", name, six)
		}
		if six := clampsOf(ParseIPTables(text, true), segment{in: "lan", out: "wan", six: true}); !slices.Equal(six, c.out) && name != "some addresses" && name != "behind some drops" {
			t.Errorf("%s: ip6tables: got %v, want %v", name, six, c.out)
		}
	}
}

// nftText is a ruleset with a forward chain whose rules are given as nft prints their expressions, and a chain x with a
// clamp to 1200.
func nftText(rules ...string) string {
	const head = `{"nftables": [{"metainfo": {"json_schema_version": 1}},
		{"chain": {"family": "inet", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": -150, "policy": "accept"}},
		{"chain": {"family": "inet", "table": "t", "name": "x"}},
		{"rule": {"family": "inet", "table": "t", "chain": "x", "expr": [{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": 1200}}]}}`
	var b strings.Builder
	b.WriteString(head)
	for _, r := range rules {
		b.WriteString(`, {"rule": {"family": "inet", "table": "t", "chain": "f", "expr": [` + r + `]}}`)
	}
	return b.String() + "]}"
}

func TestNFT(t *testing.T) {
	const set = `{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": 1300}}`
	match := func(op, left, right string) string {
		return `{"match": {"op": "` + op + `", "left": ` + left + `, "right": ` + right + `}}, `
	}
	meta := func(key string) string { return `{"meta": {"key": "` + key + `"}}` }
	tcpFlags := `{"payload": {"protocol": "tcp", "field": "flags"}}`
	for name, c := range map[string]struct {
		rules        []string
		out, in, six []int // SYN out, SYN/ACK in, SYN out of IPv6
	}{
		"every SYN":          {[]string{match("in", tcpFlags, `"syn"`) + set}, []int{1300}, []int{1300}, []int{1300}},
		"the path's MTU":     {[]string{`{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": {"rt": {"key": "mtu"}}}}`}, []int{0}, []int{0}, []int{0}},
		"what leaves":        {[]string{match("==", meta("oifname"), `{"set": ["ppp*", "wan"]}`) + set}, []int{1300}, nil, []int{1300}},
		"what does not":      {[]string{match("!=", meta("oifname"), `"wan"`) + set}, nil, []int{1300}, nil},
		"IPv4":               {[]string{match("==", meta("nfproto"), `"ipv4"`) + set}, []int{1300}, []int{1300}, nil},
		"SYN alone":          {[]string{match("==", `{"&": [`+tcpFlags+`, ["fin", "syn", "rst", "ack"]]}`, `"syn"`) + set}, []int{1300}, nil, []int{1300}},
		"SYN without RST":    {[]string{match("==", `{"&": [`+tcpFlags+`, {"|": ["syn", "rst"]}]}`, `"syn"`) + set}, []int{1300}, []int{1300}, []int{1300}},
		"flags that are SYN": {[]string{match("==", tcpFlags, `"syn"`) + set}, []int{1300}, nil, []int{1300}},
		"an address":         {[]string{match("==", `{"payload": {"protocol": "ip", "field": "saddr"}}`, `{"prefix": {"addr": "10.0.0.0", "len": 8}}`) + set}, []int{-1300}, []int{-1300}, nil},
		"an address, set":    {[]string{match("==", `{"payload": {"protocol": "ip6", "field": "saddr"}}`, `"@blocked"`) + set}, nil, nil, []int{-1300}},
		"a usual range":      {[]string{match("==", `{"tcp option": {"name": "maxseg", "field": "size"}}`, `{"range": [1361, 1500]}`) + set}, []int{1300}, []int{1300}, []int{1300}},
		"UDP":                {[]string{match("==", meta("l4proto"), `"udp"`) + set}, nil, nil, nil},
		"one direction":      {[]string{match("==", `{"ct": {"key": "direction"}}`, `"original"`) + set}, []int{1300}, nil, []int{1300}},
		"behind established": {[]string{match("in", `{"ct": {"key": "state"}}`, `["established", "related"]`) + `{"accept": null}`, set}, []int{1300}, nil, []int{1300}},
		"behind DNAT":        {[]string{match("in", `{"ct": {"key": "status"}}`, `"dnat"`) + `{"accept": null}`, set}, []int{-1300}, []int{-1300}, []int{-1300}},
		"by a map": {[]string{`{"vmap": {"key": ` + meta("iifname") + `, "data": {"set": [["lan", {"goto": {"target": "x"}}], ["any", {"drop": null}]]}}}`, set},
			[]int{1200}, []int{1300}, []int{1200}},
		"by a jump":      {[]string{match("==", meta("oifname"), `"wan"`) + `{"jump": {"target": "x"}}`, set}, []int{1200, 1300}, []int{1300}, []int{1200, 1300}},
		"behind a limit": {[]string{`{"limit": {"rate": 1, "per": "second"}}, ` + set}, []int{-1300}, []int{-1300}, []int{-1300}},
		"before accept":  {[]string{set + `, {"accept": null}`, set}, []int{1300}, []int{1300}, []int{1300}},
	} {
		r, err := ParseNFT([]byte(nftText(c.rules...)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if o, i, s := clampsOf(r, synOut), clampsOf(r, synackIn), clampsOf(r, segment{in: "lan", out: "wan", six: true}); !slices.Equal(o, c.out) || !slices.Equal(i, c.in) || !slices.Equal(s, c.six) {
			t.Errorf("%s: got %v, %v, %v; want %v, %v, %v", name, o, i, s, c.out, c.in, c.six)
		}
	}
	if _, err := ParseNFT([]byte("nonsense"), nil); err == nil || !strings.Contains(err.Error(), "cannot read the rules that nft lists") {
		t.Errorf("got %v", err)
	}
}

// An address that is known decides; a prefix that has only a part of it does not.
func TestAddresses(t *testing.T) {
	prefix := netip.MustParsePrefix
	s := segment{dst: prefix("10.9.0.0/16")}
	for text, want := range map[string]answer{
		"10.9.0.0/16": yes, "10.0.0.0/8": yes, "10.9.1.0/24": maybe, "10.8.0.0/16": no, "0.0.0.0/0": yes, "2001:db8::/32": no,
	} {
		if got := within(true, prefix(text))(s); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
	if got := within(false, prefix("10.0.0.0/8"))(s); got != maybe {
		t.Errorf("an address that is not known: got %d", got)
	}
}

// A configuration's clamp is in both directions on either back end, unless it is told to do as firewalld does.
func TestConfiguration(t *testing.T) {
	for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for setting, want := range map[string][3]State{
			"both":      {Clamped, Clamped, Clamped},
			"initiator": {Unclamped, Unclamped, InPart}, // the zone that a connection enters by; forward-ports are not
		} {
			r := FromIR(configured(t, backend, setting))
			for i, s := range []segment{synOut, synackIn, synIn} {
				state := Unclamped
				for _, f := range meets(r, s) {
					if f.Size != 1300 || !strings.Contains(f.Rule, `rule tcp-mss-clamp value="1300"`) {
						t.Errorf("%s: %+v", backend, f)
					}
					if f.Sure {
						state = Clamped
					} else if state == Unclamped {
						state = InPart
					}
				}
				if state != want[i] {
					t.Errorf("%s, %s, segment %d: %s, want %s", backend, setting, i, state, want[i])
				}
			}
		}
	}
}

// configured is the rules of a configuration with a clamp in the zone of wan.
func configured(t *testing.T, backend ir.Backend, setting string) *ir.Ruleset {
	t.Helper()
	cfg, problems := zones.Load(zones.Dirs{})
	if cfg == nil {
		t.Fatal(problems)
	}
	clamp, err := grammar.Parse("rule tcp-mss-clamp value=1300")
	if err != nil {
		t.Fatal(err)
	}
	external, internal := *cfg.Zones["external"], *cfg.Zones["internal"]
	external.Interfaces, external.Rules = []string{"wan"}, []zones.RichRule{{Rule: clamp}}
	internal.Interfaces = []string{"lan"}
	own := *cfg.Own
	own.TCPMSSClamp = setting
	cfg = cfg.WithZone(&external).WithZone(&internal)
	changed := *cfg
	changed.Own = &own
	rules, err := compile.Compile(&changed, backend)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// Rules of other people's making are no reason to panic.
func FuzzRules(f *testing.F) {
	f.Add(nftText(`{"match": {"op": "==", "left": {"&": [1, 2]}, "right": {"range": [1]}}}`, `{"vmap": {}}, {"jump": null}`))
	f.Add("*mangle\n:FORWARD ACCEPT\n-A FORWARD ! -o\n-A\n-A FORWARD --tcp-flags , -j TCPMSS --set-mss x \"\\")
	f.Fuzz(func(t *testing.T, text string) {
		meets(ParseIPTables(text, false), synOut)
		if r, err := ParseNFT([]byte(text), nil); err == nil {
			meets(r, synackIn)
		}
	})
}

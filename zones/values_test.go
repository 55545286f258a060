package zones

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"richwall/grammar"
)

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestBuiltinsAreClean(t *testing.T) {
	c, problems := Load(Dirs{})
	if len(problems) > 0 || c == nil {
		t.Fatalf("the embedded definitions have problems:\n%v", problems)
	}
	ssh := c.Services["ssh"]
	if !ssh.Origin.Builtin || !slices.Equal(ssh.Ports, []Port{{"22", "tcp"}}) {
		t.Errorf("ssh is %+v", ssh)
	}
	if c.Zones["public"].Target != TargetDefault || !c.Zones["public"].Forward {
		t.Errorf("public is %+v", c.Zones["public"])
	}
	if n := len(c.Policies["allow-host-ipv6"].Rules); n != 8 {
		t.Errorf("allow-host-ipv6 has %d rules, not 8", n)
	}
	if got := c.ICMPTypes["packet-too-big"].Destinations; !slices.Equal(got, []string{"ipv6"}) {
		t.Errorf("packet-too-big is for %v", got)
	}
}

// Every embedded object passes the strict readers, too.
func TestBuiltinsReadBack(t *testing.T) {
	c := builtin()
	for _, name := range Names(c.Services) {
		writeBack(t, c.Services[name], WriteService, ReadService)
	}
	for _, name := range Names(c.ICMPTypes) {
		writeBack(t, c.ICMPTypes[name], WriteICMPType, ReadICMPType)
	}
	for _, name := range Names(c.Helpers) {
		writeBack(t, c.Helpers[name], WriteHelper, ReadHelper)
	}
	for _, name := range Names(c.Zones) {
		writeBack(t, c.Zones[name], WriteZone, ReadZone)
	}
	for _, name := range Names(c.Policies) {
		writeBack(t, c.Policies[name], WritePolicy, ReadPolicy)
	}
}

func TestParseEntry(t *testing.T) {
	v6 := map[string]string{"family": "inet6"}
	tests := []struct {
		kind    string
		options map[string]string
		text    string
		want    string // the entry as ipset takes it, or a part of the error behind "!"
	}{
		{"hash:ip", nil, "192.0.2.9/24", "192.0.2.0/24"},
		{"hash:ip", nil, "192.0.2.9-192.0.2.5", "192.0.2.5-192.0.2.9"},
		{"hash:ip", v6, "[2001:db8::1]", "2001:db8::1"},
		{"hash:ip", v6, "2001:db8::/64", "!only a first part of IPv4"},
		{"hash:net", nil, "198.51.100.5-198.51.101.9/24", "198.51.100.0-198.51.101.255"},
		{"hash:net", nil, "192.0.2.0/24-192.0.2.9", "!prefix length before"},
		{"hash:net", v6, "::/0", "!every address"},
		{"hash:net,iface", v6, "::/0,eth0", "::/0,eth0"},
		{"hash:ip,port", nil, "192.0.2.1,80", "192.0.2.1,tcp:80"},
		{"hash:ip,port", nil, "192.0.2.1,UDP:90-80", "192.0.2.1,udp:80-90"},
		{"hash:ip,port", nil, "192.0.2.1,xx:80", "!no IP protocol has that name"},
		{"hash:ip,port,net", nil, "192.0.2.1,132:5,198.51.100.0/24", "192.0.2.1,sctp:5,198.51.100.0/24"},
		{"hash:ip,port,ip", nil, "192.0.2.1,80,198.51.100.0/24", "!only a first part"},
		{"hash:ip,mark", nil, "192.0.2.1,010", "192.0.2.1,0xa"},
		{"hash:ip,mark", nil, "192.0.2.1,0x10/0xff", "!is not a mark"},
		{"hash:mac", nil, "AA:BB:CC:dd:ee:ff", "aa:bb:cc:dd:ee:ff"},
		{"hash:foo", nil, "x", "!0"},
	}
	for _, test := range tests {
		entry, err := ParseEntry(&IPSet{Type: test.kind, Options: test.options}, test.text)
		if part, refused := strings.CutPrefix(test.want, "!"); refused {
			if !strings.Contains(errorText(err), part) {
				t.Errorf("%s %s: got %v, %v, want an error with %q", test.kind, test.text, entry, err, part)
			}
		} else if err != nil || entryText(entry) != test.want {
			t.Errorf("%s %s: got %v, %v, want %s", test.kind, test.text, entry, err, test.want)
		}
	}
}

func TestAddEntry(t *testing.T) {
	set := &IPSet{Meta: Meta{Name: "s"}, Type: "hash:net", Entries: []string{"192.0.2.0/24", "198.51.100.1-198.51.100.8"}}
	tests := []struct{ entry, kept, refused string }{
		{"203.0.113.9/255.255.255.0", "203.0.113.0/24", ""},
		{"203.0.113.9", "203.0.113.9", ""},
		{"192.0.2.77", "", "INVALID_ENTRY: cannot add entry 192.0.2.77 to ipset s: it overlaps with 192.0.2.0/24"},
		{"198.51.100.8-198.51.100.9", "", "overlaps with 198.51.100.1-198.51.100.8"},
		{"192.0.2.1/24", "", "ALREADY_ENABLED"},
	}
	for _, test := range tests {
		next, err := set.AddEntry(test.entry)
		if test.refused != "" {
			if !strings.Contains(errorText(err), test.refused) {
				t.Errorf("%s: got %v, want %s", test.entry, err, test.refused)
			}
		} else if err != nil || next.Entries[len(next.Entries)-1] != test.kept {
			t.Errorf("%s: got %v, %v, want %s", test.entry, next, err, test.kept)
		}
	}
	if len(set.Entries) != 2 {
		t.Errorf("the old set changed: %v", set.Entries)
	}
	if _, err := (&IPSet{Type: "hash:ip", Options: map[string]string{"timeout": "5"}}).AddEntry("192.0.2.1"); err == nil {
		t.Error("a set with a timeout takes an entry")
	}
}

func TestConfFileKeepsComments(t *testing.T) {
	before := "# about zones\n  DefaultZone = public  \n\nDefaultZone=drop\nUnknown=1\n"
	file := ParseConfFile([]byte(before))
	next, err := file.Set("DefaultZone", "work")
	if err != nil {
		t.Fatal(err)
	}
	next, err = next.Set("LogDenied", "all")
	if err != nil {
		t.Fatal(err)
	}
	want := "# about zones\nDefaultZone=work\n\nDefaultZone=drop\nUnknown=1\nLogDenied=all\n"
	if got := string(next.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if old := string(file.Bytes()); old != before {
		t.Errorf("the old file is now\n%s", old)
	}
	if _, err := file.Set("DefaultZone", "a=b"); err == nil {
		t.Error("a value with = is taken, and could not be read back")
	}
}

func TestConfValues(t *testing.T) {
	c, problems := ReadConf([]byte("IPv6_rpfilter=NO\nNftablesCounters=no\nStrictForwardPorts=maybe\nCleanupOnExit=FALSE\nRFC3964_IPv4=no\n"), "f")
	want := DefaultConf()
	want.IPv6RPFilter, want.StrictForwardPorts, want.CleanupOnExit, want.RFC3964IPv4 = "no", true, false, false
	c.written = "" // how they were written has a test of its own
	if len(problems) > 0 || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v, want %+v", c, problems, want)
	}
	policy, err := ParseReloadPolicy("input:accept; FORWARD:reject")
	if err != nil || fmt.Sprint(policy) != "map[FORWARD:REJECT INPUT:ACCEPT OUTPUT:DROP]" {
		t.Errorf("got %v, %v", policy, err)
	}
	if err := CheckConf("LogDenied", "ALL"); !strings.Contains(errorText(err), "INVALID_VALUE") {
		t.Errorf("LogDenied=ALL gives %v", err)
	}
}

func TestArgs(t *testing.T) {
	for _, args := range [][]string{{"-j", "ACCEPT"}, {"", " ", "it's", `"\`, "é", "a=b"}} {
		text := JoinArgs(args)
		if got, err := SplitArgs(text); err != nil || !slices.Equal(got, args) {
			t.Errorf("%q is joined to %s and split into %q, %v", args, text, got, err)
		}
	}
	got, err := SplitArgs(`-j X "a \"b\\ \c"   c\ d 'e  f'"g"`)
	if want := []string{"-j", "X", `a "b\ \c`, "c d", "e  fg"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for _, text := range []string{`a "b`, `a 'b`, `a \`} {
		if got, err := SplitArgs(text); err == nil {
			t.Errorf("%s is split into %q", text, got)
		}
	}
}

// An edit shares all other objects with the old configuration, which stays as it was.
func TestEdits(t *testing.T) {
	old, _ := Load(Dirs{})
	next := old.WithZone(&Zone{Meta: Meta{Name: "new"}, Target: TargetDefault}).WithoutZone("work")
	if old.Zones["new"] != nil || old.Zones["work"] == nil {
		t.Error("the old configuration changed")
	}
	if next.Zones["new"] == nil || next.Zones["work"] != nil || next.Zones["public"] != old.Zones["public"] {
		t.Error("the new configuration is not the old one with the edits")
	}
	part := &Zone{Meta: Meta{Name: "shop/a"}, Content: Content{Services: []string{"ssh"}}}
	next = next.WithZone(part)
	if z := next.Zones["shop"]; z == nil || !slices.Equal(z.Services, []string{"ssh"}) {
		t.Errorf("the zone of the folder is %+v", z)
	}
	if next = next.WithoutZone("shop/a"); next.Zones["shop"] != nil {
		t.Error("a zone without files is left")
	}
	broken := old.WithoutService("ssh")
	if Check(broken).Err() == nil {
		t.Error("a service that zones use can be removed")
	}
}

func TestCodeNumbers(t *testing.T) {
	for code, want := range map[grammar.Code]int{AlreadyEnabled: 11, InvalidZone: 112, grammar.InvalidRule: 122, "NO_SUCH_CODE": 254} {
		if got := CodeNumber(code); got != want {
			t.Errorf("%s has number %d, not %d", code, got, want)
		}
	}
}

func TestProblemString(t *testing.T) {
	p := &Problem{Path: "x.xml", Line: 3, Column: 7, Code: ParseError, Severity: Warning, Msg: "text"}
	if got, want := p.String(), "x.xml:3:7: PARSE_ERROR: warning: text"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if (Problems{p}).Err() != nil {
		t.Error("a warning alone is an error")
	}
}

// Problems stand at the attribute that is wrong, also in an element of several lines.
func TestPlaceOfAttribute(t *testing.T) {
	_, problems := ReadZone("z", []byte("<zone>\n  <port\n    protocol='tcp'\n\t port = \"x>\" />\n</zone>"), "z.xml")
	if len(problems) != 1 || problems[0].Line != 4 || problems[0].Column != 3 {
		t.Errorf("got %v, want one problem at 4:3", problems)
	}
}

func TestHint(t *testing.T) {
	known := []string{"service", "source", "tcp"}
	for word, want := range map[string]string{"sevrice": ": did you mean service?", "tpc": ": did you mean tcp?", "x": "", "destination": ""} {
		if got := hint(word, known).String(); got != want {
			t.Errorf("hint for %s is %q, want %q", word, got, want)
		}
	}
}

// entryText is an entry as ipset takes it: the parts with commas between them.
func entryText(e Entry) string {
	parts := make([]string, len(e))
	for i, p := range e {
		parts[i] = p.String()
	}
	return strings.Join(parts, ",")
}

// Of words that are as near to a typo, the one that begins as it does is meant, and then the one that is as long. A typo may hold the whole
// of what was meant.
func TestNearestOfSeveral(t *testing.T) {
	for word, c := range map[string]struct {
		known []string
		want  string
	}{
		"htp":  {[]string{"ftp", "http", "ntp"}, "http"},
		"hom":  {[]string{"dom", "home", "how"}, "home"},
		"sshd": {[]string{"ssh", "nfs"}, "ssh"},
		"imap": {[]string{"amap", "imaps"}, "imaps"},
	} {
		if got := Nearest(word, c.known); got != "did you mean "+c.want+"?" {
			t.Errorf("%s: %q, want %s", word, got, c.want)
		}
	}
	c := builtins(t)
	_, err := Add(Runtime, publicZone, item("service sshd"))(c)
	if got := Explanation(err); len(got) != 1 || !strings.HasSuffix(got[0], "did you mean ssh?") {
		t.Errorf("of service sshd it says %q: %v", got, err)
	}
}

// A word that switches a setting on or off is never taken for its opposite: what is suggested does the same, or nothing is.
func TestNoGuessBetweenOpposites(t *testing.T) {
	want := map[string]map[string]string{
		"IPv6_rpfilter":    {"yes": "yes", "no": "no"},
		"LogDenied":        {"no": "off"},
		"AutomaticHelpers": {"yes": "yes", "no": "no"},
	}
	for _, key := range []string{"CleanupOnExit", "CleanupModulesOnExit", "IndividualCalls", "FlushAllOnReload", "RFC3964_IPv4", "AllowZoneDrifting"} {
		want[key] = want["IPv6_rpfilter"]
	}
	for _, k := range confKeys {
		for word, means := range switches {
			err := CheckConf(k.name, word)
			if err == nil {
				continue
			}
			_, meant, _ := strings.Cut(err.Error(), "did you mean ")
			if got := strings.TrimSuffix(meant, "?"); got != want[k.name][means] {
				t.Errorf("%s=%s: did you mean %q, want %q: %v", k.name, word, got, want[k.name][means], err)
			}
		}
	}
}

// What richwall says of a mistake beyond firewalld's words is there for all mistakes of rules of which those are no more than the value.
func TestExplanation(t *testing.T) {
	c := builtins(t)
	for rule, want := range map[string]string{
		"rule service name=ssh":                             "cannot use service alone: write what to do",
		"rule family=ipv4 source address=1.2.3.4/40 accept": "cannot use /40 in address 1.2.3.4/40: ",
		"rule protocol value=foo accept":                    "cannot use protocol foo: it is no number",
		"rule source address=192.0.2.1 accept":              "cannot match source address 192.0.2.1 in a rule for both families: write family=ipv4",
		"rule accept limit value=5/x":                       "cannot limit to 5/x: ",
		"rule masquerade accept":                            "cannot accept beside masquerade: ",
		"rule family=ipv5 accept":                           "", // firewalld says it
		"drop":                                              "", // richwall says it in the error itself
		"rule icmp-type name=foo accept":                    "", // the code says it
	} {
		_, err := Add(Runtime, publicZone, Item{Key: KeyRule, Args: []string{rule}})(c)
		if got := strings.Join(Explanation(err), "\n"); err == nil || !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %v, and it says %q, want %q", rule, err, got, want)
		}
	}
}

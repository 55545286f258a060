package zones

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// What cannot be used is left out in the way that lets nothing more in.
func TestRest(t *testing.T) {
	const refuses = ` <rule priority="-32768"> <drop/> </rule>`
	for _, c := range []struct {
		why   string
		files map[string]string
		want  []string // a loss each: the way, and a part of its text
		zone  string   // what public is, but for blanks and descriptions; "" is not looked at
		doubt bool
	}{
		{"a port that cannot be read is not open", map[string]string{"zones/public.xml": `<zone><service name="ssh"/><port port="99999" protocol="tcp"/></zone>`},
			[]string{"0 zones/public.xml:1:34: INVALID_PORT: cannot use port 99999: the highest port is 65535; it is left out"}, `<zone> <service name="ssh"/> </zone>`, false},
		{"neither is a service that does not exist", map[string]string{"zones/public.xml": `<zone><service name="nope"/><service name="ssh"/></zone>`},
			[]string{"0 zones/public.xml:1:7: INVALID_SERVICE"}, `<zone> <service name="ssh"/> </zone>`, false},
		{"a rule that accepts is left out, also if only a part of it is not understood: the rest of it would accept more",
			map[string]string{"zones/public.xml": `<zone><rule><sorce address="192.0.2.1"/><service name="ssh"/><accept/></rule></zone>`},
			[]string{"0 zones/public.xml:1:13: PARSE_ERROR: unknown element <sorce>"}, `<zone> </zone>`, false},
		{"a rule that drops makes its zone refuse, with all that it allows otherwise", map[string]string{
			"zones/public.xml": `<zone target="ACCEPT"><interface name="eth0"/><service name="ssh"/><rule family="ipv4"><source address="192.0.2.300"/><drop/></rule></zone>`},
			[]string{"1 zones/public.xml:1:68: INVALID_ADDR"}, `<zone target="DROP">` + refuses + ` <interface name="eth0"/> </zone>`, false},
		{"so does one that names a service that is broken", map[string]string{
			"services/bad.xml": `<service><port port="1"/></service>`, "zones/public.xml": `<zone><rule><service name="bad"/><reject/></rule></zone>`},
			[]string{"0 services/bad.xml:1:10: PARSE_ERROR", "1 zones/public.xml:1: INVALID_SERVICE"}, `<zone target="DROP">` + refuses + ` </zone>`, false},
		{"one that accepts by such a service is left out", map[string]string{
			"services/bad.xml": `<service`, "zones/public.xml": `<zone><service name="bad"/><rule><service name="bad"/><accept/></rule></zone>`},
			[]string{"0 services/bad.xml", "0 zones/public.xml:1: ", "0 zones/public.xml:1:7: "}, `<zone> </zone>`, false},
		{"a broken file does not uncover the shipped service of that name", map[string]string{"services/imap.xml": `<service>`, "zones/public.xml": `<zone><service name="imap"/></zone>`},
			[]string{"0 services/imap.xml", "0 zones/public.xml:1:7"}, `<zone> </zone>`, false},
		{"a target that is none refuses", map[string]string{"zones/public.xml": `<zone target="DRP"><service name="ssh"/></zone>`},
			[]string{"1 zones/public.xml:1:7: INVALID_TARGET"}, `<zone target="DROP">` + refuses + ` </zone>`, false},
		{"a zone of which only the beginning is XML keeps what was bound there, and refuses; what was bound behind it goes elsewhere", map[string]string{
			"zones/public.xml": `<zone><interface name="eth0"/><source address="192.0.2.0/24"/><service name="ssh"/><port `},
			[]string{"2 zones/public.xml:1:"}, `<zone target="DROP">` + refuses + ` <interface name="eth0"/> <source address="192.0.2.0/24"/> </zone>`, true},
		{"a zone without any XML refuses", map[string]string{"zones/public.xml": "\x00"}, []string{"2 zones/public.xml"}, `<zone target="DROP">` + refuses + ` </zone>`, true},
		{"a source that cannot be read makes its zone refuse, and its packets go elsewhere", map[string]string{"zones/public.xml": `<zone><source address="192.0.2.0/33"/><service name="ssh"/></zone>`},
			[]string{"2 zones/public.xml"}, `<zone target="DROP">` + refuses + ` </zone>`, true},
		{"a set that is a source and cannot be read", map[string]string{"ipsets/x.xml": `<ipset type="hash:nope"/>`, "zones/public.xml": `<zone><source ipset="x"/><service name="ssh"/></zone>`},
			[]string{"0 ipsets/x.xml", "2 zones/public.xml"}, `<zone target="DROP">` + refuses + ` </zone>`, true},
		{"an interface of two zones", map[string]string{"zones/public.xml": `<zone><interface name="eth0"/></zone>`, "zones/home.xml": `<zone><interface name="eth0"/></zone>`},
			[]string{"2 zones/public.xml"}, `<zone target="DROP">` + refuses + ` </zone>`, true},
		{"a policy that only lets in is left out for a zone that does not exist", map[string]string{"policies/p.xml": `<policy target="ACCEPT"><ingress-zone name="nope"/><egress-zone name="HOST"/></policy>`},
			[]string{"0 policies/p.xml"}, "", false},
		{"one that drops is missed there", map[string]string{"policies/p.xml": `<policy target="DROP"><ingress-zone name="nope"/><egress-zone name="HOST"/></policy>`},
			[]string{"2 policies/p.xml"}, "", true},
		{"a policy that forwards a port is missed there, as the port would be the machine's own", map[string]string{
			"policies/p.xml": `<policy target="CONTINUE"><ingress-zone name="internal"/><ingress-zone name="publik"/><egress-zone name="HOST"/>` +
				`<forward-port port="22" protocol="tcp" to-addr="10.0.0.2"/></policy>`},
			[]string{"2 policies/p.xml"}, "", true},
		{"as is one that does so by a rule", map[string]string{
			"policies/p.xml": `<policy target="CONTINUE"><ingress-zone name="internal"/><ingress-zone name="publik"/><egress-zone name="HOST"/>` +
				`<rule family="ipv4"><forward-port port="22" protocol="tcp" to-addr="10.0.0.2"/></rule></policy>`},
			[]string{"2 policies/p.xml"}, "", true},
		{"a policy that is not asked costs nothing", map[string]string{"policies/p.xml": `<policy target="DROP"><disable/><ingress-zone nam="x"/><egress-zone name="HOST"/></policy>`},
			[]string{"0 policies/p.xml", "0 policies/p.xml"}, "", false},
		{"the default zone does not exist", map[string]string{"firewalld.conf": "DefaultZone=drpo\n"}, []string{"2 firewalld.conf:1: INVALID_ZONE: the default zone drpo does not exist: did you mean drop? Because of it"}, "", true},
		{"quotes are a part of a value", map[string]string{"firewalld.conf": "DefaultZone=\"work\"\n"}, []string{"2 firewalld.conf:1: INVALID_ZONE: the default zone \"work\" does not exist: the value has quotes in it, which do not belong there"}, "", true},
		{"a set that loses entries is in doubt where something is dropped by it", map[string]string{
			"ipsets/x.xml":     `<ipset type="hash:net"><entry>198.51.100.0/24</entry><entry>192.0.2.0/33</entry></ipset>`,
			"zones/public.xml": `<zone target="ACCEPT"><rule><source ipset="x"/><drop/></rule></zone>`},
			[]string{"2 ipsets/x.xml:1:54: INVALID_ENTRY: "}, "", true},
		{"as where a policy rejects by it", map[string]string{
			"ipsets/x.xml":   `<ipset type="hash:net"><entry>192.0.2.0-192.0.2.900</entry></ipset>`,
			"policies/p.xml": `<policy target="ACCEPT"><ingress-zone name="ANY"/><egress-zone name="HOST"/><rule family="ipv4"><destination ipset="x"/><reject/></rule></policy>`},
			[]string{"2 ipsets/x.xml:1:24: INVALID_ENTRY: "}, "", true},
		{"where it is a source, as where its entries are ignored for a timeout", map[string]string{
			"ipsets/x.xml":   `<ipset type="hash:net"><option name="timeout" value="60"/><entry>192.0.2.0/24</entry></ipset>`,
			"zones/drop.xml": `<zone target="DROP"><source ipset="x"/></zone>`},
			[]string{"2 ipsets/x.xml:1:59: IPSET_WITH_TIMEOUT: "}, "", true},
		{"where everything but it is let in", map[string]string{
			"ipsets/x.xml":     `<ipset type="hash:net"><entry>192.0.2.0/33</entry></ipset>`,
			"zones/public.xml": `<zone><rule family="ipv4"><source invert="True" ipset="x"/><accept/></rule></zone>`},
			[]string{"2 ipsets/x.xml"}, "", true},
		{"where a direct rule drops by it", map[string]string{
			"ipsets/x.xml": `<ipset type="hash:net"><entry>192.0.2.0/33</entry></ipset>`,
			"direct.xml":   `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-m set --match-set x src -j DROP</rule></direct>`},
			[]string{"2 ipsets/x.xml"}, "", true},
		{"and where its description cannot be read either", map[string]string{
			"ipsets/x.xml":     `<ipset type="hash:net"><short a="b"/><entry>192.0.2.0/33</entry></ipset>`,
			"zones/public.xml": `<zone><rule><source ipset="x"/><drop/></rule></zone>`},
			[]string{"0 ipsets/x.xml:1:31", "2 ipsets/x.xml:1:38: INVALID_ENTRY"}, "", true},
		{"where it only lets in, less is let in", map[string]string{
			"ipsets/x.xml":     `<ipset type="hash:net"><entry>198.51.100.0/24</entry><entry>192.0.2.0/33</entry></ipset>`,
			"zones/public.xml": `<zone><rule><source ipset="x"/><accept/></rule></zone>`},
			[]string{"0 ipsets/x.xml:1:54: INVALID_ENTRY: "}, `<zone> <rule> <source ipset="x"/> <accept/> </rule> </zone>`, false},
		{"without a forward-port, its port would be the machine's own", map[string]string{
			"zones/public.xml": `<zone target="ACCEPT"><forward-port port="22" protocol="tcp" to-port="2222" to-addr="10.9.9.999"/></zone>`},
			[]string{"1 zones/public.xml:1:77: INVALID_ADDR"}, `<zone target="DROP">` + refuses + ` </zone>`, false},
		{"as without a rule that has one", map[string]string{
			"zones/public.xml": `<zone><service name="ssh"/><rule family="ipv4"><forward-port port="22" protocol="tcp" to-port="2222" to-addr="10.9.9.999"/></rule></zone>`},
			[]string{"1 zones/public.xml:1:"}, `<zone target="DROP">` + refuses + ` </zone>`, false},
		{"a rule of which it is not known whether it forwards or accepts", map[string]string{
			"zones/public.xml": `<zone target="ACCEPT"><rule family="ipv4"><forward-port port="22" protocol="tcp" to-addr="10.9.9.9"/><accept/></rule></zone>`},
			[]string{"1 zones/public.xml:1:"}, `<zone target="DROP">` + refuses + ` </zone>`, false},
		{"a rule that drops, in one that accepts and has lost its end", map[string]string{
			"zones/public.xml": `<zone target="ACCEPT"><rule><port port="443" protocol="tcp"/><accept/><rule><port port="8050" protocol="tcp"/><drop/></rule></rule></zone>`},
			[]string{"1 zones/public.xml:1:"}, `<zone target="DROP">` + refuses + ` </zone>`, false},
		{"and one in something else that has", map[string]string{
			"zones/public.xml": `<zone target="ACCEPT"><service name="ssh"><x><rule><port port="8050" protocol="tcp"/><drop/></rule></x></service></zone>`},
			[]string{"1 zones/public.xml:1:"}, `<zone target="DROP">` + refuses + ` </zone>`, false},
		{"an interface that stands in a rule which accepts", map[string]string{
			"zones/public.xml": `<zone target="ACCEPT"><rule><port port="443" protocol="tcp"/><accept><interface name="eth0"/></accept></rule></zone>`},
			[]string{"2 zones/public.xml:1:"}, "", true},
		{"a rule that accepts, in one that does", map[string]string{
			"zones/public.xml": `<zone><service name="ssh"/><rule><port port="443" protocol="tcp"/><accept><limit value="x"/></accept><rule><port port="80" protocol="tcp"/><accept/></rule></rule></zone>`},
			[]string{"0 zones/public.xml:1:82", "0 zones/public.xml:1:102"}, `<zone> <service name="ssh"/> </zone>`, false},
		{"an ICMP type that may have lost a family", map[string]string{"icmptypes/x.xml": `<icmptype><destination ipv4="yess"/></icmptype>`},
			[]string{"2 icmptypes/x.xml:1:24: INVALID_VALUE: "}, "", true},
		{"a direct rule without arguments may have dropped", map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0"></rule></direct>`},
			[]string{"2 direct.xml:1:9: PARSE_ERROR: "}, "", true},
		{"a direct rule that accepts is left out", map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table="fliter" chain="INPUT" priority="0">-j ACCEPT</rule></direct>`},
			[]string{"0 direct.xml"}, "", false},
		{"unless what it accepts would be sent elsewhere without it", map[string]string{
			"direct.xml": `<direct><rule ipv="ipv4" table="nat" chain="PREROUTING" priority="x">-s 192.0.2.1 -j ACCEPT</rule></direct>`},
			[]string{"2 direct.xml"}, "", true},
		{"or would be routed instead of bridged without it", map[string]string{
			"direct.xml": `<direct><rule ipv="eb" table="broute" chain="BROUTING" priority="x">-i eth0 -j ACCEPT</rule></direct>`},
			[]string{"2 direct.xml"}, "", true},
		{"one that may drop is missed", map[string]string{"direct.xml": `<direct><rule ipv="ipv4" table="fliter" chain="INPUT" priority="0">-j DROP</rule></direct>`},
			[]string{"2 direct.xml"}, "", true},
		{"a direct.xml that is no XML is empty", map[string]string{"direct.xml": `<direct><rule`}, []string{"2 direct.xml"}, "", true},
		{"a line of firewalld.conf that is there twice costs nothing", map[string]string{"firewalld.conf": "DefaultZone=public\nFirewallBackend=nftables\n FirewallBackend = nftables\n"}, nil, "", false},
		{"one that says something else may be what was meant", map[string]string{"firewalld.conf": "DefaultZone=public\nFirewallBackend=nftables\nFirewallBackend=iptables\n"}, []string{"2 firewalld.conf:3"}, "", true},
		{"what richwall.conf has wrong is the default", map[string]string{"richwall.conf": "TCPMSSClamp=x\n"}, []string{"0 richwall.conf"}, "", false},
		{"more mistakes than are kept", map[string]string{"zones/public.xml": `<zone><service name="ssh"/>` + strings.Repeat(`<port port="x" protocol="tcp"/>`, 3*keptProblems) + `</zone>`},
			slices.Repeat([]string{"0 zones/public.xml"}, keptProblems+1), `<zone> <service name="ssh"/> </zone>`, false},
		{"one of the files that make up a zone", map[string]string{"zones/public/a.xml": `<zone><service name="ssh"/></zone>`, "zones/public/b.xml": `<zone target="x"><interface name="eth0"/></zone>`},
			[]string{"1 zones/public/b.xml"}, `<zone> <service name="ssh"/>` + refuses + ` <interface name="eth0"/> </zone>`, false},
	} {
		t.Run(strings.ReplaceAll(c.why, " ", "-"), func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				writeFile(t, filepath.Join(dir, name), content)
			}
			r := LoadRest(Dirs{System: dir}, &Config{})
			if err := Check(r.Config).Err(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range r.Losses {
				got = append(got, fmt.Sprintf("%d %s", l.Way, strings.ReplaceAll(l.String(), dir+"/", "")))
			}
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if InDoubt(r.Losses) != c.doubt {
				t.Errorf("in doubt is %v", InDoubt(r.Losses))
			}
			if zone := strings.Join(strings.Fields(string(WriteZone(r.Config.Zones["public"]))), " "); c.zone != "" && zone != `<?xml version="1.0" encoding="utf-8"?> `+c.zone {
				t.Errorf("public is\n%s\nnot\n%s", zone, c.zone)
			}
		})
	}
}

// A configuration in which nothing is wrong is the one that LoadAgain gives, with the objects of before.
func TestRestOfNothingWrong(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir+"/zones/public.xml", `<zone><service name="ssh"/><rule><port port="80" protocol="tcp"/><accept/></rule></zone>`)
	before, problems := Load(Dirs{System: dir})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r := LoadRest(Dirs{System: dir}, before)
	if len(r.Losses)+len(r.Problems) > 0 || r.Config.Zones["public"] != before.Zones["public"] {
		t.Errorf("got %+v", r)
	}
}

// A file that could not be read as a whole is not overwritten by an edit, which would lose what is in it; it can be replaced.
func TestRestIsNotSaved(t *testing.T) {
	dir := t.TempDir()
	s := Store{Dirs: Dirs{System: dir}}
	writeFile(t, dir+"/zones/public.xml", `<zone><rule><drip/></rule></zone>`)
	c := LoadRest(s.Dirs, &Config{}).Config
	_, err := s.Save(c, must(t, c, Add(Permanent, publicZone, item("port 80:tcp"))))
	if code, _ := CodeOf(err); code != CommandFailed {
		t.Errorf("got %v", err)
	}
	if data, _ := os.ReadFile(dir + "/zones/public.xml"); string(data) != `<zone><rule><drip/></rule></zone>` {
		t.Errorf("the file is %s", data)
	}
	shipped, _ := s.Shipped()
	if _, err := s.Save(c, must(t, c, LoadDefaults(publicZone, shipped))); err != nil {
		t.Error(err)
	}
}

// A file of which a load passes over a part is not written anew, which would lose that part: neither what was read without an error nor what
// was read for a start. It can be deleted, and an edit that changes nothing is none.
func TestPassedOverIsNotLost(t *testing.T) {
	for file, c := range map[string]struct {
		text   string
		object Object
		edit   string
	}{
		"ipsets/bad.xml":          {`<ipset type="hash:ip"><entry>10.9.0.2</entry><entry>10.9.0.3x</entry></ipset>`, Object{KindIPSet, "bad"}, "entry 10.9.0.77"},
		"ipsets/guests.xml":       {`<ipset type="hash:ip"><option name="timeout" value="300"/><entry>10.9.0.2</entry></ipset>`, Object{KindIPSet, "guests"}, "option maxelem:7"},
		"ipsets/many.xml":         {`<ipset type="hash:ip">` + strings.Repeat(`<option name="maxelem" value="1"/>`, keptProblems+5) + `<entry>x</entry></ipset>`, Object{KindIPSet, "many"}, "entry 10.9.0.77"},
		"icmptypes/odd.xml":       {`<icmptype><destination ipv4="yess" ipv6="yes"/></icmptype>`, Object{KindICMPType, "odd"}, "destination ipv4"},
		"services/everywhere.xml": {`<service><port port="80" protocol="tcp"/><destination/></service>`, Object{KindService, "everywhere"}, "port 81:tcp"},
		"direct.xml":              {`<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0"> </rule></direct>`, Object{Kind: KindDirect}, "chain ipv4:filter:mine"},
	} {
		t.Run(file, func(t *testing.T) {
			s := Store{Dirs: Dirs{System: t.TempDir()}}
			path := filepath.Join(s.Dirs.System, file)
			writeFile(t, path, c.text)
			loaded, problems := s.Load()
			if loaded == nil {
				t.Fatal(problems)
			}
			for _, read := range []*Config{loaded, LoadRest(s.Dirs, &Config{}).Files} {
				_, err := s.Save(read, must(t, read, Add(Permanent, c.object, item(c.edit))))
				if code, _ := CodeOf(err); code != CommandFailed {
					t.Errorf("an edit gives %v", err)
				}
				if data, _ := os.ReadFile(path); string(data) != c.text {
					t.Errorf("the file is %s", data)
				}
			}
			if c.object.Kind == KindDirect {
				return
			}
			if _, err := s.Save(loaded, must(t, loaded, Delete(c.object))); err != nil {
				t.Error(err)
			}
		})
	}
}

// A back end's errors are left out in the same way: the rule that they name goes, or the zone refuses everything, or it goes. What is gone
// cannot be left out once more.
func TestLeaveOut(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir+"/zones/public.xml", "<zone>\n<service name='ssh'/>\n<rule><service name='http'/><accept/></rule>\n<rule><service name='http'/><drop/></rule>\n</zone>")
	c := inFolder(t, dir)
	at := func(rule fmt.Stringer) Problems {
		return Problems{{Object: publicZone, Rule: rule, Code: InvalidValue, Msg: "not on this back end"}}
	}
	accept, drop := c.Zones["public"].Rules[0], c.Zones["public"].Rules[1]
	next, losses := LeaveOut(c, at(accept.Rule))
	if z := next.Zones["public"]; len(losses) != 1 || losses[0].Way != LeftOut || len(z.Rules) != 1 || len(z.Services) != 1 {
		t.Errorf("got %v, %+v", losses, z)
	}
	for _, rule := range []fmt.Stringer{drop.Rule, nil} {
		next, losses = LeaveOut(c, at(rule))
		if z := next.Zones["public"]; len(losses) != 1 || losses[0].Way != Refuses || z.Target != TargetDrop || len(z.Services) != 0 {
			t.Errorf("rule %v: got %v, %+v", rule, losses, z)
		}
	}
	next, losses = LeaveOut(next, at(nil))
	if next.Zones["public"] != nil || losses[0].Way != Doubtful || next.Conf.DefaultZone != "drop" {
		t.Errorf("got %v, %+v", losses, next.Zones["public"])
	}
	if again, losses := LeaveOut(next, at(nil)); again != next || len(losses) > 0 {
		t.Errorf("a zone that is gone is left out again: %v", losses)
	}
}

// inFolder is the configuration in a folder, in which nothing is wrong.
func inFolder(t *testing.T, dir string) *Config {
	t.Helper()
	c, problems := Load(Dirs{System: dir, Follow: true})
	if c == nil {
		t.Fatal(problems)
	}
	return c
}

// Of several rules in one line of a file, the one that is refused goes, whichever it is and however often it is named, and the others stay.
// What that costs is what the rule did.
func TestLeaveOutOneOfALine(t *testing.T) {
	const (
		accept = `<rule><port port="1" protocol="tcp"/><accept/></rule>`
		direct = `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">`
	)
	dir := t.TempDir()
	writeFile(t, dir+"/zones/public.xml", "<zone>"+accept+strings.Replace(accept, `"1"`, `"2"`, 1)+strings.Replace(accept, `"1"`, `"3"`, 1)+"</zone>")
	writeFile(t, dir+"/zones/work/a.xml", "<zone>"+accept+strings.Replace(accept, `"1"`, `"2"`, 1)+"</zone>")
	writeFile(t, dir+"/zones/work/b.xml", "<zone>"+accept+"</zone>")
	writeFile(t, dir+"/direct.xml", "<direct>"+direct+"-s 192.0.2.1 -j DROP</rule>"+direct+"-s 192.0.2.2 -j ACCEPT</rule>"+
		strings.Replace(direct, "INPUT", "FORWARD", 1)+"-s 192.0.2.1 -j DROP</rule>"+
		`<passthrough ipv="ipv4">-A INPUT -j ACCEPT</passthrough><passthrough ipv="ipv6">-A INPUT -j ACCEPT</passthrough><passthrough ipv="ipv4">-t nat -N SHOP</passthrough></direct>`)
	c := inFolder(t, dir)
	for _, name := range []string{"public", "work"} {
		for _, rule := range c.Zones[name].Rules {
			p := &Problem{Object: Object{KindZone, name}, Line: 1, Rule: rule.Rule}
			next, losses := LeaveOut(c, Problems{p, p})
			left := next.Zones[name].Rules
			if len(left) != len(c.Zones[name].Rules)-1 || slices.ContainsFunc(left, func(r RichRule) bool { return r.String() == rule.String() }) || losses[1].Way != LeftOut {
				t.Errorf("%s without %s: %v is left, %v", name, rule, left, losses)
			}
		}
	}
	for i, want := range []Way{Doubtful, LeftOut, Doubtful} {
		p := &Problem{Object: Object{Kind: KindDirect}, Line: 1, Rule: &c.Direct.Rules[i]}
		next, losses := LeaveOut(c, Problems{p, p})
		if left := next.Direct.Rules; len(left) != 2 || slices.ContainsFunc(left, c.Direct.Rules[i].same) || len(next.Direct.Passthroughs) != 3 || losses[0].Way != want {
			t.Errorf("without %+v: %+v is left, %v", c.Direct.Rules[i], left, losses)
		}
	}
	several := Problems{{Object: Object{Kind: KindDirect}, Line: 1, Rule: &c.Direct.Rules[0]}, {Object: Object{Kind: KindDirect}, Line: 1, Rule: &c.Direct.Rules[1]}}
	if next, losses := LeaveOut(c, several); len(next.Direct.Rules) != 1 || !InDoubt(losses) {
		t.Errorf("%+v is left, %v", next.Direct, losses)
	}
	for i, p := range c.Direct.Passthroughs {
		want := Doubtful
		if slices.Contains(p.Args, "-N") { // a chain alone does nothing
			want = LeftOut
		}
		pass := &Problem{Object: Object{Kind: KindDirect}, Line: 1, Rule: &c.Direct.Passthroughs[i]}
		next, losses := LeaveOut(c, Problems{pass})
		if left := next.Direct.Passthroughs; len(left) != 2 || slices.ContainsFunc(left, c.Direct.Passthroughs[i].same) || len(next.Direct.Rules) != 3 || losses[0].Way != want {
			t.Errorf("without %+v: %+v is left, %v", c.Direct.Passthroughs[i], next.Direct, losses)
		}
	}
}

// A zone that several errors are about refuses everything, as with one; it is not gone.
func TestLeaveOutOfOneZoneTwice(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir+"/zones/work.xml", `<zone><interface name="eth1"/><rule><port port="1" protocol="tcp"/><drop/></rule></zone>`)
	c := inFolder(t, dir)
	work := Object{KindZone, "work"}
	next, losses := LeaveOut(c, Problems{{Object: work, Rule: c.Zones["work"].Rules[0].Rule}, {Object: work}, {Object: work}})
	if z := next.Zones["work"]; z == nil || !z.refuses() || len(z.Interfaces) != 1 || InDoubt(losses) {
		t.Errorf("got %+v, %v", z, losses)
	}
}

// Whatever is refused, and however often, leaving it out comes to an end, with a configuration that passes its checks or with nothing more
// that could be left out.
func TestLeaveOutEnds(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir+"/zones/public.xml", `<zone><rule><service name="mine"/><drop/></rule></zone>`)
	writeFile(t, dir+"/zones/work/a.xml", `<zone><source ipset="s"/></zone>`)
	writeFile(t, dir+"/services/mine.xml", `<service><port port="1" protocol="tcp"/></service>`)
	writeFile(t, dir+"/ipsets/s.xml", `<ipset type="hash:ip"/>`)
	writeFile(t, dir+"/policies/p.xml", `<policy target="DROP"><ingress-zone name="work"/><egress-zone name="HOST"/></policy>`)
	writeFile(t, dir+"/direct.xml", `<direct><passthrough ipv="ipv4">-A INPUT -j DROP</passthrough></direct>`)
	writeFile(t, dir+"/firewalld.conf", "LogDenied=all\nNftablesFlowtable=eth0\n")
	objects := []Object{publicZone, {KindZone, "work"}, {KindZone, "drop"}, {KindZone, "nosuch"}, {KindService, "mine"}, {KindIPSet, "s"}, {KindPolicy, "p"}, {Kind: KindDirect}, {Kind: KindConf}, {}}
	rapid.Check(t, func(rt *rapid.T) {
		c := inFolder(t, dir)
		for round := range 40 {
			var list Problems
			for _, o := range rapid.SliceOfN(rapid.SampledFrom(objects), 1, 3).Draw(rt, "refused") {
				p := &Problem{Object: o}
				if z := c.Zones[o.Name]; o.Kind == KindZone && z != nil && len(z.Rules) > 0 && rapid.Bool().Draw(rt, "a rule") {
					p.Rule = z.Rules[0].Rule
				}
				list = append(list, p)
			}
			next, losses := LeaveOut(c, list)
			if err := Check(next).Err(); err != nil || next.Zones[next.Conf.DefaultZone] == nil {
				rt.Fatalf("round %d: %v, default zone %s", round, err, next.Conf.DefaultZone)
			}
			if (next == c) != (len(losses) == 0) {
				rt.Fatalf("round %d: the configuration is the same: %v; losses %v", round, next == c, losses)
			}
			c = next
		}
		var all Problems
		for _, o := range objects {
			all = append(all, &Problem{Object: o})
		}
		for _, name := range Names(c.Zones) {
			for _, rule := range c.Zones[name].Rules {
				all = append(all, &Problem{Object: Object{KindZone, name}, Rule: rule.Rule})
			}
		}
		for range 10 {
			next, _ := LeaveOut(c, all)
			if next == c {
				return
			}
			c = next
		}
		rt.Fatal("there is always something more to leave out")
	})
}

// A problem of a configuration that brings up others again and again, in more rounds than items are looked at in, is still reported with its
// line.
func TestLateProblemsKeepTheirLines(t *testing.T) {
	dir := t.TempDir()
	service := func(name, includes string) {
		writeFile(t, dir+"/services/"+name+".xml", "<service>\n<include service=\""+includes+"\"/>\n</service>")
	}
	const deep = itemRounds + 4
	service("s0", "nosuch")
	for i := range deep {
		service(fmt.Sprintf("s%d", i+1), fmt.Sprintf("s%d", i))
	}
	r := LoadRest(Dirs{System: dir}, &Config{})
	for _, l := range r.Losses {
		if l.Problem.Line != 2 {
			t.Errorf("a loss without its line: %s", l)
		}
	}
	for _, p := range r.Problems {
		if p.Line != 2 {
			t.Errorf("a problem without its line: %s", p)
		}
	}
	if len(r.Losses) != deep+1 {
		t.Errorf("%d losses: %v", len(r.Losses), r.Losses)
	}
}

// A file that is waited for, a folder that cannot be read, and a configuration that is a pipe leave the rest in doubt.
func TestRestOfWhatCannotBeRead(t *testing.T) {
	for _, name := range []string{"zones/home.xml", "policies/p.xml", "zones", "services", "firewalld.conf", "direct.xml"} {
		dir := t.TempDir()
		pipe(t, dir, name)
		r := LoadRest(Dirs{System: dir, Follow: true}, &Config{})
		if !InDoubt(r.Losses) || len(r.Losses) != 1 || !strings.Contains(r.Losses[0].String(), "it is ") {
			t.Errorf("%s: got %v", name, r.Losses)
		}
	}
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/etc", 0o644); err != nil {
		t.Fatal(err)
	}
	if r := LoadRest(Dirs{System: dir + "/etc"}, &Config{}); !InDoubt(r.Losses) || r.Config == nil {
		t.Errorf("got %v", r.Losses)
	}
}

// A folder in the place of a file is a file that cannot be read, as is a link that leads nowhere in the place of a folder of parts. A folder of
// parts without any is as good as not there, which a load warns about.
func TestFoldersInThePlaceOfFiles(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		want string // a part of the only problem
		load bool   // can be used by a load
	}{
		{"zones/public.xml", makeFolder, "it is a folder, not a file", false},
		{"zones/public/a.xml", makeFolder, "it is a folder, not a file", false},
		{"policies/p.xml", makeFolder, "it is a folder, not a file", false},
		{"services/ssh.xml", makeFolder, "it is a folder, not a file", false},
		{"ipsets/x.xml", makeFolder, "it is a folder, not a file", false},
		{"zones/public", makeFolder, "the folder has no file of a part of zone public", true},
		{"zones/public", func(t *testing.T, path string) { link(t, t.TempDir(), path) }, "the folder has no file of a part of zone public", true},
		{"zones/public", func(t *testing.T, path string) { link(t, "/nowhere", path) }, "it is a link that leads nowhere", false},
	} {
		dir := t.TempDir()
		c.make(t, dir+"/"+c.name)
		config, problems := Load(Dirs{System: dir, Follow: true})
		if (config != nil) != c.load || !strings.Contains(problems.Error(), dir+"/"+c.name) || !strings.Contains(problems.Error(), c.want) {
			t.Errorf("%s: a load says %v", c.name, problems)
		}
		r := LoadRest(Dirs{System: dir, Follow: true}, &Config{})
		if doubt := !strings.HasPrefix(c.name, "services") && !strings.HasPrefix(c.name, "ipsets"); InDoubt(r.Losses) != doubt || len(r.Losses) == 0 {
			t.Errorf("%s: in doubt is %v: %v", c.name, InDoubt(r.Losses), r.Losses)
		}
	}
}

// A folder of parts may be a link: it leads wherever links are followed, and otherwise to what is in the folder. A folder whose name
// no zone can have, and a hidden one, are nobody's.
func TestLinkedFolderOfParts(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	writeFile(t, outside+"/a.xml", `<zone><service name="http"/></zone>`)
	writeFile(t, dir+"/zones/..data/home/a.xml", `<zone><service name="http"/></zone>`)
	makeFolder(t, dir+"/zones/lost+found")
	link(t, "..data/home", dir+"/zones/home")
	services := func(c *Config, zone string) string { return strings.Join(c.Zones[zone].Services, " ") }
	for _, follow := range []bool{false, true} {
		c, problems := Load(Dirs{System: dir, Follow: follow})
		if len(problems) > 1 || c == nil || services(c, "home") != "http" { // one is about the shipped zone that the folder hides
			t.Fatalf("follow is %v: %v", follow, problems)
		}
	}
	link(t, outside, dir+"/zones/public")
	if c, problems := Load(Dirs{System: dir, Follow: true}); c == nil || services(c, "public") != "http" {
		t.Errorf("got %v", problems)
	}
	if c, problems := Load(Dirs{System: dir}); c != nil || !strings.Contains(problems.Error(), "zones/public: INVALID_FILENAME: cannot read it: the link "+dir+"/zones/public leads to "+outside) {
		t.Errorf("got %v", problems)
	}
	if r := LoadRest(Dirs{System: dir}, &Config{}); !InDoubt(r.Losses) {
		t.Errorf("got %v", r.Losses)
	}
}

func makeFolder(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// A firewalld.conf of which a load passes over a line is a doubt: the line may have named the default zone. The configuration is the one
// that a load gives. What deprecated keys have wrong costs nothing. A file that sets nothing may be meant so, and is said to be there or not.
func TestRestOfADamagedConf(t *testing.T) {
	for _, c := range []struct {
		conf          string
		doubt, noConf bool
	}{
		{"DefaultZone=drop\nCleanupOnExit=no\n", false, false},
		{"DefaultZone=drop\nLockdown=yes\nAutomaticHelpers=x\nMinimalMark=\n", false, false},
		{"DefaultZone=drop\nLockdown=yes\nAutomaticHelpers=x\nMinimalMark=x\n", false, false},
		{"Default", true, false},
		{"DefaultZone=", true, false},
		{"DefaultZone", true, false},
		{"DefaultZon=drop\n", true, false},
		{"DefaultZone==drop\n", true, false},
		{"DefaultZone=drop\nDefaultZone=trusted\n", true, false},
		{"DefaultZone=drop\nCleanupOnExit=noo\nIPv6_rpfilter=on\nReloadPolicy=acept\n", false, false},
		{"DefaultZone=drop\nLogDenied=al\n", false, false},
		{"DefaultZone=drop\nFirewallBackend=iptable\n", true, false},
		{"DefaultZone=drop\nFlushAllOnReload=0\n", true, false},
		{strings.Repeat("\x00", 100), true, false},
		{"\xff\xfeD\x00e\x00f\x00a\x00u\x00l\x00t\x00Z\x00o\x00n\x00e\x00=\x00d\x00r\x00o\x00p\x00", true, false},
		{"", false, true},
		{"\n# DefaultZone=drop\n ; or another\n", false, true},
	} {
		dir := t.TempDir()
		writeFile(t, dir+"/firewalld.conf", c.conf)
		r := LoadRest(Dirs{System: dir}, &Config{})
		if InDoubt(r.Losses) != c.doubt || len(r.Losses) > 0 != c.doubt || r.NoConf != c.noConf {
			t.Errorf("%q: in doubt is %v, without a conf is %v, lost: %v", c.conf, InDoubt(r.Losses), r.NoConf, r.Losses)
		}
		loaded, problems := Load(Dirs{System: dir})
		if loaded == nil || *loaded.Conf != *r.Config.Conf {
			t.Errorf("%q: a load gives %+v, not %+v: %v", c.conf, loaded, r.Config.Conf, problems)
		}
	}
	if r := LoadRest(Dirs{System: t.TempDir()}, &Config{}); !r.NoConf || len(r.Losses) > 0 {
		t.Errorf("no file: without a conf is %v, lost: %v", r.NoConf, r.Losses)
	}
}

// Ports of a file are merged as those of an edit are.
func TestPortSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []portRange
		var set portSet
		for range rapid.IntRange(1, 40).Draw(t, "ports") {
			low := rapid.IntRange(0, 200).Draw(t, "low")
			p := portRange{low, low + rapid.SampledFrom([]int{0, 0, 1, 5, 63, 64, 100}).Draw(t, "more"), rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "protocol")}
			var changed bool
			list, changed = mergeRange(list, p)
			if added := set.add(p); added != changed {
				t.Fatalf("%v is added: %v, %v", p, added, changed)
			}
		}
		if got, want := set.ports(), portList(list); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// Of very many mistakes the first are told, and how many more there are; of those of one file a person is shown twenty.
func TestManyMistakes(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir+"/zones/public.xml", "<zone>\n"+strings.Repeat("<port port='x' protocol='tcp'/>\n", 900)+"</zone>")
	writeFile(t, dir+"/zones/home.xml", "<zone>\n"+strings.Repeat("<service name='x'/>\n", 900)+"</zone>")
	_, problems := Load(Dirs{System: dir})
	if len(problems) > 2*(keptProblems+1)+keptProblems {
		t.Errorf("%d problems are kept", len(problems))
	}
	text := problems.Error()
	if n := strings.Count(text, "INVALID_PORT"); n != shownProblems+1 || !strings.Contains(text, dir+"/zones/public.xml:22:7: INVALID_PORT: and ") {
		t.Errorf("shown are %d:\n%s", n, text)
	}
}

package faults

import (
	"encoding/xml"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"richwall/internal/lab"
)

// reading is what the files of a configuration say about packets from the client, read in another way than by the program: with the XML
// package of the standard library, and only as far as files that were once sound need it. What it cannot read it takes for
// something that refuses.
type reading struct {
	files map[string]string
	tree  map[string]node // of the files that are XML
}

type node struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []node     `xml:",any"`
}

func (e node) attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// all are the children of a name.
func (e node) all(name string) []node {
	return slices.DeleteFunc(slices.Clone(e.Children), func(c node) bool { return c.XMLName.Local != name })
}

func (e node) has(name string) bool { return len(e.all(name)) > 0 }

func read(files map[string]string) reading {
	r := reading{files, map[string]node{}}
	for path, text := range files {
		var root node
		if strings.HasSuffix(path, ".xml") && xml.Unmarshal([]byte(text), &root) == nil {
			r.tree[path] = root
		}
	}
	return r
}

// shipped are ports that shipped zones and services let in, of those that are probed.
var shipped = map[string][]string{
	"zone public": {"22"}, "zone external": {"22"}, "zone dmz": {"22"}, "zone work": {"22"}, "zone internal": {"22"}, "zone home": {"22"},
	"zone trusted": {"0-65535"}, "service ssh": {"22"}, "service http": {"80"}, "service https": {"443"},
}

// opens tells whether the files let a packet from the client in.
func (r reading) opens(at door) bool {
	zone := r.zone(at)
	z, own := r.tree["zones/"+zone+".xml"]
	if _, there := r.files["zones/"+zone+".xml"]; !own {
		return !there && covers(shipped["zone "+zone], at.port)
	}
	for _, rule := range z.all("rule") {
		if rule.has("drop") && r.drops(rule, at) {
			return false
		}
	}
	return z.attr("target") == "ACCEPT" || r.lists(z, at) || r.policy(zone, at)
}

// zone is the zone of the client.
func (r reading) zone(at door) string {
	var bound string
	for path, z := range r.tree {
		folder, name, _ := strings.Cut(strings.TrimSuffix(path, ".xml"), "/")
		if folder != "zones" {
			continue
		}
		for _, s := range z.all("source") {
			if within(s.attr("address"), at.from()) {
				return name
			}
		}
		for _, i := range z.all("interface") {
			if i.attr("name") == "c0" {
				bound = name
			}
		}
	}
	if bound != "" {
		return bound
	}
	for line := range strings.Lines(r.files["firewalld.conf"]) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "DefaultZone="); ok && value != "" {
			return value
		}
	}
	return "public"
}

// policy tells whether a policy from a zone to this machine lets a packet in.
func (r reading) policy(zone string, at door) bool {
	for path, p := range r.tree {
		from := func(e node) bool { return e.attr("name") == zone || e.attr("name") == "ANY" }
		to := func(e node) bool { return e.attr("name") == "HOST" }
		if strings.HasPrefix(path, "policies/") && slices.ContainsFunc(p.all("ingress-zone"), from) && slices.ContainsFunc(p.all("egress-zone"), to) &&
			(p.attr("target") == "ACCEPT" || r.lists(p, at)) {
			return true
		}
	}
	return false
}

// lists tells whether an item of a zone or policy lets a packet in.
func (r reading) lists(z node, at door) bool {
	for _, e := range z.Children {
		switch e.XMLName.Local {
		case "port", "service", "forward-port":
			if r.matches(e, at) {
				return true
			}
		case "rule":
			if e.has("accept") && r.applies(e, at) {
				return true
			}
		}
	}
	return false
}

// applies tells whether a rule is about a packet.
func (r reading) applies(rule node, at door) bool {
	if family := rule.attr("family"); family != "" && family != string(at.family) {
		return false
	}
	for _, e := range rule.Children {
		switch e.XMLName.Local {
		case "source":
			if !within(e.attr("address"), at.from()) {
				return false
			}
		case "port", "service":
			if !r.matches(e, at) {
				return false
			}
		case "destination":
			return false // none of them is this machine
		}
	}
	return true
}

// drops tells whether a rule drops a packet by an ipset, or may do so: an entry that cannot be read may be the client's.
func (r reading) drops(rule node, at door) bool {
	if at.family != lab.IPv4 {
		return false
	}
	for _, s := range rule.all("source") {
		set, whole := r.tree["ipsets/"+s.attr("ipset")+".xml"]
		named := slices.ContainsFunc(set.all("entry"), func(e node) bool {
			text := strings.TrimSpace(e.Text)
			return !readable(text) || within(text, at.from())
		})
		if s.attr("ipset") == "" || s.attr("invert") != "" || s.attr("NOT") != "" || whole && !named {
			return false
		}
	}
	return slices.ContainsFunc(rule.all("port"), func(p node) bool { return r.matches(p, at) })
}

// matches tells whether a port, service or forward-port is about a packet. A service with a destination is not: it is not this machine.
func (r reading) matches(e node, at door) bool {
	if e.XMLName.Local != "service" {
		return e.attr("protocol") == "tcp" && covers([]string{e.attr("port")}, at.port)
	}
	if _, own := r.files["services/"+e.attr("name")+".xml"]; !own {
		return covers(shipped["service "+e.attr("name")], at.port)
	}
	s := r.tree["services/"+e.attr("name")+".xml"]
	return !s.has("destination") && slices.ContainsFunc(s.Children, func(p node) bool {
		switch p.XMLName.Local {
		case "port":
			return r.matches(p, at)
		case "include":
			return covers(shipped["service "+p.attr("service")], at.port)
		}
		return false
	})
}

// portNames are the names of ports that are probed.
var portNames = map[string]string{"http": "80", "https": "443", "ssh": "22"}

// covers tells whether one of some ports and ranges has a port.
func covers(ranges []string, port int) bool {
	for _, text := range ranges {
		if number, ok := portNames[text]; ok {
			text = number
		}
		low, high, isRange := strings.Cut(text, "-")
		if !isRange {
			high = low
		}
		from, err := strconv.Atoi(strings.TrimSpace(low))
		to, err2 := strconv.Atoi(strings.TrimSpace(high))
		if err == nil && err2 == nil && from <= port && port <= to {
			return true
		}
	}
	return false
}

// readable tells whether a text is an address or a network.
func readable(text string) bool {
	_, err := netip.ParseAddr(text)
	_, err2 := netip.ParsePrefix(text)
	return err == nil || err2 == nil
}

// within tells whether an address is in a network or is another one.
func within(text string, a netip.Addr) bool {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Contains(a)
	}
	other, err := netip.ParseAddr(text)
	return err == nil && a == other
}

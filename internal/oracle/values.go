package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// class is what an argument can be: values that are valid, nearly valid, and of no use, each separated by blanks or, where the
// first character is a line end, by line ends. Few of each, so that steps of one session meet: what one adds another removes.
// A word in angle brackets in a value is a value of that class.
type class struct{ valid, nearly, invalid string }

var classes = map[string]class{
	"zone":        {"public home work internal external dmz trusted block drop mine mine", "nosuch Public mine/sub pub", "\n\n \nHOST\na b\nzone-with-a-name-that-is-far-too-long-for-anything-that-a-kernel-takes-and-even-longer-than-ninety-six-characters\n-x\nümlaut"},
	"newzone":     {"mine mine mine2 sub-zone under_score", "public mine/sub mine2/", "\n\na b\n/x\nHOST\nANY\na/b/c\n+"},
	"zoneor":      {"<zone> HOST ANY public work", "nosuch host any", "\n\n "},
	"policy":      {"allow-host-ipv6 pol pol pol2 gateway-lan-to-HOST gateway-world-to-HOST", "nosuch Pol", "\n\npublic\na b\nHOST"},
	"newpolicy":   {"pol pol pol2 gateway-mine", "allow-host-ipv6 public pol/sub", "\n\na b\nANY\n/x"},
	"policyset":   {"gateway", "nosuch gate", "\n\n-\n*"},
	"service":     {"ssh http https dns app app dhcpv6-client mdns ftp tftp samba ipsec libvirt freeipa-ldap", "htpp nosuch SSH", "\n\na b\n../x\n80"},
	"newservice":  {"app app app2 under_score", "ssh", "\n\na b\na/b\na.b"},
	"port":        {"80 443 22 8080 1000-2000 1500-1600 1990-2010 53 65535 http", "70000 0 2000-1000 80-80 ssh-http nosuchport 22- -22", "\n\n-1\n1-2-3\n0x50\n 80\nport\n²"},
	"proto":       {"tcp udp tcp udp sctp dccp", "TCP icmp 6", "\n\nnosuch\ntcp/udp"},
	"portproto":   {"<port>/<proto>", "<port>:<proto> <port> <port>/ /<proto>", "\n\n/\n80/tcp/udp\nx"},
	"protocol":    {"gre esp ah icmp ipv6-icmp igmp 47 255 sctp", "GRE 256 nosuch 0", "\n\n-1\n6/tcp\na b"},
	"icmptype":    {"echo-request echo-reply redirect neighbour-advertisement destination-unreachable timestamp-request weird", "nosuch ping Echo-Request", "\n\n8\na b"},
	"newicmp":     {"weird weird weird2", "echo-request", "\n\na b\na/b"},
	"icmpdest":    {"ipv4 ipv6", "IPv4 inet ipv4=yes", "\n\nx"},
	"interface":   {"eth0 eth1 eth2 eth+ wlan0", "lo interface-name16 ETH0", "\n\na b\neth/0\n!\n*\na-name-that-is-too-long-for-it"},
	"ip4":         {"192.0.2.1 10.0.0.1 198.51.100.7 203.0.113.9", "192.0.2.256 10.0.0 010.0.0.1", "\n\nx\n::ffff:1.2.3.4/1"},
	"net4":        {"192.0.2.0/24 10.0.0.0/8 198.51.100.0/25 203.0.113.9/32 192.0.2.1 10.1.2.3/16 192.0.2.0/255.255.255.0", "192.0.2.0/33 10.0.0.0/255.0.255.0 0.0.0.0/0 10.0.0.0/", "\n\nx/24\n/24"},
	"ip6":         {"2001:db8::1 fd00::1 2001:db8:0::2", "2001:DB8::1 [2001:db8::3] 2001:db8::g ::ffff:1.2.3.4", "\n\n:\nfe80::1%eth0"},
	"net6":        {"2001:db8::/32 fd00::/8 2001:db8:1::/48 2001:db8::1 2001:db8::1/128 2001:db8::1/64", "2001:db8::/129 ::/0 2001:DB8::/32", "\n\n/64\n::/x"},
	"mac":         {"00:11:22:33:44:55 AA:BB:CC:DD:EE:FF aa:bb:cc:dd:ee:ff", "00:11:22:33:44 00-11-22-33-44-55 00:00:00:00:00:00", "\n\n00:11:22:33:44:5g"},
	"source":      {"<net4> <net6> <mac> ipset:nets ipset:ips ipset:macs <net4>", "ipset:nosuch ipset: IPSET:nets ipset:ports", "\n\nx\n0.0.0.0/0/0"},
	"ipset":       {"nets nets ips ips macs six ports timed", "nosuch Nets", "\n\na b\nan-ipset-whose-name-is-far-too-long-for-it"},
	"newipset":    {"nets ips macs six ports timed", "a.b:c", "\n\na b\nan-ipset-whose-name-is-far-too-long-for-it\na/b"},
	"ipsettype":   {"hash:ip hash:net hash:mac hash:ip,port hash:net,port hash:ip,mark hash:net,iface hash:net,net hash:ip,port,ip hash:ip,port,net hash:net,port,net", "hash:nosuch HASH:IP list:set bitmap:ip", "\n\nhash\nx y"},
	"ipsetopt":    {"family=inet family=inet6 maxelem=100 hashsize=64 timeout=3600 timeout=0 maxelem=2", "family=ipv4 maxelem=-1 timeout=x family nosuch=1 maxelem=", "\n\n=\n=x"},
	"inet":        {"inet inet6", "ipv4 INET", "\n\nx"},
	"entry":       {"<net4> <ip4> <net4> <ip4> <net6> <ip6> <mac> <ip4>,<entryport> <net4>,<entryport> <ip4>,<mark> <net4>,<interface> <net4>,<net4> <ip4>,<entryport>,<ip4> <ip4>,<entryport>,<net4> 192.0.2.1-192.0.2.9", "0.0.0.0 192.0.2.9-192.0.2.1 192.0.2.1,, <ip4>,tcp: <ip4>,<proto>:<port> 10.0.0.0-10.0.0.255/24", "\n\nx\n,\n1.2.3.4 5.6.7.8"},
	"entryport":   {"80 tcp:80 udp:53 1000-2000 tcp:1000-2000 sctp:5", "icmp:8/0 icmp:ping 70000", "\n\nx:1"},
	"mark":        {"0x1 16 0xffff", "0x1/0xff -1 4294967296", "\n\nx"},
	"helper":      {"ftp tftp sip h1 h1 amanda", "nosuch FTP", "\n\na b"},
	"newhelper":   {"h1 h1 h.2", "ftp", "\n\na b\na/b\na_b"},
	"module":      {"nf_conntrack_ftp nf_conntrack_tftp nf_conntrack_irc", "ftp nf_conntrack_ nf_nat_ftp nf_conntrack_no_such", "\n\na b\n/"},
	"modname":     {"nf_conntrack_ftp ftp netbios-ns nf_conntrack_netbios_ns", "f", "\n\na b"},
	"family":      {"ipv4 ipv6", "inet IPv4 ipv5", "\n\nx"},
	"destination": {"ipv4:<net4> ipv6:<net6>", "ipv4:<net6> ipv4 ipv5:10.0.0.1 ipv4:", "\n\n:\nx"},
	"target":      {"default ACCEPT DROP REJECT %%REJECT%% CONTINUE", "accept QUEUE RETURN", "\n\n%%\nx y"},
	"priority":    {"-1 1 5 100 -100 10 32767 -32768", "0 32768 -32769 +5 1.5", "\n\nx\n--\n1e3"},
	"text":        {"\nShort\nA text of words\nit's \"quoted\" & <tagged>\nümlaut", "\n\n two  blanks ", "\n\ttab\nx"},
	"version":     {"1 1.0", "x", "\n\n "},
	"logdenied":   {"all off unicast broadcast multicast off", "ALL on", "\n\nx"},
	"yesno":       {"yes no true false", "YES maybe 1", "\n\nx"},
	"timeout":     {"1h 3600 10m 7200s 0", "1d -1 1H 1.5h", "\n\nx"},
	"forward":     {"port=<port>:proto=<proto>:toport=<port> port=<port>:proto=<proto>:toaddr=<ip4> port=<port>:proto=<proto>:toport=<port>:toaddr=<ip4> port=80:proto=tcp:toport=8080", "port=<port>:proto=<proto> port=<port>:toport=80 proto=tcp:port=<port>:toport=<port> port=<port>:proto=<proto>:toaddr=<ip6> port=80:proto=tcp:toport=80:toaddr=10.0.0.1:x=1", "\n\n:\nport\nport=:proto=:toport=:toaddr=\nx=y"},
	"ipv":         {"ipv4 ipv4 ipv6 eb", "inet ip4 IPV4", "\n\nx"},
	"place":       {"filter INPUT|filter FORWARD|filter OUTPUT|nat POSTROUTING|mangle PREROUTING|raw PREROUTING|filter mychain|filter INPUT", "filter PREROUTING|raw INPUT|filter nosuch|nosuch INPUT|nat mychain", "| "},
	"table":       {"filter filter nat mangle raw security", "FILTER broute nosuch", "\n\na b"},
	"chain":       {"INPUT FORWARD OUTPUT mychain mychain PREROUTING POSTROUTING chain2", "input IN_public nosuch INPUT_direct", "\n\na b"},
	"newchain":    {"mychain mychain chain2", "INPUT FORWARD", "\n\na b\na-chain-whose-name-is-too-long-for-iptables"},
	"dpriority":   {"0 1 5 -1 10", "100000 x", "\n\n1.5"},
	"user":        {"root nobody", "nosuch", "\n\na b"},
	"uid":         {"0 1000", "-1 99999999999", "\n\nx"},
	"context":     {"system_u:system_r:init_t:s0", "x", "\n\n "},
	"command":     {"\n/usr/bin/true\n/usr/bin/python3 -s *", "x", "\n\n "},
	"limit":       {"3/m 10/s 1/h 5/d 2/minute", "0/s 1/d 1/week 100000/s x/s", "\n\n/\n3"},
	"level":       {"info warning debug emerg error", "warn err INFO", "\n\nx"},
	"rejecttype":  {"icmp-host-prohibited tcp-reset icmp6-adm-prohibited port-unreach icmp-admin-prohibited adm-prohibited", "icmp-nosuch tcp-rst", "\n\nx"},
	"prefix":      {"log IN_ drop:", "a=b", "\n\n'"},
	"mss":         {"pmtu 1360 536 1452", "535 65536 70000 PMTU 0536 None", "\n\n-1\nx"},
	"setmark":     {"0x10 16 0x10/0xff 1/1", "0x1/0x 01 -1 4294967296", "\n\nx"},
	"bad":         {"x", "", "\n\n  \n\"\n'\n\\\na=b\n🙂"},
}

// mood is how likely a value is of no use, or nearly valid; the rest are valid.
type mood struct{ invalid, nearly float64 }

var (
	careful  = mood{0, 0}
	careless = mood{0.04, 0.15}
	hostile  = mood{0.2, 0.3}
)

// source makes random values.
type source struct {
	*rand.Rand
	mood
	wrong int // how many values were drawn that are not valid
}

// newSource is the random numbers of a seed: the same for the same seed, on every machine.
func newSource(seed uint64) *source {
	return &source{Rand: rand.New(rand.NewPCG(seed, 0x6f7261636c65)), mood: careful}
}

// choices are the values of one column of a class.
func choices(text string) []string {
	if strings.Contains(text, "|") {
		return strings.Split(text, "|")
	}
	if strings.HasPrefix(text, "\n") {
		return strings.Split(text[1:], "\n")
	}
	return strings.Fields(text)
}

// pick is one of some values.
func (s *source) pick(values ...string) string { return values[s.IntN(len(values))] }

// chance is true with a probability.
func (s *source) chance(p float64) bool { return s.Float64() < p }

// value is a value of a class.
func (s *source) value(name string) string {
	if name == "rich" {
		return s.richRule()
	}
	c, ok := classes[name]
	if !ok {
		panic("no class of values is called " + name)
	}
	column, p := c.valid, s.Float64()
	switch {
	case p < s.invalid:
		column = c.invalid
		s.wrong++
	case p < s.invalid+s.nearly && c.nearly != "":
		column = c.nearly
		s.wrong++
	}
	return s.expand(s.pick(choices(column)...))
}

// expand puts values into the places in angle brackets.
func (s *source) expand(text string) string {
	for {
		before, rest, ok := strings.Cut(text, "<")
		name, after, closed := strings.Cut(rest, ">")
		if _, known := classes[name]; !ok || !closed || !known && name != "rich" {
			return text
		}
		text = before + s.value(name) + after
	}
}

// The parts of a rich rule, in the order in which they are usually written.
var (
	richSources = []string{"", "", "", "source address=<net4>", "source address=<net4>", "source NOT address=<net4>", "source mac=<mac>", "source ipset=<ipset>", "source address=<net6>", "source invert=True address=<net4>"}
	richTargets = []string{"", "", "", "destination address=<net4>", "destination NOT address=<net4>", "destination ipset=<ipset>", "destination address=<net6>"}
	richElement = []string{"", "service name=<service>", "service name=<service>", "port port=<port> protocol=<proto>", "port port=<port> protocol=<proto>", "protocol value=<protocol>",
		"source-port port=<port> protocol=<proto>", "icmp-block name=<icmptype>", "icmp-type name=<icmptype>", "masquerade",
		"forward-port port=<port> protocol=<proto> to-port=<port>", "forward-port port=<port> protocol=<proto> to-port=<port> to-addr=<ip4>", "tcp-mss-clamp value=<mss>", "tcp-mss-clamp"}
	richLogs    = []string{"", "", "", "log", "log prefix=\"<prefix>\" level=<level>", "log prefix=\"<prefix>\" limit value=<limit>", "nflog group=1 prefix=\"<prefix>\"", "nflog queue-size=5 limit value=<limit> burst=5"}
	richAudits  = []string{"", "", "", "", "audit", "audit limit value=<limit>"}
	richActions = []string{"", "accept", "accept", "drop", "reject", "reject type=<rejecttype>", "mark set=<setmark>", "accept limit value=<limit>", "drop limit value=<limit> burst=3"}
)

// lone are the elements that take no action.
var lone = []string{"icmp-block", "masquerade", "forward-port", "tcp-mss-clamp"}

// richRule is a rich rule. In any mood but careful a part may be missing, twice, or in another place.
func (s *source) richRule() string {
	source, destination, element := s.pick(richSources...), s.pick(richTargets...), s.pick(richElement...)
	logging, audit, action := s.pick(richLogs...), s.pick(richAudits...), s.pick(richActions...)
	for _, name := range lone {
		if strings.HasPrefix(element, name) && !s.chance(s.nearly) {
			action, audit = "", ""
		}
	}
	if element == "" && action == "" || audit != "" && (action == "" || strings.HasPrefix(action, "mark")) {
		if !s.chance(s.nearly) {
			action = "drop"
		}
	}
	if element != "" && action+logging+audit == "" && !s.chance(s.nearly) {
		for _, name := range lone {
			if strings.HasPrefix(element, name) {
				name = ""
			}
		}
		if !strings.Contains(strings.Join(lone, " "), strings.Fields(element)[0]) {
			action = "accept"
		}
	}
	parts := []string{source, destination, element, logging, audit, action}
	text := s.expand(strings.Join(parts, " "))
	family := ""
	switch {
	case strings.Contains(text, "::"):
		family = "family=ipv6"
	case strings.Contains(text, "address=") || strings.Contains(element, "forward-port") || strings.Contains(action, "type=") || destination != "" || s.chance(0.3):
		family = "family=ipv4"
	}
	if s.chance(s.nearly / 2) {
		family = s.pick("", "family=ipv4", "family=ipv6", "family=inet")
	}
	head := "rule"
	if s.chance(0.2) || element == "" && source == "" && destination == "" {
		head += " priority=" + s.value("priority")
	}
	words := strings.Fields(head + " " + family + " " + text)
	if s.chance(s.nearly / 2) {
		words = s.disturb(words)
	}
	return strings.Join(words, " ")
}

// disturb loses, doubles or moves one word, or puts a strange one between.
func (s *source) disturb(words []string) []string {
	if len(words) == 0 {
		return words
	}
	s.wrong++
	out := append([]string{}, words...)
	i, j := s.IntN(len(out)), s.IntN(len(out))
	switch s.IntN(4) {
	case 0:
		return append(out[:i], out[i+1:]...)
	case 1:
		return append(out, out[i])
	case 2:
		out[i], out[j] = out[j], out[i]
	case 3:
		out[i] = s.pick(choices(classes["bad"].invalid)...)
	}
	return out
}

// quoted is a word as a shell and a scenario take it.
func quoted(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\n\"'\\$&|;<>()*?[]{}#~!`") {
		return word
	}
	if strings.Contains(word, "'") && !strings.ContainsAny(word, "\"\\$`") {
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'"'"'`) + "'"
}

// joined is a command line as a scenario has it.
func joined(words []string) string {
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = quoted(word)
	}
	return strings.Join(out, " ")
}

// split takes a command line of a scenario apart, as a shell would.
func split(line string) (words []string, err error) {
	var word strings.Builder
	inside, quote, escaped := false, rune(0), false
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inside = c, true
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			escaped, inside = true, true
		case quote == 0 && c == ' ':
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(c)
			inside = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("a quote without its end: %s", line)
	}
	if inside {
		words = append(words, word.String())
	}
	return words, nil
}

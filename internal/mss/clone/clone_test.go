package clone

import (
	"regexp"
	"strings"
	"testing"

	"richwall/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// machine is a machine with something of most that can be cloned.
const machine = `
PATH=$PATH:/usr/sbin:/sbin
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip link add wan index 21 mtu 1492 type veth peer name wan-far index 20 mtu 1492
ip link add lan index 31 type veth peer name lan-far index 30
ip link add inner type veth peer name port
ip link add br0 type bridge
ip link set port master br0
ip link add vx mtu 1400 type vxlan id 7 dstport 4789 remote 192.0.2.9 dev wan ttl 5 df set
ip link set vx master br0
ip link set br0 mtu 1380 group 7
for i in wan wan-far lan lan-far inner port br0 vx; do ip link set $i up; done
echo 2 >/proc/sys/net/ipv4/conf/wan/rp_filter
echo 1300 >/proc/sys/net/ipv6/conf/lan/mtu
ip address add 198.51.100.2/24 dev wan
ip address add 10.9.9.1 peer 10.9.9.2 dev wan
ip address add 192.168.1.1/24 dev lan
ip address add 192.168.2.1/24 dev inner
ip -6 address add 2001:db8:1::1/64 dev lan nodad
ip -6 address add 2001:db8:2::1/64 dev wan nodad
ip route add default via 198.51.100.1 mtu 1400 advmss 1300
ip route add default via 198.51.100.3 table 200
ip route add 10.0.0.0/8 nexthop via 192.168.1.2 weight 2 nexthop via 198.51.100.1
ip route add unreachable 10.66.0.0/16 metric 7
ip route add throw 10.67.0.0/16 table 200
ip nexthop add id 5 via 192.168.1.9 dev lan
ip nexthop add id 6 via 198.51.100.9 dev wan
ip nexthop add id 7 group 5/6
ip route add 10.68.0.0/16 nhid 7
ip route add 10.69.0.0/16 nhid 5
ip -6 route add default via 2001:db8:2::2
ip -6 route add 2001:db8:9::/48 nexthop via 2001:db8:2::3 nexthop via 2001:db8:1::3
ip -6 route add 2001:db8:8::/48 from 2001:db8:1::/64 via 2001:db8:2::4
ip rule add priority 100 from 192.168.1.0/25 lookup 200
ip rule add priority 101 not fwmark 0x7/0xff iif lan lookup 200 suppress_prefixlength 0
ip rule add priority 102 ipproto tcp dport 22-25 goto 200
ip rule add priority 200 uidrange 5-9 lookup 200
ip -6 rule add priority 100 to 2001:db8:9::/48 prohibit
ip neighbour replace 198.51.100.1 lladdr 02:00:00:00:00:77 dev wan nud permanent
ip xfrm policy add src 192.168.1.0/24 dst 10.9.0.0/16 dir out mark 7 mask 0xff tmpl src 198.51.100.2 dst 198.51.100.5 proto esp mode tunnel
ip xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 dir out if_id 42 tmpl src 198.51.100.2 dst 198.51.100.5 proto esp mode tunnel
ipset create gone hash:ip
ipset create addresses hash:net
ipset create six hash:net family inet6
ipset add addresses 192.0.2.0/24
ipset destroy gone
iptables -N deeper
iptables -A FORWARD -m set --match-set addresses src -j deeper
iptables -A FORWARD -p tcp -m tcp --dport 80 -m limit --limit 5/sec -m comment --comment 'a comment' -j ACCEPT
iptables -A FORWARD -p tcp -j REJECT --reject-with tcp-reset
iptables -A FORWARD -p udp -m multiport --dports 53,67:68 -m recent --name r --set -j DROP
iptables -A deeper -m conntrack --ctstate NEW,RELATED -m mark --mark 0x1/0xff -j RETURN
iptables -t mangle -A FORWARD -o wan -p tcp -m tcp --tcp-flags SYN,RST SYN -m tcpmss --mss 1361:1536 -j TCPMSS --set-mss 1360
iptables -t mangle -A FORWARD -o wan -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
iptables -t mangle -A PREROUTING -i lan -j MARK --set-xmark 0x5/0xffffffff
iptables -t mangle -A PREROUTING -p udp -m udp --dport 9 -j SET --add-set addresses src
iptables -t nat -A POSTROUTING -o wan -j MASQUERADE
iptables -t nat -A PREROUTING -i wan -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.1.7:80
ip6tables -A FORWARD -p tcp -m set --match-set six dst -j ACCEPT
ip6tables -t mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
iptables-legacy -t mangle -A FORWARD -m set --match-set addresses src -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1200
iptables-legacy -P FORWARD DROP
ip6tables-legacy -A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT
nft -f - <<'END'
table inet t {
	comment "a table"
	ct helper ftp { type "ftp" protocol tcp; }
	counter c { packets 0 bytes 0 }
	quota q { over 10 mbytes }
	limit l { rate 10/second }
	set intervals { type ipv4_addr; flags interval; auto-merge; elements = { 10.1.0.0/16, 10.2.0.0-10.2.0.9, 10.2.0.10, 192.0.2.1 } }
	set both { type ipv4_addr . inet_service; flags interval; elements = { 10.1.0.0/16 . 80-90, 10.2.0.0/16 . 443 } }
	set temporary { type ipv4_addr; size 100; flags dynamic,timeout; timeout 1h; elements = { 10.3.0.1 timeout 2h } }
	set counted { type inet_service; counter; elements = { 80 counter packets 0 bytes 0 } }
	map sizes { type ifname : verdict; elements = { "wan" : jump clamped, "lan" : goto other } }
	map marks { type ipv4_addr : mark; flags interval; elements = { 10.0.0.0/8 : 0x1, 192.168.0.0/16 : 0x2 } }
	chain clamped { tcp flags syn tcp option maxseg size set rt mtu; }
	chain other { tcp flags & (fin|syn|rst|ack) == syn tcp option maxseg size > 1300 tcp option maxseg size set 1300; }
	chain forward {
		type filter hook forward priority mangle; policy accept;
		iifname vmap @sizes
		iif "wan" oif "lan" counter accept
		ip saddr @intervals ip daddr != { 10.5.0.0/16, 10.6.0.0-10.6.0.7 } counter name c
		ip saddr . tcp dport @both meta mark set ip saddr map @marks
		meta mark set ip daddr map { 10.0.0.1 : 0x10, 10.0.0.2 : 0x20 }
		tcp dport vmap { 22 : accept, 23 : drop, 80-90 : jump clamped }
		ct state vmap { invalid : drop, established : accept, related : accept }
		update @temporary { ip saddr timeout 30m limit rate 5/minute }
		tcp dport { 25, 465 } limit name "l" quota name "q" log prefix "mail: " group 3
		ct mark & 0xff == 0x7 ct mark set ct mark or 0x100
		ip6 nexthdr tcp ip6 daddr 2001:db8::/32 reject with icmpv6 admin-prohibited
		fib saddr . iif oif missing drop
		meta l4proto { tcp, udp } th dport 53 numgen random mod 4 0 accept
		ip dscp set cs1
		@th,160,16 0x204 @th,176,16 set 1440
		rt ipsec missing ip ttl set 5
		tcp option sack-permitted exists reset tcp option sack-permitted
	}
	chain early { type filter hook prerouting priority raw; tcp dport 21 ct helper set "ftp"; ip saddr 10.7.0.0/16 notrack; }
	chain out { type nat hook postrouting priority srcnat; oifname "wan" masquerade random; ip saddr 10.8.0.0/16 snat ip to 198.51.100.2-198.51.100.3; }
	chain into { type nat hook prerouting priority dstnat; tcp dport 81 dnat ip to 192.168.1.8:80; tcp dport 82 redirect to :83; }
}
table netdev d {
	chain in { type filter hook ingress device "lan" priority 0; tcp flags syn tcp option maxseg size set 1400; }
}
table bridge b {
	chain f { type filter hook forward priority 0; ether type ip ip daddr 10.0.0.1 drop; }
}
table arp a {
	chain i { type filter hook input priority 0; arp operation request accept; }
}
END
`

// lists are the commands that list what a machine has.
var lists = []string{
	"ip -o link show | sed -E 's/@[^:]*//; s/ (qdisc|state|mode|qlen) \\S+//g; s/link.ether.*//; s/, *NOARP|NOARP, *|NO-CARRIER,//' | sort", "ip -d link show type vxlan | grep vxlan.id || true", "ip -o address show scope global", "ip -4 rule show", "ip -6 rule show",
	"ip -4 route show table all type unicast", "ip -4 route show table all type unreachable", "ip -4 route show table all type throw", "ip -6 route show table all type unicast | sed '/fe80/d'", "ip nexthop show",
	"ip neighbour show nud permanent", "ip xfrm policy show", "nft -s list ruleset", "iptables-nft-save -t filter", "iptables-nft-save -t mangle", "iptables-nft-save -t nat", "ip6tables-nft-save",
	"iptables-legacy-save -t filter", "iptables-legacy-save -t mangle", "ip6tables-legacy-save", "ipset save", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/wan/rp_filter /proc/sys/net/ipv6/conf/lan/mtu /proc/sys/net/ipv6/conf/all/forwarding",
}

// changing is what differs from one list to the next: times, counters, and what the kernel draws.
var changing = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]|expires \S+|packets \d+ bytes \d+| initval 0x\S+| noprefixroute`)

// What the programs list of a clone is what they list of the machine: links, routes, and the rules of all packet filters.
func TestAlike(t *testing.T) {
	if missing := lab.Missing("sh", "ip", "nft", "ipset", "iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	host, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	list := func(ns *lab.Namespace, command string) string {
		out, err := ns.Run(t.Context(), "PATH=$PATH:/usr/sbin:/sbin\n"+command, "sh")
		if err != nil {
			t.Fatal(err)
		}
		return changing.ReplaceAllString(out, "")
	}
	if _, err := host.Run(t.Context(), machine, "sh", "-e"); err != nil {
		t.Fatal(err)
	}
	var reading *Reading
	if err := host.Do(func() (err error) { reading, err = Read(t.Context()); return err }); err != nil {
		t.Fatal(err)
	}
	c, err := reading.Make(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if len(reading.Notes)+len(c.Notes)+len(c.standIns) > 0 {
		t.Errorf("not cloned: %q, %q, %q", reading.Notes, c.Notes, c.standIns)
	}
	for _, command := range lists {
		if have, want := lines(list(c.router, command)), lines(list(host, command)); have != want {
			t.Errorf("%s prints of the clone\n%s\nand of the machine\n%s", command, difference(have, want), difference(want, have))
		}
	}
}

// lines are those of a text without what the clone has beside, and without blanks at their ends.
func lines(text string) string {
	var list []string
	skip := false
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); !strings.HasPrefix(line, " ") {
			skip = strings.Contains(line, "rwport")
		}
		if !skip && line != "" {
			list = append(list, line)
		}
	}
	return strings.Join(list, "\n")
}

// difference are the lines of a text that another one does not have.
func difference(a, b string) string {
	var list []string
	for line := range strings.Lines(a) {
		if !strings.Contains(b, strings.TrimSpace(line)) {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return strings.Join(list, "\n")
}

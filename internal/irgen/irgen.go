// Package irgen makes values of the intermediate form for tests: of every match, action and set, with zero, smallest, largest and
// hostile values in every field, and random ones.
//
// A field has its values in a table by its name. The package's own test reads the source of compile/ir and fails if a type or a
// field there is not in the tables: what is new cannot be forgotten by the tests of the two back ends. It decides nothing about
// which values a back end takes.
package irgen

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"

	"richwall/compile/ir"
)

// Matches and Actions are one value of each type, that both back ends take where they have the type at all. Each lets the other
// fields of its type be tried one by one.
var (
	Matches = []ir.Match{
		ir.NFProto{Family: ir.V4}, ir.Iface{Name: "eth0"}, ir.Addr{Prefix: netip.MustParsePrefix("192.0.2.0/24")},
		ir.EtherAddr{MAC: "00:11:22:33:44:55"}, ir.Lookup{Set: Addresses}, ir.L4Proto{Numbers: []int{6}},
		ir.Port{Side: ir.Dest, Protocol: "tcp", Low: 80, High: 90}, ir.ICMP{Family: ir.V4, Type: 8, Code: ir.AnyCode},
		ir.ICMPTypes{Family: ir.V6, Types: []int{1, 2}}, ir.SYN{}, ir.ACK{}, ir.MSS{Low: 500, High: 1500}, ir.CTState{States: []string{"established"}},
		ir.CTDirection{}, ir.CTStatus{}, ir.CTOrigPort{Protocol: "tcp", Low: 80, High: 90}, ir.Fib{}, ir.PktType{Type: "multicast"},
		ir.AddrList{Prefixes: prefixes("10.0.0.0/8", "192.168.0.0/16")}, ir.Limit{Rate: 3, Unit: 'm'},
	}
	Actions = []ir.Action{
		ir.Accept, ir.Jump{Chain: Target}, ir.Decide{Map: Decisions}, ir.Reject{}, ir.Log{Prefix: "log ", Level: "info"},
		ir.NFLog{Group: 2, Prefix: "nflog ", QueueSize: 3}, ir.Audit{Type: "accept"}, ir.SetMark{Value: 0x200, Mask: 0x3f00, Masked: true},
		ir.ClampMSS{Size: 1360}, ir.Masquerade{}, ir.DNAT{Family: ir.V4, Addr: netip.MustParseAddr("192.0.2.1")},
		ir.SetHelper{Object: "helper-ftp-tcp", Type: "ftp"}, ir.Offload{}, ir.Raw{Args: []string{"-j", "ACCEPT"}},
	}
)

// Target is a chain to jump to, Addresses and Ports sets to look up, Decisions a verdict map and Sizes a map of segment sizes, which a ruleset must have beside
// the rules made here.
const Target = "target"

var (
	Addresses = &ir.Set{Name: "addresses", Type: "hash:net", Family: ir.V4, Elements: []ir.Element{
		ir.NewElement("10.0.0.0/8", ir.Part{Kind: ir.AddrPart, Low: addr("10.0.0.0"), High: addr("10.255.255.255")})}}
	Addresses6 = &ir.Set{Name: "addresses6", Type: "hash:ip,port", Family: ir.V6, Elements: []ir.Element{
		ir.NewElement("2001:db8::1,tcp:80", ir.Part{Kind: ir.AddrPart, Low: addr("2001:db8::1"), High: addr("2001:db8::1")}, ir.Part{Kind: ir.PortPart, Name: "tcp", First: 80, Last: 80})}}
	MACs = &ir.Set{Name: "macs", Type: "hash:mac", Family: ir.Both, Elements: []ir.Element{
		ir.NewElement("00:11:22:33:44:55", ir.Part{Kind: ir.MACPart, Name: "00:11:22:33:44:55"})}}
	Sizes = &ir.Set{Name: ir.LinkMaps[ir.V4], Type: "hash:iface", Family: ir.V4, Exact: true, Sizes: true, Elements: []ir.Element{
		ir.NewSize("lo", 1452), ir.NewSize("ppp0", 1380)}}
	Decisions = &ir.Set{Name: "decisions", Type: "hash:ip", Family: ir.V4, Sides: []ir.Side{ir.Source}, Exact: true, Verdicts: true,
		Elements: []ir.Element{ir.NewVerdict(ir.Drop, "192.0.2.1", ir.Part{Kind: ir.AddrPart, Low: addr("192.0.2.1"), High: addr("192.0.2.1")})}}
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// hostile are strings that some reader takes for something else than a string, or for another one.
var hostile = []string{
	"", " ", "a b", `a"b`, `";accept;#`, `"`, `a'b`, "a`b", `a\b`, `a\`, `\`, "a\nb", "a\naccept\n", "a\r", "a\tb", "a\x00b", "a\x7f", "a\x1b[31m",
	"a;accept", "a#b", "#", "a{b", "a}", "{ }", "$x", "@x", "%s", "a%n", "-", "-a", "--jump", "!", "!a", "! a", "*", "a*", "a**", "+", "a+", "++", "a/b",
	"a:b", ":", ".", "..", "0", "1a", "accept", "drop", "ACCEPT", "LOG", "type", "éß", "a\u202eb", "a\u2028b", "\xff\xfe", "a\xc3", "fifteen_bytes_x",
	"sixteen_bytes_xx", "sixteen_bytes_x+", strings.Repeat("x", 28), strings.Repeat("x", 29), strings.Repeat("x", 30), strings.Repeat("x", 31), strings.Repeat("x", 32),
	strings.Repeat("x", 63), strings.Repeat("x", 64), strings.Repeat("x", 127), strings.Repeat("x", 128), strings.Repeat("x", 255), strings.Repeat("x", 256),
	strings.Repeat("é", 64), strings.Repeat("x", 70000),
}

// Table is the values of each field, by TYPE.FIELD. Fields of type bool have both of theirs and are not listed.
var Table = map[string][]any{
	"NFProto.Family": families, "ICMP.Family": families, "ICMPTypes.Family": families, "DNAT.Family": families,
	"Iface.Side": sides, "Addr.Side": sides, "EtherAddr.Side": sides, "Lookup.Side": sides, "Port.Side": sides,
	"Iface.Name":  texts("eth0", "tun+", "wg-1.2@x", "a"),
	"Addr.Prefix": prefixValues(),
	"EtherAddr.MAC": append(anys("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "AA-BB-CC-DD-EE-FF", "0011.2233.4455", "00:11:22:33:44:55:66:77"),
		texts()...),
	"Lookup.Set":      {(*ir.Set)(nil), Addresses, Addresses6, MACs, Decisions},
	"L4Proto.Numbers": append(eachNumber(-1, 256), []int(nil), []int{}, []int{6, 6}, []int{1, 58}, []int{58, 1}, []int{6, 17}, []int{0, 255}, []int{6, 256}, []int{1, 6, 17, 47, 50, 58, 132}),
	"Port.Protocol":   texts("tcp", "udp", "sctp", "dccp", "icmp", "TCP", "6", "udplite"),
	"Port.Low":        ports, "Port.High": ports, "CTOrigPort.Low": ports, "CTOrigPort.High": ports, "MSS.Low": ports, "MSS.High": ports,
	"CTOrigPort.Protocol": texts("tcp", "udp", "sctp", "dccp", "icmp"),
	"ICMP.Type":           anys(-1, 0, 1, 3, 8, 18, 40, 127, 128, 143, 254, 255, 256), "ICMP.Code": anys(-2, ir.AnyCode, 0, 1, 4, 127, 128, 255, 256),
	"ICMPTypes.Types": {[]int(nil), []int{0}, []int{255}, []int{0, 255}, []int{8, 8}, []int{128, 129}, []int{-1}, []int{1, 256}},
	"CTState.States": {[]string(nil), []string{""}, []string{"new"}, []string{"invalid"}, []string{"established", "related"}, []string{"related", "established", "new", "invalid"},
		[]string{"dnat"}, []string{"established", "established"}, []string{"untracked"}, []string{"new accept"}, []string{"NEW"}},
	"PktType.Type": texts("host", "unicast", "broadcast", "multicast", "other", "Host"),
	"AddrList.Prefixes": {[]netip.Prefix(nil), []netip.Prefix{{}}, prefixes("0.0.0.0/0"), prefixes("::/0"), prefixes("10.0.0.0/8"), prefixes("10.0.0.1/32"), prefixes("10.1.2.3/8"),
		prefixes("10.0.0.0/9", "10.128.0.0/9"), prefixes("10.0.0.0/8", "10.1.0.0/16"), prefixes("10.0.0.0/8", "10.0.0.0/8"), prefixes("255.255.255.255/32", "0.0.0.0/32"),
		prefixes("fc00::/7", "fe80::/10"), prefixes("::/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"), prefixes("10.0.0.0/8", "fe80::/10")},
	"Limit.Rate":  anys(-1, 0, 1, 2, 7, 10000, 10001, 600000, 864000000, 864000001, math.MaxInt32, math.MaxUint32, math.MaxUint32+1, math.MaxInt64),
	"Limit.Unit":  anys(byte(0), byte('s'), byte('m'), byte('h'), byte('d'), byte('w'), byte('"')),
	"Limit.Burst": anys(-1, 0, 1, 4, 5, 6, 255, 10000, 10001, 10000000, math.MaxUint32, math.MaxUint32+1, math.MaxInt64),

	"Jump.Chain": texts(Target), "Jump.Long": texts("a_long_name"),
	"Decide.Map":  {(*ir.Set)(nil), Decisions, Addresses},
	"Reject.With": texts(append([]string{"port-unreach", ir.RejectProhibited, "icmp6-nonsense"}, rejects...)...),
	"Log.Prefix":  texts("log: "), "NFLog.Prefix": texts("log: "),
	"Log.Level":   texts("emerg", "alert", "crit", "error", "err", "warning", "notice", "info", "debug", "audit", "7"),
	"NFLog.Group": anys(-1, 0, 1, 32767, 65535, 65536), "NFLog.QueueSize": anys(-1, 0, 1, 65535, 65536),
	"Audit.Type":    texts("accept", "drop", "reject", "mark"),
	"SetMark.Value": marks, "SetMark.Mask": marks,
	"ClampMSS.Links": texts(Sizes.Name, Addresses.Name), "ClampMSS.Side": sides,
	"ClampMSS.Size": anys(-1, 0, 1, 536, 1220, 65495, 65496, 65515, 65516, 65535, 65536),
	"DNAT.Addr":     {netip.Addr{}, addr("0.0.0.0"), addr("192.0.2.1"), addr("255.255.255.255"), addr("::"), addr("2001:db8::1"), addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), addr("::ffff:192.0.2.1")},
	"DNAT.Low":      ports, "DNAT.High": ports,
	"SetHelper.Object": texts("helper-ftp-tcp"), "SetHelper.Type": texts("ftp"),
	"Raw.Args": rawValues(),

	"Set.Name": texts("a/b.c", "a-b_c"), "Set.Type": texts(SetTypes...), "Set.Family": families,
	"Set.Timeout": numbers, "Set.MaxElem": numbers, "Set.HashSize": numbers,
	"Set.Sides":    {[]ir.Side(nil), []ir.Side{}, []ir.Side{ir.Source}, []ir.Side{ir.Dest}, []ir.Side{ir.Source, ir.Dest}, []ir.Side{ir.Dest, ir.Dest, ir.Source}, []ir.Side{9}},
	"Element.Text": texts("10.0.0.1"),
	"more.verdict": {ir.Action(nil), ir.Accept, ir.Drop, ir.Return, ir.Verdict("continue"), ir.Jump{Chain: Target}, ir.Jump{Chain: Target, Goto: true}, ir.Reject{}},
	"more.size":    anys(-1, 0, 1, 1460, 65535, 65536),
	"Part.Low":     addrs, "Part.High": addrs, "Part.First": anys(-1, 0, 1, 80, 65535, 65536, math.MaxUint32, math.MaxUint32+1),
	"Part.Last": anys(-1, 0, 1, 80, 65535, 65536), "Part.Kind": anys(ir.AddrPart, ir.PortPart, ir.MarkPart, ir.MACPart, ir.IfacePart, ir.IfacePart+1),
	"Part.Name":      texts("tcp", "udp", "sctp", "icmp", "icmpv6", "47", "0", "255", "256", "00:11:22:33:44:55", "eth0"),
	"Chain.Table":    texts("filter", "nat", "mangle", "raw", "security"),
	"Chain.Name":     texts("filter_IN_public"),
	"Chain.Families": families,
	"Hook.Type":      texts("filter", "nat", "route"), "Hook.Hook": texts("prerouting", "input", "forward", "output", "postrouting", "ingress"),
	"Hook.Priority": anys(math.MinInt64, math.MinInt32-1, math.MinInt32, -401, -310, -300, -200, -161, -160, -150, -140, -139, -111, -110, -101, -100, -90, -89, -11, -10, -1, 0, 1, 10, 11,
		89, 90, 99, 100, 110, 111, math.MaxInt32, math.MaxInt32+1),
	"Helper.Name": texts("helper-ftp-tcp"), "Helper.Type": texts("ftp", "sip", "nonsense"), "Helper.Protocol": texts("tcp", "udp", "sctp", "6"),
}

// SetTypes are the types of sets that the compiler makes.
var SetTypes = []string{"hash:ip", "hash:ip,mark", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net", "hash:mac", "hash:net", "hash:net,iface", "hash:net,net",
	"hash:net,port", "hash:net,port,net", "bitmap:port", "hash:port", "hash:iface", "hash:ip,ip", "hash:ip,ip,port"}

// rejects are the answers that the rich language has words for.
var rejects = strings.Fields(`icmp-host-prohibited host-prohib icmp-net-unreachable net-unreach icmp-host-unreachable host-unreach
	icmp-port-unreachable icmp-proto-unreachable proto-unreach icmp-net-prohibited net-prohib tcp-reset tcp-rst icmp-admin-prohibited
	admin-prohib icmp6-adm-prohibited adm-prohibited icmp6-no-route no-route icmp6-addr-unreachable addr-unreach icmp6-port-unreachable`)

var (
	families = anys(ir.Families(0), ir.V4, ir.V6, ir.Both, ir.Families(7))
	sides    = anys(ir.Source, ir.Dest, ir.Side(2), ir.Side(255))
	ports    = anys(-1, 0, 1, 22, 79, 80, 1024, 32768, 65534, 65535, 65536, math.MaxInt64)
	marks    = anys(uint32(0), uint32(1), uint32(0x200), uint32(0x3f00), uint32(0x80000000), uint32(math.MaxUint32-1), uint32(math.MaxUint32))
	numbers  = texts("0", "1", "007", "+5", "-1", "1.5", "0x10", "2147483", "2147484", "99999999", "100000000", "2147483647", "2147483648", "4294967295", "4294967296", "18446744073709551615", "18446744073709551616", "10; accept")
	addrs    = []any{netip.Addr{}, addr("0.0.0.0"), addr("10.0.0.1"), addr("10.0.0.255"), addr("255.255.255.255"), addr("::"), addr("2001:db8::1"),
		addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), addr("::ffff:10.0.0.1")}
)

func anys[T any](list ...T) (values []any) {
	for _, v := range list {
		values = append(values, v)
	}
	return values
}

// texts are strings, and the hostile ones.
func texts(list ...string) []any { return append(anys(list...), anys(hostile...)...) }

func eachNumber(low, high int) (values []any) {
	for n := low; n <= high; n++ {
		values = append(values, []int{n})
	}
	return values
}

// prefixValues are prefixes of each length, with and without bits behind it, and none.
func prefixValues() []any {
	values := []any{netip.Prefix{}}
	for _, a := range []string{"170.170.170.170", "255.255.255.255", "0.0.0.0", "a:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::ffff:192.0.2.1"} {
		for bits := 0; bits <= addr(a).BitLen(); bits++ {
			if bits < 34 || bits%8 < 2 || bits > 126 {
				p := netip.PrefixFrom(addr(a), bits)
				values = append(values, p, p.Masked())
			}
		}
	}
	return values
}

// rawValues are arguments of the direct interface: a comment of each hostile text.
func rawValues() []any {
	values := []any{[]string(nil), []string{}, []string{""}}
	for _, text := range hostile {
		if len(text) == 256 { // the tools keep 255 bytes of a comment
			continue
		}
		values = append(values, []string{"-m", "comment", "--comment", text, "-j", "ACCEPT"})
	}
	return values
}

// Values are the values of a field; none if it is not known.
func Values(sample any, field int) []any {
	t := reflect.TypeOf(sample)
	if t.Field(field).Type.Kind() == reflect.Bool {
		return []any{false, true}
	}
	return Table[t.Name()+"."+t.Field(field).Name]
}

// Each is a sample, the zero value of its type, and the sample with each value of each field in the place of its own.
func Each[T any](sample T) []T {
	t := reflect.TypeOf(sample)
	list := []T{sample, reflect.Zero(t).Interface().(T)}
	if t.Kind() == reflect.String {
		for _, v := range []ir.Verdict{ir.Accept, ir.Drop, ir.Return, "continue", "ACCEPT", "accept;"} {
			list = append(list, reflect.ValueOf(v).Interface().(T))
		}
		return list
	}
	for i := range t.NumField() {
		for _, v := range Values(sample, i) {
			list = append(list, with(sample, i, v))
		}
	}
	return list
}

// with is a sample with another value of one field.
func with[T any](sample T, field int, value any) T {
	changed := reflect.New(reflect.TypeOf(sample)).Elem()
	changed.Set(reflect.ValueOf(sample))
	set(changed.Field(field), value)
	return changed.Interface().(T)
}

func set(field reflect.Value, value any) {
	v := reflect.ValueOf(value)
	if !v.IsValid() { // nil
		v = reflect.Zero(field.Type())
	}
	if !v.Type().AssignableTo(field.Type()) {
		panic(fmt.Sprintf("a value of type %s is given for a field of type %s", v.Type(), field.Type()))
	}
	field.Set(v)
}

// Random is a sample of which each field keeps its value with an even chance, and has any of its values else.
func Random[T any](r *rand.Rand, sample T) T {
	t := reflect.TypeOf(sample)
	if t.Kind() == reflect.String {
		list := Each(sample)
		return list[r.IntN(len(list))]
	}
	for i := range t.NumField() {
		if values := Values(sample, i); len(values) > 0 && r.IntN(2) == 0 {
			sample = with(sample, i, values[r.IntN(len(values))])
		}
	}
	return sample
}

// Rule is a random rule of some matches and an action or two; plain says that each is a sample, so that most rules can be had.
func Rule(r *rand.Rand, plain bool) *ir.Rule {
	rule := &ir.Rule{Families: []ir.Families{ir.V4, ir.V6, ir.Both}[r.IntN(3)], Origin: &ir.Origin{Object: "zone test"}}
	for range r.IntN(4) {
		m := Matches[r.IntN(len(Matches))]
		if !plain {
			m = Random(r, m)
		}
		rule.Matches = append(rule.Matches, m)
	}
	for range 1 + r.IntN(8)/7 {
		a := Actions[r.IntN(len(Actions))]
		if !plain {
			a = Random(r, a)
		}
		rule.Actions = append(rule.Actions, a)
	}
	return rule
}

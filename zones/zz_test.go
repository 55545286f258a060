package zones

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

func strip[T any](o *T, m *Meta) *T {
	m.Short, m.Description, m.places = "", "", nil
	m.Origin = Origin{}
	return o
}
func cmpKind[T any](t *testing.T, kind string, a, b map[string]*T, m func(*T) *Meta) {
	fmt.Println(kind, len(a), len(b))
	for _, n := range Names(a) {
		if b[n] == nil {
			t.Errorf("%s %s only in ref", kind, n)
			continue
		}
		x, y := *a[n], *b[n]
		strip(&x, m(&x))
		strip(&y, m(&y))
		if z, ok := any(&x).(*Policy); ok {
			for i := range z.Rules {
				z.Rules[i].Line = 0
			}
		}
		if !reflect.DeepEqual(x, y) {
			t.Errorf("%s %s:\n%+v\n%+v", kind, n, x, y)
		}
	}
	for _, n := range Names(b) {
		if a[n] == nil {
			t.Errorf("%s %s only in ours", kind, n)
		}
	}
}
func TestZRef(t *testing.T) {
	c, p := Load(Dirs{System: "/nonexistent", Default: "/var/tmp/firewalld-oracle/root/usr/lib/firewalld"})
	fmt.Println(p)
	if c == nil {
		t.Fatal()
	}
	b := builtin()
	cmpKind(t, "services", c.Services, b.Services, func(o *Service) *Meta { return &o.Meta })
	cmpKind(t, "icmptypes", c.ICMPTypes, b.ICMPTypes, func(o *ICMPType) *Meta { return &o.Meta })
	cmpKind(t, "helpers", c.Helpers, b.Helpers, func(o *Helper) *Meta { return &o.Meta })
	cmpKind(t, "zones", c.Zones, b.Zones, func(o *Zone) *Meta { return &o.Meta })
	cmpKind(t, "policies", c.Policies, b.Policies, func(o *Policy) *Meta { return &o.Meta })
	d, p := Load(Dirs{System: "/nonexistent"})
	fmt.Println(d != nil, p)
}
func TestZRW(t *testing.T) {
	for _, f := range []string{"zones/x", "policies/p", "services/s", "icmptypes/i", "helpers/h", "ipsets/foo", "ipsets/bar", "direct"} {
		data, err := os.ReadFile("/tmp/zb/ref/" + f + ".xml")
		if err != nil {
			t.Error(err)
			continue
		}
		var out []byte
		var p Problems
		switch strings.Split(f, "/")[0] {
		case "zones":
			var o *Zone
			o, p = ReadZone("x", data, f)
			out = WriteZone(o)
		case "policies":
			var o *Policy
			o, p = ReadPolicy("x", data, f)
			out = WritePolicy(o)
		case "services":
			var o *Service
			o, p = ReadService("x", data, f)
			out = WriteService(o)
		case "icmptypes":
			var o *ICMPType
			o, p = ReadICMPType("x", data, f)
			out = WriteICMPType(o)
		case "helpers":
			var o *Helper
			o, p = ReadHelper("x", data, f)
			out = WriteHelper(o)
		case "ipsets":
			var o *IPSet
			o, p = ReadIPSet("x", data, f)
			out = WriteIPSet(o)
		case "direct":
			var o *Direct
			o, p = ReadDirect(data, f)
			out = WriteDirect(o)
		}
		fmt.Println(f, p)
		if string(out) != string(data) {
			t.Errorf("%s\n%s", f, out)
		}
	}
}
func BenchmarkZone(b *testing.B) {
	var s strings.Builder
	s.WriteString("<zone>\n")
	for i := range 10000 {
		fmt.Fprintf(&s, "  <rule family=\"ipv4\">\n    <source address=\"10.%d.%d.%d\"/>\n    <port port=\"80\" protocol=\"tcp\"/>\n    <log prefix=\"abc\">\n      <limit value=\"1/m\" burst=\"0\"/>\n    </log>\n    <accept/>\n  </rule>\n", i/65536, i/256%256, i%256)
	}
	s.WriteString("</zone>\n")
	data := []byte(s.String())
	b.ReportAllocs()
	for b.Loop() {
		ReadZone("x", data, "x")
	}
}
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		Load(Dirs{"/nonexistent", "/var/tmp/firewalld-oracle/root/usr/lib/firewalld"})
	}
}
func BenchmarkLoadEmb(b *testing.B) {
	for b.Loop() {
		Load(Dirs{"/nonexistent", ""})
	}
}

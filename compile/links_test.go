package compile_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"richwall/compile"
	"richwall/compile/eval"
	"richwall/compile/ir"
	"richwall/internal/irgen"
)

// Whatever links there are and whichever of them a segment takes, a clamp to what they carry leaves the smallest of what was announced and what
// either link has room for, of sizes within its range, with both back ends. What was compiled stays as it was.
func TestWithLinks(t *testing.T) {
	seed := irgen.Seed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	for n := range 60 {
		low := 0
		attrs := `value="link"`
		if r.IntN(2) == 0 {
			low = 1200 + r.IntN(300)
			attrs += fmt.Sprintf(` range="%d-9000"`, low)
		}
		dir := t.TempDir()
		if err := os.Mkdir(dir+"/zones", 0o755); err != nil {
			t.Fatal(err)
		}
		zone := `<zone target="ACCEPT"><forward/><rule><tcp-mss-clamp ` + attrs + `/></rule></zone>`
		if err := os.WriteFile(dir+"/zones/public.xml", []byte(zone), 0o644); err != nil {
			t.Fatal(err)
		}
		cfg := loadConfig(t, dir)
		links := randomLinks(r)
		for _, backend := range []ir.Backend{ir.NFTables, ir.IPTables} {
			rs, err := compile.Compile(cfg, backend)
			if err != nil {
				t.Fatal(err)
			}
			filled := compile.WithLinks(rs, links)
			if filled.Links || !rs.Links || compile.WithLinks(filled, nil) != filled {
				t.Fatal("it is not known what is filled in")
			}
			for range 20 {
				f := []ir.Families{ir.V4, ir.V6}[r.IntN(2)]
				in, out := links[r.IntN(len(links))], links[r.IntN(len(links))]
				announced := 100 + r.IntN(9000)
				p := eval.Packet{Path: eval.Forward, In: in.Name, Out: out.Name, Family: f, Protocol: 6, SourcePort: 1025, DestPort: 80, Flags: eval.SYN, MSS: announced,
					Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("192.0.2.2"), Reply: r.IntN(2) == 0}
				if f == ir.V6 {
					p.Source, p.Destination = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
				}
				if p.Reply {
					p.State, p.Flags = eval.StateEstablished, eval.SYN|eval.ACK
				}
				want := announced
				if announced >= low && announced <= 9000 || low == 0 {
					want = min(announced, roomFor(in, f), roomFor(out, f))
				}
				if got := eval.Evaluate(filled, p).Packet.MSS; got != want {
					t.Fatalf("RICHWALL_SEED=%d, case %d, %s: %s from %+v to %+v announces %d, which becomes %d, want %d (range from %d)", seed, n, backend, f, in, out, announced, got, want, low)
				}
			}
			again, err := compile.Compile(cfg, backend)
			if err != nil {
				t.Fatal(err)
			}
			var before, behind strings.Builder
			if err := errors.Join(again.Dump(&before), rs.Dump(&behind)); err != nil || before.String() != behind.String() {
				t.Fatalf("what was compiled is another one behind it: %v", err)
			}
		}
	}
}

func randomLinks(r *rand.Rand) (list []compile.Link) {
	mtus := []int{0, 67, 68, 576, 1279, 1280, 1400, 1420, 1492, 1500, 9000, 65535, 65575}
	for i := range 1 + r.IntN(6) {
		mtu := mtus[r.IntN(len(mtus))]
		list = append(list, compile.Link{Name: fmt.Sprintf("eth%d", i), MTU: map[ir.Families]int{ir.V4: mtu, ir.V6: min(mtu, mtus[r.IntN(len(mtus))])}})
	}
	return list
}

// roomFor is the MSS that a link has room for, and no limit where it has no packets of the family.
func roomFor(l compile.Link, f ir.Families) int {
	mtu := min(l.MTU[f], 65535)
	switch {
	case f == ir.V4 && mtu >= 68:
		return mtu - 40
	case f == ir.V6 && mtu >= 1280:
		return mtu - 60
	}
	return 1 << 20
}

package kernel_test

import (
	"context"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// A change of the back end has failed midway, and its guard stands. The Kernel in force takes that over: its own guard stands before the other
// one goes, so that nothing new is let in at any moment. It goes with the next commit.
func TestGuardIsTakenOverWithoutAGap(t *testing.T) {
	bothBackends(t, func(t *testing.T, inForce ir.Backend) {
		l := newLab(t)
		ns := l.Firewall()
		guards := func() int { return strings.Count(run(t, ns, "", "nft", "list", "tables"), "firewalld_guard") }
		other := ir.NFTables
		if inForce == ir.NFTables {
			other = ir.IPTables
		}
		k, remnant := open(t, ns, inForce), open(t, ns, other)
		commit(t, k, &kernel.Desired{Rules: letsIn(t, inForce, "")})
		for _, panicked := range []bool{false, true} {
			if err := remnant.(kernel.Guarder).KeepOut(context.Background(), panicked); err != nil {
				t.Fatal(err)
			}
			if got := arrive(t, l, 80); guards() != 1 || got["in"] {
				t.Fatalf("%d guards stand; packets come: %v", guards(), got)
			}
			if err := k.(kernel.Guarder).KeepOutAlone(context.Background(), panicked); err != nil {
				t.Fatal(err)
			}
			if got := arrive(t, l, 80); guards() != 2 || got["in"] {
				t.Errorf("%d guards stand before the one goes; packets come: %v", guards(), got)
			}
			if err := remnant.(kernel.Remnant).YieldGuard(); err != nil {
				t.Fatal(err)
			}
			if got := arrive(t, l, 80); guards() != 1 || got["in"] || !k.(kernel.Sentinel).Guarded() {
				t.Errorf("%d guards stand behind that; packets come: %v", guards(), got)
			}
			commit(t, k, &kernel.Desired{Rules: letsIn(t, inForce, "")})
			if got := arrive(t, l, 80); guards() != 0 || !got["in"] {
				t.Errorf("%d guards stand at last; packets come: %v", guards(), got)
			}
			if err := remnant.Close(); err != nil {
				t.Fatal(err)
			}
			remnant = open(t, ns, other)
		}
	})
}

package kernel_test

import (
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// What the user's command line of the direct interface has taken out of our rules stays out until a reload, which puts it back. What it has
// added stays.
func TestReloadPutsBackWhatWasAllowed(t *testing.T) {
	useVariant(t, "nft")
	ns := namespace(t)
	rs := scenario(t, "static-mixed.txt", ir.IPTables)
	w := watch(t, ns, ir.IPTables)
	commit(t, w, &kernel.Desired{Rules: rs})
	want := saved(t, ns)
	nothing := func() {}
	for _, args := range []string{"-F INPUT", "-F", "-D FORWARD -i lo -j ACCEPT", "-P INPUT ACCEPT", "-t nat -F"} {
		w.passthrough(t, ns, nothing, nothing, strings.Fields(args)...)
		without := saved(t, ns)
		commit(t, w, &kernel.Desired{Rules: rs})
		sameLines(t, without, saved(t, ns))
		commit(t, w, &kernel.Desired{Rules: rs, Anew: true})
		sameLines(t, want, saved(t, ns))
	}
	w.passthrough(t, ns, nothing, nothing, "-I", "INPUT", "-s", "192.0.2.1", "-j", "ACCEPT")
	with := saved(t, ns)
	commit(t, w, &kernel.Desired{Rules: rs, Anew: true})
	sameLines(t, with, saved(t, ns))
	w.none(t)
}

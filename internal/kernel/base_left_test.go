package kernel_test

import (
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// refused is a commit that the kernel does not take.
func refused(t *testing.T, k kernel.Kernel, backend ir.Backend) {
	t.Helper()
	bad := &ir.Ruleset{Backend: backend, Chains: []*ir.Chain{{Table: "filter", Name: "c", Families: ir.Both, Rules: []*ir.Rule{
		{Families: ir.Both, Actions: []ir.Action{ir.Jump{Chain: "nowhere"}}}}}}}
	if err := k.Commit(t.Context(), &kernel.Desired{Rules: bad}); err == nil {
		t.Fatal("a jump to nowhere is committed")
	}
}

// guardHolds checks that the guard stands, that another program cannot take it away, and whether it lets anything pass.
func guardHolds(t *testing.T, ns *lab.Namespace, passes bool) {
	t.Helper()
	run(t, ns, "", "nft", "flush", "ruleset")
	if !guardStands(t, ns) {
		t.Fatal("another program takes the guard away")
	}
	if got := strings.Contains(run(t, ns, "", "nft", "list", "table", "inet", "firewalld_guard"), "accept"); got != passes {
		t.Errorf("something passes the guard: %v, want %v", got, passes)
	}
}

// A start that fails, or is killed, leaves a guard. The next process makes it its own: another program cannot take it away,
// and with panic mode nothing passes it, be it loopback or what belongs to a connection.
func TestBaseOverAGuardThatWasLeft(t *testing.T) {
	ns := namespace(t)
	for _, panicked := range []bool{false, true, true, false, false} {
		g := base(t, kernel.Options{Enter: ns.Do}, panicked)
		guardHolds(t, ns, !panicked)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A Kernel whose first commit fails, and which is closed, leaves the guard protected, for the Kernel that is opened next. What
// that one commits takes the guard's place.
func TestBaseBetweenKernels(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		ns := namespace(t)
		options := kernel.Options{Backend: backend, Enter: ns.Do}
		options.Guard = base(t, options, false)
		defer options.Guard.Close()
		for range 3 {
			k := start(t, options)
			refused(t, k, backend)
			guardHolds(t, ns, true)
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			guardHolds(t, ns, true)
		}
		k := start(t, options)
		commit(t, k, &kernel.Desired{Rules: letsIn(t, backend, "")})
		if guardStands(t, ns) {
			t.Error("the guard stands beside the rules")
		}
	})
}

// A Kernel that uses the guard's socket and commits nothing is closed, and another one that was opened meanwhile commits, in either order: the
// guard makes way for the rules, and not before.
func TestGuardOfAKernelThatWaits(t *testing.T) {
	for _, first := range []ir.Backend{ir.NFTables, ir.IPTables} {
		for _, closedFirst := range []bool{true, false} {
			ns := namespace(t)
			options := kernel.Options{Enter: ns.Do}
			options.Guard = base(t, options, false)
			defer options.Guard.Close()
			second := ir.NFTables
			if first == ir.NFTables {
				second = ir.IPTables
			}
			var kernels []kernel.Kernel
			for _, options.Backend = range []ir.Backend{first, second} {
				k := start(t, options)
				kernels = append(kernels, k)
			}
			defer kernels[1].Close()
			steps := []func(){
				func() {
					if err := kernels[0].Close(); err != nil {
						t.Error(err)
					}
				},
				func() { commit(t, kernels[1], &kernel.Desired{Rules: letsIn(t, second, "")}) },
			}
			if !closedFirst {
				steps[0], steps[1] = steps[1], steps[0]
			}
			steps[0]()
			if !guardStands(t, ns) {
				t.Errorf("%s, closed first %v: the guard goes too early", first, closedFirst)
			}
			if steps[1](); guardStands(t, ns) {
				t.Errorf("%s, closed first %v: the guard stays", first, closedFirst)
			}
		}
	}
}

package compile

import (
	"cmp"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/irgen"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// What is committed after each of many edits of folded rules, element by element, is what a kernel that had nothing before is
// given: nothing is left of rules that went, and no two elements are in each other's way.
func TestFoldedRulesInTheKernel(t *testing.T) {
	if missing := lab.Missing("nft", "iptables", "ip6tables", "ipset"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	first := irgen.Seed(t)
	for _, test := range []struct {
		backend      ir.Backend
		seeds, edits int
	}{{ir.NFTables, 8, 12}, {ir.IPTables, 4, 6}} {
		for seed := first; seed < first+uint64(test.seeds); seed++ {
			r := rand.New(rand.NewPCG(seed, 3))
			theme := r.IntN(100)
			var rules []*ir.Rule
			for range 60 {
				rules = append(rules, randomFoldable(r, theme))
			}
			bed := newFoldBed(t, test.backend)
			var before *folded
			for step := range test.edits {
				f := &folding{chain: &ir.Chain{Name: "folded"}, least: 2, classes: classes{backend: test.backend}}
				before = f.fold(rules, before)
				rs := testChain(test.backend, before.out, slices.Clone(before.sets))
				slices.SortFunc(rs.Sets, func(a, b *ir.Set) int { return cmp.Compare(a.Name, b.Name) })
				bed.commit(t, rs)
				fresh := newFoldBed(t, test.backend)
				fresh.commit(t, rs)
				if got, want := bed.listing(t), fresh.listing(t); got != want {
					t.Fatalf("seed %d, %s, step %d:\n%s", seed, test.backend, step, firstDifference(got, want))
				}
				fresh.ns.Close()
				rules = slices.Clone(rules)
				for range 1 + r.IntN(3) {
					at := r.IntN(len(rules))
					if r.IntN(2) == 0 {
						rules = slices.Delete(rules, at, at+1)
					} else {
						rules = slices.Insert(rules, at, randomFoldable(r, theme))
					}
				}
			}
			bed.ns.Close()
		}
	}
}

// foldBed is a namespace and what commits to it.
type foldBed struct {
	ns      *lab.Namespace
	kernel  kernel.Kernel
	backend ir.Backend
}

func newFoldBed(t *testing.T, backend ir.Backend) *foldBed {
	t.Helper()
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernel.New(kernel.Options{Backend: backend, Enter: ns.Do})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.Close()
		ns.Close()
	})
	return &foldBed{ns, k, backend}
}

func (b *foldBed) commit(t *testing.T, rs *ir.Ruleset) {
	t.Helper()
	if err := b.kernel.Commit(t.Context(), &kernel.Desired{Rules: rs}); err != nil {
		t.Fatal(err)
	}
}

// Sizes, counters and what a set was begun with differ from one making to another.
var listingNoise = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]| initval \S+| hashsize \d+`)

// listing is what the kernel has, in an order that does not depend on how it came to be.
func (b *foldBed) listing(t *testing.T) string {
	t.Helper()
	var blocks []string
	for _, command := range map[ir.Backend][][]string{
		ir.NFTables: {{"nft", "list", "table", "inet", ir.Table}},
		ir.IPTables: {{"iptables-save", "-t", "filter"}, {"ip6tables-save", "-t", "filter"}, {"ipset", "-sorted", "save"}},
	}[b.backend] {
		text, err := b.ns.Run(t.Context(), "", command[0], command[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		text = listingNoise.ReplaceAllString(text, "")
		if b.backend == ir.NFTables {
			blocks = append(blocks, strings.Split(strings.TrimSuffix(strings.TrimPrefix(text, "table inet firewalld {\n"), "}\n"), "\n\n")...)
			continue
		}
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "-A ") { // declarations stand in the order in which they were made
				blocks = append(blocks, line)
			}
		}
		for chain := range strings.SplitSeq("INPUT folded logs drops", " ") {
			blocks = append(blocks, strings.Join(slices.DeleteFunc(strings.SplitAfter(text, "\n"),
				func(l string) bool { return !strings.HasPrefix(l, "-A "+chain+" ") }), ""))
		}
	}
	for i := range blocks {
		head, elements, _ := strings.Cut(strings.TrimSpace(blocks[i]), "elements = {")
		list := strings.Split(strings.Join(strings.Fields(elements), " "), ", ") // those of several fields stand as they came
		list[len(list)-1] = strings.TrimSuffix(list[len(list)-1], " } }")
		slices.Sort(list)
		blocks[i] = head + strings.Join(list, "\n")
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n")
}

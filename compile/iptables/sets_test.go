package iptables_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/internal/irgen"
	"richwall/internal/lab"
)

// The text of a set, with every value of every field, is refused with an error that says where it comes from, or ipset makes one set
// of it, of its name and with its elements, and nothing else; what ipset refuses leaves nothing.
func TestSetsAreOneSet(t *testing.T) {
	if missing := lab.Missing("ipset"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	var sets []ir.Set
	for _, sample := range []ir.Set{{Name: "sample", Type: "hash:net", Family: ir.V4, Timeout: "60", MaxElem: "100", HashSize: "64"}, {Name: "sample", Type: "bitmap:port", Family: ir.Both}} {
		sets = append(sets, irgen.Each(sample)...)
	}
	for _, value := range irgen.Table["Element.Text"] {
		if value == "0" { // which ipset takes for 0.0.0.0
			continue
		}
		for _, before := range []string{"", "10.0.0.0/8,"} {
			sets = append(sets, ir.Set{Name: "sample", Type: "hash:net", Family: ir.V4, Elements: []ir.Element{ir.NewElement(before + value.(string))}})
		}
	}
	made, refused := 0, 0
	ns := namespace(t)
	defer ns.Close()
	for _, s := range sets {
		s.Origin = testOrigin
		var text bytes.Buffer
		if err := iptables.WriteSets(&text, &ir.Ruleset{Sets: []*ir.Set{&s}}); err != nil {
			if text.Len() > 0 || !strings.Contains(err.Error(), "zone test") {
				t.Errorf("%+v: it is not said where it comes from, or something was printed: %v", s, err)
			}
			continue
		}
		_, err := ns.Run(t.Context(), text.String(), "ipset", "restore")
		saved, saveErr := ns.Run(t.Context(), "", "ipset", "save")
		if saveErr != nil {
			t.Fatal(saveErr)
		}
		want := []string{}
		if err == nil {
			want = append(want, "create "+s.Name+" "+s.Type)
			for _, e := range s.Elements {
				want = append(want, "add "+s.Name+" "+e.Text)
			}
			made++
		} else {
			refused++
		}
		got := strings.Split(strings.TrimSuffix(saved, "\n"), "\n")
		if err != nil { // ipset makes what stands before a line that it refuses
			got = slices.DeleteFunc(got, func(l string) bool { return l == "" || strings.HasPrefix(l, "create "+s.Name+" "+s.Type) })
		}
		if len(got) != len(want) || slices.ContainsFunc(want, func(w string) bool {
			return !slices.ContainsFunc(got, func(g string) bool { return g == w || strings.HasPrefix(g, w+" ") })
		}) {
			t.Errorf("%+v (%v)\nis saved as\n%s", s, err, saved)
		}
		if _, err := ns.Run(t.Context(), "", "ipset", "destroy"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d sets: %d were made, and %d refused by ipset", len(sets), made, refused)
	if made < 40 {
		t.Errorf("only %d sets were made", made)
	}
}

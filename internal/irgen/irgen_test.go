package irgen

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
)

// source is what the source of compile/ir declares: the fields of each struct, and the types that are matches and actions.
type source struct {
	fields  map[string][]string
	members map[string][]string // by the method that makes them members: match, action
}

func readSource(t *testing.T) source {
	t.Helper()
	paths, err := filepath.Glob("../../compile/ir/*.go")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no source of compile/ir: %v", err)
	}
	s := source{map[string][]string{}, map[string][]string{}}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil && (d.Name.Name == "match" || d.Name.Name == "action") {
					s.members[d.Name.Name] = append(s.members[d.Name.Name], fmt.Sprint(d.Recv.List[0].Type))
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if typ, ok := spec.(*ast.TypeSpec); ok {
						s.addFields(typ)
					}
				}
			}
		}
	}
	return s
}

func (s source) addFields(typ *ast.TypeSpec) {
	structure, ok := typ.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range structure.Fields.List {
		for _, name := range f.Names {
			s.fields[typ.Name.Name] = append(s.fields[typ.Name.Name], name.Name)
		}
	}
}

// Every match and action of compile/ir has a sample here, and every field of what rules and sets are made of has values. Whoever
// adds one to the intermediate form adds it here, and so to the tests of both back ends.
func TestNothingIsForgotten(t *testing.T) {
	s := readSource(t)
	for method, samples := range map[string][]string{"match": typeNames(Matches), "action": typeNames(Actions)} {
		want := slices.Sorted(slices.Values(s.members[method]))
		if got := slices.Sorted(slices.Values(samples)); !slices.Equal(got, want) {
			t.Errorf("the samples with the method %s are of the types\n%v, and compile/ir has\n%v", method, got, want)
		}
	}
	// What is made of other parts, does not reach the kernel, or is not of a ruleset.
	elsewhere := strings.Fields(`Ruleset.Backend Ruleset.Chains Ruleset.Sets Ruleset.Helpers Ruleset.Flowtable Ruleset.Owner Ruleset.Counters Ruleset.Links Ruleset.Notes
		Chain.Hook Chain.Builtin Chain.Rules Rule.Families Rule.Order Rule.Ranked Rule.Direct Rule.Place Rule.Matches Rule.Actions
		Rule.Origin Origin.Object Origin.Path Origin.Line Origin.Text Origin.Rule Set.Elements Set.Origin Element.low Element.high Element.more more.parts more.until more.verdict more.size
		Maker.more Maker.parts
		chainNames.entries chainNames.behind chainNames.owners`)
	samples := map[string]any{"Set": ir.Set{}, "Element": ir.Element{}, "Part": ir.Part{}, "Chain": ir.Chain{}, "Hook": ir.Hook{}, "Helper": ir.Helper{}}
	for _, m := range Matches {
		samples[reflect.TypeOf(m).Name()] = m
	}
	for _, a := range Actions {
		samples[reflect.TypeOf(a).Name()] = a
	}
	known := map[string]bool{}
	for typ, fields := range s.fields {
		for i, field := range fields {
			key := typ + "." + field
			known[key] = true
			sample, ok := samples[typ]
			if slices.Contains(elsewhere, key) || ok && len(Values(sample, i)) > 0 {
				continue
			}
			t.Errorf("the field %s has no values", key)
		}
	}
	for key := range Table {
		if !known[key] {
			t.Errorf("there are values for %s, and no such field", key)
		}
	}
}

func typeNames[T any](list []T) (names []string) {
	for _, v := range list {
		names = append(names, reflect.TypeOf(v).Name())
	}
	return names
}

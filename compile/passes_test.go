package compile

import (
	"slices"
	"testing"
)

// Each pass comes after those whose work it needs.
func TestPassesAreInOrder(t *testing.T) {
	var ran []string
	for _, p := range passes {
		for _, needed := range p.after {
			if !slices.Contains(ran, needed) {
				t.Errorf("pass %s needs %s, which has not run before it", p.name, needed)
			}
		}
		if slices.Contains(ran, p.name) {
			t.Errorf("pass %s stands in the table twice", p.name)
		}
		ran = append(ran, p.name)
	}
}

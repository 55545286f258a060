package kernel

import (
	"io"
	"slices"
	"testing"
)

// What is taken out again of sets is what ipset has made up to the line that it refused: a set that another program has is none of them. Where ipset
// does not say how far it came, it is all that may be there.
func TestOnlyWhatWasMadeOfSetsIsTakenBack(t *testing.T) {
	for refused, want := range map[int][]string{
		0: {"_richwall_0", "fresh"},
		1: nil,
		3: {"fresh"},
		4: {"_richwall_0", "fresh"},
		5: {"_richwall_0", "fresh"},
	} {
		p := &setPlan{refused: refused}
		io.WriteString(&p.make, "create fresh hash:ip -exist\nflush fresh\ncreate _richwall_0 hash:ip -exist\nadd _richwall_0 10.0.0.1\nadd other 10.0.0.2\n")
		if got, err := p.made(); err != nil || !slices.Equal(got, want) {
			t.Errorf("behind a refusal of line %d these go: %q, %v, want %q", refused, got, err, want)
		}
	}
}

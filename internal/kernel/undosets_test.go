package kernel

import (
	"io"
	"slices"
	"testing"
)

// What is taken back of sets is what ipset has made up to the line that it refused: the set that was to be exchanged with another one,
// and could not be filled, never comes into the place of that.
func TestOnlyWhatWasMadeOfSetsIsTakenBack(t *testing.T) {
	for refused, want := range map[int][]string{
		0: {"swap _richwall_0 banned", "destroy _richwall_0", "destroy fresh"}, // the rules were refused
		1: nil,
		4: {"destroy _richwall_0", "destroy fresh"},
		5: {"destroy _richwall_0", "destroy fresh"},
		6: {"swap _richwall_0 banned", "destroy _richwall_0", "destroy fresh"},
	} {
		p := &setPlan{refused: refused}
		io.WriteString(&p.make, "create fresh hash:ip -exist\nflush fresh\ncreate _richwall_0 hash:ip -exist\nadd _richwall_0 10.0.0.1\nswap _richwall_0 banned\nadd other 10.0.0.2\n")
		if got, err := p.back(); err != nil || !slices.Equal(got, want) {
			t.Errorf("behind a refusal of line %d these go back: %q, %v, want %q", refused, got, err, want)
		}
	}
}

package zones

import (
	"strings"
	"testing"
)

// A rule in a file whose drop was lost may be left with parts that read as if it did something else. It counts as one that may have refused.
func TestRulesThatHaveLostWhatTheyDid(t *testing.T) {
	for parts, lost := range map[string]bool{
		"source port drop": false, "port log": false, "tcp-mss-clamp": false, "source masquerade": false, "forward-port": false, "source accept": false,
		"source": true, "port": true, "source port tcp-mss-clamp": true, "service masquerade": true, "tcp-mss": true, "protocol forward-port": true,
	} {
		if hasLostDeed(strings.Fields(parts)) != lost {
			t.Errorf("a rule of %s has lost what it did: %v, want %v", parts, !lost, lost)
		}
	}
}

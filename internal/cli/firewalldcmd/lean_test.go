package firewalldcmd

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// Memory that was needed for a moment goes back to the system.
func TestGiveBack(t *testing.T) {
	var l lean
	l.giveBack()
	needed := make([]byte, 256<<20)
	for i := 0; i < len(needed); i += 4096 {
		needed[i] = 1
	}
	runtime.KeepAlive(needed)
	before := held()
	l.giveBack()
	if after := held(); before < 256<<20 || after > before-200<<20 {
		t.Errorf("%d bytes were held, and then %d", before, after)
	}
}

// held is how many bytes the process has of the system.
func held() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

package lab

import (
	"testing"
)

// bothWays are an upload and a download over each family.
func bothWays(size int) []Transfer {
	return []Transfer{
		{Family: IPv4, Upload: true, Port: 80, Size: size}, {Family: IPv4, Port: 80, Size: size},
		{Family: IPv6, Upload: true, Port: 80, Size: size}, {Family: IPv6, Port: 80, Size: size},
	}
}

func (l *Lab) mustTransfer(t *testing.T, transfers ...Transfer) []TransferResult {
	t.Helper()
	results, err := l.Transfer(t.Context(), transfers)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

const clamp = "tcp flags syn tcp option maxseg size set "

// Where a small link says nothing about what it drops, large packets are sent for ever, and none arrives. An MSS lowered on
// the way there and on the way back is what gets them through.
func TestTransfersOverASmallLink(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		what     string
		options  Options
		rules    string
		up, down string // outcomes
	}{
		{"no small link", Options{}, "", Finished, Finished},
		{"a small link", Options{PathMTU: 1280}, "", Stalled, Stalled},
		{"a small link, the SYN clamped", Options{PathMTU: 1280}, chain("forward", "iifname c0 "+clamp+"1220"), Stalled, Finished},
		{"a small link, the SYN/ACK clamped", Options{PathMTU: 1280}, chain("forward", "iifname s0 "+clamp+"1220"), Finished, Stalled},
		{"a small link, both clamped", Options{PathMTU: 1280}, chain("forward", clamp+"1220"), Finished, Finished},
		{"a small link that is the firewall's own, and says so", Options{MTU: 1280}, "", Finished, Finished},
		{"refused", Options{}, chain("forward", "reject"), NotConnected, NotConnected},
		{"lost", Options{}, chain("forward", "drop"), NotConnected, NotConnected},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, c.options, c.rules)
			results := l.mustTransfer(t, bothWays(size)...)
			for i, want := range []string{c.up, c.down, c.up, c.down} {
				got := results[i]
				if got.Outcome != want || (got.Arrived == size) != (want == Finished) {
					t.Errorf("%+v: %+v, want that it %s", bothWays(size)[i], got, want)
				}
			}
		})
	}
}

func TestTransferSaysHowLargePacketsAre(t *testing.T) {
	l := newLab(t, Options{PathMTU: 1280}, chain("forward", clamp+"1220"))
	results := l.mustTransfer(t, bothWays(100_000)...)
	for i, want := range []int{1260, 1260, 1280, 1280} { // with headers of 40 and 60 bytes
		if results[i].Packet != want {
			t.Errorf("%+v: packets of %d bytes, want %d", bothWays(1)[i], results[i].Packet, want)
		}
	}
}

// Probes go through a small link as well: they are small.
func TestProbesOverASmallLink(t *testing.T) {
	l := newLab(t, Options{PathMTU: 1280}, "")
	l.mustTransfer(t, bothWays(100)...)
	probes := append(handshakes(80, 1460),
		Probe{From: Client, To: Server, Port: 80, Source: client4.Next().Next().Next(), MSS: 1460, ReplyMSS: 1460})
	for i, r := range l.mustProbe(t, probes...) {
		if r.At != probes[i].To || r.MSS != 1460 || r.Reply.Kind != GotSYNACK {
			t.Errorf("%+v: %+v", probes[i], r)
		}
	}
}

func TestTransferErrors(t *testing.T) {
	l := newLab(t, Options{}, "")
	for _, bad := range []Transfer{{Port: 80}, {Size: 1}, {Size: 1, Port: 65536}} {
		if _, err := l.Transfer(t.Context(), []Transfer{bad}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

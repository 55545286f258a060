package watch

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// capturing is what two machines would capture on both sides of a router, as pcap without a link layer. Their clocks differ.
type capturing struct {
	files [2][]byte
	now   time.Duration
	skew  time.Duration // of the second one
}

func (c *capturing) sees(at int, data []byte) {
	if c.files[at] == nil {
		c.files[at] = []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0}
	}
	when := time.Duration(1_700_000_000)*time.Second + c.now
	if at == 1 {
		when += c.skew
	}
	c.now += 20 * time.Microsecond
	record := binary.LittleEndian.AppendUint32(nil, uint32(when/time.Second))
	record = binary.LittleEndian.AppendUint32(record, uint32(when%time.Second/time.Microsecond))
	record = binary.LittleEndian.AppendUint32(record, uint32(len(data)))
	record = binary.LittleEndian.AppendUint32(record, uint32(binary.BigEndian.Uint16(data[2:])))
	c.files[at] = append(append(c.files[at], record...), data...)
}

// passes is a packet that goes through the router.
func (c *capturing) passes(from, to int, p tcpOf) {
	p.hops = 64
	c.sees(from, p.bytes())
	p.hops = 63
	c.sees(to, p.bytes())
}

// story is a connection that a clamp lowers, and whose upload is lost beyond the router all the same.
func story(skew time.Duration, first, second int) *capturing {
	c := &capturing{skew: skew}
	syn := tcpOf{from: client, to: server, flags: synOnly, seq: 1000, mss: 1460, hops: 64}
	lowered := syn
	lowered.mss, lowered.hops = 1452, 63
	c.sees(first, syn.bytes())
	c.sees(second, lowered.bytes())
	answer := tcpOf{from: server, to: client, flags: synAck, seq: 5000, ack: 1001, mss: 1460}
	lowered = answer
	lowered.mss, lowered.hops = 1452, 63
	c.sees(second, answer.bytes())
	c.sees(first, lowered.bytes())
	c.passes(first, second, tcpOf{from: client, to: server, flags: push, seq: 1001, ack: 5001, data: 300})
	c.passes(second, first, tcpOf{from: server, to: client, flags: push, seq: 5001, ack: 1301, data: 120})
	for _, pause := range []time.Duration{20, 200, 400, 800, 1600, 3200} {
		c.passes(first, second, tcpOf{from: client, to: server, flags: push, seq: 1301, ack: 5121, data: 1452})
		c.now += pause * time.Millisecond
	}
	c.passes(first, second, tcpOf{from: client, to: server, flags: flagRST | flagACK, seq: 1301, ack: 5121})
	return c
}

// Two captures of both sides of a router tell the same as watching it does. Which side a packet came from is found out: the
// second may be where the connection was opened, and its clock may be wrong.
func TestFiles(t *testing.T) {
	const want = `opened   10.0.0.2:40000 → 192.0.2.9:443  A → B  SYN 1460 → 1452, SYN/ACK 1460 → 1452  lowered
LOST     10.0.0.2:40000 → 192.0.2.9:443  A → B  packets of 1492 bytes to 192.0.2.9 leave by B and are not answered (sent 5 times); those of 340 are
closed   10.0.0.2:40000 → 192.0.2.9:443  A → B  there: 340 bytes answered of 1492, DF, 5 repeated; back: 160 bytes answered, DF
`
	for name, c := range map[string]struct {
		capturing *capturing
		names     [3]string
	}{
		"opened from the first side":         {story(0, 0, 1), [3]string{"", "A", "B"}},
		"opened from the second side":        {story(0, 1, 0), [3]string{"", "B", "A"}},
		"the second clock is 30 ms too late": {story(30*time.Millisecond, 0, 1), [3]string{"", "A", "B"}},
		"the second clock is too early":      {story(-10*time.Microsecond, 0, 1), [3]string{"", "A", "B"}},
	} {
		var said strings.Builder
		w := New(Options{Name: func(i int) string { return c.names[i] }, Event: func(e Event) { said.WriteString(e.Line() + "\n") }})
		packets, err := Files(t.Context(), w, bytes.NewReader(c.capturing.files[0]), bytes.NewReader(c.capturing.files[1]))
		w.Finish()
		if err != nil || packets != 22 || said.String() != want {
			t.Errorf("%s: %d packets, %v\ngot  %s\nwant %s", name, packets, err, &said, want)
		}
		if s := w.Summary(0); s.Totals.SYN != (Pairs{1, 1, 1}) || s.Totals.SYNACK != (Pairs{1, 1, 1}) || len(s.Advice) != 1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// What is wrong with a file is said with its place, and what was read before counts.
func TestBrokenFiles(t *testing.T) {
	c := story(0, 0, 1)
	for want, files := range map[string][2][]byte{
		"the first file: it is no capture":                     {nil, c.files[1]},
		"the second file: it is neither pcap nor pcapng":       {c.files[0], []byte("something else")},
		"the second file ends in the middle of packet 11":      {c.files[0], c.files[1][:len(c.files[1])-1]},
		"cannot read packet 2 of the first file: it claims to": {append(c.files[0][:24+16+44:24+16+44], bytes.Repeat([]byte{255}, 16)...), c.files[1]},
	} {
		_, err := Files(t.Context(), New(Options{}), bytes.NewReader(files[0]), bytes.NewReader(files[1]))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

package watch

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
)

// What strangers write into packets, in whatever order and wherever they are seen, breaks nothing, and what is said of it is
// printable. The input is a list of packets, each with a length, a place and a pause before it.
func FuzzPackets(f *testing.F) {
	one := func(place byte, pause byte, packets ...[]byte) []byte {
		var list []byte
		for _, p := range packets {
			list = append(binary.BigEndian.AppendUint16(append(list, place, pause), uint16(len(p))), p...)
		}
		return list
	}
	syn := tcpOf{from: client, to: server, flags: synOnly, seq: 1000, mss: 1460}
	answer := tcpOf{from: server, to: client, flags: synAck, seq: 5000, ack: 1001, mss: 1460}
	large := tcpOf{from: client, to: server, flags: push, seq: 1001, ack: 5001, data: 1460, sack: [2]uint32{6000, 7000}}
	hostile := syn
	hostile.data = 65000
	f.Add(bytes.Join([][]byte{
		one(0, 0, syn.bytes()), one(4, 0, syn.bytes()), one(1, 0, answer.bytes()), one(3, 0, answer.bytes()),
		one(0, 3, large.bytes(), large.bytes()), one(4, 200, large.bytes(), large.bytes(), large.bytes()),
		one(1, 9, tooBigOf(server.Addr(), large, 1280)), one(2, 255, hostile.bytes()),
	}, nil))
	f.Add(one(6, 1, ipOf(client.Addr(), server.Addr(), protoTCP, 1, 0x2000, make([]byte, 20), 40000)))
	f.Fuzz(func(t *testing.T, input []byte) {
		w := New(Options{Limit: 4, Name: func(int) string { return "a\x1b[2J\u202e" }})
		check := func(line string) {
			if i := strings.IndexFunc(line, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }); i >= 0 {
				t.Errorf("%q", line)
			}
		}
		w.o.Event = func(e Event) {
			check(e.Line())
			if _, err := json.Marshal(e); err != nil {
				t.Error(err)
			}
		}
		now := int64(0)
		for range 50 {
			if len(input) < 4 {
				break
			}
			place, pause, length := input[0], input[1], int(binary.BigEndian.Uint16(input[2:]))
			input = input[4:]
			length = min(length, len(input))
			now += int64(pause) * int64(20*time.Millisecond)
			w.Packet(Packet{Time: now, Interface: int(place&3) + 1, Way: Way(place>>2) % 3, Data: input[:length], Whole: length, Segment: int(place>>4) * 500})
			w.Tick(now)
			input = input[length:]
			w.consistent(t)
		}
		w.Tick(now + int64(time.Minute))
		w.Finish()
		w.consistent(t)
		if w.table.size() != 0 {
			t.Errorf("%d connections are left", w.table.size())
		}
		s := w.Summary(0)
		check(s.Text())
	})
}

// consistent fails if the table contradicts itself.
func (w *Watcher) consistent(t *testing.T) {
	t.Helper()
	used := 0
	for i := range w.table.slots() {
		if w.table.at(i).used {
			used++
		}
	}
	if used != w.table.size() || used > w.o.Limit || len(w.table.byEnds) > 2*used || len(w.table.byMark) > used {
		t.Fatalf("%d in use, %d in lists, %d ends, %d marks", used, w.table.size(), len(w.table.byEnds), len(w.table.byMark))
	}
	for key, i := range w.table.byEnds {
		c := w.table.at(i)
		if !c.used || key != c.in.turned() && (!c.paired || key != c.out.turned()) {
			t.Fatalf("connection %d is not at the ends that lead to it", i)
		}
	}
}

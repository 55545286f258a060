package capture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"testing"
)

// The time of a packet is read as finely as the file has it: pcap in microseconds or nanoseconds, pcapng in what the interface
// says, a power of ten or of two, or else in microseconds.
func TestTimes(t *testing.T) {
	little := binary.LittleEndian
	pcap := func(magic, fraction uint32) []byte {
		file := append(little.AppendUint32(nil, magic), 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
		for _, n := range []uint32{1_700_000_000, fraction, 1, 1} {
			file = little.AppendUint32(file, n)
		}
		return append(file, 'x')
	}
	block := func(kind uint32, body []byte) []byte {
		length := uint32(len(body) + 12)
		return little.AppendUint32(append(little.AppendUint32(little.AppendUint32(nil, kind), length), body...), length)
	}
	pcapng := func(options []byte, units uint64) []byte {
		file := block(ngSection, append(little.AppendUint32(nil, ngByteOrder), 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255))
		file = append(file, block(ngInterface, append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, options...))...)
		body := []byte{0, 0, 0, 0}
		for _, n := range []uint32{uint32(units >> 32), uint32(units), 1, 1} {
			body = little.AppendUint32(body, n)
		}
		return append(file, block(ngPacket, append(body, 'x', 0, 0, 0))...)
	}
	const second = 1_700_000_000
	for name, c := range map[string]struct {
		file []byte
		want int64
	}{
		"pcap":                       {pcap(pcapMicroseconds, 123456), second*1e9 + 123456000},
		"pcap in nanoseconds":        {pcap(pcapNanoseconds, 123456789), second*1e9 + 123456789},
		"pcapng":                     {pcapng(nil, second*1e6+5), second*1e9 + 5000},
		"pcapng in nanoseconds":      {pcapng([]byte{9, 0, 1, 0, 9, 0, 0, 0}, second*1e9+5), second*1e9 + 5},
		"pcapng in 1024ths":          {pcapng([]byte{9, 0, 1, 0, 0x8a, 0, 0, 0, 0, 0, 0, 0}, second<<10+512), second*1e9 + 5e8},
		"pcapng in what is too fine": {pcapng([]byte{9, 0, 1, 0, 0x7f, 0, 0, 0}, 5), 0},
		"pcapng of the year 500,000": {pcapng([]byte{9, 0, 1, 0, 0, 0, 0, 0}, 1<<44), 0},
	} {
		f, err := Open(bufio.NewReader(bytes.NewReader(c.file)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, err := f.Next()
		if err != nil || r.Time != c.want || string(r.Data) != "x" {
			t.Errorf("%s: got %d, %q, %v; want %d", name, r.Time, r.Data, err, c.want)
		}
		if _, err := f.Next(); err != io.EOF {
			t.Errorf("%s: behind it is %v", name, err)
		}
	}
}

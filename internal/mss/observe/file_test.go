package observe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// pcapOf is a pcap file of one link type.
func pcapOf(t testing.TB, link layers.LinkType, packets ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, 0), CaptureLength: len(p), Length: len(p) + 1000}, p); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func read(data []byte) (*Counter, Stats, error) {
	c := NewCounter(1000)
	s, err := ReadFile(context.Background(), bytes.NewReader(data), c, nil)
	return c, s, err
}

// A pcapng file may hold packets of several link types; what cannot be read is counted.
func TestPcapng(t *testing.T) {
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	write := func(index int, data []byte) {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(0, 0), CaptureLength: len(data), Length: len(data), InterfaceIndex: index}
		if err := w.WritePacket(info, data); err != nil {
			t.Fatal(err)
		}
	}
	add := func(link layers.LinkType) int {
		index, err := w.AddInterface(pcapgo.NgInterface{LinkType: link})
		if err != nil {
			t.Fatal(err)
		}
		return index
	}
	write(0, etherFrame(syn(four, mssOption(1452))))
	write(add(101), syn(six, mssOption(1432)))
	write(add(147), []byte("?")) // USER0
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	c, s, err := read(b.Bytes())
	if err != nil || s.Packets != 3 || s.SYNs != 2 || s.Unread[Unknown{Layer: "link type %d", Number: 147}] != 1 || c.Endpoints() != 2 {
		t.Errorf("%+v, %d endpoints, %v", s, c.Endpoints(), err)
	}
	if notes := strings.Join(c.Report("", s).notes(), "\n"); !strings.Contains(notes, "1 packet was not understood: link type 147.") {
		t.Error(notes)
	}
}

// What is wrong with a file is said, and what stood before it counts.
func TestBrokenFiles(t *testing.T) {
	whole := pcapOf(t, layers.LinkTypeEthernet, etherFrame(syn(four, mssOption(1460))), etherFrame(syn(six, mssOption(1440))))
	huge := bytes.Clone(whole)
	binary.LittleEndian.PutUint32(huge[24+8:], 1<<31-1)
	for name, c := range map[string]struct {
		data      []byte
		endpoints int
		want      string
	}{
		"empty":          {nil, 0, "shorter than the header"},
		"no capture":     {[]byte(strings.Repeat("x", 100)), 0, "neither pcap nor pcapng"},
		"a lone header":  {whole[:24], 0, ""},
		"cut off":        {whole[:len(whole)-5], 1, "the file ends in the middle of packet 2"},
		"cut in a head":  {whole[:24+16+58+7], 1, "the file ends in the middle of packet 2"},
		"a false length": {huge, 0, "cannot read packet 1: it claims to have 2147483647 bytes, and none has more than 262144"},
	} {
		counter, _, err := read(c.data)
		if got := errorText(err); counter.Endpoints() != c.endpoints || !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %d endpoints, %q; want %d, %q", name, counter.Endpoints(), got, c.endpoints, c.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// At the end of the context what was read so far is kept.
func TestReadingIsInterrupted(t *testing.T) {
	frame := etherFrame(syn(four, mssOption(1460)))
	file := pcapOf(t, layers.LinkTypeEthernet, slices.Repeat([][]byte{frame}, 10_000)...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := NewCounter(10)
	s, err := ReadFile(ctx, bytes.NewReader(file), c, func(n int64) {
		if n > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || s.SYNs == 0 || s.SYNs >= 10_000 || c.Endpoints() != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A pipe that ends is a file.
func TestReadingAPipe(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		w.Write(pcapOf(t, layers.LinkTypeRaw, syn(four, mssOption(1460))))
		w.Close()
	}()
	c := NewCounter(10)
	if s, err := ReadFile(t.Context(), r, c, nil); err != nil || s.SYNs != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func FuzzReadFile(f *testing.F) {
	f.Add(pcapOf(f, layers.LinkTypeEthernet, etherFrame(syn(four, mssOption(1460)))))
	f.Add(pcapOf(f, layers.LinkTypeRaw, syn(six, mssOption(1460)), syn(six, nil)))
	var ng bytes.Buffer
	w, err := pcapgo.NewNgWriter(&ng, layers.LinkTypeEthernet)
	if err != nil {
		f.Fatal(err)
	}
	frame := etherFrame(syn(four, mssOption(1460)))
	if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, 0), CaptureLength: len(frame), Length: len(frame)}, frame); err != nil {
		f.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		f.Fatal(err)
	}
	f.Add(ng.Bytes())
	f.Add(zipped(ng.Bytes()))
	little := binary.LittleEndian
	f.Add(join(ngSectionOf(little, 1, 2), ngInterfaceOf(little, 101, 0), ngPacketOf(little, 0, v4, []byte{2, 0, 4, 0, 2, 0, 0, 0})))
	f.Add(join([]byte{0x34, 0xcd, 0xb2, 0xa1}, captureOf(little, 113)[4:], modifiedOf(8, 4, v4)))
	for _, c := range linkCases() {
		f.Add(captureOf(little, c.link, c.data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, s, _ := read(data)
		if int64(c.Endpoints()) > s.SYNs {
			t.Errorf("%d endpoints of %d SYNs", c.Endpoints(), s.SYNs)
		}
		var b strings.Builder
		r := c.Report("fuzz", s)
		r.Advise([]float64{50, 90})
		r.Who = c.Who(nil, 5)
		if err := r.Text(&b, 10, 80); err != nil {
			t.Error(err)
		}
		for _, name := range Figures {
			if err := r.Figure(name, &b); err != nil {
				t.Error(err)
			}
		}
	})
}

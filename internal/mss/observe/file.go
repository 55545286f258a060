package observe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// between is how many packets there are between two looks at the context and two reports of progress.
const between = 1 << 12

// ReadFile counts the offers in a capture, pcap or pcapng, which is recognized by its first bytes. It reads a packet at a
// time, so it takes the same memory for a file of any size; r may be a pipe that a capture still goes on into. progress,
// if it is not nil, is called now and then with the number of bytes read so far.
//
// On an error, as at the end of the context or of a file that was cut short, what was read until then has been counted.
func ReadFile(ctx context.Context, r io.Reader, c *Counter, progress func(read int64)) (Stats, error) {
	counted := &countingReader{r: r}
	var s Stats
	next, err := open(bufio.NewReaderSize(counted, 1<<16))
	if err != nil {
		return s, err
	}
	for {
		if s.Packets%between == 0 {
			if err := ctx.Err(); err != nil {
				return s, err
			}
			if progress != nil {
				progress(counted.n)
			}
		}
		data, link, err := next()
		switch {
		case err == io.EOF:
			return s, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return s, fmt.Errorf("the file ends in the middle of packet %d", s.Packets+1)
		case err != nil:
			return s, fmt.Errorf("cannot read packet %d: %w", s.Packets+1, err)
		}
		s.frame(c, link, data)
	}
}

// frame counts a packet as a link type has it.
func (s *Stats) frame(c *Counter, link int, data []byte) {
	layer := linkTypes[link]
	if layer == nil {
		s.Packets++
		if s.Unreadable == nil {
			s.Unreadable = map[int]int64{}
		}
		s.Unreadable[link]++
		return
	}
	o, v := parse(layer(data))
	s.note(v)
	if v == offered {
		c.Add(o)
	}
}

// open returns what reads packet after packet of a file, with the link type of each; io.EOF behind the last.
func open(r *bufio.Reader) (func() ([]byte, int, error), error) {
	magic, err := r.Peek(4)
	if err != nil {
		return nil, errors.New("it is no capture: it is shorter than the header of one")
	}
	if bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) { // a section header block: RFC draft-ietf-opsawg-pcapng, 4.1
		ng, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
		if err != nil {
			return nil, fmt.Errorf("cannot read the pcapng header: %w", err)
		}
		return func() ([]byte, int, error) {
			data, info, err := ng.ZeroCopyReadPacketData()
			return data, mixedLink(info), err
		}, nil
	}
	classic, err := pcapgo.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("it is neither pcap nor pcapng: %w", err)
	}
	link := int(classic.LinkType()) & 0xffff // above it is the length of a frame check sequence
	return func() ([]byte, int, error) {
		data, _, err := classic.ZeroCopyReadPacketData()
		return data, link, err
	}, nil
}

// mixedLink is the link type of a pcapng packet, −1 if its interface was not described.
func mixedLink(info gopacket.CaptureInfo) int {
	if len(info.AncillaryData) > 0 {
		if link, ok := info.AncillaryData[0].(layers.LinkType); ok {
			return int(link)
		}
	}
	return -1
}

// countingReader counts the bytes that pass.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

package observe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"richwall/internal/mss/capture"
)

// ReadFile counts the offers in a capture, pcap or pcapng, packed by gzip or not, which is recognized by its first bytes. It
// reads a packet at a time, so it takes the same memory for a file of any size; r may be a pipe that a capture still goes on
// into. progress, if it is not nil, is called now and then with the number of bytes read so far.
//
// On an error, as at the end of the context or of a file that was cut short, what was read until then has been counted.
func ReadFile(ctx context.Context, r io.Reader, c *Counter, progress func(read int64)) (Stats, error) {
	d := newDecoder(c)
	file, err := capture.Open(bufio.NewReaderSize(&watchedReader{ctx: ctx, r: r, progress: progress}, capture.Buffered))
	if err != nil {
		return d.result(), err
	}
	for {
		p, err := file.Next()
		switch {
		case err == io.EOF:
			return d.result(), nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return d.result(), fmt.Errorf("the file ends in the middle of packet %d", d.Stats.Packets+1)
		case err != nil && ctx.Err() != nil:
			return d.result(), ctx.Err()
		case err != nil:
			return d.result(), fmt.Errorf("cannot read packet %d: %w", d.Stats.Packets+1, err)
		}
		d.Packet(p)
	}
}

// watchedReader ends with its context, and tells how far it is.
type watchedReader struct {
	ctx      context.Context
	r        io.Reader
	n        int64
	progress func(int64)
}

func (w *watchedReader) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.progress != nil {
		w.progress(w.n)
	}
	n, err := w.r.Read(p)
	w.n += int64(n)
	return n, err
}

// decoder looks for offers in captured packets, and counts.
type decoder struct {
	capture.Decoder
	counter *Counter
	stats   Stats // but for what the Decoder counts
}

func newDecoder(c *Counter) *decoder {
	d := &decoder{counter: c}
	d.IP = d.ip
	return d
}

// ip counts what is in an IP packet.
func (d *decoder) ip(data []byte) {
	o, v := parse(data)
	d.stats.note(v)
	if v != offered {
		return
	}
	if d.Sent {
		d.stats.Sent++
	}
	d.counter.Add(o)
}

// result is what was counted so far.
func (d *decoder) result() Stats {
	s := d.stats
	s.Packets, s.Lost, s.Unread = d.Stats.Packets, d.Stats.Lost, d.Stats.Unread
	s.Short += d.Stats.Short
	return s
}

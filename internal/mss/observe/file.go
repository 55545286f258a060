package observe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
)

// ReadFile counts the offers in a capture, pcap or pcapng, packed by gzip or not, which is recognized by its first bytes. It
// reads a packet at a time, so it takes the same memory for a file of any size; r may be a pipe that a capture still goes on
// into. progress, if it is not nil, is called now and then with the number of bytes read so far.
//
// On an error, as at the end of the context or of a file that was cut short, what was read until then has been counted.
func ReadFile(ctx context.Context, r io.Reader, c *Counter, progress func(read int64)) (Stats, error) {
	d := decoder{counter: c}
	file, err := open(bufio.NewReaderSize(&watchedReader{ctx: ctx, r: r, progress: progress}, buffered))
	if err != nil {
		return d.stats, err
	}
	for {
		p, err := file.next()
		switch {
		case err == io.EOF:
			return d.stats, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return d.stats, fmt.Errorf("the file ends in the middle of packet %d", d.stats.Packets+1)
		case err != nil && ctx.Err() != nil:
			return d.stats, ctx.Err()
		case err != nil:
			return d.stats, fmt.Errorf("cannot read packet %d: %w", d.stats.Packets+1, err)
		}
		d.packet(p)
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

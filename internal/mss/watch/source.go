package watch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"richwall/internal/mss/capture"
)

// Listener hears what comes to this machine, what leaves it, and what goes through it.
type Listener struct{ *capture.Listener }

// Listen listens on all interfaces but the loopback one: what comes in by one leaves by another. From here on packets are kept
// for Run. It needs root, or the capability CAP_NET_RAW.
func Listen() (*Listener, error) {
	l, err := capture.Listen(capture.Wanted{IP: wanted, Sent: true, Merged: true})
	if err != nil {
		return nil, err
	}
	return &Listener{l}, nil
}

// Run gives a Watcher what comes until the context ends, which is no error, and calls tick several times a second. It returns
// how many packets were lost because they were too fast.
func (l *Listener) Run(ctx context.Context, w *Watcher, tick func()) (lost int64, err error) {
	var d capture.Decoder
	d.IP = func(ip []byte) {
		way := Came
		if d.Sent {
			way = Left
		}
		w.Packet(Packet{Time: d.Time, Interface: d.Interface, Way: way, Data: ip, Whole: d.Whole, Segment: d.Segment})
	}
	err = l.Listener.Run(ctx, &d, func() {
		w.Tick(time.Now().UnixNano())
		tick()
	})
	w.unread(d.Stats)
	return d.Stats.Lost, err
}

// unread counts what was not understood below the IP packets.
func (w *Watcher) unread(s capture.Stats) {
	w.totals.Unread += s.Short
	for _, n := range s.Unread {
		w.totals.Unread += n
	}
}

// Names is a function that tells the names of this machine's interfaces.
func Names() func(index int) string {
	known := map[int]string{}
	return func(index int) string {
		name, ok := known[index]
		if !ok {
			name = fmt.Sprintf("interface %d", index) // it is gone
			if link, err := net.InterfaceByIndex(index); err == nil {
				name = link.Name
			}
			if len(known) < 1<<16 {
				known[index] = name
			}
		}
		return name
	}
}

// The interfaces of Files.
const (
	BeforeFile = 1
	AfterFile  = 2
)

// tickEvery is how many nanoseconds of a file's time pass between two calls of Tick.
const tickEvery = 100 * int64(time.Millisecond)

// Files gives a Watcher what two captures have of the same time, of both sides of a router, in the order of their times. They
// may be pcap or pcapng, packed by gzip or not. It returns how many packets there were.
func Files(ctx context.Context, w *Watcher, beforeRouter, afterRouter io.Reader) (packets int64, err error) {
	w.files = true
	files := [2]*file{}
	for i, r := range []io.Reader{beforeRouter, afterRouter} {
		f, err := capture.Open(bufio.NewReaderSize(r, capture.Buffered))
		if err != nil {
			return 0, fmt.Errorf("the %s file: %w", ordinal(i), err)
		}
		files[i] = newFile(f, i, w)
		defer func() { w.unread(files[i].decoder.Stats) }()
		if err := files[i].advance(); err != nil {
			return 0, err
		}
	}
	ticked := int64(0)
	for ctx.Err() == nil {
		f := earlier(files)
		if f == nil {
			return packets, nil
		}
		if at := f.record.Time; at-ticked >= tickEvery || at < ticked {
			w.Tick(at)
			ticked = at
		}
		packets++
		f.decoder.Packet(f.record)
		if err := f.advance(); err != nil {
			return packets, err
		}
	}
	return packets, ctx.Err()
}

func ordinal(i int) string { return [...]string{"first", "second"}[i] }

// file is a capture, and its next packet.
type file struct {
	capture.File
	number  int
	count   int64
	record  capture.Record
	over    bool
	decoder capture.Decoder
}

// newFile is a file whose packets go to a Watcher. Whether they came in or left, the places tell where they are seen: what the
// file says is about the machine that captured, which may be another one.
func newFile(c capture.File, number int, w *Watcher) *file {
	f := &file{File: c, number: number}
	f.decoder.IP = func(ip []byte) {
		w.Packet(Packet{Time: f.record.Time, Interface: number + BeforeFile, Data: ip})
	}
	return f
}

// advance reads the next packet.
func (f *file) advance() error {
	var err error
	f.record, err = f.Next()
	f.count++
	switch {
	case err == io.EOF:
		f.over = true
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the %s file ends in the middle of packet %d", ordinal(f.number), f.count)
	case err != nil:
		return fmt.Errorf("cannot read packet %d of the %s file: %w", f.count, ordinal(f.number), err)
	}
	return nil
}

// earlier is the file whose next packet was seen first, nil if both are over.
func earlier(files [2]*file) *file {
	a, b := files[0], files[1]
	switch {
	case a.over && b.over:
		return nil
	case a.over, !b.over && b.record.Time < a.record.Time:
		return b
	}
	return a
}

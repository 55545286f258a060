package observe

import (
	"context"

	"richwall/internal/mss/capture"
)

// Listener hears the SYNs that other machines send to this one or through it. What this machine sends itself is left out.
type Listener struct{ *capture.Listener }

// Listen listens on an interface, or on all of them if the name is empty. From here on SYNs are kept for Run. It needs root,
// or the capability CAP_NET_RAW.
func Listen(device string) (*Listener, error) {
	l, err := capture.Listen(capture.Wanted{Device: device, IP: syns})
	if err != nil {
		return nil, err
	}
	return &Listener{l}, nil
}

// Run counts what comes in until the context ends, which is no error. progress, if it is not nil, is called several times
// a second.
func (l *Listener) Run(ctx context.Context, c *Counter, progress func(Stats)) (Stats, error) {
	d := newDecoder(c)
	var tick func()
	if progress != nil {
		tick = func() { progress(d.result()) }
	}
	err := l.Listener.Run(ctx, &d.Decoder, tick)
	return d.result(), err
}

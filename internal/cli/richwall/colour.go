package richwall

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"richwall/internal/printable"
)

// colour is how text is set off on a terminal, as an escape sequence's number (ECMA-48, 8.3.117).
type colour string

// The colours.
const (
	bold   colour = "1"
	red    colour = "31"
	yellow colour = "33"
	plain  colour = "0"
)

func (c colour) sequence() string { return "\x1b[" + string(c) + "m" }

// painter sets text off where that can be seen.
type painter bool

// printer is a writer that makes printable what others wrote.
func printer(w io.Writer) *printable.Writer {
	p := printable.NewWriter(w)
	if coloured(w) {
		for _, c := range []colour{bold, red, yellow, plain} {
			p.Colours = append(p.Colours, c.sequence())
		}
	}
	return p
}

// newPainter is for a printer.
func newPainter(w io.Writer) painter {
	p, ok := w.(*printable.Writer)
	return painter(ok && p.Colours != nil)
}

// coloured looks whether w is a terminal that a person wants coloured (https://no-color.org).
func coloured(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (p painter) paint(c colour, text string) string {
	if !p {
		return text
	}
	return c.sequence() + text + plain.sequence()
}

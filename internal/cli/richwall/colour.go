package richwall

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// colour is how text is set off on a terminal, as an escape sequence's number (ECMA-48, 8.3.117).
type colour string

// The colours.
const (
	bold   colour = "1"
	red    colour = "31"
	yellow colour = "33"
)

// painter sets text off where that can be seen.
type painter bool

// newPainter looks whether w is a terminal that a person wants coloured (https://no-color.org).
func newPainter(w io.Writer) painter {
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
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

package richwall

import (
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"richwall/internal/printable"
)

// terminal is a terminal on which a picture is drawn over and over in the same place.
type terminal struct {
	file  *os.File
	drawn int // lines of the picture that stands there
	last  time.Time
}

// terminalOf is the terminal that is written to, nil if it is none.
func terminalOf(w io.Writer) *terminal {
	if p, ok := w.(*printable.Writer); ok {
		w = p.Unwrap()
	}
	if p, ok := w.(*writer); ok {
		w = p.to
	}
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return nil
	}
	return &terminal{file: f}
}

// size is how many columns and lines it has; 80 and 24 if it does not tell.
func (t *terminal) size() (columns, lines int) {
	w, err := unix.IoctlGetWinsize(int(t.file.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Col < 2 || w.Row < 2 {
		return 80, 24
	}
	return int(w.Col), int(w.Row)
}

// up goes to the start of the line so many lines above, and erases all from there on (ECMA-48, 8.3.22 and 8.3.39).
func up(lines int) string { return strings.Repeat("\x1b[A", lines) + "\r\x1b[J" }

// draw replaces the picture, but not all the time. picture is given how many columns and lines there is room for. Its lines must be
// printable; they are cut where the terminal ends.
func (t *terminal) draw(picture func(columns, height int) []string) {
	if time.Since(t.last) < terminalPause {
		return
	}
	t.last = time.Now()
	columns, height := t.size()
	list := picture(columns-1, height-1)
	var b strings.Builder
	b.WriteString(up(t.drawn))
	for _, line := range list {
		b.WriteString(cut(line, columns-1) + "\n")
	}
	t.drawn = len(list)
	io.WriteString(t.file, b.String())
}

// clear takes the picture away.
func (t *terminal) clear() {
	io.WriteString(t.file, up(t.drawn))
	t.drawn = 0
}

// cut is the start of a line, of so many characters.
func cut(line string, columns int) string {
	if utf8.RuneCountInString(line) <= columns {
		return line
	}
	return string([]rune(line)[:columns-1]) + "…"
}

// folded is a line as several, of so many characters at most, of which all but the first begin with blanks.
func folded(line string, columns int) []string {
	const indent = "         "
	var list []string
	rest := []rune(line)
	for len(rest) > columns && columns > 2*len(indent) {
		end := columns
		for i := columns; i > columns/2; i-- {
			if rest[i] == ' ' {
				end = i
				break
			}
		}
		list = append(list, string(rest[:end]))
		rest = []rune(indent + strings.TrimLeft(string(rest[end:]), " "))
	}
	return append(list, string(rest))
}

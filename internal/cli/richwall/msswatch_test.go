package richwall

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"richwall/internal/printable"
	"richwall/zones"
)

// pseudoTerminal is a terminal of so many columns and lines, and the end that reads what is written to it.
func pseudoTerminal(t *testing.T, columns, lines uint16) (reads, writes *os.File) {
	t.Helper()
	reads, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { reads.Close() })
	number, err := unix.IoctlGetInt(int(reads.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(reads.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	writes, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { writes.Close() })
	if err := unix.IoctlSetWinsize(int(writes.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		t.Fatal(err)
	}
	return reads, writes
}

// On a terminal a picture takes the place of the one before, and no line is longer than the terminal is wide.
func TestTerminalIsDrawnInPlace(t *testing.T) {
	reads, writes := pseudoTerminal(t, 40, 10)
	term := terminalOf(printable.NewWriter(&writer{to: writes}))
	if term == nil {
		t.Fatal("it is not seen that this is a terminal")
	}
	if terminalOf(&writer{to: reads}) == nil || terminalOf(&strings.Builder{}) != nil {
		t.Error("what is no terminal is taken for one, or the other way round")
	}
	for range 2 {
		term.last = time.Time{}
		term.draw(func(columns, height int) []string {
			if columns != 39 || height != 9 {
				t.Errorf("%d columns, %d lines", columns, height)
			}
			return []string{"first", strings.Repeat("x", 100)}
		})
	}
	term.clear()
	long := strings.Repeat("x", 38) + "…"
	want := "\r\x1b[Jfirst\r\n" + long + "\r\n\x1b[A\x1b[A\r\x1b[Jfirst\r\n" + long + "\r\n\x1b[A\x1b[A\r\x1b[J"
	got := make([]byte, len(want)) // which may come in several pieces
	if _, err := io.ReadFull(reads, got); err != nil || string(got) != want {
		t.Errorf("got  %q\nwant %q, error %v", got, want, err)
	}
}

// A long line is folded at blanks, where there are any.
func TestFolded(t *testing.T) {
	for _, c := range []struct {
		line string
		want int
	}{{"short", 1}, {strings.Repeat("word ", 20), 5}, {strings.Repeat("x", 90), 4}} {
		list := folded(c.line, 30)
		for _, line := range list {
			if utf8.RuneCountInString(line) > 30 {
				t.Errorf("%q is too long", line)
			}
		}
		if len(list) != c.want {
			t.Errorf("%q: %q", c.line, list)
		}
	}
}

// The zone of an address is that of the narrowest source that it is in, or that of the interface, or the default zone.
func TestZoneNamer(t *testing.T) {
	name := zoneNamer(&zones.Config{Conf: &zones.Conf{DefaultZone: "public"}, Zones: map[string]*zones.Zone{
		"work": {Interfaces: []string{"eth1"}, Sources: []string{"10.0.0.0/8", "ipset:x", "00:11:22:33:44:55"}},
		"home": {Sources: []string{"10.1.0.0/16", "2001:db8::1"}},
	}})
	for _, c := range []struct{ iface, address, want string }{
		{"eth0", "192.0.2.1", "public"}, {"eth1", "192.0.2.1", "work"}, {"eth0", "10.2.0.1", "work"},
		{"eth1", "10.1.2.3", "home"}, {"eth0", "2001:db8::1", "home"}, {"eth0", "2001:db8::2", "public"},
	} {
		if got := name(c.iface, netip.MustParseAddr(c.address)); got != c.want {
			t.Errorf("%s behind %s: %s, want %s", c.address, c.iface, got, c.want)
		}
	}
}

package firewallcmd

import (
	"fmt"
	"io"
	"time"
)

// progress is a line on a terminal that says how far something has come. Elsewhere it prints nothing.
type progress struct {
	w       io.Writer // nil for none
	next    time.Time // when the line is due again
	printed bool
}

// progressAfter is how long something takes before it is worth a line, and how long a line stays as it is.
const progressAfter = 200 * time.Millisecond

// newProgress returns the progress of this call of the program.
func (s *session) newProgress() *progress {
	p := &progress{next: time.Now().Add(progressAfter)}
	if isTerminal(s.out.stderr) && !s.out.quiet {
		p.w = s.out.stderr
	}
	return p
}

// step says what is being done; it may be called as often as something is.
func (p *progress) step(format string, args ...any) {
	if p.w == nil || time.Now().Before(p.next) {
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
	p.next, p.printed = time.Now().Add(progressAfter), true
}

// phase says at once what is being done, for something that may take long and tells nothing meanwhile.
func (p *progress) phase(entries int, format string, args ...any) {
	const many = 10_000
	if entries >= many {
		p.next = time.Time{}
		p.step(format, args...)
	}
}

// end takes the line away.
func (p *progress) end() {
	if p.printed {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.printed = false
	}
}

package firewalldcmd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"richwall/internal/fault"
)

// logMode is the mode of the log file.
const logMode = 0o640

// patience is how long a message waits until a target has taken it. One that takes none, such as a terminal that is stopped or
// a syslog that hangs, holds up the firewall no longer than that, and only once.
const patience = 100 * time.Millisecond

// waiting is how many lines a target that takes none may owe; more are lost, and counted.
const waiting = 256

// sink is where lines go.
type sink struct {
	file, console, syslog *target // nil for none
	missing               []error // why a target of several cannot be used
}

// line is one line of the log.
type line struct {
	level slog.Level
	time  time.Time
	text  string // with its label, without its time
}

// openSink opens what a log target needs. If that is several, one that cannot be opened is left out, and is in missing.
func openSink(o options, stdout io.Writer) (*sink, error) {
	s := &sink{}
	mixed := o.logTarget == "mixed"
	journal := isJournal(stdout)
	if mixed || o.logTarget == "console" {
		s.console = newTarget(printer(stdout, journal))
	}
	if mixed || o.logTarget == "file" {
		file, err := openLog(o.logFile)
		if err != nil {
			s.missing = append(s.missing, fmt.Errorf("cannot write the log: %w", err))
		} else {
			s.file = newTarget(printer(file, false))
		}
	}
	if mixed && !journal || o.logTarget == "syslog" { // the journal has what goes to syslog, and would have it twice
		writer, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "firewalld")
		if err != nil {
			s.missing = append(s.missing, fmt.Errorf("cannot reach syslog: %w", err))
		} else {
			s.syslog = newTarget(func(l line) error { return toSyslog(writer, l) })
		}
	}
	if !mixed {
		return s, errors.Join(s.missing...)
	}
	return s, nil
}

// openLog opens the log file, without waiting for the reader of a pipe that may be in its place.
func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, logMode)
}

// isJournal tells whether a stream goes to systemd's journal: JOURNAL_STREAM in systemd.exec(5).
func isJournal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// printer writes lines to a stream. The journal gets the priority in place of the time: sd-daemon(3).
func printer(w io.Writer, journal bool) func(line) error {
	return func(l line) error {
		head := l.time.Format(time.DateTime) + " "
		if journal {
			head = "<" + strconv.Itoa(int(priority(l.level))) + ">"
		}
		_, err := io.WriteString(w, head+l.text+"\n")
		return err
	}
}

// priority is the level in syslog's numbers.
func priority(level slog.Level) syslog.Priority {
	switch {
	case level >= slog.LevelError:
		return syslog.LOG_ERR
	case level >= slog.LevelWarn:
		return syslog.LOG_WARNING
	case level >= slog.LevelInfo:
		return syslog.LOG_INFO
	}
	return syslog.LOG_DEBUG
}

// toSyslog sends what is not for debugging.
func toSyslog(w *syslog.Writer, l line) error {
	switch priority(l.level) {
	case syslog.LOG_ERR:
		return w.Err(l.text)
	case syslog.LOG_WARNING:
		return w.Warning(l.text)
	case syslog.LOG_INFO:
		return w.Info(l.text)
	}
	return nil
}

// target is one place where lines go. A goroutine of its own writes them, so that it holds up neither the firewall nor other
// targets.
type target struct {
	queue  chan delivery
	behind atomic.Bool  // it has not taken a line in time, and still owes lines
	lost   atomic.Int64 // lines that found the queue full
}

// delivery is a line on its way to a target.
type delivery struct {
	line
	target *target
	done   chan struct{} // closed when it is written
}

func newTarget(write func(line) error) *target {
	t := &target{queue: make(chan delivery, waiting)}
	go func() {
		for d := range t.queue {
			fault.Call("the log", func() error { // what cannot be written can be told nowhere
				t.tellLost(write, d.time)
				return write(d.line)
			})
			close(d.done)
			if len(t.queue) == 0 {
				t.behind.Store(false)
			}
		}
	}()
	return t
}

// tellLost writes how many lines were lost, if any.
func (t *target) tellLost(write func(line) error, now time.Time) {
	if n := t.lost.Swap(0); n > 0 {
		write(line{slog.LevelWarn, now, fmt.Sprintf("%s%d messages were lost, as none could be written here for a while", label(slog.LevelWarn), n)})
	}
}

// send hands a line to all targets, without waiting for any.
func (s *sink) send(l line) []delivery {
	var sent []delivery
	for _, t := range []*target{s.file, s.console, s.syslog} {
		if t == nil {
			continue
		}
		d := delivery{l, t, make(chan struct{})}
		select {
		case t.queue <- d:
			sent = append(sent, d)
		default:
			t.lost.Add(1)
		}
	}
	return sent
}

// await waits until lines are written, at most as long as patience, and not for a target that is behind.
func await(sent []delivery) {
	late := time.NewTimer(patience)
	defer late.Stop()
	var over bool
	for _, d := range sent {
		if over || d.target.behind.Load() {
			continue
		}
		select {
		case <-d.done:
		case <-late.C:
			d.target.behind.Store(true)
			over = true
		}
	}
}

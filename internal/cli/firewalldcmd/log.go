package firewalldcmd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"strings"
	"sync"
	"time"
)

// The log has a line for each message, as firewalld has it:
//
//	2026-01-31 12:00:00 WARNING: ALREADY_ENABLED: 'ssh' already in 'public'
//
// What is only told, neither a warning nor an error, has no label.

// logMode is the mode of the log file.
const logMode = 0o640

// sink is where lines go. A line for syslog has no time and no label, as syslog has its own.
type sink struct {
	file, console io.Writer // nil for none
	syslog        *syslog.Writer
}

// openSink opens what a log target needs.
func openSink(o options, stdout io.Writer) (*sink, error) {
	s := &sink{}
	if o.logTarget == "mixed" || o.logTarget == "console" {
		s.console = stdout
	}
	if o.logTarget == "mixed" || o.logTarget == "file" {
		file, err := os.OpenFile(o.logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, logMode)
		if err != nil && o.logTarget == "file" {
			return nil, fmt.Errorf("cannot write the log: %w", err)
		}
		if err == nil {
			s.file = file
		}
	}
	if o.logTarget == "mixed" || o.logTarget == "syslog" {
		writer, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "firewalld")
		if err != nil && o.logTarget == "syslog" {
			return nil, fmt.Errorf("cannot reach syslog: %w", err)
		}
		s.syslog = writer
	}
	return s, nil
}

// handler writes records of slog to a sink.
type handler struct {
	sink  *sink
	debug bool
	mu    *sync.Mutex
	attrs string // what With has given
}

func newLogger(s *sink, debug bool) *slog.Logger {
	return slog.New(&handler{sink: s, debug: debug, mu: &sync.Mutex{}})
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.debug
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	for _, a := range attrs {
		next.attrs += attribute(a)
	}
	return &next
}

// WithGroup implements slog.Handler. Groups are not told apart.
func (h *handler) WithGroup(string) slog.Handler { return h }

func attribute(a slog.Attr) string { return " " + a.Key + "=" + a.Value.String() }

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(label(r.Level) + r.Message + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(attribute(a))
		return true
	})
	text := b.String()
	h.mu.Lock()
	defer h.mu.Unlock()
	line := r.Time.Format(time.DateTime) + " " + text + "\n"
	for _, w := range []io.Writer{h.sink.file, h.sink.console} {
		if w == nil {
			continue
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return h.sink.toSyslog(r.Level, text)
}

func label(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "ERROR: "
	case level >= slog.LevelWarn:
		return "WARNING: "
	case level >= slog.LevelInfo:
		return ""
	}
	return "DEBUG1: "
}

// toSyslog sends what is not for debugging.
func (s *sink) toSyslog(level slog.Level, text string) error {
	switch {
	case s.syslog == nil || level < slog.LevelInfo:
		return nil
	case level >= slog.LevelError:
		return s.syslog.Err(text)
	case level >= slog.LevelWarn:
		return s.syslog.Warning(text)
	}
	return s.syslog.Info(text)
}

package firewalldcmd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"richwall/internal/printable"
)

// The log has one line for each message, as firewalld has it:
//
//	2026-01-31 12:00:00 WARNING: ALREADY_ENABLED: 'ssh' already in 'public'
//
// A message that is neither a warning nor an error has no label.
//
// Messages quote what strangers wrote: names on the bus, names of files, what a program of the kernel's tools says. The handler
// is the one place where that is made harmless. A line break in it begins no line, a terminal obeys nothing in it, a line ends
// at maxLine, and a budget keeps a flood of messages from filling the disk.

// The longest parts of a line, in bytes.
const (
	maxLine    = 4096
	maxMessage = 2048
	maxValue   = 2048 // of one attribute
)

// handler writes records of slog to a sink.
type handler struct {
	sink   *sink
	debug  bool
	budget *budget
	mu     *sync.Mutex // lines are in the same order at each target
	attrs  string      // what With has given
}

// newLogger returns a logger, and logs which targets it has to do without.
func newLogger(s *sink, debug bool) *slog.Logger {
	log := slog.New(&handler{sink: s, debug: debug, budget: newBudget(), mu: &sync.Mutex{}})
	for _, err := range s.missing {
		log.Warn("messages go to the other targets alone", "reason", err)
	}
	return log
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

func attribute(a slog.Attr) string {
	return " " + printable.Text(a.Key, printable.Value) + "=" + printable.Text(valueOf(a.Value), maxValue)
}

// valueOf is a value as text. An error that is several has a line for each, which are one line here.
func valueOf(v slog.Value) string {
	if err, ok := v.Any().(error); ok {
		return inOneLine(err)
	}
	return v.String()
}

// inOneLine is an error, each line of which is one of several, as one line.
func inOneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// Handle implements slog.Handler. It returns once each target that takes lines has taken this one.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	next := line{level: r.Level, time: r.Time, text: h.text(r)}
	h.mu.Lock()
	pass, note := h.budget.take(r.PC, r.Time, len(next.text))
	var sent []delivery
	if note != "" {
		sent = h.sink.send(line{level: slog.LevelWarn, time: r.Time, text: label(slog.LevelWarn) + note})
	}
	if pass {
		sent = append(sent, h.sink.send(next)...)
	}
	h.mu.Unlock()
	await(sent)
	return nil
}

// text is a record as one line, without its time.
func (h *handler) text(r slog.Record) string {
	var b strings.Builder
	b.WriteString(label(r.Level) + printable.Text(r.Message, maxMessage) + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(attribute(a))
		return b.Len() < maxLine
	})
	return printable.Text(b.String(), maxLine)
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

// A place of the program that logs may write budgetBurst bytes at once, and budgetRate bytes a minute from then on. A place that
// has used that up writes nothing until budgetPause bytes are there again: what it writes under a flood comes in pieces that
// make sense, not as one line now and then. Under the worst flood a place writes 29 MB a day.
const (
	budgetBurst = 256 << 10
	budgetRate  = 20 << 10
	budgetPause = 32 << 10
)

// budget counts what each place of the program has logged. Their number is that of the calls in the source. Its methods are
// not for several goroutines at once.
type budget struct{ places map[uintptr]*account }

// account is what one place may still write.
type account struct {
	bytes   float64
	time    time.Time // when bytes was right
	closed  bool      // it has used up its budget
	leftOut int       // messages since then
}

func newBudget() *budget { return &budget{map[uintptr]*account{}} }

// take takes the size of a message, in bytes, from the budget of the place that logs it. It returns whether the message is to be
// written, and a remark that goes before it, or in its place; "" for none.
func (b *budget) take(place uintptr, now time.Time, size int) (pass bool, note string) {
	a := b.places[place]
	if a == nil {
		a = &account{bytes: budgetBurst, time: now}
		b.places[place] = a
	}
	a.bytes = min(budgetBurst, a.bytes+max(0, now.Sub(a.time).Minutes())*budgetRate)
	a.time = now
	switch {
	case a.closed && a.bytes < budgetPause:
		a.leftOut++
		return false, ""
	case a.closed:
		note = fmt.Sprintf("%d messages like the next one were left out", a.leftOut)
	case a.bytes < float64(size):
		a.closed, a.leftOut = true, 1
		return false, "too many messages of one kind: more of them are left out for a while"
	}
	a.closed, a.leftOut = false, 0
	a.bytes -= float64(size)
	return true, note
}

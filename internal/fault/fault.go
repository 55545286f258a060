// Package fault keeps a fault in one part of a program, a panic of Go, from ending all of it.
//
// A panic ends the program unless the goroutine that it is in recovers from it. Whoever starts a goroutine in the daemon or below it has
// what may have a fault called by this package, or recovers as internal/bus does for each message.
package fault

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Call calls f and returns its error. A fault in f is an error that says so; what names f in it. It is an *Error then.
func Call(what string, f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &Error{What: what, Value: value, Stack: string(debug.Stack())}
		}
	}()
	return f()
}

// Error is that a function had a fault.
type Error struct {
	What  string // names the function
	Value any    // of the panic
	Stack string // where it was, in lines
}

func (e *Error) Error() string { return fmt.Sprintf("internal error in %s: %v", e.What, e.Value) }

// Guard is Call of a function without an error of its own. A fault is logged, too, with where it was.
func Guard(log *slog.Logger, what string, f func()) error {
	err := Call(what, func() error {
		f()
		return nil
	})
	if e, ok := err.(*Error); ok {
		log.Error("internal error", "in", e.What, "fault", e.Value, "stack", e.Stack)
	}
	return err
}

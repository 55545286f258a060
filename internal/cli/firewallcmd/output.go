package firewallcmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"richwall/grammar"
	"richwall/internal/printable"
	"richwall/zones"
)

// failure is what the firewall or a check of this program says is wrong, with firewalld's code.
type failure struct {
	code   string   // ALREADY_ENABLED, INVALID_PORT …
	detail string   // "" when the code says it all
	hints  []string // what is said after it, a line each
}

func (f *failure) Error() string {
	switch {
	case f.detail == "":
		return f.code
	case f.code == unknownError: // says nothing that the detail does not
		return f.detail
	}
	return f.code + ": " + f.detail
}

func fail(code, format string, args ...any) error {
	return &failure{code: code, detail: fmt.Sprintf(format, args...)}
}

const unknownError = string(zones.UnknownError)

// exitStatus ends the program with a status after everything has been printed.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// badValue is an error about a value of the command line itself, before anything was asked or tried.
type badValue struct{ error }

func (e *badValue) Unwrap() error { return e.error }

// firm is an error even though it only means that what was to be done is so already.
type firm struct{ error }

func (e *firm) Unwrap() error { return e.error }

// codeOf is firewalld's code of an error, "" when it has none.
func codeOf(err error) string {
	var f *failure
	if errors.As(err, &f) {
		return f.code
	}
	code, _ := zones.CodeOf(err)
	return string(code)
}

// statusOf is the exit status for an error: that of its code, or 254.
func statusOf(err error) int {
	var usage usageError
	var status exitStatus
	switch {
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage):
		return 2
	}
	return zones.CodeNumber(grammar.Code(codeOf(err)))
}

// harmless says whether an error only means that what was to be done is so already: a warning, and a success.
func harmless(err error) bool {
	var strict *firm
	if errors.As(err, &strict) {
		return false
	}
	switch codeOf(err) {
	case "ALREADY_ENABLED", "NOT_ENABLED", "ZONE_ALREADY_SET", "ALREADY_SET":
		return true
	}
	return false
}

// output is where and how a program prints.
type output struct {
	stdout, stderr io.Writer
	quiet, verbose bool
	terminal       bool  // errors go to one: they are red, as with firewalld
	failed         error // why something could not be printed to standard output; nil if all was
}

// Write writes to standard output. An error is remembered: what is read from there is not whole.
func (o *output) Write(data []byte) (int, error) {
	n, err := o.stdout.Write(data)
	if o.failed == nil {
		o.failed = err
	}
	return n, err
}

// What is printed quotes what others wrote, in files and to the firewall. print and complain keep its line breaks; a value that is
// one of several goes through joined first.

// print prints a text to standard output. An empty one prints nothing at all.
func (o *output) print(text string) {
	if text != "" && !o.quiet {
		fmt.Fprintln(o, printable.Block(text))
	}
}

// note prints what only --verbose shows.
func (o *output) note(format string, args ...any) {
	if o.verbose {
		o.print(fmt.Sprintf(format, args...))
	}
}

// complain prints a text to standard error.
func (o *output) complain(text string) {
	switch {
	case text == "" || o.quiet:
	case o.terminal:
		fmt.Fprintf(o.stderr, "\x1b[91m%s\x1b[00m\n", printable.Block(text))
	default:
		fmt.Fprintln(o.stderr, printable.Block(text))
	}
}

// joined is a list as one text. No value of it looks like two.
func joined(values []string, separator string) string {
	shown := make([]string, len(values))
	for i, v := range values {
		shown[i] = printable.Item(v)
	}
	return strings.Join(shown, separator)
}

// warn prints a warning.
func (o *output) warn(err error) {
	o.complain("Warning: " + oneLine(err))
	o.hint(hintsOf(err)...)
}

// hint prints lines that firewalld does not have, behind its own: what is wrong and where, or what to do.
func (o *output) hint(lines ...string) {
	for _, line := range lines {
		o.complain("hint: " + printable.Text(line, 0))
	}
}

// hintsOf is what there is to say of an error beyond firewalld's words.
func hintsOf(err error) []string {
	var f *failure
	if errors.As(err, &f) {
		return f.hints
	}
	return zones.Explanation(err)
}

// oneLine is an error as "CODE: detail".
func oneLine(err error) string {
	var f *failure
	if errors.As(err, &f) {
		return f.Error()
	}
	code, detail := zones.CodeOf(err)
	return (&failure{code: string(code), detail: detail}).Error()
}

// isTerminal says whether a stream is a terminal, whose text may have colours.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

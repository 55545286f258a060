// Package firewallcmd is the programs firewall-cmd and firewall-offline-cmd: firewalld's commands, options, output and exit
// statuses, for a running daemon over D-Bus, and for the files alone.
//
// One table (table.go) has all options: what they take, what they can be combined with, what they do. The parser, the
// rules of combination, the help, the manual pages and the completions all read it. What an option does is a verb
// (verbs.go) with an item; verbs work on places (place.go), which are D-Bus calls or settings that are changed here and
// stored as a whole, and on a store (store.go), which is the daemon's permanent configuration or the files.
package firewallcmd

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"richwall/internal/printable"
)

// session is one call of a program.
type session struct {
	program program
	given   given
	order   []*option // the options in the order of the command line
	option  *option   // what is to be done; nil if only options that say how or on what are given
	values  []string  // the values of that option
	out     *output
	stdin   io.Reader

	permanent bool
	kind      *kind  // what it is to be done to: a zone, a policy, a service …; nil for none of them
	name      string // the name of that object; "" for the default zone
	timeout   int32  // seconds; 0 means for ever

	daemon *daemon // the running one; nil for firewall-offline-cmd
	store  store   // the permanent configuration
	unlock func()  // gives up the lock on the folder that firewall-offline-cmd changes; nil for none
}

// Online runs firewall-cmd with the words that follow its name, and returns its exit status: 0, 1 for a question answered
// with no, 2 for a command line that makes no sense, or the number of firewalld's error code.
func Online(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return run(online, args, stdin, stdout, stderr)
}

// Offline runs firewall-offline-cmd as Online does firewall-cmd.
func Offline(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return run(offline, args, stdin, stdout, stderr)
}

func run(p program, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &output{stdout: stdout, stderr: stderr, terminal: isTerminal(stderr)}
	found, order, err := parse(optionsOf(p), args)
	if err != nil {
		var usage usageError
		errors.As(err, &usage)
		usage.said = string(p) + ": " + usage.said
		for _, line := range usage.lines(p) {
			fmt.Fprintln(stderr, printable.Block(line))
		}
		return 2
	}
	s := &session{program: p, given: found, order: order, out: out, stdin: stdin}
	out.quiet, out.verbose = s.has("quiet"), s.has("verbose")
	status := s.finish(s.do())
	if out.failed != nil && status == 0 {
		return s.finish(fail(unknownError, "cannot print all there is to say: %v", out.failed))
	}
	return status
}

// do does what the command line says.
func (s *session) do() error {
	if err := s.understand(); err != nil {
		return err
	}
	if s.option == nil {
		return s.nothingToDo()
	}
	if about := s.option.do == doHelp || s.option.do == doVersion && s.program == offline; !about {
		if err := s.connect(); err != nil {
			return err
		}
		defer s.close()
	}
	if s.program == online && s.kind != nil && s.kind.name == "zone" && s.name == "" && s.out.verbose {
		zone, err := s.defaultZone()
		if err != nil {
			return err
		}
		s.out.note("No zone specified, using default zone, i.e. '%s'", zone)
	}
	err := verbs[s.option.do](s)
	if err == nil && s.program == offline {
		s.besideDaemon()
	}
	if s.daemon != nil && s.daemon.changed {
		s.explain("getRemarks")
	}
	if err == nil && s.permanent && listings[s.option.do] {
		s.tellFailed()
	}
	return err
}

// connect reaches the daemon or reads the files.
func (s *session) connect() error {
	disk := diskOf(s.value("system-config"), s.value("default-config"))
	if s.program == offline && s.unlock == nil && (s.option == nil || writes(s.option.do) || changingOthers[s.option.do]) {
		unlock, err := disk.Lock(lockTime)
		if err != nil {
			return err
		}
		s.unlock = unlock
	}
	if s.program == offline && s.option != nil && s.option.do == doReset { // of files that may be broken
		s.store = &files{disk: disk}
		return nil
	}
	if s.program == offline {
		files, problems := openFiles(s.value("system-config"), s.value("default-config"), s.option != nil && writes(s.option.do))
		s.store = files
		for _, line := range notices(problems) {
			s.out.complain(printable.Item(line))
		}
		if files == nil && s.option != nil && changing[s.option.do] {
			if files = openBroken(s.value("system-config"), s.value("default-config")); files != nil {
				s.store = files
				for _, p := range errorsOf(problems).Shown() {
					s.out.complain(p.String())
				}
			}
		}
		if files == nil {
			return &brokenFiles{errorsOf(problems), s.option != nil && s.option.do == doCheckConfig}
		}
		return nil
	}
	var err error
	if s.daemon, err = dial(); err != nil {
		return err
	}
	s.store = s.managed(&permanentConfig{s.daemon})
	return s.awaitDaemon()
}

// lockTime is how long firewall-offline-cmd waits for others who are changing the files.
const lockTime = 10 * time.Second

func (s *session) close() {
	if s.unlock != nil {
		s.unlock()
	}
	if s.daemon != nil {
		s.daemon.close()
	}
}

// finish prints an error and turns it into an exit status.
func (s *session) finish(err error) int {
	var status exitStatus
	var usage usageError
	var broken *brokenFiles
	var value *badValue
	switch {
	case err == nil || errors.As(err, &status):
	case errors.As(err, &usage):
		for _, line := range usage.lines(s.program) {
			s.out.complain(line)
		}
	case errors.As(err, &broken):
		for _, p := range broken.problems {
			for _, line := range broken.lines(p) {
				s.out.complain(printable.Item(line))
			}
		}
	case errors.Is(err, errDenied):
		s.out.complain("Authorization failed.")
		s.out.complain("    Make sure polkit agent is running or run the application as superuser.")
	case s.program == offline && !errors.As(err, &value):
		s.out.complain(printable.Item(oneLine(err)))
		s.out.hint(hintsOf(err)...)
	default:
		s.out.complain("Error: " + oneLine(err))
		s.out.hint(hintsOf(err)...)
	}
	if err == nil {
		return 0
	}
	return statusOf(err)
}

// nothingToDo is for a command line without anything to do.
func (s *session) nothingToDo() error {
	switch {
	case s.program == offline:
		defer s.close()
		err := s.lokkit()
		if err == nil {
			s.besideDaemon()
		}
		return err
	case s.has("direct"):
		return misuse(wrongDirect, "--direct says nothing by itself: say what, such as --direct --get-all-rules")
	}
	if err := s.connect(); err == nil {
		state, err := s.daemon.state()
		if err != nil {
			return err
		}
		s.out.complain("State: " + state + "\n")
		s.close()
	}
	s.out.complain("No options specified\n" + usageLine[s.program])
	return exitStatus(2)
}

// lookup is the option of a name that stands on the command line, nil if it does not.
func (s *session) lookup(name string) *option {
	for o := range s.given {
		if o.name == name {
			return o
		}
	}
	return nil
}

func (s *session) has(name string) bool { return s.lookup(name) != nil }

// value is the last value of an option, "" if it does not stand on the command line.
func (s *session) value(name string) string {
	values := s.given[s.lookup(name)]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// first is the value of an option that takes one.
func (s *session) first() string { return s.values[0] }

// toDo are the options on the command line that do something.
func (s *session) toDo() []*option {
	return slices.DeleteFunc(slices.Clone(s.order), func(o *option) bool { return o.do == "" })
}

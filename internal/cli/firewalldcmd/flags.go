package firewalldcmd

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"richwall/internal/cli/release"
	"richwall/internal/statedir"
)

// options are what the command line says.
type options struct {
	system    string // folder of the administrator's configuration
	shipped   string // folder of the shipped configuration
	state     string // folder for what outlives the process
	logTarget string // one of logTargets
	logFile   string
	debug     int // 0, for no messages of that sort, to 10
	foreground,
	noPID bool
}

// logTargets are where messages can go: mixed is to the file, to syslog and to the terminal, each other to one of them.
var logTargets = []string{"mixed", "syslog", "file", "console"}

const highestDebug = 10

// parse reads the command line. The error is pflag.ErrHelp when only help or the version was asked for, which
// it has printed.
func parse(args []string, stdout io.Writer) (options, error) {
	o := options{}
	flags := pflag.NewFlagSet("firewalld", pflag.ContinueOnError)
	flags.SetOutput(stdout)
	flags.SortFlags = false
	debug := flags.String("debug", "0", "log messages for debugging, too; the `LEVEL` is 1 to 10, and 1 when it is not given")
	flags.Lookup("debug").NoOptDefVal, flags.Lookup("debug").DefValue = "1", ""
	flags.Bool("version", false, "print the version and end")
	flags.Bool("debug-gc", false, "has no effect; it is there for scripts that say it")
	flags.BoolVar(&o.foreground, "nofork", false, "stay in the foreground")
	flags.BoolVar(&o.noPID, "nopid", false, "write no pid file")
	flags.StringVar(&o.system, "system-config", "/etc/firewalld", "the `FOLDER` of the administrator's configuration")
	flags.StringVar(&o.shipped, "default-config", "/usr/lib/firewalld", "the `FOLDER` of the shipped configuration")
	flags.StringVar(&o.state, "state-dir", statedir.Base(), "the `FOLDER` for the last good configuration and panic mode")
	flags.StringVar(&o.logTarget, "log-target", "mixed", "the `TARGET` of messages: mixed, which is all of the others, or syslog, file or console")
	flags.StringVar(&o.logFile, "log-file", "/var/log/firewalld", "the `FILE` for messages")
	flags.Usage = func() {
		fmt.Fprintf(stdout, "Usage: firewalld [OPTION]…\n\nThe firewall daemon. SIGHUP makes it read its configuration anew, SIGTERM ends it.\n\n%s",
			strings.Replace(flags.FlagUsages(), ` LEVEL[="1"]`, "[=LEVEL]    ", 1))
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.Changed("version") {
		fmt.Fprintln(stdout, release.Text())
		return o, pflag.ErrHelp
	}
	rest := flags.Args()
	if len(rest) == 1 && flags.Changed("debug") && *debug == "1" {
		*debug, rest = rest[0], nil // --debug 3, with the level as a word of its own
	}
	if len(rest) > 0 {
		return o, fmt.Errorf("cannot use argument %s: firewalld takes options only", rest[0])
	}
	var err error
	if o.debug, err = strconv.Atoi(*debug); err != nil || o.debug < 0 || o.debug > highestDebug {
		return o, fmt.Errorf("cannot use debug level %s: it must be from 1 to %d", *debug, highestDebug)
	}
	if !slices.Contains(logTargets, o.logTarget) {
		return o, fmt.Errorf("cannot log to %s: it must be one of %s", o.logTarget, strings.Join(logTargets, ", "))
	}
	return o, o.absolute(flags)
}

// absolute makes all paths independent of the current folder, which the daemon leaves in the background. An option with an
// empty value counts as not given, as in firewalld.
func (o *options) absolute(flags *pflag.FlagSet) error {
	for name, path := range map[string]*string{"system-config": &o.system, "default-config": &o.shipped, "state-dir": &o.state, "log-file": &o.logFile} {
		full, err := filepath.Abs(cmp.Or(*path, flags.Lookup(name).DefValue))
		if err != nil {
			return fmt.Errorf("cannot use the path %s of --%s: it is relative to a folder that is not there: %w", *path, name, err)
		}
		*path = full
	}
	return nil
}

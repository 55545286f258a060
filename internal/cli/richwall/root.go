// Package richwall is the command of that name, a file for each of its subcommands.
//
// A subcommand reads its flags into a struct, calls the packages that do the work, and prints. Errors come back to Main,
// which prints them and chooses the exit status.
package richwall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/cli/release"
	"richwall/zones"
)

// Main runs the command and returns its exit status: 0, 1 for what a command says is not as it should be, 2 for a wrong
// command line or configuration, or the number of firewalld's error code where there is one.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	debug.SetMemoryLimit(memoryGoal)
	written := &writer{to: stdout}
	out, notes := printer(written), printer(stderr)
	defer notes.Flush()
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(notes)
	err := root.ExecuteContext(context.Background())
	out.Flush()
	status := exit(notes, err)
	if written.err != nil && !errors.Is(err, written.err) {
		fmt.Fprintf(notes, "richwall: cannot print all there is to say: %v\n", written.err)
		status = max(status, 2)
	}
	return status
}

// writer remembers why something could not be written: what is read from there is not whole, whoever has written it.
type writer struct {
	to  io.Writer
	err error
}

func (w *writer) Write(data []byte) (int, error) {
	n, err := w.to.Write(data)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// exit prints an error, and returns the exit status for it.
func exit(notes io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var exit exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintln(notes, exit.err)
		}
		return exit.status
	}
	fmt.Fprintf(notes, "richwall: %v\n", err)
	return 2
}

// memoryGoal is how many bytes of memory the command tries to keep to, at the cost of time.
const memoryGoal = 160 << 20

// interruptible is a context that ends with SIGINT and SIGTERM, for what has something to clean up. Until it is asked for, these
// signals end the command at once, whatever it reads or works on.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
}

// exitError ends the command with a status, after printing err if there is one.
type exitError struct {
	status int
	err    error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

// statusOf is an error with the exit status that firewalld's tools have for its code.
func statusOf(err error) error {
	var rules grammar.ErrorList
	var compiled compile.Errors
	var found zones.Problems
	switch {
	case errors.As(err, &rules):
		return exitError{zones.CodeNumber(rules[0].Code), err}
	case errors.As(err, &compiled):
		return exitError{zones.CodeNumber(compiled[0].Code), firstOf(compiled)}
	case errors.As(err, &found):
		for _, p := range found {
			if p.Severity == zones.Error {
				return exitError{zones.CodeNumber(p.Code), err}
			}
		}
	}
	return err
}

// maxCompiled is how many of a compiler's errors are shown.
const maxCompiled = 20

// firstOf is the first errors of a list as one, with how many more there are.
func firstOf(list compile.Errors) error {
	if len(list) <= maxCompiled {
		return list
	}
	return fmt.Errorf("%w\nand %d more", list[:maxCompiled], len(list)-maxCompiled)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "richwall",
		Short: "firewalld's rules, compiled",
		Long: `richwall compiles firewalld's language and configuration into nftables and iptables
rules, shows what they are, and shows what they do to packets.

It changes nothing on this machine: the firewall itself is run by the daemon
firewalld and spoken to with firewall-cmd.`,
		Example: `  richwall lab 'rule tcp-mss-clamp value=1360'      what a rule does to packets
  richwall compile 'rule service name=ssh accept'   which rules it means
  richwall check /etc/firewalld                     what is wrong with a configuration
  richwall explain --in eth0 tcp 443                what becomes of a packet, and why`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.Version = release.Text()
	root.SetVersionTemplate("{{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(newCompile(), newCheck(), newExplain(), newFmt(), newLab(), newMSS())
	return root
}

// words checks how many arguments there are: from least to most. what says in words which ones the command takes.
func words(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("%s takes %s: see %s --help", cmd.CommandPath(), what, cmd.CommandPath())
		case len(args) > most:
			return fmt.Errorf("%s takes %s, and %q is one word too many: see %s --help", cmd.CommandPath(), what, args[most], cmd.CommandPath())
		}
		return nil
	}
}

// directories are the flags that say where a configuration is.
type directories struct {
	config        string
	defaultConfig string
	trusted       bool
}

func (d *directories) flags(cmd *cobra.Command) {
	cmd.Flags().Var(&folderFlag{to: &d.config}, "config", "the configuration's `DIR`, such as /etc/firewalld; without it, the definitions that richwall comes with")
	cmd.MarkFlagDirname("config")
	d.flagDefault(cmd)
}

// flagDefault is the flag for where the shipped definitions are.
func (d *directories) flagDefault(cmd *cobra.Command) {
	cmd.Flags().Var(&folderFlag{to: &d.defaultConfig}, "default-config", "the `DIR` of shipped definitions, such as /usr/lib/firewalld; without it, those that richwall comes with")
	cmd.MarkFlagDirname("default-config")
	cmd.Flags().BoolVar(&d.trusted, "trusted", false, "follow links out of the folder, and read and work out as much as there is, as with /etc/firewalld")
}

// folderFlag is a flag that names a folder. An empty value is an error: an unset variable in a script must not pass for another folder.
type folderFlag struct{ to *string }

func (f *folderFlag) String() string {
	if f.to == nil {
		return ""
	}
	return *f.to
}

func (f *folderFlag) Type() string { return "string" }

func (f *folderFlag) Set(value string) error {
	if value == "" {
		return errors.New("the name of the folder is empty: name one, such as /etc/firewalld")
	}
	*f.to = value
	return nil
}

// systemConfig is the folder of this machine's firewall. Only root can write it, so that links in it are followed; and it may be
// empty.
const systemConfig = "/etc/firewalld"

// dirs are the folders. Nothing outside of them is read, unless they are trusted, as this machine's configuration is.
func (d *directories) dirs() zones.Dirs {
	return zones.Dirs{System: d.config, Default: d.defaultConfig, Follow: d.trusted || filepath.Clean(d.config) == systemConfig}
}

// exist is an error if a folder that was named is none, or no configuration.
func (d *directories) exist() error {
	for _, dir := range []string{d.config, d.defaultConfig} {
		if dir == "" {
			continue
		}
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("cannot read the configuration: there is no folder %s", dir)
		case err != nil:
			return fmt.Errorf("cannot read the configuration: %w", err)
		case !info.IsDir():
			return fmt.Errorf("cannot read the configuration: %s is a file, and a folder such as /etc/firewalld is needed", dir)
		case !isConfiguration(dir) && filepath.Clean(dir) != systemConfig:
			return fmt.Errorf("no firewalld configuration in %s: it has none of the files %s, and none of the folders %s%s", dir,
				strings.Join(configurationFiles, ", "), strings.Join(configurationFolders, ", "), nearby(dir))
		}
	}
	return nil
}

// What a configuration is made of.
var (
	configurationFiles   = []string{"firewalld.conf", "richwall.conf", "direct.xml"}
	configurationFolders = []string{"zones", "policies", "services", "ipsets", "icmptypes", "helpers"}
)

// isConfiguration tells whether a folder has any of that. A file in place of a folder does not count: /etc/services is another program's.
func isConfiguration(dir string) bool {
	has := func(name string) (fs.FileMode, bool) {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			return 0, false
		}
		return info.Mode(), true
	}
	return slices.ContainsFunc(configurationFiles, func(name string) bool { _, there := has(name); return there }) ||
		slices.ContainsFunc(configurationFolders, func(name string) bool { mode, there := has(name); return there && !mode.IsRegular() })
}

// nearby suggests a configuration below a folder or above it; "" if there is none.
func nearby(dir string) string {
	for _, step := range []string{"firewalld", "etc/firewalld", "..", "../firewalld", "../..", "../../.."} {
		if near := filepath.Join(dir, step); isConfiguration(near) {
			return "; did you mean " + near + "?"
		}
	}
	return ""
}

// isFile says whether there is a file of that name.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// load reads the configuration. Warnings go to stderr.
func (d *directories) load(stderr io.Writer) (*zones.Config, error) {
	if err := d.exist(); err != nil {
		return nil, err
	}
	cfg, problems := zones.Load(d.dirs())
	if cfg == nil {
		return nil, statusOf(problems)
	}
	for _, p := range problems.Shown() {
		fmt.Fprintln(stderr, p)
	}
	return cfg, d.bounded(cfg, mostRules)
}

// backendNames are the back ends as firewalld.conf spells them.
var backendNames = []string{string(ir.NFTables), string(ir.IPTables)}

// checkBackends is an error if one of some names is no back end.
func checkBackends(names []string) error {
	for _, name := range names {
		if !slices.Contains(backendNames, name) {
			return fmt.Errorf("there is no back end %q; say %s", name, strings.Join(backendNames, " or "))
		}
	}
	return nil
}

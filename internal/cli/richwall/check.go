package richwall

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/internal/mss"
	"richwall/zones"
)

type checkOptions struct {
	directories
	backends  []string
	firewalld bool
	machine   bool
	strict    bool
	quiet     bool
	json      bool
}

func newCheck() *cobra.Command {
	o := checkOptions{directories: directories{config: systemConfig}}
	cmd := &cobra.Command{
		Use:   "check [DIR]",
		Short: "Say what is wrong with a configuration",
		Long: `Reads a configuration, /etc/firewalld if none is named, and says everything that is
wrong with it, with the place where it stands: first errors, for which it would be
refused, then warnings, for what does nothing or does other than it looks like.
A daemon that was started before with other files refuses some of those as well,
where more may be let in than by the files before: firewall-cmd --check-config
tells which, and what is wrong with direct rules.
It is also compiled, for the back end that firewalld.conf chooses, so that what
that back end cannot do is known before anything is loaded.

/etc/firewalld, or with --machine any configuration, is held against the interfaces
and routes of this machine as well, to find clamps of TCP's maximum segment size that
do less there than they seem to.

The exit status is 0 if all is well or there are only warnings, 1 for warnings
with --strict, and 2 for errors.`,
		Example: `  richwall check                                    this machine's configuration
  richwall check --strict --quiet ./firewalld       in a test: silence means all is well
  richwall check --backend nftables,iptables        before changing FirewallBackend
  richwall check --firewalld                        before going back to firewalld itself
  richwall check --json | jq -r '.problems[].path'  the files that have a problem`,
		Args:              words(0, 1, "one folder at most"),
		ValidArgsFunction: folders,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if args[0] == "" { // an unset variable in a script must not pass for a folder without errors
					return errors.New("the name of the folder is empty: name the one to check, such as /etc/firewalld")
				}
				o.config = args[0]
			}
			return o.run(cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.flagDefault(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&o.backends, "backend", nil, "compile for this `BACKEND` instead: nftables, iptables, or both with a comma between them")
	f.BoolVar(&o.firewalld, "firewalld", false, "also report what richwall reads and firewalld 2.5 does not")
	f.BoolVar(&o.machine, "machine", false, "hold the configuration against this machine, whichever folder it is in")
	f.BoolVar(&o.strict, "strict", false, "exit with 1 if there are warnings")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "say nothing if nothing is wrong, and leave out the summary")
	f.BoolVar(&o.json, "json", false, "print a JSON object of problems and a summary")
	cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(backendNames, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// folders completes an argument with the names of folders.
func folders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func (o *checkOptions) run(out, notes io.Writer) error {
	if err := checkBackends(o.backends); err != nil {
		return err
	}
	if err := o.exist(); err != nil {
		return err
	}
	cfg, problems := zones.Load(o.dirs())
	problems = append(problems, zones.Unread(o.dirs())...)
	if cfg != nil {
		if err := o.bounded(cfg, mostRules); err != nil {
			return err
		}
		problems = append(problems, zones.Lint(cfg)...)
		problems = append(problems, o.compile(cfg)...)
		if o.firewalld {
			problems = append(problems, additions(cfg)...)
		}
		found, err := o.onThisMachine(cfg, notes)
		if err != nil {
			return err
		}
		problems = append(problems, found...)
	}
	report := newCheckReport(o.config, cfg, problems)
	if err := o.print(out, report); err != nil {
		return err
	}
	switch {
	case report.Summary.Errors > 0:
		return exitError{status: 2}
	case report.Summary.Warnings > 0 && o.strict:
		return exitError{status: 1}
	}
	return nil
}

// compile is what the back ends refuse, each thing once, whichever zones are in use.
func (o *checkOptions) compile(cfg *zones.Config) zones.Problems {
	backends := o.backends
	if len(backends) == 0 {
		backends = []string{cfg.Conf.FirewallBackend}
	}
	var problems zones.Problems
	seen := map[zones.Problem]bool{}
	for _, b := range backends {
		_, err := compile.History{}.Check(cfg.ForRuntime(), ir.Backend(b))
		var refused compile.Errors
		errors.As(err, &refused)
		for _, e := range refused {
			p := zones.Problem{Code: e.Code, Msg: e.Msg}
			if e.Origin != nil {
				p.Path, p.Line = e.Origin.Path, e.Origin.Line
				p.Msg = strings.TrimSuffix(fmt.Sprintf("%s: %s", e.Origin.Object, e.Origin.Said()), ": ") + ": " + e.Msg
			}
			if !seen[p] {
				seen[p] = true
				problems = append(problems, &p)
			}
		}
	}
	return problems
}

// onThisMachine is what onMachine finds on this one, for a configuration that is for it. That something of it cannot be read
// matters only to who asks with --machine.
func (o *checkOptions) onThisMachine(cfg *zones.Config, notes io.Writer) (zones.Problems, error) {
	if !o.machine && filepath.Clean(o.config) != systemConfig {
		return nil, nil
	}
	m, err := mss.Read()
	if err != nil && o.machine {
		return nil, err
	}
	if err != nil {
		return nil, nil
	}
	if o.machine {
		for _, n := range m.Notes {
			fmt.Fprintln(notes, n)
		}
	}
	return onMachine(cfg, m), nil
}

// additions are the rules of a configuration that only richwall reads. A file that has one is refused by firewalld, which
// then does not start.
func additions(cfg *zones.Config) zones.Problems {
	var problems zones.Problems
	look := func(path string, rules []zones.RichRule) {
		for _, r := range rules {
			if what := addition(r.Rule); what != "" {
				at := path
				if r.Path != "" {
					at = r.Path
				}
				problems = append(problems, &zones.Problem{Path: at, Line: r.Line, Code: zones.ParseError,
					Msg: fmt.Sprintf("firewalld cannot read this file: %s is known to richwall only", what)})
			}
		}
	}
	for _, name := range zones.Names(cfg.Zones) {
		look(cfg.Zones[name].Origin.Path, cfg.Zones[name].Rules)
	}
	for _, name := range zones.Names(cfg.Policies) {
		look(cfg.Policies[name].Origin.Path, cfg.Policies[name].Rules)
	}
	return problems
}

// addition is what of a rule firewalld does not know; "" if it knows all.
func addition(r *grammar.Rule) string {
	var found []string
	switch e := r.Element.(type) {
	case *grammar.TCPMSS:
		found = append(found, "tcp-mss")
	case *grammar.TCPMSSClamp:
		for _, a := range []struct {
			given bool
			name  string
		}{{e.Value == "link", "value=link"}, {e.MTU != 0, "mtu="}, {e.Range != nil, "range="}, {e.Raise, "raise="}} {
			if a.given {
				found = append(found, a.name+" of tcp-mss-clamp")
			}
		}
	}
	return strings.Join(found, ", ")
}

// checkReport is what a check found, as it is printed in JSON.
type checkReport struct {
	Problems []checkProblem `json:"problems"`
	Summary  checkSummary   `json:"summary"`
	shown    zones.Problems // to a person
}

// checkProblem is a problem. Line and column count from 1; 0 means not known.
type checkProblem struct {
	Path     string       `json:"path"`
	Line     int          `json:"line"`
	Column   int          `json:"column"`
	Code     grammar.Code `json:"code"`
	Severity string       `json:"severity"` // error or warning
	Message  string       `json:"message"`
}

type checkSummary struct {
	Errors   int            `json:"errors"`
	Warnings int            `json:"warnings"`
	Dir      string         `json:"dir"`
	Files    map[string]int `json:"files,omitempty"` // read from Dir, by kind; not known where there are errors
}

// newCheckReport puts errors before warnings, and both in the order of files and lines. cfg is nil when it was refused.
func newCheckReport(dir string, cfg *zones.Config, problems zones.Problems) *checkReport {
	slices.SortStableFunc(problems, func(a, b *zones.Problem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	r := &checkReport{Problems: []checkProblem{}, Summary: checkSummary{Dir: dir}}
	for _, severity := range []zones.Severity{zones.Error, zones.Warning} {
		for _, p := range problems {
			if p.Severity != severity {
				continue
			}
			word := "error"
			if severity == zones.Warning {
				word = "warning"
				r.Summary.Warnings++
			} else {
				r.Summary.Errors++
			}
			r.Problems = append(r.Problems, checkProblem{p.Path, p.Line, p.Column, p.Code, word, p.Whole()})
			r.shown = append(r.shown, p)
		}
	}
	r.shown = r.shown.Shown()
	if cfg != nil {
		r.Summary.Files = ownFiles(cfg, dir)
	}
	return r
}

// ownFiles counts the objects of a configuration that have files in dir.
func ownFiles(cfg *zones.Config, dir string) map[string]int {
	counts := map[string]int{}
	count := func(kind string, o zones.Origin) {
		if o.Path != "" && !o.Builtin && filepath.Ext(o.Path) == ".xml" {
			counts[kind]++
		}
	}
	for _, z := range cfg.Zones {
		count("zone", z.Origin)
	}
	for _, z := range cfg.ZoneParts {
		count("zone", z.Origin)
	}
	for _, p := range cfg.Policies {
		count("policy", p.Origin)
	}
	for _, s := range cfg.Services {
		count("service", s.Origin)
	}
	for _, s := range cfg.IPSets {
		count("ipset", s.Origin)
	}
	for _, t := range cfg.ICMPTypes {
		count("icmptype", t.Origin)
	}
	for _, h := range cfg.Helpers {
		count("helper", h.Origin)
	}
	for _, name := range []string{"firewalld.conf", "richwall.conf", "direct.xml"} {
		if isFile(filepath.Join(dir, name)) {
			counts[name]++
		}
	}
	return counts
}

func (o *checkOptions) print(out io.Writer, r *checkReport) error {
	if o.json {
		return printJSON(out, r)
	}
	p := newPainter(out)
	for _, problem := range r.shown {
		c := yellow
		if problem.Severity == zones.Error {
			c = red
		}
		code := string(problem.Code)
		fmt.Fprintln(out, strings.Replace(problem.String(), code+": ", p.paint(c, code)+": ", 1))
	}
	if o.quiet {
		return nil
	}
	_, err := fmt.Fprintln(out, p.paint(bold, r.Summary.String()))
	return err
}

// fileKinds are the kinds of files in the order of a summary, one and several of them.
var fileKinds = [][2]string{
	{"zone", "zones"}, {"policy", "policies"}, {"service", "services"}, {"ipset", "ipsets"}, {"icmptype", "icmptypes"},
	{"helper", "helpers"}, {"firewalld.conf", ""}, {"richwall.conf", ""}, {"direct.xml", ""},
}

// String is the last line: "2 errors, 1 warning", or what was read when all is well.
func (s checkSummary) String() string {
	if s.Errors+s.Warnings > 0 {
		var found []string
		if s.Errors > 0 {
			found = append(found, counted(s.Errors, "error", "errors"))
		}
		if s.Warnings > 0 {
			found = append(found, counted(s.Warnings, "warning", "warnings"))
		}
		return strings.Join(found, ", ")
	}
	var kinds []string
	total := 0
	for _, k := range fileKinds {
		n := s.Files[k[0]]
		total += n
		switch {
		case n == 0:
		case k[1] == "":
			kinds = append(kinds, k[0])
		default:
			kinds = append(kinds, counted(n, k[0], k[1]))
		}
	}
	if total == 0 {
		return s.Dir + " is in order: it has no files of its own"
	}
	return fmt.Sprintf("%s in %s in order: %s", counted(total, "file", "files"), s.Dir, strings.Join(kinds, ", "))
}

func counted(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}

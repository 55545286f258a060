// Command compare measures richwall beside firewalld, where that is installed, and beside nft loading the same rules:
//
//	go run ./bench/compare [--write] [--firewalld FOLDER]
//
// In come the programs in bin; out comes a table for each number of rich rules, in Markdown, and with --write also
// docs/performance.md with those tables in it and the plot docs/packet-cost.svg. Everything runs in network namespaces and on a
// message bus of its own, changes nothing outside, and is gone when this ends. It needs root or a user namespace. Nothing
// imports it; it knows the programs from outside alone, and of the project imports the lab.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"richwall/internal/lab"
)

// options are what the command line says.
type options struct {
	bin       string
	firewalld string
	sizes     []int
	all       bool
	write     bool
	jsonFile  string
	readFile  string
}

// mostRules is how many rules the configuration has different addresses for.
const mostRules = 1 << 24

// theirMost is the largest number of rich rules that firewalld is measured with by default.
const theirMost = 10_000

// The most rounds that are measured with each number of rules, and the time after which a program gets no further one.
const (
	rounds       = 3
	enoughRounds = 20 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	code, done, err := lab.Reexec(ctx)
	if err == nil && !done {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "compare:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.write { // what is wrong with the file is better said before than after ten minutes
		if _, err := withTables(documentFile, ""); err != nil {
			return err
		}
	}
	var r *report
	if o.readFile != "" {
		r, err = read(o.readFile)
	} else {
		r, err = measureAll(ctx, o, stderr)
	}
	if r == nil {
		return err
	}
	return errors.Join(err, deliver(r, o, err == nil, stdout))
}

// parse reads the command line.
func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.bin, "bin", "bin", "the `FOLDER` of richwall's commands")
	flags.StringVar(&o.firewalld, "firewalld", "", "the `FOLDER` in which firewalld is unpacked; without it, the one that is installed")
	sizes := flags.String("sizes", "10,1000,10000,100000", "the `NUMBERS` of rich rules to measure with")
	flags.BoolVar(&o.all, "all", false, fmt.Sprintf("measure firewalld with more than %s rules, too, which takes long", showCount(theirMost)))
	flags.BoolVar(&o.write, "write", false, "write the tables into "+documentFile+", and "+plotFile)
	flags.StringVar(&o.jsonFile, "json", "", "write the figures to `FILE`, too, in JSON")
	flags.StringVar(&o.readFile, "read", "", "measure nothing, and take the figures that --json wrote to `FILE`")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("cannot use argument %s: there are options only", flags.Arg(0))
	}
	for word := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > mostRules {
			return nil, fmt.Errorf("cannot measure with %q rules: numbers are from 1 to %s", word, showCount(mostRules))
		}
		o.sizes = append(o.sizes, n)
	}
	slices.Sort(o.sizes)
	o.sizes = slices.Compact(o.sizes)
	return o, nil
}

// measureAll measures all programs with all numbers of rules. With an error there may be a report of what else was measured.
func measureAll(ctx context.Context, o *options, progress io.Writer) (*report, error) {
	if missing := lab.Missing("nft", "dbus-daemon"); missing != nil {
		return nil, errors.New(strings.Join(missing, "; "))
	}
	scratch, err := os.MkdirTemp("", "richwall-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	r := &report{}
	programs, theirs, err := choose(ctx, o, scratch, r)
	if err != nil {
		return nil, err
	}
	for _, p := range programs {
		r.Programs = append(r.Programs, p.name())
	}
	var failed []error
	for _, n := range o.sizes {
		failed = append(failed, r.measureSize(ctx, n, programs, progress))
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
	}
	r.sortResults()
	r.Machine, err = describeMachine(ctx, theirs)
	return r, errors.Join(append(failed, err)...)
}

// choose finds the programs, and notes in the report which cannot be measured. theirs is nil without firewalld.
func choose(ctx context.Context, o *options, scratch string, r *report) (programs []program, theirs *daemonProgram, err error) {
	root := o.firewalld
	if root == "" {
		root = "/"
	}
	if programs, err = ourPrograms(o.bin, root); err != nil {
		return nil, nil, err
	}
	limit := theirMost
	if o.all {
		limit = 0
	}
	theirs, err = theirProgram(ctx, root, scratch, limit)
	switch {
	case err == nil:
		programs = append(programs, theirs)
		if most := slices.Max(o.sizes); limit > 0 && most > limit {
			r.Notes = append(r.Notes, fmt.Sprintf("firewalld is not measured with more than %s rules, where a reload takes minutes; `--all` does", showCount(theirMost)))
		}
	case o.firewalld != "":
		return nil, nil, fmt.Errorf("cannot find firewalld in %s: %w", o.firewalld, err)
	default:
		r.Notes = append(r.Notes, "firewalld is not installed here, and not measured")
	}
	return programs, theirs, nil
}

// measureSize measures programs with a number of rules, in rounds of which every other one goes backwards: what changes on
// the machine meanwhile falls on all of them alike.
func (r *report) measureSize(ctx context.Context, rules int, programs []program, progress io.Writer) error {
	order := slices.DeleteFunc(slices.Clone(programs), func(p program) bool { return p.most() > 0 && rules > p.most() })
	measured := map[program][]figures{}
	finished := map[program]bool{}
	var failed []error
	for round := range rounds {
		for _, p := range order {
			if finished[p] {
				continue
			}
			began := time.Now()
			f, err := p.measure(ctx, rules)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			took := time.Since(began)
			fmt.Fprintf(progress, "%7s rules, round %d, %-15s %5.1f s\n", showCount(float64(rules)), round+1, p.name(), took.Seconds())
			if err != nil {
				failed = append(failed, fmt.Errorf("cannot measure %s with %s rules: %w", p.name(), showCount(float64(rules)), err))
			} else {
				measured[p] = append(measured[p], f)
			}
			finished[p] = err != nil || took > enoughRounds
		}
		slices.Reverse(order)
	}
	for p, list := range measured {
		r.Results = append(r.Results, result{rules, p.name(), medians(list)})
	}
	return errors.Join(failed...)
}

// describeMachine is the versions and the processors that figures depend on, in one sentence.
func describeMachine(ctx context.Context, theirs *daemonProgram) (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", err
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		return "", err
	}
	defer ns.Close()
	nft, err := ns.Run(ctx, "", "nft", "--version")
	if err != nil {
		return "", err
	}
	words := append(strings.Fields(nft), "", "") // nftables v1.0.6 (and its name)
	kernel, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	text := fmt.Sprintf("%d processors, Linux %s, nft %s, %s", runtime.NumCPU(), kernel, strings.TrimPrefix(words[1], "v"), strings.Replace(runtime.Version(), "go", "Go ", 1))
	if theirs != nil && theirs.version != "" {
		text += ", firewalld " + theirs.version
	}
	return text, nil
}

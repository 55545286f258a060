// Command oracle plays random sessions with firewalld itself and with richwall, side by side, and tells where they differ:
//
//	go run ./internal/oracle [-seed N] [-steps N] [-backend nftables|iptables|both] [-load 0|1|2] [-scenarios FOLDER]
//
// The environment variable FIREWALLD_REFERENCE says in which folder the packages firewalld and python3-firewall are unpacked,
// so that $FIREWALLD_REFERENCE/usr/sbin/firewalld is the daemon. Nothing of it is installed, nor copied: it is run. In come
// the programs in bin besides. Each side lives in network, mount and process namespaces of its own, with a message bus of its
// own; nothing outside is changed. It needs root.
//
// A session is made of a seed: command lines of firewall-cmd and firewall-offline-cmd and calls over D-Bus, valid, nearly valid
// and invalid ones, with reloads and restarts between. After each step exit code, output and errors are compared, after every
// few steps what the bus says, the files, the kernel's rules and its settings. What differs and stands in deviations.go is
// explained. The first of each other difference is made small and printed as a scenario. Exit 1 where there was one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// variable is the environment variable with the folder of the reference.
const variable = "FIREWALLD_REFERENCE"

// options are what the command line says.
type options struct {
	seed           uint64
	steps, length  int
	backend        string
	load           int
	shrink         int
	bin, scenarios string
	every          int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	found, err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(2)
	}
	if found {
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) (bool, error) {
	o := options{}
	flags := flag.NewFlagSet("oracle", flag.ContinueOnError)
	flags.Uint64Var(&o.seed, "seed", 0, "the first seed; 0 takes one from the clock")
	flags.IntVar(&o.steps, "steps", 2000, "about how many steps to do")
	flags.IntVar(&o.length, "length", 60, "the steps of one session")
	flags.StringVar(&o.backend, "backend", "both", "nftables, iptables or both in turn")
	flags.IntVar(&o.load, "load", 0, "level of load: 0 a few rules, 1 hundreds, 2 thousands")
	flags.IntVar(&o.shrink, "shrink", 60, "how many times to play to make a session small; 0 prints it as it is")
	flags.IntVar(&o.every, "every", 10, "after how many steps the states are compared")
	flags.StringVar(&o.bin, "bin", "bin", "the folder of richwall's programs")
	flags.StringVar(&o.scenarios, "scenarios", "", "a folder to write the scenarios of differences into")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	root, err := reference()
	if err != nil {
		return false, err
	}
	if os.Geteuid() != 0 {
		return false, errors.New("cannot make namespaces with a message bus: this needs root")
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().Unix())
	}
	backends, ok := map[string][]string{"both": {"nftables", "iptables"}, "nftables": {"nftables"}, "iptables": {"iptables"}}[o.backend]
	if !ok || o.load < 0 || o.load > 2 {
		return false, errors.New("cannot use these flags: -backend is nftables, iptables or both, -load is 0, 1 or 2")
	}
	return playAll(ctx, root, backends, &o, stdout)
}

// reference is the folder in which firewalld is unpacked.
func reference() (string, error) {
	root := os.Getenv(variable)
	if root == "" {
		return "", fmt.Errorf("cannot find firewalld: set %s to the folder in which its packages are unpacked (dpkg -x firewalld_*.deb FOLDER; dpkg -x python3-firewall_*.deb FOLDER)", variable)
	}
	for _, name := range []string{"usr/sbin/firewalld", "usr/bin/firewall-cmd", "usr/bin/firewall-offline-cmd", "usr/lib/firewalld/zones/public.xml", "etc/firewalld/firewalld.conf"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			return "", fmt.Errorf("cannot find firewalld in %s=%s: %w", variable, root, err)
		}
	}
	return root, nil
}

// implementations are firewalld in its folder and richwall in its.
func implementations(root, bin, inside string) ([2]programs, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return [2]programs{}, err
	}
	if _, err := os.Stat(filepath.Join(bin, "firewalld")); err != nil {
		return [2]programs{}, fmt.Errorf("cannot find richwall: %w; make it with: make build", err)
	}
	shipped := []string{"--default-config", filepath.Join(root, "usr/lib/firewalld")}
	python := []string{"PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=" + filepath.Join(root, "usr/lib/python3/dist-packages")}
	daemon, client, offline := filepath.Join(root, "usr/sbin/firewalld"), filepath.Join(root, "usr/bin/firewall-cmd"), filepath.Join(root, "usr/bin/firewall-offline-cmd")
	return [2]programs{
		{name: "firewalld", daemon: append([]string{daemon}, shipped...), client: []string{client}, offline: append([]string{offline}, shipped...),
			scripts: []string{daemon, client, offline}, environment: python},
		{name: "richwall", daemon: append(append([]string{bin + "/firewalld"}, shipped...), "--state-dir", inside+"/state"), client: []string{bin + "/firewall-cmd"},
			offline: append([]string{bin + "/firewall-offline-cmd"}, shipped...), environment: python, own: "TCPMSSClamp=initiator\nRuleFolding=no\n"},
	}, nil
}

// playAll makes the sides, learns what the bus has, and plays sessions until there were enough steps.
func playAll(ctx context.Context, root string, backends []string, o *options, stdout io.Writer) (bool, error) {
	folder, err := os.MkdirTemp("", "richwall-oracle-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(folder)
	conf, err := os.ReadFile(filepath.Join(root, "etc/firewalld/firewalld.conf"))
	if err != nil {
		return false, err
	}
	inside := filepath.Join(folder, "here")
	both, err := implementations(root, o.bin, inside)
	if err != nil {
		return false, err
	}
	r := &runner{pair: &pair{shipped: string(conf), definitions: filepath.Join(root, "usr/lib/firewalld")}, out: stdout, shrink: o.shrink, backend: o.backend, load: o.load, folder: o.scenarios, every: o.every}
	r.ended, r.explained, r.used, r.found, r.texts = map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}, map[string]string{}
	for i, p := range both {
		outside := filepath.Join(folder, p.name)
		if r.sides[i], err = newSide(ctx, p, outside, inside); err != nil {
			return false, err
		}
		defer r.sides[i].close()
		if err := writeFiles(outside); err != nil {
			return false, err
		}
	}
	if err := r.begin(&session{backend: "nftables", level: 1}); err != nil {
		return false, err
	}
	methods, err := learn(r.sides[0])
	if err != nil {
		return false, err
	}
	fmt.Fprintf(stdout, "seed %d, %d methods and properties, %d and %d forms of commands\n", o.seed, len(methods), len(commands), len(offlines))
	if err := r.left(stdout); err != nil {
		return false, err
	}
	began := time.Now()
	for seed := o.seed; r.steps < o.steps && ctx.Err() == nil; seed++ {
		s := newSession(seed, backends[seed%uint64(len(backends))], o.load, o.length, methods, inside+"/files")
		if err := r.play(ctx, s); err != nil && ctx.Err() == nil {
			r.summary(began)
			return false, fmt.Errorf("seed %d: %w", seed, err)
		}
	}
	r.summary(began)
	return len(r.found) > 0, nil
}

// untried are options of firewalld's commands that are left out on purpose: they act on the machine, or end at once.
var untried = []string{"--enabled", "--disabled", "--policy-server", "--policy-desktop", "--migrate-system-config-firewall", "--system-config", "--default-config", "--quiet", "--verbose", "--help"}

var longOption = regexp.MustCompile(`--[a-z][-a-z0-9]+`)

// left names the options of firewalld's help of which no command line is made.
func (r *runner) left(out io.Writer) error {
	for _, c := range []struct {
		words []string
		forms []form
	}{{r.sides[0].client, commands}, {r.sides[0].offline, offlines}} {
		help, err := r.sides[0].run(append(append([]string{}, c.words...), "--help")...)
		if err != nil {
			return err
		}
		made := map[string]bool{}
		for _, f := range c.forms {
			for _, option := range longOption.FindAllString(f.words, -1) {
				made[option] = true
			}
		}
		for _, choice := range placeholders {
			for _, option := range longOption.FindAllString(strings.Join(choice, " "), -1) {
				made[option] = true
			}
		}
		var missing []string
		for _, option := range longOption.FindAllString(help.Stdout, -1) {
			if !made[option] && !slices.Contains(untried, option) && !slices.Contains(missing, option) {
				missing = append(missing, option)
			}
		}
		if len(missing) > 0 {
			fmt.Fprintf(out, "%s has options that are not tried: %s\n", filepath.Base(c.words[0]), strings.Join(missing, " "))
		}
	}
	return nil
}

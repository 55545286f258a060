package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"richwall/internal/lab"
)

// Names of what is compared: the columns of the table.
const (
	nameOurs     = "richwall"
	nameUnfolded = "RuleFolding=no"
	nameNft      = "`nft -f`"
	nameTheirs   = "firewalld"
)

// program is something that puts the rules of a configuration into the kernel.
type program interface {
	name() string
	// most is the largest number of rich rules it is measured with, 0 for no limit.
	most() int
	// measure measures it once with so many rich rules.
	measure(ctx context.Context, rules int) (figures, error)
}

// daemonProgram is a firewall daemon with its client.
type daemonProgram struct {
	called         string
	daemon, client string   // paths
	environment    []string // more of it, as KEY=VALUE
	shipped        string   // the folder of shipped definitions
	ownSettings    string   // what richwall.conf has
	limit          int      // see program.most
	version        string   // what the daemon calls itself, once it was measured
}

func (p *daemonProgram) name() string { return p.called }
func (p *daemonProgram) most() int    { return p.limit }

// nftProgram is the program nft, which loads the rules that richwall compiles, each by itself.
type nftProgram struct {
	richwall string // path
	shipped  string
}

func (p *nftProgram) name() string { return nameNft }
func (p *nftProgram) most() int    { return 0 }

// unfolded is the setting with which each rich rule is a rule of its own in the kernel.
const unfolded = "RuleFolding=no\n"

// shippedDefinitions is the folder of shipped definitions below a root; where there is none, programs have their own.
const shippedDefinitions = "usr/lib/firewalld"

// ourPrograms are richwall from a folder of commands, and nft. The definitions are those below root.
func ourPrograms(bin, root string) ([]program, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	shipped := filepath.Join(root, shippedDefinitions)
	ours := daemonProgram{called: nameOurs, daemon: filepath.Join(bin, "firewalld"), client: filepath.Join(bin, "firewall-cmd"), shipped: shipped}
	plain := ours
	plain.called, plain.ownSettings = nameUnfolded, unfolded
	nft := &nftProgram{richwall: filepath.Join(bin, "richwall"), shipped: shipped}
	for _, path := range []string{ours.daemon, ours.client, nft.richwall} {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("cannot measure %s: %w; make it with: make build", path, err)
		}
	}
	return []program{&ours, &plain, nft}, nil
}

// theirProgram is the firewalld that is installed below root, with the folder scratch for files of its own. limit is the
// largest number of rich rules to measure it with.
func theirProgram(ctx context.Context, root, scratch string, limit int) (*daemonProgram, error) {
	p := &daemonProgram{
		called: nameTheirs, daemon: filepath.Join(root, "usr/sbin/firewalld"), client: filepath.Join(root, "usr/bin/firewall-cmd"),
		shipped: filepath.Join(root, shippedDefinitions), limit: limit,
	}
	if _, err := interpreter(p.client); err != nil {
		return nil, err
	}
	python, err := interpreter(p.daemon)
	if err != nil || root == "/" {
		return p, err
	}
	// What is unpacked is not where Python looks for modules, and they are not compiled, as those that are installed are.
	folders, err := filepath.Glob(filepath.Join(root, "usr/lib/python3*/*-packages"))
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		if err := os.CopyFS(scratch, os.DirFS(folder)); err != nil {
			return nil, err
		}
	}
	if out, err := exec.CommandContext(ctx, python, "-m", "compileall", "-q", scratch).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot compile firewalld's modules: %w: %s", err, out)
	}
	p.environment = []string{"PYTHONPATH=" + scratch}
	return p, nil
}

// interpreter is the Python that runs a script. It is an error if the file is something else: richwall takes firewalld's
// place under the same name.
func interpreter(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	line, _ := bufio.NewReader(file).ReadString('\n') // a file without a line is no script
	words := strings.Fields(strings.TrimPrefix(line, "#!"))
	if !strings.HasPrefix(line, "#!") || len(words) == 0 || !strings.Contains(words[0], "python") {
		return "", fmt.Errorf("%s is not firewalld's: it is no script in Python", path)
	}
	return words[0], nil
}

// repeats are how often a call over the bus and a command are measured; their median counts.
const repeats = 5

// measure implements program.
func (p *daemonProgram) measure(ctx context.Context, rules int) (figures, error) {
	b, err := newBed(ctx, p, rules)
	if err != nil {
		return nil, err
	}
	defer b.close()
	f := figures{}
	start, err := b.startDaemon(ctx)
	if err != nil {
		return nil, err
	}
	f[figureStart] = start.Seconds()
	if p.version, err = b.property(ctx, "version"); err != nil {
		return nil, err
	}
	reload, err := b.call(ctx, "reload")
	if err != nil {
		return nil, err
	}
	f[figureReload] = reload.Seconds()
	if err := b.measureCalls(ctx, f); err != nil {
		return nil, err
	}
	if f[figureMemory], err = b.memory(); err != nil {
		return nil, err
	}
	if f[figurePacket], err = packetCost(ctx, b.Lab); err != nil {
		return nil, err
	}
	return f, b.measureGaps(ctx, f, reload)
}

// measureCalls measures changes over the bus, and the client.
func (b *bed) measureCalls(ctx context.Context, f figures) (err error) {
	const permanently = int32(0) // no timeout
	rule := `rule family="ipv4" source address="192.0.2.%d" port port="22" protocol="tcp" accept`
	for _, step := range []struct {
		figure string
		once   func(i int) (time.Duration, error)
	}{
		{figurePort, func(i int) (time.Duration, error) {
			return b.call(ctx, "zone.addPort", "public", fmt.Sprint(5000+i), "udp", permanently)
		}},
		{figureRule, func(i int) (time.Duration, error) {
			return b.call(ctx, "zone.addRichRule", "public", fmt.Sprintf(rule, i+1), permanently)
		}},
		{figureState, func(int) (time.Duration, error) { return b.runClient(ctx, "--state") }},
	} {
		var times []float64
		for i := range repeats {
			took, err := step.once(i)
			if err != nil {
				return err
			}
			times = append(times, took.Seconds())
		}
		f[step.figure] = median(times)
	}
	return nil
}

// runClient runs the client and returns how long it took.
func (b *bed) runClient(ctx context.Context, args ...string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.program.client, args...)
	cmd.Env = b.environment()
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("cannot run %s: %w: %s", cmd, err, out)
	}
	return time.Since(began), nil
}

// measureGaps measures for how long no new connection gets through: during a reload, and without one in the same time.
func (b *bed) measureGaps(ctx context.Context, f figures, reload time.Duration) error {
	idle, err := longestGap(b.Lab, func() error {
		select {
		case <-time.After(reload):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		return err
	}
	gap, err := longestGap(b.Lab, func() error {
		_, err := b.call(ctx, "reload")
		return err
	})
	f[figureIdle], f[figureGap] = idle.Seconds(), gap.Seconds()
	return err
}

// measure implements program. A start is to load the rules where there are none, a reload to load them again.
func (p *nftProgram) measure(ctx context.Context, rules int) (figures, error) {
	dir, err := os.MkdirTemp("", "richwall-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := writeConfiguration(dir, rules, unfolded); err != nil {
		return nil, err
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	compile := []string{"compile", "--to", "nft", "--config", dir}
	if _, err := os.Stat(p.shipped); err == nil { // which the daemon does without, and a command that was told of it does not
		compile = append(compile, "--default-config", p.shipped)
	}
	ruleset, err := ns.Run(ctx, "", p.richwall, compile...)
	if err != nil {
		return nil, err
	}
	f := figures{}
	for _, figure := range []string{figureStart, figureReload} {
		began := time.Now()
		if _, err := ns.Run(ctx, ruleset, "nft", "-f", "-"); err != nil {
			return nil, err
		}
		f[figure] = time.Since(began).Seconds()
	}
	return f, nil
}

package faults

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"richwall/internal/daemon"
	"richwall/internal/lab"
	"richwall/zones"
)

// Each configuration of the victim has a number of its own, as a port in three places: a ruleset that were a mixture of two
// would have two of them.
const (
	firstMark  = 20000
	marks      = 5000
	closedPort = 9
	openPort   = 22
)

var (
	public = zones.Object{Kind: zones.KindZone, Name: "public"}
	mark   = regexp.MustCompile(`\b2[0-4]\d{3}\b`)
)

// marked is a configuration with a number and no other.
func marked(scope zones.Scope, number int) zones.Edit {
	return func(c *zones.Config) (*zones.Config, error) {
		var edits []zones.Edit
		for _, p := range c.Zones["public"].Ports {
			if mark.MatchString(p.Port) {
				for _, item := range markItems(p.Port) {
					edits = append(edits, zones.Remove(scope, public, item))
				}
			}
		}
		for _, item := range markItems(strconv.Itoa(number)) {
			edits = append(edits, zones.Add(scope, public, item))
		}
		for _, edit := range edits {
			next, err := edit(c)
			if err != nil {
				return nil, err
			}
			c = next
		}
		return c, nil
	}
}

func markItems(port string) []zones.Item {
	return []zones.Item{
		{Key: zones.KeyPort, Args: []string{port, "tcp"}},
		{Key: zones.KeySourcePort, Args: []string{port, "udp"}},
		{Key: zones.KeyForwardPort, Args: []string{port, "tcp", "80", "10.2.0.10"}},
	}
}

// victim is a daemon that changes its configuration as fast as it can until it is killed. Before and after each change it
// writes a line with what the number will be.
func victim() {
	dir, number := os.Args[1], firstMark
	seed, _ := strconv.ParseUint(os.Args[2], 10, 64)
	random := rand.New(rand.NewPCG(seed, 0))
	check := func(err error) {
		if err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
	}
	d := newDaemon(dir, nil, nil, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	fmt.Println("start")
	check(d.Start(context.Background()))
	if state := d.Snapshot().State; state != daemon.Running {
		check(fmt.Errorf("the state is %s", state))
	}
	fmt.Println("started")
	for {
		number = firstMark + (number-firstMark+1+random.IntN(marks-1))%marks
		fmt.Println("try", number)
		if random.IntN(4) > 0 {
			check(d.ChangeRuntime(context.Background(), daemon.Change{Edit: marked(zones.Runtime, number)}))
		} else {
			check(d.ChangePermanent(daemon.Change{Edit: marked(zones.Permanent, number)}))
			check(d.Reload(context.Background()))
		}
		fmt.Println("done", number)
	}
}

// kills has victims killed, one after the other over the same files and in the same kernel, and checks what each leaves.
type kills struct {
	*testing.T
	lab      *lab.Lab
	dir      string
	random   *rand.Rand
	former   string // the number in the kernel
	iptables bool
	lines    int // the most that one says before it is killed
	// moments is the longest time between a line and the kill: about that between two lines.
	moments time.Duration
}

// one starts a victim, kills it some moments after it has said a number of lines, and returns what it said.
func (k *kills) one(seed int) []string {
	k.Helper()
	self, err := os.Executable()
	if err != nil {
		k.Fatal(err)
	}
	var errs bytes.Buffer
	cmd := exec.Command(self, k.dir, strconv.Itoa(seed))
	cmd.Env = append(os.Environ(), roleVariable+"=victim", "XTABLES_LOCKFILE="+filepath.Join(k.dir, "..", "lock"))
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = k.lab.Firewall().Do(cmd.Start)
	}
	if err != nil {
		k.Fatal(err)
	}
	lines, moments := 1+k.random.IntN(k.lines), time.Duration(k.random.Int64N(int64(k.moments)))
	var said []string
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		said = append(said, scanner.Text())
		if len(said) == lines {
			time.Sleep(moments)
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if i := slices.IndexFunc(said, func(s string) bool { return strings.HasPrefix(s, "failed") }); i >= 0 || len(said) < lines {
		k.Fatalf("a daemon after one that was killed: %q\n%s", said, errs.String())
	}
	return said
}

// listing is the rules in the kernel.
func (k *kills) listing() string {
	k.Helper()
	if k.iptables {
		return saved(k.T, k.lab)
	}
	return table(k.T, k.lab.Firewall())
}

// inFiles is the number in the permanent configuration, which must be readable.
func (k *kills) inFiles() string {
	k.Helper()
	cfg, problems := zones.Load(zones.Dirs{System: k.dir})
	if cfg == nil {
		k.Fatalf("a killed daemon left files that cannot be read: %v", problems)
	}
	for _, p := range cfg.Zones["public"].Ports {
		if mark.MatchString(p.Port) {
			return p.Port
		}
	}
	k.Fatal("the number is not in the files")
	return ""
}

// allowed are the numbers that the kernel may have after a victim that said this much.
func (k *kills) allowed(said []string, permanent string) []string {
	numbers := []string{k.former}
	for _, line := range said {
		switch word, number, _ := strings.Cut(line, " "); word {
		case "start":
			numbers = append(numbers, permanent)
		case "started":
			numbers = []string{permanent}
		case "try":
			numbers = append(numbers, number)
		case "done":
			numbers = []string{number}
		}
	}
	return numbers
}

// prepare writes the files, and returns the rules that they mean.
func (k *kills) prepare(conf string) (whole string) {
	k.Helper()
	k.dir = filepath.Join(k.TempDir(), "firewalld")
	k.former = strconv.Itoa(firstMark)
	var ports strings.Builder
	for i := range 200 {
		fmt.Fprintf(&ports, `<rule family="ipv4"><source address="192.0.2.%d"/><port port="%d" protocol="tcp"/><accept/></rule>`, i, 1000+i)
	}
	write(k.T, k.dir, map[string]string{
		"firewalld.conf": conf,
		"zones/public.xml": `<zone><interface name="c0"/><service name="ssh"/>` + ports.String() +
			strings.ReplaceAll(`<port port="N" protocol="tcp"/><source-port port="N" protocol="udp"/><forward-port port="N" protocol="tcp" to-port="80" to-addr="10.2.0.10"/></zone>`,
				"N", k.former),
	})
	d := newDaemon(k.dir, nil, k.lab.Firewall().Do, slog.New(slog.DiscardHandler))
	if err := d.Start(k.Context()); err != nil {
		k.Fatal(err)
	}
	whole = k.listing()
	if err := d.Stop(k.Context()); err != nil {
		k.Fatal(err)
	}
	return whole
}

// A daemon that is killed at any moment leaves the ruleset before a change or the one after it, whole, and files that can
// be read; the next one starts from there. Its table may have an owner or not.
func TestKilledAtAnyMoment(t *testing.T) {
	for _, owner := range []string{"yes", "no"} {
		t.Run("owner "+owner, func(t *testing.T) {
			k := &kills{T: t, lab: newLab(t, "nft"), random: rand.New(rand.NewPCG(1, 2)), lines: 20, moments: 10 * time.Millisecond}
			whole := k.prepare("CleanupOnExit=no\nNftablesTableOwner=" + owner + "\n")
			reached := map[string]int{}
			for seed := range 100 {
				permanent := k.inFiles()
				said := k.one(seed)
				word, _, _ := strings.Cut(said[len(said)-1], " ")
				listing := k.listing()
				number := mark.FindString(listing)
				allowed := k.allowed(said, permanent)
				reached[fmt.Sprintf("%s: ruleset %d of %d", word, slices.Index(allowed, number)+1, len(allowed))]++
				if !slices.Contains(allowed, number) {
					t.Fatalf("kill %d: the ruleset is number %s, want one of %v", seed, number, allowed)
				}
				if d := tableDifference(whole, strings.ReplaceAll(listing, number, strconv.Itoa(firstMark))); d != "" {
					t.Fatalf("kill %d: the ruleset is neither the old nor the new one: %s", seed, d)
				}
				if open := openPorts(t, k.lab, closedPort); open != nil {
					t.Fatalf("kill %d: ports %v are open", seed, open)
				}
				k.former = number
			}
			t.Logf("the kills came after %v", reached)
			if open := openPorts(t, k.lab, openPort); len(open) != 2 {
				t.Errorf("ssh is open %d times, want it with both families", len(open))
			}
		})
	}
}

// With iptables each table is a transaction of its own. A daemon that is killed leaves each of them whole, with what is
// closed closed, and the next one makes all of them what the files say.
func TestKilledWithIPTables(t *testing.T) {
	k := &kills{T: t, lab: newLab(t, "iptables", "ip6tables", "ipset"), random: rand.New(rand.NewPCG(3, 4)), lines: 4, moments: time.Second,
		iptables: true}
	whole := k.prepare("CleanupOnExit=no\nFirewallBackend=iptables\n")
	for seed := range 8 {
		k.one(seed)
		if open := openPorts(t, k.lab, closedPort); open != nil {
			t.Fatalf("kill %d: ports %v are open", seed, open)
		}
	}
	number := k.inFiles()
	d := newDaemon(k.dir, nil, k.lab.Firewall().Do, slog.New(slog.DiscardHandler))
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.Stop(t.Context())
	if d := difference(whole, strings.ReplaceAll(k.listing(), number, strconv.Itoa(firstMark))); d != "" {
		t.Errorf("after the last start the rules are not as in the files: %s", d)
	}
}

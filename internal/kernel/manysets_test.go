package kernel_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/testlog"
)

// countIPSet has each run of ipset counted. runs is how many there were since it was called last.
func countIPSet(t *testing.T) (runs func() int) {
	t.Helper()
	program, err := exec.LookPath("ipset")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	script := fmt.Sprintf("#!/bin/sh\necho run >> '%s'\nexec '%s' \"$@\"\n", count, program)
	if err := os.WriteFile(filepath.Join(dir, "ipset"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		text, err := os.ReadFile(count)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.WriteFile(count, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return bytes.Count(text, []byte("\n"))
	}
}

// setsOf is a configuration with so many sets of a type.
func setsOf(n int, kind string) map[string]string {
	files := map[string]string{"zones/public.xml": "<zone/>"}
	for i := range n {
		files[fmt.Sprintf("ipsets/many%d.xml", i)] = fmt.Sprintf(`<ipset type="%s"><entry>10.0.0.1</entry></ipset>`, kind)
	}
	return files
}

// However many sets go, are made with another type or are taken back with a refused change, ipset is run as often as for two.
func TestManySetsAreOneRunOfIPSet(t *testing.T) {
	runs := countIPSet(t)
	none := map[string]string{"zones/public.xml": "<zone/>"}
	for _, c := range []struct {
		name string
		do   func(k kernel.Kernel, o kernel.Options, sets int) error
		left string // the type of the sets behind it; empty if there are none
	}{
		{"they go", func(k kernel.Kernel, _ kernel.Options, _ int) error {
			return k.Commit(t.Context(), desired(t, none, ir.IPTables, false))
		}, ""},
		{"they get another type", func(k kernel.Kernel, _ kernel.Options, sets int) error {
			return k.Commit(t.Context(), desired(t, setsOf(sets, "hash:net"), ir.IPTables, false))
		}, "hash:net"},
		{"another type is refused", func(k kernel.Kernel, _ kernel.Options, sets int) error {
			return refuses(t, k, refusedDesired(t, setsOf(sets, "hash:net")))
		}, "hash:ip"},
		{"another back end is used", func(_ kernel.Kernel, o kernel.Options, _ int) error {
			o.Backend = ir.NFTables
			k, err := kernel.New(o)
			if err != nil {
				return err
			}
			return errors.Join(k.Commit(t.Context(), desired(t, none, ir.NFTables, false)), kernel.RemoveOther(t.Context(), o, k), k.Close())
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var count []int
			for _, sets := range []int{2, 30} {
				ns := namespace(t)
				k, o, killed := process(t, ns, ir.IPTables, &disk{})
				commit(t, k, desired(t, setsOf(sets, "hash:ip"), ir.IPTables, false))
				runs()
				if err := c.do(k, o, sets); err != nil {
					t.Fatal(err)
				}
				count = append(count, runs())
				want := 0
				if c.left != "" {
					want = sets
				}
				if got := run(t, ns, "", "ipset", "save"); strings.Count(got, "create many") != want || strings.Count(got, c.left+" ") != want || strings.Count(got, " 10.0.0.1\n") != want {
					t.Errorf("with %d sets there is behind it\n%s", sets, got)
				}
				killed()
			}
			if count[0] == 0 || count[0] != count[1] {
				t.Errorf("ipset ran %d times for 2 sets, and %d times for 30", count[0], count[1])
			}
		})
	}
}

// The sets of a change that is refused are taken out again with one run of ipset.
func TestManySetsOfARefusedChange(t *testing.T) {
	runs := countIPSet(t)
	var count []int
	for _, sets := range []int{2, 30} {
		ns := namespace(t)
		k, _, killed := process(t, ns, ir.IPTables, &disk{})
		commit(t, k, desired(t, setsOf(0, ""), ir.IPTables, false))
		runs()
		if err := refuses(t, k, refusedDesired(t, setsOf(sets, "hash:ip"))); err != nil {
			t.Fatal(err)
		}
		count = append(count, runs())
		if got := run(t, ns, "", "ipset", "save"); got != "" {
			t.Errorf("there is still\n%s", got)
		}
		killed()
	}
	if count[0] == 0 || count[0] != count[1] {
		t.Errorf("ipset ran %d times for 2 sets, and %d times for 30", count[0], count[1])
	}
}

// refusedDesired is a configuration that iptables refuses when the sets are made.
func refusedDesired(t *testing.T, files map[string]string) *kernel.Desired {
	t.Helper()
	files["direct.xml"] = `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-j NOSUCH</rule></direct>`
	return desired(t, files, ir.IPTables, false)
}

// refuses is nil if a commit is refused.
func refuses(t *testing.T, k kernel.Kernel, next *kernel.Desired) error {
	if err := k.Commit(t.Context(), next); err == nil {
		return errors.New("nothing is refused")
	}
	return nil
}

// Sets that rules of another program look up stay when they are to go, wherever they are among the others, and the log names each of them
// once. All others go, and the rest with the first change behind the end of those rules. ipset is run a few times for all of it.
func TestSetsInUseStayAmongMany(t *testing.T) {
	runs := countIPSet(t)
	for _, used := range [][]int{{0}, {29}, {3, 4, 20}} {
		t.Run(fmt.Sprint(used), func(t *testing.T) {
			ns, store := namespace(t), &disk{}
			var log testlog.Log
			o := kernel.Options{Backend: ir.IPTables, Enter: ns.Do, Log: slog.New(slog.NewTextHandler(&log, nil))}
			o.Left = kernel.NewLeft(store, o.Log)
			k, err := kernel.New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			commit(t, k, desired(t, setsOf(30, "hash:ip"), ir.IPTables, false))
			var want []string
			for _, n := range used {
				name := fmt.Sprintf("many%d", n)
				run(t, ns, "", "iptables", "-A", "FORWARD", "-m", "set", "--match-set", name, "src", "-j", "DROP")
				want = append(want, name)
			}
			none := desired(t, setsOf(0, ""), ir.IPTables, false)
			for range 3 {
				runs()
				commit(t, k, none)
				if n := runs(); n > 8 {
					t.Errorf("ipset ran %d times", n)
				}
				got := strings.Fields(run(t, ns, "", "ipset", "list", "-name"))
				slices.Sort(got)
				if want := slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
					t.Errorf("there are the sets %v, want %v", got, want)
				}
			}
			for _, name := range want {
				if n := strings.Count(log.String(), "set="+name+" "); n != 1 {
					t.Errorf("the log names %s %d times:\n%s", name, n, &log)
				}
				run(t, ns, "", "iptables", "-D", "FORWARD", "-m", "set", "--match-set", name, "src", "-j", "DROP")
			}
			commit(t, k, none)
			if got := run(t, ns, "", "ipset", "list", "-name"); got != "" {
				t.Errorf("there are still the sets %s", got)
			}
		})
	}
}

package eval_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"richwall/compile"
	"richwall/compile/eval"
	"richwall/compile/ir"
	"richwall/internal/irgen"
	"richwall/zones"
)

// A configuration of which a file is damaged can be used without what is broken in it: it passes the check, compiles for each back
// end, and lets no packet in that the undamaged one does not, unless it is said to be in doubt.
func TestTheRestOfADamagedConfigurationIsNeverMoreOpen(t *testing.T) {
	seed := irgen.Seed(t)
	r := rand.New(rand.NewPCG(seed, 3))
	seen := map[zones.Way]int{}
	for range 12 {
		config := randomConfig(t, r.Uint64(), 2, 6)
		dir := written(t, config)
		intended, problems := zones.Load(zones.Dirs{System: dir})
		if intended == nil {
			t.Fatalf("what was written cannot be read:\n%v", problems)
		}
		for range 40 {
			path, damaged := damage(t, r, dir)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, damaged)
			rest := zones.LoadRest(zones.Dirs{System: dir}, intended)
			if problem := moreOpen(t, r, intended, rest); problem != "" {
				t.Fatalf("%s, damaged as\n%s\nlost: %v\n%s", filepath.Base(path), damaged, rest.Losses, problem)
			}
			for _, l := range rest.Losses {
				seen[l.Way]++
			}
			write(t, path, whole)
		}
	}
	for _, way := range []zones.Way{zones.LeftOut, zones.Refuses, zones.Doubtful} {
		if seen[way] == 0 {
			t.Errorf("no damage cost %d: %v", way, seen)
		}
	}
}

// written is a folder with the files of a configuration.
func written(t *testing.T, config *zones.Config) string {
	t.Helper()
	dir := t.TempDir()
	store := zones.Store{Dirs: zones.Dirs{System: dir}}
	shipped, problems := store.Shipped()
	if shipped == nil {
		t.Fatal(problems)
	}
	if _, err := store.Save(shipped, config); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

var (
	attribute = regexp.MustCompile(`[a-z-]+=("[^"]*"|'[^']*')`)
	element   = regexp.MustCompile(`<[a-z-]+`)
)

// damage picks a file of a folder, and damages it in one place.
func damage(t *testing.T, r *rand.Rand, dir string) (path string, damaged []byte) {
	t.Helper()
	paths, err := filepath.Glob(dir + "/*/*.xml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	path = pick(r, paths...)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	insert := func(at int, text string) []byte {
		return append(append(bytes.Clone(data[:at]), text...), data[at:]...)
	}
	at := r.IntN(len(data))
	switch r.IntN(8) {
	case 0:
		return path, data[:at]
	case 1:
		return path, append(bytes.Clone(data[:at]), data[min(len(data), at+1+r.IntN(4)):]...)
	case 2:
		return path, insert(at, pick(r, "<", ">", "&", "\"", "\xff", "\x01", "<x>", "</rule>", "<!--"))
	case 3:
		found := element.FindAllIndex(data, -1)
		return path, insert(pick(r, found...)[1], pick(r, "x", ` x="1"`, ` name="y"`))
	default:
		found := attribute.FindAllIndex(data, -1)
		value := pick(r, found...)
		return path, insert(bytes.IndexAny(data[value[0]:value[1]], `"'`)+value[0]+1+r.IntN(2), pick(r, "x", "/", "9", "-", " ", "zz", "&#1;"))
	}
}

// usable is the ruleset of the rest of a configuration without what the back end refuses, as at a start, with all losses.
func usable(t *testing.T, rest *zones.Rest, backend ir.Backend) (*ir.Ruleset, []zones.Loss) {
	t.Helper()
	config, losses := rest.Config, rest.Losses
	for {
		rs, err := compile.Compile(config, backend)
		if err == nil {
			return rs, losses
		}
		var refused compile.Errors
		var lost []zones.Loss
		if errors.As(err, &refused) {
			config, lost = zones.LeaveOut(config, refused.Problems())
		}
		if len(lost) == 0 {
			t.Fatal(err)
		}
		losses = slices.Concat(losses, lost)
	}
}

// moreOpen is a packet that the rest of a configuration accepts and the intended one does not, or what else is wrong with the rest.
func moreOpen(t *testing.T, r *rand.Rand, intended *zones.Config, rest *zones.Rest) string {
	t.Helper()
	if problems := zones.Check(rest.Config); problems.Err() != nil {
		return problems.Error()
	}
	for _, backend := range backends {
		rs, losses := usable(t, rest, backend)
		if len(losses) == 0 || zones.InDoubt(losses) {
			continue
		}
		want := compiled(t, intended, backend)
		before, after := eval.New(want), eval.New(rs)
		n := namesOf(want)
		for range 60 {
			p := n.packet(r)
			if a, b := before.Evaluate(p), after.Evaluate(p); a.Verdict != eval.Accept && a.Verdict != eval.Unknown && b.Verdict == eval.Accept {
				return strings.Join([]string{string(ir.Backend(backend)), "before:", describe(a), "after:", describe(b)}, "\n")
			}
		}
	}
	return ""
}

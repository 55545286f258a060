package main

import (
	"context"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// tried is a source of new random numbers, whose seed a failure prints.
func tried(t *testing.T) *source {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return newSource(seed)
}

// arguments are all kinds of arguments that firewalld's methods have.
func arguments() (out []method) {
	for name := range argumentClasses {
		for _, signature := range []string{"s", "b", "i", "as", "a(ss)", "a(ssss)", "a{ss}"} {
			out = append(out, method{object: "config/zone/N", name: busName + ".config.zone.some", weight: 1, args: []introspect.Arg{{Name: name, Type: signature}}})
		}
	}
	for kind, types := range fields {
		signature := ""
		for _, field := range strings.Fields(types) {
			_, one, _ := strings.Cut(field, ":")
			signature += one
		}
		out = append(out, method{name: busName + ".config." + kind + ".update", weight: 1, args: []introspect.Arg{{Name: "settings", Type: "(" + signature + ")"}}})
	}
	for kind := range settings {
		out = append(out, method{name: busName + ".config." + kind + ".update2", weight: 1, args: []introspect.Arg{{Name: "settings", Type: "a{sv}"}}})
	}
	whitelist := method{name: busName + ".config.policies.setLockdownWhitelist", weight: 1, args: []introspect.Arg{{Name: "settings", Type: "(asasasai)"}}}
	direct := method{name: busName + ".config.direct.update", weight: 1, args: []introspect.Arg{{Name: "settings", Type: "(a(sss)a(sssias)a(sas))"}}}
	return append(out, direct, whitelist)
}

// What a session says on the bus is text that reads back as values of the types that the method takes.
func TestArgumentsReadBack(t *testing.T) {
	s, methods := tried(t), arguments()
	for range 3000 {
		s.mood = []mood{careful, careless, hostile}[s.IntN(3)]
		st := s.call(methods)
		got, err := values(strings.Join(st.args, " "), st.signature)
		if err != nil {
			t.Fatalf("%s: %v", st, err)
		}
		if have := dbus.SignatureOf(got...).String(); have != st.signature {
			t.Fatalf("%s: has signature %s, want %s", st, have, st.signature)
		}
	}
}

// Every form of a command names classes and placeholders that there are, and what it makes reads back as the same words.
func TestCommandsReadBack(t *testing.T) {
	s := tried(t)
	capitals := regexp.MustCompile(`^[A-Z]{4,}$`)
	for _, f := range slices.Concat(commands, offlines) {
		for range 5 {
			s.mood = []mood{careful, careless, hostile}[s.IntN(3)]
			words := s.command([]form{f}, false, "/files")
			for _, word := range words {
				if capitals.MatchString(word) && !slices.Contains([]string{"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING", "ACCEPT", "DROP", "REJECT", "RETURN", "MASQUERADE", "CONNMARK", "HOST", "QUEUE", "FILTER"}, word) {
					t.Fatalf("%s: %s stands for nothing", f.words, word)
				}
			}
			back, err := split(joined(words))
			if err != nil || !slices.Equal(back, words) {
				t.Fatalf("%q reads back as %q: %v", words, back, err)
			}
		}
	}
}

// A seed makes the same session every time, on every machine.
func TestSeedsAreSessions(t *testing.T) {
	seed, methods := rand.Uint64(), arguments()
	one := newSession(seed, "nftables", 1, 200, methods, "/files").scenario()
	for range 5 {
		if again := newSession(seed, "nftables", 1, 200, methods, "/files").scenario(); again != one {
			t.Fatalf("seed %d makes\n%s\nand\n%s", seed, one, again)
		}
	}
}

// A difference is explained where both refuse with one code, and not where the codes differ, or one side takes what the
// other refuses.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		theirs, ours string
		wrong        int
		want         bool
	}{
		{"exit 102\nstderr: Error: INVALID_PORT: bad port", "exit 102\nstderr: Error: INVALID_PORT: cannot read port", 1, true},
		{"exit 102\nstderr: Error: INVALID_PORT: bad port", "exit 103\nstderr: Error: INVALID_PROTOCOL: x", 1, false},
		{"exit 102\nstderr: Error: INVALID_PORT: bad port", "exit 103\nstderr: Error: INVALID_PROTOCOL: x", 2, true},
		{"exit 102\nstderr: Error: INVALID_PORT: bad port", "exit 0\nsuccess", 2, false},
		{"exit 0\nsuccess\nstderr: Warning: ALREADY_ENABLED: 'a'", "exit 0\nsuccess", 0, false},
		{"exit 0\npublic", "exit 0\nhome", 0, false},
	} {
		d := difference{what: "$ --add-port=x", shape: "$ --add-port", theirs: c.theirs, ours: c.ours, wrong: c.wrong}
		if got := explain(d) != ""; got != c.want {
			t.Errorf("%q and %q with %d wrong values: explained is %v, want %v", c.theirs, c.ours, c.wrong, got, c.want)
		}
	}
}

// Without the reference the command says which variable it is found by.
func TestWithoutReference(t *testing.T) {
	t.Setenv(variable, "")
	if _, err := run(context.Background(), nil, t.Output()); err == nil || !strings.Contains(err.Error(), variable) {
		t.Errorf("the error is %v, want one that names %s", err, variable)
	}
	t.Setenv(variable, t.TempDir())
	if _, err := run(context.Background(), nil, t.Output()); err == nil || !strings.Contains(err.Error(), "usr/sbin/firewalld") {
		t.Errorf("the error is %v, want one that names the file that is missing", err)
	}
}

package zones

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"richwall/grammar"
)

// TestLint looks at each configuration of testdata/lint. A case is written as those of TestCases; all of its marks are
// warnings of Lint, and Load has nothing to say about it.
func TestLint(t *testing.T) {
	cases, err := filepath.Glob("../testdata/lint/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			files, err := txtar.FS(archive)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, files); err != nil {
				t.Fatal(err)
			}
			config, problems := Load(Dirs{System: filepath.Join(dir, "etc")})
			if len(problems) > 0 {
				t.Fatalf("Load has something to say:\n%v", problems)
			}
			compareProblems(t, archive, dir, Lint(config))
		})
	}
}

// The definitions that come with richwall are the work of others: nothing is said about them.
func TestLintShipped(t *testing.T) {
	config, _ := Load(Dirs{})
	if problems := Lint(config); len(problems) > 0 {
		t.Errorf("unexpected:\n%v", problems)
	}
}

// Each line is a rule, another one before it that must be found to hide it or not, and why.
func TestCovers(t *testing.T) {
	for _, c := range []struct {
		wider, rule string
		hides       bool
	}{
		{"rule port port=20-30 protocol=tcp drop", "rule port port=22 protocol=tcp accept", true},
		{"rule port port=20-30 protocol=tcp drop", "rule port port=22-31 protocol=tcp accept", false},
		{"rule port port=20-30 protocol=tcp drop", "rule port port=22 protocol=udp accept", false},
		{"rule port port=20-30 protocol=tcp drop", "rule source-port port=22 protocol=tcp accept", false},
		{"rule protocol value=tcp drop", "rule service name=ssh accept", true},
		{"rule protocol value=6 drop", "rule tcp-mss value=0-500 accept", true},
		{"rule protocol value=icmp drop", "rule family=ipv4 icmp-type name=echo-request accept", true},
		{"rule protocol value=icmp drop", "rule icmp-type name=echo-request accept", false}, // there is ICMPv6
		{"rule icmp-block name=echo-request", "rule icmp-type name=echo-request accept", true},
		{"rule service name=dns drop", "rule port port=53 protocol=udp accept", true},
		{"rule port port=53 protocol=udp drop", "rule service name=dns accept", false},    // it has TCP too
		{"rule service name=mdns drop", "rule port port=5353 protocol=udp accept", false}, // it is limited to groups
		{"rule family=ipv4 port port=22 protocol=tcp drop", "rule port port=22 protocol=tcp accept", false},
		{"rule port port=22 protocol=tcp drop", "rule family=ipv4 port port=22 protocol=tcp accept", true},
		{"rule tcp-mss value=0-500 drop", "rule tcp-mss value=10-500 accept", true},
		{"rule tcp-mss value=0-500 drop", "rule tcp-mss value=10-501 accept", false},

		{"rule family=ipv4 source address=192.0.2.0/24 drop", "rule family=ipv4 source address=192.0.2.7 service name=ssh accept", true},
		{"rule family=ipv4 source address=192.0.2.0/24 drop", "rule family=ipv4 source address=192.0.0.0/16 service name=ssh accept", false},
		{"rule family=ipv4 source address=192.0.2.0/24 drop", "rule family=ipv4 service name=ssh accept", false},
		{"rule family=ipv4 source address=192.0.2.0/24 drop", "rule family=ipv4 source NOT address=192.0.2.0/24 service name=ssh accept", false},
		{"rule family=ipv4 source NOT address=192.0.2.0/24 drop", "rule family=ipv4 source address=198.51.100.0/24 accept", true},
		{"rule family=ipv4 source NOT address=192.0.2.0/24 drop", "rule family=ipv4 source address=192.0.0.0/16 accept", false},
		{"rule family=ipv4 source NOT address=192.0.2.0/25 drop", "rule family=ipv4 source NOT address=192.0.2.0/24 accept", true},
		{"rule family=ipv4 source NOT address=192.0.2.0/24 drop", "rule family=ipv4 source NOT address=192.0.2.0/25 accept", false},
		{"rule family=ipv4 source address=0.0.0.0/0 drop", "rule family=ipv4 source address=192.0.2.1 accept", true},
		{"rule family=ipv4 destination address=192.0.2.0/24 drop", "rule family=ipv4 destination address=192.0.2.1 service name=ssh accept", true},
		{"rule family=ipv4 destination address=192.0.2.0/24 drop", "rule family=ipv4 source address=192.0.2.1 accept", false},
		{"rule source mac=00:11:22:33:44:55 drop", "rule source mac=00:11:22:33:44:55 service name=ssh accept", true},
		{"rule source mac=00:11:22:33:44:55 drop", "rule source mac=00:11:22:33:44:56 service name=ssh accept", false},

		{"rule service name=ssh drop limit value=3/m", "rule service name=ssh accept", false},
		{"rule service name=ssh log", "rule service name=ssh accept", false},
		{"rule service name=ssh accept", "rule service name=ssh drop", false}, // what refuses is asked first
		{"rule priority=-1 service name=ssh accept", "rule service name=ssh drop", true},
		{"rule priority=1 service name=ssh drop", "rule service name=ssh accept", false},
		{"rule service name=ssh accept", "rule priority=1 service name=ssh drop", true},
		{"rule service name=ssh drop", "rule service name=ssh log accept", false}, // it logs first
		{"rule priority=-1 service name=ssh drop", "rule service name=ssh log accept", true},
		{"rule priority=-1 service name=ssh drop", "rule service name=ssh log", true},
		{"rule priority=-2 drop", "rule priority=-1 service name=ssh mark set=1", false}, // it is asked elsewhere
		{"rule priority=-2 drop", "rule tcp-mss-clamp", false},
		{"rule family=ipv4 priority=-1 reject type=tcp-reset", "rule family=ipv4 service name=dns accept", false},
	} {
		config, _ := Load(Dirs{})
		zone := Zone{Meta: Meta{Name: "office"}, Target: TargetDefault, Interfaces: []string{"eth0"}}
		for _, text := range []string{c.wider, c.rule} {
			r, err := grammar.Parse(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			zone.Rules = append(zone.Rules, RichRule{Rule: r, Line: len(zone.Rules) + 1})
		}
		problems := Lint(config.WithZone(&zone))
		hidden := len(problems) == 1 && problems[0].Line == 2
		if hidden != c.hides || len(problems) > 1 {
			t.Errorf("%s\n%s\nis hidden: %v, want %v\n%v", c.wider, c.rule, hidden, c.hides, problems)
		}
	}
}

// A list of many addresses is looked through in a moment.
func BenchmarkLint(b *testing.B) {
	config, _ := Load(Dirs{})
	zone := Zone{Meta: Meta{Name: "office"}, Target: TargetDefault, Interfaces: []string{"eth0"}}
	for i := range 100_000 {
		r, err := grammar.Parse(fmt.Sprintf("rule family=ipv4 source address=10.%d.%d.%d drop", i>>16, i>>8&255, i&255))
		if err != nil {
			b.Fatal(err)
		}
		zone.Rules = append(zone.Rules, RichRule{Rule: r})
	}
	config = config.WithZone(&zone)
	for b.Loop() {
		if problems := Lint(config); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}

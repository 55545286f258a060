package firewallcmd

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// split splits a command line at blanks; '…' keeps them.
func split(line string) []string {
	var list []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

func TestParse(t *testing.T) {
	tests := []struct {
		args   string
		option string
		values []string // of the option
	}{
		{"--zone=work --list-all", "zone", []string{"work"}},
		{"--zone work --list-all", "zone", []string{"work"}},
		{"--zone=work --zone=home", "zone", []string{"home"}},
		{"--zon=work", "zone", []string{"work"}},
		{"--zone=", "zone", []string{""}},
		{"--add-port=80/tcp --add-port 81/tcp", "add-port", []string{"80/tcp", "81/tcp"}},
		{"--set-priority -7", "set-priority", []string{"-7"}},
		{"--add-rich-rule 'rule service name=ssh accept'", "add-rich-rule", []string{"rule service name=ssh accept"}},
		{"-q --reload", "quiet", []string{""}},
		{"-qV", "version", []string{""}},
		{"--direct --get-chains ipv4 filter -q", "get-chains", []string{"ipv4", "filter"}},
		{"--direct --add-rule ipv4 filter INPUT -1 -s 10.0.0.1 --permanent", "add-rule", []string{"ipv4", "filter", "INPUT", "-1", "-s", "10.0.0.1", "--permanent"}},
	}
	for _, test := range tests {
		found, _, err := parse(optionsOf(online), split(test.args))
		if err != nil {
			t.Errorf("%s: %v", test.args, err)
			continue
		}
		s := session{given: found}
		if values := found[s.lookup(test.option)]; !slices.Equal(values, test.values) {
			t.Errorf("%s: --%s is %q, not %q", test.args, test.option, values, test.values)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"--bogus":                        "there is no option --bogus",
		"--list-servces":                 "there is no option --list-servces; did you mean --list-services?",
		"bogus":                          "there is no argument bogus: every argument is an option, which starts with --",
		"--":                             "there is no argument --: every argument is an option, which starts with --",
		"-x":                             "there is no option -x",
		"--get-zone":                     "write more of --get-zone: it could be --get-zones, --get-zone-of-interface, --get-zone-of-source",
		"--get-zones=x":                  `option --get-zones takes no value, but "x" was given`,
		"--zone":                         "option --zone needs a value: --zone=ZONE",
		"--zone --list-all":              "option --zone needs a value: --zone=ZONE",
		"--add-lockdown-whitelist-uid=x": `option --add-lockdown-whitelist-uid needs a whole number, not "x"`,
	} {
		if _, _, err := parse(optionsOf(online), split(args)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, not %s", args, err, want)
		}
	}
}

// What scripts look for stands before what people need, as firewalld prints it.
func TestUsageInTheWordsOfFirewalld(t *testing.T) {
	for args, want := range map[string]string{
		"--bogus=1":                      "firewall-cmd: error: unrecognized arguments: --bogus=1",
		"--zone":                         "firewall-cmd: error: argument --zone: expected one argument",
		"--list-all --add-port=1/tcp":    "firewall-cmd: error: argument --add-port: not allowed with argument --list-all",
		"--add-port=1/tcp --list-all":    "firewall-cmd: error: argument --list-all: not allowed with argument --add-port",
		"-q -v --list-all":               "firewall-cmd: error: argument -v/--verbose: not allowed with argument -q/--quiet",
		"--permanent --state":            "Can't use stand-alone options with other options.",
		"--reload --list-all":            "Can't use stand-alone options with other options.",
		"--add-port=1/tcp --reload":      "Can't use stand-alone options with other options.",
		"--state --reload":               "firewall-cmd: error: argument --reload: not allowed with argument --state",
		"--reload --get-zones":           "firewall-cmd: error: argument --get-zones: not allowed with argument --reload",
		"--new-zone=x":                   "Option can be used only with --permanent.",
		"--timeout=5 --list-all":         "Wrong --timeout usage",
		"--timeout=x --add-port=1/tcp":   "'x' is wrong timeout value. Use for example '2m' or '1h'",
		"--zone=a --policy=b --list-all": "Can't use --zone with --policy.",
		"--add-entry=192.0.2.1":          "No ipset specified.",
		"--add-chain ipv4 filter x":      "Wrong usage of 'direct' options.",
	} {
		var out, errs bytes.Buffer
		status := Online(split(args), nil, &out, &errs)
		lines := strings.Split(errs.String(), "\n")
		if status != 2 || len(lines) != 4 || lines[0] != usageLine[online] || lines[1] != want || !strings.HasPrefix(lines[2], "hint: ") {
			t.Errorf("%s: exit %d, and\n%s\nwithout %q between the usage and a hint", args, status, errs.String(), want)
		}
	}
}

// The words that direct options take are told with the option as it was given.
func TestDirectUsage(t *testing.T) {
	for _, test := range []struct {
		program   program
		args, how string
	}{
		{online, "--direct --add-rule ipv4 filter", "--direct"},
		{online, "--permanent --direct --add-rule ipv4 filter", "--permanent --direct"},
		{offline, "--direct --add-rule ipv4 filter", "--direct"},
	} {
		found, order, err := parse(optionsOf(test.program), split(test.args))
		if err != nil {
			t.Fatal(err)
		}
		s := &session{program: test.program, given: found, order: order, out: &output{}}
		if err := s.understand(); err != nil {
			t.Fatal(err)
		}
		_, err = s.directRow()
		var usage usageError
		want := "usage: " + test.how + " --add-rule { ipv4 | ipv6 | eb } <table> <chain> <priority> <args>"
		if !errors.As(err, &usage) || usage.said != want || !usage.alone {
			t.Errorf("%s %s: %+v, not %q", test.program, test.args, err, want)
		}
	}
}

// An option whose value is a name that is empty is one that is not there.
func TestEmptyName(t *testing.T) {
	for _, args := range []string{"--info-zone=", "--permanent --path-service=", "--set-default-zone="} {
		var out, errs bytes.Buffer
		status := Online(split(args), nil, &out, &errs)
		if status != 2 || !strings.Contains(errs.String(), "No options specified\n"+usageLine[online]+"\nhint: ") {
			t.Errorf("%s: exit %d, and\n%s", args, status, errs.String())
		}
	}
}

// TestCombine has command lines of options that cannot be combined, and a part of what is said about them.
func TestCombine(t *testing.T) {
	for args, want := range map[string]string{
		"--state --zone=work":                        "--state stands alone",
		"--permanent --reload":                       "--reload stands alone",
		"--list-services --list-ports":               "only one thing at a time",
		"-q -v --list-all":                           "exclude each other",
		"--new-zone=x":                               "only with --permanent",
		"--get-target":                               "only with --permanent",
		"--service=ssh --add-port=1/tcp":             "only with --permanent",
		"--zone=work --policy=x --list-all":          "--zone and --policy exclude each other",
		"--zone=work --add-ingress-zone=home":        "--add-ingress-zone cannot be used with --zone",
		"--policy=x --add-interface=eth0":            "--add-interface cannot be used with --policy",
		"--add-ingress-zone=home":                    "say which with --policy",
		"--add-entry=192.0.2.1":                      "say which with --ipset",
		"--permanent --icmptype=x --add-service=ssh": "--add-service cannot be used with --icmptype",
		"--policy-set=gateway --list-all":            "--list-all cannot be used with --policy-set",
		"--get-all-chains":                           "only with --direct",
		"--direct --list-all":                        "cannot be used with --direct",
		"--list-all --timeout=5":                     "--timeout is for options that add",
		"--timeout=5":                                "--timeout is for options that add",
		"--permanent --add-service=ssh --timeout=5":  "files do not expire",
		"--add-service=ssh --timeout=5d":             `"5d" is no timeout`,
		"--add-service=ssh --timeout=999999h":        "too long",
		"--list-all --name=x":                        "--name can be used only with",
		"--add-service=ssh --json":                   "--json is for listings",
	} {
		found, order, err := parse(optionsOf(online), split(args))
		if err == nil {
			s := &session{program: online, given: found, order: order, out: &output{}}
			s.out.quiet, s.out.verbose = s.has("quiet"), s.has("verbose")
			err = s.understand()
		}
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, which does not say %q", args, err, want)
		}
	}
}

func TestTimeout(t *testing.T) {
	for value, want := range map[string]int32{"0": 0, "300": 300, "10S": 10, "5m": 300, "1H": 3600} {
		found, order, err := parse(optionsOf(online), []string{"--add-service=ssh", "--timeout=" + value})
		if err != nil {
			t.Fatal(err)
		}
		s := &session{program: online, given: found, order: order, out: &output{}}
		if err := s.understand(); err != nil || s.timeout != want {
			t.Errorf("--timeout=%s is %d seconds (%v), not %d", value, s.timeout, err, want)
		}
	}
}

// TestTable holds the rows of the table together: names are unique, every verb is there, every item is one of its object.
func TestTable(t *testing.T) {
	for _, p := range []program{online, offline} {
		seen := map[string]bool{}
		for _, o := range optionsOf(p) {
			if seen[o.name] {
				t.Errorf("%s has --%s twice", p, o.name)
			}
			seen[o.name] = true
			if o.do != "" && verbs[o.do] == nil {
				t.Errorf("--%s does %q, which is no verb", o.name, o.do)
			}
			if o.help == "" || strings.HasSuffix(o.help, ".") {
				t.Errorf("the help of --%s is empty or ends in a full stop: %q", o.name, o.help)
			}
			if (o.arg == "") != (o.takes == nothing) {
				t.Errorf("--%s has %q as the name of its value, which does not fit how many it takes", o.name, o.arg)
			}
			for _, named := range objectOptions {
				if !o.use.has(named.use) || o.item == "" || named.name == "policy-set" {
					continue
				}
				key := o.item
				switch {
				case named.name == "icmptype" && key == "destination":
					key = "destinations"
				case named.name == "zone" && key == "priority": // stands for both of a zone's
					key = "ingress_priority"
				}
				if !slices.ContainsFunc(kindOf(named.name).fields, func(f field) bool { return f.key == key }) {
					t.Errorf("--%s is about %s, which a %s does not have", o.name, key, named.name)
				}
			}
		}
	}
	for _, name := range []string{"add-service", "list-all", "new-zone", "direct", "check-config"} {
		for _, p := range []program{online, offline} {
			if !slices.ContainsFunc(optionsOf(p), func(o *option) bool { return o.name == name }) {
				t.Errorf("%s has no --%s", p, name)
			}
		}
	}
}

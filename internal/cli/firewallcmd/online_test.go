package firewallcmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// dictionary is a D-Bus dictionary a{sv}.
func dictionary(pairs ...any) map[string]dbus.Variant {
	m := map[string]dbus.Variant{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = dbus.MakeVariant(pairs[i+1])
	}
	return m
}

// answers are those of a firewall with the zones public and work, the policy gate and the ipset set.
func answers() map[string]any {
	zone := dictionary("target", "default", "short", "Public", "services", []string{"ssh", "dhcpv6-client"},
		"ports", []pair{{"8080", "tcp"}, {"53", "udp"}}, "masquerade", true, "forward", true, "forward_ports", []quad{{"80", "tcp", "8080", ""}},
		"rules_str", []string{"rule service name=\"http\" accept", "rule priority=\"-5\" service name=\"ftp\" accept"},
		"ingress_priority", int32(3), "egress_priority", int32(-4))
	active := map[string]map[string][]string{"work": {"interfaces": {"eth0"}, "sources": {"192.0.2.0/24"}}, "public": {"interfaces": {}, "sources": {}}}
	return map[string]any{
		".zone.getZones": []string{"work", "public"}, ".zone.getActiveZones": active, ".zone.getZoneSettings2": zone,
		".zone.getPorts": [][]string{{"8080", "tcp"}, {"53", "udp"}, {"53", "tcp"}}, ".zone.getServices": []string{"ssh", "http"},
		".zone.queryService": true, ".zone.queryMasquerade": false, ".zone.addService": errors.New("ALREADY_ENABLED: 'ssh' already in 'public'"),
		".zone.addPort": "public", ".zone.addProtocol": errors.New("INVALID_PROTOCOL: nosuch"), ".zone.getZoneOfInterface": "work",
		".policy.getPolicySettings": dictionary("services", []string{"ssh"}, "priority", int32(-1), "ports", []pair{{"80-82", "tcp"}}), ".policy.getActivePolicies": map[string]map[string][]string{},
		".config.getZoneByName": configPath + "/zone/0", ".config.getServiceByName": configPath + "/service/0",
		".config.zone.getSettings2": zone, ".config.service.getSettings2": dictionary("ports", []pair{{"80", "tcp"}}),
		".direct.getAllRules": []struct {
			IPV, Table, Chain string
			Priority          int32
			Args              []string
		}{{"ipv4", "filter", "INPUT", 0, []string{"-m", "comment", "--comment", "a b"}}},
		"org.freedesktop.DBus.Properties.Get": dbus.MakeVariant("RUNNING"),
	}
}

// TestOnline runs command lines against a firewall that answers as in answers.
func TestOnline(t *testing.T) {
	tests := []struct {
		args   string // the words of the command line, separated by blanks
		calls  string // what the firewall is asked, after what makes listings complete; "" where it does not matter
		stdout string
		stderr string
		status int
	}{
		{args: "--state", stdout: "running\n"},
		{args: "--get-default-zone", calls: "getDefaultZone[]", stdout: "public\n"},
		{args: "--get-zones", stdout: "public work\n"},
		{args: "--get-zones --json", stdout: "[\n  \"public\",\n  \"work\"\n]\n"},
		{args: "--get-active-zones", stdout: "work\n  interfaces: eth0\n  sources: 192.0.2.0/24\npublic (default)\n"},
		{args: "--list-ports", calls: "zone.getPorts[]", stdout: "53/tcp 8080/tcp 53/udp\n"},
		{args: "--list-services", stdout: "http ssh\n"},
		{args: "-v --list-services", stdout: "No zone specified, using default zone, i.e. 'public'\nhttp ssh\n"},
		{args: "--zone=work --add-port=80/tcp --timeout=2m", calls: "zone.addPort[work 80 tcp 120]", stdout: "success\n"},
		{args: "--add-service=ssh", stdout: "success\n", stderr: "Warning: ALREADY_ENABLED: 'ssh' already in 'public'\n"},
		{args: "-q --add-service=ssh"},
		{args: "--add-protocol=nosuch", stderr: "Error: INVALID_PROTOCOL: nosuch\n", status: 103},
		{
			args: "--add-port=80 --add-port=81/tcp", calls: "zone.addPort[ 81 tcp 0]", stdout: "success\n",
			stderr: "Warning: INVALID_PORT: bad port (most likely missing protocol), correct syntax is portid[-portid]/protocol\n",
		},
		{args: "--query-service=ssh", stdout: "yes\n"},
		{args: "--query-service=ssh --query-service=http", stdout: "'ssh': yes\n'http': yes\n"},
		{args: "--query-masquerade", stdout: "no\n", status: 1},
		{args: "--query-masquerade --query-masquerade", stdout: "no\n", status: 1},
		{args: "--zone=work --change-interface=eth0", calls: "zone.changeZoneOfInterface[work eth0]", stdout: "success\n"},
		{args: "--get-zone-of-interface=eth0", stdout: "work\n"},
		{args: "--get-zone-of-interface=eth0 --get-zone-of-interface=eth1", stdout: "success\n", stderr: "eth0: work\neth1: work\n"},
		{args: "--add-forward", calls: `zone.setZoneSettings2[ map[forward:true]]`, stdout: "success\n"},
		{args: "--policy=gate --add-service=http", calls: "policy.setPolicySettings[gate map[services:[\"ssh\", \"http\"]]]", stdout: "success\n"},
		{args: "--policy=gate --add-service=ssh", stdout: "success\n", stderr: "Warning: ALREADY_ENABLED: ssh\n"},
		{args: "--permanent --zone=work --add-service=http", calls: "config.zone.addService[http]", stdout: "success\n"},
		{args: "--policy=gate --query-port=81/tcp", stdout: "yes\n"},
		{args: "--policy=gate --remove-port=81/tcp", calls: `policy.setPolicySettings[gate map[ports:[["80", "tcp"], ["82", "tcp"]]]]`, stdout: "success\n"},
		{args: "--policy=gate --add-port=81/tcp", stdout: "success\n", stderr: "Warning: ALREADY_ENABLED: '81:tcp'\n"},
		{args: "--permanent --service=app --remove-destination=ipv4", stderr: "Error: NOT_ENABLED: 'ipv4'\n", status: 12},
		{args: "--permanent --new-helper=h --module=ftp", stderr: "Error: INVALID_MODULE: 'ftp' does not start with 'nf_conntrack_'\n", status: 132},
		{args: "--permanent --service=app --add-port=81/tcp", calls: `config.service.update2[map[ports:[["80", "tcp"], ["81", "tcp"]]]]`, stdout: "success\n"},
		{args: "--permanent --zone=work --set-target=REJECT", calls: `config.zone.update2[map[target:"%%REJECT%%"]]`, stdout: "success\n"},
		{args: "--permanent --get-priority", stderr: "Error: INVALID_PRIORITY: ingress and egress priorities of zone public differ: 3 and -4; see --get-ingress-priority and --get-egress-priority\n", status: 139},
		{args: "--permanent --new-zone=mine", calls: "config.addZone2[mine map[forward:false]]", stdout: "success\n"},
		{args: "--permanent --new-ipset=set --type=hash:ip --option=timeout=60", calls: "config.addIPSet[set [   hash:ip map[timeout:60] []]]", stdout: "success\n"},
		{args: "--reload", calls: "reload[]", stdout: "success\n"},
		{args: "--direct --get-all-rules", stdout: "ipv4 filter INPUT 0 -m comment --comment 'a b'\n"},
		{args: "--direct --add-rule ipv4 filter INPUT -5 -j ACCEPT --permanent", calls: "direct.addRule[ipv4 filter INPUT -5 [-j ACCEPT --permanent]]", stdout: "success\n"},
		{args: "--lockdown-on", stderr: "Lockdown feature is deprecated and removed.\n"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			bus := startBus(t, answers())
			var stdout, stderr strings.Builder
			status := Online(strings.Fields(test.args), strings.NewReader(""), &stdout, &stderr)
			if status != test.status || stdout.String() != test.stdout || stderr.String() != test.stderr {
				t.Errorf("exit status %d, not %d\nstdout %q\n   not %q\nstderr %q\n   not %q", status, test.status,
					stdout.String(), test.stdout, stderr.String(), test.stderr)
			}
			calls := bus.seen()
			if test.calls != "" && (len(calls) == 0 || calls[len(calls)-1] != test.calls) {
				t.Errorf("calls %q, the last of which is not %q", calls, test.calls)
			}
		})
	}
}

// Panic mode is not a state of firewalld's, and neither is that new connections are kept out: beside running or failed, which scripts read
// on firewalld's channel, hints name them.
func TestWhatIsSaidBesideTheState(t *testing.T) {
	const hints = "hint: panic mode is on: every packet is dropped until firewall-cmd --panic-off\n"
	for _, c := range []struct {
		args, state    string
		stdout, stderr string
		status         int
	}{
		{"--state", "RUNNING", "running\n", hints + "hint: new connections wait\n", 0},
		{"--state --quiet", "RUNNING", "", "", 0},
		{"--state", "FAILED", "", "failed\n" + hints + "hint: a line\nhint: new connections wait\n", 251},
	} {
		bus := startBus(t, answers())
		bus.answers["org.freedesktop.DBus.Properties.Get"], bus.answers[".queryPanicMode"] = dbus.MakeVariant(c.state), true
		bus.answers[".richwall.getFailures"], bus.answers[".richwall.getNotices"] = []string{"a line"}, []string{"new connections wait"}
		var stdout, stderr strings.Builder
		status := Online(strings.Fields(c.args), nil, &stdout, &stderr)
		if status != c.status || stdout.String() != c.stdout || stderr.String() != c.stderr {
			t.Errorf("%s in %s: exit status %d, stdout %q, stderr %q", c.args, c.state, status, stdout.String(), stderr.String())
		}
	}
}

// TestHints prints what the daemon knows of a refusal beyond firewalld's words, behind these, a line each.
func TestHints(t *testing.T) {
	bus := answers()
	bus[".zone.addSource"], bus[".richwall.getHints"] = errors.New("INVALID_ADDR: nosuch"), []string{"zones/a.xml:1:2: what is wrong", "nosuch\nis no address"}
	startBus(t, bus)
	const hints = "hint: zones/a.xml:1:2: what is wrong\nhint: nosuch\\nis no address\n"
	for args, want := range map[string]string{
		"--add-source=nosuch":                     "Error: INVALID_ADDR: nosuch\n" + hints,
		"-q --add-source=nosuch":                  "",
		"--add-source=nosuch --add-source=nosuch": strings.Repeat("Warning: INVALID_ADDR: nosuch\n"+hints, 2),
	} {
		var stdout, stderr strings.Builder
		if status := Online(strings.Fields(args), nil, &stdout, &stderr); status != 105 || stderr.String() != want {
			t.Errorf("%s: exit status %d, stderr %q, want %q", args, status, stderr.String(), want)
		}
	}
}

// TestHintsOfACheck prints where a mistake in the files is to a person at a terminal. Programs that read what --check-config prints compare
// firewalld's line: where that names the object they get it alone.
func TestHintsOfACheck(t *testing.T) {
	for said, always := range map[string]bool{"INVALID_SERVICE: Zone 'q': 'sshh' not among existing services": false, "INVALID_ADDR: nosuch": true} {
		bus := answers()
		bus[".checkPermanentConfig"], bus[".richwall.getHints"] = errors.New(said), []string{"zones/q.xml:2:3: what is wrong"}
		startBus(t, bus)
		const hint = "hint: zones/q.xml:2:3: what is wrong"
		var stdout, stderr strings.Builder
		Online([]string{"--check-config"}, nil, &stdout, &stderr)
		if got := stderr.String(); !strings.HasPrefix(got, "Error: "+said+"\n") || strings.Contains(got, hint) != always {
			t.Errorf("a program is told %q", got)
		}
		if got := onTerminal(t, func(w io.Writer) { Online([]string{"--check-config"}, nil, &stdout, w) }); !strings.Contains(got, "Error: "+said) || !strings.Contains(got, hint) {
			t.Errorf("a person is told %q", got)
		}
	}
}

// What a load of the files passes over is said to a person at a terminal who has them checked, and to no program.
func TestRemarksOfACheck(t *testing.T) {
	bus := answers()
	bus[".checkPermanentConfig"], bus[".richwall.getRemarks"] = nil, []string{"firewalld.conf:1:1: INVALID_OPTION: warning: unknown key Foo"}
	startBus(t, bus)
	const hint = "hint: firewalld.conf:1:1: INVALID_OPTION: warning: unknown key Foo"
	var stdout, stderr strings.Builder
	if status := Online([]string{"--check-config"}, nil, &stdout, &stderr); status != 0 || stdout.String() != "success\n" || stderr.String() != "" {
		t.Errorf("a program is told %d, %q, %q", status, &stdout, &stderr)
	}
	if got := onTerminal(t, func(w io.Writer) { Online([]string{"--check-config"}, nil, &stdout, w) }); !strings.Contains(got, hint) {
		t.Errorf("a person is told %q", got)
	}
}

// What an order has written over is said behind it, and behind no listing.
func TestRemarksOfAChange(t *testing.T) {
	bus := answers()
	bus[".richwall.getRemarks"] = []string{"zones/work.xml was changed by somebody else"}
	startBus(t, bus)
	for args, want := range map[string]string{
		"--permanent --zone=work --add-service=http":    "hint: zones/work.xml was changed by somebody else\n",
		"-q --permanent --zone=work --add-service=http": "",
		"--permanent --zone=work --list-all":            "",
	} {
		var stdout, stderr strings.Builder
		if status := Online(strings.Fields(args), nil, &stdout, &stderr); status != 0 || stderr.String() != want {
			t.Errorf("%s: exit status %d, stderr %q, want %q", args, status, stderr.String(), want)
		}
	}
}

// onTerminal is what is written to a terminal.
func onTerminal(t *testing.T, write func(io.Writer)) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	write(terminal)
	terminal.Close()
	data, _ := io.ReadAll(master) // ends with an error, as nobody has the terminal open any more
	return string(data)
}

// TestFailed says behind a listing that it is not what the files say.
func TestFailed(t *testing.T) {
	bus := answers()
	bus["org.freedesktop.DBus.Properties.Get"] = dbus.MakeVariant("FAILED")
	startBus(t, bus)
	for args, hint := range map[string]bool{"--permanent --zone=work --list-all": true, "--zone=work --list-all": false, "--permanent --zone=work --add-service=http": false} {
		var stdout, stderr strings.Builder
		if status := Online(strings.Fields(args), nil, &stdout, &stderr); status != 0 || strings.HasPrefix(stderr.String(), "hint: the state is failed: ") != hint {
			t.Errorf("%s: exit status %d, stderr %q", args, status, stderr.String())
		}
	}
}

// TestListing shows all that a listing has: sorted services, ports as they are, rules by priority.
func TestListing(t *testing.T) {
	startBus(t, answers())
	var stdout strings.Builder
	Online([]string{"--list-all", "--verbose"}, nil, &stdout, &stdout)
	want := `No zone specified, using default zone, i.e. 'public'
public (default, active)
  summary: Public
  description: 
  target: default
  ingress-priority: 3
  egress-priority: -4
  icmp-block-inversion: no
  interfaces: 
  sources: 
  services: dhcpv6-client ssh
  ports: 8080/tcp 53/udp
  protocols: 
  forward: yes
  masquerade: yes
  forward-ports: 
	port=80:proto=tcp:toport=8080:toaddr=
  source-ports: 
  icmp-blocks: 
  rich rules: 
	rule priority="-5" service name="ftp" accept
	rule service name="http" accept
`
	if stdout.String() != want {
		t.Errorf("--list-all --verbose prints\n%s\nnot\n%s", stdout.String(), want)
	}
}

// TestNotRunning waits for a daemon ten times, then gives up; the exit status is that of NOT_RUNNING.
func TestNotRunning(t *testing.T) {
	for args, last := range map[string]string{"--state": "not running\n", "--list-all": "FirewallD is not running\n"} {
		startBus(t, map[string]any{"org.freedesktop.DBus.NameHasOwner": false})
		waited := 0
		sleep = func(time.Duration) { waited++ }
		defer func() { sleep = time.Sleep }()
		var stdout, stderr strings.Builder
		status := Online([]string{args}, nil, &stdout, &stderr)
		if status != 252 || waited != attempts || !strings.HasSuffix(stderr.String(), last) || stdout.String() != "" {
			t.Errorf("%s: exit status %d after waiting %d times, stdout %q, stderr %q", args, status, waited, stdout.String(), stderr.String())
		}
	}
}

// TestStarting finds a daemon that comes up while it waits.
func TestStarting(t *testing.T) {
	bus := startBus(t, answers())
	bus.answers["org.freedesktop.DBus.NameHasOwner"] = false
	sleep = func(time.Duration) {
		bus.mu.Lock()
		defer bus.mu.Unlock()
		bus.answers["org.freedesktop.DBus.NameHasOwner"] = true
	}
	defer func() { sleep = time.Sleep }()
	var stdout, stderr strings.Builder
	if status := Online([]string{"--get-default-zone"}, nil, &stdout, &stderr); status != 0 || stdout.String() != "public\n" {
		t.Errorf("exit status %d, stdout %q, stderr %q", status, stdout.String(), stderr.String())
	}
}

// TestNoBus exits with the number of DBUS_ERROR, as firewalld does, and in its words.
func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	var stderr strings.Builder
	said := regexp.MustCompile(`^Error: DBUS_ERROR: Failed to connect to socket /.*/none: No such file or directory\nhint: .*its rules stay in force.*\n$`)
	if status := Online([]string{"--state"}, nil, &stderr, &stderr); status != 36 || !said.MatchString(stderr.String()) {
		t.Errorf("exit status %d: %s", status, stderr.String())
	}
}

// A daemon that does not answer, such as one that was stopped by a debugger, is waited for some time, and no longer.
func TestDaemonThatDoesNotAnswer(t *testing.T) {
	bus := startBus(t, answers())
	frozen := make(chan struct{})
	defer close(frozen)
	bus.answers["org.freedesktop.DBus.Properties.Get"] = func([]any) any { <-frozen; return nil }
	propertyTime = 50 * time.Millisecond
	defer func() { propertyTime = 25 * time.Second }()
	var stderr strings.Builder
	if status := Online([]string{"--state"}, nil, &stderr, &stderr); status != 36 || !strings.Contains(stderr.String(), "has not answered for 50ms") {
		t.Errorf("exit status %d: %s", status, stderr.String())
	}
}

// What there is to say besides is not waited for as long as an answer: the refusal is printed without it, and success, too.
func TestHintsThatDoNotCome(t *testing.T) {
	hintTime = 50 * time.Millisecond
	defer func() { hintTime = 2 * time.Second }()
	for method, want := range map[string]struct {
		option, call string
		answer       any
		status       int
		text         string
	}{
		"getHints":   {"--panic-off", "disablePanicMode", errors.New("COMMAND_FAILED: not done yet"), 13, "Error: COMMAND_FAILED: not done yet\n"},
		"getRemarks": {"--check-config", "checkPermanentConfig", nil, 0, "success\n"},
	} {
		bus := startBus(t, answers())
		frozen := make(chan struct{})
		bus.answers["."+want.call] = want.answer
		bus.answers[".richwall."+method] = func([]any) any { <-frozen; return nil }
		ended := make(chan int, 1)
		var said strings.Builder
		go func() { ended <- Online([]string{want.option}, nil, &said, &said) }()
		select {
		case status := <-ended:
			if status != want.status || said.String() != want.text {
				t.Errorf("%s: exit status %d: %q", method, status, said.String())
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s is waited for", method)
		}
		close(frozen)
	}
}

// hostile is what a file or another program may have put in place of any text.
const hostile = "name\x1b[2J\x1b]0;title\x07\u009b31m\u202e\u2066\u2028\r\x7fsuccess"

// TestWhatOthersWroteIsHarmlessOnATerminal runs listings against a firewall all of whose texts are hostile. A description alone keeps its
// line breaks, as firewalld prints them.
func TestWhatOthersWroteIsHarmlessOnATerminal(t *testing.T) {
	lines := hostile + "\nline"
	object := dictionary("target", lines, "short", lines, "description", lines, "services", []string{lines}, "interfaces", []string{lines},
		"ports", []pair{{lines, lines}}, "forward_ports", []quad{{lines, lines, lines, lines}}, "rules_str", []string{lines},
		"type", lines, "options", map[string]string{lines: lines}, "entries", []string{lines}, "destination", map[string]string{lines: lines})
	set := struct {
		Version, Short, Description, Type string
		Options                           map[string]string
		Entries                           []string
	}{lines, lines, lines, lines, map[string]string{lines: lines}, []string{lines}}
	active := map[string]map[string][]string{lines: {
		"interfaces": {lines}, "sources": {lines}, "ingress_zones": {lines}, "egress_zones": {lines},
	}}
	rows := []struct {
		IPV, Table, Chain string
		Priority          int32
		Args              []string
	}{{lines, lines, lines, 0, []string{lines, lines}}}
	startBus(t, map[string]any{
		".getDefaultZone": lines, ".zone.getZones": []string{lines}, ".zone.getActiveZones": active, ".policy.getActivePolicies": active,
		".policy.getPolicies": []string{lines}, ".zone.getZoneSettings2": object, ".policy.getPolicySettings": object, ".getServiceSettings2": object,
		".zone.getServices": []string{lines}, ".zone.getInterfaces": []string{lines}, ".zone.getZoneOfInterface": lines, ".listServices": []string{lines},
		".ipset.getIPSets": []string{lines}, ".ipset.getIPSetSettings": set, ".ipset.getEntries": []string{lines}, ".direct.getAllRules": rows,
		".direct.passthrough": lines, ".zone.addService": errors.New(lines), ".getLogDenied": lines,
		"org.freedesktop.DBus.Properties.Get": dbus.MakeVariant("RUNNING"),
	})
	for _, args := range [][]string{
		{"--get-default-zone"}, {"--get-zones"}, {"--get-active-zones"}, {"--get-active-policies"}, {"--get-policies"}, {"--get-services"}, {"--get-ipsets"},
		{"--zone=a", "--list-all"}, {"--zone=a", "--list-all", "--verbose"}, {"--zone=a", "--list-services"}, {"--zone=a", "--list-interfaces"},
		{"--get-zone-of-interface=eth0"}, {"--get-zone-of-interface=eth0", "--get-zone-of-interface=eth1"}, {"--info-policy=a"}, {"--info-service=a"},
		{"--info-ipset=a"}, {"--ipset=a", "--get-entries"}, {"--direct", "--get-all-rules"}, {"--direct", "--passthrough", "ipv4", "-S"},
		{"--zone=a", "--add-service=b"}, {"--get-log-denied"}, {"--" + lines}, {"--zone=a", "--add-port=" + lines + "/tcp"},
		{"--json", "--get-zones"}, {"--json", "--info-policy=a"}, {"--json", "--direct", "--get-all-rules"}, {"--json", "--get-active-zones"},
	} {
		var out strings.Builder
		status := Online(args, strings.NewReader(""), &out, &out)
		if !strings.Contains(out.String(), "name") {
			t.Errorf("%q ends with %d and shows nothing of the text: %q", args, status, out.String())
		}
		for _, c := range out.String() {
			if unicode.IsControl(c) && c != '\n' && c != '\t' || unicode.In(c, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
				t.Errorf("%q prints %U: %q", args, c, out.String())
				break
			}
		}
		if args[0] == "--json" {
			var value any
			if err := json.Unmarshal([]byte(out.String()), &value); err != nil || !strings.Contains(fmt.Sprint(value), hostile) {
				t.Errorf("%q is no JSON of the text: %v: %s", args, err, out.String())
			}
		}
	}
}

// TestOneValueIsOneLine shows a name with a line break in it, which must not look like two names.
func TestOneValueIsOneLine(t *testing.T) {
	bus := answers()
	bus[".zone.getZones"] = []string{"a\nb"}
	bus[".zone.getServices"] = []string{"c\nd", "e"}
	startBus(t, bus)
	var out strings.Builder
	Online([]string{"--get-zones"}, nil, &out, &out)
	Online([]string{"--list-services"}, nil, &out, &out)
	if want := "a\\nb\nc\\nd e\n"; out.String() != want {
		t.Errorf("the listings are %q, want %q", out.String(), want)
	}
}

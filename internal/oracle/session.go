package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// step is one thing that a session does on both sides.
type step struct {
	verb      string   // $ for firewall-cmd, offline for firewall-offline-cmd, dbus, restart
	words     []string // the arguments of a command
	object    string   // of the bus, below busPath
	method    string
	args      []string // as GVariant's text
	signature string
	wrong     int // how many values are nearly valid or of no use
}

// bare is what a string must be for gdbus to take it as one without quotes.
var bare = regexp.MustCompile(`^[a-z0-9][-a-z0-9_/]*$`)

// String is the step as a scenario has it.
func (s step) String() string {
	switch s.verb {
	case "dbus":
		args := make([]string, len(s.args))
		for i, arg := range s.args {
			args[i] = arg
			if word := strings.Trim(arg, "'"); s.signature[:min(len(s.signature), len(s.args))] == strings.Repeat("s", len(s.args)) && bare.MatchString(word) {
				args[i] = word
			}
		}
		if kind, name, ok := s.named(); ok {
			path := `$(gdbus call --system --dest ` + busName + ` --object-path ` + busPath + `/config --method ` + busName + ".config.get" + objects[kind] + "ByName " + quoted(name) + ` | cut -d\' -f2)`
			return strings.TrimRight("sh gdbus call --system --dest "+busName+" --object-path "+path+" --method "+s.method+" "+joined(args), " ")
		}
		if s.method == properties+".Get" || s.method == properties+".Set" {
			return strings.TrimRight("sh gdbus call --system --dest "+busName+" --object-path "+strings.TrimSuffix(busPath+"/"+s.object, "/")+" --method "+s.method+" "+joined(args), " ")
		}
		object := s.object
		if object == "" {
			object = "/"
		}
		return strings.TrimRight("dbus "+object+" "+strings.TrimPrefix(s.method, busName+".")+" "+joined(args), " ")
	case "restart":
		return "restart"
	}
	return s.verb + " " + joined(s.words)
}

// named are the kind and the name of the permanent object that a step is about, if it is about one. It is found by its name,
// since firewalld gives the objects other numbers at each reload.
func (s step) named() (kind, name string, ok bool) {
	rest, ok := strings.CutPrefix(s.object, "config/")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// shape is the step without its values: what differs in the same way in steps of one shape is taken for the same difference.
func (s step) shape() string {
	if s.verb == "dbus" {
		return "dbus " + s.method
	}
	out := s.verb
	for _, word := range s.words {
		name, _, _ := strings.Cut(word, "=")
		if strings.HasPrefix(name, "-") {
			out += " " + name
		}
	}
	return out
}

// uses are the options, or the method or property, of a step, each behind the verb.
func (s step) uses() (out []string) {
	if strings.HasPrefix(s.method, properties) {
		return []string{"dbus " + s.method + " " + strings.Join(s.args[:2], " ")}
	}
	for _, option := range longOption.FindAllString(strings.Join(s.words, " "), -1) {
		out = append(out, s.verb+" "+option)
	}
	if s.verb == "dbus" {
		out = append(out, "dbus "+s.method)
	}
	return out
}

// settles is true of a step after which what is in effect is what a start makes of the files.
func (s step) settles() bool {
	return s.verb == "restart" || s.verb == "$" && slices.Equal(s.words, []string{"--reload"}) || s.verb == "dbus" && s.method == busName+".reload"
}

// session is what both sides begin with, and what they do then.
type session struct {
	seed    uint64
	backend string
	level   int               // of load
	conf    map[string]string // lines of firewalld.conf that are not the shipped ones
	steps   []step
}

// reloading are the words of steps that firewalld reloads for.
var reloading = []string{"reload", "setDefaultZone", "set-default-zone", "setLogDenied", "set-log-denied", "resetToDefaults", "reset-to-defaults", "completeReload"}

// reloads is true of a step that firewalld reloads for.
func (s step) reloads() bool {
	text := s.String()
	return s.verb == "restart" || slices.ContainsFunc(reloading, func(word string) bool { return s.verb != "offline" && strings.Contains(text, word) })
}

// resets is true of a step that takes the shipped configuration.
func (s step) resets() bool {
	return s.verb == "$" && slices.Contains(s.words, "--reset-to-defaults") || strings.HasSuffix(s.method, ".resetToDefaults")
}

// savesConf is true of a step that writes firewalld.conf from what firewalld has in memory.
func (s step) savesConf() bool {
	text := strings.ToLower(strings.ReplaceAll(s.String(), "-", ""))
	return s.verb != "offline" && (strings.Contains(text, "setlogdenied") || strings.Contains(text, "setdefaultzone"))
}

// times is true of a step that gives something a timeout, and saves of one that saves what runs.
func (s step) times() bool {
	return strings.Contains(s.String(), "--timeout=") || s.verb == "dbus" && slices.Contains(s.args, "3600")
}

func (s step) saves() bool {
	return slices.Contains(s.words, "--runtime-to-permanent") || strings.HasSuffix(s.method, ".runtimeToPermanent")
}

// several is true of a call that changes several settings of an object at runtime.
func (s step) several() bool {
	return strings.HasSuffix(s.method, ".setZoneSettings2") || strings.HasSuffix(s.method, ".setPolicySettings")
}

// replacesDirect is true of a step that changes the permanent direct interface, which firewalld does by giving all of it: firewall-cmd, too, for each
// change of it.
func (s step) replacesDirect() bool {
	return slices.ContainsFunc([]string{"update", "addRule", "addChain"}, func(name string) bool { return strings.HasSuffix(s.method, ".config.direct."+name) }) ||
		s.verb == "$" && slices.Contains(s.words, "--permanent") && slices.Contains(s.words, "--direct")
}

// links are the interfaces that the namespaces have.
var links = []string{"eth0", "eth1", "eth2"}

// newSession is the session of a seed.
func newSession(seed uint64, backend string, level, steps int, methods []method, files string) *session {
	s := newSource(seed)
	out := &session{seed: seed, backend: backend, level: level, conf: map[string]string{}}
	if s.chance(0.3) {
		for key, choice := range map[string]string{"CleanupOnExit": "yes no", "FlushAllOnReload": "yes no", "LogDenied": "off all unicast", "IPv6_rpfilter": "strict loose no", "RFC3964_IPv4": "yes no", "StrictForwardPorts": "no yes", "IndividualCalls": "no yes", "ReloadPolicy": "DROP ACCEPT INPUT:REJECT,FORWARD:ACCEPT"} {
			out.conf[key] = choice
		}
		// The order of a map is random, that of the seed's numbers must not be.
		for _, key := range []string{"CleanupOnExit", "FlushAllOnReload", "LogDenied", "IPv6_rpfilter", "RFC3964_IPv4", "StrictForwardPorts", "IndividualCalls", "ReloadPolicy"} {
			out.conf[key] = s.pick(strings.Fields(out.conf[key])...)
		}
	}
	for len(out.steps) < steps {
		s.mood = []mood{careful, careful, careful, careless, careless, hostile}[s.IntN(6)]
		s.wrong = 0
		st := s.step(methods, files)
		st.wrong = s.wrong
		out.steps = append(out.steps, st)
		if st.verb == "offline" { // or the daemon of firewalld writes what it has in memory over what was changed
			out.steps = append(out.steps, step{verb: "$", words: []string{"--reload"}})
		}
	}
	return out
}

// step is a random step.
func (s *source) step(methods []method, files string) step {
	switch p := s.Float64(); {
	case p < 0.01:
		return step{verb: "restart"}
	case p < 0.04:
		return step{verb: "offline", words: s.command(offlines, true, files)}
	case p < 0.33:
		return step{verb: "$", words: s.command(commands, false, files)}
	}
	return s.call(methods)
}

// scenario is the session as a text in the form of a scenario.
func (s *session) scenario() string {
	var b strings.Builder
	fmt.Fprintf(&b, "backend %s\n", s.backend)
	for _, key := range slices.Sorted(keysOf(s.conf)) {
		fmt.Fprintf(&b, "conf %s=%s\n", key, s.conf[key])
	}
	fmt.Fprintf(&b, "link %s\n", strings.Join(links, " "))
	if s.level > 0 {
		fmt.Fprintf(&b, "# with the files of load level %d\n", s.level)
	}
	for _, step := range s.steps {
		b.WriteString(step.String() + "\n")
	}
	return b.String()
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// pair are both sides: reference and richwall.
type pair struct {
	sides       [2]*side
	shipped     string // firewalld.conf as it is shipped
	definitions string // the folder of the shipped definitions
}

// both does something on both sides at the same time.
func (p *pair) both(do func(i int, s *side) error) error {
	var errs [2]error
	done := make(chan struct{})
	go func() {
		errs[1] = do(1, p.sides[1])
		close(done)
	}()
	errs[0] = do(0, p.sides[0])
	<-done
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// begin starts both daemons with the files that the session begins with.
func (p *pair) begin(s *session) error {
	conf := p.shipped
	set := map[string]string{"FirewallBackend": s.backend, "NftablesTableOwner": "no"}
	for key, value := range s.conf {
		set[key] = value
	}
	for key, value := range set {
		conf = withSetting(conf, key, value)
	}
	files := load(s.level)
	files["firewalld.conf"] = conf
	return p.both(func(_ int, side *side) error {
		if err := side.reset(files, links); err != nil {
			return err
		}
		return side.start()
	})
}

// withSetting is a firewalld.conf with another value for a key.
func withSetting(conf, key, value string) string {
	lines := strings.Split(conf, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, key+"=") {
			lines[i] = key + "=" + value
			return strings.Join(lines, "\n")
		}
	}
	return conf + "\n" + key + "=" + value + "\n"
}

// do does a step on both sides.
func (p *pair) do(st step) (out [2]outcome, err error) {
	err = p.both(func(i int, s *side) (err error) {
		out[i], err = s.do(st)
		return err
	})
	return out, err
}

// do does a step on one side.
func (s *side) do(st step) (outcome, error) {
	defer s.clock(st.verb)()
	switch st.verb {
	case "$":
		return s.run(append(append([]string{}, s.client...), st.words...)...)
	case "offline":
		return s.run(append(append(append([]string{}, s.offline...), "--system-config", s.inside+"/etc"), st.words...)...)
	case "restart":
		if err := s.stop(); err != nil {
			return outcome{}, err
		}
		return outcome{}, s.start()
	}
	args, err := values(strings.Join(st.args, " "), st.signature)
	if err != nil {
		return outcome{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	path := dbus.ObjectPath(strings.TrimSuffix(busPath+"/"+st.object, "/"))
	if kind, name, ok := st.named(); ok {
		call := s.conn.Object(busName, busPath+"/config").CallWithContext(ctx, busName+".config.get"+objects[kind]+"ByName", 0, name)
		if e, ok := call.Err.(dbus.Error); ok {
			return outcome{Exit: 1, Stderr: e.Name + ": " + strings.Join(rendered(e.Body, 0), ", ")}, nil
		} else if err := call.Store(&path); err != nil {
			return outcome{}, err
		}
	}
	call := s.conn.Object(busName, path).CallWithContext(ctx, st.method, 0, args...)
	if ctx.Err() != nil {
		return outcome{}, fmt.Errorf("%s does not answer within %v: %s", s.name, longest, st)
	}
	if e, ok := call.Err.(dbus.Error); ok {
		return outcome{Exit: 1, Stderr: e.Name + ": " + strings.Join(rendered(e.Body, 0), ", ")}, nil
	} else if call.Err != nil {
		return outcome{}, call.Err
	}
	return outcome{Stdout: strings.Join(rendered(call.Body, 0), ", "), sorted: strings.Join(rendered(call.Body, unordered(st.method)), ", ")}, nil
}

// text is an outcome as one text.
func (o outcome) text() string {
	out := fmt.Sprintf("exit %d", o.Exit)
	if text := strings.TrimRight(o.Stdout, "\n"); text != "" {
		out += "\n" + text
	}
	if text := strings.TrimRight(o.Stderr, "\n"); text != "" {
		out += "\nstderr: " + strings.ReplaceAll(text, "\n", "\nstderr: ")
	}
	return out
}

// writeFiles writes the files that commands name into a side's folder, where both see them under the same path.
func writeFiles(outside string) error {
	folder := filepath.Join(outside, "files")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"zone.xml":     "<zone target=\"DROP\">\n  <short>From a file</short>\n  <service name=\"ssh\"/>\n  <port port=\"4711\" protocol=\"tcp\"/>\n  <forward/>\n</zone>\n",
		"policy.xml":   "<policy target=\"CONTINUE\">\n  <ingress-zone name=\"ANY\"/>\n  <egress-zone name=\"HOST\"/>\n  <service name=\"http\"/>\n</policy>\n",
		"service.xml":  "<service>\n  <short>From a file</short>\n  <port port=\"4712\" protocol=\"udp\"/>\n</service>\n",
		"ipset.xml":    "<ipset type=\"hash:net\">\n  <entry>192.0.2.0/24</entry>\n</ipset>\n",
		"icmptype.xml": "<icmptype>\n  <destination ipv4=\"yes\"/>\n</icmptype>\n",
		"helper.xml":   "<helper module=\"nf_conntrack_ftp\">\n  <port port=\"2121\" protocol=\"tcp\"/>\n</helper>\n",
		"entries":      "192.0.2.1\n# a remark\n\n198.51.100.0/24\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// load are the files of a level of load: none, hundreds or thousands of rules and entries.
func load(level int) map[string]string {
	files := map[string]string{}
	if level == 0 {
		return files
	}
	rules := []int{0, 200, 2000}[level]
	var zone, set strings.Builder
	zone.WriteString("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<zone>\n  <service name=\"ssh\"/>\n")
	set.WriteString("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<ipset type=\"hash:ip\">\n")
	for i := range rules / 4 {
		fmt.Fprintf(&zone, "  <port port=\"%d\" protocol=\"tcp\"/>\n", 10000+2*i)
	}
	for i := range rules {
		fmt.Fprintf(&zone, "  <rule family=\"ipv4\">\n    <source address=\"10.%d.%d.%d\"/>\n    <port port=\"%d\" protocol=\"tcp\"/>\n    <accept/>\n  </rule>\n", i>>16&255, i>>8&255, i&255, 1024+i)
		fmt.Fprintf(&set, "  <entry>172.16.%d.%d</entry>\n", i>>8&255, i&255)
		fmt.Fprintf(&set, "  <entry>172.17.%d.%d</entry>\n", i>>8&255, i&255)
	}
	files["zones/work.xml"] = zone.String() + "  <source address=\"10.0.0.0/8\"/>\n  <forward/>\n</zone>\n"
	files["ipsets/ips.xml"] = set.String() + "</ipset>\n"
	return files
}

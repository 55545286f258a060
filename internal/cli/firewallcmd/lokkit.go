package firewallcmd

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"richwall/zones"
)

// lokkitOptions are the options of the program lokkit that system-config-firewall had, in the order in which they are
// followed, with what is done on the default zone.
var lokkitOptions = []struct {
	name    string
	field   string // of a zone
	message string // %s is the item
	remove  bool
}{
	{"remove-service", "services", "Removing service '%s' from default zone.", true},
	{"service", "services", "Adding service '%s' to default zone.", false},
	{"port", "ports", "Adding port '%s' to default zone.", false},
	{"trust", "interfaces", "Interface '%s' will be bound to zone 'trusted'.", false},
	{"masq", "masquerade", "Enabling masquerade for the default zone.", false},
	{"forward-port", "forward_ports", "Adding forward port %s to default zone.", false},
	{"block-icmp", "icmp_blocks", "Adding icmpblock '%s' to default zone.", false},
}

// ignoredByLokkit are options that are only said to be ignored.
var ignoredByLokkit = []string{"addmodule", "removemodule", "custom-rules"}

// lokkitNames are the options that make up a command line of lokkit.
func lokkitNames() []string {
	names := append([]string{"enabled", "disabled"}, ignoredByLokkit...)
	for _, o := range lokkitOptions {
		names = append(names, o.name)
	}
	return names
}

func isLokkit(o *option) bool { return slices.Contains(lokkitNames(), o.name) }

// hasLokkit tells whether there are options of lokkit. Beside an option for services, --service says of which service.
func (s *session) hasLokkit(todo []*option) bool {
	ofService := len(todo) > 0 && todo[0].use.has(forService) && !todo[0].use.has(onObjects)
	return slices.ContainsFunc(s.order, func(o *option) bool { return isLokkit(o) && !(ofService && o.name == "service") })
}

// checkLokkit refuses other options beside those of lokkit.
func (s *session) checkLokkit(todo []*option) error {
	if s.program != offline || !s.hasLokkit(todo) {
		return nil
	}
	for _, o := range s.order {
		if !isLokkit(o) && !slices.Contains(always, o.name) {
			return misuse("Can't use lokkit options with other options.", "%s goes with no option of lokkit", o.flag())
		}
	}
	return nil
}

// lokkit follows the options of lokkit. Without any, the options are read from the file where system-config-firewall
// keeps them.
func (s *session) lokkit() error {
	if !s.hasLokkit(nil) {
		for _, o := range s.order {
			if !slices.Contains(always, o.name) {
				return misuse("No option specified.", "nothing is said to be done, only %s", o.flag())
			}
		}
		return s.migrateFile("/etc/sysconfig/system-config-firewall")
	}
	if err := s.connect(); err != nil {
		return err
	}
	return s.followLokkit(s.given)
}

// followLokkit does what options of lokkit say.
func (s *session) followLokkit(found given) error {
	f := s.store.(*files)
	values := func(name string) []string {
		for o, values := range found {
			if o.name == name {
				return values
			}
		}
		return nil
	}
	for _, name := range ignoredByLokkit {
		for _, value := range values(name) {
			s.out.print(fmt.Sprintf("Ignoring %s '%s'", strings.TrimSuffix(name, "s"), value))
		}
	}
	next := f.config
	for _, o := range lokkitOptions {
		field := kindOf("zone").field(o.field)
		for _, value := range values(o.name) {
			item, err := lokkitValue(o.name, value)
			if err != nil {
				return err
			}
			zone := f.config.Conf.DefaultZone
			if o.name == "trust" {
				zone = "trusted"
			}
			if strings.Contains(o.message, "%s") {
				s.out.print(fmt.Sprintf(o.message, strings.Trim(lokkitShown(field, item), "'")))
			} else {
				s.out.print(o.message)
			}
			if next, err = s.lokkitEdit(zone, field, item, o.remove)(next); err != nil {
				return err
			}
		}
	}
	if err := f.apply(func(*zones.Config) (*zones.Config, error) { return next, nil }); err != nil {
		return err
	}
	if err := s.lokkitService(values("disabled") == nil); err != nil {
		return err
	}
	s.out.print("success")
	return nil
}

// lokkitEdit is an edit that says so, and goes on, if there is nothing to do.
func (s *session) lokkitEdit(zone string, f *field, value string, remove bool) zones.Edit {
	object := objectOf(kindOf("zone"), zone)
	edit := zones.Add(zones.Command, object, item(f, value))
	if remove {
		edit = zones.Remove(zones.Command, object, item(f, value))
	}
	return func(c *zones.Config) (*zones.Config, error) {
		next, err := edit(c)
		if err != nil && harmless(err) {
			s.out.print(oneLine(err))
			return c, nil
		}
		return next, err
	}
}

// lokkitValue reads the value of an option of lokkit: ports have a colon, and forward ports an interface that is ignored.
func lokkitValue(name, value string) (string, error) {
	switch name {
	case "port":
		port, protocol, ok := strings.Cut(value, ":")
		if !ok || strings.Contains(protocol, ":") {
			return "", usageError{
				said:  "bad port (most likely missing protocol), correct syntax is portid[-portid]:protocol",
				alone: true,
				hint:  fmt.Sprintf("cannot read port %q: it must be PORT[-PORT]:PROTOCOL, such as 80:tcp", value),
			}
		}
		return port + "/" + protocol, nil
	case "forward-port":
		return readForward(value)
	}
	return value, nil
}

// lokkitShown is an item as messages show it: forward ports with colons between their parts.
func lokkitShown(f *field, item string) string {
	if f.shape == forwards {
		return shown(f, item)
	}
	return item
}

// lokkitService has the firewall started at boot, or not. Where there is no systemd, nothing starts it anyway.
func (s *session) lokkitService(enable bool) error {
	if _, err := exec.LookPath("systemctl"); err != nil || !s.usesMachine() {
		return nil
	}
	word := "enable"
	if !enable {
		word = "disable"
	}
	run := exec.Command("systemctl", word, "firewalld.service")
	run.Stderr = s.out.stderr
	// That it cannot be done, as in an image that is being built, systemctl says; the configuration is written all the same.
	_ = run.Run()
	return nil
}

// usesMachine says whether the files are those of this machine.
func (s *session) usesMachine() bool { return !s.has("system-config") }

func (s *session) migrate() error {
	return s.migrateFile(s.first())
}

// migrateFile follows the options of lokkit in a file, one on each line.
func (s *session) migrateFile(path string) error {
	data, err := zones.ReadFile(path)
	if err != nil {
		return misuse("No option specified.", "cannot read the options of system-config-firewall: %v", err)
	}
	var args []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			args = append(args, line)
		}
	}
	found, _, err := parse(optionsOf(offline), args)
	if err != nil {
		return err
	}
	for o := range found {
		if !slices.Contains(lokkitNames(), o.name) {
			return misuse("", "%s has an option that lokkit does not: %s", path, o.flag())
		}
	}
	if s.store == nil {
		if err := s.connect(); err != nil {
			return err
		}
	}
	return s.followLokkit(found)
}

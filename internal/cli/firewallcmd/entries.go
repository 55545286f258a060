package firewallcmd

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"richwall/zones"
)

// entriesIn are the entries in a file: one on each line, without empty lines and those that begin with # or ;.
func entriesIn(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read entries: %w", err)
	}
	var entries []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' && line[0] != ';' {
			entries = append(entries, line)
		}
	}
	return entries, nil
}

// readFiles reads the entries of all files that the option names. One file that cannot be read leaves nothing to do, which
// is said, but no error; one of several is left out.
func (s *session) readFiles() (entries []string, ok bool) {
	for _, path := range s.values {
		found, err := entriesIn(path)
		switch {
		case err == nil:
			entries = append(entries, found...)
		case len(s.values) == 1:
			s.out.print(err.Error())
			return nil, false
		default:
			s.out.complain(err.Error())
		}
	}
	return entries, true
}

func (s *session) addFiles() error    { return s.editFromFiles(true) }
func (s *session) removeFiles() error { return s.editFromFiles(false) }

// editFromFiles adds or removes the entries in files, all at once. That an entry is there already, or is not, only
// --verbose says.
func (s *session) editFromFiles(add bool) error {
	found, err := s.settingsOf(s.kind, s.name)
	if err != nil {
		return err
	}
	set := &zones.IPSet{Type: found.text("type"), Options: found.dict("options")}
	if set.Expires() && s.permanent {
		return fail("IPSET_WITH_TIMEOUT", "")
	}
	entries, ok := s.readFiles()
	if !ok {
		return nil
	}
	if set.Expires() {
		return s.editExpiring(entries, add)
	}
	for i, entry := range entries {
		if normal, err := zones.NormalEntry(set, entry); err == nil {
			entries[i] = normal // what is wrong with another one, the firewall says
		}
	}
	next := s.merge(found.list("entries"), entries, add)
	if s.permanent {
		err = s.store.put(s.kind, s.name, settings{"entries": next})
	} else {
		err = s.daemon.main("ipset", "setEntries", []any{s.name, next})
	}
	if err != nil {
		return err
	}
	s.out.print("success")
	return nil
}

// merge is a list of entries with others added or removed.
func (s *session) merge(list, others []string, add bool) []string {
	there := map[string]bool{}
	for _, entry := range list {
		there[entry] = true
	}
	next := append([]string{}, list...)
	for _, entry := range others {
		switch {
		case add && there[entry]:
			s.out.note("Warning: %v", already(entry))
		case !add && !there[entry]:
			s.out.note("Warning: %v", missing(entry))
		case add:
			next = append(next, entry)
		}
		there[entry] = add
	}
	return slices.DeleteFunc(next, func(entry string) bool { return !there[entry] })
}

// editExpiring adds or removes entries of a set that forgets them: the firewall does not know which there are.
func (s *session) editExpiring(entries []string, add bool) error {
	p, f := &runtimeIPSet{s.daemon, s.name}, s.field()
	for _, entry := range entries {
		err := p.remove(f, entry)
		if add {
			err = p.add(f, entry)
		}
		if err != nil && !harmless(err) {
			return err
		}
	}
	s.out.print("success")
	return nil
}

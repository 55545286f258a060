package firewallcmd

import (
	"fmt"
	"slices"
	"strings"

	"richwall/zones"
)

// entryLine is an entry of a file, and where it stands.
type entryLine struct {
	text, path string
	line       int
}

// entriesIn are the entries in a file: one on each line, without empty lines and those that begin with # or ;.
func entriesIn(path string) ([]entryLine, error) {
	data, err := zones.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read entries: %w", err)
	}
	var entries []entryLine
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' && line[0] != ';' {
			entries = append(entries, entryLine{line, path, n})
		}
	}
	return entries, nil
}

// readFiles reads the entries of all files that the option names. One of several that cannot be read is left out, which is said; where there
// is no other, that is an error.
func (s *session) readFiles() (entries []entryLine, err error) {
	for _, path := range s.values {
		found, err := entriesIn(path)
		switch {
		case err == nil:
			entries = append(entries, found...)
		case len(s.values) == 1:
			return nil, fail(unknownError, "%v", err)
		default:
			s.out.complain(err.Error())
		}
	}
	return entries, nil
}

// normalEntries are the entries as a set keeps them, each once. The error says where the first one stands that the set cannot
// have; to remove, such a one is as good as any that is not there.
func normalEntries(set *zones.IPSet, lines []entryLine, add bool, p *progress) ([]string, error) {
	entries := make([]string, 0, len(lines))
	seen := make(map[string]bool, len(lines))
	for i, l := range lines {
		normal, err := zones.NormalEntry(set, l.text)
		switch {
		case err != nil && add:
			code, detail := zones.CodeOf(err)
			return nil, fail(string(code), "%s:%d: %s", l.path, l.line, detail)
		case err != nil:
			normal = l.text
		}
		if !seen[normal] {
			seen[normal] = true
			entries = append(entries, normal)
		}
		p.step("checking entries: %d of %d", i+1, len(lines))
	}
	return entries, nil
}

func (s *session) addFiles() error    { return s.editFromFiles(true) }
func (s *session) removeFiles() error { return s.editFromFiles(false) }

// editFromFiles adds or removes the entries in files, all at once or, if one is wrong, none. That an entry is there already,
// or is not, only --verbose says.
func (s *session) editFromFiles(add bool) error {
	p := s.newProgress()
	defer p.end()
	found, err := s.settingsOf(s.kind, s.name)
	if err != nil {
		return err
	}
	set := &zones.IPSet{Type: found.text("type"), Options: found.dict("options")}
	if set.Expires() && s.permanent {
		return fail("IPSET_WITH_TIMEOUT", "")
	}
	lines, err := s.readFiles()
	if err != nil {
		return err
	}
	entries, err := normalEntries(set, lines, add, p)
	if err != nil {
		return err
	}
	if set.Expires() && !add {
		err = s.removeExpiring(entries, p)
	} else {
		err = s.putEntries(set, found.list("entries"), entries, add, p)
	}
	p.end()
	if err != nil {
		return err
	}
	s.out.print("success")
	return nil
}

// putEntries adds entries to those of a set, or removes them, in one change. A firewall adds what it is given to a set with a
// timeout.
func (s *session) putEntries(set *zones.IPSet, before, entries []string, add bool, p *progress) error {
	if set.Expires() && len(entries) == 0 {
		return nil
	}
	set.Entries = s.merge(before, entries, add)
	p.phase(len(set.Entries), "changing ipset %s: %d entries", s.name, len(set.Entries))
	var err error
	if s.permanent {
		err = s.store.put(s.kind, s.name, settings{"entries": set.Entries})
	} else {
		err = s.daemon.main("ipset", "setEntries", []any{s.name, set.Entries})
	}
	p.end()
	if err == nil && add && !set.Expires() {
		s.warnOfOverlaps(set, entries)
	}
	return err
}

// warnOfOverlaps names the entries that overlap with others of the set, where that is due to those that were added.
func (s *session) warnOfOverlaps(set *zones.IPSet, added []string) {
	fresh := make(map[string]bool, len(added))
	for _, entry := range added {
		fresh[entry] = true
	}
	found := slices.DeleteFunc(set.Overlaps(), func(o zones.Overlap) bool { return !fresh[o.Entry] && !fresh[o.With] })
	if text := zones.OverlapText(found); text != "" {
		s.out.warn(fail("INVALID_ENTRY", "%s", text))
	}
}

// merge is a list of entries with others added or removed.
func (s *session) merge(list, others []string, add bool) []string {
	there := make(map[string]bool, len(list)+len(others))
	for _, entry := range list {
		there[entry] = true
	}
	next := append(make([]string, 0, len(list)+len(others)), list...)
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

// removeExpiring takes entries out of a set that forgets them, one by one: what else is in it nobody can say.
func (s *session) removeExpiring(entries []string, p *progress) error {
	set, f := &runtimeIPSet{s.daemon, s.name}, s.field()
	for i, entry := range entries {
		if err := set.remove(f, entry); err != nil && !harmless(err) {
			return err
		}
		p.step("removing entries of ipset %s: %d of %d", s.name, i+1, len(entries))
	}
	return nil
}

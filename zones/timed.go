package zones

import (
	"slices"
	"strconv"
	"time"
)

// TimedEntry is an entry that was added to a set with a timeout while the firewall runs. Files never have it; when its time
// has come the kernel drops it.
type TimedEntry struct {
	Text  string
	Until time.Time
}

// TimedSlack is how long the clocks of the kernel and of the program may differ, and a change may take: an entry whose time
// came longer ago than that is gone for certain.
const TimedSlack = 2 * time.Second

// now is the clock.
var now = time.Now

// addTimed is the set's list with entries that end a timeout from now. Those that are there already start anew.
func (s *IPSet) addTimed(texts []string) []TimedEntry {
	seconds, _ := strconv.Atoi(s.Options["timeout"])
	until := now().Add(time.Duration(seconds) * time.Second)
	next := s.withoutTimed(texts)
	for _, text := range texts {
		next = append(next, TimedEntry{text, until})
	}
	return next
}

// withoutTimed is a copy of the set's list without some entries. When most of it has ended, that is left out too: not
// earlier, as whoever looks for differences would have more to do at each change.
func (s *IPSet) withoutTimed(texts []string) []TimedEntry {
	list, gone := s.Timed, now().Add(-TimedSlack)
	if ended, _ := slices.BinarySearchFunc(list, gone, func(e TimedEntry, t time.Time) int { return e.Until.Compare(t) }); ended > len(list)/2 {
		list = list[ended:]
	}
	var some map[string]bool
	if len(texts) > 1 {
		some = make(map[string]bool, len(texts))
		for _, text := range texts {
			some[text] = true
		}
	}
	next := make([]TimedEntry, 0, len(list)+len(texts))
	for _, e := range list {
		if some[e.Text] || len(texts) == 1 && e.Text == texts[0] {
			continue
		}
		next = append(next, e)
	}
	return next
}

// hasTimed tells whether an entry is in the set's list and its time has not come.
func (s *IPSet) hasTimed(text string) bool {
	at := now()
	return slices.ContainsFunc(s.Timed, func(e TimedEntry) bool { return e.Text == text && e.Until.After(at) })
}

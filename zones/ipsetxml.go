package zones

import (
	"math"
	"slices"
	"strconv"

	"richwall/grammar"
	"richwall/internal/boxes"
)

var ipsetSchema = schema{root: "ipset", broken: grammar.InvalidIPSet, elements: map[string]shape{
	"ipset":       {required: []string{"type"}, optional: []string{"version"}, parent: true},
	"short":       {text: true},
	"description": {text: true},
	"option":      {required: []string{"name"}, optional: []string{"value"}},
	"entry":       {text: true, many: true},
}}

// IPSetOptions are the options that an ipset can have.
var IPSetOptions = []string{"family", "hashsize", "maxelem", "timeout"}

// MaxIPSetTimeout is the longest timeout of an ipset, in seconds: ipset counts milliseconds in 31 bits (ip_set.h, IPSET_MAX_TIMEOUT).
// nft takes longer ones, of eight digits at most.
const MaxIPSetTimeout = math.MaxUint32 / 1000 >> 1

// IPSetTypes are the types of ipsets, in the order in which commands list them.
var IPSetTypes = Names(entryKinds)

// ReadIPSet reads the file of an ipset, in the same way as ReadZone. Entries that are not valid are left out with a
// warning, as are all entries of a set whose entries expire.
func ReadIPSet(name string, data []byte, path string) (*IPSet, Problems) {
	r := newReader(ipsetSchema, data, path)
	root := r.parse()
	if root == nil {
		return nil, r.report()
	}
	s := &IPSet{Meta: r.meta(name, root), Type: r.share(root.get("type"))}
	_, known := entryKinds[s.Type]
	if _, given := root.attr("type"); given && !known {
		r.failAt(root, "type", InvalidType, "cannot use type %q: there is no such type%s", s.Type, hint(s.Type, IPSetTypes))
		r.detail("%s", s.Type)
	}
	entries := r.plain
	r.each(root, func(n *node) {
		switch n.name {
		case "option":
			r.option(s, n)
		case "entry":
			entries = append(entries, plainText{n.text, n.place})
		default:
			r.metaText(&s.Meta, n)
		}
	})
	if len(entries) > len(r.plain) { // nodes stand behind the others
		slices.SortFunc(entries, func(a, b plainText) int { return comparePlaces(a.place, b.place) })
	}
	if r.problems.found[Error] == 0 {
		r.entries(s, entries)
	}
	return s, r.report()
}

func (r *reader) option(s *IPSet, n *node) {
	name, value := r.share(n.get("name")), r.share(n.get("value"))
	if err := CheckIPSetOption(s.Type, name, value); err != nil {
		attr := "value"
		if code, _ := codeOf(err, ""); code == InvalidOption {
			attr = "name"
		}
		r.failWith(n, attr, InvalidOption, err)
		switch {
		case attr == "value":
		case slices.Contains(IPSetOptions, name) && value == "":
			r.detail("Missing mandatory value of option '%s'", name)
		default:
			r.detail("Unknown option '%s'", name)
		}
		return
	}
	if !r.list(n, "option", name) {
		return
	}
	if s.Options == nil {
		s.Options = map[string]string{}
	}
	s.Options[name] = value
	s.Order = append(s.Order, name)
}

// CheckIPSetOption tells what is wrong with an option of an ipset of a type, with code INVALID_OPTION, INVALID_FAMILY or
// INVALID_VALUE.
func CheckIPSetOption(ipsetType, name, value string) error {
	switch {
	case !slices.Contains(IPSetOptions, name):
		return refuse(InvalidOption, "cannot use option %s: there is no such option%s", name, hint(name, IPSetOptions))
	case name == "family" && ipsetType == "hash:mac":
		return refuse(InvalidOption, "cannot use option family with type hash:mac: MAC addresses have no IP family")
	case value == "":
		return refuse(InvalidOption, "missing value of option %s", name)
	case name == "family":
		if value != "inet" && value != "inet6" {
			return refuse(grammar.InvalidFamily, "cannot use family %s: it is inet or inet6%s", value, hint(value, []string{"inet", "inet6"})).
				worded("%s", value)
		}
		return nil
	}
	most := uint64(math.MaxUint32)
	if name == "timeout" {
		most = MaxIPSetTimeout
	}
	if n, err := strconv.ParseUint(value, 10, 32); err == nil && n <= most {
		return nil
	}
	p := refuse(InvalidValue, "cannot use %s %s: it must be a whole number from 0 to %d, in digits alone", name, value, most)
	if _, err := strconv.Atoi(value); err != nil {
		p.worded("Option '%s': Value '%s' is not an integer", name, value)
	}
	return p
}

// entries reads the entries, when the options are known.
func (r *reader) entries(s *IPSet, given []plainText) {
	if s.Expires() && len(given) > 0 {
		r.lose(given[0].place, IPSetWithTimeout, "the set has a timeout, so that its entries would expire")
		r.latest.Then = "all entries are ignored"
		return
	}
	if len(given) == 0 {
		return
	}
	s.Entries = make([]string, 0, len(given))
	if s.apart(len(given), func(i int) string { return given[i].text }) { // as mostly: nothing else can be wrong with them
		for i := range given {
			s.Entries = append(s.Entries, given[i].text)
		}
		return
	}
	seen := make(map[string]bool, len(given))
	list := s.boxes(len(given))
	var last *plainText
	twice := 0
	bad := map[string]bool{}
	for i := range given {
		n := &given[i]
		if len(bad) > 0 && bad[n.text] && r.lostMore() {
			continue
		}
		switch entry, err := ParseEntry(s, n.text); {
		case err != nil:
			bad[n.text] = true
			_, msg := codeOf(err, InvalidEntry)
			r.lose(n.place, InvalidEntry, "%s", msg)
			r.latest.Then = "this entry is ignored"
			_, detail := CodeOf(err)
			r.notice("WARNING: INVALID_ENTRY: %s, ignoring.", detail)
		case seen[n.text]:
			if twice++; twice <= shownOverlaps {
				r.add(n.place, Warning, AlreadyEnabled, "%s is given twice: this one is ignored", n.text)
				r.notice("WARNING: Entry %s already set, ignoring.", n.text)
			}
			last = n
		default:
			seen[n.text] = true
			list.add(entry, len(s.Entries))
			s.Entries = append(s.Entries, n.text)
		}
	}
	if more := twice - shownOverlaps; more > 0 {
		r.add(last.place, Warning, AlreadyEnabled, "%s and others, %d more, are given twice: they are ignored", last.text, more)
	}
	if found := list.overlaps(s.Entries); found != nil {
		at := slices.IndexFunc(given, func(n plainText) bool { return n.text == found[0].Entry })
		r.add(given[at].place, Warning, InvalidEntry, "%s", OverlapText(found))
	}
	if len(s.Entries) == 0 {
		s.Entries = nil
	}
}

// apart tells whether n texts are entries of a set of which no two have anything in common in their first field. It takes less time and
// memory than to find out what they have in common.
func (s *IPSet) apart(n int, text func(int) string) bool {
	if s.Family() == grammar.IPv4 {
		return s.apart4(n, text)
	}
	list := make([]boxes.Span, n)
	for i := range list {
		entry, err := ParseEntry(s, text(i))
		if err != nil {
			return false
		}
		list[i].First, list[i].Last = ends(entry[0])
	}
	return boxes.Apart(list)
}

// apart4 is apart for sets that begin with an IPv4 address, as large ones mostly do: both ends of a range are one number.
func (s *IPSet) apart4(n int, text func(int) string) bool {
	list := make([]uint64, n)
	for i := range list {
		if low, high, ok := s.plainEntry(text(i)); ok {
			list[i] = uint64(low)<<32 | uint64(high)
			continue
		}
		entry, err := ParseEntry(s, text(i))
		if err != nil {
			return false
		}
		low, high, _ := entry[0].(AddrPart).ends4()
		list[i] = uint64(low)<<32 | uint64(high)
	}
	slices.Sort(list)
	for i := 1; i < n; i++ {
		if uint32(list[i-1]) >= uint32(list[i]>>32) {
			return false
		}
	}
	return true
}

// Expires tells whether entries of the set are dropped some time after they were added, so that files hold none.
func (s *IPSet) Expires() bool {
	n, _ := strconv.Atoi(s.Options["timeout"])
	return n != 0
}

// Family is the IP version of the set's addresses; AnyFamily when it holds none.
func (s *IPSet) Family() grammar.Family {
	switch {
	case s.Type == "hash:mac":
		return grammar.AnyFamily
	case s.Options["family"] == "inet6":
		return grammar.IPv6
	}
	return grammar.IPv4
}

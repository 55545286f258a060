package observe

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Origin is where an address belongs: the network, such as an autonomous system with its name, and the country. Either may
// be empty, if the file does not say.
type Origin struct{ Network, Country string }

// Names finds the origin of an address.
type Names interface {
	Origin(netip.Addr) (Origin, error)
}

// ReadNames reads a file of origins: MMDB, as MaxMind, DB-IP and IPinfo have it, or CSV with a prefix, a network and
// perhaps a country in each line.
func ReadNames(path string) (Names, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseNames(data)
}

// mmdbMark begins the metadata at the end of an MMDB file (https://maxmind.github.io/MaxMind-DB/).
const mmdbMark = "\xab\xcd\xefMaxMind.com"

func parseNames(data []byte) (Names, error) {
	if !bytes.Contains(data, []byte(mmdbMark)) {
		return parsePrefixes(bytes.NewReader(data))
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("it is no sound MMDB file: %w", err)
	}
	return database{db}, nil
}

// database is an MMDB file.
type database struct{ *maxminddb.Reader }

// mmdbRecord is what the usual files of countries and of autonomous systems have.
type mmdbRecord struct {
	Number       uint   `maxminddb:"autonomous_system_number"`
	Organization string `maxminddb:"autonomous_system_organization"`
	ASN          string `maxminddb:"asn"` // IPinfo's, which has AS before the number
	ASName       string `maxminddb:"as_name"`
	CountryCode  string `maxminddb:"country_code"`
	Country      any    `maxminddb:"country"` // a map with iso_code, or IPinfo's name
}

func (d database) Origin(a netip.Addr) (Origin, error) {
	if d.Metadata.IPVersion == 4 && a.Is6() {
		return Origin{}, nil
	}
	var r mmdbRecord
	if err := d.Lookup(a).Decode(&r); err != nil {
		return Origin{}, fmt.Errorf("cannot look an address up: %w", err)
	}
	o := Origin{Network: strings.TrimSpace(r.ASN + " " + r.ASName), Country: r.CountryCode}
	if r.Number != 0 {
		o.Network = strings.TrimSpace(fmt.Sprintf("AS%d %s", r.Number, r.Organization))
	}
	switch c := r.Country.(type) {
	case string:
		o.Country = cmp.Or(o.Country, c)
	case map[string]any:
		code, _ := c["iso_code"].(string)
		o.Country = cmp.Or(o.Country, code)
	}
	return Origin{clip(o.Network), clip(o.Country)}, nil
}

// clip cuts a name that is longer than names are. Records of an MMDB file may overlap, so that a small file has very many
// long ones.
func clip(name string) string {
	const longest = 200 // bytes
	if len(name) <= longest {
		return name
	}
	return strings.ToValidUTF8(strings.Clone(name[:longest]), "") + "…"
}

// prefixes is a CSV file: the longest prefix that contains an address has its origin.
type prefixes struct {
	origins map[netip.Prefix]Origin
	four    []int // lengths of prefixes that occur, descending
	six     []int
}

func parsePrefixes(r io.Reader) (*prefixes, error) {
	file := csv.NewReader(bufio.NewReader(r))
	file.FieldsPerRecord, file.Comment, file.TrimLeadingSpace, file.ReuseRecord = -1, '#', true, true
	p := &prefixes{origins: map[netip.Prefix]Origin{}}
	texts, lengths := map[string]string{}, [2]map[int]bool{{}, {}}
	once := func(fields []string, i int) string { // many lines share few texts
		if i >= len(fields) {
			return ""
		}
		text, ok := texts[fields[i]]
		if !ok {
			text = strings.Clone(fields[i])
			texts[text] = text
		}
		return text
	}
	for first := true; ; first = false {
		fields, err := file.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("it is neither MMDB nor CSV: %w", err)
		}
		line, _ := file.FieldPos(0)
		prefix, err := prefixOf(fields[0])
		if err != nil && first {
			continue // the names of the columns
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is no prefix, such as 192.0.2.0/24", line, fields[0])
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %d: there is no name behind %s", line, prefix)
		}
		p.origins[prefix] = Origin{once(fields, 1), once(fields, 2)}
		lengths[prefix.Addr().BitLen()/128][prefix.Bits()] = true
	}
	if len(p.origins) == 0 {
		return nil, errors.New("it is neither MMDB, nor CSV with a prefix such as 192.0.2.0/24 in each line")
	}
	descending := func(m map[int]bool) []int {
		return slices.SortedFunc(maps.Keys(m), func(a, b int) int { return b - a })
	}
	p.four, p.six = descending(lengths[0]), descending(lengths[1])
	return p, nil
}

// prefixOf reads a prefix, or an address.
func prefixOf(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, errors.New("no prefix")
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func (p *prefixes) Origin(a netip.Addr) (Origin, error) {
	lengths := p.six
	if a.Is4() {
		lengths = p.four
	}
	for _, bits := range lengths {
		prefix, err := a.Prefix(bits)
		if err != nil {
			return Origin{}, err
		}
		if o, ok := p.origins[prefix]; ok {
			return o, nil
		}
	}
	return Origin{}, nil
}

// OriginTable is the endpoints by network or by country.
type OriginTable struct {
	By     string        `json:"by"`    // "network" or "country"
	Known  int           `json:"known"` // endpoints whose origin the file has
	Groups []OriginGroup `json:"groups"`
}

// OriginGroup is the endpoints of one origin. Their offers are the first, as in the report's first tables.
type OriginGroup struct {
	Name      string  `json:"name"`
	Endpoints int     `json:"endpoints"` // with an MSS or without
	Offered   int     `json:"offered"`   // with one
	AtMost500 int     `json:"at_most_500"`
	Set       int     `json:"from_1260_to_1440"`
	Above1460 int     `json:"above_1460"`
	Top       []Value `json:"top"` // the three most common sizes, with their shares of Offered
}

// Origins counts the endpoints by origin: a table by network and one by country, if the files have them, with the largest
// groups first. The first of the files that knows an address is believed. progress, if it is not nil, is told now and then
// how many endpoints were looked up.
func (c *Counter) Origins(files []Names, progress func(done int)) ([]OriginTable, error) {
	g := grouping{files: files, progress: progress, of: [2]map[string]*histogram{{}, {}}}
	for a, k := range c.four {
		if err := g.add(netip.AddrFrom4(a), k.first()); err != nil {
			return nil, err
		}
	}
	for a, k := range c.six {
		if err := g.add(netip.AddrFrom16(a), k.first()); err != nil {
			return nil, err
		}
	}
	var tables []OriginTable
	for i, by := range []string{"network", "country"} {
		if len(g.of[i]) > 0 {
			tables = append(tables, originTable(by, g.of[i]))
		}
	}
	return tables, nil
}

// grouping counts offers by network and by country.
type grouping struct {
	files    []Names
	progress func(int)
	done     int
	of       [2]map[string]*histogram
}

func (g *grouping) add(a netip.Addr, mss int) error {
	const between = 1 << 12
	if g.done++; g.progress != nil && g.done%between == 0 {
		g.progress(g.done)
	}
	var found Origin
	for _, file := range g.files {
		o, err := file.Origin(a)
		if err != nil {
			return err
		}
		found = Origin{cmp.Or(found.Network, o.Network), cmp.Or(found.Country, o.Country)}
	}
	for i, name := range []string{found.Network, found.Country} {
		if name == "" {
			continue
		}
		h := g.of[i][name]
		if h == nil {
			h = &histogram{counts: map[int]int{}}
			g.of[i][name] = h
		}
		if mss == None {
			h.none++
		} else {
			h.counts[mss]++
		}
	}
	return nil
}

func originTable(by string, groups map[string]*histogram) OriginTable {
	const sizes = 3
	t := OriginTable{By: by}
	for name, h := range groups {
		d := h.distribution(Plain4)
		t.Known += d.Endpoints
		t.Groups = append(t.Groups, OriginGroup{name, d.Endpoints, d.Offered, d.AtMost500, d.Set, d.Above1460, d.Top(sizes, 0, 65535)})
	}
	slices.SortFunc(t.Groups, func(a, b OriginGroup) int {
		return cmp.Or(cmp.Compare(b.Endpoints, a.Endpoints), strings.Compare(a.Name, b.Name))
	})
	return t
}

// most is the groups with the most endpoints of some kind, without those that have none.
func (t OriginTable) most(n int, count func(OriginGroup) int) []OriginGroup {
	list := slices.DeleteFunc(slices.Clone(t.Groups), func(g OriginGroup) bool { return count(g) == 0 })
	slices.SortStableFunc(list, func(a, b OriginGroup) int { return cmp.Compare(count(b), count(a)) })
	return list[:min(n, len(list))]
}

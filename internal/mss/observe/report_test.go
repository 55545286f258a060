package observe

import (
	"flag"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "accept what comes out now as what should")

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if filepath.Ext(name) != ".svg" { // pictures keep their name, so that they can be looked at, and shown in docs
		path += ".golden"
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is different; go test ./internal/mss/observe -update accepts it. Got:\n%s\nwant:\n%s", path, got, want)
	}
}

func text(t *testing.T, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Text(&b, 10, 100); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func figure(t *testing.T, r *Report, name string) string {
	t.Helper()
	var b strings.Builder
	if err := r.Figure(name, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// offers is so many endpoints for each MSS.
func offers(c *Counter, base netip.Addr, counts map[int]int) {
	for mss, n := range counts {
		for range n {
			base = base.Next()
			c.Add(Offer{From: base, MSS: mss})
		}
	}
}

func TestReports(t *testing.T) {
	for name, counts := range map[string][2]map[int]int{
		"nothing": {},
		"one":     {{1460: 1}},
		"home":    {{1460: 12, 1452: 30, 1380: 3, None: 1, 400: 1}, {1440: 8, 1432: 20}},
		"six":     {nil, {1440: 100, 1220: 1}},
	} {
		c := NewCounter(1000)
		offers(c, four, counts[0])
		offers(c, six, counts[1])
		r := c.Report("eth0", Stats{Packets: int64(c.Endpoints()), SYNs: int64(c.Endpoints())})
		r.Advise([]float64{90, 95, 99})
		compareGolden(t, name, text(t, r))
		for _, f := range Figures {
			compareGolden(t, name+"-"+f+".svg", figure(t, r, f))
		}
	}
}

// Each row has its bounds in it.
func TestBounds(t *testing.T) {
	c := NewCounter(1000)
	offers(c, four, map[int]int{500: 1, 501: 1, 1219: 1, 1220: 1, 1260: 1, 1440: 1, 1459: 1, 1460: 1, 1461: 1})
	offers(c, six, map[int]int{500: 1, 1220: 1, 1439: 1, 1440: 1, 1460: 1, 1461: 1})
	r := c.Report("", Stats{})
	for name, row := range map[string][6]int{
		"at most 500":  {r.All.AtMost500, r.IPv4.AtMost500, r.IPv6.AtMost500, 2, 1, 1},
		"above 1460":   {r.All.Above1460, r.IPv4.Above1460, r.IPv6.Above1460, 2, 1, 1},
		"1220 to 1460": {r.All.Usual, r.IPv4.Usual, r.IPv6.Usual, 9, 5, 4},
		"1220 to 1459": {r.All.Below1460, r.IPv4.Below1460, r.IPv6.Below1460, 7, 4, 3},
		"1260 to 1440": {r.All.Set, r.IPv4.Set, r.IPv6.Set, 4, 2, 2},
		"lowered":      {r.All.Lowered, r.IPv4.Lowered, r.IPv6.Lowered, 6, 4, 2},
	} {
		if [3]int(row[:3]) != [3]int(row[3:]) {
			t.Errorf("%s: got %v, want %v", name, row[:3], row[3:])
		}
	}
}

// Who offers less than one tunnel leaves has been told already, and needs no clamp: advice looks at the others.
func TestAdviceIsForThoseWhoDoNotKnow(t *testing.T) {
	for name, c := range map[string]struct {
		four map[int]int
		want []int // clamps that suit 1, 50, 90, 99 and 100 %; 0 is none
	}{
		"Ethernet and PPPoE, and tunnels that know": {map[int]int{88: 1, 1300: 900, 1400: 80, 1440: 9, 1452: 41, 1460: 49, 8960: 1}, []int{0, 0, 1452, 1440, 1440}},
		"Ethernet alone":           {map[int]int{1460: 100}, []int{0, 0, 0, 0, 0}},
		"an IPv6 tunnel at most":   {map[int]int{1460: 80, 1420: 20}, []int{0, 0, 1420, 1420, 1420}},
		"nobody who does not know": {map[int]int{1380: 100}, nil},
		"nobody":                   {nil, nil},
	} {
		counter := NewCounter(10_000)
		offers(counter, four, c.four)
		r := counter.Report("", Stats{})
		r.Advise([]float64{1, 50, 90, 99, 100})
		var got []int
		for _, v := range r.Advice.IPv4 {
			got = append(got, v.Clamp)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// An endpoint counts once, with its first offer.
func TestFirstOfferCounts(t *testing.T) {
	c := NewCounter(10)
	for _, mss := range []int{1460, 1400, 1460, None} {
		c.Add(Offer{From: four, MSS: mss})
	}
	r := c.Report("", Stats{})
	if r.IPv4.Endpoints != 1 || r.IPv4.Varied != 1 || r.IPv4.Largest != 1460 || len(r.IPv4.Values) != 1 {
		t.Errorf("%+v", r.IPv4)
	}
}

// An endpoint that opens connections and answers others has a first offer in each role; the very first of both stands in
// the tables of all.
func TestSYNAndSYNACKAreApart(t *testing.T) {
	c := NewCounter(10)
	for _, o := range []Offer{
		{four, 1300, true}, {four, 1460, false}, {four, 1300, true}, // answers first
		{six, 1440, false}, {six, None, true}, // opens first
		{six.Next(), None, true},
	} {
		c.Add(o)
	}
	r := c.Report("", Stats{})
	for name, row := range map[string][2]map[int]int{
		"first":         {countsOf(r.All), {1300: 1, 1440: 1}},
		"SYN":           {countsOf(r.SYN.All), {1460: 1, 1440: 1}},
		"SYN/ACK":       {countsOf(r.SYNACK.All), {1300: 1}},
		"SYN, IPv4":     {countsOf(r.SYN.IPv4), {1460: 1}},
		"SYN/ACK, IPv6": {countsOf(r.SYNACK.IPv6), {}},
	} {
		if !maps.Equal(row[0], row[1]) {
			t.Errorf("%s: got %v, want %v", name, row[0], row[1])
		}
	}
	if r.All.Endpoints != 3 || r.SYN.All.Endpoints != 2 || r.SYNACK.All.Endpoints != 3 || r.SYNACK.IPv6.Offered != 0 || r.All.Varied != 0 {
		t.Errorf("%+v\n%+v\n%+v", r.All, r.SYN.All, r.SYNACK.All)
	}
}

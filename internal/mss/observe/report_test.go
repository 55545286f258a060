package observe

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "accept what comes out now as what should")

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
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

func svg(t *testing.T, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.SVG(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// offers is so many endpoints for each MSS.
func offers(c *Counter, base netip.Addr, counts map[int]int) {
	for mss, n := range counts {
		for range n {
			base = base.Next()
			c.Add(Offer{base, mss})
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
		r := c.Report("eth0", Stats{Packets: int64(c.Endpoints()), SYNs: int64(c.Endpoints())}, []float64{90, 95, 99})
		compareGolden(t, name, text(t, r))
		compareGolden(t, name+".svg", svg(t, r))
	}
}

// Each row has its bounds in it.
func TestBounds(t *testing.T) {
	c := NewCounter(1000)
	offers(c, four, map[int]int{500: 1, 501: 1, 1219: 1, 1220: 1, 1459: 1, 1460: 1, 1461: 1})
	offers(c, six, map[int]int{500: 1, 1220: 1, 1439: 1, 1440: 1, 1460: 1, 1461: 1})
	r := c.Report("", Stats{}, nil)
	for name, row := range map[string][6]int{
		"at most 500":  {r.All.AtMost500, r.IPv4.AtMost500, r.IPv6.AtMost500, 2, 1, 1},
		"above 1460":   {r.All.Above1460, r.IPv4.Above1460, r.IPv6.Above1460, 2, 1, 1},
		"1220 to 1460": {r.All.Usual, r.IPv4.Usual, r.IPv6.Usual, 7, 3, 4},
		"lowered":      {r.All.Lowered, r.IPv4.Lowered, r.IPv6.Lowered, 4, 2, 2},
	} {
		if [3]int(row[:3]) != [3]int(row[3:]) {
			t.Errorf("%s: got %v, want %v", name, row[:3], row[3:])
		}
	}
}

// A clamp suits those who offer as much or more; it is never lower than a rule may set, and 0 where it is of no use.
func TestCovers(t *testing.T) {
	c := NewCounter(1000)
	offers(c, four, map[int]int{88: 1, 1300: 9, 1452: 40, 1460: 49, 8960: 1})
	r := c.Report("", Stats{}, []float64{1, 50, 90, 99, 100})
	var got []int
	for _, v := range r.IPv4.Covers {
		got = append(got, v.Clamp)
	}
	want := []int{0, 0, 1452, 1300, 536}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if v := r.IPv4.Covers[4]; v.MSS != 88 || v.Share != 1 {
		t.Errorf("%+v", v)
	}
}

// An endpoint counts once, with its first offer.
func TestFirstOfferCounts(t *testing.T) {
	c := NewCounter(10)
	for _, mss := range []int{1460, 1400, 1460, None} {
		c.Add(Offer{four, mss})
	}
	r := c.Report("", Stats{}, nil)
	if r.IPv4.Endpoints != 1 || r.IPv4.Varied != 1 || r.IPv4.Largest != 1460 || len(r.IPv4.Values) != 1 {
		t.Errorf("%+v", r.IPv4)
	}
}

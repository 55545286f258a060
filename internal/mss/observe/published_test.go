package observe

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// What 436,095,954 endpoints offered in July 2019, in hundred-thousandths; what the publication does not name is spread over
// other sizes that occur.
var (
	published4 = map[int]int{
		1460: 17900, 1400: 16100, 1370: 10800, 1452: 8900, 1440: 8500, 1360: 6800, 1412: 5200, 1300: 4200, 1380: 3800,
		1420: 3400, 88: 1, 500: 3, 8960: 12, 65495: 1, 1240: 3000, 1320: 2900, 1350: 2800, 1390: 2700, 1410: 2600, 536: 383,
	}
	published6 = map[int]int{
		1370: 27100, 1440: 20800, 1432: 8300, 1360: 9000, 1380: 9000, 1400: 9000, 1420: 9000, 1220: 7783, 480: 4, 8940: 13,
	}
)

// millionFour and millionSix are how many endpoints there are of each family.
const (
	millionFour = 700_000
	millionSix  = 300_000
)

// million is the offers of a million endpoints in no order, and some of them once more: retransmissions, further
// connections.
func million() []Offer {
	list := make([]Offer, 0, 1_050_000)
	add := func(shares map[int]int, endpoints int, from func(n uint32) netip.Addr) {
		n := uint32(0)
		for _, mss := range slices.Sorted(maps.Keys(shares)) {
			share := shares[mss]
			for range share * (endpoints / 100_000) {
				list = append(list, Offer{from(n * 2654435761), mss, n%3 == 0}) // an odd number's multiples are all different
				n++
			}
		}
	}
	add(published4, millionFour, func(n uint32) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
	})
	add(published6, millionSix, func(n uint32) netip.Addr {
		a := netip.MustParseAddr("2001:db8::").As16()
		binary.BigEndian.PutUint32(a[4:], n)
		return netip.AddrFrom16(a)
	})
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return append(list, list[:50_000]...)
}

// writeCapture writes a SYN for each offer as a pcap file of Ethernet frames.
func writeCapture(t testing.TB, w io.Writer, offers []Offer) {
	t.Helper()
	buffered := bufio.NewWriterSize(w, 1<<20)
	file := pcapgo.NewWriter(buffered)
	if err := file.WriteFileHeader(262144, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_500_000_000, 0)
	for _, o := range offers {
		frame := etherFrame(offer(o))
		info := gopacket.CaptureInfo{Timestamp: now, CaptureLength: len(frame), Length: len(frame)}
		if err := file.WritePacket(info, frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := buffered.Flush(); err != nil {
		t.Fatal(err)
	}
}

// captureOfAMillion is the file of the million.
func captureOfAMillion(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "million.pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	writeCapture(t, f, million())
	return path
}

func readCapture(t testing.TB, path string) *Report {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := NewCounter(DefaultLimit)
	stats, err := ReadFile(context.Background(), f, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Report(filepath.Base(path), stats)
}

// A million endpoints come out right to the last count.
func TestPublishedMeasurement(t *testing.T) {
	if testing.Short() {
		t.Skip("a million packets take seconds")
	}
	r := readCapture(t, captureOfAMillion(t))
	if !reflect.DeepEqual(r.Stats, Stats{Packets: 1_050_000, SYNs: 1_050_000}) || r.Sample != 1 {
		t.Errorf("%+v, one in %d", r.Stats, r.Sample)
	}
	both := map[int]int{}
	for _, f := range []struct {
		d         *Distribution
		shares    map[int]int
		endpoints int
	}{{r.IPv4, published4, millionFour}, {r.IPv6, published6, millionSix}} {
		want := map[int]int{}
		for mss, share := range f.shares {
			want[mss] = share * (f.endpoints / 100_000)
			both[mss] += want[mss]
		}
		if got := countsOf(f.d); !maps.Equal(got, want) || f.d.Endpoints != f.endpoints || f.d.Offered != f.endpoints || f.d.Varied != 0 {
			t.Errorf("got %v of %d, want %v", got, f.d.Endpoints, want)
		}
	}
	if got := countsOf(r.All); !maps.Equal(got, both) || r.All.Endpoints != 1_000_000 {
		t.Errorf("all: got %v of %d, want %v", got, r.All.Endpoints, both)
	}
	if got, want := r.IPv4.AtMost500, 7*4; got != want {
		t.Errorf("IPv4 at most 500: %d, want %d", got, want)
	}
	if got, want := r.IPv6.Above1460, 3*13; got != want {
		t.Errorf("IPv6 above 1460: %d, want %d", got, want)
	}
	if r.All.Smallest != 88 || r.All.Largest != 65495 {
		t.Errorf("%d to %d, want 88 to 65495", r.All.Smallest, r.All.Largest)
	}
	// Every third endpoint of each family and size answered, by the order that they were made in.
	if r.SYN.All.Endpoints+r.SYNACK.All.Endpoints != 1_000_000 || r.SYNACK.IPv4.Endpoints != (millionFour+2)/3 || r.SYNACK.IPv6.Endpoints != millionSix/3 {
		t.Errorf("%d, %d and %d endpoints", r.SYN.All.Endpoints, r.SYNACK.IPv4.Endpoints, r.SYNACK.IPv6.Endpoints)
	}
	// The publication's author concludes 1420 for IPv4, and 1400 or more for IPv6.
	r.Advise([]float64{90, 95, 99})
	if got := r.Advice.Rules; len(got) != 2 || !strings.Contains(got[0], `"ipv4" tcp-mss-clamp value="1420"`) || !strings.Contains(got[1], `"ipv6" tcp-mss-clamp value="1400"`) {
		t.Errorf("%q", got)
	}
	compareGolden(t, "million", text(t, r))
	checkFigures(t, r, map[string]map[int]int{"": both, "IPv4": countsOf(r.IPv4), "IPv6": countsOf(r.IPv6)})
}

// checkFigures holds what three pictures show against what was put in, to the last count: each size is there, with its
// number in words and in its height.
func checkFigures(t *testing.T, r *Report, want map[string]map[int]int) {
	t.Helper()
	stem := regexp.MustCompile(`<title>(?:(IPv.), )?MSS (\d+): ([\d,]+) endpoints?, [\d.]+ %</title><path stroke-width="1.5" d="M[\d.]+ [\d.]+V([\d.]+)"`)
	step := regexp.MustCompile(`<circle cx="([\d.]+)" cy="([\d.]+)" r="5" fill-opacity="0"><title>MSS (\d+) or less: ([\d,]+) endpoints? over (IPv.)`)
	for _, name := range Figures {
		picture := figure(t, r, name)
		compareGolden(t, "million-"+name+".svg", picture)
		switch name {
		case "frequency":
			checkStems(t, name, stem.FindAllStringSubmatch(picture, -1), want[""])
		case "families":
			lines := stem.FindAllStringSubmatch(picture, -1)
			for _, family := range []string{"IPv4", "IPv6"} {
				others := func(m []string) bool { return m[1] != family }
				checkStems(t, family, slices.DeleteFunc(slices.Clone(lines), others), want[family])
			}
		case "cumulative":
			got := map[string]map[int]int{"IPv4": {}, "IPv6": {}}
			for _, m := range step.FindAllStringSubmatch(picture, -1) {
				got[m[5]][atoi(t, m[3])] = atoi(t, m[4])
			}
			for family, counts := range got {
				sum, sums := 0, map[int]int{}
				for _, mss := range slices.Sorted(maps.Keys(want[family])) {
					sum += want[family][mss]
					sums[mss] = sum
				}
				if !maps.Equal(counts, sums) {
					t.Errorf("%s, cumulative: got %v, want %v", family, counts, sums)
				}
			}
		}
	}
}

// checkStems compares the lines of a picture with numbers. Their heights are as the logarithms: of three lines, the third
// can be told from two.
func checkStems(t *testing.T, name string, lines [][]string, want map[int]int) {
	t.Helper()
	got, heights := map[int]int{}, map[int]float64{}
	for _, m := range lines {
		n := atoi(t, m[3])
		got[atoi(t, m[2])] = n
		y, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		heights[n] = y
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
	counts := slices.Sorted(maps.Keys(heights))
	low, high := counts[0], counts[len(counts)-1]
	for _, n := range counts {
		share := math.Log(float64(n)/float64(low)) / math.Log(float64(high)/float64(low))
		if expect := heights[low] + share*(heights[high]-heights[low]); math.Abs(heights[n]-expect) > 0.15 {
			t.Errorf("%s: %d endpoints are at %.1f, want %.1f", name, n, heights[n], expect)
		}
	}
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.ReplaceAll(text, ",", ""))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func countsOf(d *Distribution) map[int]int {
	m := map[int]int{}
	for _, v := range d.Values {
		m[v.MSS] = v.Count
	}
	return m
}

// BenchmarkReadMillion reads the capture of a million endpoints; heap-MB is what is in use afterwards.
func BenchmarkReadMillion(b *testing.B) {
	path := captureOfAMillion(b)
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	n := 0
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		c := NewCounter(DefaultLimit)
		if _, err := ReadFile(b.Context(), f, c, nil); err != nil {
			b.Fatal(err)
		}
		f.Close()
		if n == 0 {
			b.StopTimer()
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
			b.StartTimer()
		}
		n++
		if c.Endpoints() != millionFour+millionSix {
			b.Fatal(c.Endpoints())
		}
	}
	b.ReportMetric(float64(n)*1_050_000/b.Elapsed().Seconds(), "packets/s")
}

// Beyond the limit there is a sample of the endpoints, whose shares are those of all, in the same memory.
func TestMoreEndpointsThanAreRemembered(t *testing.T) {
	c := NewCounter(10_000)
	for _, o := range million() {
		c.Add(o)
		if c.Endpoints() > 10_000 {
			t.Fatalf("%d endpoints are remembered", c.Endpoints())
		}
	}
	r := c.Report("sample", Stats{})
	if r.Sample != 128 {
		t.Errorf("one in %d is counted, want 128", r.Sample)
	}
	if total := r.All.Endpoints * r.Sample; total < 950_000 || total > 1_050_000 {
		t.Errorf("there seem to be %d endpoints, want about 1,000,000", total)
	}
	for _, v := range r.IPv4.Top(5, 0, 65535) {
		want := float64(published4[v.MSS]) / 100_000
		if v.Share < want-0.02 || v.Share > want+0.02 {
			t.Errorf("MSS %d has a share of %.3f, want about %.3f", v.MSS, v.Share, want)
		}
	}
}

// The sample does not depend on the order of packets, nor on how often each comes.
func TestOrderDoesNotMatter(t *testing.T) {
	offers := million()[:20_000]
	forward, backward := NewCounter(1000), NewCounter(1000)
	for _, o := range offers {
		forward.Add(o)
		forward.Add(o)
	}
	for _, o := range slices.Backward(offers) {
		backward.Add(o)
	}
	a, b := forward.Report("", Stats{}), backward.Report("", Stats{})
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a.All, b.All)
	}
}

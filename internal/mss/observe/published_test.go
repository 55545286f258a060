package observe

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
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
				list = append(list, Offer{from(n * 2654435761), mss}) // an odd number's multiples are all different
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
		frame := etherFrame(syn(o.From, mssOption(o.MSS)))
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
	return c.Report(filepath.Base(path), stats, []float64{90, 95, 99})
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
	compareGolden(t, "million", text(t, r))
	compareGolden(t, "million.svg", svg(t, r))
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
	r := c.Report("sample", Stats{}, nil)
	if r.Sample != 128 {
		t.Errorf("one in %d is counted, want 128", r.Sample)
	}
	if total := r.All.Endpoints * r.Sample; total < 950_000 || total > 1_050_000 {
		t.Errorf("there seem to be %d endpoints, want about 1,000,000", total)
	}
	for _, v := range r.IPv4.Top(5) {
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
	a, b := forward.Report("", Stats{}, []float64{90}), backward.Report("", Stats{}, []float64{90})
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a.All, b.All)
	}
}

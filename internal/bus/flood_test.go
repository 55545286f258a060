package bus

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// How long TestHostileMessages sends, on each of its buses, and with which seed: 0 is a new one.
var (
	hostileTime  = flag.Duration("hostile", 2*time.Second, "how long hostile messages are sent")
	hostileCount = flag.Int("messages", 1<<40, "how many hostile messages are sent at most")
	hostileSeed  = flag.Uint64("seed", 0, "the seed of the hostile messages; 0 for a new one")
	clocked      = flag.Bool("clocked", false, "fail where privileged calls take more than twice the usual time; on a machine with nothing else to do")
)

// Nobody sends whatever a bus passes on, and some that it does not. The daemon keeps its connection and answers root all the
// while; in the end it needs no more memory, goroutines and descriptors than before.
func TestHostileMessages(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	for _, c := range []struct {
		name, config string
		polkit       bool
	}{
		{"as installed", installedBus, false},
		{"on a bus that lets everything through", busConfig, false},
		{"where polkit lets everybody ask", busConfig, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBedOn(t, c.config, nil)
			if c.polkit {
				b.startPolkit(authority{make(chan string, 1<<20)})
			}
			seed := *hostileSeed
			if seed == 0 {
				seed = rand.Uint64()
			}
			t.Log("seed", seed)
			b.underFlood(seed)
		})
	}
}

func (b *bed) underFlood(seed uint64) {
	bystander, err := dialWild(b.address, os.Getuid(), false)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { bystander.Close() })
	bystander.drain()
	go func() { // the signals of the privileged calls, each of which would wait in a goroutine of its own
		for range b.signals {
		}
	}()
	line := b.server.line.Load()
	before := b.footprint()
	for attempt := 1; !b.asFast(floodOrder{Address: b.address, Seed: seed, Count: *hostileCount}, bystander.name); attempt++ {
		if attempt == 3 { // what is slow by chance is not so three times
			b.Error("privileged calls take too long during a flood")
			break
		}
	}
	if b.server.line.Load() != line {
		b.Error("the daemon lost its connection")
	}
	for name, now := range b.settled(before) {
		b.Errorf("%s: %d, and %d before", name, now, before[name])
	}
}

// asFast floods the daemon and reports whether privileged calls take no more than twice the usual time beside that. A flood
// takes the time of the bus, whoever it is for, and of processors that the tests may have to share. So, where that is longer,
// the usual time is what calls take while somebody else is flooded.
func (b *bed) asFast(o floodOrder, bystander string) bool {
	b.Helper()
	b.privileged(50)
	usual := median(b.privileged(200))
	o.Target, o.Time = bystander, min(*hostileTime, 2*time.Second)
	beside := b.during(o)
	o.Target, o.Time = base, *hostileTime
	during := b.during(o)
	b.Logf("adding and removing a port takes %v; while somebody else is flooded %v; while the daemon is %v", usual, beside, during)
	return !*clocked || during <= 2*max(usual, beside)
}

// privileged is how long it takes to add and remove a port, some times.
func (b *bed) privileged(times int) []time.Duration {
	b.Helper()
	took := make([]time.Duration, times)
	for i := range took {
		start := time.Now()
		b.must("", "zone.addPort", "public", "8080", "tcp", 0)
		b.must("", "zone.removePort", "public", "8080", "tcp")
		took[i] = time.Since(start)
		time.Sleep(time.Millisecond)
	}
	return took
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// during is the median of what privileged calls take while an order is carried out.
func (b *bed) during(o floodOrder) time.Duration {
	b.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), hostileVariable+"="+string(text))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	var took []time.Duration
	for {
		select {
		case err := <-done:
			if err != nil {
				b.Fatalf("%v: %s", err, out.String())
			}
			b.Log(out.String())
			return median(took)
		default:
			took = append(took, b.privileged(5)...)
		}
	}
}

// footprint is what this process, with the daemon in it, has. The memory is what Go has from the system: what the race
// detector keeps beside that, it never gives back.
func (b *bed) footprint() map[string]int {
	b.Helper()
	debug.FreeOSMemory()
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		b.Fatal(err)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return map[string]int{"goroutines": runtime.NumGoroutine(), "descriptors": len(descriptors), "KB of memory": int(memory.Sys-memory.HeapReleased) >> 10}
}

// settled is what there is more of than before, once that does not get less any more.
func (b *bed) settled(before map[string]int) (more map[string]int) {
	b.Helper()
	slack := map[string]int{"KB of memory": 16 << 10} // heaps are never the same
	for range 100 {
		more = map[string]int{}
		for name, now := range b.footprint() {
			if now > before[name]+slack[name] {
				more[name] = now
			}
		}
		if len(more) == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return more
}

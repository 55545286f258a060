package kernel

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"richwall/internal/irgen"
	"richwall/internal/lab"
)

// followed is a namespace whose links are followed.
type followed struct {
	*testing.T
	ns    *lab.Namespace
	links *Links
	mu    sync.Mutex
	now   []Link
	calls int
}

func follow(t *testing.T) *followed {
	f := &followed{T: t, ns: Space(t, "ip")}
	log, _ := Logged()
	links, now, err := FollowLinks(Options{Log: log, Enter: f.ns.Do}, func(now []Link) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.now, f.calls = now, f.calls+1
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { links.Close() })
	f.links, f.now = links, now
	return f
}

// batch is one process of ip with some commands.
func (f *followed) batch(commands ...string) {
	f.Helper()
	if _, err := f.ns.Run(f.Context(), strings.Join(commands, "\n"), "ip", "-force", "-batch", "-"); err != nil {
		f.Fatal(err)
	}
}

// await waits until what was told is what the kernel has.
func (f *followed) await() []Link {
	f.Helper()
	want, err := f.links.read()
	if err != nil {
		f.Fatal(err)
	}
	var got []Link
	for range 500 {
		f.mu.Lock()
		got = f.now
		f.mu.Unlock()
		if slices.Equal(got, want) {
			return got
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.Fatalf("it was told %v, and the kernel has %v", got, want)
	return nil
}

func linkNamed(list []Link, name string) Link {
	i := slices.IndexFunc(list, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}
	}
	return list[i]
}

// A link is told of when it comes, goes, or changes its name, its MTU, its master, or whether it is up; the MTU that IPv6 has there is its own.
func TestLinksAreFollowed(t *testing.T) {
	f := follow(t)
	if lo := linkNamed(f.await(), "lo"); !lo.Loopback || lo.MTU != 65536 {
		t.Errorf("lo is %+v", lo)
	}
	f.batch("link add aa mtu 1400 type veth peer name bb", "link add bri type bridge", "link set aa master bri", "link set aa up")
	list := f.await()
	if a := linkNamed(list, "aa"); a.MTU != 1400 || a.MTU6 != 1400 || a.Master != linkNamed(list, "bri").Index || !a.Up {
		t.Errorf("a is %+v in %+v", a, list)
	}
	f.batch("link set aa mtu 1500", "link set aa name cc", "link set cc nomaster", "link set cc down")
	if c := linkNamed(f.await(), "cc"); c.MTU != 1500 || c.Master != 0 || c.Up {
		t.Errorf("c is %+v", c)
	}
	err := f.ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/bb/mtu", []byte("1300"), 0) })
	if err != nil {
		t.Fatal(err)
	}
	f.batch("link set bb up") // the kernel tells of a link, and of that setting with it
	if b := linkNamed(f.await(), "bb"); b.MTU6 != 1300 {
		t.Errorf("b is %+v", b)
	}
	f.batch("link del cc")
	if list := f.await(); linkNamed(list, "cc") != (Link{}) {
		t.Errorf("c is there still: %+v", list)
	}
}

// More changes than the socket has room for: some messages are lost, and the last state is told all the same.
func TestLinksThatOverrunTheSocket(t *testing.T) {
	defer func(bytes int) { linksBuffer = bytes }(linksBuffer)
	linksBuffer = 4096
	r := rand.New(rand.NewPCG(irgen.Seed(t), 1))
	f := follow(t)
	var commands []string
	for i := range 20 {
		commands = append(commands, fmt.Sprintf("link add v%d type veth peer name p%d", i, i))
	}
	f.batch(commands...)
	for range 5 {
		commands = nil
		for range 400 {
			commands = append(commands, fmt.Sprintf("link set v%d mtu %d", r.IntN(20), 1280+r.IntN(1000)))
		}
		f.batch(commands...)
		f.await()
	}
	if dropped := f.dropped(); dropped == 0 {
		t.Error("no message was lost: the test tries nothing")
	}
}

// dropped is how many messages all sockets of the namespace for links have lost.
func (f *followed) dropped() (n int) {
	err := f.ns.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/netlink")
		for line := range strings.Lines(string(text)) {
			var socket, protocol, pid, groups, rmem, wmem, dump, locks string
			var drops int
			if k, _ := fmt.Sscan(line, &socket, &protocol, &pid, &groups, &rmem, &wmem, &dump, &locks, &drops); k == 9 && protocol == "0" {
				n += drops
			}
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	return n
}

// A socket that fails is replaced, and what has changed meanwhile is told. Behind Close nothing is.
func TestLinksBehindAFailure(t *testing.T) {
	f := follow(t)
	f.links.mu.Lock()
	f.links.heard.Close()
	f.links.mu.Unlock()
	f.batch("link add aa mtu 1400 type veth peer name bb")
	if a := linkNamed(f.await(), "aa"); a.MTU != 1400 {
		t.Errorf("a is %+v", a)
	}
	if err := f.links.Close(); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	calls := f.calls
	f.mu.Unlock()
	f.batch("link del aa")
	time.Sleep(50 * time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls != calls {
		t.Error("it is told of a link behind Close")
	}
}

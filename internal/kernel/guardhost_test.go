package kernel_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// neighbour is a machine, of the address 10.8.0.2, that is linked with another one, which gets the address 10.8.0.1.
func neighbour(t *testing.T, ns *lab.Namespace) *lab.Namespace {
	t.Helper()
	far := namespace(t)
	holder := exec.Command("sleep", "600") // by whose id ip(8) finds the namespace, which has no name
	if err := far.Do(holder.Start); err != nil {
		t.Fatal(err)
	}
	run(t, ns, "", "ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", fmt.Sprint(holder.Process.Pid))
	_ = holder.Process.Kill()
	_ = holder.Wait()
	for device, ns := range map[string]*lab.Namespace{"near": ns, "far": far} {
		address := map[string]string{"near": "10.8.0.1/24", "far": "10.8.0.2/24"}[device]
		run(t, ns, "", "ip", "address", "add", address, "dev", device)
		run(t, ns, "", "ip", "link", "set", device, "up")
	}
	return far
}

// nameServer answers questions on a machine: every host has the addresses 10.9.9.8 and 10.9.9.9 (RFC 1035, section 4.1). Of hosts whose names
// begin with "silent" it tells nothing.
func nameServer(t *testing.T, ns *lab.Namespace) {
	t.Helper()
	var conn net.PacketConn
	if err := ns.Do(func() (err error) { conn, err = net.ListenPacket("udp4", "10.8.0.2:53"); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if bytes.HasPrefix(b[13:n], []byte("silent")) { // the name, behind the length of its first part
				continue
			}
			end := bytes.IndexByte(b[12:n], 0) + 12 + 5 // behind the name, the type and the class
			answers := uint16(0)
			if binary.BigEndian.Uint16(b[end-4:]) == 1 { // an address of IPv4
				answers = 2
			}
			reply := append([]byte{b[0], b[1], 0x81, 0x80, 0, 1, 0, byte(answers), 0, 0, 0, 0}, b[12:end]...)
			for i := range answers {
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 9, 9, 8+byte(i))
			}
			_, _ = conn.WriteTo(reply, from)
		}
	}()
}

// asking has the programs of iptables ask a name server of an address for hosts. They wait two minutes for each.
func asking(t *testing.T, server string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "resolv.conf"), "nameserver "+server+"\noptions timeout:30 attempts:4\n")
	for _, program := range []string{"iptables", "ip6tables", "iptables-restore", "ip6tables-restore"} {
		path, err := findProgram(program)
		if err != nil {
			t.Skip(err)
		}
		write(t, filepath.Join(dir, program), fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount --bind %s/resolv.conf /etc/resolv.conf && exec %s \"$@\"' sh \"$@\"\n", dir, path))
		if err := os.Chmod(filepath.Join(dir, program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// A direct rule names a host, and the name server is another machine. The start looks the host up while nothing new is let in yet: the rule is in
// force with the addresses that the name server tells. Nobody else can be reached meanwhile.
func TestStartLooksUpAHostBehindTheGuard(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		useVariant(t, "nft")
		asking(t, "10.8.0.2")
		ns := namespace(t)
		nameServer(t, neighbour(t, ns))
		o := kernel.Options{Backend: backend, Enter: ns.Do, Log: quietLog, Left: kernel.NewLeft(&disk{}, quietLog)}
		o.Guard = base(t, o, false)
		if err := ns.Do(func() error { return sendTo("10.8.0.2:5000") }); err == nil {
			t.Error("behind the guard another machine is reached")
		}
		k := start(t, o)
		commit(t, k, directly(t, backend, `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s two.example -j ACCEPT</rule>`))
		once(t, saved(t, ns), "-s 10.9.9.8/32 -j ACCEPT", "-s 10.9.9.9/32 -j ACCEPT")
	})
}

// Direct rules name hosts, and the name server does not answer for some. All hosts are asked for at once, and nobody waits for each of them: the
// start is refused soon, with each rule that names such a host, and nothing is changed. So is a check.
func TestStartWithASilentNameServer(t *testing.T) {
	bothBackends(t, func(t *testing.T, backend ir.Backend) {
		useVariant(t, "nft")
		asking(t, "10.8.0.2")
		defer kernel.SetHostTime(2 * time.Second)()
		ns := namespace(t)
		nameServer(t, neighbour(t, ns))
		before, begun := all(t, ns), time.Now()
		const known = `<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s two.example -j DROP</rule>`
		next := directly(t, backend, known+`<rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-s silent1.example -j DROP</rule>
			<rule ipv="ipv4" table="nat" chain="PREROUTING" priority="0">-s 10.0.0.1,silent2.example -j ACCEPT</rule>
			<passthrough ipv="ipv6">-A FORWARD -d silent3.example -j DROP</passthrough>`)
		for attempt := range 2 {
			k := open(t, ns, backend)
			do := k.Check
			if attempt == 1 {
				do = func(d *kernel.Desired) error { return k.Commit(t.Context(), d) }
			}
			err := do(next)
			for _, host := range []string{"silent1.example", "silent2.example", "silent3.example"} {
				if err == nil || !strings.Contains(err.Error(), "the address of the host "+host) {
					t.Fatalf("%s is not named: %v", host, err)
				}
			}
			if strings.Contains(err.Error(), "two.example") {
				t.Error(err)
			}
			if attempt == 1 {
				sameLines(t, before, all(t, ns))
				commit(t, k, directly(t, backend, known))
				once(t, saved(t, ns), "-s 10.9.9.8/32 -j DROP", "-s 10.9.9.9/32 -j DROP")
			}
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

// sendTo sends a packet to an address. The kernel says at once if a rule of the machine drops it.
func sendTo(address string) error {
	conn, err := net.Dial("udp4", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("packet"))
	return err
}

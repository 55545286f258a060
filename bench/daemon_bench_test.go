package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/zones"
)

// sizes are the numbers of rich rules that a running firewall is measured with.
var sizes = []int{10, 1000, 10_000, 100_000}

// running starts a daemon without a bus, on a folder and in a network namespace of its own.
func running(b *testing.B, dir string) *daemon.Daemon {
	b.Helper()
	if missing := lab.Missing("nft"); missing != nil {
		b.Skip(strings.Join(missing, "; "))
	}
	namespace, err := lab.NewNamespace()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(namespace.Close)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	d := daemon.New(daemon.Options{
		Dirs: zones.Dirs{System: dir},
		Kernel: func(backend ir.Backend) (kernel.Kernel, error) {
			return kernel.New(kernel.Options{Backend: backend, Enter: namespace.Do, Log: log})
		},
		Log: log,
	})
	if err := d.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return d
}

// BenchmarkStart is a start with so many rich rules, until they are in the kernel; and the end, which takes them out.
func BenchmarkStart(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := folderOf(b, n)
			for b.Loop() {
				running(b, dir)
			}
		})
	}
}

// BenchmarkReload is a reload of files that have not changed.
func BenchmarkReload(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := running(b, folderOf(b, n))
			for b.Loop() {
				if err := d.Reload(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOneMore adds one port, or one rich rule, to so many rich rules, and takes it out.
func BenchmarkOneMore(b *testing.B) {
	public := zones.Object{Kind: zones.KindZone, Name: "public"}
	for _, n := range sizes {
		for _, item := range []struct {
			name string
			zones.Item
		}{
			{"port", zones.Item{Key: zones.KeyPort, Args: []string{"5000", "udp"}}},
			{"rule", zones.Item{Key: zones.KeyRule, Args: []string{`rule family="ipv4" source address="10.0.0.200" port port="22" protocol="tcp" accept`}}},
		} {
			b.Run(fmt.Sprintf("%s/%d", item.name, n), func(b *testing.B) {
				d := running(b, folderOf(b, n))
				edits := []zones.Edit{zones.Add(zones.Runtime, public, item.Item), zones.Remove(zones.Runtime, public, item.Item)}
				i := 0
				for b.Loop() {
					if err := d.ChangeRuntime(b.Context(), daemon.Change{Edit: edits[i%2]}); err != nil {
						b.Fatal(err)
					}
					i++
				}
			})
		}
	}
}

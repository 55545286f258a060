package kernel

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"richwall/compile/nft"
)

// A table that another running program owns stays dormant: the error names it, and the tables beside it stay as they were, too. When that program
// has ended, packets come to the table again, and it keeps its other flags.
func TestWakeOfDormantTables(t *testing.T) {
	ns := Space(t, "nft")
	ours, err := openSocket(ns.Do)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.conn.Close()
	theirs, err := openSocket(ns.Do)
	if err != nil {
		t.Fatal(err)
	}
	if owner, err := ours.canOwn(); err != nil || !owner {
		t.Skip("the kernel gives no table an owner")
	}
	flags := func(s *socket, name string, flags uint32) {
		t.Helper()
		a, err := s.commit([]nft.Message{(&nft.Encoder{Table: name}).AddTable(flags)})
		if err != nil || len(a.refused) > 0 {
			t.Fatal(err, a)
		}
	}
	is := func(name string, want uint32) {
		t.Helper()
		if head, err := ours.tableHead(name); err != nil || head.flags != want {
			t.Errorf("table %s has the flags %x, want %x; %v", name, head.flags, want, err)
		}
	}
	flags(ours, "free", dormant)
	flags(ours, "unused", dormant)
	flags(theirs, "theirs", nft.TableOwner|nft.TablePersist|dormant)
	wake := func(names ...string) error {
		return ours.wake(slog.New(slog.DiscardHandler), func(p part) bool {
			return p.family == unix.NFPROTO_INET && strings.Contains(strings.Join(names, " "), p.table)
		})
	}
	if err := wake("free", "theirs"); !errors.Is(err, ErrForeignOwner) || !strings.HasPrefix(err.Error(), "table inet theirs is dormant") {
		t.Errorf("got %v", err)
	}
	is("free", dormant)
	is("theirs", nft.TableOwner|nft.TablePersist|dormant)
	if err := theirs.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := wake("free", "theirs"); err != nil {
		t.Error(err)
	}
	is("free", 0)
	is("theirs", nft.TablePersist)
	is("unused", dormant)
}

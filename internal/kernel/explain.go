package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// explain adds to an error of nf_tables what it usually means for a rule; the kernel itself gives no reason.
func explain(err error) error {
	for _, e := range []struct {
		errno  unix.Errno
		reason string
	}{
		{unix.ENOENT, "it refers to a chain, a set or a helper that is not there, or the kernel lacks a module for it"},
		{unix.EOPNOTSUPP, "it cannot stand in a chain that is entered from here"},
		{unix.ELOOP, "its jump leads back to its own chain"},
		{unix.EMLINK, "its jump leads too deep: 16 chains may call one another"},
		{unix.EEXIST, "it is there already, or overlaps with what is there"},
		{unix.ENFILE, "the set is full"},
		{unix.EPERM, "it belongs to another program that is running"},
	} {
		if errors.Is(err, e.errno) {
			return fmt.Errorf("%w: %s", err, e.reason)
		}
	}
	return err
}

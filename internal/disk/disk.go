// Package disk has what several packages do so that what they write outlives a loss of power, and so that a slow disk holds nobody up.
package disk

import (
	"errors"
	"os"
	"syscall"
)

// SyncFolder waits until the names in a folder are on the disk: after fsync(2) of a file alone its name may still be lost.
func SyncFolder(path string) error {
	folder, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

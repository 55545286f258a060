package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"richwall/internal/fault"
	"richwall/zones"
)

// A disk may not answer, such as one on a network. These are the longest that a start or a reload waits for the files to be read, a change
// for them to be written, and anything for somebody else who reads or writes them. They, and what reads and writes, are variables for
// tests.
var (
	readTime  = 20 * time.Second
	writeTime = time.Minute
	filesTime = 20 * time.Second
	keepTime  = 20 * time.Second // and that anything waits for the last good configuration to be kept
	loadRest  = zones.LoadRest
	openState = func() {} // is called before the state folder is read
	saveFiles = zones.Store.SaveIf
)

// lockFiles takes files, which unlockFiles gives back. The error, with code COMMAND_FAILED, is that they cannot be had in time, because
// the disk does not answer somebody else.
func (d *Daemon) lockFiles(ctx context.Context) error {
	select {
	case d.files <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(filesTime):
		return refuse(CommandFailed, "somebody else has been reading or writing the files in %s for more than %v: try again, and see whether its disk answers", d.opt.Dirs.System, filesTime)
	}
	select {
	case <-d.hung:
		d.hung = nil
	default:
	}
	if d.hung != nil {
		d.unlockFiles()
		return refuse(CommandFailed, "the disk of %s does not answer: an earlier change still waits for it; changes of the running firewall alone can be made", d.opt.Dirs.System)
	}
	return nil
}

func (d *Daemon) unlockFiles() { <-d.files }

// inTime calls a function that reads the files in a folder. The error is that it did not return within readTime, or had a fault.
func inTime[T any](ctx context.Context, d *Daemon, folder string, read func() T) (result T, err error) {
	done := make(chan error, 1)
	var found T
	go func() { done <- fault.Guard(d.opt.Log, "reading "+folder, func() { found = read() }) }()
	select {
	case err := <-done:
		return found, err
	case <-time.After(readTime):
		return result, fmt.Errorf("%s could not be read within %v", folder, readTime)
	case <-ctx.Done():
		return result, ctx.Err()
	}
}

// askState is inTime for a function that reads the state folder.
func askState[T any](ctx context.Context, d *Daemon, read func() T) (T, error) {
	open := openState
	return inTime(ctx, d, stateFolder, func() T {
		open()
		return read()
	})
}

// inWriteTime calls a function that writes files, and does so only for good if keep, which it calls when it has nothing more to do on the
// disk, is true. After writeTime it is given up: the error has code COMMAND_FAILED, and the function takes back what it has written when
// the disk answers again. Until then nobody else gets files, which is held.
func (d *Daemon) inWriteTime(write func(keep func() bool) error) error {
	var settled atomic.Bool // whether the files stay written, or are given up
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = d.guarded("writing files", func() error {
			return write(func() bool { return settled.CompareAndSwap(false, true) })
		})
	}()
	select {
	case <-done:
		return err
	case <-time.After(writeTime):
	}
	if !settled.CompareAndSwap(false, true) {
		<-done
		return err
	}
	d.hung = done
	folder := d.opt.Dirs.System
	d.opt.Log.Error("the disk does not answer: a change of the files is given up", "folder", folder)
	go func() {
		<-done
		d.opt.Log.Warn("the disk answers again: the change that was given up has ended", "folder", folder, "reason", err)
	}()
	return refuse(CommandFailed, "the disk of %s does not answer: the change is given up, and is taken back as soon as the disk answers", folder)
}

// keepGood keeps a configuration that was installed without an error, unless it is called with a newer one before the disk answers.
func (d *Daemon) keepGood(cfg *zones.Config) {
	if d.opt.State == nil {
		return
	}
	mine := d.keeps.Add(1)
	kept := make(chan struct{})
	d.spawn("keeping the last good configuration", func() {
		defer close(kept)
		d.keeping.Lock()
		defer d.keeping.Unlock()
		if d.keeps.Load() == mine { // there is none that is newer
			d.keep(cfg)
		}
	})
	select {
	case <-kept:
	case <-time.After(keepTime):
		d.opt.Log.Error("the disk does not answer: until it does, the configuration is not kept as the last good one, and an older one is used should its files break")
	}
}

// keep writes a configuration as the last good one.
func (d *Daemon) keep(cfg *zones.Config) {
	if _, err := os.Stat(d.opt.Dirs.System); errors.Is(err, fs.ErrNotExist) {
		return
	}
	d.opt.Memory.Tidy()
	if err := d.opt.State.Keep(zones.Export(cfg), now()); err != nil {
		d.opt.Log.Error("the configuration cannot be kept as the last good one: should its files break before it can, no other is used, and nothing new is let in until they are mended", "reason", err)
	}
}

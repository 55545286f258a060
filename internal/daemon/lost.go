package daemon

import (
	"context"

	"richwall/internal/lost"
	"richwall/zones"
)

// lost is an error when a reload would take the files for lost: they are not to be changed then, as what a change writes would look like
// all that they are meant to hold, and the next reload or start would do without the rest.
func (d *Daemon) lost(ctx context.Context) error {
	err := d.missing(ctx)
	if err == nil {
		err = d.lostConfNow(ctx)
	}
	if err != nil {
		return commandFailed(err)
	}
	return nil
}

// missing is an error when the administrator's folder, or the shipped one, is lost.
func (d *Daemon) missing(ctx context.Context) error {
	found, err := inTime(ctx, d, d.opt.Dirs.System, func() lost.Folders { return lost.Look(d.opt.Dirs) })
	if err != nil || found.There() {
		return err
	}
	return found.Lost(d.lastGood().held)
}

// lostConf is an error when firewalld.conf is gone or empty although the last good configuration had a setting: it may be lost. Where
// the state folder does not answer, for which silent is the error, or not say, it may have had one.
func (d *Daemon) lostConf(ctx context.Context, rest *zones.Rest, silent error) error {
	if !rest.NoConf {
		return nil
	}
	folder := d.opt.Dirs.System
	if silent == nil {
		var gone error
		gone, silent = askState(ctx, d, func() error { return lost.OfState(folder, rest, d.opt.State) })
		if silent == nil {
			return gone
		}
	}
	return lost.ConfUnknown(folder, rest, silent)
}

// lostConfNow is lostConf of what the folder holds now. All of it is read only where firewalld.conf sets nothing.
func (d *Daemon) lostConfNow(ctx context.Context) error {
	load := loadRest
	rest, err := inTime(ctx, d, d.opt.Dirs.System, func() *zones.Rest {
		if !d.store.NoConf() {
			return &zones.Rest{}
		}
		return load(d.opt.Dirs, &zones.Config{})
	})
	if err != nil {
		return err
	}
	return d.lostConf(ctx, rest, nil)
}
